//! The Rust side of `scripts/interop.py`, `interop_npy.py` and `interop_npz.py`: opens, reads and writes arrays as
//! requested, line by line.
//!
//! A request is a line of JSON with a `do`; the answer is another. What the crate refuses is answered with `error`, the
//! kind of it; what the script should not have asked ends the program.

#[allow(dead_code, reason = "the conformance test uses the rest of it")]
#[path = "../conformance/cases/element.rs"]
mod element;

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use bytemuck::{Pod, Zeroable};
use ndarray::{ArrayView, ArrayViewMut, IxDyn, ShapeBuilder};
use ndarray_mmap::npy::Header;
use ndarray_mmap::npz::Archive;
use ndarray_mmap::{
    MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, MmapArrayOptions, ReadWrite, Result,
    mode::{OpenExisting, Supports},
    npy_record,
};
use serde_json::{Value, json};

use element::{Element, Visitor, natural, unaligned};

fn main() -> io::Result<()> {
    let mut arrays = HashMap::new();
    for line in io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = answer(&mut arrays, &request)
            .unwrap_or_else(|e| json!({ "error": format!("{:?}", e.kind()), "message": e.to_string() }));
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Arrays by the names that the script gives them.
type Arrays = HashMap<String, Box<dyn Array>>;

fn answer(arrays: &mut Arrays, request: &Value) -> Result<Value> {
    let name = text(&request["name"]).to_owned();
    match text(&request["do"]) {
        "header" => {
            let header = Header::read(text(&request["path"]))?;
            let shape = json!(header.shape());
            return Ok(json!({
                "descr": header.dtype().to_string(),
                "shape": shape,
                "fortran_order": header.fortran_order(),
                "offset": header.data_offset(),
                "version": [header.version().0, header.version().1],
            }));
        }
        "archive" => {
            let archive = Archive::open(text(&request["path"]))?;
            let member = |name: &str| match archive.header(name) {
                Ok(header) => json!({ "name": name, "shape": header.shape(), "descr": header.dtype().to_string() }),
                Err(e) => json!({ "name": name, "error": format!("{:?}", e.kind()) }),
            };
            return Ok(json!({ "members": archive.names().map(member).collect::<Vec<_>>() }));
        }
        "open" => {
            let description = text(&request["dtype"]);
            let open = Open { request };
            let array = match request["unaligned"] == true {
                _ if description == Stable::DESCRIPTION => Some(open.visit::<Stable>()),
                true => unaligned(description, open),
                false => natural(description, open),
            };
            let Some(array) = array else { return Ok(json!({ "error": "no such element type" })) };
            let array = array?;
            let seen = array.describe();
            assert!(arrays.insert(name, array).is_none(), "there is such an array: {request}");
            return Ok(seen);
        }
        "close" => {
            let array = arrays.remove(&name).unwrap_or_else(|| panic!("no such array: {request}"));
            array.close()?;
            return Ok(json!({}));
        }
        _ => {}
    }
    let array = arrays.get_mut(&name).unwrap_or_else(|| panic!("no such array: {request}"));
    match text(&request["do"]) {
        "values" => return Ok(json!({ "values": array.values() })),
        "get" => return Ok(json!({ "value": array.get(&numbers(&request["index"])) })),
        "set" => array.set(&numbers(&request["index"]), &request["value"]),
        "assign" => array.assign(request["values"].as_array().expect("values are a list")),
        "flush" => array.flush()?,
        other => panic!("no such request: {other}"),
    }
    Ok(json!({}))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn numbers(value: &Value) -> Vec<usize> {
    let number = |n: &Value| n.as_u64().unwrap_or_else(|| panic!("{n} is no number")) as usize;
    value.as_array().expect("an index or a shape is a list").iter().map(number).collect()
}

/// The record of a file that scipy publishes.
#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Stable {
    param: i64,
    x: f64,
    alpha: f64,
    beta: f64,
    gamma: i64,
    delta: i64,
    pct: f64,
    pdf: f64,
    cdf: f64,
}

npy_record!(Stable { param: i64, x: f64, alpha: f64, beta: f64, gamma: i64, delta: i64, pct: f64, pdf: f64, cdf: f64 });

impl Stable {
    const DESCRIPTION: &str = concat!(
        r#"[["param","<i8"],["x","<f8"],["alpha","<f8"],["beta","<f8"],["gamma","<i8"],"#,
        r#"["delta","<i8"],["pct","<f8"],["pdf","<f8"],["cdf","<f8"]]"#
    );
}

impl Element for Stable {
    fn rule(_: u64) -> Self {
        Self::zeroed()
    }

    fn decode(value: &Value) -> Self {
        let (float, int) = (|name| f64::decode(&value[name]), |name| i64::decode(&value[name]));
        Self {
            param: int("param"),
            x: float("x"),
            alpha: float("alpha"),
            beta: float("beta"),
            gamma: int("gamma"),
            delta: int("delta"),
            pct: float("pct"),
            pdf: float("pdf"),
            cdf: float("cdf"),
        }
    }

    fn encode(self) -> Value {
        json!({
            "param": self.param.encode(),
            "x": self.x.encode(),
            "alpha": self.alpha.encode(),
            "beta": self.beta.encode(),
            "gamma": self.gamma.encode(),
            "delta": self.delta.encode(),
            "pct": self.pct.encode(),
            "pdf": self.pdf.encode(),
            "cdf": self.cdf.encode(),
        })
    }
}

struct Open<'a> {
    request: &'a Value,
}

impl Visitor for Open<'_> {
    type Out = Result<Box<dyn Array>>;

    fn visit<A: Element>(self) -> Self::Out {
        let path = text(&self.request["path"]);
        if let Some(member) = self.request["member"].as_str() {
            let mode = text(&self.request["mode"]);
            // SAFETY: as below.
            let held = unsafe {
                match mode {
                    "r" => Held::<A>::Read(self.options().open_npz(path, member)?),
                    "c" => Held::Copy(self.options().open_npz(path, member)?),
                    "load" => Held::Read(self.options().load_npz(path, member)?),
                    other => panic!("no such mode: {other}"),
                }
            };
            return Ok(Box::new(held));
        }
        // SAFETY: the script and this program take turns: while the script stores, no reference to an element lives here,
        // and the script never cuts the file.
        let held = unsafe {
            match (text(&self.request["mode"]), self.request["npy"] == true) {
                ("r", false) => Held::<A>::Read(self.options().open(path)?),
                ("r+", false) => Held::Write(self.writing().open(path)?),
                ("w+", false) => Held::Write(self.writing().create(path)?),
                ("c", false) => Held::Copy(self.options().open(path)?),
                ("load", false) => Held::Read(self.options().load(path)?),
                ("r", true) => Held::Read(self.options().open_npy(path)?),
                ("r+", true) => Held::Write(self.writing().open_npy(path)?),
                ("w+", true) => Held::Write(self.writing().create_npy(path)?),
                ("c", true) => Held::Copy(self.options().open_npy(path)?),
                ("load", true) => Held::Read(self.options().load_npy(path)?),
                (other, _) => panic!("no such mode: {other}"),
            }
        };
        Ok(Box::new(held))
    }
}

impl Open<'_> {
    fn options<A: Element, M: Supports<A> + OpenExisting>(&self) -> MmapArrayOptions<A, IxDyn, M> {
        let offset = self.request["offset"].as_u64().expect("an offset is a number");
        let options = MmapArrayBase::<A, IxDyn, M>::options().offset(offset);
        match &self.request["shape"] {
            Value::Null => options,
            shape => options.shape(numbers(shape).set_f(self.request["order"] == "F")),
        }
    }

    fn writing<A: Element>(&self) -> MmapArrayOptions<A, IxDyn, ReadWrite> {
        self.options().extend(self.request["extend"] == true).page_aligned(self.request["page_aligned"] == true)
    }
}

/// An array of any element type, in any mode.
trait Array {
    fn describe(&self) -> Value;
    /// All of them, in logical order.
    fn values(&self) -> Vec<Value>;
    fn get(&self, index: &[usize]) -> Value;
    fn set(&mut self, index: &[usize], value: &Value);
    fn assign(&mut self, values: &[Value]);
    fn flush(&self) -> Result<()>;
    fn close(self: Box<Self>) -> Result<()>;
}

enum Held<A: Element> {
    Read(MmapArray<A>),
    Write(MmapArrayMut<A>),
    Copy(MmapArrayCow<A>),
}

impl<A: Element> Held<A> {
    fn view(&self) -> ArrayView<'_, A, IxDyn> {
        match self {
            Self::Read(array) => array.view(),
            Self::Write(array) => array.view(),
            Self::Copy(array) => array.view(),
        }
    }

    fn view_mut(&mut self) -> ArrayViewMut<'_, A, IxDyn> {
        match self {
            Self::Read(_) => panic!("the array is read-only"),
            Self::Write(array) => array.view_mut(),
            Self::Copy(array) => array.view_mut(),
        }
    }
}

impl<A: Element> Array for Held<A> {
    fn describe(&self) -> Value {
        let (mode, offset) = match self {
            Self::Read(array) => (array.mode(), array.offset()),
            Self::Write(array) => (array.mode(), array.offset()),
            Self::Copy(array) => (array.mode(), array.offset()),
        };
        let strides: Vec<isize> = self.view().strides().iter().map(|&s| s * size_of::<A>() as isize).collect();
        json!({ "shape": self.view().shape(), "strides": strides, "mode": mode.to_string(), "offset": offset })
    }

    fn values(&self) -> Vec<Value> {
        self.view().iter().map(|element| element.encode()).collect()
    }

    fn get(&self, index: &[usize]) -> Value {
        self.view()[IxDyn(index)].encode()
    }

    fn set(&mut self, index: &[usize], value: &Value) {
        self.view_mut()[IxDyn(index)].store(A::decode(value));
    }

    fn assign(&mut self, values: &[Value]) {
        let mut view = self.view_mut();
        assert_eq!(view.len(), values.len());
        view.iter_mut().zip(values).for_each(|(element, value)| element.store(A::decode(value)));
    }

    fn flush(&self) -> Result<()> {
        match self {
            Self::Write(array) => array.flush(),
            Self::Read(_) | Self::Copy(_) => panic!("nothing to flush"),
        }
    }

    fn close(self: Box<Self>) -> Result<()> {
        match *self {
            Self::Read(array) => array.close(),
            Self::Write(array) => array.close(),
            Self::Copy(array) => array.close(),
        }
    }
}

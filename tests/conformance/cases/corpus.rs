//! The corpus: what NumPy was asked, on which file, and what it answered.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::element::{Element, Visitor, hex, natural};

/// One observed call, as the corpus writes it down.
#[derive(Debug)]
pub struct Case(Value);

/// The shape of a call that Rust can say too.
#[derive(Clone, Debug)]
pub enum Shape {
    Inferred,
    Given { axes: Vec<usize>, fortran: bool },
}

impl Case {
    /// Every case in the file.
    pub fn all() -> Vec<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance.json");
        let text = std::fs::read_to_string(&path).expect("the corpus is part of the repository");
        let cases: Vec<Value> = serde_json::from_str(&text).expect("the corpus is a list");
        cases.into_iter().map(Self).collect()
    }

    pub fn id(&self) -> &str {
        self.0["id"].as_str().expect("every case has an id")
    }

    pub fn api(&self) -> &str {
        self.call("api").as_str().expect("every call has an api")
    }

    pub fn call(&self, key: &str) -> &Value {
        &self.0["call"][key]
    }

    /// What was observed.
    pub fn expect(&self, key: &str) -> &Value {
        &self.0["expect"][key]
    }

    pub fn succeeded(&self) -> bool {
        self.expect("ok") == true
    }

    pub fn has(&self, tag: &str) -> bool {
        list(&self.0["tags"]).iter().any(|t| t == tag)
    }

    pub fn writes(&self) -> &[Value] {
        list(&self.0["writes"])
    }

    /// The categories of error that are right answers.
    pub fn error_kinds(&self) -> Vec<&str> {
        let alternatives = list(self.expect("error_kind_alt"));
        self.expect("error_kind").as_str().into_iter().chain(alternatives.iter().filter_map(Value::as_str)).collect()
    }

    /// NumPy's name of the element type; a record is its list of fields, in JSON.
    pub fn description(&self) -> String {
        match self.call("dtype") {
            Value::Null => "|u1".to_owned(),
            Value::String(name) => name.clone(),
            fields => fields.to_string(),
        }
    }

    /// `None` for what no `u64` is.
    pub fn offset(&self) -> Option<u64> {
        self.call("offset").as_u64()
    }

    /// `None` for what no shape, or no order, of ndarray is.
    pub fn shape(&self) -> Option<Shape> {
        let fortran = match self.call("order").as_str() {
            Some("F" | "f") => true,
            Some("C") | None => false,
            Some(_) => return None,
        };
        match self.call("shape") {
            Value::Null => Some(Shape::Inferred),
            Value::Array(axes) => {
                let axes = axes.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect::<Option<_>>()?;
                Some(Shape::Given { axes, fortran })
            }
            _ => None,
        }
    }

    /// The file before the call; `None` where there was none.
    ///
    /// # Panics
    /// If it is not the very file that NumPy was given.
    pub fn initial_file(&self) -> Option<Vec<u8>> {
        let file = self.0["initial_file"].as_object()?;
        let len = file["len"].as_u64().expect("a file has a length") as usize;
        let bytes: Vec<u8> = match file["fill"].as_str().expect("a file has contents") {
            "arange-bytes" => (0..len).map(|i| (i % 251) as u8).collect(),
            "zeros" => vec![0; len],
            "ff" => vec![0xff; len],
            "base64" => decode_base64(file["data"].as_str().expect("base64 is text")),
            "arange-elems" => {
                let element = file["elem"].as_str().map_or_else(|| file["elem"].to_string(), str::to_owned);
                let lead = file["lead"].as_u64().expect("a lead is a length") as usize;
                let counting = Counting { bytes: len - lead };
                let elements = natural(&element, counting).unwrap_or_else(|| panic!("no element type for {element}"));
                let tail = len - lead - elements.len();
                [vec![0xaa; lead], elements, vec![0xee; tail]].concat()
            }
            other => panic!("{}: no such fill: {other}", self.id()),
        };
        assert_eq!(sha256(&bytes), file["sha256"], "{}: the file is not the one NumPy was given", self.id());
        Some(bytes)
    }

    /// The file that NumPy left, where it is written down.
    pub fn file_after(&self) -> Option<Vec<u8>> {
        self.expect("file_b64_after").as_str().map(decode_base64)
    }

    /// The file's permissions, where they matter.
    pub fn permissions(&self) -> Option<u32> {
        let octal = self.0["initial_file"]["perm"].as_str()?;
        Some(u32::from_str_radix(octal, 8).expect("permissions are octal"))
    }
}

/// Elements 0, 1, 2 ... , as many whole ones as fit.
struct Counting {
    bytes: usize,
}

impl Visitor for Counting {
    type Out = Vec<u8>;

    fn visit<A: Element>(self) -> Vec<u8> {
        let count = self.bytes / size_of::<A>();
        (0..count as u64).flat_map(|k| bytemuck::bytes_of(&A::rule(k)).to_vec()).collect()
    }
}

/// No list is an empty one.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn decode_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text
        .trim_end_matches('=')
        .bytes()
        .map(|c| DIGITS.iter().position(|&d| d == c).expect("a base64 digit") as u32)
        .collect();
    let group = |four: &[u32]| {
        let bits = (0..4).fold(0, |bits, i| bits << 6 | four.get(i).copied().unwrap_or(0));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

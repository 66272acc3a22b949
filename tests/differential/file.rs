//! What a file must hold, byte for byte.

use ndarray::{ArrayD, Axis, Dimension};

use crate::element::Element;
use crate::random::Random;

/// The elements in memory order.
pub fn in_memory_order<A: Copy>(values: &ArrayD<A>, fortran_order: bool) -> Vec<A> {
    if fortran_order { values.t().iter().copied().collect() } else { values.iter().copied().collect() }
}

/// The outermost axis in memory.
pub fn outermost(ndim: usize, fortran_order: bool) -> Option<Axis> {
    (ndim > 0).then(|| Axis(if fortran_order { ndim - 1 } else { 0 }))
}

pub fn bytes_of<A: Element>(values: &ArrayD<A>, fortran_order: bool) -> Vec<u8> {
    bytemuck::cast_slice(&in_memory_order(values, fortran_order)).to_vec()
}

/// How many elements, as if no axis were empty: for so many a sum along that axis may have.
pub fn size(shape: &[usize]) -> usize {
    shape.iter().map(|&n| n.max(1)).product()
}

/// Of a shape in as many dimensions as `D` has, or in any: zero-length and long-one axes among them.
pub fn any_shape<D: Dimension>(random: &mut Random) -> Vec<usize> {
    let ndim = D::NDIM.unwrap_or_else(|| random.up_to(4));
    // Now and then more than is copied without asking where it is.
    let most = if random.one_in(1000) {
        400_000
    } else if random.one_in(8) {
        20_000
    } else {
        600
    };
    loop {
        let mut shape: Vec<_> = (0..ndim)
            .map(|_| match random.below(12) {
                0 if random.coin() => 0,
                0..3 => 1,
                3..10 => random.up_to(9),
                _ => random.up_to(most),
            })
            .collect();
        if ndim > 0 && random.one_in(8) {
            shape.fill(1);
            shape[random.below(ndim)] = random.up_to(most);
        }
        if size(&shape) <= most {
            return shape;
        }
    }
}

/// The header of a `.npy` file.
#[derive(Clone, Debug)]
pub struct Header {
    pub bytes: Vec<u8>,
    /// Spelled as NumPy does; others are kept as they are, but for the shape.
    numpys: bool,
}

fn tuple(shape: &[usize]) -> String {
    match shape {
        [one] => format!("({one},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn full<A: Element>(shape: &[usize]) -> Vec<usize> {
    shape.iter().chain(A::INNER).copied().collect()
}

fn python(truth: bool) -> &'static str {
    if truth { "True" } else { "False" }
}

impl Header {
    /// What NumPy 2 writes, blanks for the growing axis included.
    pub fn numpys<A: Element>(shape: &[usize], fortran_order: bool) -> Self {
        let shape = full::<A>(shape);
        let growing = if fortran_order { shape.last() } else { shape.first() };
        let blanks = growing.map_or(0, |n| 21 - n.to_string().len());
        let text = format!(
            "{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}{:blanks$}",
            A::descr(),
            python(fortran_order),
            tuple(&shape),
            ""
        );
        let length = 10 + text.len() + 1;
        Self::of(1, text, length + 64 - length % 64, true)
    }

    /// What another program may write.
    pub fn any<A: Element>(random: &mut Random, shape: &[usize], fortran_order: bool) -> Self {
        let text = Self::spelled::<A>(random, shape, fortran_order);
        let version = random.pick(&[1, 1, 1, 2, 3]);
        let start = if version == 1 { 10 } else { 12 };
        let align = random.pick(&[1, 16, 64, 64, 64]);
        let length = (start + text.len() + 1 + random.pick(&[0, 0, 1, 3, 20])).next_multiple_of(align);
        Self::of(version, text, length, false)
    }

    fn spelled<A: Element>(random: &mut Random, shape: &[usize], fortran_order: bool) -> String {
        let quote = random.pick(&["'", "\""]);
        let blank = random.pick(&["", " "]);
        let items = [
            format!("{quote}descr{quote}:{blank}{quote}{}{quote}", A::descr()),
            format!("{quote}fortran_order{quote}:{blank}{}", python(fortran_order)),
            format!("{quote}shape{quote}:{blank}{}", tuple(&full::<A>(shape))),
        ];
        let items: Vec<_> = random.permutation(3).into_iter().map(|i| items[i].clone()).collect();
        format!("{{{}{}}}", items.join(random.pick(&[",", ", "])), random.pick(&["", ","]))
    }

    fn of(version: u8, text: String, length: usize, numpys: bool) -> Self {
        let start = if version == 1 { 10 } else { 12 };
        let message = (length - start) as u32;
        let message =
            if version == 1 { (message as u16).to_le_bytes().to_vec() } else { message.to_le_bytes().to_vec() };
        let mut bytes = [&b"\x93NUMPY"[..], &[version, 0], &message, text.as_bytes()].concat();
        bytes.resize(length - 1, b' ');
        bytes.push(b'\n');
        Self { bytes, numpys }
    }

    /// Spelled anew by somebody else, in as many bytes, but other ones; `None` where there are none.
    pub fn anew<A: Element>(&self, random: &mut Random, shape: &[usize], fortran_order: bool) -> Option<Self> {
        let (version, length) = (self.bytes[6], self.bytes.len());
        let start = if version == 1 { 10 } else { 12 };
        let text = Self::spelled::<A>(random, shape, fortran_order);
        let anew = (start + text.len() < length).then(|| Self::of(version, text, length, false))?;
        (anew.bytes != self.bytes).then_some(anew)
    }

    /// Whether there is room for another shape: the one that there is, and the blanks at the end.
    pub fn has_room<A: Element>(&self, old: &[usize], new: &[usize]) -> bool {
        let text = self.bytes.strip_suffix(b"\n").unwrap();
        let blanks = text.iter().rev().take_while(|&&b| b == b' ').count();
        tuple(&full::<A>(new)).len() <= tuple(&full::<A>(old)).len() + blanks
    }

    /// The same spelling for another shape, in as many bytes.
    pub fn resized<A: Element>(&self, old: &[usize], new: &[usize], fortran_order: bool) -> Self {
        if self.numpys {
            return Self::numpys::<A>(new, fortran_order);
        }
        let text = String::from_utf8_lossy(&self.bytes[12..]).into_owned();
        let text = text.trim_end_matches([' ', '\n']).replace(&tuple(&full::<A>(old)), &tuple(&full::<A>(new)));
        let mut bytes = [&self.bytes[..12], text.as_bytes()].concat();
        bytes.resize(self.bytes.len() - 1, b' ');
        bytes.push(b'\n');
        Self { bytes, numpys: false }
    }
}

/// The bytes that are not the array's, and those of the array, but for what was stored in memory only.
pub struct Contents<A> {
    pub before: Vec<u8>,
    pub header: Option<Header>,
    pub values: ArrayD<A>,
    pub behind: Vec<u8>,
}

impl<A: Element> Contents<A> {
    /// Where the elements start.
    pub fn offset(&self) -> usize {
        self.before.len() + self.header.as_ref().map_or(0, |header| header.bytes.len())
    }

    /// Where they end.
    pub fn end(&self) -> usize {
        self.offset() + self.values.len() * size_of::<A>()
    }

    pub fn bytes(&self, fortran_order: bool) -> Vec<u8> {
        let header = self.header.as_ref().map_or(&[][..], |header| &header.bytes);
        [&self.before, header, &bytes_of(&self.values, fortran_order), &self.behind].concat()
    }
}

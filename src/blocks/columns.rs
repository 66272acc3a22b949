//! Results for each column of a matrix: many columns side by side, several rows at a time, so that memory is read as
//! fast as it comes and the results so far stay in the processor's first-level cache.

use std::array;
use std::ops::Range;

/// Rows that are combined with each other before their result is combined with that of the rows before.
const ROWS_TOGETHER: usize = 8;

/// Rows of at most so many bytes that follow each other are combined one by one: the processor reads ahead better if it sees
/// one stream of memory, rather than several in the same page (bench `peers`, "n x 64 x 256").
const SHORT_ROW: usize = 2048;

/// A matrix in memory: a number of rows of some width, each a number of elements behind the one before.
#[derive(Debug)]
pub struct Rows<'e, A> {
    elements: &'e [A],
    count: usize,
    width: usize,
    stride: usize,
}

impl<A> Clone for Rows<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A> Copy for Rows<'_, A> {}

impl<'e, A> Rows<'e, A> {
    /// Rows that follow each other.
    pub(super) fn new(elements: &'e [A], width: usize) -> Self {
        Self { elements, count: elements.len() / width, width, stride: width }
    }

    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// All elements, if they are one lane whose elements follow each other.
    #[inline(always)]
    pub(super) fn only_column(&self) -> Option<&'e [A]> {
        (self.width == 1 && self.stride == 1).then(|| &self.elements[..self.count])
    }

    #[inline(always)]
    pub(super) fn row(&self, n: usize) -> &'e [A] {
        &self.elements[n * self.stride..][..self.width]
    }

    /// The first row; where it has fewer than `N` elements, its first one in place of the others. There must be one.
    #[inline(always)]
    pub(super) fn first_row<const N: usize>(&self) -> [A; N]
    where
        A: Copy,
    {
        let row = self.row(0);
        let mut first = [row[0]; N];
        first.iter_mut().zip(row).for_each(|(first, &x)| *first = x);
        first
    }

    #[inline(always)]
    pub(super) fn columns(self, columns: Range<usize>) -> Self {
        let elements = if self.count == 0 { &[] } else { &self.elements[columns.start..] };
        Self { elements, width: columns.len(), ..self }
    }

    #[inline(always)]
    pub(super) fn rows(self, rows: Range<usize>) -> Self {
        let elements = if rows.is_empty() { &[] } else { &self.elements[rows.start * self.stride..] };
        Self { elements, count: rows.len(), ..self }
    }

    /// Whether [`visit`](Self::visit) passes on the elements of each column one by one.
    #[inline(always)]
    pub(super) fn one_by_one(&self) -> bool {
        self.width == self.stride && self.width * size_of::<A>() <= SHORT_ROW
    }

    /// The same elements as fewer and longer rows, each of so many, and the rows that are left over. `None` if the rows do not
    /// follow each other, or would not be longer.
    #[inline(always)]
    pub(super) fn joined(self, rows: usize) -> Option<(Self, Self)> {
        if self.width != self.stride || rows < 2 {
            return None;
        }
        let count = self.count / rows;
        let joined = Self { count, width: self.width * rows, stride: self.stride * rows, ..self };
        Some((joined, self.rows(count * rows..self.count)))
    }
}

impl<A: Copy> Rows<'_, A> {
    /// Passes all elements to `results`, column by column: of [`ROWS_TOGETHER`] rows, then of the next, and so on, and
    /// those of the rows that are left over one by one. (Those of short rows one by one.)
    #[inline(always)]
    pub(super) fn visit(self, results: &mut impl ColumnResults<A>) {
        // So that the compiler sees that no index is out of range.
        let width = self.width.min(results.len());
        let row = |n| &self.row(n)[..width];
        let together = if self.one_by_one() { 0 } else { self.count / ROWS_TOGETHER * ROWS_TOGETHER };
        for first in (0..together).step_by(ROWS_TOGETHER) {
            let [a, b, c, d, e, f, g, h]: [&[A]; ROWS_TOGETHER] = array::from_fn(|k| row(first + k));
            for n in 0..width {
                results.add(n, [a[n], b[n], c[n], d[n], e[n], f[n], g[n], h[n]]);
            }
        }
        for row in (together..self.count).map(row) {
            row.iter().enumerate().for_each(|(n, &x)| results.add(n, [x]));
        }
    }
}

/// One result of each column.
pub(super) trait ColumnResults<A> {
    /// The number of columns.
    fn len(&self) -> usize;

    /// Adds elements of consecutive rows to a column. Implement it with `#[inline(always)]`.
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]);
}

/// Combines elements in pairs, pairs of pairs, and so on.
#[inline(always)]
pub(super) fn in_pairs<R: Copy, const N: usize>(mut all: [R; N], combine: impl Fn(R, R) -> R) -> R {
    let mut width = N;
    while width > 1 {
        width /= 2;
        for n in 0..width {
            all[n] = combine(all[n], all[n + width]);
        }
    }
    all[0]
}

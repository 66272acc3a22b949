//! How a copy between two layouts is cut into tiles, so that each page of either side is visited only a few times.
//!
//! A tile is a box of indices. On each side it consists of *runs*: ranges of memory. It grows in turn along the axes
//! that are inner in one side and those that are inner in the other, so that the runs of both get longer together:
//! within a factor of two, and so to at least half of the square root of the tile's size. A page is visited by as many
//! tiles as it has runs, by one more at a border, and by one that the end of an axis cuts short: at most 2 + ⌈page /
//! run⌉, however large the arrays are.

use std::ops::Range;

/// The tiles of a shape, numbered in C order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    shape: Vec<usize>,
    tile: Vec<usize>,
}

/// One side of a copy, as a tile grows in it.
struct Side {
    /// Its axes, the innermost first, without those of stride 0.
    axes: Vec<usize>,
    strides: Vec<usize>,
    /// The length of a run from which on it need not grow.
    enough: usize,
}

impl Side {
    fn new(strides: &[isize], enough: usize) -> Self {
        let strides: Vec<_> = strides.iter().map(|s| s.unsigned_abs()).collect();
        let mut axes: Vec<_> = (0..strides.len()).filter(|&axis| strides[axis] > 0).collect();
        axes.sort_by_key(|&axis| strides[axis]);
        Self { axes, strides, enough }
    }

    /// The length of the run, and the axis to grow along next. `None` if the run is long enough.
    fn growing(&self, shape: &[usize], tile: &[usize]) -> Option<(usize, usize)> {
        let axis = *self.axes.iter().find(|&&axis| tile[axis] < shape[axis])?;
        let run = tile[axis].saturating_mul(self.strides[axis]);
        (run < self.enough).then_some((run, axis))
    }
}

impl Tiling {
    /// Tiles of at most `budget` elements for a copy to an array with strides `to` from one with strides `from`, both
    /// in elements. A run in the latter need not be longer than `enough` elements.
    pub(crate) fn new(shape: &[usize], to: &[isize], from: &[isize], budget: usize, enough: usize) -> Self {
        let sides = [Side::new(to, usize::MAX), Side::new(from, enough)];
        let mut tile: Vec<usize> = shape.iter().map(|&n| n.min(1)).collect();
        loop {
            let growing = sides.iter().filter_map(|side| side.growing(shape, &tile));
            let Some((_, axis)) = growing.min() else { break };
            let longer = shape[axis].min(tile[axis] * 2);
            let elements = tile.iter().product::<usize>() / tile[axis] * longer;
            if elements > budget {
                break;
            }
            tile[axis] = longer;
        }
        Self { shape: shape.to_vec(), tile }
    }

    /// The shape of a tile that no end of an axis cuts short.
    pub(crate) fn tile(&self) -> &[usize] {
        &self.tile
    }

    /// The number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().zip(&self.tile).map(|(&n, &t)| n.div_ceil(t.max(1))).product()
    }

    /// The range of a tile's indices on each axis.
    pub(crate) fn indices(&self, mut tile: usize) -> Vec<Range<usize>> {
        let mut indices = vec![0..0; self.shape.len()];
        for axis in (0..self.shape.len()).rev() {
            let (n, t) = (self.shape[axis], self.tile[axis].max(1));
            let start = tile % n.div_ceil(t).max(1) * t;
            tile /= n.div_ceil(t).max(1);
            indices[axis] = start..n.min(start + t);
        }
        indices
    }

    /// The runs of a tile in an array in C order: the length of each, and where they start, in elements.
    pub(crate) fn runs(&self, indices: &[Range<usize>]) -> (usize, Vec<usize>) {
        let (mut run, mut starts, mut stride) = (1, vec![0], 1);
        let mut whole = true;
        for (range, &n) in indices.iter().zip(&self.shape).rev() {
            if whole {
                starts[0] += range.start * stride;
                run *= range.len();
                whole = range.len() == n;
            } else {
                starts = range.clone().flat_map(|i| starts.iter().map(move |start| start + i * stride)).collect();
            }
            stride *= n;
        }
        (run, starts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use ndarray::{Array, IxDyn, SliceInfoElem};
    use proptest::prelude::*;

    use super::*;

    /// How many tiles have to do with a page of `page` elements: the most, over all pages of one side.
    fn visits(tiling: &Tiling, strides: &[isize], page: usize, skew: usize) -> usize {
        let mut pages = HashMap::<usize, usize>::new();
        for tile in 0..tiling.len() {
            let mut met = HashSet::new();
            visit(&tiling.indices(tile), strides, skew, &mut |place| {
                met.insert(place / page);
            });
            met.into_iter().for_each(|page| *pages.entry(page).or_default() += 1);
        }
        pages.into_values().max().unwrap_or(0)
    }

    fn visit(indices: &[Range<usize>], strides: &[isize], place: usize, f: &mut impl FnMut(usize)) {
        match indices.split_first() {
            None => f(place),
            Some((range, inner)) => {
                range.clone().for_each(|i| visit(inner, &strides[1..], place + i * strides[0] as usize, f));
            }
        }
    }

    /// Strides of an array of this shape whose axes lie in memory in this order, the innermost last.
    fn strides(shape: &[usize], order: &[usize]) -> Vec<isize> {
        let mut strides = vec![0; shape.len()];
        let mut next = 1;
        for &axis in order.iter().rev() {
            strides[axis] = next as isize;
            next *= shape[axis];
        }
        strides
    }

    fn in_any_order(most: usize, axes: Range<usize>) -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
        prop::collection::vec(1..most, axes).prop_flat_map(|shape| {
            let order: Vec<_> = (0..shape.len()).collect();
            (Just(shape), Just(order).prop_shuffle())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn tiles_cover_each_index_once(
            (shape, order) in in_any_order(9, 1..6), budget in 1..300_usize, enough in 1..50_usize,
        ) {
            let to: Vec<_> = (0..shape.len()).collect();
            let tiling = Tiling::new(&shape, &strides(&shape, &to), &strides(&shape, &order), budget, enough);
            let mut count = Array::<u8, _>::zeros(IxDyn(&shape));
            for tile in 0..tiling.len() {
                let indices = tiling.indices(tile);
                prop_assert!(indices.iter().map(|r| r.len()).product::<usize>() <= budget);
                let slice: Vec<SliceInfoElem> = indices.into_iter().map(SliceInfoElem::from).collect();
                count.slice_mut(&slice[..]).mapv_inplace(|n| n + 1);
            }
            prop_assert!(count.iter().all(|&n| n == 1));
        }

        #[test]
        fn the_runs_of_a_tile_are_its_elements_in_order(
            (shape, order) in in_any_order(9, 1..6), budget in 1..300_usize, enough in 1..50_usize,
        ) {
            let to: Vec<_> = (0..shape.len()).collect();
            let to = strides(&shape, &to);
            let tiling = Tiling::new(&shape, &to, &strides(&shape, &order), budget, enough);
            for tile in 0..tiling.len() {
                let mut places = Vec::new();
                visit(&tiling.indices(tile), &to, 0, &mut |place| places.push(place));
                let (run, starts) = tiling.runs(&tiling.indices(tile));
                prop_assert_eq!(starts.iter().flat_map(|&s| s..s + run).collect::<Vec<_>>(), places);
            }
        }

        // The bound of the module's description, for two to six axes, wherever the arrays start in their pages.
        #[test]
        fn no_page_of_either_side_meets_more_than_three_tiles(
            (shape, order) in prop_oneof![in_any_order(120, 2..3), in_any_order(24, 3..4), in_any_order(7, 4..7)],
            skews in [0..16_usize, 0..16_usize],
        ) {
            const PAGE: usize = 16;
            let to: Vec<_> = (0..shape.len()).collect();
            let (to, from) = (strides(&shape, &to), strides(&shape, &order));
            // A tile that has runs of a page in both, however the doubling comes out.
            let tiling = Tiling::new(&shape, &to, &from, 4 * PAGE * PAGE, usize::MAX);
            prop_assert!(visits(&tiling, &to, PAGE, skews[0]) <= 3, "{:?} {:?}", shape, tiling);
            prop_assert!(visits(&tiling, &from, PAGE, skews[1]) <= 3, "{:?} {:?} {:?}", shape, order, tiling);
        }
    }

    #[test]
    fn pages_that_tiles_are_aligned_to_are_visited_once() {
        let shape = [128, 192];
        let (to, from) = ([192, 1], [1, 128]);
        let tiling = Tiling::new(&shape, &to, &from, 32 * 32, usize::MAX);
        assert_eq!(tiling.tile(), [32, 32]);
        assert_eq!((visits(&tiling, &to, 16, 0), visits(&tiling, &from, 16, 0)), (1, 1));
        // Against once for each element of a page, when rows are copied one after the other.
        let rows = Tiling { shape: shape.to_vec(), tile: vec![1, 192] };
        assert_eq!((visits(&rows, &to, 16, 0), visits(&rows, &from, 16, 0)), (1, 16));
    }

    #[test]
    fn memory_that_is_read_again_and_again_does_not_count() {
        let tiling = Tiling::new(&[1000, 1000], &[1000, 1], &[0, 1], 4000, usize::MAX);
        assert_eq!(tiling.tile(), [4, 1000]);
    }
}

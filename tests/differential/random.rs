//! Random numbers that are the same on every machine, for ever: what a seed makes happen must happen again.

/// SplitMix64, by Sebastiano Vigna.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one for part `n` of what this seed makes.
    pub fn part(seed: u64, n: u64) -> Self {
        Self(Self(seed ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93)).next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// Less than `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// At most `n`.
    pub fn up_to(&mut self, n: usize) -> usize {
        self.below(n + 1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn coin(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// A start and an end, within `n`.
    pub fn range(&mut self, n: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.up_to(n), self.up_to(n));
        a.min(b)..a.max(b)
    }

    /// The numbers below `n` in any order.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<_> = (0..n).collect();
        for i in (1..n).rev() {
            all.swap(i, self.up_to(i));
        }
        all
    }
}

//! Arguments for calls whose answer does not matter.

/// Arguments that are mostly right: every buffer has the length asked for or another one, every index may be too large.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
    pub fn flag(&mut self) -> bool {
        self.below(2) == 0
    }
    pub fn len(&mut self, right: usize) -> usize {
        if self.below(40) == 0 { self.below(2 * right + 2) } else { right }
    }
    pub fn reals(&mut self, len: usize) -> Vec<f32> {
        let special =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1e4, -1e4, f32::MAX, f32::MIN_POSITIVE];
        let len = self.len(len);
        (0..len)
            .map(|_| match self.below(12) {
                0 => special[self.below(special.len())],
                _ => self.below(1000) as f32 / 100.0 - 5.0,
            })
            .collect()
    }
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let len = self.len(len);
        (0..len).map(|_| self.below(3) as u8).collect()
    }
    pub fn indices(&mut self, len: usize, bound: usize) -> Vec<u32> {
        let (len, wrong) = (self.len(len), usize::from(self.below(10) == 0));
        (0..len).map(|_| self.below(bound + wrong) as u32).collect()
    }
    /// Ascending offsets, mostly, and the segment of every token.
    pub fn segments(&mut self, count: usize, total: usize) -> (Vec<u32>, Vec<u32>) {
        let mut offsets: Vec<u32> = (1..count).map(|_| self.below(total + 1) as u32).collect();
        offsets.extend([0, total as u32]);
        offsets.sort_unstable();
        if count == 0 && self.flag() {
            offsets.pop();
        }
        let segment =
            |t: usize| offsets.partition_point(|&offset| offset as usize <= t).saturating_sub(1) as u32;
        let of_token = (0..total).map(segment).collect();
        if self.below(10) == 0 {
            let at = self.below(offsets.len());
            offsets[at] = self.below(total + 3) as u32;
        }
        (offsets, of_token)
    }
}

//! Repeatable random numbers that can be asked for by name.
//!
//! The generator writes table after table, but a family's rows are spread over three of them. Instead of keeping a
//! million people in memory, each thing gets its own stream of numbers from (seed, what it is, its number), and is
//! simply made again where it is needed. The algorithm is SplitMix64 (Steele, Lea and Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014), written out here because the `rand` crate does not promise that
//! its results stay the same from one release to the next, and the sample has to.

/// What a stream of numbers is for. Two streams never share numbers, so a new column cannot move old ones.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    School = 1,
    Admin,
    Teacher,
    TeacherEmail,
    TeacherRow,
    TeacherSubjects,
    Family,
    Parent,
    ParentRow,
    Student,
    StudentRow,
    Guardians,
    Key,
}

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    pub(super) fn new(seed: u64, stream: Stream, number: u64) -> Self {
        let stream = mix(seed.wrapping_add(GOLDEN_GAMMA)) ^ (stream as u64).wrapping_mul(GOLDEN_GAMMA);
        Self(mix(mix(stream) ^ number))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        mix(self.0)
    }

    /// A number from 0 to `limit` - 1. The bias of the multiplication is below 2⁻⁴⁰ for the limits in use.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// As [`below`](Self::below), for places in a list.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in `permille` of 1,000 cases.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One entry of a list that is not empty.
    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, stream, number| Random::new(seed, stream, number).next();
        assert_eq!(first(1, Stream::Parent, 7), first(1, Stream::Parent, 7));
        assert_ne!(first(1, Stream::Parent, 7), first(2, Stream::Parent, 7));
        assert_ne!(first(1, Stream::Parent, 7), first(1, Stream::Student, 7));
        assert_ne!(first(1, Stream::Parent, 7), first(1, Stream::Parent, 8));
    }

    #[test]
    fn the_numbers_are_those_of_every_release() {
        let mut random = Random::new(42, Stream::School, 0);
        let drawn: Vec<u64> = (0..4).map(|_| random.below(1000)).collect();
        // Worked out with another implementation, in Python.
        assert_eq!(drawn, [232, 121, 437, 842]);
    }
}

//! Finds a hash among sorted ones.
//!
//! Hashes are spread evenly, so their first bits tell where they stand. In a large vector each look misses the processor's
//! cache: halving would need twenty looks, a list of where each beginning starts needs two.

/// Where hashes with the same first bits start.
#[derive(Debug)]
pub struct Evenly {
    /// One for each beginning, and the end.
    starts: Box<[u32]>,
    /// How many of a hash's bits do not count as its beginning.
    rest: u32,
}

impl Evenly {
    /// Over `len` hashes (below 2³²) in ascending order.
    pub fn over(len: usize, hash: impl Fn(usize) -> u64) -> Self {
        // One or two hashes for each beginning.
        let bits = (len.max(4).ilog2() - 1).min(u32::BITS - 1);
        let rest = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for at in 0..len {
            let beginning = (hash(at) >> rest) as usize;
            while starts.len() <= beginning {
                starts.push(at as u32);
            }
        }
        starts.resize((1 << bits) + 1, len as u32);
        Self { starts: starts.into(), rest }
    }

    /// The index of `wanted` among the same hashes.
    pub fn position(&self, wanted: u64, hash: impl Fn(usize) -> u64) -> Option<usize> {
        let beginning = (wanted >> self.rest) as usize;
        let (mut from, mut to) = (self.starts[beginning] as usize, self.starts[beginning + 1] as usize);
        // Halving, for the sake of hashes that are not spread evenly after all.
        while from < to {
            let middle = from + (to - from) / 2;
            match hash(middle) {
                found if found == wanted => return Some(middle),
                found if found < wanted => from = middle + 1,
                _ => to = middle,
            }
        }
        None
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.starts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_is_there_and_nothing_else(
            mut hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..50_u64, u64::MAX - 9..=u64::MAX], 0..300),
            others in prop::collection::vec(prop_oneof![any::<u64>(), 0..50_u64, u64::MAX - 9..=u64::MAX], 20),
        ) {
            hashes.sort_unstable();
            hashes.dedup();
            let evenly = Evenly::over(hashes.len(), |at| hashes[at]);
            for wanted in hashes.iter().chain(&others) {
                let found = evenly.position(*wanted, |at| hashes[at]);
                prop_assert_eq!(found, hashes.binary_search(wanted).ok());
            }
        }
    }
}

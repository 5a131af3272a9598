//! Finds a hash among sorted ones.
//!
//! Hashes are spread evenly, so what is known of two of them tells where between them a third one stands. In a large vector each look
//! misses the processor's cache: this needs three or four of them, halving would need twenty.

/// The index of `wanted` among `len` hashes in ascending order.
pub fn position(len: usize, wanted: u64, hash: impl Fn(usize) -> u64) -> Option<usize> {
    let (mut from, mut to) = (0, len);
    let (mut below, mut above) = (0, u64::MAX);
    // Enough for any hashes; what is no hash at all would make the guesses worthless, not the answer wrong.
    for _ in 0..8 {
        if from == to || wanted < below || wanted > above {
            return None;
        }
        // As floating point numbers: dividing integers of that size takes as long as the look itself.
        let share = (wanted - below) as f64 / ((above - below) as f64 + 1.0);
        let at = from + ((share * (to - from) as f64) as usize).min(to - from - 1);
        match hash(at) {
            found if found == wanted => return Some(at),
            found if found < wanted => (from, below) = (at + 1, found),
            found => (to, above) = (at, found),
        }
    }
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
            for wanted in hashes.iter().chain(&others) {
                let found = position(hashes.len(), *wanted, |at| hashes[at]);
                prop_assert_eq!(found, hashes.binary_search(wanted).ok());
            }
        }
    }
}

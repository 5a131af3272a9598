//! When two values of BSON are the same to a user: numbers by what they are worth, not by the type that the last program
//! to touch them happened to write. mongosh writes 1 as a double.

use mongodb::bson::Bson;

/// Whether two values are the same, inside of documents and arrays too. Fields must stand in the same order, which has a
/// meaning in an index.
pub(super) fn same(one: &Bson, other: &Bson) -> bool {
    match (one, other) {
        (Bson::Document(one), Bson::Document(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|((a, one), (b, other))| a == b && same(one, other))
        }
        (Bson::Array(one), Bson::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => match (whole(one), whole(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
    }
}

/// A whole number, whatever its type.
fn whole(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        // Up to 2^53 every whole number is a double; what is larger compares by its type.
        Bson::Double(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
            Some(*number as i64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::bson;

    #[test]
    fn numbers_by_what_they_are_worth() {
        assert!(same(&bson!({ "a": [1, 2] }), &bson!({ "a": [1.0, 2_i64] })));
        assert!(!same(&bson!(1), &bson!(1.5)));
        assert!(!same(&bson!(1), &bson!("1")));
        assert!(!same(&bson!({ "a": 1, "b": 2 }), &bson!({ "b": 2, "a": 1 })));
        assert!(!same(&bson!({ "a": 1 }), &bson!({ "a": 1, "b": null })));
    }
}

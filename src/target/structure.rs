//! How V2's structure differs from what it was: the part of the comparison that is the same for every kind of V2. What
//! belongs to a structure is each kind's own matter.

use std::collections::{BTreeMap, BTreeSet};

/// By what it is (`column name`, `constraint School_pkey`, `unique index users_email`): what it is like, for each table.
pub type Structure = BTreeMap<String, BTreeMap<String, String>>;

/// Begins the names of columns: of these only such count as the plan writes now, as it did then.
pub const COLUMN: &str = "column ";

/// The key under which an entity's structure is kept begins with this.
pub const KEY: &str = "structure of ";

/// The differences, in words.
pub fn compare(then: &Structure, now: &Structure) -> Vec<String> {
    let mut changes = Vec::new();
    // A table that only one of them has is one that the definition no longer writes, or did not write then.
    for (table, was, is) in then.iter().filter_map(|(table, was)| Some((table, was, now.get(table)?))) {
        for part in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
            match (was.get(part), is.get(part)) {
                (Some(was), Some(is)) if was != is => {
                    changes.push(format!("{table}: {part} was {was}, and is {is} now"));
                }
                (Some(was), None) if !part.starts_with(COLUMN) => {
                    changes.push(format!("{table}: {part} is gone: {was}"));
                }
                (None, Some(is)) if !part.starts_with(COLUMN) => {
                    changes.push(format!("{table}: {part} is new: {is}"));
                }
                _ => {}
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(parts: &[(&str, &str)]) -> Structure {
        let parts = parts.iter().map(|(part, of)| ((*part).to_owned(), (*of).to_owned()));
        BTreeMap::from([("public.t".to_owned(), parts.collect())])
    }

    #[test]
    fn what_is_told_of_a_change() {
        let then =
            structure(&[("column a", "text"), ("column b", "text"), ("constraint k", "PRIMARY KEY (a)")]);
        assert_eq!(compare(&then, &then), Vec::<String>::new());
        // The definition writes another column than then: no change of V2.
        let edited =
            structure(&[("column a", "text"), ("column c", "text"), ("constraint k", "PRIMARY KEY (a)")]);
        assert_eq!(compare(&then, &edited), Vec::<String>::new());
        let now =
            structure(&[("column a", "varchar(3)"), ("column b", "text"), ("constraint c", "CHECK (true)")]);
        assert_eq!(
            compare(&then, &now),
            [
                "public.t: column a was text, and is varchar(3) now",
                "public.t: constraint c is new: CHECK (true)",
                "public.t: constraint k is gone: PRIMARY KEY (a)"
            ]
        );
        assert_eq!(compare(&then, &Structure::new()), Vec::<String>::new());
    }
}

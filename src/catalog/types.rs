//! Types, and which may be assigned to which.
//!
//! Postgres's own rule for INSERT decides (implicit and assignment casts), with two differences that come from values
//! being carried as text: text may become an enum, because each value is checked when it is written; and where a
//! cast would round (numeric to integer), the text does not fit and the row would be rejected, which is worth a note.

use std::collections::HashSet;

/// A type of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// As `format_type` writes it, without a modifier: `integer`, `text[]`, `"Sex"`.
    pub name: String,
    /// `typcategory`: S string, N number, B boolean, D date or time, E enum, A array, …
    pub category: char,
    /// Its making.
    pub kind: TypeKind,
}

/// How a type is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// Base types, composite types, ranges.
    Base,
    /// Enum, with its labels in order.
    Enum(Vec<String>),
    /// Array of another type.
    Array(Box<Type>),
    /// Domain over another type, and whether it forbids null.
    Domain(Box<Type>, bool),
}

/// Whether a value of one type can be written to a column of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// Always, or up to a range that is checked for each value.
    Fits,
    /// Some values will not fit; why.
    Checked(String),
    /// Never; why.
    Impossible(String),
}

impl Type {
    /// The type below all domains.
    pub fn base(&self) -> &Type {
        match &self.kind {
            TypeKind::Domain(base, _) => base.base(),
            _ => self,
        }
    }

    /// For arrays, the type of the elements.
    pub fn element(&self) -> Option<&Type> {
        match &self.base().kind {
            TypeKind::Array(element) => Some(element),
            _ => None,
        }
    }

    /// The labels of an enum.
    pub fn labels(&self) -> Option<&[String]> {
        match &self.base().kind {
            TypeKind::Enum(labels) => Some(labels),
            _ => None,
        }
    }

    /// Whether it is text in the wider sense.
    pub fn is_text(&self) -> bool {
        self.base().category == 'S'
    }

    /// Whether a value of this type can be written to a column of type `to`. `casts` are V2's
    /// (see [`super::Catalog::casts`]).
    pub fn assignment(&self, to: &Type, casts: &HashSet<(String, String)>) -> Assignment {
        let (from, to) = (self.base(), to.base());
        if let (Some(from), Some(to)) = (from.element(), to.element()) {
            return from.assignment(to, casts);
        }
        match (from.labels(), to.labels()) {
            (Some(from), Some(to)) => return labels(from, to),
            (None, Some(_)) if from.is_text() => return Assignment::Fits,
            _ => {}
        }
        // Everything has a text form. Postgres agrees: every type has an assignment cast to text.
        if from.name == to.name || to.is_text() {
            return Assignment::Fits;
        }
        let impossible =
            || Assignment::Impossible(format!("{} cannot be assigned to {}", from.name, to.name));
        // The text of money is written as the locale likes it ("$1.00"): no number reads it.
        if from.name == "money" || !casts.contains(&(from.name.clone(), to.name.clone())) {
            return impossible();
        }
        if is_whole(&to.name) && !is_whole(&from.name) {
            return Assignment::Checked(format!("{} with decimals does not fit {}", from.name, to.name));
        }
        Assignment::Fits
    }
}

fn is_whole(name: &str) -> bool {
    matches!(name, "smallint" | "integer" | "bigint" | "oid")
}

/// Enum to enum: each label of the source must be one of the target's.
fn labels(from: &[String], to: &[String]) -> Assignment {
    let missing: Vec<&str> = from.iter().filter(|label| !to.contains(label)).map(String::as_str).collect();
    if missing.is_empty() {
        return Assignment::Fits;
    }
    Assignment::Impossible(format!("V2's enum lacks {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, category: char) -> Type {
        Type { name: name.to_owned(), category, kind: TypeKind::Base }
    }

    fn of(labels: &[&str]) -> Type {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Type { name: "\"E\"".to_owned(), category: 'E', kind: TypeKind::Enum(labels) }
    }

    #[test]
    fn follows_assignment_casts() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let casts =
            HashSet::from([pair("integer", "bigint"), pair("numeric", "integer"), pair("money", "numeric")]);
        let (text, integer) = (base("text", 'S'), base("integer", 'N'));
        assert_eq!(integer.assignment(&text, &casts), Assignment::Fits);
        assert_eq!(integer.assignment(&base("bigint", 'N'), &casts), Assignment::Fits);
        assert!(matches!(text.assignment(&integer, &casts), Assignment::Impossible(_)));
        assert!(matches!(base("numeric", 'N').assignment(&integer, &casts), Assignment::Checked(_)));
        assert!(matches!(
            base("money", 'N').assignment(&base("numeric", 'N'), &casts),
            Assignment::Impossible(_)
        ));
        assert_eq!(text.assignment(&of(&["A"]), &casts), Assignment::Fits);
        assert_eq!(of(&["A"]).assignment(&of(&["B", "A"]), &casts), Assignment::Fits);
        let lacking = of(&["A", "X"]).assignment(&of(&["A"]), &casts);
        assert_eq!(lacking, Assignment::Impossible("V2's enum lacks X".to_owned()));
    }

    #[test]
    fn looks_through_arrays_and_domains() {
        let casts = HashSet::new();
        let array = |element| Type {
            name: "x[]".to_owned(),
            category: 'A',
            kind: TypeKind::Array(Box::new(element)),
        };
        let domain = Type {
            name: "email".to_owned(),
            category: 'S',
            kind: TypeKind::Domain(Box::new(base("text", 'S')), true),
        };
        assert_eq!(array(base("integer", 'N')).assignment(&array(domain.clone()), &casts), Assignment::Fits);
        assert!(matches!(domain.assignment(&base("uuid", 'U'), &casts), Assignment::Impossible(_)));
    }
}

//! Addresses and names of a row, split once however many columns of V2 take a part of them.
//!
//! They are split before the first write is converted, so that converting can borrow the parts: a row has few such
//! columns, and every one of them is used.

use crate::identity::address::{self, Address};
use crate::identity::name::{self, Name};
use crate::plan::{AddressPart, Entity, Fill, NamePart, Part};
use crate::row::Row;

/// The source columns of an entity that are split.
#[derive(Debug, Default)]
pub(super) struct SplitColumns {
    addresses: Vec<usize>,
    names: Vec<usize>,
}

impl SplitColumns {
    pub fn of(entity: &Entity) -> Self {
        let mut columns = Self::default();
        for column in entity.writes.iter().flat_map(|write| &write.columns) {
            let Fill::Part { column, part, .. } = column.fill else { continue };
            let known = match part {
                Part::Address(_) => &mut columns.addresses,
                Part::Name(_) => &mut columns.names,
            };
            if !known.contains(&column) {
                known.push(column);
            }
        }
        columns
    }

    /// Splits a row's columns; null and blank ones have no parts.
    pub fn split(&self, row: &Row<'_>) -> Split {
        let filled = |column: usize| row.filled(column);
        Split {
            addresses: (self.addresses.iter())
                .filter_map(|&column| Some((column, address::split(&filled(column)?))))
                .collect(),
            names: (self.names.iter())
                .filter_map(|&column| Some((column, name::split(&filled(column)?))))
                .collect(),
        }
    }
}

/// One row's addresses and names, by source column.
#[derive(Debug, Default)]
pub(super) struct Split {
    addresses: Vec<(usize, Address)>,
    names: Vec<(usize, Name)>,
}

impl Split {
    /// A part of a column; `None` when the text has none.
    pub fn part(&self, column: usize, part: Part) -> Option<&str> {
        match part {
            Part::Address(part) => {
                let (_, address) = self.addresses.iter().find(|(of, _)| *of == column)?;
                match part {
                    AddressPart::Line1 => address.line1.as_deref(),
                    AddressPart::Line2 => address.line2.as_deref(),
                    AddressPart::City => address.city.as_deref(),
                    AddressPart::State => address.state.as_deref(),
                    AddressPart::PostalCode => address.postal_code.as_deref(),
                    AddressPart::Country => address.country.as_deref(),
                    AddressPart::Raw => Some(&address.raw),
                }
            }
            Part::Name(part) => {
                let (_, name) = self.names.iter().find(|(of, _)| *of == column)?;
                match part {
                    NamePart::Title => name.title.as_deref(),
                    NamePart::First => name.first.as_deref(),
                    NamePart::Middle => name.middle.as_deref(),
                    NamePart::Last => name.last.as_deref(),
                    NamePart::Suffix => name.suffix.as_deref(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Rows;

    #[test]
    fn each_column_has_its_own_parts() {
        let columns = SplitColumns { addresses: vec![0, 1, 2], names: vec![3] };
        let mut rows = Rows::new(4);
        assert!(rows.push(b"12 Allen Avenue, Ikeja, Lagos State, Nigeria\t \t\\N\tDr. Ada Obi\n"));
        let split = columns.split(&rows.row(0));
        let address = |column, part| split.part(column, Part::Address(part));
        assert_eq!(address(0, AddressPart::City), Some("Ikeja"));
        assert_eq!(address(0, AddressPart::Country), Some("NG"));
        assert_eq!(address(0, AddressPart::Raw), Some("12 Allen Avenue, Ikeja, Lagos State, Nigeria"));
        assert_eq!(address(1, AddressPart::Raw), None, "blank");
        assert_eq!(address(2, AddressPart::Raw), None, "null");
        assert_eq!(split.part(3, Part::Name(NamePart::Title)), Some("Dr."));
        assert_eq!(split.part(3, Part::Name(NamePart::Last)), Some("Obi"));
        assert_eq!(split.part(3, Part::Name(NamePart::Middle)), None);
    }
}

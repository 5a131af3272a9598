//! The reference data as MongoDB's documents: ids are uuids derived from the files', references hold those ids, and link
//! tables become arrays. Pure, so that nothing has to be looked up in V2.

use mongodb::bson::{Binary, Bson, Document, spec::BinarySubtype};
use uuid::Uuid;

use super::super::reference::{Cell, ReferenceData, ReferenceRow, ReferenceTable};
use crate::ids::IdMaker;
use crate::plan::KeyKind;

/// A document that V2 must have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// The line of its data file.
    pub(super) line: u64,
    pub(super) id: Bson,
    /// Without `_id` and without what is empty in the file.
    pub(super) fields: Document,
    /// What is empty in the file, and so must be absent.
    pub(super) absent: Vec<String>,
    /// Names of the fields that make it unique.
    pub(super) key: Vec<String>,
}

/// The documents of one collection.
pub(super) struct WantedCollection<'a> {
    pub(super) table: &'a ReferenceTable,
    pub(super) documents: Vec<Wanted>,
}

/// All reference data, in the manifest's order, without the tables that became arrays.
pub(super) fn documents(data: &ReferenceData) -> Vec<WantedCollection<'_>> {
    let of = |table| WantedCollection { table, documents: rows(table, data) };
    data.tables.iter().filter(|table| table.embedded.is_none()).map(of).collect()
}

fn rows(table: &ReferenceTable, data: &ReferenceData) -> Vec<Wanted> {
    let mut documents: Vec<Wanted> = table.rows.iter().map(|row| document(table, row, data)).collect();
    for link in &data.tables {
        let Some(embedded) = &link.embedded else { continue };
        if link.columns[embedded.by].references.as_deref() != Some(table.table.as_str()) {
            continue;
        }
        for wanted in &mut documents {
            let belongs = |row: &&ReferenceRow| id_of_cell(table, &row.cells[embedded.by]) == wanted.id;
            let values = link.rows.iter().filter(belongs).map(|row| value(link, embedded.take, row, data));
            wanted.fields.insert(&embedded.field, values.collect::<Vec<Bson>>());
        }
    }
    documents
}

fn document(table: &ReferenceTable, row: &ReferenceRow, data: &ReferenceData) -> Wanted {
    let (mut fields, mut absent) = (Document::new(), Vec::new());
    for (position, column) in table.columns.iter().enumerate() {
        if Some(position) == table.id {
            continue;
        }
        match value(table, position, row, data) {
            Bson::Null => absent.push(column.name.clone()),
            value => {
                fields.insert(&column.name, value);
            }
        }
    }
    let id = match table.id {
        Some(id) => id_of_cell(table, &row.cells[id]),
        None => {
            // No cell can hold the separator, as the file is text.
            let key: Vec<String> =
                table.key.iter().map(|column| row.cells[*column].to_text().unwrap_or_default()).collect();
            derived(table, KeyKind::Text, &key.join("\u{1f}"))
        }
    };
    let key = table.key.iter().map(|column| table.columns[*column].name.clone()).collect();
    Wanted { line: row.line, id, fields, absent, key }
}

/// What a cell becomes.
fn value(table: &ReferenceTable, column: usize, row: &ReferenceRow, data: &ReferenceData) -> Bson {
    let cell = &row.cells[column];
    let references = table.columns[column].references.as_deref();
    let target = references.and_then(|name| data.tables.iter().find(|table| table.table == name));
    match (cell, target) {
        (Cell::Null, _) => Bson::Null,
        (cell, Some(target)) => id_of_cell(target, cell),
        (Cell::Text(text), None) => Bson::String(text.clone()),
        (Cell::Integer(number), None) => i32::try_from(*number).map_or(Bson::Int64(*number), Bson::Int32),
        (Cell::Boolean(value), None) => Bson::Boolean(*value),
    }
}

/// The `_id` behind an id of the files. One that is a uuid already is kept.
fn id_of_cell(table: &ReferenceTable, cell: &Cell) -> Bson {
    match cell {
        Cell::Integer(number) => derived(table, KeyKind::Integer, &number.to_string()),
        other => {
            let text = other.to_text().unwrap_or_default();
            match Uuid::try_parse(&text) {
                Ok(uuid) => binary(uuid),
                Err(_) => derived(table, KeyKind::Text, &text),
            }
        }
    }
}

fn derived(table: &ReferenceTable, kind: KeyKind, text: &str) -> Bson {
    binary(IdMaker::new(&table.collection, kind, "").id(text))
}

fn binary(uuid: Uuid) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.into_bytes().to_vec() })
}

/// An `_id` for people.
pub(super) fn shown(id: &Bson) -> String {
    match id {
        Bson::Binary(binary) => match Uuid::from_slice(&binary.bytes) {
            Ok(uuid) => uuid.to_string(),
            Err(_) => "a binary value".to_owned(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::SetupFiles;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_the_same_for_ever_and_references_lead_to_them() {
        let data = SetupFiles::embedded().reference().unwrap();
        let all = documents(&data);
        let of = |name: &str| all.iter().find(|of| of.table.collection == name).unwrap();
        let coded = |name: &str, code: &str| {
            let found = of(name)
                .documents
                .iter()
                .find(|wanted| wanted.fields.get_str("code").is_ok_and(|it| it == code));
            found.unwrap().clone()
        };
        assert_eq!(shown(&coded("userTypes", "STAFF").id), "00000000-0002-8e50-a9e9-ac9e261dd822");
        assert_eq!(
            coded("roles", "SUPER_ADMIN").fields.get("userTypeId"),
            Some(&coded("userTypes", "ADMIN").id)
        );
        assert_eq!(
            coded("gradeLevels", "GB-Y7").fields.get("gradeSystemId"),
            Some(&coded("gradeSystems", "GB").id)
        );
        let ids: HashSet<String> =
            all.iter().flat_map(|of| &of.documents).map(|wanted| shown(&wanted.id)).collect();
        assert_eq!(ids.len(), all.iter().map(|of| of.documents.len()).sum::<usize>());
    }

    #[test]
    fn links_become_arrays() {
        let data = SetupFiles::embedded().reference().unwrap();
        let all = documents(&data);
        assert!(!all.iter().any(|of| of.table.table == "RolePermission"));
        let roles = all.iter().find(|of| of.table.table == "Role").unwrap();
        let permissions = all.iter().find(|of| of.table.table == "Permission").unwrap();
        for wanted in &roles.documents {
            let held = wanted.fields.get_array("permissionIds").unwrap();
            if wanted.fields.get_str("code").is_ok_and(|code| code == "SUPER_ADMIN") {
                assert_eq!(held.len(), permissions.documents.len());
            }
            assert!(held.iter().all(|id| permissions.documents.iter().any(|of| of.id == *id)));
        }
    }
}

//! Arrays of keys become arrays of ids, element by element.

use std::collections::HashMap;

use super::*;
use crate::catalog::BsonKind;
use crate::ids::IdMaker;
use crate::migrator::{EntityIds, Lookups, MigratedKeys, References};
use crate::plan::{BsonColumn, Entity, Ids, KeyKind, Lookup, Source, TableName};
use crate::row::Rows;

fn name(name: &str) -> TableName {
    TableName { schema: String::new(), name: name.to_owned() }
}

fn entity(of: &str, writes: Vec<Write>) -> Entity {
    let source = Source {
        query: String::new(),
        key: "id".to_owned(),
        key_index: 0,
        key_kind: KeyKind::Text,
        columns: Vec::new(),
    };
    Entity {
        name: of.into(),
        after: Vec::new(),
        source,
        ids: Ids::Keep,
        account: None,
        writes,
        definition_hash: String::new(),
        custom: None,
    }
}

/// What the row `key, array` becomes with this fill: the line, and the notes' kinds and decisions.
fn convert(fill: Fill, null: Option<bool>, row: &str) -> Result<(String, Vec<(String, String)>), String> {
    let records = records(fill, (null, false), None, row)?;
    let notes = records.notes.iter().map(|note| (note.kind.clone(), note.decision.clone())).collect();
    Ok((String::from_utf8(records.writes[0].bytes().to_vec()).unwrap(), notes))
}

/// The same of something that is filled in later: the line, and whether something was left out.
fn later(fill: Fill, settled: Option<&[bool]>, row: &str) -> Result<(String, bool), String> {
    let records = records(fill, (None, true), settled, row)?;
    let line = String::from_utf8(records.writes[0].bytes().to_vec()).unwrap();
    Ok((line, !records.incomplete.is_empty()))
}

fn records(
    fill: Fill,
    (null, later): (Option<bool>, bool),
    settled: Option<&[bool]>,
    row: &str,
) -> Result<Records, String> {
    let bson = null.map(|null| BsonColumn { kind: BsonKind::Array(Box::new(BsonKind::Text)), null });
    let column =
        Column { name: "ids".to_owned(), type_name: String::new(), not_null: false, fill, later, bson };
    let write = Write {
        table: name("things"),
        inside: None,
        when: When::Row,
        columns: vec![column],
        uniques: Vec::new(),
    };
    let lookups = vec![Lookup { table: name("kinds"), by: "code".to_owned(), id: "_id".to_owned() }];
    let plan = Plan {
        files: Vec::new(),
        accounts: None,
        entities: vec![entity("others", Vec::new()), entity("things", vec![write])],
        lookups,
        notes: Vec::new(),
    };
    let migrated = MigratedKeys::default();
    migrated.extend(["a", "b \"c\""].into_iter());
    let ids = ["others", "things"]
        .map(|entity| EntityIds { maker: IdMaker::new(entity, KeyKind::Text, ""), kind: Ids::Keep });
    let codes = HashMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
    let mut rows = Rows::new(2);
    assert!(rows.push(row.as_bytes()));
    let context = Context {
        plan: &plan,
        ids: &ids,
        references: &References(vec![Some(migrated), None]),
        lookups: &Lookups(vec![codes]),
        entity: 1,
        number: 0,
        key: "k",
        person: None,
        settled,
        now: "",
    };
    let mut records = Records::default();
    records.reset(&plan.entities[1]);
    let migrator = Definition::new(Arc::new(plan.clone()), 1);
    migrator.convert(&rows.row(0), &context, &mut records).map_err(|reject| reject.code.to_string())?;
    Ok(records)
}

fn lookup(missing: Missing) -> Fill {
    Fill::Lookup { lookup: 0, key: KeyFrom::Elements(1), missing }
}

#[test]
fn each_element_is_looked_up() {
    let line = |text: &str| Ok((format!("{text}\n"), Vec::new()));
    assert_eq!(convert(lookup(Missing::Reject), None, "k\t{B,A,B}"), line("{\"2\",\"1\",\"2\"}"));
    assert_eq!(convert(lookup(Missing::Reject), None, "k\t{}"), line("{}"));
    assert_eq!(convert(lookup(Missing::Reject), None, "k\t\\N"), line("\\N"), "no array, no array");
    let others = Fill::Reference { entity: 0, key: KeyFrom::Elements(1), missing: Missing::Reject };
    // COPY's escaping on top of the array's.
    let row = "k\t{\"b \\\\\"c\\\\\"\",a}";
    assert_eq!(convert(others, None, row), line("{\"b \\\\\"c\\\\\"\",\"a\"}"));
}

#[test]
fn elements_that_stand_for_nothing() {
    let row = "k\t{A,X,Y,B}";
    let noted = |decision: &str| vec![("missing-lookup".to_owned(), decision.to_owned())];
    assert_eq!(convert(lookup(Missing::Reject), None, row), Err("missing-lookup".to_owned()));
    assert_eq!(
        convert(lookup(Missing::Skip), None, row),
        Ok(("{\"1\",\"2\"}\n".to_owned(), noted("left-out")))
    );
    let with_nulls = "{\"1\",NULL,NULL,\"2\"}\n".to_owned();
    assert_eq!(convert(lookup(Missing::Null), None, row), Ok((with_nulls.clone(), noted("null"))));
    // In a document nulls stay only where the definition says so.
    assert_eq!(convert(lookup(Missing::Null), Some(true), row), Ok((with_nulls, noted("null"))));
    let without = "{\"1\",\"2\"}\n".to_owned();
    assert_eq!(convert(lookup(Missing::Null), Some(false), row), Ok((without.clone(), noted("null"))));
    assert_eq!(convert(lookup(Missing::Reject), Some(false), "k\t{A,NULL,B}"), Ok((without, Vec::new())));
}

#[test]
fn what_is_filled_in_later_waits_until_it_can_be_decided() {
    let to = |entity, key| Fill::Reference { entity, key, missing: Missing::Reject };
    let (one, many) = (KeyFrom::Column(1), KeyFrom::Elements(1));
    let line = |text: &str, left_out| Ok((format!("{text}\n"), left_out));
    // At first only what is in V2 already is referred to; a row may refer to itself.
    assert_eq!(later(to(0, one), None, "k\ta"), line("a", false));
    assert_eq!(later(to(0, one), None, "k\tx"), line("\\N", true));
    assert_eq!(later(to(0, one), None, "k\t\\N"), line("\\N", false));
    assert_eq!(later(to(1, one), None, "k\tk"), line("k", false));
    assert_eq!(later(to(0, many), None, "k\t{a,x}"), line("\\N", true));
    assert_eq!(later(Fill::DerivedId("l".to_owned()), None, "k\ta"), line("\\N", true));
    // What may still come goes on waiting, and what will not is decided.
    assert_eq!(later(to(0, one), Some(&[false, true]), "k\tx"), line("\\N", true));
    assert_eq!(later(to(0, one), Some(&[true, true]), "k\tx"), Err("missing-reference".to_owned()));
    assert_eq!(later(to(0, many), Some(&[true, false]), "k\t{a}"), line("{\"a\"}", false));
    assert_eq!(later(Fill::Id, Some(&[false, false]), "k\ta"), line("k", false));
}

use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use proptest::prelude::*;

use super::*;
use crate::ledger::{Line, Outcome, Reject};
use crate::migrator::Records;
use crate::plan::{BsonColumn, BsonKind, Column, Entity, Fill, Ids, KeyKind, Source, TableName, When, Write};
use crate::row::{Lines, Rows};
use crate::target::Batch;

fn write(collection: &str, inside: Option<&str>, when: When, columns: &[(&str, BsonKind, bool)]) -> Write {
    let column = |(name, kind, null): &(&str, BsonKind, bool)| Column {
        name: (*name).to_owned(),
        type_name: String::new(),
        not_null: false,
        fill: Fill::Id,
        later: false,
        bson: Some(BsonColumn { kind: kind.clone(), null: *null }),
    };
    Write {
        table: TableName { schema: String::new(), name: collection.to_owned() },
        inside: inside.map(str::to_owned),
        when,
        columns: columns.iter().map(column).collect(),
        uniques: Vec::new(),
    }
}

fn entity(writes: Vec<Write>) -> Entity {
    let source = Source {
        query: String::new(),
        key: "id".to_owned(),
        key_index: 0,
        key_kind: KeyKind::Integer,
        columns: Vec::new(),
    };
    let name: Arc<str> = "people".into();
    Entity {
        name,
        after: Vec::new(),
        source,
        ids: Ids::Uuid8,
        account: None,
        writes,
        definition_hash: String::new(),
        custom: None,
    }
}

/// People with an account, whose roles grow, and a record with contacts, which do not.
fn people() -> Entity {
    use BsonKind::{Bool, Date, Int, Long, Text};
    entity(vec![
        write(
            "users",
            None,
            When::Account,
            &[
                ("email", Text, false),
                ("name.first", Text, false),
                ("_id", Long, false),
                ("name.last", Text, false),
            ],
        ),
        write("users", Some("roles"), When::Role, &[("role", Text, false), ("at", Date, false)]),
        write(
            "people",
            None,
            When::Row,
            &[
                ("_id", Int, false),
                ("a.b.c", Text, false),
                ("note", Text, true),
                ("a.d", BsonKind::Json, false),
                ("tags", BsonKind::Array(Box::new(Text)), false),
            ],
        ),
        write("people", Some("a.contacts"), When::Each(0), &[("id", Int, false), ("is.first", Bool, false)]),
    ])
}

type Fields<'t> = &'t [Option<&'t str>];

/// A batch of lines: the write, the source row, the fields.
fn batch(entity: &Entity, rows: u32, written: &[(usize, u32, Fields<'_>)]) -> Batch {
    let mut records = Records::default();
    records.reset(entity);
    for &(write, row, fields) in written {
        let lines: &mut Lines = &mut records.writes[write];
        fields.iter().for_each(|field| lines.text(*field));
        lines.end_line(row);
    }
    let line = |row: u32| Line {
        key: row.to_string(),
        outcome: Outcome::Migrated,
        source_hash: 0,
        incomplete: false,
        claims: None,
        account_id: Some((100 + row / 2 * 2).to_string()),
        target_id: None,
        reject: None,
    };
    Batch {
        update: None,
        entity: 0,
        name: entity.name.clone(),
        rows: Rows::new(1),
        lines: (0..rows).map(line).collect(),
        again: false,
        records,
    }
}

fn inserted(inserts: &Inserts) -> Vec<(u32, Document)> {
    let document = |insert: Insert<'_>| (insert.row, insert.document.try_into().unwrap());
    inserts.iter().map(document).collect()
}

fn pushed(pushes: &Pushes) -> Vec<(u32, Document, Document)> {
    let document =
        |push: Push<'_>| (push.row, push.filter.try_into().unwrap(), push.element.try_into().unwrap());
    pushes.iter().map(document).collect()
}

fn two_rows(entity: &Entity) -> Batch {
    batch(
        entity,
        2,
        &[
            (0, 0, &[Some("a@b.c"), Some("Ann\t"), Some("100"), None]),
            (1, 0, &[Some("X"), Some("1970-01-01")]),
            (1, 1, &[Some("Y"), None]),
            (2, 0, &[Some("1"), Some("c"), Some("n"), Some("{\"x\": 1}"), Some("{p,\"q,\",NULL}")]),
            (2, 1, &[Some("2"), None, None, None, Some("{}")]),
            (3, 0, &[Some("7"), Some("t")]),
            (3, 0, &[Some("8"), None]),
        ],
    )
}

#[test]
fn fields_nest_and_nulls_are_absent() {
    let entity = people();
    let mut batch = two_rows(&entity);
    let made = assemble(&mut batch, &entity, |_| true);
    let [users, people] = &made.inserts[..] else { panic!("two collections") };
    assert_eq!((users.collection.as_str(), people.collection.as_str()), ("users", "people"));
    let date = mongodb::bson::DateTime::from_millis(0);
    let user = doc! { "_id": 100_i64, "email": "a@b.c", "name": { "first": "Ann\t" }, "roles": [{ "role": "X", "at": date }] };
    assert_eq!(inserted(users), [(0, user)]);
    assert_eq!(
        inserted(people),
        [
            (
                0,
                doc! {
                    "_id": 1,
                    "a": {
                        "b": { "c": "c" }, "d": { "x": 1 },
                        "contacts": [{ "id": 7, "is": { "first": true } }, { "id": 8 }],
                    },
                    "note": "n",
                    "tags": ["p", "q,", null],
                }
            ),
            (1, doc! { "_id": 2, "a": { "contacts": [] }, "note": null, "tags": [] }),
        ]
    );
    let [roles] = &made.pushes[..] else { panic!("one array of accounts") };
    assert_eq!((roles.collection.as_str(), roles.field.as_str()), ("users", "roles"));
    assert_eq!(pushed(roles), [(1, doc! { "_id": 100_i64 }, doc! { "role": "Y" })]);
    assert!(batch.lines.iter().all(|line| line.reject.is_none()));
}

#[test]
fn digests_survive_what_is_pushed_later() {
    let entity = people();
    let made = assemble(&mut two_rows(&entity), &entity, |_| true);
    assert_eq!(made.inserts[0].growing, ["roles"]);
    let user = made.inserts[0].iter().next().unwrap();
    let push = made.pushes[0].iter().next().unwrap();
    let mut stored: Document = user.document.try_into().unwrap();
    stored.get_array_mut("roles").unwrap().push(Bson::Document(push.element.try_into().unwrap()));
    let stored = mongodb::bson::RawDocumentBuf::try_from(&stored).unwrap();
    assert_eq!(digest(&stored, &["roles"]), user.digest);
    let roles = stored.get_array("roles").unwrap().into_iter();
    let digests: Vec<u64> = roles.map(|role| digest(role.unwrap().as_document().unwrap(), &[])).collect();
    assert_eq!(digests, [user.elements[0], push.digest]);

    assert!(made.inserts[1].growing.is_empty());
    for person in made.inserts[1].iter() {
        assert_eq!(person.digest, digest(person.document, &[]));
        assert!(person.elements.is_empty());
    }
}

#[test]
fn a_row_that_does_not_fit_leaves_nothing() {
    let entity = people();
    let whole: Fields<'_> = &[Some("1"), None, None, None, None];
    let mut batch = batch(
        &entity,
        6,
        &[
            (0, 0, &[None, None, Some("100"), None]),
            (0, 2, &[None, None, Some("102"), None]),
            (0, 4, &[None, None, Some("104"), None]),
            (1, 0, &[Some("r"), None]),
            (1, 1, &[Some("r"), None]),
            (1, 2, &[Some("r"), None]),
            (1, 3, &[Some("r"), Some("infinity")]),
            (1, 4, &[Some("r"), None]),
            (1, 5, &[Some("r"), None]),
            (2, 0, whole),
            (2, 1, whole),
            (2, 2, &[Some("1"), None, None, Some("{\"$a\":1}"), None]),
            (2, 3, whole),
            (2, 4, whole),
            (2, 5, whole),
            (3, 1, &[Some("x"), None]),
        ],
    );
    batch.reject(5, Reject::new("earlier", "rejected before"));
    let made = assemble(&mut batch, &entity, |_| true);
    let rows = |inserts: &Inserts| inserts.iter().map(|insert| insert.row).collect::<Vec<_>>();
    assert_eq!(rows(&made.inserts[0]), [0, 4]);
    assert_eq!(rows(&made.inserts[1]), [0, 4]);
    assert!(made.pushes[0].is_empty());
    let reasons: Vec<_> =
        batch.lines.iter().map(|line| line.reject.as_ref().map(|of| of.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            None,
            Some("people.a.contacts.id: the text is no number that BSON can hold"),
            Some("people.a.d: a key in the JSON begins with $, contains a dot or a NUL, or is there twice"),
            Some("users.roles.at: the date is infinite, or its year is not from 1 to 9999"),
            None,
            Some("rejected before"),
        ]
    );
    let users: Vec<u64> = made.inserts[0].iter().flat_map(|insert| insert.elements.to_vec()).collect();
    assert_eq!(users.len(), 2, "no digest of a row that was taken back");
}

#[test]
fn an_element_needs_a_document() {
    let entity = people();
    let role: Fields<'_> = &[Some("r"), None];
    let mut batch = batch(&entity, 3, &[(1, 0, role), (1, 1, role), (3, 2, role)]);
    batch.lines[0].account_id = None;
    batch.lines[1].account_id = Some("no number".to_owned());
    let made = assemble(&mut batch, &entity, |_| true);
    assert!(made.pushes[0].is_empty());
    let code = |row: usize| batch.lines[row].reject.as_ref().unwrap().code.clone();
    assert_eq!([code(0), code(1), code(2)], ["missing-reference", "bson-value", "missing-reference"]);
}

#[test]
fn large_documents_are_rejected() {
    let entity = people();
    let long = "x".repeat(16 * 1024 * 1024 - 100);
    let mut batch = batch(
        &entity,
        4,
        &[
            (1, 3, &[Some(&long), Some("1970-01-01")]),
            (2, 0, &[Some("1"), Some(&long), None, None, None]),
            (2, 1, &[Some("1"), Some(&long), Some(&long[..200]), None, None]),
            (2, 2, &[Some("1"), Some(&long), Some(&long), None, Some("{a}")]),
        ],
    );
    let made = assemble(&mut batch, &entity, |_| true);
    assert_eq!((made.inserts[1].len(), made.pushes[0].len()), (1, 1));
    assert!(made.inserts[1].size() <= 16 * 1024 * 1024);
    for (row, place) in [(1, "people"), (2, "people.tags")] {
        let reject = batch.lines[row].reject.as_ref().unwrap();
        assert_eq!(reject.code, "bson-document-size");
        assert_eq!(reject.reason, format!("{place}: the document is larger than 16 MiB"));
    }
}

#[test]
fn json_inside_an_element_counts_all_levels() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // The document, `a`, the array, the element.
    let entity = entity(vec![
        write("users", None, When::Account, &[("_id", BsonKind::Int, false)]),
        write("users", Some("a.all"), When::Role, &[("x", BsonKind::Json, false)]),
    ]);
    for (levels, fits) in [(96, true), (97, false)] {
        let json = deep(levels);
        let mut batch =
            batch(&entity, 2, &[(0, 0, &[Some("100")]), (1, 0, &[Some(&json)]), (1, 1, &[Some(&json)])]);
        let made = assemble(&mut batch, &entity, |_| true);
        assert_eq!((made.inserts[0].len() == 1, made.pushes[0].len() == 1), (fits, fits), "{levels}");
    }
}

#[test]
fn a_row_may_become_several_documents() {
    let entity = entity(vec![write(
        "links",
        None,
        When::Each(0),
        &[("x", BsonKind::Int, false), ("y", BsonKind::Text, false)],
    )]);
    let written: &[(usize, u32, Fields<'_>)] = &[
        (0, 1, &[Some("1"), None]),
        (0, 1, &[Some("2"), Some("b")]),
        (0, 2, &[Some("3"), None]),
        (0, 2, &[Some("?"), None]),
        (0, 3, &[None, None]),
    ];
    let mut batch = batch(&entity, 4, written);
    let made = assemble(&mut batch, &entity, |_| true);
    let expected = [(1, doc! { "x": 1 }), (1, doc! { "x": 2, "y": "b" }), (3, doc! {})];
    assert_eq!(inserted(&made.inserts[0]), expected);
    assert!(batch.is_rejected(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A chunk that is split, or tried again without some rows, gives the documents that it gave as a whole.
    #[test]
    fn parts_are_parts_of_the_whole(
        rows in proptest::collection::vec((any::<bool>(), 0..3_usize, "[a-z0-9\t]{0,5}", any::<bool>()), 1..20),
        middle in 0..20_u32,
    ) {
        let entity = people();
        let ids: Vec<String> = (0..rows.len()).map(|row| row.to_string()).collect();
        let mut made = batch(&entity, rows.len() as u32, &[]);
        for (row, (is_new, contacts, text, fits)) in (0_u32..).zip(&rows) {
            let id = Some(ids[row as usize].as_str());
            let writes = &mut made.records.writes;
            let mut add = |write: usize, fields: Fields<'_>| {
                fields.iter().for_each(|field| writes[write].text(*field));
                writes[write].end_line(row);
            };
            if *is_new {
                add(0, &[Some(text), None, id, Some(text)]);
            }
            add(1, &[Some(text), None]);
            add(2, &[id, Some(text), None, if *fits { None } else { Some("{") }, None]);
            (0..*contacts).for_each(|_| add(3, &[id, Some("t")]));
        }
        let all = assemble(&mut made, &entity, |_| true);
        let front = assemble(&mut made, &entity, |row| row < middle);
        let back = assemble(&mut made, &entity, |row| row >= middle);
        for index in 0..2 {
            let of = |documents: &Documents| inserted(&documents.inserts[index]);
            prop_assert_eq!(of(&all), [of(&front), of(&back)].concat());
            let digests = |documents: &Documents| -> Vec<u64> {
                documents.inserts[index].iter().flat_map(|of| [&[of.digest], of.elements].concat()).collect()
            };
            prop_assert_eq!(digests(&all), [digests(&front), digests(&back)].concat());
        }
        let of = |documents: &Documents| pushed(&documents.pushes[0]);
        prop_assert_eq!(of(&all), [of(&front), of(&back)].concat());
        for (row, (is_new, contacts, _, fits)) in (0_u32..).zip(&rows) {
            prop_assert_eq!(made.is_rejected(row), !fits);
            let person = inserted(&all.inserts[1]).into_iter().find(|(of, _)| *of == row);
            prop_assert_eq!(person.is_some(), *fits);
            if let Some((_, person)) = person {
                let listed = person.get_document("a").unwrap().get_array("contacts").unwrap();
                prop_assert_eq!(listed.len(), *contacts);
                let pushes = of(&all).iter().filter(|(of, ..)| *of == row).count();
                prop_assert_eq!(pushes, usize::from(!is_new));
            }
        }
    }
}

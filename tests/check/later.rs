//! `later = true`: what can wait in a document, and what cannot.

use mongodb::bson::doc;
use v1v2::catalog::{Covers, Index};

use super::fields::{HEAD, collections, fields, judge, refused};

const HEAD_LATER: &str = "head = { entity = \"things\", key = \"name\", later = true }\n";

#[test]
fn what_a_document_may_be_without_at_first() {
    let plan = fields(HEAD_LATER, doc! { "properties": { "head": { "bsonType": "binData" } } });
    let plan = plan.unwrap_or_else(|text| panic!("{text}"));
    assert!(plan.entities[0].is_completed_later());
    refused(
        fields(HEAD_LATER, doc! { "required": ["head"] }),
        &["V2's validator requires things.head, so `later` cannot leave it out at first"],
    );
    refused(fields("x = { id = \"x\", later = true }\n", doc! {}), &["MongoDB has no foreign keys"]);
    refused(fields("x = { column = \"age\", later = true }\n", doc! {}), &["has no key `later`"]);
    // Whole elements wait, so they need not do without it.
    let element = format!(
        "[[mongodb.embed]]\nfield = \"all\"\neach = \"tags\"\n[mongodb.embed.fields]\n{}",
        HEAD_LATER.replace("\"name\"", "\"each\"")
    );
    let items = doc! { "properties": { "all": { "bsonType": "array", "items": { "required": ["head"] } } } };
    assert!(fields(&element, items).unwrap_or_else(|text| panic!("{text}")).entities[0].is_completed_later());
}

#[test]
fn what_is_unique_among_documents_that_lack_it_cannot_wait() {
    let with = |covers| {
        let mut v2 = collections(doc! {});
        let index = Index {
            name: "i".to_owned(),
            keys: vec!["head".to_owned()],
            unique: true,
            covers,
            ignores_case: false,
        };
        v2.collections.get_mut("things").unwrap().indexes.push(index);
        judge(&format!("{HEAD}[mongodb.fields]\n_id = {{ id = true }}\n{HEAD_LATER}"), &v2)
    };
    refused(with(Covers::All), &["head of things is unique (i), also among documents without it"]);
    assert!(with(Covers::Having(vec!["head".to_owned()])).is_ok());
}

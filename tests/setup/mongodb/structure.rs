//! Validators and indexes: what they refuse, and what setup does where they look different.

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::ErrorKind;
use v1v2::setup::SetupFiles;
use v1v2::setup::mongodb::apply;

use super::super::{embedded, folder, load, said};
use super::{id, refused, setup, to, user};
use crate::support::MongoDatabase;

/// The code of the error with which a document is refused.
fn refusal(database: &MongoDatabase, collection: &str, document: Document) -> i32 {
    let error = database.insert(collection, document.clone()).expect_err(&document.to_string());
    match *error.kind {
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

fn bson_array(element: Document) -> Bson {
    Bson::Array(vec![Bson::Document(element)])
}

#[tokio::test]
async fn validators_refuse_what_is_wrong() {
    let db = MongoDatabase::new();
    setup(&db).await;
    db.insert("users", user(1, "a@example.com")).unwrap();
    let with = |field: &str, value: Bson| {
        let mut document = user(2, "b@example.com");
        document.insert(field, value);
        document
    };
    let without = |field: &str| {
        let mut document = user(2, "b@example.com");
        document.remove(field);
        document
    };
    for wrong in [
        without("email"),
        without("roles"),
        without("contact"),
        with("email", Bson::Int32(1)),
        with("phone", Bson::Null),
        with("status", Bson::String("ASLEEP".to_owned())),
        with("name", Bson::Document(doc! { "last": "B" })),
        with("createdAt", Bson::String("2020-01-01".to_owned())),
        with("roles", bson_array(doc! { "id": id(1), "roleId": id(2), "assignedAt": DateTime::now() })),
    ] {
        assert_eq!(refusal(&db, "users", wrong), 121);
    }
    // Fields of the application's own are welcome, and so are ObjectIds for what is migrated.
    let mut fine = with("nickname", Bson::Int32(1));
    fine.insert("_id", mongodb::bson::oid::ObjectId::new());
    db.insert("users", fine).unwrap();
    assert_eq!(refusal(&db, "v1v2_runs", doc! { "_id": id(1), "no": 1 }), 121);
}

#[tokio::test]
async fn unique_indexes_hold() {
    let db = MongoDatabase::new();
    setup(&db).await;
    let with = |number, email: &str, phone: Option<&str>| {
        let mut document = user(number, email);
        if let Some(phone) = phone {
            document.insert("phone", phone);
        }
        document
    };
    db.insert("users", with(1, "a@x.example", Some("+2348012345678"))).unwrap();
    assert_eq!(refusal(&db, "users", with(2, "A@X.example", None)), 11000, "letters' case does not count");
    assert_eq!(refusal(&db, "users", with(3, "c@x.example", Some("+2348012345678"))), 11000);
    for number in 4..7 {
        db.insert("users", with(number, &format!("p{number}@x.example"), None)).unwrap();
    }
    let now = DateTime::now();
    let staff = |number, employment: Option<&str>| {
        let mut document = doc! { "_id": id(number), "userId": id(number), "schoolId": id(1), "subjectIds": [],
        "createdAt": now, "updatedAt": now };
        if let Some(text) = employment {
            document.insert("employment", doc! { "number": text });
        }
        document
    };
    db.insert("teachers", staff(1, Some("7"))).unwrap();
    assert_eq!(refusal(&db, "teachers", staff(2, Some("7"))), 11000);
    db.insert("teachers", staff(3, None)).unwrap();
    db.insert("teachers", staff(4, None)).unwrap();
}

#[tokio::test]
async fn another_structure_is_refused() {
    let cases: [(Document, bool, &str); 6] = [
        (doc! { "create": "users" }, false, "users is there and has no validator"),
        (
            doc! { "create": "roles", "validator": { "a": 1 } },
            false,
            "roles is there and has another validator",
        ),
        (doc! { "create": "schools", "viewOn": "other" }, false, "schools is no ordinary collection"),
        (doc! { "collMod": "users", "validator": {} }, true, "the validator of users was changed since"),
        (
            doc! { "collMod": "users", "validationAction": "warn" },
            true,
            "the validator of users is not enforced",
        ),
        (
            doc! { "createIndexes": "users", "indexes": [{ "name": "users_email_key", "key": { "email": 1 } }] },
            true,
            "index users_email_key of users is there with another definition",
        ),
    ];
    for (change, after_setup, sentence) in cases {
        let db = MongoDatabase::new();
        if after_setup {
            setup(&db).await;
            if change.contains_key("createIndexes") {
                db.run(doc! { "dropIndexes": "users", "index": "users_email_key" });
            }
        }
        db.run(change);
        // The lock's own collection is there from the first try on.
        let look = || {
            let mut collections = db.collections();
            collections.retain(|name| name != "v1v2_lock");
            (collections, db.indexes("users"))
        };
        let before = look();
        let error = refused(&db, &SetupFiles::embedded(), false).await;
        assert_eq!(error.exit_code(), 5, "{error}");
        assert!(said(&error).contains(sentence), "{error}");
        assert_eq!(look(), before);
    }
}

#[tokio::test]
async fn what_setup_made_follows_its_files() {
    let db = MongoDatabase::new();
    setup(&db).await;
    let schools = embedded("mongodb/collections/schools.json")
        .replace(
            "\"code\": { \"bsonType\": \"string\" }",
            "\"code\": { \"bsonType\": \"string\", \"maxLength\": 9 }",
        )
        .replace(
            "\"indexes\": [",
            "\"indexes\": [\n    { \"name\": \"schools_name_idx\", \"key\": { \"name\": 1 } },",
        );
    let dir = folder(&[("mongodb/collections/schools.json", &schools)]);
    let v2 = to(db.url());
    let summary = apply(&v2, &load(dir.path()), false).await.unwrap();
    assert_eq!(summary.altered, ["validator of schools", "index schools_name_idx of schools"]);
    assert!(!apply(&v2, &load(dir.path()), false).await.unwrap().changed());
    let now = DateTime::now();
    let school = doc! { "_id": id(1), "code": "0123456789", "name": "S", "isActive": true, "createdAt": now, "updatedAt": now };
    assert_eq!(refusal(&db, "schools", school), 121);

    // An index that a bulk load took away is not made by setup; one that somebody dropped is.
    for (name, owed) in [("users_typeId_idx", false), ("users_name_idx", true)] {
        db.run(doc! { "dropIndexes": "users", "index": name });
        if owed {
            db.insert("v1v2_dropped", doc! { "_id": 1, "collection": "users", "name": name }).unwrap();
        }
    }
    let summary = apply(&v2, &load(dir.path()), false).await.unwrap();
    assert_eq!(summary.altered, ["index users_typeId_idx of users"]);
    assert!(!db.indexes("users").contains_key("users_name_idx"));
}

#[tokio::test]
async fn mistakes_in_a_collections_file_have_their_line() {
    let dir = folder(&[
        ("mongodb/collections/a.json", "{\n  \"indexes\": [\n    { \"name\": \"x\" }\n  ]\n}"),
        ("mongodb/collections/b.json", "{\n  \"index\": []\n}"),
        ("mongodb/collections/v1v2_ledger.json", "{}"),
    ]);
    let db = MongoDatabase::new();
    let error = refused(&db, &load(dir.path()), false).await;
    assert_eq!(error.exit_code(), 2);
    let text = said(&error);
    for part in
        ["a.json:3: missing field `key`", "b.json:2: unknown field `index`", "v1v2_ledger.json: a collection"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(db.collections().is_empty());
}

//! `setup` on a real MongoDB. Every test has a database of its own, and asserts on what is in it.

mod structure;

use std::sync::Arc;

use mongodb::bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype};
use v1v2::connect::{self, MongoDb};
use v1v2::settings::Settings;
use v1v2::setup::mongodb::{apply, collections, what_clean_removes};
use v1v2::setup::{SetupFiles, SetupSummary};

use super::{embedded, folder, load};
use crate::support::{MongoDatabase, Mongod, Project};

fn to(url: &str) -> Arc<Settings> {
    Arc::new(Settings { v2_url: Some(url.into()), ..Settings::default() })
}

async fn open(url: &str) -> MongoDb {
    connect::mongodb(&to(url)).await.unwrap()
}

async fn setup(database: &MongoDatabase) -> SetupSummary {
    apply(&to(database.url()), &SetupFiles::embedded(), false).await.unwrap()
}

async fn refused(database: &MongoDatabase, files: &SetupFiles, clean: bool) -> v1v2::Error {
    apply(&to(database.url()), files, clean).await.unwrap_err()
}

fn id(number: u128) -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: number.to_be_bytes().to_vec() }
}

/// An account as `migrate` would write it.
fn user(number: u128, email: &str) -> Document {
    let now = DateTime::now();
    doc! {
        "_id": id(number), "typeId": id(1), "type": "STAFF", "email": email, "emailIsPlaceholder": false,
        "username": format!("u{number}"), "mustChangePassword": true, "status": "ACTIVE", "name": { "first": "A" },
        "contact": { "phoneNeedsReview": false }, "roles": [], "createdAt": now, "updatedAt": now,
    }
}

#[tokio::test]
async fn an_empty_database_gets_everything() {
    let db = MongoDatabase::new();
    let summary = setup(&db).await;
    assert!(summary.changed());
    assert_eq!((summary.created.len(), summary.database.as_str()), (15, db.name()));
    for (collection, count) in [("userTypes", 5), ("roles", 12), ("gradeSystems", 7), ("curriculums", 8)] {
        assert_eq!(db.count(collection, doc! {}), count, "{collection}");
    }
    // The same data as in Postgres, with arrays for link tables and every reference leading somewhere.
    let held = db.one("roles", doc! { "code": "LIBRARIAN" }).get_array("permissionIds").unwrap().clone();
    let codes: Vec<String> = db
        .find("permissions", doc! { "_id": { "$in": held } })
        .iter()
        .map(|of| of.get_str("code").unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 7);
    assert!(codes.contains(&"LIBRARY.CREATE".to_owned()), "{codes:?}");
    let level = db.one("gradeLevels", doc! { "code": "GB-Y7" });
    let system = db.one("gradeSystems", doc! { "_id": level.get("gradeSystemId").unwrap() });
    assert_eq!((system.get_str("code").unwrap(), level.get_str("name").unwrap()), ("GB", "Year 7"));
    assert!(level.get_datetime("createdAt").is_ok() && level.get_datetime("updatedAt").is_ok());
    assert_eq!(db.count("roles", doc! { "userTypeId": { "$exists": false } }), 1);
    assert_eq!(db.one("v1v2_meta", doc! { "_id": "control_version" }).get_str("value").unwrap(), "1");
    assert!(!db.collections().contains(&"rolePermissions".to_owned()));

    let indexes = db.indexes("users");
    assert_eq!(indexes["users_email_key"].get_document("collation").unwrap().get_i32("strength").unwrap(), 2);
    assert!(indexes["users_phone_key"].contains_key("partialFilterExpression"));
    assert_eq!(db.indexes("v1v2_ledger").len(), 2);
}

#[tokio::test]
async fn a_second_setup_writes_nothing() {
    let db = MongoDatabase::new();
    setup(&db).await;
    // Time stamps included: nothing at all is written.
    let before = db.digest(&[]);
    let summary = setup(&db).await;
    assert!(!summary.changed(), "{summary:?}");
    assert_eq!(db.digest(&[]), before);
    // Another empty database gets the same but for the time.
    let other = MongoDatabase::new();
    setup(&other).await;
    assert_eq!(other.digest(&["*.createdAt", "*.updatedAt"]), db.digest(&["*.createdAt", "*.updatedAt"]));
}

#[tokio::test]
async fn only_what_differs_is_written_and_own_documents_stay() {
    let db = MongoDatabase::new();
    setup(&db).await;
    let bursar = db.one("roles", doc! { "code": "BURSAR" });
    let update = |filter: Document, set: Document| {
        db.run(doc! { "update": "roles", "updates": [{ "q": filter, "u": set }] });
    };
    update(doc! { "code": "BURSAR" }, doc! { "$set": { "name": "Edited", "ours": 1, "isSystem": false } });
    db.run(doc! { "delete": "subjects", "deletes": [{ "q": { "code": "LAT" }, "limit": 1 }] });
    let mut own = db.one("subjects", doc! { "code": "ENG" });
    own.insert("_id", id(9));
    own.insert("code", "KLI");
    db.insert("subjects", own).unwrap();
    // The same number written as a double is the same.
    let steps = doc! { "$set": { "sequence": 10.0 } };
    db.run(doc! { "collMod": "permissionModules", "validationLevel": "off" });
    db.run(doc! { "update": "permissionModules", "updates": [{ "q": { "code": "PLATFORM" }, "u": steps }] });
    db.run(doc! { "collMod": "permissionModules", "validationLevel": "strict" });

    let summary = setup(&db).await;
    let of = |name: &str| summary.tables.iter().find(|of| of.table == name).unwrap();
    assert_eq!((of("roles").inserted, of("roles").updated, of("roles").unchanged), (0, 1, 11));
    assert_eq!((of("subjects").inserted, of("subjects").others), (1, 1));
    assert_eq!(of("permissionModules").updated, 0);
    let again = db.one("roles", doc! { "code": "BURSAR" });
    assert_eq!(again.get_str("name").unwrap(), bursar.get_str("name").unwrap());
    assert_eq!((again.get("_id"), again.get_i32("ours").unwrap()), (bursar.get("_id"), 1));
    assert!(again.get_datetime("updatedAt").unwrap() > bursar.get_datetime("updatedAt").unwrap());
    assert_eq!(again.get("createdAt"), bursar.get("createdAt"));
    assert_eq!(db.count("subjects", doc! { "code": { "$in": ["LAT", "KLI"] } }), 2);
}

#[tokio::test]
async fn an_edited_file_updates_and_ids_stay() {
    let db = MongoDatabase::new();
    setup(&db).await;
    let before = db.one("roles", doc! { "code": "BURSAR" });
    let nurse = db.one("roles", doc! { "code": "NURSE" });
    // A code is renamed, a description taken away, a permission given.
    let roles = embedded("reference/roles.csv").replace(",BURSAR,", ",TREASURER,");
    let emptied: String = roles
        .lines()
        .map(|line| match line.split_once(",School nurse,") {
            Some((start, _)) => format!("{start},School nurse,\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let links = embedded("reference/role_permissions.csv").replace("BURSAR,", "TREASURER,")
        + "NURSE,LIBRARY.CREATE\n";
    let dir = folder(&[("reference/roles.csv", &emptied), ("reference/role_permissions.csv", &links)]);
    let summary = apply(&to(db.url()), &load(dir.path()), false).await.unwrap();
    assert_eq!((summary.tables[3].inserted, summary.tables[3].updated), (0, 2));
    let after = db.one("roles", doc! { "code": "TREASURER" });
    assert_eq!(after.get("_id"), before.get("_id"));
    assert_eq!(db.count("roles", doc! { "code": "BURSAR" }), 0);
    let changed = db.one("roles", doc! { "code": "NURSE" });
    assert!(nurse.contains_key("description") && !changed.contains_key("description"));
    let held = |of: &Document| of.get_array("permissionIds").unwrap().len();
    assert_eq!(held(&changed), held(&nurse) + 1);

    // An id is changed: refused, other documents may point at it.
    let moved = embedded("reference/user_types.csv").replace("2,STAFF", "22,STAFF");
    let dir = folder(&[("reference/user_types.csv", &moved)]);
    let error = refused(&db, &load(dir.path()), false).await;
    assert_eq!(error.exit_code(), 5);
    assert!(error.message().contains("user_types.csv:4: the file's id becomes"), "{error}");
}

#[tokio::test]
async fn a_failure_leaves_the_data_as_it_was() {
    // The database finds this one: two levels of a system cannot share a place in the order.
    let levels = "id,code,gradeSystem,sequence,typicalAge,name\n1,A,NG,1,6,One\n2,B,NG,1,7,Two\n";
    let dir = folder(&[("reference/grade_levels.csv", levels)]);
    let db = MongoDatabase::new();
    let error = refused(&db, &load(dir.path()), false).await;
    assert_eq!(error.exit_code(), 1);
    assert!(error.message().contains("grade_levels.csv:3"), "{error}");
    assert!(error.message().contains("gradeLevels_gradeSystemId_sequence_key"), "{error}");
    assert_eq!(db.count("userTypes", doc! {}), 0, "one transaction");
    // What it had made before is its own: the next setup goes on.
    assert!(setup(&db).await.created.is_empty());
    assert_eq!(db.count("userTypes", doc! {}), 5);
}

#[tokio::test]
async fn clean_removes_exactly_what_setup_made() {
    let db = MongoDatabase::new();
    assert!(what_clean_removes(&open(db.url()).await).await.unwrap().is_empty());
    db.insert("mine", doc! { "_id": 1 }).unwrap();
    setup(&db).await;
    let before = db.digest(&["*.createdAt", "*.updatedAt"]);
    db.insert("users", user(1, "a@example.com")).unwrap();
    db.insert("v1v2_ledger", doc! { "_id": { "e": "a", "k": "b" } }).unwrap();

    let v2 = open(db.url()).await;
    let plan = what_clean_removes(&v2).await.unwrap();
    assert_eq!(plan.database, db.name());
    let of = |name: &str| plan.tables.iter().find(|of| of.name == name).map(|of| of.rows);
    assert_eq!((of("users"), of("v1v2_ledger"), of("mine")), (Some(1), Some(1), None));
    let summary = apply(&to(db.url()), &SetupFiles::embedded(), true).await.unwrap();
    assert_eq!(summary.removed, plan.tables.len());
    assert_eq!(db.digest(&["*.createdAt", "*.updatedAt"]), before);
}

#[tokio::test]
async fn clean_refuses_what_others_depend_on_and_takes_over_from_the_dead() {
    let db = MongoDatabase::new();
    setup(&db).await;
    db.run(doc! { "create": "people", "viewOn": "users", "pipeline": [] });
    let error = refused(&db, &SetupFiles::embedded(), true).await;
    assert_eq!(error.exit_code(), 5);
    assert!(error.more().unwrap().contains("view people depends on users"), "{error}");
    db.run(doc! { "drop": "people" });

    // A holder that died is no holder.
    let dead = doc! { "_id": "run", "application": "v1v2 run 1", "holder": "run 1 on host a", "beat": 0_i64 };
    db.insert("v1v2_lock", dead).unwrap();
    apply(&to(db.url()), &SetupFiles::embedded(), true).await.unwrap();
    assert_eq!(db.count("v1v2_lock", doc! {}), 0);
}

#[tokio::test]
async fn a_folder_replaces_everything() {
    let mut files: Vec<(String, String)> = vec![
        (
            "reference/manifest.toml".to_owned(),
            "[[table]]\nfile = 'colours.csv'\ntable = 'colour'\ncollection = 'colours'\nkey = ['name']\nid = 'id'\n\
             [table.columns]\nid = 'text'\nname = 'text'\nweight = { type = 'integer', optional = true }\n"
                .to_owned(),
        ),
        (
            "reference/colours.csv".to_owned(),
            "id,name,weight\n018f0000-0000-7000-8000-000000000001,red,5000000000\nb,blue,\n".to_owned(),
        ),
        ("mongodb/collections/shades.json".to_owned(), "{ \"indexes\": [] }".to_owned()),
    ];
    let built_in = SetupFiles::embedded();
    for spec in collections(&built_in, &built_in.reference().unwrap()).unwrap() {
        files.push((format!("mongodb/collections/{}.json", spec.name), String::new()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let dir = folder(&files);
    let db = MongoDatabase::new();
    let summary = apply(&to(db.url()), &load(dir.path()), false).await.unwrap();
    assert_eq!(summary.created, ["shades", "colours"]);
    let red = db.one("colours", doc! { "name": "red" });
    // An id that is a uuid stays one; a number that needs 64 bits gets them.
    assert_eq!(red.get("_id"), Some(&Bson::Binary(id(0x018f_0000_0000_7000_8000_0000_0000_0001))));
    assert_eq!(red.get_i64("weight").unwrap(), 5_000_000_000);
    assert!(!db.one("colours", doc! { "name": "blue" }).contains_key("weight"));
    assert!(db.indexes("colours")["colours_name_key"].get_bool("unique").unwrap());
}

/// From nothing: there is no collection of locks yet.
#[tokio::test]
async fn of_two_setups_at_once_one_is_refused() {
    let db = MongoDatabase::new();
    let (one, two, files) = (to(db.url()), to(db.url()), SetupFiles::embedded());
    let (one, two) = tokio::join!(apply(&one, &files, false), apply(&two, &files, false));
    match (one, two) {
        (Ok(summary), Err(refused)) | (Err(refused), Ok(summary)) => {
            assert_eq!(summary.created.len(), 15);
            assert_eq!(refused.exit_code(), 5);
            assert!(refused.message().contains("in use by another run: `setup` of "), "{refused}");
        }
        // On a slow machine one may be done before the other asks.
        (Ok(one), Ok(two)) => assert_eq!(one.created.len() + two.created.len(), 15),
        other => panic!("{other:?}"),
    }
    assert_eq!(db.count("v1v2_lock", doc! {}), 0);
    assert!(!setup(&db).await.changed());
}

#[tokio::test]
async fn a_transaction_that_is_disturbed_is_done_again() {
    let server = Mongod::replica_set(1);
    let url = server.url("school");
    let v2 = open(&url).await;
    let files = SetupFiles::embedded();
    apply(&to(&url), &files, false).await.unwrap();
    v2.database.collection::<Document>("subjects").delete_many(doc! {}).await.unwrap();
    let lost = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
    server.fail_command(doc! { "times": 3 }, lost);
    let summary = apply(&to(&url), &files, false).await.unwrap();
    let loaded = v2.database.collection::<Document>("subjects").count_documents(doc! {}).await.unwrap();
    assert_eq!(summary.tables.last().unwrap().inserted, loaded);
    v2.database.collection::<Document>("subjects").delete_many(doc! {}).await.unwrap();
    let conflict = doc! {
        "failCommands": ["insert"], "namespace": "school.subjects",
        "errorCode": 112, "errorLabels": ["TransientTransactionError"],
    };
    server.fail_command(doc! { "times": 2 }, conflict);
    let summary = apply(&to(&url), &files, false).await.unwrap();
    assert_eq!(summary.tables.last().unwrap().inserted, loaded);
}

#[test]
fn the_program_asks_before_it_cleans() {
    let db = MongoDatabase::new();
    let project = Project::new().env("V2_DATABASE_URL", db.url());
    let outcome = project.run(&["setup"]).expect(0);
    assert!(outcome.stdout.contains("15 collections created"), "{}", outcome.stdout);
    assert!(project.run(&["setup"]).expect(0).stdout.contains("nothing was changed"));
    db.insert("users", user(1, "a@example.com")).unwrap();

    // Nobody is there to type the name.
    let outcome = project.run(&["setup", "--clean"]).expect(2);
    assert!(outcome.stderr.contains("--force"), "{}", outcome.stderr);
    assert_eq!(db.count("users", doc! {}), 1);
    project.run(&["setup", "--clean", "--force"]).expect(0);
    assert_eq!(db.count("users", doc! {}), 0);
}

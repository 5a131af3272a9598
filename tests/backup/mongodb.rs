//! MongoDB, there and back.

use mongodb::Client;
use mongodb::bson::raw::{CString, RawDocumentBuf};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc, oid::ObjectId,
};
use tempfile::TempDir;

use super::{create, folders, project, restore};
use crate::support::{MongoDatabase, Mongod};

/// All that must come back: collections and views with options, indexes, and the bytes of all documents.
pub(super) fn everything(database: &MongoDatabase) -> Vec<String> {
    let list = database.run(doc! { "listCollections": 1 });
    let list = list.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let mut found = Vec::new();
    for collection in list.iter().map(|collection| collection.as_document().unwrap()) {
        let name = collection.get_str("name").unwrap();
        if name.starts_with("system.views") {
            continue;
        }
        let (kind, options) =
            (collection.get_str("type").unwrap(), collection.get_document("options").unwrap());
        found.push(format!("{name} {kind} {options}"));
        if kind == "collection" {
            found.extend(database.indexes(name).values().map(|index| format!("{name} index {index}")));
            found.extend(raw(database, name).iter().map(|bytes| format!("{name} {bytes:?}")));
        }
    }
    found.sort();
    found
}

/// The bytes of all documents of a collection, in its natural order.
fn raw(database: &MongoDatabase, name: &str) -> Vec<Vec<u8>> {
    let (url, database, name) = (database.url().to_owned(), database.name().to_owned(), name.to_owned());
    asynchronously(async move {
        let client = Client::with_uri_str(url).await.unwrap();
        let mut cursor =
            client.database(&database).collection::<RawDocumentBuf>(&name).find(doc! {}).await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            found.push(cursor.current().as_bytes().to_vec());
        }
        found
    })
}

pub(super) fn insert_raw(database: &MongoDatabase, name: &str, documents: Vec<RawDocumentBuf>) {
    let (url, database, name) = (database.url().to_owned(), database.name().to_owned(), name.to_owned());
    asynchronously(async move {
        let client = Client::with_uri_str(url).await.unwrap();
        client.database(&database).collection::<RawDocumentBuf>(&name).insert_many(documents).await.unwrap();
    });
}

fn asynchronously<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
}

/// A value of every BSON type, in an order that no alphabet has, and a document with one key twice.
fn every_type() -> Vec<RawDocumentBuf> {
    let binary = |subtype| Bson::Binary(Binary { subtype, bytes: vec![0, 1, 255] });
    let mut odd = RawDocumentBuf::new();
    for (key, value) in [("_id", 2), ("z", 1), ("a", 2), ("z", 3)] {
        odd.append(CString::try_from(key).unwrap(), value);
    }
    let scope = doc! { "z": 1, "a": 2.0 };
    let all = doc! {
        "_id": 1, "double": -0.0, "nan": f64::NAN, "infinite": f64::INFINITY, "text": "ä\u{0}\u{1F600}", "object": { "z": 1, "a": {} },
        "array": [1_i64, "x", [], Bson::Null], "generic": binary(BinarySubtype::Generic), "old": binary(BinarySubtype::BinaryOld),
        "uuid": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] }), "md5": Bson::Binary(Binary { subtype: BinarySubtype::Md5, bytes: vec![7; 16] }),
        "own": binary(BinarySubtype::UserDefined(0x81)), "undefined": Bson::Undefined, "id": ObjectId::from_bytes([9; 12]),
        "no": false, "date": DateTime::from_millis(-62_135_596_800_001), "late": DateTime::from_millis(i64::MAX), "null": Bson::Null,
        "regex": Bson::RegularExpression(Regex { pattern: "^a/b".try_into().unwrap(), options: "ix".try_into().unwrap() }),
        "code": Bson::JavaScriptCode("f()".into()), "symbol": Bson::Symbol("s".into()),
        "scoped": Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code: "g()".into(), scope }),
        "int": i32::MIN, "time": Timestamp { time: 7, increment: 3 }, "long": i64::MAX,
        "decimal": Bson::Decimal128("1.000E+6".parse().unwrap()), "min": Bson::MinKey, "max": Bson::MaxKey, "a": "last", "": "empty",
    };
    vec![RawDocumentBuf::try_from(&all).unwrap(), odd]
}

/// A database with everything that a collection can be.
pub(super) fn fill(v2: &MongoDatabase) {
    v2.run(doc! { "create": "strict", "validator": { "$jsonSchema": { "required": ["z", "a"] } }, "validationLevel": "strict", "validationAction": "error" });
    v2.run(doc! { "insert": "strict", "documents": [{ "_id": 1, "old": true }], "bypassDocumentValidation": true });
    v2.run(doc! { "create": "capped", "capped": true, "size": 1 << 16, "max": 100 });
    v2.run(doc! { "insert": "capped", "documents": [{ "_id": 3 }, { "_id": 1 }, { "_id": 2 }] });
    v2.run(doc! { "create": "collated", "collation": { "locale": "de", "strength": 2 } });
    v2.run(doc! { "insert": "collated", "documents": [{ "_id": "A", "n": 1 }, { "_id": "b", "n": 2 }] });
    v2.run(doc! { "create": "empty" });
    v2.run(doc! { "create": "odd name/with.dots é" });
    v2.run(doc! { "insert": "odd name/with.dots é", "documents": [{ "_id": 1 }] });
    v2.run(doc! { "create": "view", "viewOn": "strict", "pipeline": [{ "$match": { "z": { "$gt": 1 }, "a": 1 } }] });
    v2.run(doc! { "createIndexes": "strict", "indexes": [
        { "key": { "z": 1, "a": -1 }, "name": "z_a", "unique": true, "partialFilterExpression": { "z": { "$exists": true } } },
        { "key": { "t": "text" }, "name": "words", "weights": { "t": 3 }, "default_language": "german" },
        { "key": { "at": 1 }, "name": "later", "expireAfterSeconds": 1 << 30 },
        { "key": { "$**": 1 }, "name": "wild", "wildcardProjection": { "secret": 0 } },
        { "key": { "h": "hashed" }, "name": "hash" }, { "key": { "p": "2dsphere" }, "name": "place", "sparse": true },
        { "key": { "c": 1 }, "name": "case", "collation": { "locale": "en", "strength": 1 }, "hidden": true },
    ] });
    insert_raw(v2, "types", every_type());
    let many: Vec<Document> =
        (0..25_000).rev().map(|n| doc! { "_id": n, "text": "x".repeat(n as usize % 300) }).collect();
    let raw = many.iter().map(|document| RawDocumentBuf::try_from(document).unwrap()).collect();
    insert_raw(v2, "many", raw);
    v2.run(doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } });
    v2.run(doc! { "insert": "clustered", "documents": [{ "_id": 9 }, { "_id": 4 }] });
}

#[test]
fn every_kind_of_collection_and_value_comes_back_the_same() {
    let v2 = MongoDatabase::new();
    fill(&v2);
    let before = everything(&v2);
    let backups = TempDir::new().unwrap();
    let backup = create(&project(v2.url(), backups.path()), backups.path());
    assert_eq!(everything(&v2), before, "a backup changes nothing");
    let other = MongoDatabase::new();
    let elsewhere = project(other.url(), backups.path());
    restore(&elsewhere, &backup, &[], 0);
    assert!(everything(&other) == before);

    other.run(doc! { "drop": "many" });
    other.run(doc! { "create": "mine" });
    let refused = restore(&elsewhere, &backup, &[], 5);
    assert!(refused.stderr.contains("not empty") && refused.stderr.contains("--clean"), "{}", refused.stderr);
    let asked = restore(&elsewhere, &backup, &["--clean"], 2);
    assert!(asked.stderr.contains("--force"), "{}", asked.stderr);
    assert!(other.collections().contains(&"mine".to_owned()));
    restore(&elsewhere, &backup, &["--clean", "--force"], 0);
    assert!(everything(&other) == before);
}

#[test]
fn a_time_series_is_refused() {
    let v2 = MongoDatabase::new();
    v2.run(doc! { "create": "weather", "timeseries": { "timeField": "at" } });
    let backups = TempDir::new().unwrap();
    let refused = project(v2.url(), backups.path()).run(&["backup", "create"]).expect(5);
    assert!(refused.stderr.contains("weather is a time series"), "{}", refused.stderr);
    assert!(folders(backups.path()).is_empty());
}

#[test]
fn all_collections_are_of_one_moment() {
    let v2 = MongoDatabase::new();
    let rows: Vec<Document> = (0..20_000).map(|n| doc! { "_id": n, "text": "x".repeat(200) }).collect();
    v2.run(doc! { "insert": "a", "documents": rows });
    v2.run(doc! { "insert": "b", "documents": [{ "_id": 0 }] });
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let mut running = project.spawn(&["backup", "create"]);
    assert!(running.wait_until(|_| !folders(backups.path()).is_empty()));
    // Behind the moment: in no collection of the backup, though b is read after it.
    v2.run(doc! { "insert": "b", "documents": [{ "_id": 1 }] });
    v2.run(doc! { "delete": "a", "deletes": [{ "q": {}, "limit": 0 }] });
    running.wait().expect(0);
    let other = MongoDatabase::new();
    let backup = folders(backups.path()).remove(0);
    restore(&super::project(other.url(), backups.path()), &backup, &[], 0);
    assert_eq!((other.count("a", doc! {}), other.count("b", doc! {})), (20_000, 1));
}

#[test]
fn a_moment_that_the_server_forgot_is_told() {
    let server = Mongod::replica_set(1);
    let v2 = MongoDatabase::on(&server, "school");
    v2.run(doc! { "insert": "a", "documents": [{ "_id": 1 }] });
    server.fail_command(
        doc! { "times": 1 },
        doc! { "failCommands": ["find"], "errorCode": 239, "appName": "v1v2" },
    );
    let backups = TempDir::new().unwrap();
    let failed = project(v2.url(), backups.path()).run(&["backup", "create"]).expect(1);
    assert!(failed.stderr.contains("minSnapshotHistoryWindowInSeconds"), "{}", failed.stderr);
    assert!(folders(backups.path()).is_empty(), "nothing half made is left");
}

#[test]
fn killed_while_it_is_made_and_while_it_is_restored() {
    let v2 = MongoDatabase::new();
    let rows =
        (0..40_000).map(|n| RawDocumentBuf::try_from(&doc! { "_id": n, "text": "x".repeat(500) }).unwrap());
    insert_raw(&v2, "a", rows.collect());
    let backups = TempDir::new().unwrap();
    let project = project(v2.url(), backups.path());
    let mut running = project.spawn(&["backup", "create"]);
    assert!(running.wait_until(|_| !folders(backups.path()).is_empty()));
    assert!(running.signal("KILL"));
    assert_eq!(running.wait().signal(), Some(9));
    let listed = project.run(&["backup", "list"]).expect(0);
    assert!(listed.stdout.contains("partial"), "{}", listed.stdout);
    project.run(&["backup", "verify"]).expect(2);
    let backup = create_second(&project, backups.path());

    let other = MongoDatabase::new();
    let elsewhere = super::project(other.url(), backups.path());
    let mut running = elsewhere.spawn(&["backup", "restore", backup.to_str().unwrap()]);
    assert!(running.wait_until(|_| other.count("a", doc! {}) > 0));
    assert!(running.signal("KILL"));
    assert_eq!(running.wait().signal(), Some(9));
    let refused = restore(&elsewhere, &backup, &[], 5);
    assert!(
        refused.stderr.contains("interrupted restore") && refused.stderr.contains("--clean"),
        "{}",
        refused.stderr
    );
    elsewhere.run(&["backup", "create"]).expect(5);
    restore(&elsewhere, &backup, &["--clean", "--force"], 0);
    assert!(everything(&other) == everything(&v2));
}

/// The complete one beside the partial one.
fn create_second(project: &crate::support::Project, backups: &std::path::Path) -> std::path::PathBuf {
    project.run(&["backup", "create"]).expect(0);
    folders(backups).into_iter().find(|path| !path.to_string_lossy().ends_with(".partial")).unwrap()
}

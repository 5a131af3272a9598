//! Definitions against a real MongoDB: what validators, indexes and privileges say there.

use std::sync::atomic::{AtomicU32, Ordering};

use mongodb::bson::{Document, Uuid, doc};
use mongodb::{Client, Database};
use v1v2::definition::Definitions;
use v1v2::plan::{
    BsonKind, Column, Entity, Fill, Ids, KeyFrom, Lookup, Missing, Plan, When, compile_mongodb,
};

use super::{Pair, V1_SCHEMA, block};
use crate::support::servers::Server;

/// V1 and a MongoDB database of one test; dropped at its end, left for a look when it fails.
struct Databases {
    pair: Pair,
    v2: Database,
}

impl Databases {
    async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("check_v2_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let client = Client::with_uri_str(Server::MongoDb.url()).await.unwrap();
        Self { pair: Pair::new(V1_SCHEMA, "select 1").await, v2: client.database(&name) }
    }

    /// Collections with validators and indexes, and one row of each kind of reference data.
    async fn school() -> Self {
        let this = Self::new().await;
        for (name, required) in [
            ("users", &["typeId", "type", "email", "name", "contact", "status", "roles", "createdAt"][..]),
            ("schools", &["code", "name", "isActive"]),
            ("teachers", &["userId", "schoolId", "subjectIds"]),
            ("parents", &["userId", "schoolIds"]),
            ("students", &["userId", "schoolId", "admissionNo", "guardians"]),
        ] {
            this.collection(name, validator(name, required)).await;
        }
        this.index("users", doc! { "email": 1 }, doc! { "collation": { "locale": "en", "strength": 2 } })
            .await;
        let there = |field: &str| doc! { "partialFilterExpression": { field: { "$exists": true } } };
        this.index("users", doc! { "phone": 1 }, there("phone")).await;
        this.index("teachers", doc! { "schoolId": 1, "employment.number": 1 }, there("employment.number"))
            .await;
        this.index("students", doc! { "schoolId": 1, "admissionNo": 1 }, doc! {}).await;
        for (name, codes) in [
            ("userTypes", &["ADMIN", "STAFF", "GUARDIAN", "LEARNER"][..]),
            ("roles", &["SCHOOL_ADMIN", "TEACHER", "PARENT", "STUDENT"]),
            ("gradeSystems", &["NG"]),
            ("gradeLevels", &["NG-PRI1"]),
            ("curriculums", &["NERDC"]),
            ("classLevels", &["NERDC-PRIMARY"]),
            ("subjects", &["ENG"]),
        ] {
            this.index(name, doc! { "code": 1 }, doc! {}).await;
            let documents = codes.iter().map(|code| doc! { "_id": Uuid::new(), "code": code });
            this.v2.collection::<Document>(name).insert_many(documents).await.unwrap();
        }
        this
    }

    async fn collection(&self, name: &str, schema: Document) {
        let command = doc! { "create": name, "validator": { "$jsonSchema": schema } };
        self.v2.run_command(command).await.unwrap();
    }

    async fn index(&self, collection: &str, key: Document, options: Document) {
        let name = key.keys().cloned().collect::<Vec<_>>().join("_");
        let mut index = doc! { "name": name, "key": key, "unique": true };
        index.extend(options);
        self.v2.run_command(doc! { "createIndexes": collection, "indexes": [index] }).await.unwrap();
    }

    async fn compile(&mut self, definitions: &Definitions) -> v1v2::Result<Plan> {
        compile_mongodb(definitions, &mut self.pair.v1, &self.v2).await
    }

    async fn drop(self) {
        self.v2.drop().await.unwrap();
        self.pair.drop().await;
    }
}

/// What the built-in definitions must be able to live with: objects that are closed, and exact types.
fn validator(name: &str, required: &[&str]) -> Document {
    let mut properties = match name {
        "users" => doc! {
            "status": { "enum": ["ACTIVE", "LOCKED", "PENDING"] },
            "name": { "bsonType": "object", "required": ["first"], "additionalProperties": false, "properties": {
                "title": {}, "first": { "bsonType": "string" }, "middle": {}, "last": {}, "suffix": {},
            } },
            "contact": { "bsonType": "object", "required": ["phoneNeedsReview"] },
            "roles": { "bsonType": "array", "items": {
                "bsonType": "object",
                "required": ["id", "roleId", "role", "assignedAt"],
                "properties": { "schoolId": { "bsonType": ["binData", "objectId"] }, "assignedAt": { "bsonType": "date" } },
            } },
        },
        "teachers" => doc! {
            "sex": { "enum": ["MALE", "FEMALE"] },
            "subjectIds": { "bsonType": "array", "items": { "bsonType": "binData" } },
            "employment": { "bsonType": "object", "properties": { "hiredAt": { "bsonType": "date" } } },
        },
        "students" => doc! {
            "guardians": { "bsonType": "array", "items": {
                "required": ["id", "relation", "isPrimary"], "additionalProperties": false,
                "properties": { "id": {}, "relation": { "bsonType": "string" }, "isPrimary": { "bsonType": "bool" } },
            } },
        },
        _ => doc! {},
    };
    properties.insert("_id", doc! { "bsonType": ["binData", "objectId"] });
    doc! { "bsonType": "object", "required": required, "properties": properties }
}

fn entity<'p>(plan: &'p Plan, name: &str) -> &'p Entity {
    plan.entities.iter().find(|entity| &*entity.name == name).unwrap()
}

/// Collection, array and number of rows of each write.
fn writes(entity: &Entity) -> Vec<(&str, Option<&str>, When)> {
    let of = |write: &'_ v1v2::plan::Write| write.when;
    entity
        .writes
        .iter()
        .map(|write| (write.table.name.as_str(), write.inside.as_deref(), of(write)))
        .collect()
}

fn field<'p>(entity: &'p Entity, write: usize, name: &str) -> &'p Column {
    entity.writes[write].columns.iter().find(|column| column.name == name).unwrap()
}

fn kind<'p>(entity: &'p Entity, write: usize, name: &str) -> &'p BsonKind {
    &field(entity, write, name).bson.as_ref().unwrap().kind
}

#[tokio::test]
async fn built_in_definitions_compile() {
    let mut databases = Databases::school().await;
    let definitions = Definitions::load(None).unwrap();
    let plan = databases.compile(&definitions).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.notes, Vec::<String>::new());
    let accounts = plan.accounts.as_ref().unwrap();
    assert_eq!((accounts.table.schema.as_str(), accounts.table.name.as_str()), ("", "users"));
    assert_eq!((accounts.id_column.as_str(), accounts.ids), ("_id", Ids::Uuid8));
    assert_eq!(accounts.phone_column.as_deref(), Some("phone"), "the login phone, not the contact's");
    assert_eq!(accounts.password_column.as_deref(), Some("passwordHash"));

    let students = entity(&plan, "students");
    let column = |name: &str| students.source.columns.iter().position(|column| column.name == name).unwrap();
    let guardians = When::Each(column("guardian_ids"));
    assert_eq!(
        writes(students),
        [
            ("users", None, When::Account),
            ("students", None, When::Row),
            ("students", Some("guardians"), guardians),
            ("users", Some("roles"), When::Role)
        ]
    );
    assert_eq!(*kind(students, 0, "createdAt"), BsonKind::Date);
    assert_eq!(*kind(students, 0, "contact.phoneNeedsReview"), BsonKind::Bool);
    assert_eq!(*kind(students, 1, "sex"), BsonKind::Text);
    assert_eq!(*kind(students, 2, "isPrimary"), BsonKind::Bool);
    assert_eq!(*kind(students, 3, "schoolId"), BsonKind::Uuid);
    let unique: Vec<&str> = students.writes[1].uniques.iter().map(|unique| unique.name.as_str()).collect();
    assert_eq!(unique, ["_id_", "schoolId_admissionNo"]);

    let teachers = entity(&plan, "teachers");
    let codes = teachers.source.columns.iter().position(|column| column.name == "subject_codes").unwrap();
    let subjects = field(teachers, 1, "subjectIds");
    assert_eq!(subjects.bson.as_ref().unwrap().kind, BsonKind::Array(Box::new(BsonKind::Uuid)));
    let Fill::Lookup { lookup, key: KeyFrom::Elements(key), missing: Missing::Skip } = subjects.fill else {
        panic!("{:?}", subjects.fill)
    };
    assert_eq!(key, codes);
    let Lookup { table, by, id } = &plan.lookups[lookup];
    assert_eq!((table.name.as_str(), by.as_str(), id.as_str()), ("subjects", "code", "_id"));
    assert_eq!(teachers.writes[1].uniques.len(), 2, "the partial one counts, as nothing absent is written");

    // With ObjectIds, also where an account's scope points.
    let texts: Vec<(String, String)> = definitions
        .files
        .iter()
        .map(|file| {
            let text = file.text.replace("\nentity = ", "\nids = \"objectid\"\nentity = ");
            let name = file.label.split(' ').next().unwrap().to_owned();
            (name, text.replace("phone_region = ", "ids = \"objectid\"\nphone_region = "))
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let with_object_ids = Definitions::from_texts(&texts);
    let plan = databases.compile(&with_object_ids).await.unwrap_or_else(|error| panic!("{error}"));
    let teachers = entity(&plan, "teachers");
    for (write, name) in [(0, "_id"), (1, "_id"), (1, "userId"), (1, "schoolId"), (2, "schoolId")] {
        assert_eq!(*kind(teachers, write, name), BsonKind::ObjectId, "{name} of write {write}");
    }
    assert_eq!(*kind(teachers, 2, "id"), BsonKind::Uuid);
    databases.drop().await;
}

#[tokio::test]
async fn every_problem_at_once() {
    let mut databases = Databases::school().await;
    let change = |name: &str, from: &str, to: &str, files: &mut Vec<(String, String)>| {
        let file = files.iter_mut().find(|file| file.0 == name).unwrap();
        assert!(file.1.contains(from), "{from}");
        file.1 = file.1.replace(from, to);
    };
    let definitions = Definitions::load(None).unwrap();
    let mut files: Vec<(String, String)> = definitions
        .files
        .iter()
        .map(|file| (file.label.split(' ').next().unwrap().to_owned(), file.text.clone()))
        .collect();
    change("accounts.toml", "\"name.first\"               =", "\"name.given\" =", &mut files);
    change("accounts.toml", "assignedAt = { now = true }\n", "", &mut files);
    change("parents.toml", "role       = \"PARENT\"", "role       = \"PARENTS\"", &mut files);
    change("parents.toml", "collection = \"parents\"", "collection = \"parent\"", &mut files);
    change("teachers.toml", "\"subjects\", by = \"code\"", "\"subjects\", by = \"name\"", &mut files);
    change(
        "teachers.toml",
        "\"employment.hiredAt\" = \"hire_date\"",
        "\"employment.hiredAt\" = \"name\"",
        &mut files,
    );
    change("students.toml", "isPrimary = { each", "primary = { each", &mut files);
    change("schools.toml", "isActive             = \"is_active\"\n", "", &mut files);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let error = databases.compile(&Definitions::from_texts(&files)).await.expect_err("must not compile");
    assert_eq!(error.exit_code(), 2);
    insta::assert_snapshot!(error.more().unwrap());
    databases.drop().await;
}

#[tokio::test]
async fn the_documentation_s_example_compiles() {
    let text = include_str!("../../docs/definitions.md");
    let mut databases = Databases::new().await;
    databases.pair.drop().await;
    databases.pair = Pair::new(block(text, "sql", "V1"), "select 1").await;
    for collection in ["people", "readers", "loans"] {
        databases.collection(collection, doc! {}).await;
    }
    databases.index("kinds", doc! { "code": 1 }, doc! {}).await;
    let kinds = databases.v2.collection::<Document>("kinds");
    kinds
        .insert_many([doc! { "_id": 1, "code": "READER" }, doc! { "_id": 2, "code": "LIBRARIAN" }])
        .await
        .unwrap();
    let files = ["accounts.toml", "loans.toml", "readers.toml"].map(|name| (name, block(text, "toml", name)));
    let plan =
        databases.compile(&Definitions::from_texts(&files)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.notes, Vec::<String>::new());
    let (readers, loans) = (entity(&plan, "readers"), entity(&plan, "loans"));
    assert!(field(readers, 0, "name.family").bson.as_ref().unwrap().null);
    assert_eq!(*kind(readers, 2, "kindId"), BsonKind::Int, "as the reference data has it");
    let titles = loans.source.columns.iter().position(|column| column.name == "titles").unwrap();
    assert_eq!(writes(loans), [("loans", None, When::Row), ("loans", Some("items"), When::Each(titles))]);
    databases.drop().await;
}

#[tokio::test]
async fn an_empty_database_is_one_problem() {
    let mut databases = Databases::new().await;
    let error = databases.compile(&Definitions::load(None).unwrap()).await.expect_err("V2 is empty");
    assert!(error.message().starts_with("1 problem "), "{error}");
    assert!(error.to_string().contains("run `v1v2 setup` first"), "{error}");
    databases.drop().await;
}

#[tokio::test]
async fn missing_roles_are_named() {
    let mut databases = Databases::school().await;
    let (admin, name) = (databases.v2.clone(), databases.v2.name().to_owned());
    for (user, role) in [("reader", Some("read")), ("nobody", None)] {
        let roles: Vec<Document> = role.iter().map(|role| doc! { "role": role, "db": &name }).collect();
        admin.run_command(doc! { "createUser": user, "pwd": "secret", "roles": roles }).await.unwrap();
        let mut url = url::Url::parse(Server::MongoDb.url()).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some("secret")).unwrap();
        let others: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| key != "authSource")
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(others).append_pair("authSource", &name);
        databases.v2 = Client::with_uri_str(url.as_str()).await.unwrap().database(&name);
        let error = databases.compile(&Definitions::load(None).unwrap()).await.expect_err("no privileges");
        assert!(error.message().starts_with("1 problem "), "{error}");
        let text = error.more().unwrap();
        let grant = format!("db.grantRolesToUser(\"{user}\", [{{ role: \"readWrite\", db: \"{name}\" }}])");
        assert!(text.contains(&grant), "{text}");
        if user == "reader" {
            assert!(text.contains("insert, remove, update on users"), "{text}");
        }
        admin
            .run_command(doc! { "grantRolesToUser": user, "roles": [{ "role": "readWrite", "db": &name }] })
            .await
            .unwrap();
        databases.compile(&Definitions::load(None).unwrap()).await.unwrap_or_else(|error| panic!("{error}"));
        admin.run_command(doc! { "dropUser": user }).await.unwrap();
    }
    databases.v2 = admin;
    databases.drop().await;
}

//! The main job with MongoDB as V2, driven through the real program, judged by what the databases hold.

mod ahead;
mod carry;
mod circles;
mod compare;
mod definition;
mod failover;
mod foretold;
mod hierarchy;
mod ids;
mod interrupted;
mod pace;
mod parity;
mod passwords;
mod refused;
mod since;
mod structure;
mod undo;
mod validate;
mod values;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, doc};

use crate::support::{Database, Digest, MongoDatabase, Outcome, Project, prepared};

/// A V1 with people, an empty MongoDB V2, and the program between them.
pub struct Job {
    pub v1: Database,
    pub v2: MongoDatabase,
    pub project: Project,
}

/// Collections that `setup` fills. Their documents carry the time of the setup.
const REFERENCE: &[&str] = &[
    "userTypes",
    "roles",
    "permissionModules",
    "permissions",
    "gradeSystems",
    "gradeLevels",
    "curriculums",
    "classLevels",
    "subjectCategories",
    "subjects",
];

impl Job {
    /// `people` of the sample in V1, and a V2 that was set up. Hashing costs nothing here: its cost has tests of its own.
    pub fn new(people: u32, more: &[&str]) -> Self {
        Self::over(prepared::sample(people, more))
    }

    /// A V2 that was set up beside a V1 that somebody else fills.
    pub fn over(v1: Database) -> Self {
        Self::between(v1, MongoDatabase::new())
    }

    /// The same with a V2 on a server of the test's own.
    pub fn between(v1: Database, v2: MongoDatabase) -> Self {
        let project = Project::into_mongodb(&v1, &v2)
            .env("V1V2_HASH_MEMORY_KIB", "8")
            .env("V1V2_HASH_ITERATIONS", "1")
            .env("V1V2_PASSWORDS", "none")
            // Taking indexes away and building them again is half of the time of such a small run.
            .env("V1V2_BULK", "false");
        let job = Self { v1, v2, project };
        job.run(&["setup"]).expect(0);
        job
    }

    /// With bulk load, which is what people get who say nothing.
    pub fn in_bulk(self) -> Self {
        Self { project: self.project.env("V1V2_BULK", "true"), ..self }
    }

    /// The same V1 with another, empty V2.
    pub fn another_v2(self) -> (Self, MongoDatabase) {
        let v2 = MongoDatabase::new();
        let project = self.project.env("V2_DATABASE_URL", v2.url());
        project.run(&["setup"]).expect(0);
        (Self { v1: self.v1, v2, project }, self.v2)
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.project.run(arguments)
    }

    /// Runs `migrate --force` and expects its exit code.
    pub fn migrate(&self, more: &[&str], code: i32) -> Outcome {
        self.run(&[&["migrate", "--force"], more].concat()).expect(code)
    }

    /// Tries until the lock of a program that was killed a moment ago is free: for so long the server lists its connections.
    #[cfg(feature = "failpoints")]
    pub fn until_free(&self, run: impl Fn() -> Outcome) -> Outcome {
        loop {
            let ended = run();
            if !ended.stderr.contains("in use by another run") {
                return ended;
            }
        }
    }

    /// What two equal runs have in common.
    pub fn result(&self) -> Digest {
        result_of(&self.v2)
    }

    /// Everything that V2 holds, but for the list of runs and what they have learned about V2: documents, indexes, options of collections.
    pub fn whole(&self) -> (Digest, Vec<String>) {
        (self.v2.digest(&["v1v2_runs", "v1v2_meta"]), self.structure())
    }

    /// V2's collections with their validators, and all indexes.
    pub fn structure(&self) -> Vec<String> {
        let collections = self.v2.run(doc! { "listCollections": 1, "cursor": { "batchSize": 1_000 } });
        let batch = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
        let mut lines: Vec<String> = batch.iter().map(|of| format!("{of:?}")).collect();
        for name in self.v2.collections() {
            lines.extend(self.v2.indexes(&name).values().map(|index| format!("{name}: {index:?}")));
        }
        lines.sort();
        lines
    }

    /// The number of documents.
    pub fn count(&self, collection: &str) -> u64 {
        self.v2.count(collection, doc! {})
    }

    /// Changes documents behind the program's back; how many.
    pub fn update(&self, collection: &str, filter: Document, change: impl Into<Bson>) -> i32 {
        let change = doc! { "q": filter, "u": change.into(), "multi": true };
        let answer = self.v2.run(doc! { "update": collection, "updates": [change] });
        assert!(answer.get("writeErrors").is_none(), "{answer}");
        answer.get_i32("n").unwrap()
    }

    /// Gives a document its old content back; how many there were.
    pub fn update_whole(&self, collection: &str, document: &Document) -> i32 {
        let change = doc! { "q": { "_id": document.get("_id") }, "u": document.clone() };
        self.v2.run(doc! { "update": collection, "updates": [change] }).get_i32("n").unwrap()
    }

    /// Removes documents behind the program's back; how many.
    pub fn remove(&self, collection: &str, filter: Document) -> i32 {
        self.v2
            .run(doc! { "delete": collection, "deletes": [{ "q": filter, "limit": 0 }] })
            .get_i32("n")
            .unwrap()
    }

    /// The rejected rows of V1 as `entity key code`, in the order of the ledger.
    pub fn rejected(&self) -> Vec<String> {
        let lines = self.v2.find("v1v2_ledger", doc! { "outcome": "r" });
        let line = |line: &Document| {
            let id = line.get_document("_id").unwrap();
            format!("{} {} {}", text(id.get("e")), text(id.get("k")), text(line.get("code")))
        };
        lines.iter().map(line).collect()
    }

    /// The ledger's line of a row.
    pub fn line(&self, entity: &str, key: &str) -> Document {
        self.v2.one("v1v2_ledger", doc! { "_id.e": entity, "_id.k": key })
    }

    /// V1's keys of a table in the order in which they are read.
    pub fn keys(&self, table: &str) -> Vec<String> {
        let rows = self.v1.rows(&format!("select id from \"{table}\" order by id collate \"C\""));
        rows.into_iter().map(|mut row| row[0].take().unwrap()).collect()
    }
}

/// What two equal runs have in common: everything but the run's own times, numbers, ids and salts. Digests in the ledger
/// cover times and salts, so they differ too; and what a run has replaced is there for its rollback alone.
pub fn result_of(v2: &MongoDatabase) -> Digest {
    let mut except = REFERENCE.to_vec();
    except.extend(["v1v2_runs", "v1v2_lock", "v1v2_meta", "v1v2_replaced"]);
    except.extend(["users.passwordHash", "users.roles.assignedAt", "*.run", "*.firstRun"]);
    except.push("v1v2_ledger.digests");
    v2.digest(&except)
}

/// A value as Postgres would print it: a uuid in its usual form, a date with milliseconds, nothing for what is absent.
pub fn text(value: Option<&Bson>) -> String {
    match value {
        None | Some(Bson::Null) => String::new(),
        Some(Bson::String(text)) => text.clone(),
        Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => {
            uuid::Uuid::from_slice(&binary.bytes).unwrap().to_string()
        }
        Some(Bson::DateTime(date)) => {
            let text = date.try_to_rfc3339_string().unwrap().replace('T', " ").replace('Z', "");
            let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
            format!("{seconds}.{fraction:0<3}")
        }
        Some(other) => other.to_string(),
    }
}

/// The value at a dotted path, as [`text`].
pub fn at(document: &Document, path: &str) -> String {
    match path.split_once('.') {
        None => text(document.get(path)),
        Some((first, rest)) => document.get_document(first).map(|inner| at(inner, rest)).unwrap_or_default(),
    }
}

//! `v1v2 evolve`, through the real program and on real servers: the worked examples, and what happens when something goes
//! wrong. No database here was ever `setup`, unless a test says so.

mod batches;
mod examples;
mod failover;
mod folders;
mod postgres;
mod postgres_examples;
mod privileges;
mod rules;
mod way_back;

use std::path::Path;

use mongodb::bson::{Bson, Document};

use crate::support::{Database, MongoDatabase, Outcome, Project};

/// A kind of database that evolves.
pub trait Kind {
    /// How the names of its scripts end.
    const ENDING: &str;
    fn empty() -> Self;
    fn address(&self) -> &str;
}

impl Kind for MongoDatabase {
    const ENDING: &str = "json";

    fn empty() -> Self {
        Self::new()
    }

    fn address(&self) -> &str {
        self.url()
    }
}

impl Kind for Database {
    const ENDING: &str = "sql";

    fn empty() -> Self {
        Self::v2()
    }

    fn address(&self) -> &str {
        self.url()
    }
}

/// A database, empty unless a test brings its own, a folder for evolutions, and the program.
pub struct Bed<D> {
    pub v2: D,
    pub project: Project,
}

pub type Mongo = Bed<MongoDatabase>;
pub type Postgres = Bed<Database>;

impl<D: Kind> Bed<D> {
    pub fn new() -> Self {
        Self::over(D::empty())
    }

    pub fn over(v2: D) -> Self {
        let project = Project::new().env("V2_DATABASE_URL", v2.address());
        Self { v2, project }
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.project.run(&[&["evolve"], arguments].concat())
    }

    pub fn up(&self) -> Outcome {
        self.run(&["up", "--force"]).expect(0)
    }

    pub fn down(&self) -> Outcome {
        self.run(&["down", "--force"]).expect(0)
    }

    /// Writes both scripts of an evolution.
    pub fn evolution(&self, name: &str, up: &str, down: &str) {
        for (direction, script) in [("up", up), ("down", down)] {
            self.project.write(&format!("evolutions/{name}/{direction}.{}", D::ENDING), script);
        }
    }
}

impl Mongo {
    /// Inserts documents from an array of Extended JSON.
    pub fn seed(&self, collection: &str, documents: &str) {
        for document in documents_of(documents) {
            self.v2.insert(collection, document).unwrap();
        }
    }

    /// All documents of a collection, each with its fields in alphabetical order.
    pub fn content(&self, collection: &str) -> Vec<Document> {
        self.v2.find(collection, Document::new()).into_iter().map(sorted).collect()
    }

    pub fn record(&self, number: i32) -> Document {
        self.v2.one("v1v2_evolutions", mongodb::bson::doc! { "_id": number })
    }
}

impl Postgres {
    /// Rows as lines, values separated by bars; null is `~`.
    pub fn lines(&self, sql: &str) -> Vec<String> {
        let line = |row: Vec<Option<String>>| {
            row.into_iter().map(|value| value.unwrap_or_else(|| "~".to_owned())).collect::<Vec<_>>().join("|")
        };
        self.v2.rows(sql).into_iter().map(line).collect()
    }

    /// Name, state and direction of what is on record.
    pub fn states(&self) -> Vec<String> {
        self.lines("select name, state, direction from v1v2.evolutions order by number")
    }
}

/// Copies a worked example into a project.
pub fn copy_example(project: &Project, kind: &str, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("evolutions/examples").join(kind).join(name);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        project.write(&format!("evolutions/{name}/{file}"), &std::fs::read_to_string(&path).unwrap());
    }
}

pub fn documents_of(json: &str) -> Vec<Document> {
    serde_json::from_str::<Vec<Document>>(json).unwrap().into_iter().map(sorted).collect()
}

fn sorted(document: Document) -> Document {
    let mut pairs: Vec<(String, Bson)> = document.into_iter().collect();
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    pairs.into_iter().map(|(key, value)| (key, sorted_value(value))).collect()
}

fn sorted_value(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => Bson::Document(sorted(document)),
        Bson::Array(elements) => Bson::Array(elements.into_iter().map(sorted_value).collect()),
        other => other,
    }
}

//! The document step of `v1v2 evolve` against the usual script: a loop that reads each document, changes it in the client
//! and writes it back by `update_one`. Both do the same to the same documents, in the same run, alternating; both results
//! are compared. The program's time is that of its whole process, from the command line to its end.
//!
//! The loop is measured twice: as it stands in most scripts (the server's default write concern, a majority, which on this
//! single server waits for the journal), and, in its favour, with `w: 1`.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, WriteConcern};
use mongodb::{Client, Collection};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is done to a document: an email is normalised, a text becomes a number, a field gets its default.
const UP: &str = r#"[ { "update": "people", "pipeline": [ { "$set": {
    "email": { "$toLower": { "$trim": { "input": "$email" } } },
    "age": { "$convert": { "input": "$age", "to": "int", "onError": 0, "onNull": 0 } },
    "status": { "$ifNull": ["$status", "active"] } } } ], "batch": BATCH } ]"#;

struct Bench {
    runtime: tokio::runtime::Runtime,
    url: String,
    name: String,
    folder: PathBuf,
    documents: u64,
}

fn main() -> Result<()> {
    let (mut documents, mut rounds, mut batch) = (200_000, 3, "1000".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--documents" => documents = value()?.parse()?,
            "--rounds" => rounds = value()?.parse()?,
            "--batch" => batch = value()?,
            // What cargo itself passes.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let server = std::env::var("V1V2_TEST_MONGODB_URL").map_err(|_| "use `make bench-evolve`")?;
    let (servers, options) = server.split_once("/?").unwrap_or((&server, ""));
    let name = format!("bench_evolve_{}", std::process::id());
    let folder = std::env::temp_dir().join(&name);
    let scripts = folder.join("evolutions/0001_people");
    std::fs::create_dir_all(&scripts)?;
    std::fs::write(scripts.join("up.json"), UP.replace("BATCH", &batch))?;
    std::fs::write(scripts.join("evolution.toml"), "irreversible = true\nreason = \"a benchmark\"\n")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bench = Bench { runtime, url: format!("{servers}/{name}?{options}"), name, folder, documents };
    println!("{documents} documents, {rounds} rounds, batches of {batch}");
    let result = bench.measure(rounds);
    bench.drop_all()?;
    std::fs::remove_dir_all(&bench.folder)?;
    result
}

impl Bench {
    fn measure(&self, rounds: usize) -> Result<()> {
        let (mut usual, mut fast) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            self.seed()?;
            let step = self.step(&self.folder)?;
            let expected = self.content()?;
            self.seed()?;
            let majority = self.script(None)?;
            if self.content()? != expected {
                return Err("the loop and the step did not do the same".into());
            }
            self.seed()?;
            let one = self.script(Some(WriteConcern::nodes(1)))?;
            let ratio = |loops: Duration| loops.as_secs_f64() / step.as_secs_f64();
            println!(
                "round {round}: step {:.2} s, loop {:.2} s ({:.1} times), loop with w: 1 {:.2} s ({:.1} times)",
                step.as_secs_f64(),
                majority.as_secs_f64(),
                ratio(majority),
                one.as_secs_f64(),
                ratio(one),
            );
            usual.push(ratio(majority));
            fast.push(ratio(one));
        }
        println!(
            "the step beats the loop {:.1} times, the loop with w: 1 {:.1} times (medians)",
            median(&mut usual),
            median(&mut fast)
        );
        Ok(())
    }

    fn people(&self, client: &Client) -> Collection<Document> {
        client.database(&self.name).collection("people")
    }

    /// The same documents each time, and nothing left to be written to disk.
    fn seed(&self) -> Result<()> {
        self.runtime.block_on(async {
            let client = Client::with_uri_str(&self.url).await?;
            client.database(&self.name).drop().await?;
            let people = self.people(&client);
            let all: Vec<u64> = (0..self.documents).collect();
            for numbers in all.chunks(10_000) {
                let document = |number: &u64| {
                    doc! {
                        "email": format!(" Person.{number}@Example.ORG "), "age": (number % 90).to_string(),
                        "name": { "first": "Ada", "last": format!("Lovelace {number}") }, "tags": ["a", "b"],
                    }
                };
                people.insert_many(numbers.iter().map(document)).await?;
            }
            client.database("admin").run_command(doc! { "fsync": 1 }).await?;
            Ok(())
        })
    }

    /// What the documents hold in the end, without their ids.
    fn content(&self) -> Result<Vec<Document>> {
        self.runtime.block_on(async {
            let client = Client::with_uri_str(&self.url).await?;
            let people = self.people(&client);
            let found = people.find(doc! {}).projection(doc! { "_id": 0 });
            Ok(found.sort(doc! { "email": 1 }).allow_disk_use(true).await?.try_collect().await?)
        })
    }

    /// The program.
    fn step(&self, folder: &Path) -> Result<Duration> {
        let began = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_v1v2"))
            .args(["evolve", "up", "--force", "--quiet"])
            .current_dir(folder)
            .env("V2_DATABASE_URL", &self.url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(began.elapsed()) } else { Err(format!("v1v2 ended with {status}").into()) }
    }

    /// The usual script, over one warm connection.
    fn script(&self, concern: Option<WriteConcern>) -> Result<Duration> {
        self.runtime.block_on(async {
            let mut options = ClientOptions::parse(&self.url).await?;
            options.write_concern = concern;
            let client = Client::with_options(options)?;
            let people = self.people(&client);
            people.find_one(doc! {}).await?;
            let began = Instant::now();
            let mut found = people.find(doc! {}).await?;
            while let Some(person) = found.try_next().await? {
                let email = person.get_str("email")?.trim().to_lowercase();
                let age: i32 = person.get_str("age")?.parse().unwrap_or(0);
                let change = doc! { "$set": { "email": email, "age": age, "status": "active" } };
                people.update_one(doc! { "_id": person.get("_id") }, change).await?;
            }
            Ok(began.elapsed())
        })
    }

    fn drop_all(&self) -> Result<()> {
        self.runtime.block_on(async {
            let client = Client::with_uri_str(&self.url).await?;
            Ok(client.database(&self.name).drop().await?)
        })
    }
}

/// The middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! MongoDB as V2. The floor is `insert_many` of the same final documents, read beforehand, in the batch size of a chunk, one
//! transaction for each batch, into collections with the same validators and indexes, over one connection.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::RawDocumentBuf;
use mongodb::options::ClientOptions;
use mongodb::{Client, Collection};

use crate::program::{self, MIGRATE, Measured, median, psql, ratio, variable};
use crate::{Result, Size};

/// V2's collections in the order in which the job fills them.
const COLLECTIONS: &[&str] = &["users", "schools", "teachers", "parents", "students"];

/// Documents of one transaction: the program's own default.
const BATCH: usize = 5_000;

struct Bench {
    v1: String,
    v1_server: String,
    v1_name: String,
    v2_server: String,
    prefix: String,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
}

/// The server's cache while it is measured. The throw-away server has half a gigabyte, in which transactions of some ten
/// megabytes are in each other's way; MongoDB's own default is half of the machine's memory.
const CACHE: &str = "cache_size=8G";

/// The throw-away server's own.
const SMALL_CACHE: &str = "cache_size=512M";

/// Measures.
pub fn run(size: &Size) -> Result<()> {
    let bench = Bench::new()?;
    bench.set_cache(CACHE)?;
    let result = bench.measure(size);
    bench.set_cache(SMALL_CACHE)?;
    for database in ["final", "v2"] {
        bench.drop_database(database)?;
    }
    psql(&bench.v1_server, &format!("drop database if exists {} with (force)", bench.v1_name))?;
    std::fs::remove_dir_all(&bench.folder)?;
    result
}

impl Bench {
    fn new() -> Result<Self> {
        let v1_server = variable("V1V2_TEST_V1_URL")?;
        let prefix = format!("bench_{}", std::process::id());
        let base = v1_server.rsplit_once('/').map_or(v1_server.as_str(), |(base, _)| base);
        Ok(Self {
            v1: format!("{base}/{prefix}_v1"),
            v1_name: format!("{prefix}_v1"),
            v2_server: variable("V1V2_TEST_MONGODB_URL")?,
            prefix,
            folder: program::folder()?,
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
            v1_server,
        })
    }

    /// The server's URL with a database's name.
    fn url(&self, database: &str) -> String {
        let (servers, options) = self.v2_server.split_once("/?").unwrap_or((&self.v2_server, ""));
        format!("{servers}/{}_{database}?{options}", self.prefix)
    }

    fn v1v2(&self, database: &str, arguments: &[&str]) -> Result<Measured> {
        program::v1v2(&self.folder, &self.v1, &self.url(database), arguments)
    }

    fn measure(&self, size: &Size) -> Result<()> {
        psql(&self.v1_server, &format!("create database {}", self.v1_name))?;
        self.v1v2("final", &["sample", "--quiet", "--people", &size.people.to_string(), "--seed", "1"])?;
        self.v1v2("final", &["setup"])?;
        self.v1v2("final", MIGRATE)?;
        let documents = self.read("final")?;
        let count: usize = documents.iter().map(|(_, documents)| documents.len()).sum();
        println!("{count} final documents of V2 without the ledger");
        self.drop_database("final")?;
        let (mut plain, mut bulk, mut memory) = (Vec::new(), Vec::new(), 0);
        for round in 1..=size.rounds {
            self.fresh()?;
            let floor = self.floor("v2", &documents)?;
            self.fresh()?;
            let without = self.v1v2("v2", &[MIGRATE, &["--no-bulk"]].concat())?;
            self.fresh()?;
            let with = self.v1v2("v2", MIGRATE)?;
            println!(
                "round {round}: floor {:.2} s, --no-bulk {:.2} s ({:.2} times the floor's speed), bulk load {:.2} s ({:.2} times)",
                floor.as_secs_f64(),
                without.time.as_secs_f64(),
                ratio(floor, without.time),
                with.time.as_secs_f64(),
                ratio(floor, with.time),
            );
            plain.push(ratio(floor, without.time));
            bulk.push(ratio(floor, with.time));
            memory = memory.max(with.peak_kib).max(without.peak_kib);
        }
        println!("speed, --no-bulk: {:.2} times the floor (median)", median(&mut plain));
        println!("speed, bulk load: {:.2} times the floor (median)", median(&mut bulk));
        println!("peak memory: {} MB", memory / 1024);
        Ok(())
    }

    /// An empty V2, with what was left to be written to disk by an earlier step out of the way.
    fn fresh(&self) -> Result<()> {
        self.drop_database("v2")?;
        self.v1v2("v2", &["setup"])?;
        self.runtime.block_on(async {
            let client = self.client("v2").await?;
            client.database("admin").run_command(mongodb::bson::doc! { "fsync": 1 }).await?;
            Ok(())
        })
    }

    fn set_cache(&self, configuration: &str) -> Result<()> {
        self.runtime.block_on(async {
            let command = mongodb::bson::doc! {
                "setParameter": 1, "wiredTigerEngineRuntimeConfig": configuration,
            };
            self.client("v2").await?.database("admin").run_command(command).await?;
            Ok(())
        })
    }

    /// A client with one connection for operations.
    async fn client(&self, database: &str) -> Result<Client> {
        let mut options = ClientOptions::parse(self.url(database)).await?;
        options.max_pool_size = Some(1);
        Ok(Client::with_options(options)?)
    }

    fn drop_database(&self, database: &str) -> Result<()> {
        self.runtime.block_on(async {
            let client = self.client(database).await?;
            client.database(&format!("{}_{database}", self.prefix)).drop().await?;
            Ok(())
        })
    }

    fn read(&self, database: &str) -> Result<Vec<(&'static str, Vec<RawDocumentBuf>)>> {
        self.runtime.block_on(async {
            let client = self.client(database).await?;
            let mut all = Vec::new();
            for name in COLLECTIONS {
                let collection: Collection<RawDocumentBuf> =
                    client.database(&format!("{}_{database}", self.prefix)).collection(name);
                // In the order in which they were inserted.
                let found =
                    collection.find(mongodb::bson::doc! {}).sort(mongodb::bson::doc! { "$natural": 1 });
                all.push((*name, found.await?.try_collect().await?));
            }
            Ok(all)
        })
    }

    fn floor(&self, database: &str, documents: &[(&'static str, Vec<RawDocumentBuf>)]) -> Result<Duration> {
        self.runtime.block_on(async {
            let client = self.client(database).await?;
            let database = client.database(&format!("{}_{database}", self.prefix));
            let began = Instant::now();
            let mut session = client.start_session().await?;
            for (name, documents) in documents {
                let collection: Collection<RawDocumentBuf> = database.collection(name);
                for batch in documents.chunks(BATCH) {
                    session.start_transaction().with_options(v1v2::connect::transaction_options()).await?;
                    collection.insert_many(batch).session(&mut session).await?;
                    session.commit_transaction().await?;
                }
            }
            Ok(began.elapsed())
        })
    }
}

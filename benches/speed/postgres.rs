//! Postgres as V2. The floor is `COPY … TO STDOUT | COPY … FROM STDIN` from a finished V2 into an empty one with the same
//! indexes and foreign keys, table by table over one connection.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use v1v2::password::{self, HashPool, Job, SecretKey};
use v1v2::settings::HashCost;

use crate::program::{self, MIGRATE, Measured, median, psql, ratio, variable};
use crate::{Result, Size};

/// V2's tables in an order that its foreign keys accept.
const TABLES: &[&str] = &[
    "User",
    "School",
    "UserRole",
    "Teacher",
    "TeacherSubject",
    "Parent",
    "ParentSchool",
    "Student",
    "StudentGuardian",
];

/// Measures.
pub fn run(size: &Size) -> Result<()> {
    let bench = Bench::new()?;
    let result = measure(&bench, size);
    bench.drop_databases()?;
    result
}

fn measure(bench: &Bench, &Size { people, rounds, slice }: &Size) -> Result<()> {
    bench.recreate("v1", None)?;
    bench.recreate("empty", None)?;
    let sample = bench.v1v2("v1", "empty", &["sample", "--people", &people.to_string(), "--seed", "1"])?;
    println!("sample: {:.1} s", sample.time.as_secs_f64());
    bench.v1v2("v1", "empty", &["setup"])?;

    bench.recreate("final", Some("empty"))?;
    bench.v1v2("v1", "final", MIGRATE)?;
    let rows: u64 = TABLES.iter().map(|table| bench.count("final", table)).sum::<Result<u64>>()?;
    println!("{rows} final rows of V2 without the ledger");

    let mut plain = Vec::new();
    let mut bulk = Vec::new();
    let mut later = Vec::new();
    let mut later_without = Vec::new();
    let mut memory = 0;
    for round in 1..=rounds {
        bench.recreate("v2", Some("empty"))?;
        let floor = bench.floor("final", "v2")?;
        bench.recreate("v2", Some("empty"))?;
        let without = bench.v1v2("v1", "v2", &[MIGRATE, &["--no-bulk"]].concat())?;
        bench.recreate("v2", Some("empty"))?;
        let with = bench.v1v2("v1", "v2", MIGRATE)?;
        println!(
            "round {round}: floor {:.2} s, --no-bulk {:.2} s ({:.2} times the floor's speed), bulk load {:.2} s ({:.2} times)",
            floor.as_secs_f64(),
            without.time.as_secs_f64(),
            ratio(floor, without.time),
            with.time.as_secs_f64(),
            ratio(floor, with.time),
        );
        bench.change_one_percent(true)?;
        let since = bench.v1v2("v1", "v2", MIGRATE)?;
        bench.change_one_percent(false)?;
        println!(
            "round {round}: 1 % changed: {:.2} s ({:.2} of the bulk load's time, {:.2} of that without)",
            since.time.as_secs_f64(),
            ratio(since.time, with.time),
            ratio(since.time, without.time),
        );
        later.push(ratio(since.time, with.time));
        later_without.push(ratio(since.time, without.time));
        memory = memory.max(since.peak_kib);
        plain.push(ratio(floor, without.time));
        bulk.push(ratio(floor, with.time));
        memory = memory.max(with.peak_kib).max(without.peak_kib);
    }
    bench.recreate("v2", Some("empty"))?;
    let small = bench.v1v2("v1", "v2", &[MIGRATE, &["--batch-size", "500"]].concat())?;
    println!("speed, --no-bulk: {:.2} times the floor (median)", median(&mut plain));
    println!("speed, bulk load: {:.2} times the floor (median)", median(&mut bulk));
    println!("a run after 1 % changed: {:.2} of the bulk load's time (median)", median(&mut later));
    println!(
        "a run after 1 % changed: {:.2} of the time without bulk load (median)",
        median(&mut later_without)
    );
    println!(
        "peak memory: {} MB; with chunks of 500 rows instead of 5,000: {} MB",
        memory / 1024,
        small.peak_kib / 1024
    );
    passwords(bench, slice, rounds)
}

/// The whole job with passwords against hashing alone.
fn passwords(bench: &Bench, slice: u64, rounds: usize) -> Result<()> {
    bench.recreate("v1", None)?;
    bench.v1v2("v1", "empty", &["sample", "--people", &slice.to_string(), "--seed", "1"])?;
    bench.recreate("v2", Some("empty"))?;
    bench.v1v2("v1", "v2", MIGRATE)?;
    let accounts = bench.count("v2", "User")?;
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let floor = hash_alone(accounts)?;
        bench.recreate("v2", Some("empty"))?;
        let job = bench.v1v2("v1", "v2", &["migrate", "--force", "--quiet", "--skip-validation"])?;
        let ratio = ratio(job.time, floor);
        println!(
            "passwords, round {round}: hashing {accounts} alone {:.2} s, the whole job {:.2} s ({ratio:.3} times)",
            floor.as_secs_f64(),
            job.time.as_secs_f64(),
        );
        ratios.push(ratio);
    }
    println!("time with passwords: {:.3} times hashing alone (median)", median(&mut ratios));
    Ok(())
}

fn hash_alone(accounts: u64) -> Result<Duration> {
    let began = Instant::now();
    let pool = HashPool::new(0, HashCost::default(), SecretKey::generate()?, password::check_length(12)?)?;
    let jobs = (0..accounts).map(|number| Job { account_id: number.to_string() }).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let hashes = runtime.block_on(pool.submit(jobs))?;
    assert_eq!(hashes.len() as u64, accounts);
    Ok(began.elapsed())
}

struct Bench {
    v1: String,
    v2: String,
    folder: PathBuf,
    prefix: String,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = program::folder()?;
        Ok(Self {
            v1: variable("V1V2_TEST_V1_URL")?,
            v2: variable("V1V2_TEST_V2_URL")?,
            folder,
            prefix: format!("bench_{}", std::process::id()),
        })
    }

    /// The maintenance URL of the side that a database lives on, with the database's own name.
    fn url(&self, database: &str) -> String {
        let side = if database == "v1" { &self.v1 } else { &self.v2 };
        let base = side.rsplit_once('/').map_or(side.as_str(), |(base, _)| base);
        format!("{base}/{}_{database}", self.prefix)
    }

    fn v1v2(&self, v1: &str, v2: &str, arguments: &[&str]) -> Result<Measured> {
        program::v1v2(&self.folder, &self.url(v1), &self.url(v2), arguments)
    }

    fn recreate(&self, database: &str, template: Option<&str>) -> Result<()> {
        let side = if database == "v1" { &self.v1 } else { &self.v2 };
        let name = format!("{}_{database}", self.prefix);
        psql(side, &format!("drop database if exists {name} with (force)"))?;
        let template = template.map(|of| format!(" template {}_{of}", self.prefix)).unwrap_or_default();
        psql(side, &format!("create database {name}{template}"))?;
        // What an earlier step left to be written must not be paid for by the next one.
        psql(side, "checkpoint")?;
        Ok(())
    }

    /// Gives one percent of V1's people another address, and one percent of these another email; or takes it back.
    fn change_one_percent(&self, forth: bool) -> Result<()> {
        let (address, email) = match forth {
            true => ("address || '.'", "'x' || email"),
            false => ("left(address, -1)", "substr(email, 2)"),
        };
        for table in ["Teacher", "Parent", "Student"] {
            let of = "address is not null and email is not null and hashtext(id) % 100 = 0";
            psql(
                &self.url("v1"),
                &format!(
                    "update \"{table}\" set address = {address}, \
                     email = case when hashtext(id) % 10000 = 0 then {email} else email end where {of}"
                ),
            )?;
        }
        Ok(())
    }

    fn drop_databases(&self) -> Result<()> {
        for database in ["v1", "empty", "final", "v2"] {
            let side = if database == "v1" { &self.v1 } else { &self.v2 };
            psql(side, &format!("drop database if exists {}_{database} with (force)", self.prefix))?;
        }
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    fn count(&self, database: &str, table: &str) -> Result<u64> {
        Ok(psql(&self.url(database), &format!("select count(*) from \"{table}\""))?.parse()?)
    }

    fn floor(&self, from: &str, to: &str) -> Result<Duration> {
        // One psql on each side, so that the connection is opened once, as the program does.
        let copies = |direction: &str| {
            TABLES.iter().map(|table| format!("copy \"{table}\" {direction};")).collect::<Vec<_>>()
        };
        let began = Instant::now();
        for (out, into) in copies("to stdout").iter().zip(copies("from stdin")) {
            let mut source = Command::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(from), "-c", out])
                .stdout(Stdio::piped())
                .spawn()?;
            let pipe = source.stdout.take().ok_or("no pipe")?;
            let target = Command::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.url(to), "-c", &into])
                .stdin(pipe)
                .status()?;
            if !source.wait()?.success() || !target.success() {
                return Err("the floor's COPY failed".into());
            }
        }
        Ok(began.elapsed())
    }
}

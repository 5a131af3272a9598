//! How fast the main job is, as ratios against floors taken in the same run, alternating, because machines are noisy.
//!
//! The floor of the load is what Postgres itself needs for the same final rows: `COPY … TO STDOUT | COPY … FROM STDIN`
//! from a finished V2 into an empty one with the same indexes and foreign keys, table by table over one connection,
//! the ledger left out. The floor of passwords is hashing alone, on all cores. `make bench` starts servers that wait for
//! the disk and runs this; with arguments: `scripts/bench.sh -- --people 500000 --rounds 3 --slice 5000`.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use v1v2::password::{self, HashPool, Job, SecretKey};
use v1v2::settings::HashCost;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

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

fn main() -> Result<()> {
    let mut people = 500_000_u64;
    let mut rounds = 3_usize;
    let mut slice = 5_000_u64;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--people" => people = value()?.parse()?,
            "--rounds" => rounds = value()?.parse()?,
            "--slice" => slice = value()?.parse()?,
            // What cargo itself passes.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let bench = Bench::new()?;
    let result = run(&bench, people, rounds, slice);
    bench.drop_databases()?;
    result
}

fn run(bench: &Bench, people: u64, rounds: usize, slice: u64) -> Result<()> {
    println!("{people} people, {rounds} rounds, {} cores", std::thread::available_parallelism()?);
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
        plain.push(ratio(floor, without.time));
        bulk.push(ratio(floor, with.time));
        memory = memory.max(with.peak_kib).max(without.peak_kib);
    }
    bench.recreate("v2", Some("empty"))?;
    let small = bench.v1v2("v1", "v2", &[MIGRATE, &["--batch-size", "500"]].concat())?;
    println!("speed, --no-bulk: {:.2} times the floor (median)", median(&mut plain));
    println!("speed, bulk load: {:.2} times the floor (median)", median(&mut bulk));
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

const MIGRATE: &[&str] = &["migrate", "--force", "--quiet", "--skip-validation", "--passwords", "none"];

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

struct Measured {
    time: Duration,
    /// Highest resident memory of the process, in KiB.
    peak_kib: u64,
}

impl Bench {
    fn new() -> Result<Self> {
        let variable =
            |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: use `make bench`"));
        let folder = std::env::temp_dir().join(format!("v1v2-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
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

    fn psql(&self, url: &str, sql: &str) -> Result<String> {
        let output = Command::new("psql")
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql])
            .output()?;
        if !output.status.success() {
            return Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn recreate(&self, database: &str, template: Option<&str>) -> Result<()> {
        let side = if database == "v1" { &self.v1 } else { &self.v2 };
        let name = format!("{}_{database}", self.prefix);
        self.psql(side, &format!("drop database if exists {name} with (force)"))?;
        let template = template.map(|of| format!(" template {}_{of}", self.prefix)).unwrap_or_default();
        self.psql(side, &format!("create database {name}{template}"))?;
        // What an earlier step left to be written must not be paid for by the next one.
        self.psql(side, "checkpoint")?;
        Ok(())
    }

    fn drop_databases(&self) -> Result<()> {
        for database in ["v1", "empty", "final", "v2"] {
            let side = if database == "v1" { &self.v1 } else { &self.v2 };
            self.psql(side, &format!("drop database if exists {}_{database} with (force)", self.prefix))?;
        }
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    fn count(&self, database: &str, table: &str) -> Result<u64> {
        Ok(self.psql(&self.url(database), &format!("select count(*) from \"{table}\""))?.parse()?)
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

    fn v1v2(&self, v1: &str, v2: &str, arguments: &[&str]) -> Result<Measured> {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_v1v2"))
            .args(arguments)
            .current_dir(&self.folder)
            .env("V1_DATABASE_URL", self.url(v1))
            .env("V2_DATABASE_URL", self.url(v2))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let status_file = format!("/proc/{}/status", child.id());
        let mut peak_kib = 0;
        let status = loop {
            if let Ok(status) = std::fs::read_to_string(&status_file)
                && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:"))
                && let Some(kib) = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok())
            {
                peak_kib = kib;
            }
            if let Some(status) = child.try_wait()? {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let time = began.elapsed();
        if !status.success() {
            return Err(format!("v1v2 {} ended with {status}", arguments.join(" ")).into());
        }
        Ok(Measured { time, peak_kib })
    }
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

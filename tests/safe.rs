//! `--safe`: whatever step fails, V2 is afterwards as it was before, or the program says exactly what it is and what to do.

use tempfile::TempDir;

use crate::job::Job;
use crate::support::{Digest, Project};
use crate::{evolve, mongodb};

/// A Postgres V2 with half of the people in it, so that there is something to lose.
struct Bed {
    job: Job,
    backups: TempDir,
    before: (Digest, Vec<Vec<Option<String>>>),
}

const SAFE: &[&str] = &["migrate", "--force", "--safe"];

impl Bed {
    fn new() -> Self {
        let job = Job::new(120, &["--orphans"]);
        job.run(&["migrate", "--force", "--entities", "schools"]).expect(0);
        let backups = TempDir::new().unwrap();
        let job = Job { project: job.project.env("V1V2_BACKUPS", backups.path().to_str().unwrap()), ..job };
        let before = (content(&job), job.structure());
        Self { job, backups, before }
    }

    #[track_caller]
    fn assert_unchanged(&self) {
        assert_eq!((content(&self.job), self.job.structure()), self.before);
    }

    fn backups(&self) -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.backups.path()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Everything but the list of runs, and what tells transactions apart.
fn content(job: &Job) -> Digest {
    let mut digest = job.v2.digest(&["public", "v1v2"], &["v1v2.ledger.txid", "v1v2.ledger.earlier"]);
    digest.retain(|table, _| !["v1v2.runs", "v1v2.lock"].contains(&table.as_str()));
    digest
}

#[test]
fn a_safe_run_leaves_a_verified_backup_of_what_was_before() {
    let bed = Bed::new();
    let done = bed.job.run(SAFE).expect(3);
    assert!(done.stdout.contains("backup: "), "{}", done.stdout);
    bed.job.run(&["validate", "--compare-counts"]).expect(0);
    let [backup] = &bed.backups()[..] else { panic!("one backup") };
    bed.job.run(&["backup", "restore", backup.to_str().unwrap(), "--clean", "--force"]).expect(0);
    bed.assert_unchanged();
}

#[test]
fn what_would_stop_a_run_is_told_before_anything_else() {
    let bed = Bed::new();
    let name = bed.job.v2.name();
    bed.job.v2.execute(&format!("alter database {name} set default_transaction_read_only = on"));
    let refused = bed.job.run(SAFE).expect(5);
    assert!(refused.stderr.contains("is read-only"), "{}", refused.stderr);
    assert!(bed.backups().is_empty());
    bed.assert_unchanged();
}

#[test]
fn without_a_backup_a_safe_run_does_not_begin() {
    let bed = Bed::new();
    std::fs::write(bed.backups.path().join("file"), "").unwrap();
    let nowhere = bed.backups.path().join("file/below");
    let job = Job { project: bed.job.project.env("V1V2_BACKUPS", nowhere.to_str().unwrap()), ..bed.job };
    let refused = job.run(SAFE);
    assert!(matches!(refused.code(), Some(1 | 5)), "{:?}: {}", refused.code(), refused.stderr);
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    assert_eq!((content(&job), job.structure()), bed.before);
    assert_eq!(job.v2.count("v1v2.runs"), 1);
}

#[test]
fn a_safe_run_that_fails_is_taken_back() {
    let bed = Bed::new();
    let failed = bed.job.run(&[SAFE, &["--max-rejects", "0", "--batch-size", "10"]].concat()).expect(1);
    assert!(failed.stderr.contains("it was taken back: V2 is as it was before"), "{}", failed.stderr);
    bed.assert_unchanged();
    // The same with a V2 that refuses before anything is written.
    bed.job.v2.execute("alter table \"School\" alter column name type varchar(400)");
    let refused = bed.job.run(SAFE).expect(5);
    assert!(refused.stderr.contains("it had changed nothing in V2"), "{}", refused.stderr);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_safe_run_whose_validation_fails_is_taken_back() {
    let bed = Bed::new();
    let failed = bed.job.project.run_with(SAFE, "FAILPOINT", "safe.worked@1:fatal").expect(1);
    assert!(failed.stderr.contains("it was taken back"), "{}", failed.stderr);
    bed.assert_unchanged();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_safe_run_that_cannot_be_taken_back_is_restored_from_its_backup() {
    let bed = Bed::new();
    let points = "safe.worked@1:fatal;postgres.rollback.commit@2:fatal";
    let failed = bed.job.project.run_with(SAFE, "FAILPOINT", points).expect(1);
    assert!(
        failed.stderr.contains("so the backup was restored: V2 is as it was before"),
        "{}",
        failed.stderr
    );
    bed.assert_unchanged();
}

#[cfg(feature = "failpoints")]
#[test]
fn when_even_the_backup_cannot_be_restored_the_way_out_is_told() {
    let bed = Bed::new();
    let points = "safe.worked@1:fatal;postgres.rollback.commit@2:fatal;safe.restore@1:fatal";
    let failed = bed.job.project.run_with(SAFE, "FAILPOINT", points).expect(1);
    let [backup] = &bed.backups()[..] else { panic!("one backup") };
    let restore = format!("v1v2 backup restore {} --clean", backup.display());
    assert!(failed.stderr.contains(&restore), "{}", failed.stderr);
    assert_ne!(content(&bed.job), bed.before.0);
    bed.job.run(&["backup", "restore", backup.to_str().unwrap(), "--clean", "--force"]).expect(0);
    bed.assert_unchanged();
}

#[test]
fn a_safe_run_into_mongodb_that_fails_is_taken_back() {
    let job = mongodb::Job::new(60, &["--orphans"]);
    job.run(&["migrate", "--force", "--entities", "schools"]).expect(0);
    let backups = TempDir::new().unwrap();
    let project = job.project.env("V1V2_BACKUPS", backups.path().to_str().unwrap());
    let job = mongodb::Job { project, ..job };
    let content = |job: &mongodb::Job| job.v2.digest(&["v1v2_runs", "v1v2_lock", "v1v2_meta"]);
    let before = content(&job);
    let failed = job.run(&[SAFE, &["--max-rejects", "0", "--batch-size", "10"]].concat()).expect(1);
    assert!(failed.stderr.contains("it was taken back"), "{}", failed.stderr);
    assert_eq!(content(&job), before);
    #[cfg(feature = "failpoints")]
    {
        let points = "safe.worked@1:fatal;mongodb.rollback.commit@2:fatal";
        let failed = job.project.run_with(SAFE, "FAILPOINT", points).expect(1);
        assert!(failed.stderr.contains("so the backup was restored"), "{}", failed.stderr);
        assert_eq!(content(&job), before);
    }
    job.run(SAFE).expect(3);
}

/// Two evolutions of which the second fails.
fn evolutions(project: &Project, first: &str, second: &str) {
    project.write("evolutions/0001_first/up.sql", first);
    project.write("evolutions/0001_first/down.sql", "drop table first");
    project.write("evolutions/0002_second/up.sql", second);
    project.write("evolutions/0002_second/down.sql", "drop table second");
}

#[test]
fn safe_evolutions_are_taken_back_or_restored_together() {
    let mut postgres = evolve::Postgres::new();
    let backups = TempDir::new().unwrap();
    postgres.project = postgres.project.env("V1V2_BACKUPS", backups.path().to_str().unwrap());
    postgres.v2.execute(
        "create table people (id integer primary key, name text); insert into people values (1, 'Ada')",
    );
    let before = postgres.v2.digest(&["public"], &[]);
    let up = ["evolve", "up", "--force", "--safe"];
    evolutions(&postgres.project, "create table first (id integer)", "create table second (id nonsense)");
    let failed = postgres.project.run(&up).expect(1);
    assert!(failed.stderr.contains("it was taken back"), "{}", failed.stderr);
    assert_eq!(postgres.v2.digest(&["public"], &[]), before);
    // What cannot be taken back comes from the backup.
    postgres
        .project
        .write("evolutions/0001_first/evolution.toml", "irreversible = true\nreason = \"names are gone\"\n");
    postgres.project.write("evolutions/0001_first/up.sql", "update people set name = null");
    let failed = postgres.project.run(&up).expect(1);
    assert!(failed.stderr.contains("so the backup was restored"), "{}", failed.stderr);
    assert_eq!(postgres.v2.digest(&["public"], &[]), before);
    postgres.project.write("evolutions/0002_second/up.sql", "create table second (id integer)");
    postgres.project.run(&up).expect(0);
    assert_eq!(postgres.v2.one("select count(*) from people where name is null"), "1");
    assert_eq!(postgres.v2.one("select count(*) from v1v2.evolutions where state = 'applied'"), "2");
    postgres.project.run(&["evolve", "down", "--force", "--safe"]).expect(2);
}

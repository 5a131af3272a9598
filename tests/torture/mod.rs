//! Any moment is a safe moment to die: each named step in turn ([`points`]), and random moments by the hundred ([`kills`]).
//!
//! The yardstick is the same for both: the same command, run again until it is done, must leave V2 as an undisturbed run
//! leaves it, and a rollback as it was before the run. Each try has a V2 of its own, copied from one that was set up.

mod kills;
#[cfg(feature = "failpoints")]
mod points;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::mongodb::bson::doc;

use crate::support::{Database, Digest, MongoDatabase, Outcome, Project, prepared};
use crate::{job, mongodb};

/// How long a try may run the same command again and again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the program is asked to do until it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Migrate,
    Rollback,
}

/// Which database V2 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    MongoDb,
}

/// A V2 of one try.
enum V2 {
    Postgres(Database),
    MongoDb(MongoDatabase),
}

/// What V2 holds, but for what differs between two equal runs; and its indexes and foreign keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    content: Digest,
    structure: Vec<String>,
}

/// Rows of each entity that change, go and come.
const CHANGES: &str = r#"
    update "School" set name = name || ' Academy';
    update "Teacher" set qualification = 'PhD' where id in (select id from "Teacher" order by id limit 2);
    delete from "_SubjectToTeacher" where "B" = (select min(id) from "Teacher");
    update "Parent" set occupation = 'Pilot', address = '1 New Road, Ikeja, Lagos' where id in (select id from "Parent" order by id limit 7);
    delete from "_ParentToStudent" where "B" in (select id from "Student" order by id desc limit 6);
    delete from "Student" where id in (select id from "Student" order by id desc limit 6);
    update "Student" set address = '7 Other Street, Kano' where id in (select id from "Student" order by id limit 8);
    insert into "Parent" select 'zz' || id, "schoolId", name, null, null, password, address, occupation, "createdAt", "updatedAt"
        from "Parent" order by id limit 2;
"#;

/// A V1 with people, and a V2 in each of the states in which tries begin.
struct Bed {
    v1: Database,
    /// Set up, and nothing else; or before the run that is tried.
    empty: V2,
    /// After an undisturbed run.
    full: V2,
    /// What that run leaves, and what its rollback does.
    goals: [State; 2],
    /// MongoDB's V2s of tries that ended well: the next ones begin with them.
    spare: Mutex<Vec<MongoDatabase>>,
    /// The key of the passwords.
    key: Project,
    /// How long that run took.
    took: Duration,
}

impl Bed {
    /// `people` of the sample, some of them orphans; with Postgres, V2 refuses a row besides.
    fn new(kind: Kind, people: u32) -> Self {
        let v1 = prepared::sample(people, &["--orphans"]);
        let empty = match kind {
            Kind::Postgres => V2::Postgres(Database::v2()),
            Kind::MongoDb => V2::MongoDb(MongoDatabase::new()),
        };
        let key = Project::new();
        let project = empty.project(&v1, empty.url(), &key);
        project.run(&["setup"]).expect(0);
        if let V2::Postgres(v2) = &empty {
            let one = v1.one("select \"admissionNo\" from \"Student\" order by id offset 5 limit 1");
            v2.execute(&format!(
                "alter table \"Student\" add constraint not_this_one check (\"admissionNo\" <> '{one}')"
            ));
        }
        let full = empty.copy();
        let began = Instant::now();
        full.project(&v1, full.url(), &key)
            .run(&["migrate", "--force", "--batch-size", "10", "--skip-validation"])
            .expect(3);
        let took = began.elapsed();
        let taken_back = full.copy();
        taken_back.project(&v1, taken_back.url(), &key).run(&["rollback", "--force"]).expect(0);
        let goals = [full.state(Command::Migrate), taken_back.state(Command::Rollback)];
        Self { v1, empty, full, goals, spare: Mutex::default(), key, took }
    }

    /// The same after V1 has changed: the run brings V2 up to date, and its rollback makes it what it was.
    fn after_changes(kind: Kind, people: u32) -> Self {
        let before = Self::new(kind, people);
        before.v1.execute(CHANGES);
        let full = before.full.copy();
        let began = Instant::now();
        full.project(&before.v1, full.url(), &before.key)
            .run(&["migrate", "--force", "--prune", "--batch-size", "5", "--skip-validation"])
            .expect(3);
        let took = began.elapsed();
        let taken_back = full.copy();
        taken_back.project(&before.v1, taken_back.url(), &before.key).run(&["rollback", "--force"]).expect(0);
        let goals = [full.state(Command::Migrate), taken_back.state(Command::Rollback)];
        assert_eq!(goals[1], before.full.state(Command::Rollback), "V2 is not what it was before the run");
        Self { empty: before.full, full, goals, took, ..before }
    }

    /// A V2 on which the command has something to do.
    fn begin(&self, command: Command) -> V2 {
        let original = match command {
            Command::Migrate => &self.empty,
            Command::Rollback => &self.full,
        };
        let spare = self.spare.lock().unwrap().pop();
        match (original, spare) {
            (V2::MongoDb(original), Some(spare)) => {
                spare.become_like(original);
                V2::MongoDb(spare)
            }
            _ => original.copy(),
        }
    }

    /// Ends a try, which fails unless V2 is as it must be.
    #[track_caller]
    fn end(&self, command: Command, v2: V2, what: &str) {
        let [migrated, taken_back] = &self.goals;
        let goal = if command == Command::Migrate { migrated } else { taken_back };
        assert_eq!(&v2.state(command), goal, "{what}");
        // A rollback that only lost its answer is not run again to the end, so the dead one's mark stays for the next holder.
        let marks = u64::from(command == Command::Rollback);
        assert!(v2.owed() <= marks, "{what}: indexes that are not back, or locks");
        if let V2::MongoDb(v2) = v2 {
            self.spare.lock().unwrap().push(v2);
        }
    }
}

impl V2 {
    fn copy(&self) -> Self {
        match self {
            Self::Postgres(v2) => Self::Postgres(v2.copy()),
            Self::MongoDb(v2) => Self::MongoDb(v2.copy()),
        }
    }

    fn url(&self) -> &str {
        match self {
            Self::Postgres(v2) => v2.url(),
            Self::MongoDb(v2) => v2.url(),
        }
    }

    /// A folder in which the program runs between V1 and this V2, which is reached by that URL.
    fn project(&self, v1: &Database, url: &str, key: &Project) -> Project {
        Project::new()
            .env("V1_DATABASE_URL", v1.url())
            .env("V2_DATABASE_URL", url)
            .env("V1V2_PASSWORDS", "generate")
            .env("V1V2_KEY_FILE", key.path().join("v1v2.key").to_str().unwrap())
            .env("V1V2_HASH_MEMORY_KIB", "8")
            .env("V1V2_HASH_ITERATIONS", "1")
    }

    fn state(&self, command: Command) -> State {
        let lines = |rows: Vec<Vec<Option<String>>>| rows.iter().map(|row| format!("{row:?}")).collect();
        let (content, structure) = match (self, command) {
            (Self::Postgres(v2), Command::Migrate) => (job::result_of(v2), lines(job::structure_of(v2))),
            (Self::Postgres(v2), Command::Rollback) => {
                // Lines that were brought back name the transaction that did it.
                let mut digest = v2.digest(&["public", "v1v2"], &["v1v2.ledger.txid", "v1v2.ledger.earlier"]);
                digest.retain(|table, _| !["v1v2.runs", "v1v2.lock"].contains(&table.as_str()));
                (digest, lines(job::structure_of(v2)))
            }
            (Self::MongoDb(v2), Command::Migrate) => (mongodb::result_of(v2), indexes(v2)),
            (Self::MongoDb(v2), Command::Rollback) => (v2.digest(&["v1v2_runs", "v1v2_lock"]), indexes(v2)),
        };
        State { content, structure }
    }

    /// What the last run has to give back: indexes, and the lock.
    fn owed(&self) -> u64 {
        match self {
            Self::Postgres(v2) => v2.count("v1v2.dropped") + v2.count("v1v2.lock"),
            Self::MongoDb(v2) => v2.count("v1v2_dropped", doc! {}) + v2.count("v1v2_lock", doc! {}),
        }
    }
}

fn indexes(v2: &MongoDatabase) -> Vec<String> {
    let names = v2.collections();
    let of = |name: &String| {
        v2.indexes(name).values().map(|index| format!("{name}: {index:?}")).collect::<Vec<_>>()
    };
    names.iter().flat_map(of).collect()
}

/// Whether a command that was left alone is done; it is to be run again if not.
#[track_caller]
fn is_done(command: Command, ended: &Outcome, what: &str) -> bool {
    assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
    match (ended.code(), command) {
        (Some(3), Command::Migrate) | (Some(0), Command::Rollback) => true,
        (Some(1), _) => false,
        // The server has not noticed yet that the run before this one is gone.
        (Some(5), _) if ended.stderr.contains("in use by another run") => {
            std::thread::sleep(Duration::from_millis(50));
            false
        }
        (code, _) => panic!("{what}: exit code {code:?}\n{}{}", ended.stdout, ended.stderr),
    }
}

/// Runs the command until it is done.
#[track_caller]
fn until_done(command: Command, project: &Project, arguments: &[&str], what: &str) {
    let began = Instant::now();
    loop {
        let ended = project.run(arguments);
        if is_done(command, &ended, what) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not done after {PATIENCE:?}\n{}", ended.stderr);
    }
}

/// Shares work between some threads. One failure does not end it: which steps fail together tells what is wrong.
fn side_by_side<T: Send>(work: Vec<T>, each: impl Fn(T) + Sync) {
    const THREADS: usize = 4;
    const ENOUGH: usize = 12;
    let queue = Mutex::new(work.into_iter());
    let failed = AtomicUsize::new(0);
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while failed.load(Ordering::SeqCst) < ENOUGH
                    && let Some(next) = next()
                {
                    let done = catch_unwind(AssertUnwindSafe(|| each(next)));
                    failed.fetch_add(usize::from(done.is_err()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "failed tries: see above");
}

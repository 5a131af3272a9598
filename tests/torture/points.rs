//! Each step of a run and of a rollback × {error, death, connections cut}, at an exactly known place (`src/failpoint.rs`).

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Bed, Command, Kind, PATIENCE, is_done, side_by_side, until_done};
use crate::support::proxy::Proxy;

/// Where a point stands: which V2 has it, what reaches it, whose connections its step uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Reading V1.
    V1,
    /// Migrating into either V2.
    V2,
    Postgres,
    MongoDb,
    /// Migrating what a run that died left.
    Again,
    PostgresRollback,
    MongoDbRollback,
    /// The same when V1 has changed since.
    PostgresChanges,
    PostgresChangesRollback,
    MongoDbChanges,
    MongoDbChangesRollback,
}

use At::{
    Again, MongoDb, MongoDbChanges, MongoDbChangesRollback, MongoDbRollback, Postgres, PostgresChanges,
    PostgresChangesRollback, PostgresRollback,
};

/// All points, with the visits at which they go off: the first one in each `cargo test`, all of them in `make torture`. A point of `src/` that is missing here fails a test.
const POINTS: &[(&str, At, &[u32])] = &[
    ("v1.snapshot", At::V1, &[1]),
    ("census.row", At::V1, &[1, 30]),
    ("census.read", At::V1, &[1]),
    ("read.ledger", Again, &[1, 3]),
    ("read.row", At::V1, &[1, 20, 41]),
    ("read.beside", Again, &[1, 20]),
    ("read.chunk", At::V1, &[1, 4]),
    ("read.entity", At::V1, &[1, 4]),
    ("run.prepared", At::V2, &[1]),
    ("run.begun", At::V2, &[1]),
    ("run.entities", At::V2, &[1]),
    ("run.ready", At::V2, &[1]),
    ("run.carried", At::V2, &[1]),
    ("run.ending", At::V2, &[1]),
    ("write.ready", At::V2, &[2]),
    ("write.passwords", At::V2, &[2]),
    ("write.converted", At::V2, &[2]),
    ("write.acknowledged", At::V2, &[1, 4]),
    ("write.remembered", At::V2, &[1, 4]),
    ("postgres.lock.taken", Postgres, &[1]),
    ("postgres.lock.fenced", Postgres, &[1]),
    ("postgres.run.recorded", Postgres, &[1]),
    ("postgres.bulk.drop", Postgres, &[1, 9]),
    ("postgres.bulk.commit", Postgres, &[1]),
    ("postgres.bulk.dropped", Postgres, &[1]),
    ("postgres.begun", Postgres, &[1, 3]),
    ("postgres.copy.before", Postgres, &[1, 2, 3, 7]),
    ("postgres.copy.middle", Postgres, &[1, 2, 5]),
    ("postgres.copy.after", Postgres, &[1, 2, 3, 7]),
    ("postgres.careful.part", Postgres, &[1, 2]),
    ("postgres.ledger.before", Postgres, &[1, 3]),
    ("postgres.ledger.lines", Postgres, &[1, 3]),
    ("postgres.commit.before", Postgres, &[1, 3]),
    ("postgres.commit.after", Postgres, &[1, 3]),
    ("postgres.restore.before", Postgres, &[1, 5]),
    ("postgres.restore.after", Postgres, &[1, 5]),
    ("postgres.restore.foreign_key", Postgres, &[1, 3]),
    ("postgres.end.before", Postgres, &[1]),
    ("postgres.end.after", Postgres, &[1]),
    ("postgres.rollback.begun", PostgresRollback, &[1, 3]),
    ("postgres.rollback.table", PostgresRollback, &[1, 2, 5]),
    ("postgres.rollback.lines", PostgresChangesRollback, &[1]),
    ("postgres.rollback.commit", PostgresRollback, &[1, 3]),
    ("postgres.rollback.committed", PostgresRollback, &[1, 4]),
    ("postgres.rollback.marked", PostgresRollback, &[1]),
    ("postgres.rollback.forgetting", PostgresRollback, &[1]),
    ("postgres.rollback.done", PostgresRollback, &[1]),
    ("postgres.update.table", PostgresChanges, &[1, 4, 9]),
    ("postgres.update.ledger", PostgresChanges, &[1, 3]),
    ("postgres.prune.commit", PostgresChanges, &[1]),
    ("postgres.pruned", PostgresChanges, &[1]),
    ("postgres.ledger.forgotten", PostgresChanges, &[1]),
    ("postgres.restore.rows", PostgresChangesRollback, &[1, 2]),
    ("postgres.restored", PostgresChangesRollback, &[1, 4]),
    ("mongodb.lock.taken", MongoDb, &[1]),
    ("mongodb.lock.fenced", MongoDb, &[1]),
    ("mongodb.run.recorded", MongoDb, &[1]),
    ("mongodb.run.fences", MongoDb, &[1]),
    ("mongodb.run.marked", MongoDb, &[1]),
    ("mongodb.bulk.noted", MongoDb, &[1, 2]),
    ("mongodb.bulk.dropped", MongoDb, &[1, 2]),
    ("mongodb.begun", MongoDb, &[1, 3]),
    ("mongodb.fenced", MongoDb, &[1, 3]),
    ("mongodb.inserted", MongoDb, &[1, 2, 4]),
    ("mongodb.pushed", MongoDb, &[1]),
    ("mongodb.ledger.before", MongoDb, &[1, 3]),
    ("mongodb.ledger.lines", MongoDb, &[1, 3]),
    ("mongodb.commit.before", MongoDb, &[1, 3]),
    ("mongodb.commit.after", MongoDb, &[1, 3]),
    ("mongodb.restore.before", MongoDb, &[1, 3]),
    ("mongodb.restore.after", MongoDb, &[1, 3]),
    ("mongodb.end.before", MongoDb, &[1]),
    ("mongodb.end.recorded", MongoDb, &[1]),
    ("mongodb.end.fences", MongoDb, &[1]),
    ("mongodb.end.after", MongoDb, &[1]),
    ("mongodb.rollback.begun", MongoDbRollback, &[1, 3]),
    ("mongodb.rollback.documents", MongoDbRollback, &[1, 2]),
    ("mongodb.rollback.accounts", MongoDbRollback, &[1, 2]),
    ("mongodb.rollback.commit", MongoDbRollback, &[1, 3]),
    ("mongodb.rollback.committed", MongoDbRollback, &[1, 4]),
    ("mongodb.rollback.done", MongoDbRollback, &[1]),
    ("mongodb.update.read", MongoDbChanges, &[1, 3]),
    ("mongodb.update.kept", MongoDbChanges, &[1, 3]),
    ("mongodb.update.documents", MongoDbChanges, &[1, 3]),
    ("mongodb.update.ledger", MongoDbChanges, &[1, 3]),
    ("mongodb.prune.kept", MongoDbChanges, &[1]),
    ("mongodb.prune.documents", MongoDbChanges, &[1]),
    ("mongodb.prune.commit", MongoDbChanges, &[1]),
    ("mongodb.pruned", MongoDbChanges, &[1]),
    ("mongodb.restore.documents", MongoDbChangesRollback, &[1, 4]),
    ("mongodb.restore.commit", MongoDbChangesRollback, &[1, 2]),
    ("mongodb.restored", MongoDbChangesRollback, &[1, 4]),
];

/// What happens at a point.
const ACTIONS: [&str; 3] = ["error", "abort", "cut"];

/// So few that a try takes half a second, and so many that each entity has several chunks.
const PEOPLE: u32 = 40;

const MIGRATE: &[&str] = &["migrate", "--force", "--batch-size", "5", "--skip-validation"];

const UPDATE: &[&str] = &["migrate", "--force", "--prune", "--batch-size", "5", "--skip-validation"];

/// One try.
struct Cell {
    name: &'static str,
    at: At,
    visit: u32,
    action: &'static str,
}

fn cells(kind: Kind, changes: bool) -> Vec<Cell> {
    let mine = |at: At| match (at, kind) {
        (PostgresChanges | PostgresChangesRollback, kind) => changes && kind == Kind::Postgres,
        (MongoDbChanges | MongoDbChangesRollback, kind) => changes && kind == Kind::MongoDb,
        (Postgres | PostgresRollback, Kind::MongoDb) | (MongoDb | MongoDbRollback, Kind::Postgres) => false,
        _ => !changes,
    };
    let mut cells = Vec::new();
    let most = if std::env::var_os("V1V2_TORTURE_VISITS").is_some() { usize::MAX } else { 1 };
    for (number, &(name, at, visits)) in POINTS.iter().filter(|(_, at, _)| mine(*at)).enumerate() {
        for (index, &visit) in visits.iter().enumerate().take(most) {
            for action in ACTIONS {
                // An error that is tried again and one that is final take turns, from visit to visit and from point to point.
                let action = if action == "error" && (index + number) % 2 == 1 { "fatal" } else { action };
                cells.push(Cell { name, at, visit, action });
            }
        }
    }
    cells
}

/// Ends the thread that cuts, also when a try fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn try_cell(bed: &Bed, Cell { name, at, visit, action }: Cell) {
    let what = format!("{name}@{visit}:{action}");
    let (command, arguments) = match at {
        PostgresRollback | MongoDbRollback | PostgresChangesRollback | MongoDbChangesRollback => {
            (Command::Rollback, &["rollback", "--force"][..])
        }
        PostgresChanges | MongoDbChanges => (Command::Migrate, UPDATE),
        _ => (Command::Migrate, MIGRATE),
    };
    let v2 = bed.begin(command);
    let undisturbed = v2.project(&bed.v1, v2.url(), &bed.key);
    if at == Again {
        let dies = undisturbed.run_with(arguments, "FAILPOINT", "write.acknowledged@7:abort");
        assert_eq!(dies.signal(), Some(9), "{what}: {}", dies.stderr);
        // What its connections held is freed within moments.
        std::thread::sleep(Duration::from_millis(100));
    }
    let (v1_proxy, v2_proxy) = (Proxy::to(bed.v1.url()), Proxy::to(v2.url()));
    // The driver of MongoDB would find the members of a replica set behind the proxy's back.
    let direct = v2_proxy.url(v2.url()).replace("replicaSet=v1v2", "directConnection=true");
    let project = v2.project(&bed.v1, &direct, &bed.key).env("V1_DATABASE_URL", &v1_proxy.url(bed.v1.url()));
    let over = AtomicBool::new(false);
    let over = &over;
    let ended = std::thread::scope(|scope| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (v1_proxy, v2_proxy) = (&v1_proxy, &v2_proxy);
        listener.set_nonblocking(true).unwrap();
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                // Hanging up, when it goes out of scope, is the answer that the program waits for.
                if let Ok(_waiting) = listener.accept() {
                    if at == At::V1 { v1_proxy.cut_all() } else { v2_proxy.cut_all() }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let _over = Over(over);
        let full = if action == "cut" { format!("{action} {address}") } else { action.to_owned() };
        let began = Instant::now();
        loop {
            let ended = project.run_with(arguments, "FAILPOINT", &format!("{name}@{visit}:{full}"));
            // The run that died before this one may still hold the lock.
            let waits = at == Again && ended.stderr.contains("in use by another run");
            if !waits || began.elapsed() > PATIENCE {
                break ended;
            }
        }
    });
    assert!(
        ended.stderr.contains(&format!("fail point {name}: {action}")),
        "{what} was never reached: {:?}\n{}",
        ended.code(),
        ended.stderr
    );
    match action {
        "abort" => assert_eq!(ended.signal(), Some(9), "{what}: {}", ended.stderr),
        _ => drop(is_done(command, &ended, &what)),
    }
    drop((v1_proxy, v2_proxy));
    // Also after a success: whatever is left to do, or was done twice, shows.
    until_done(command, &undisturbed, arguments, &what);
    bed.end(command, v2, &what);
}

#[test]
fn postgres_survives_each_point() {
    let bed = Bed::new(Kind::Postgres, PEOPLE);
    side_by_side(chosen(Kind::Postgres, false), |cell| try_cell(&bed, cell));
}

#[test]
fn postgres_survives_each_point_of_an_update_and_of_its_rollback() {
    let bed = Bed::after_changes(Kind::Postgres, PEOPLE);
    side_by_side(chosen(Kind::Postgres, true), |cell| try_cell(&bed, cell));
}

#[test]
fn mongodb_survives_each_point() {
    let bed = Bed::new(Kind::MongoDb, PEOPLE);
    side_by_side(chosen(Kind::MongoDb, false), |cell| try_cell(&bed, cell));
}

#[test]
fn mongodb_survives_each_point_of_an_update_and_of_its_rollback() {
    let bed = Bed::after_changes(Kind::MongoDb, PEOPLE);
    side_by_side(chosen(Kind::MongoDb, true), |cell| try_cell(&bed, cell));
}

/// All, or those whose name holds `V1V2_TORTURE_POINT`.
fn chosen(kind: Kind, changes: bool) -> Vec<Cell> {
    let wanted = std::env::var("V1V2_TORTURE_POINT").unwrap_or_default();
    cells(kind, changes).into_iter().filter(|cell| cell.name.contains(&wanted)).collect()
}

/// Whoever adds a point adds it to the table.
#[test]
fn the_table_has_all_points() {
    let mut there = Vec::new();
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let named = text.split("reach(\"").skip(1).filter_map(|rest| rest.split('"').next());
            there.extend(named.map(str::to_owned));
        }
    }
    // The steps of a safe run have tests of their own (tests/safe.rs).
    there.retain(|name| !name.starts_with("safe."));
    there.sort();
    // The same step may be taken in two ways: the census of a first run and of a later one.
    there.dedup();
    let mut table: Vec<_> = POINTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    table.sort();
    assert_eq!(there, table);
}

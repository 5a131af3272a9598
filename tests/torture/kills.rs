//! The program is killed (SIGKILL) at random moments, run again until it is done, and what it leaves is compared with what
//! an undisturbed run leaves.
//!
//! `make torture N=5000` for as many kills as one has patience for; `V1V2_TORTURE_SEED` repeats what a seed has chosen,
//! though not the moments at which the databases do their work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::{Bed, Command, Kind, is_done, side_by_side, until_done};

/// Kills of one `cargo test`.
const KILLS: u32 = 200;

/// How the kills are shared out: runs into Postgres and into MongoDB, which takes longer, and runs that bring V2 up to date.
const PARTS: [u32; 4] = [5, 2, 2, 1];

const PEOPLE: u32 = 60;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn killed_at_random_moments_it_ends_like_an_undisturbed_run_in_postgres() {
    torture(&Bed::new(Kind::Postgres, PEOPLE), (Kind::Postgres, PARTS[0]), FIRST);
}

#[test]
fn killed_at_random_moments_it_ends_like_an_undisturbed_run_in_mongodb() {
    torture(&Bed::new(Kind::MongoDb, PEOPLE), (Kind::MongoDb, PARTS[1]), FIRST);
}

#[test]
fn killed_while_v2_is_brought_up_to_date_it_ends_like_an_undisturbed_run_in_postgres() {
    torture(&Bed::after_changes(Kind::Postgres, PEOPLE), (Kind::Postgres, PARTS[2]), LATER);
}

#[test]
fn killed_while_v2_is_brought_up_to_date_it_ends_like_an_undisturbed_run_in_mongodb() {
    torture(&Bed::after_changes(Kind::MongoDb, PEOPLE), (Kind::MongoDb, PARTS[3]), LATER);
}

const FIRST: &[&str] = &["migrate", "--force", "--skip-validation"];
const LATER: &[&str] = &["migrate", "--force", "--skip-validation", "--prune"];

fn torture(bed: &Bed, (kind, part): (Kind, u32), migrate: &[&str]) {
    let all = setting("V1V2_TORTURE_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    let wanted = (all * part).div_ceil(PARTS.iter().sum());
    let seed = setting("V1V2_TORTURE_SEED").unwrap_or_else(|| rand::rng().random());
    eprintln!("{kind:?}: {wanted} kills, V1V2_TORTURE_SEED={seed}");
    let (kills, told) = (AtomicU32::new(0), Mutex::new(Told::default()));
    // More rounds than can be needed: a round of which no kill comes in time counts for nothing.
    side_by_side((0..4 * u64::from(wanted)).collect(), |round| {
        if kills.load(Ordering::SeqCst) < wanted {
            one_round(bed, migrate, (seed, round), &kills, &told);
        }
    });
    let (kills, told) = (kills.into_inner(), told.into_inner().unwrap());
    eprintln!("{kind:?}: {kills} kills in {} rounds, {} of them rollbacks", told.rounds, told.rollbacks);
    assert!(kills >= wanted, "V1V2_TORTURE_SEED={seed}: only {kills} kills came in time");
}

#[derive(Default)]
struct Told {
    rounds: u32,
    rollbacks: u32,
}

/// One V2: killed some times, then left alone; and perhaps its rollback in the same way.
fn one_round(bed: &Bed, migrate: &[&str], (seed, round): (u64, u64), kills: &AtomicU32, told: &Mutex<Told>) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    chance.set_stream(round);
    let writers = chance.random_range(1..=4).to_string();
    let batch = [3, 7, 20, 1_000][chance.random_range(0..4)].to_string();
    let bulk = if chance.random_bool(0.5) { "true" } else { "false" };
    let mut commands = vec![(Command::Migrate, migrate)];
    if chance.random_bool(0.3) {
        commands.push((Command::Rollback, &["rollback", "--force"]));
    }
    for (command, arguments) in commands {
        let v2 = bed.begin(command);
        let project = v2
            .project(&bed.v1, v2.url(), &bed.key)
            .env("V1V2_WRITERS", &writers)
            .env("V1V2_BATCH_SIZE", &batch)
            .env("V1V2_BULK", bulk);
        let what = format!(
            "V1V2_TORTURE_SEED={seed}, round {round}: {command:?}, writers {writers}, batch {batch}, bulk {bulk}"
        );
        if command == Command::Rollback {
            told.lock().unwrap().rollbacks += 1;
        }
        let mut done = false;
        for _ in 0..chance.random_range(1..=8) {
            // Mostly at any moment of a run; sometimes soon after the one before, while the servers still clean up.
            let most = if chance.random_bool(0.2) { bed.took / 5 } else { bed.took * 5 / 4 };
            let delay = Duration::from_micros(chance.random_range(0..most.as_micros() as u64));
            let mut running = project.spawn(arguments);
            std::thread::sleep(delay);
            let in_time = running.signal("KILL");
            let ended = running.wait();
            if in_time && ended.signal() == Some(9) {
                kills.fetch_add(1, Ordering::SeqCst);
            } else if is_done(command, &ended, &what) {
                done = true;
                break;
            }
        }
        if !done {
            until_done(command, &project, arguments, &what);
        }
        if command == Command::Migrate && round.is_multiple_of(10) {
            project.run(&["validate", "--compare-counts"]).expect(0);
        }
        bed.end(command, v2, &what);
    }
    told.lock().unwrap().rounds += 1;
}

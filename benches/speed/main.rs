//! How fast the main job is, as ratios against floors taken in the same run, alternating, because machines are noisy.
//!
//! The floor of a load is what V2's server needs for the same final rows or documents, written the plain fast way over one
//! connection, with the same indexes, the ledger left out; see [`postgres`] and [`mongodb`]. The floor of passwords is
//! hashing alone, on all cores. `make bench` and `make bench TARGET=mongodb` start servers of their own and run this; with
//! arguments: `scripts/bench.sh -- --people 500000 --rounds 3 --slice 5000`.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod mongodb;
mod postgres;
mod program;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is measured, and how often.
struct Size {
    /// People in V1.
    people: u64,
    /// Rounds; medians are printed.
    rounds: usize,
    /// People for the measurement with passwords, which take long.
    slice: u64,
}

fn main() -> Result<()> {
    let mut size = Size { people: 500_000, rounds: 3, slice: 5_000 };
    let mut target = "postgres".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--people" => size.people = value()?.parse()?,
            "--rounds" => size.rounds = value()?.parse()?,
            "--slice" => size.slice = value()?.parse()?,
            "--target" => target = value()?,
            // What cargo itself passes.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let cores = std::thread::available_parallelism()?;
    println!("{target}: {} people, {} rounds, {cores} cores", size.people, size.rounds);
    match target.as_str() {
        "postgres" => postgres::run(&size),
        "mongodb" => mongodb::run(&size),
        _ => Err(format!("--target is postgres or mongodb, not {target}").into()),
    }
}

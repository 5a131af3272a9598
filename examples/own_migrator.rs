//! A program of one's own: all of `v1v2`, with a migrator in Rust for one entity.
//!
//! ```sh
//! cargo run --example own_migrator -- migrate --dry-run
//! ```
//!
//! The built-in definition of teachers says where they are read and what they are written to; this adds what no SQL of V1
//! can say. It is pure: the same row always becomes the same records, in a dry run, a retry and `validate` too.

use std::process::ExitCode;

use v1v2::ledger::Reject;
use v1v2::migrator::{Context, Definition, Migrator, Records};
use v1v2::row::Row;

/// What the school calls a degree, and what V2 calls it.
const DEGREES: [(&str, &str); 3] = [("bed", "B.Ed."), ("bsc", "B.Sc."), ("nce", "NCE")];

struct Teachers(Definition);

impl Migrator for Teachers {
    fn entity(&self) -> usize {
        self.0.entity()
    }

    fn version(&self) -> u32 {
        // One more with each change of what it makes of a row, so that rows which are in V2 already are brought up to date.
        1
    }

    fn convert(&self, row: &Row<'_>, context: &Context<'_>, records: &mut Records) -> Result<(), Reject> {
        let hired = context.column("hire_date").and_then(|column| row.text(column));
        // Postgres writes dates so that their order is that of their text. The reason names no value: it stands in reports.
        if hired.is_some_and(|date| *date < *"1950-01-01") {
            return Err(Reject::new("hired-too-early", "hire_date lies before 1950"));
        }
        let Some(column) = context.column("qualification") else {
            return self.0.convert(row, context, records);
        };
        let letters: String =
            row.text(column).unwrap_or_default().chars().filter(|c| c.is_alphabetic()).collect();
        match DEGREES.iter().find(|(known, _)| *known == letters.to_lowercase()) {
            Some((_, name)) => self.0.convert(&row.with(&[(column, Some(name))]).row(0), context, records),
            None => self.0.convert(row, context, records),
        }
    }
}

fn main() -> ExitCode {
    v1v2::cli::with("teachers", Teachers).main()
}

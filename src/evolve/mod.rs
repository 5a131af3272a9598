//! Versioned changes of V2's own structure and documents, because V2 goes on changing after the people have moved.
//!
//! A change is a folder of two scripts, one that makes it and one that takes it back: SQL for Postgres, steps for MongoDB
//! (see [`steps`]). What was applied is kept in V2 itself, in the transaction of the work wherever the database allows
//! it, so that a kill at any moment leaves a V2 that says how far it got. Nothing here needs V1, or a V2 that was ever
//! migrated into: a database which has nothing to do with a migration can be changed in the same way.
//!
//! Folders become [`Evolutions`] (all their mistakes at once), these and V2's records become a list of things to do
//! ([`order`], pure), and a [`Store`] does them. [`Session`] holds the three together for the command line.

mod folder;
mod manifest;
pub mod mongodb;
pub mod order;
pub mod postgres;
mod record;
mod session;
pub mod statements;
pub mod steps;
mod store;
pub mod template;

use std::ops::Range;

pub use folder::load;
pub use record::{Record, State};
pub use session::{Accepted, Session, accept};
pub use steps::Step;
pub use store::{Job, Store, Watch};

use crate::connect::Scheme;
use crate::definition::SourceFile;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Makes the change.
    Up,
    /// Takes it back.
    Down,
}

impl Direction {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// All evolutions of a folder that concern this kind of database, in the order in which they are applied.
#[derive(Debug, Clone)]
pub struct Evolutions {
    /// The folder, for messages.
    pub folder: std::path::PathBuf,
    /// Whose scripts were read.
    pub scheme: Scheme,
    /// What each one requires stands before it; otherwise by number.
    pub list: Vec<Evolution>,
}

impl Evolutions {
    /// The evolution of this number.
    pub fn find(&self, number: u32) -> Option<&Evolution> {
        self.list.iter().find(|evolution| evolution.number == number)
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Evolution {
    /// The number that its folder's name begins with: what it is known by in V2.
    pub number: u32,
    /// The folder's name, number included.
    pub name: String,
    /// What it does, in a sentence for `status`.
    pub description: Option<String>,
    /// Numbers of those that must have been applied before.
    pub requires: Vec<u32>,
    /// Why it cannot be taken back.
    pub irreversible: Option<String>,
    /// Postgres: whether it runs in one transaction.
    pub transaction: bool,
    /// Makes the change.
    pub up: Script,
    /// Takes it back; never absent unless it is irreversible.
    pub down: Option<Script>,
    /// SHA-256 (hex) over all files of its folder.
    pub checksum: String,
}

impl Evolution {
    /// Its scripts that nobody has filled in yet: applied, they would count as done for ever after.
    pub fn unfilled(&self) -> impl Iterator<Item = &Script> {
        let is_empty = matches!(&self.up.work, Work::Sql(statements) if statements.is_empty());
        let up = Some(&self.up).filter(|up| is_empty || template::is_untouched(&up.file.text));
        let down = self.down.as_ref().filter(|down| template::is_untouched(&down.file.text));
        up.into_iter().chain(down)
    }

    /// The script of a direction.
    pub fn script(&self, direction: Direction) -> Option<&Script> {
        match direction {
            Direction::Up => Some(&self.up),
            Direction::Down => self.down.as_ref(),
        }
    }
}

/// A script that was read and found to be well-formed.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its text, for messages that point into it.
    pub file: SourceFile,
    /// What it does.
    pub work: Work,
}

/// What a script does, in parts that are done one after the other.
#[derive(Debug, Clone)]
pub enum Work {
    /// Statements, as places in the text.
    Sql(Vec<Range<usize>>),
    /// Steps.
    Steps(Vec<Step>),
}

impl Script {
    /// How many statements or steps.
    pub fn parts(&self) -> usize {
        match &self.work {
            Work::Sql(statements) => statements.len(),
            Work::Steps(steps) => steps.len(),
        }
    }

    /// A checksum of the first parts: those which are done must not be edited when the rest is mended and tried again.
    pub fn checksum_of(&self, parts: usize) -> String {
        let mut text = String::new();
        match &self.work {
            Work::Sql(statements) => {
                for range in statements.iter().take(parts) {
                    text.push_str(&self.file.text[range.clone()]);
                    text.push_str(";\n");
                }
            }
            Work::Steps(steps) => {
                for step in steps.iter().take(parts) {
                    text.push_str(&format!("{step:?}\n"));
                }
            }
        }
        folder::hex_digest([text.as_bytes()])
    }
}

/// A script that is about to be executed, perhaps behind parts of it that are done already.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What it is called in messages: the evolution's name, or that of its way back.
    pub name: String,
    /// The script of the direction in which it goes.
    pub script: Script,
    /// How many of its parts are done.
    pub done: usize,
}

/// The name of a database's kind, and the ending of its scripts.
fn kind(scheme: Scheme) -> (&'static str, &'static str) {
    match scheme {
        Scheme::Postgres => ("Postgres", "sql"),
        Scheme::MongoDb => ("MongoDB", "json"),
    }
}

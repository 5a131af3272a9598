//! Moves an application's people and records from its old database (V1, Postgres) to its new one (V2).
//!
//! Start with `ARCHITECTURE.md`: it explains the five promises that hold the design together. The program is
//! [`cli::main`]; a program of your own with a migrator in Rust is `v1v2::cli::with("entity", MyMigrator).main()`: see
//! `examples/own_migrator.rs`.

pub mod backup;
pub mod catalog;
pub mod census;
pub mod cli;
pub mod connect;
pub mod credentials;
pub mod definition;
pub mod error;
pub mod evolve;
mod failpoint;
pub mod identity;
pub mod ids;
pub mod ledger;
pub mod migrator;
pub mod password;
pub mod plan;
pub mod preflight;
pub mod report;
pub mod row;
pub mod run;
pub mod sample;
pub mod settings;
pub mod setup;
pub mod source;
pub mod target;
pub mod validate;

pub use error::{Error, Result};

//! What the integration tests stand on: real servers, a database per test, and the real program.
//!
//! Nothing here imitates anything. A test that is green on an imitation says little about a tool whose whole job is
//! to get along with two servers; starting real ones takes two seconds per checkout, a database some milliseconds.
//!
//! Everything may be called from plain `#[test]` functions and from `#[tokio::test]` alike: the support has a runtime
//! of its own, and its calls block.

pub mod circle;
pub mod databases;
pub mod foretold;
pub mod mongod;
pub mod mongodb;
pub mod prepared;
pub mod program;
pub mod proxy;
pub mod sample;
pub mod servers;

pub use self::mongodb::MongoDatabase;
pub use databases::{Database, Digest};
pub use mongod::Mongod;
pub use program::{Outcome, Project, Running};

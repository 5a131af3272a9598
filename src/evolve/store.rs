//! What the command asks of a database that evolves.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Direction, Evolution, Record, Script, mongodb, postgres};
use crate::connect::{self, Scheme, Side};
use crate::error::{Error, Result};
use crate::report::Progress;
use crate::settings::Settings;
use crate::target::RunRecord;

/// One evolution to be applied or taken back.
pub struct Job<'j> {
    /// Which one.
    pub evolution: &'j Evolution,
    /// Which way.
    pub direction: Direction,
    /// The script; `None` if there is none and it is only to be noted as taken back.
    pub script: Option<&'j Script>,
    /// Its place among those that were applied.
    pub serial: i64,
    /// What is done of it already, when it goes on where it stopped.
    pub resume: Option<&'j Record>,
}

impl Job<'_> {
    /// How many parts are done already.
    pub fn done(&self) -> usize {
        self.resume.map_or(0, |record| record.done)
    }
}

/// The person in front of it: is shown the progress, and may want to stop.
pub struct Watch {
    /// Progress.
    pub progress: Progress,
    /// True once the user wants to stop.
    pub stop: watch::Receiver<bool>,
}

impl Watch {
    /// Ends the work if the user wants it to.
    ///
    /// # Errors
    /// Interrupted.
    pub fn check(&self) -> Result<()> {
        if *self.stop.borrow() {
            return Err(Error::interrupted("interrupted")
                .help("run the same command again: it goes on where it stopped"));
        }
        Ok(())
    }
}

/// A database that evolves. The same promises as for a run: at most one holder of the lock writes at any time, `migrate` and
/// others included; what is recorded is what is there.
#[async_trait]
pub trait Store: Send {
    /// Where it is, for messages.
    fn place(&self) -> &str;

    /// Whether `setup` has prepared it for a migration.
    async fn is_prepared(&mut self) -> Result<bool>;

    /// What was done so far; nothing if there was never anything. Only reads.
    async fn records(&mut self) -> Result<Vec<Record>>;

    /// Takes the lock, and makes the table or collection of evolutions if it is not there.
    ///
    /// # Errors
    /// Refused, naming the holder, if somebody else has it.
    async fn lock(&mut self, record: &RunRecord) -> Result<()>;

    /// Does it and records it. Goes on where `job.resume` says.
    ///
    /// # Errors
    /// It is recorded as failed, if the database could still be told; what is recorded as done is done.
    async fn run(&mut self, job: &Job<'_>, watch: &Watch) -> Result<()>;

    /// Tells for each what would happen, and changes nothing.
    ///
    /// # Errors
    /// Something would fail.
    async fn attempt(&mut self, jobs: &[Job<'_>]) -> Result<Vec<Vec<String>>>;

    /// Records the evolution as it is now as the one that was applied.
    async fn accept(&mut self, evolution: &Evolution) -> Result<()>;

    /// Gives the lock back, and notes how it ended.
    async fn release(&mut self, error: Option<&Error>);
}

/// The database that the settings name as V2.
pub(super) async fn open(settings: &std::sync::Arc<Settings>) -> Result<Box<dyn Store>> {
    Ok(match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => Box::new(postgres::Postgres::open(settings).await?),
        Scheme::MongoDb => Box::new(mongodb::MongoDb::open(settings).await?),
    })
}

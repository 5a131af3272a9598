//! One invocation of `v1v2 evolve`: folder, records and database together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::store::{self, Job, Store, Watch};
use super::{Direction, Evolution, Evolutions, Pending, Record, load, order};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::RunRecord;

/// Folder, records and database.
pub struct Session {
    /// What the folder has.
    pub evolutions: Evolutions,
    /// What the database has; see [`Session::lock`].
    pub records: Vec<Record>,
    store: Box<dyn Store>,
}

impl Session {
    /// Reads the folder, connects and reads what was done. Changes nothing.
    ///
    /// # Errors
    /// Usage: mistakes in the folder, all at once. Otherwise as connecting.
    pub async fn open(settings: &Arc<Settings>) -> Result<Self> {
        let evolutions = load(&settings.evolutions, connect::scheme(Side::V2, settings)?)?;
        let mut store = store::open(settings).await?;
        let records = store.records().await?;
        Ok(Self { evolutions, records, store })
    }

    /// Where the database is, for messages.
    pub fn place(&self) -> &str {
        self.store.place()
    }

    /// Takes the lock and reads again what was done: somebody else may just have finished.
    ///
    /// # Errors
    /// Refused, naming the holder, if somebody else writes.
    pub async fn lock(&mut self, arguments: Vec<String>) -> Result<()> {
        let record = RunRecord { command: "evolve", arguments, ..RunRecord::default() };
        self.store.lock(&record).await?;
        self.records = self.store.records().await?;
        Ok(())
    }

    /// What is to be done, in order.
    ///
    /// # Errors
    /// As [`order::up`] and [`order::down`].
    pub fn plan(&self, direction: Direction, to: Option<u32>, force: bool) -> Result<Vec<Evolution>> {
        let list = match direction {
            Direction::Up => order::up(&self.evolutions, &self.records, to)?,
            Direction::Down => order::down(&self.evolutions, &self.records, to, force)?,
        };
        Ok(list.into_iter().cloned().collect())
    }

    /// What of these scripts is still to be executed.
    pub fn pending(&self, direction: Direction, list: &[Evolution]) -> Vec<Pending> {
        let of = |evolution: &Evolution| {
            let script = evolution.script(direction)?.clone();
            let half = |record: &&Record| {
                record.number == evolution.number && record.is_partial() && record.direction == direction
            };
            let done = self.records.iter().find(half).map_or(0, |record| record.done);
            let name = match direction {
                Direction::Up => evolution.name.clone(),
                Direction::Down => format!("the way back of {}", evolution.name),
            };
            Some(Pending { name, script, done })
        };
        list.iter().filter_map(of).collect()
    }

    /// Records that the folder does not know.
    pub fn strangers(&self) -> Vec<&Record> {
        let unknown = |record: &&Record| {
            (record.is_applied() || record.is_partial()) && self.evolutions.find(record.number).is_none()
        };
        self.records.iter().filter(unknown).collect()
    }

    /// Tells for each what would happen.
    ///
    /// # Errors
    /// Something would fail.
    pub async fn attempt(&mut self, direction: Direction, list: &[Evolution]) -> Result<Vec<Vec<String>>> {
        let job = |evolution| Self::job_of(&self.records, evolution, direction);
        let jobs = list.iter().map(job).collect::<Result<Vec<_>>>()?;
        self.store.attempt(&jobs).await
    }

    /// Does one of them; how long it took. The lock must be held.
    ///
    /// # Errors
    /// It was not done as a whole; its record says what is left.
    pub async fn run(
        &mut self,
        evolution: &Evolution,
        direction: Direction,
        watch: &Watch,
    ) -> Result<Duration> {
        if direction == Direction::Up
            && let Some(missing) = order::unmet(evolution, &self.evolutions, &self.records)
        {
            return Err(Error::refused(format!(
                "{} requires {}, which is not applied",
                evolution.name, missing.name
            )));
        }
        watch.check()?;
        let began = Instant::now();
        let job = Self::job_of(&self.records, evolution, direction)?;
        self.store.run(&job, watch).await?;
        let took = began.elapsed();
        self.records = self.store.records().await?;
        Ok(took)
    }

    /// Accepts the folder's evolutions as those that were applied; the names of those that differed.
    ///
    /// # Errors
    /// The database does not answer.
    async fn accept(&mut self) -> Result<Vec<String>> {
        let edited: Vec<u32> =
            order::edited(&self.evolutions, &self.records).iter().map(|record| record.number).collect();
        let mut names = Vec::new();
        for number in edited {
            if let Some(evolution) = self.evolutions.find(number) {
                self.store.accept(evolution).await?;
                names.push(evolution.name.clone());
            }
        }
        Ok(names)
    }

    /// Gives the lock back.
    pub async fn release(mut self, error: Option<&Error>) {
        self.store.release(error).await;
    }

    fn job_of<'j>(records: &'j [Record], evolution: &'j Evolution, direction: Direction) -> Result<Job<'j>> {
        let record = records.iter().find(|record| record.number == evolution.number);
        let next = records.iter().map(|record| record.serial).max().unwrap_or(0) + 1;
        // What is taken back keeps its place, in case that fails.
        let serial = match direction {
            Direction::Up => next,
            Direction::Down => record.map_or(next, |record| record.serial),
        };
        let script = evolution.script(direction);
        let resume = record.filter(|record| record.is_partial() && record.direction == direction);
        if let (Some(record), Some(script)) = (resume, script)
            && record.done_checksum.is_some()
            && record.done_checksum.as_deref() != Some(script.checksum_of(record.done).as_str())
        {
            return Err(Error::refused(format!(
                "{} stopped after {} of its parts, and these were edited since", evolution.name, record.done
            ))
            .help("bring back what is done already; only the part at which it stopped, and what follows, may be mended"));
        }
        Ok(Job { evolution, direction, script, serial, resume })
    }
}

/// What [`accept`] found.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Whether the database only evolves: `setup` was never there.
    pub only_evolves: bool,
    /// Evolutions that were edited after they had been applied, and are accepted as they are now.
    pub names: Vec<String>,
}

/// For `repair`: accepts edited evolutions. Without a folder, or in a database that never evolved, there is nothing to do.
///
/// # Errors
/// Usage: mistakes in the folder. Refused if somebody else writes to the database.
pub async fn accept(settings: &Arc<Settings>) -> Result<Accepted> {
    if !settings.evolutions.is_dir() {
        return Ok(Accepted::default());
    }
    let mut session = Session::open(settings).await?;
    let only_evolves = !session.records.is_empty() && !session.store.is_prepared().await?;
    if order::edited(&session.evolutions, &session.records).is_empty() {
        return Ok(Accepted { only_evolves, names: Vec::new() });
    }
    session.lock(vec!["repair".to_owned()]).await?;
    let accepted = session.accept().await;
    session.release(accepted.as_ref().err()).await;
    Ok(Accepted { only_evolves, names: accepted? })
}

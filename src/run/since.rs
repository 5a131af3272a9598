//! Reads an entity that V2 has already: once.
//!
//! A first run reads V1 twice, because nobody can be migrated before it is known who is who. A later run knows that of
//! almost everybody: the ledger remembers what a row claims, and a row whose text has the same hash claims the same. So
//! one pass over the whole rows, beside the ledger, serves the census and finds what is new or has changed; these few
//! rows are kept until the census has decided. When they are too many to be kept, the second pass is made after all.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::broken;
use super::contact::{ContactColumns, Normalised};
use super::identify::{Ask, Fate, Identified, Identify};
use super::summary::Found;
use crate::census::Claims;
use crate::error::Result;
use crate::failpoint;
use crate::ledger::{Beside, Gone, Outcome};
use crate::migrator::PackedPhone;
use crate::plan::Plan;
use crate::row::{Row, Rows};
use crate::source::Ahead;
use crate::target::Control;

/// How many bytes of V1's rows are kept at most. Enough for one percent of some millions of rows.
const MOST_KEPT: usize = 16 << 20;

/// People that are handed on at a time.
const PORTION: usize = 1_000;

/// Portions that wait to be taken: some megabytes, so that V1 need not wait while the entity before is still being read.
const WAITING: usize = 128;

/// A row, as far as the census needs it.
pub(super) struct Met {
    pub person: Normalised,
    /// The account, if another row founded it.
    pub joined: Option<Uuid>,
    /// The row is in V2 and has not changed.
    pub closed: bool,
}

/// Rows that are to be migrated or brought up to date, in key order.
pub(super) struct Changes {
    rows: Rows,
    of: Vec<(String, u128, Fate)>,
}

impl Changes {
    /// Each row: its COPY text, key, hash, and what is to be done.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &str, u128, Fate)> {
        let line = |number| self.rows.row(number).line();
        self.of
            .iter()
            .enumerate()
            .map(move |(number, (key, hash, fate))| (line(number), &**key, *hash, *fate))
    }
}

/// An entity that was read.
pub(super) struct Seen {
    /// How many rows there are of each kind.
    pub found: Found,
    /// What V1 does not have any more.
    pub gone: Gone,
    /// `None` if they are too many to be kept.
    pub changes: Option<Changes>,
    /// The keys of the rows that are not closed.
    pub open: Vec<String>,
}

/// An entity that is being read.
pub(super) struct Since {
    met: Receiver<Vec<Met>>,
    /// `None`: V1 had no connection to spare.
    task: JoinHandle<Result<Option<Seen>>>,
}

/// What a reading needs.
pub(super) struct Reading {
    pub plan: Arc<Plan>,
    pub entity: usize,
    /// Among all columns of the source.
    pub contact: ContactColumns,
    /// Country in which phones without a country code are read.
    pub region: String,
    pub ask: Ask,
    /// The ledger's claims are made by the rules of today.
    pub trust_claims: bool,
    /// The keys of rows that are gone are wanted.
    pub keep_gone: bool,
}

impl Reading {
    /// Begins. `ahead` has all columns of the source.
    pub fn start(self, ahead: Ahead, control: Box<dyn Control>) -> Since {
        let (sender, met) = channel(WAITING);
        Since { met, task: tokio::spawn(self.read(ahead, control, sender)) }
    }

    async fn read(
        self,
        mut ahead: Ahead,
        mut control: Box<dyn Control>,
        sender: Sender<Vec<Met>>,
    ) -> Result<Option<Seen>> {
        let Some(mut lines) = ahead.first().await else { return Ok(None) };
        let entity = &self.plan.entities[self.entity];
        let kind = entity.source.key_kind;
        let ledger = control.ledger(&entity.name, kind).await?;
        failpoint::reach("read.ledger")?;
        let beside = Beside::open(ledger, kind).await?;
        let mut identify = Identify::new(entity, Some(beside), self.keep_gone);
        let mut kept = Kept::new(entity.source.columns.len());
        let (mut found, mut open, mut portion) = (Found::default(), Vec::new(), Vec::new());
        while !lines.is_empty() {
            for line in &lines {
                let row = kept.next(line)?;
                let identified = identify.next(&row).await?;
                let fate = Fate::of(&identified, self.ask);
                fate.count(&mut found);
                let met = self.meet(&identified, &row, fate)?;
                if !met.closed {
                    open.push(identified.key.clone());
                }
                kept.decide(identified, fate);
                portion.push(met);
            }
            if portion.len() >= PORTION && sender.send(std::mem::take(&mut portion)).await.is_err() {
                return Err(broken("nobody takes the census any more"));
            }
            lines = ahead.next().await?;
        }
        // Nobody listens after a failure, which is reported by whoever had it.
        drop(sender.send(portion).await);
        let gone = identify.finish().await?;
        Ok(Some(Seen { found, gone, changes: kept.finish(), open }))
    }

    /// What the census needs of a row: what the ledger remembers, or else what the row says.
    fn meet(&self, identified: &Identified, row: &Row<'_>, fate: Fate) -> Result<Met> {
        let known = identified.known.filter(|known| known.source_hash == identified.hash);
        let settled = matches!(fate, Fate::Done { rejected: false })
            && known.is_some_and(|known| matches!(known.outcome, Outcome::Migrated | Outcome::Merged));
        let remembered: Option<Claims> =
            known.filter(|_| settled && self.trust_claims).and_then(|of| of.claims);
        let person = match remembered {
            // Nobody asks for the phone of a row that is not converted.
            Some(claims) => Normalised {
                key: identified.key.clone(),
                claims,
                phone: PackedPhone::default(),
                has_account: true,
            },
            None => self.contact.normalise(row, &self.region)?,
        };
        Ok(Met { person, joined: identified.known.and_then(|known| known.joined), closed: settled })
    }
}

impl Since {
    /// The next people; `None` after the last.
    pub async fn next(&mut self) -> Option<Vec<Met>> {
        self.met.recv().await
    }

    /// What was found; `None` if V1 had no connection to spare, and nobody was met.
    pub async fn finish(self) -> Result<Option<Seen>> {
        self.task.await.map_err(|_| broken("reading V1 panicked"))?
    }
}

/// The rows that are kept.
struct Kept {
    rows: Rows,
    of: Vec<(String, u128, Fate)>,
    too_many: bool,
}

impl Kept {
    fn new(width: usize) -> Self {
        Self { rows: Rows::new(width), of: Vec::new(), too_many: false }
    }

    /// Takes the next row in, until [`Kept::decide`] says whether it stays.
    fn next(&mut self, line: &[u8]) -> Result<Row<'_>> {
        if !self.rows.push(line) {
            return Err(broken("V1 sent a row with another number of columns"));
        }
        Ok(self.rows.row(self.rows.len() - 1))
    }

    fn decide(&mut self, row: Identified, fate: Fate) {
        if self.too_many || matches!(fate, Fate::Done { .. } | Fate::Ignored) {
            self.rows.pop();
            return;
        }
        self.of.push((row.key, row.hash, fate));
        if self.rows.size() > MOST_KEPT {
            *self = Self { too_many: true, ..Self::new(self.rows.width()) };
        }
    }

    fn finish(self) -> Option<Changes> {
        (!self.too_many).then_some(Changes { rows: self.rows, of: self.of })
    }
}

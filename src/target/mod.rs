//! V2, whatever database it is: what the engine asks of it, and what it may rely on.
//!
//! The run, `validate`, `status`, `rollback` and the others know these traits alone; [`postgres`] and [`mongodb`] keep
//! their promises. The most important one is [`Writer::commit`]'s: **a chunk's records, accounts, roles and ledger
//! lines become visible together or not at all**, whatever happens in between. Everything else (resume, running again,
//! a second machine that takes over) is built on it.

pub mod definition;
pub mod mongodb;
pub mod postgres;
mod record;
mod replicas;
mod stays;
mod structure;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use sqlx::PgConnection;

pub use record::{
    FreshAccount, KnownEntity, Login, NewEntity, Nothing, Overview, RolledBack, RunName, RunRecord, State,
    ToTakeBack, holder,
};
pub use replicas::{Look, Replica, Replicas};

use self::definition::Applied;
use crate::census::ExistingAccount;
use crate::connect::{self, Scheme, Side};
use crate::definition::Definitions;
use crate::error::Result;
use crate::ledger::{Known, Line, Outcome, Reject};
use crate::migrator::Records;
use crate::plan::{Accounts, Entity, KeyKind, Lookup, Plan};
use crate::row::Rows;
use crate::settings::{OnEdited, Settings};
use crate::validate::{Check, EntityCounts};

/// How many records of each table a dry run shows.
pub(crate) const SAMPLES: u32 = 10;

/// The V2 that the settings name.
///
/// # Errors
/// Usage: there is no URL, or not one of a database that V2 can be. Connecting is left to the methods.
pub fn open(settings: &Arc<Settings>) -> Result<Box<dyn Target>> {
    let place = connect::place(Side::V2, settings)?.to_string();
    Ok(match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => Box::new(postgres::Postgres::new(settings.clone(), place)),
        Scheme::MongoDb => Box::new(mongodb::MongoDb::new(settings.clone(), place)),
    })
}

/// Tables or collections of v1v2's own that people read.
#[derive(Debug, Clone, Copy)]
pub struct Logs {
    /// What was decided about clashes.
    pub conflicts: &'static str,
    /// Rejected rows with their source.
    pub rejects: &'static str,
}

/// One V2.
#[async_trait]
pub trait Target: Send + Sync {
    /// Where it is, for messages: no user, no password.
    fn place(&self) -> &str;

    /// Where the conflict log and the rejected rows can be read, for messages.
    fn logs(&self) -> Logs;

    /// Checks the definitions against V1 and this V2. Only reads.
    ///
    /// # Errors
    /// Usage with every problem at once as its details; refused if V1 and V2 are one database.
    async fn plan(&self, definitions: &Definitions, v1: &mut PgConnection) -> Result<Plan>;

    /// A session that reads what V2 knows.
    ///
    /// # Errors
    /// Refused if `setup` has not prepared V2.
    async fn control(&self) -> Result<Box<dyn Control>>;

    /// Takes the lock: at most one holder at any time. Nothing is written yet.
    ///
    /// # Errors
    /// Refused, naming the holder, if another run has it; or if V2 is not prepared.
    async fn hold(&self) -> Result<Box<dyn Held>>;

    /// One of several writers of a run, from 0. It connects when it is first needed.
    fn writer(&self, plan: &Arc<Plan>, run: RunName, number: usize) -> Box<dyn Writer>;

    /// A writer for dry runs: decides as V2 would, and leaves nothing behind. `with_rows`: V2 has rows already.
    async fn trial(&self, plan: &Arc<Plan>, with_rows: bool) -> Result<Box<dyn Trial>>;

    /// What compares V2 with V1's rows of today, field by field.
    async fn comparer(&self, plan: &Arc<Plan>) -> Result<Box<dyn Comparer>>;

    /// The sight of V2's replicas, over a connection of its own.
    ///
    /// # Errors
    /// Refused, with the privilege that is missing, if V2 does not let us see them.
    async fn replicas(&self) -> Result<Box<dyn Replicas>>;

    /// Brings back what a bulk load took away; returns how many objects. `each` is told the name of each.
    async fn restore(&self, each: &Told<'_>) -> Result<usize>;
}

/// The fact that tells by which rules the claims in the ledger were made.
pub const CLAIMS_FACT: &str = "claims";

/// Is told names of what is being made.
pub type Told<'t> = dyn Fn(&str) + Send + Sync + 't;

/// Takes keys.
pub type EachKey<'e> = dyn FnMut(&str) + Send + 'e;

/// Takes keys with the ids of their accounts.
pub type EachJoined<'e> = dyn FnMut(&str, &str) + Send + 'e;

/// Takes accounts.
pub type EachAccount<'e> = dyn FnMut(&ExistingAccount<'_>) + Send + 'e;

/// Ledger lines of one entity in the order of their keys, as V2 sends them.
pub type LedgerLines<'c> = futures_util::stream::BoxStream<'c, Result<(String, Known)>>;

/// What V2 knows: reading, and the run's own notes.
#[async_trait]
pub trait Control: Send {
    /// What was decided when an entity was first read.
    async fn entity(&mut self, name: &str) -> Result<Option<KnownEntity>>;

    /// Keeps such decisions, before the first id is made with them. What is known already stays as it is.
    async fn keep_entities(&mut self, new: &[NewEntity], run: i32) -> Result<()>;

    /// A fact about V2.
    async fn fact(&mut self, key: &str) -> Result<Option<String>>;

    /// Keeps a fact about V2 if there is none of that key yet.
    async fn remember(&mut self, key: &str, value: &str) -> Result<()>;

    /// How the tables that these entities write differ from what they were when the entity was first written, in words.
    async fn structure_changes(&mut self, entities: &[&Entity]) -> Result<Vec<String>>;

    /// Remembers these tables as they are now; with `anew` also where they are remembered already.
    async fn keep_structure(&mut self, entities: &[&Entity], anew: bool) -> Result<()>;

    /// Number of ledger lines, by entity.
    async fn ledger_lines(&mut self) -> Result<HashMap<String, u64>>;

    /// One entity's ledger lines in key order.
    async fn ledger<'c>(&'c mut self, entity: &str, kind: KeyKind) -> Result<LedgerLines<'c>>;

    /// Remembers by which definition an entity's rows are in V2 now, after this run, and by which they were before it.
    async fn keep_definition(&mut self, run: i32, entity: &str, now: &Applied) -> Result<()>;

    /// Forgets what the ledger remembers of rows' claims, because they are made by other rules from now on: these, which
    /// are kept as the fact [`CLAIMS_FACT`].
    async fn forget_claims(&mut self, rules: &str) -> Result<()>;

    /// Hands on key and account of an entity's rows that joined an account which another row had created, in any order.
    async fn joined_accounts(&mut self, entity: &str, each: &mut EachJoined<'_>) -> Result<()>;

    /// Hands on the keys of an entity's rows that are in V2, in any order.
    async fn migrated_keys(&mut self, entity: &str, each: &mut EachKey<'_>) -> Result<()>;

    /// Reference data: text key to the text of the id.
    async fn lookup(&mut self, lookup: &Lookup) -> Result<HashMap<String, String>>;

    /// Hands on all accounts, in any order.
    async fn accounts(&mut self, accounts: &Accounts, each: &mut EachAccount<'_>) -> Result<()>;

    /// What a bulk load took away and nobody has brought back yet: (table, name).
    async fn missing(&mut self) -> Result<Vec<(String, String)>>;

    /// For `status`.
    async fn overview(&mut self) -> Result<Overview>;

    /// The accounting of one entity, from the ledger.
    async fn accounting(&mut self, entity: &str) -> Result<EntityCounts>;

    /// Whether each ledger line's own record, account and role are there.
    async fn check_records(&mut self, entity: &Entity) -> Result<Vec<Check>>;

    /// Number of rows of each table that the plan writes, and what is wrong with them: orphans, duplicates.
    async fn check_tables(&mut self, plan: &Plan) -> Result<(Vec<(String, u64)>, Vec<Check>)>;

    /// Hands on each account whose password was generated by us and not changed since, ordered by scope and name.
    async fn fresh_accounts(
        &mut self,
        plan: &Plan,
        each: &mut (dyn FnMut(FreshAccount) -> Result<()> + Send),
    ) -> Result<()>;

    /// The account with this email (upper and lower case do not matter) or user name.
    async fn login(&mut self, plan: &Plan, email: &str) -> Result<Option<Login>>;
}

/// V2 is ours, and nothing was written yet: the moment for everything that may still refuse.
#[async_trait]
pub trait Held: Send {
    /// Refuses a V1 that the ledger was not made from.
    async fn require_same_source(&mut self, record: &RunRecord) -> Result<()>;

    /// What is to be taken back: the run with this id, or the newest one, whatever became of it. Never the run before the newest:
    /// a rollback that is given again after it ended well must not go on to the next run.
    ///
    /// # Errors
    /// Usage: there is no such run. Refused: there is no run at all, or a later one has changed what this one made.
    async fn find_run(&mut self, id: Option<&str>) -> Result<ToTakeBack>;

    /// Gives the lock back without having written anything. (Postgres sees to it when the connection ends.)
    async fn give_up(self: Box<Self>) {}

    /// Records the run: from now on its chunks can be committed.
    async fn begin(self: Box<Self>, record: &RunRecord) -> Result<Box<dyn RunLock>>;
}

/// The right to write to V2, on record. Whoever loses it cannot commit any more.
#[async_trait]
pub trait RunLock: Send {
    /// The run that holds it.
    fn run(&self) -> RunName;

    /// If V2 is empty of what the plan writes, takes away what only costs during the load, on record.
    async fn begin_bulk(&mut self, plan: &Plan) -> Result<()>;

    /// Removes what V2 has of rows that V1 no longer has, on record, so that a rollback of this run brings it back. An
    /// account that another row uses stays, and so does, with [`OnEdited::Keep`], a row of which somebody has edited a record.
    /// `gone` are indices of the plan, in its order, with keys: these entities refer to each other in a circle, and what of them
    /// only they themselves hold goes together; each has its count in the result.
    async fn prune(
        &mut self,
        plan: &Plan,
        gone: &[(usize, &[String])],
        on_edited: OnEdited,
    ) -> Result<Vec<Pruned>>;

    /// Takes a run back: exactly what it made, in reverse order, and nothing that was edited since. Can be called again
    /// after it was cut short. `advance` is told how many ledger lines are done.
    async fn rollback(
        &mut self,
        plan: &Plan,
        run: RunName,
        advance: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<RolledBack>;

    /// Records how the run ended and gives the lock back. `counts` is a JSON object. See [`release`].
    async fn release(
        self: Box<Self>,
        state: State,
        error: Option<&str>,
        counts: &serde_json::Value,
    ) -> Result<()>;
}

/// Releases a lock. That a run's end could not be recorded is a warning: what it wrote is in V2 all the same, and the next
/// run finds it there.
pub async fn release(lock: Box<dyn RunLock>, state: State, error: Option<&str>, counts: &serde_json::Value) {
    if let Err(error) = lock.release(state, error, counts).await {
        tracing::warn!("the run's end could not be recorded: {}", error.message());
    }
}

/// Writes chunks, one after the other; several of them work side by side, each with its own chunks.
#[async_trait]
pub trait Writer: Send {
    /// Writes a chunk whole, with its ledger lines and conflicts, or not at all. Rows that the database refuses are
    /// rejected in `batch`, alone; what goes away by itself is tried again; an unanswered commit is resolved.
    ///
    /// Rows that are in V2 already ([`Batch::update`]) become what they are now, and what they were is kept, so that a
    /// rollback of this run brings it back. Those whose change the database refuses are rejected in `batch` and stay as they
    /// were ([`REFUSED`] in the conflict log); records that somebody has edited since stay too, unless told otherwise
    /// ([`EDITED`], added to the batch's notes).
    ///
    /// # Errors
    /// The chunk is not in V2, and the same call in a new run will bring it; or nobody can tell, and the ledger will.
    async fn commit(&mut self, batch: &mut Batch) -> Result<()>;

    /// Gives its connection back.
    async fn close(self: Box<Self>);
}

/// Writes nothing that stays.
#[async_trait]
pub trait Trial: Send {
    /// As [`Writer::commit`].
    async fn commit(&mut self, batch: &mut Batch) -> Result<()>;

    /// As [`RunLock::prune`], after everything that the run would commit before it.
    async fn prune(&mut self, gone: &[(usize, &[String])], on_edited: OnEdited) -> Result<Vec<Pruned>>;

    /// The first records of each table, as lines of JSON with passwords masked; `entities` by index of the plan.
    async fn samples(&mut self, entities: &[usize]) -> Result<Vec<(String, Vec<String>)>>;

    /// Leaves nothing behind.
    async fn end(self: Box<Self>) -> Result<()>;
}

/// Reads V2, and tells where it is not what V1's rows become.
#[async_trait]
pub trait Comparer: Send {
    /// Compares rows that the ledger says are in V2 ([`Batch::update`] is set). Rows that could not be brought there any more are
    /// rejected in `batch`.
    async fn compare(&mut self, batch: &mut Batch) -> Result<Vec<Difference>>;
}

/// Where V2 is not what a row of V1 becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The row's entity.
    pub entity: String,
    /// The row's key in V1.
    pub key: String,
    /// The table or collection of V2.
    pub table: String,
    /// The column, or the field with its path inside the document; `None`: the record is missing.
    pub column: Option<String>,
}

/// A converted chunk: everything that one transaction writes.
pub struct Batch {
    /// The entity's index in the plan.
    pub entity: usize,
    /// Its name.
    pub name: Arc<str>,
    /// The source rows.
    pub rows: Rows,
    /// One ledger line for each source row.
    pub lines: Vec<Line>,
    /// Whether some of the rows have a ledger line already (rejects that are tried again).
    pub again: bool,
    /// What the rows became.
    pub records: Records,
    /// Set when the rows are in V2 already, and V1 has changed them since.
    pub update: Option<Update>,
}

/// What a writer must know to bring rows of V2 up to date.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// What becomes of V2's rows that somebody has edited since.
    pub on_edited: OnEdited,
    /// The definition was edited, so that records may be missing because they were never written. Otherwise a record that
    /// is missing was deleted by somebody, which is an edit like any other.
    pub definition_edited: bool,
    /// By row of the chunk: what of the account stays as V2 has it.
    pub keeps: Vec<Keeps>,
    /// By row of the chunk: V1 has not changed it, and only what was left out at first is filled in.
    pub completes: Vec<bool>,
}

/// What of an account stays as V2 has it, because what V1 has now belongs to somebody else. (The password, and what says
/// whether it may be used, always stays.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeps {
    /// Login email and user name.
    pub email: bool,
    /// Login phone.
    pub phone: bool,
}

/// The entry of the conflict log about rows of V2 that somebody edited before V1's row changed or went.
pub const EDITED: &str = "edited_in_v2";

/// The entry of the conflict log about changes and removals that V2 did not take: the row stays as it was.
pub const REFUSED: &str = "change_refused";

/// Why rows are not brought up to date whose account the census gives to another person today.
pub(crate) const ACCOUNT_CHANGED: &str =
    "V1's row belongs to another person now than the one whose account it has in V2";

/// What a removal of rows that V1 no longer has did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows of V1 whose records and ledger lines are gone from V2.
    pub removed: u64,
    /// Rows that stay because somebody has edited their records.
    pub edited: u64,
    /// Rows that stay because V2 has others that refer to them.
    pub refused: u64,
}

impl Batch {
    /// Rejects a row after all: the database refused it.
    pub fn reject(&mut self, row: u32, reject: Reject) {
        let line = &mut self.lines[row as usize];
        line.outcome = Outcome::Rejected;
        line.account_id = None;
        line.target_id = None;
        line.reject = Some(reject);
        self.records.notes.retain(|note| note.row != row);
    }

    /// Whether a row is rejected.
    pub fn is_rejected(&self, row: u32) -> bool {
        self.lines[row as usize].outcome == Outcome::Rejected
    }
}

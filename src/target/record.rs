//! What passes between the engine and a V2 beside chunks: runs, what V2 remembers of entities, accounts read back.

use serde::Serialize;
use uuid::Uuid;

/// A run in V2's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunName {
    /// Its number: what ledger lines hold.
    pub number: i32,
    /// Its id (UUIDv7).
    pub id: Uuid,
}

/// What is recorded when a run begins.
#[derive(Debug, Clone, Default)]
pub struct RunRecord {
    /// The command: `migrate`, `rollback`, `repair`.
    pub command: &'static str,
    /// Its arguments, without secrets.
    pub arguments: Vec<String>,
    /// V1's system identifier, where the role may read it.
    pub source_system: Option<String>,
    /// V1's database.
    pub source_database: Option<String>,
}

/// What there is to do for a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToTakeBack {
    /// This run is to be taken back, or what an interrupted rollback has left of it.
    Run(RunName),
    /// Nothing.
    Nothing {
        /// The run that was meant.
        run: RunName,
        /// Why there is nothing to do.
        why: Nothing,
        /// The newest run before it that could be taken back. Only somebody who names it can mean it.
        before: Option<RunName>,
    },
}

/// Why there is nothing to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nothing {
    /// The run was rolled back already: this is a rollback given again after all went well.
    RolledBack,
    /// The run has left nothing in V2: V1 had nothing new, or it stopped before its first chunk.
    ChangedNothing,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It did all it was to do.
    Done,
    /// It stopped with an error.
    Failed,
    /// The user stopped it.
    Interrupted,
}

impl State {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is recorded about a run whose program was killed.
pub const ENDED_WITHOUT_A_WORD: &str = "the program ended without a word (killed, or its machine went down)";

/// What V2 remembers about an entity.
#[derive(Debug, Clone)]
pub struct KnownEntity {
    /// What all its keys began with when it was first read: ids are derived without it.
    pub key_prefix: String,
    /// The hash of its definition at that time.
    pub definition_hash: Option<String>,
}

/// An entity that V2 does not know yet.
#[derive(Debug, Clone)]
pub struct NewEntity {
    /// Its name.
    pub name: String,
    /// What all its keys begin with.
    pub key_prefix: String,
    /// The hash of its definition.
    pub definition_hash: String,
}

/// What `status` shows, as text for people. Times are in UTC.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Entity, migrated, merged, skipped, rejected, total; in the order they were migrated.
    pub accounting: Vec<[String; 6]>,
    /// Entity, code, rows.
    pub rejected: Vec<[String; 3]>,
    /// Entity, kind, decision, rows.
    pub conflicts: Vec<[String; 4]>,
    /// Id, command, state, start, seconds, error; newest first, at most ten.
    pub runs: Vec<[String; 6]>,
    /// Who holds the lock now.
    pub holder: Option<String>,
}

/// What a rollback did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RolledBack {
    /// The run that was taken back: its number in V2.
    pub run: i32,
    /// Its id.
    pub id: String,
    /// Rows removed, by table.
    pub removed: Vec<(String, u64)>,
    /// Rows that the run had changed or removed and that are what they were, by table.
    pub restored: Vec<(String, u64)>,
    /// Rows that somebody has edited since, and that stay: table and id.
    pub kept: Vec<(String, String)>,
    /// Ledger lines taken back.
    pub lines: u64,
}

impl RolledBack {
    /// Nothing yet.
    pub fn of(run: RunName) -> Self {
        Self { run: run.number, id: run.id.to_string(), ..Self::default() }
    }

    /// Counts removed rows.
    pub fn removed(&mut self, table: &str, rows: u64) {
        count(&mut self.removed, table, rows);
    }

    /// Counts rows that are what they were before the run.
    pub fn restored(&mut self, table: &str, rows: u64) {
        if rows > 0 {
            count(&mut self.restored, table, rows);
        }
    }
}

fn count(tables: &mut Vec<(String, u64)>, table: &str, rows: u64) {
    match tables.iter_mut().find(|(name, _)| name == table) {
        Some((_, count)) => *count += rows,
        None => tables.push((table.to_owned(), rows)),
    }
}

/// An account whose generated password nobody has changed yet.
#[derive(Debug, Clone)]
pub struct FreshAccount {
    /// Its id, as the password was derived from it.
    pub id: String,
    /// The entity whose row created it.
    pub entity: String,
    /// What its first role is limited to: a code, a name or an id; empty for a role without limits.
    pub scope: String,
    /// The person's name.
    pub name: String,
    /// User name.
    pub login: String,
    /// Email.
    pub email: String,
}

/// What a login needs. No `Debug`: it holds a hash.
#[derive(Clone)]
pub struct Login {
    /// The stored hash.
    pub hash: Option<String>,
    /// Whether the account is locked.
    pub locked: bool,
}

/// Who this program is, for the one who finds V2 locked.
pub fn holder() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let host =
        std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned()).unwrap_or_default();
    format!("{user}@{host}, process {}", std::process::id())
}

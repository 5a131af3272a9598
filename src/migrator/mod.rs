//! What the engine runs for one entity: a migrator turns a row of V1, and what the census decided about its person,
//! into records of V2.
//!
//! Converting is pure, with no I/O and no clock, so the same row always becomes the same records: in a dry run, in the
//! run itself, in a retry and in `validate`. A checked definition is a migrator ([`Definition`]); Rust code can be one.

mod convert;
mod custom;
mod person;
mod phones;
mod references;
mod split;

use std::sync::Arc;

pub use convert::Definition;
pub use custom::{Custom, Make, Migrators};
pub use person::{Account, Person};
pub use phones::{KnownPhone, PackedPhone, Phones};
pub use references::{Lookups, MigratedKeys, References};

use crate::ids::IdMaker;
use crate::ledger::Reject;
use crate::plan::{Entity, Ids, Plan};
use crate::row::{Lines, Row};

/// The code of references to rows that are not in V2.
pub const MISSING_REFERENCE: &str = "missing-reference";

/// One entity of V1 and what it becomes. Pure: no I/O.
pub trait Migrator: Send + Sync {
    /// The entity in the plan that this migrator converts.
    fn entity(&self) -> usize;

    /// Another one than before says that this migrator converts rows in another way, so that those which are in V2 already
    /// count as changed. For migrators in Rust: an edited definition is noticed by itself.
    fn version(&self) -> u32 {
        0
    }

    /// Converts one row. Records go to `records`, in the shape of the entity's writes; after a reject the engine
    /// takes back what was added for this row.
    ///
    /// # Errors
    /// [`Reject`]: this row cannot be migrated; the others go on.
    fn convert(&self, row: &Row<'_>, context: &Context<'_>, records: &mut Records) -> Result<(), Reject>;
}

/// What a migrator may know beside the row.
pub struct Context<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// How each entity's V2 ids are made, by index of the plan.
    pub ids: &'a [EntityIds],
    /// Which rows of other entities are in V2.
    pub references: &'a References,
    /// V2's reference data.
    pub lookups: &'a Lookups,
    /// The row's entity, by index of the plan.
    pub entity: usize,
    /// The row's number in the chunk.
    pub number: u32,
    /// The row's key.
    pub key: &'a str,
    /// The row's person, if it has one.
    pub person: Option<&'a Person>,
    /// What is filled in later (`later = true`): `None` while rows are written for the first time, when ids are left
    /// out and so are references to rows that are not in V2 yet. Otherwise by entity, whether a row of it that is not
    /// in V2 will not come any more, so that a reference to it leads nowhere.
    pub settled: Option<&'a [bool]>,
    /// The time at which the run began, as Postgres writes a timestamp in UTC.
    pub now: &'a str,
}

impl Context<'_> {
    /// The row's own V2 id.
    pub fn own_id(&self) -> String {
        self.ids[self.entity].id(self.key)
    }

    /// The name of the row's entity.
    pub fn entity_name(&self) -> &str {
        &self.plan.entities[self.entity].name
    }

    /// The index of a column of the entity's query.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.plan.entities[self.entity].source.columns.iter().position(|column| column.name == name)
    }

    /// The V2 id of a row of an entity of the plan.
    pub fn target_id(&self, entity: usize, key: &str) -> String {
        self.ids[entity].id(key)
    }
}

/// How one entity's V2 ids are made.
#[derive(Debug, Clone)]
pub struct EntityIds {
    /// Makes derived ids.
    pub maker: IdMaker,
    /// Whether they are used, or V1's keys.
    pub kind: Ids,
}

impl EntityIds {
    /// The V2 id of a row.
    pub fn id(&self, key: &str) -> String {
        match self.kind {
            Ids::Keep => key.to_owned(),
            Ids::Uuid8 | Ids::ObjectId => self.kind.text(self.maker.id(key)),
        }
    }
}

/// What the rows of one chunk become: one buffer for each write of the entity.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// COPY text, by index of the entity's writes.
    pub writes: Vec<Lines>,
    /// What is to be told about rows that were migrated all the same.
    pub notes: Vec<Note>,
    /// The rows of which something was left out that is to be filled in later.
    pub incomplete: Vec<u32>,
}

impl Records {
    /// Empties the buffers for another chunk, perhaps of another entity, and keeps their memory.
    pub fn reset(&mut self, entity: &Entity) {
        self.writes.resize_with(entity.writes.len(), Lines::default);
        self.writes.iter_mut().for_each(Lines::clear);
        self.notes.clear();
        self.incomplete.clear();
    }

    /// Takes back what was added for a row: it was rejected.
    pub fn take_back(&mut self, row: u32) {
        for lines in &mut self.writes {
            lines.take_back(row);
        }
        self.notes.retain(|note| note.row != row);
        self.incomplete.retain(|of| *of != row);
    }
}

/// Something worth telling about a row that was migrated: an entry of the conflict log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The row's number in the chunk.
    pub row: u32,
    /// A stable code, as in the conflict log.
    pub kind: String,
    /// What was decided.
    pub decision: String,
    /// Another row that has to do with it.
    pub other: Option<(Arc<str>, String)>,
    /// Names of columns and tables; never values.
    pub detail: Option<String>,
}

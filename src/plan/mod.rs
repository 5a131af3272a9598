//! A plan is what the engine runs: definitions that were checked against both live catalogs.
//!
//! It is another type than the definitions as written, so that nothing unchecked reaches the engine: every column
//! is an index into the source row or a column that V2 has, every reference names an entity of the plan, and the
//! entities and their writes stand in an order that V2's foreign keys accept.

mod account;
mod account_field;
mod check;
mod choice;
mod column;
mod compile;
mod describe;
mod field;
mod fill;
mod kind;
mod lookup;
mod order;
mod part;
mod privileges;
mod query;
mod v2;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::migrator::Custom;
use crate::source::files::FileTable;

pub use crate::catalog::BsonKind;
pub use account_field::AccountField;
pub use check::{Inputs, check};
pub use choice::{Ids, Missing, Policies, Policy};
pub use compile::{Codes, compile, compile_mongodb};
pub use describe::{Described, DescribedColumn, Fault, Origin, Shape};
pub use part::{AddressPart, NamePart, Part};
pub use v2::V2;

/// Everything one run needs to know about both databases.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What an account is in V2; `None` when no entity has accounts.
    pub accounts: Option<Accounts>,
    /// In dependency order: whatever an entity refers to comes before it.
    pub entities: Vec<Entity>,
    /// Reference data that definitions look up; [`Fill::Lookup`] holds an index into it.
    pub lookups: Vec<Lookup>,
    /// Files that its queries read as tables of V1's connection.
    pub files: Vec<FileTable>,
    /// What is worth knowing but stops nothing: triggers on tables that are written, keys that nothing proves unique.
    pub notes: Vec<String>,
}

impl Plan {
    /// An account's V2 id as text.
    pub fn account_id(&self, id: uuid::Uuid) -> String {
        self.accounts.as_ref().map_or(Ids::Uuid8, |accounts| accounts.ids).text(id)
    }
}

/// What holds for all accounts (`migrators/accounts.toml`).
#[derive(Debug, Clone)]
pub struct Accounts {
    /// The policies for people who share an email or a phone.
    pub policies: Policies,
    /// Template of generated addresses: `{entity}.{key}@placeholder.invalid`.
    pub placeholder: String,
    /// ISO 3166-1 alpha-2 region in which phones without a country code are read.
    pub phone_region: String,
    /// How their ids are made.
    pub ids: Ids,
    /// The table of accounts: where V2's existing emails, phones and user names are read.
    pub table: TableName,
    /// Its columns by meaning.
    pub id_column: String,
    /// Column of the login email.
    pub email_column: Option<String>,
    /// Column of the login phone.
    pub phone_column: Option<String>,
    /// Column of the user name.
    pub username_column: Option<String>,
    /// Column of the password hash.
    pub password_column: Option<String>,
}

/// A schema-qualified name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub name: String,
}

/// One entity: where it is read and what it becomes.
#[derive(Debug, Clone)]
pub struct Entity {
    /// Its name, as in the definition, `--entities` and the ledger.
    pub name: Arc<str>,
    /// Entities whose rows must be in V2 before this one's.
    pub after: Vec<Arc<str>>,
    /// Where its rows come from.
    pub source: Source,
    /// How its V2 ids are made.
    pub ids: Ids,
    /// Set when rows are people with accounts.
    pub account: Option<AccountSpec>,
    /// What is written for each row, in an order that V2's foreign keys accept; includes the account's own writes.
    pub writes: Vec<Write>,
    /// xxh3-128 (hex) of the definition files' bytes that made this entity: tells that a definition was edited.
    pub definition_hash: String,
    /// The migrator in Rust that stands before the definition's own.
    pub custom: Option<Custom>,
}

impl Entity {
    /// Whether something of its rows is filled in only once all rows are in V2.
    pub fn is_completed_later(&self) -> bool {
        self.writes.iter().flat_map(|write| &write.columns).any(|column| column.later)
    }

    /// The entities to whose rows its own refer by what is filled in later.
    pub fn later_references(&self) -> impl Iterator<Item = usize> {
        let later = self.writes.iter().flat_map(|write| &write.columns).filter(|column| column.later);
        later.filter_map(|column| match column.fill {
            Fill::Reference { entity, .. } => Some(entity),
            _ => None,
        })
    }

    /// What the definition consists of, each part by name with a hash of what it says: tells which parts were edited.
    pub fn parts(&self) -> BTreeMap<String, String> {
        let hash = |what: String| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(what.as_bytes()));
        let mut parts = BTreeMap::from([
            ("the query".to_owned(), hash(format!("{} {}", self.source.query, self.source.key))),
            ("the account".to_owned(), hash(format!("{:?}", self.account))),
        ]);
        if let Some(custom) = &self.custom {
            parts.insert("the migrator in Rust".to_owned(), custom.version.to_string());
        }
        for write in &self.writes {
            let table = write
                .inside
                .as_ref()
                .map_or_else(|| write.table.name.clone(), |inside| format!("{}.{inside}", write.table.name));
            for column in &write.columns {
                let later = if column.later { " later" } else { "" };
                let says = hash(format!("{:?} {:?}{later}", write.when, column.fill));
                parts.insert(format!("{table}.{}", column.name), says);
            }
        }
        parts
    }
}

/// A query of V1 and its unique key.
#[derive(Debug, Clone)]
pub struct Source {
    /// The query as written, without a trailing semicolon.
    pub query: String,
    /// Name of the key column.
    pub key: String,
    /// Index of the key column.
    pub key_index: usize,
    /// How keys are ordered.
    pub key_kind: KeyKind,
    /// The query's columns in order.
    pub columns: Vec<SourceColumn>,
}

/// One column of a source query.
#[derive(Debug, Clone)]
pub struct SourceColumn {
    /// Name.
    pub name: String,
    /// Type as Postgres writes it (`format_type`): `integer`, `text[]`, `"Sex"`.
    pub type_name: String,
    /// For arrays, the type of the elements.
    pub element_type: Option<String>,
    /// V1 has a unique index on the column that this one is, in the table whose rows the key identifies: no two rows
    /// of the source share a value.
    pub unique: bool,
}

/// How keys are compared: the same way in V1's `order by` and in the ledger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Byte order (`collate "C"`).
    Text,
    /// Numeric order: smallint, integer, bigint.
    Integer,
    /// Order of uuids, which is the byte order of their lower-case text.
    Uuid,
}

/// Which columns identify a person, and the role it gets. Numbers are indices of source columns.
#[derive(Debug, Clone)]
pub struct AccountSpec {
    /// Code of the account's type.
    pub account_type: String,
    /// Code of the role that this entity gives.
    pub role: String,
    /// The name.
    pub name: NameColumns,
    /// Email.
    pub email: Option<usize>,
    /// Phone.
    pub phone: Option<usize>,
    /// Address in one string.
    pub address: Option<usize>,
    /// V1's password hash, for `passwords = keep`.
    pub password: Option<usize>,
    /// When the account was made and last changed; the run's time where absent.
    pub created_at: Option<usize>,
    /// Last change.
    pub updated_at: Option<usize>,
    /// What the role is limited to: the V2 id of a row of another entity, or of this row.
    pub scope: Option<Scope>,
    /// Only rows in which this column is neither null nor blank have an account.
    pub when: Option<usize>,
}

/// Where a person's name stands.
#[derive(Debug, Clone)]
pub enum NameColumns {
    /// One column with the full name.
    Full(usize),
    /// Separate columns.
    Parts {
        /// First name.
        first: usize,
        /// Middle names.
        middle: Option<usize>,
        /// Last name.
        last: usize,
    },
}

/// What a role is limited to.
#[derive(Debug, Clone)]
pub enum Scope {
    /// This row's own V2 id.
    Own,
    /// The V2 id of the row of another entity that a column names.
    Reference {
        /// Index into [`Plan::entities`].
        entity: usize,
        /// Source column with its key.
        column: usize,
    },
}

/// Rows for one V2 table, or documents for one collection.
#[derive(Debug, Clone)]
pub struct Write {
    /// The table; in MongoDB the collection, with an empty schema.
    pub table: TableName,
    /// MongoDB: these are no documents of their own but elements of this array field (dotted) of the document that
    /// the entity's other write into the same collection makes.
    pub inside: Option<String>,
    /// When rows are written.
    pub when: When,
    /// The columns written, and from what.
    pub columns: Vec<Column>,
    /// V2's unique constraints and indexes on this table, as far as all their columns are written.
    pub uniques: Vec<Unique>,
}

/// A unique constraint or index of V2 (not a partial one, and none on expressions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// Its name.
    pub name: String,
    /// Indices into [`Write::columns`].
    pub columns: Vec<usize>,
}

/// When a write writes, and how many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// One row for each source row.
    Row,
    /// One row for each element of an array column (its index).
    Each(usize),
    /// Once for an account: when it is created.
    Account,
    /// For each source row that has an account: its role.
    Role,
}

/// A column of V2 and what fills it.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name in V2; in MongoDB a dotted name nests.
    pub name: String,
    /// Postgres: base type in V2 without its modifier (`character varying`, `numeric`, `"Sex"`), to cast text to.
    pub type_name: String,
    /// Whether V2 forbids null.
    pub not_null: bool,
    /// What fills it.
    pub fill: Fill,
    /// It is left out when the row is written, and filled in once all rows are in V2 (`later = true`); in a
    /// [`When::Each`] the whole row or element is.
    pub later: bool,
    /// MongoDB: what its text becomes.
    pub bson: Option<BsonColumn>,
}

/// What a field's text becomes in MongoDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BsonColumn {
    /// The type that text is parsed to.
    pub kind: BsonKind,
    /// Whether null is written; without it a field that would be null is left out.
    pub null: bool,
}

/// What fills a column of V2.
#[derive(Debug, Clone, PartialEq)]
pub enum Fill {
    /// This row's V2 id.
    Id,
    /// A further id, derived from entity, key and this label (and the element's position in a [`When::Each`]).
    DerivedId(String),
    /// Something of the account.
    Account(AccountField),
    /// A source column, unchanged.
    Column(usize),
    /// The element of an array column at the current position.
    Each(usize),
    /// A source column as a normalised email; null when there is none.
    Email(usize),
    /// A source column as a phone in E.164; its own text when that is no possible number.
    Phone {
        /// The source column.
        column: usize,
        /// ISO 3166-1 alpha-2 region in which numbers without a country code are read.
        region: Arc<str>,
    },
    /// A part of a source column that holds a whole address or name.
    Part {
        /// The source column.
        column: usize,
        /// Which part.
        part: Part,
        /// A source column that is taken unchanged instead, in rows where it is neither null nor blank.
        prefer: Option<usize>,
    },
    /// V2 id of a row of another entity.
    Reference {
        /// Index into [`Plan::entities`].
        entity: usize,
        /// Where the key stands.
        key: KeyFrom,
        /// What happens without such a row.
        missing: Missing,
    },
    /// Id of a row of V2's reference data.
    Lookup {
        /// Index into [`Plan::lookups`].
        lookup: usize,
        /// Where the key stands.
        key: KeyFrom,
        /// What happens without such a row.
        missing: Missing,
    },
    /// The same text for every row.
    Constant(String),
    /// The time at which the run began (UTC).
    Now,
}

/// Where the key of a reference or look-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFrom {
    /// In a source column.
    Column(usize),
    /// In the element of an array column at the current position.
    Each(usize),
    /// In every element of an array column: the result is an array too, element by element.
    Elements(usize),
    /// In the account (its type or role).
    Account(AccountField),
}

/// Reference data of V2: text key to text id, read once before the run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lookup {
    /// The table.
    pub table: TableName,
    /// The column that is looked up.
    pub by: String,
    /// The column that is taken (the primary key).
    pub id: String,
}

//! The TOML definitions of `migrators/`, as they are written.
//!
//! They are read by hand from a spanned document and not by `serde`, because `serde` stops at the first mistake and
//! forgets where things stood. Here every value keeps its place, mistakes are collected, and what could be
//! understood goes on to [`crate::plan::compile`], which adds what only the databases can tell. So one invocation
//! reports everything. `docs/definitions.md` explains the format to users.

mod file;
mod fill;
mod keys;
mod load;
pub mod problem;
mod read;
pub mod schema;
mod writes;

use problem::{At, Problem};

use crate::plan::{AccountField, AddressPart, Ids, Missing, NamePart, Policies};
use crate::source::files::FileTable;

/// All definitions of an invocation, and the mistakes found while reading them.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// The files, for places and hashes.
    pub files: Vec<SourceFile>,
    /// What an account is (`accounts.toml`).
    pub accounts: Option<AccountsDefinition>,
    /// In the order that `accounts.toml` gives, then by file name.
    pub entities: Vec<EntityDefinition>,
    /// Mistakes of form; [`crate::plan::compile`] reports them together with its own.
    pub problems: Vec<Problem>,
    /// Whether problems are rendered with colours.
    pub color: bool,
}

/// One definition file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The name that a person looks for: a path, or `schools.toml (built in)`.
    pub label: String,
    /// What it holds.
    pub text: String,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: At,
}

/// `accounts.toml`.
#[derive(Debug, Clone)]
pub struct AccountsDefinition {
    /// Index of the file.
    pub file: usize,
    /// ISO 3166-1 alpha-2 region in which phones without a country code are read.
    pub phone_region: String,
    /// Template of generated addresses.
    pub placeholder: String,
    /// The policies for people who share an email or a phone.
    pub policies: Policies,
    /// Which entity comes first where dependencies leave it open: the first one claims an email or a phone.
    pub order: Vec<String>,
    /// How accounts' ids are made; its place where accounts.toml says so.
    pub ids: Placed<Ids>,
    /// The `[[postgres]]` parts: writes for each account and each role.
    pub writes: Vec<WriteDefinition>,
    /// The same of the `[[mongodb]]` parts.
    pub documents: Vec<WriteDefinition>,
}

/// A file that defines an entity.
#[derive(Debug, Clone)]
pub struct EntityDefinition {
    /// Index of the file.
    pub file: usize,
    /// Its name.
    pub name: Placed<String>,
    /// Entities that come before it.
    pub after: Vec<Placed<String>>,
    /// How its ids are made; its place is the entity's name where the file does not say.
    pub ids: Placed<Ids>,
    /// Where its rows come from; `None` when that part is broken (and then there is a problem).
    pub source: Option<SourceDefinition>,
    /// The `[account]` part.
    pub account: Option<AccountDefinition>,
    /// The `[[postgres]]` parts.
    pub writes: Vec<WriteDefinition>,
    /// The `[[mongodb]]` parts.
    pub documents: Vec<WriteDefinition>,
}

/// The `[source]` part.
#[derive(Debug, Clone)]
pub struct SourceDefinition {
    /// The query without white space around it and without a trailing semicolon; its place is the text itself,
    /// so a character of the query can be pointed at.
    pub query: Placed<String>,
    /// Name of the key column.
    pub key: Placed<String>,
    /// The `[[source.file]]` parts; the place is that of the table's name.
    pub files: Vec<Placed<FileTable>>,
}

/// The `[account]` part of an entity: names of source columns.
#[derive(Debug, Clone)]
pub struct AccountDefinition {
    /// Where `[account]` stands.
    pub at: At,
    /// Type code.
    pub account_type: Placed<String>,
    /// Role code.
    pub role: Placed<String>,
    /// The name.
    pub name: NameDefinition,
    /// Email.
    pub email: Option<Placed<String>>,
    /// Phone.
    pub phone: Option<Placed<String>>,
    /// Address.
    pub address: Option<Placed<String>>,
    /// V1's password hash.
    pub password: Option<Placed<String>>,
    /// When the account was made.
    pub created_at: Option<Placed<String>>,
    /// When it was last changed.
    pub updated_at: Option<Placed<String>>,
    /// What the role is limited to.
    pub scope: Option<Placed<ScopeDefinition>>,
    /// Only rows in which this column is neither null nor blank have an account.
    pub when: Option<Placed<String>>,
}

/// Where a name stands.
#[derive(Debug, Clone)]
pub enum NameDefinition {
    /// One column.
    Full(Placed<String>),
    /// Several.
    Parts {
        /// First name.
        first: Placed<String>,
        /// Middle names.
        middle: Option<Placed<String>>,
        /// Last name.
        last: Placed<String>,
    },
}

/// What a role is limited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeDefinition {
    /// `{ id = true }`
    Own,
    /// `{ entity = "…", key = "…" }`
    Reference {
        /// The entity.
        entity: Placed<String>,
        /// The source column with its key.
        key: Placed<String>,
    },
}

/// A `[[postgres]]` or `[[mongodb]]` part, or a `[[mongodb.embed]]` below one.
#[derive(Debug, Clone)]
pub struct WriteDefinition {
    /// Where it begins.
    pub at: At,
    /// The table or collection.
    pub table: Placed<String>,
    /// The array field of the collection's documents that these embedded documents stand in.
    pub inside: Option<Placed<String>>,
    /// How many rows it gives.
    pub rows: RowsDefinition,
    /// Its columns; a fill that could not be read is `None` (and then there is a problem).
    pub columns: Vec<ColumnDefinition>,
}

/// How many rows a write gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsDefinition {
    /// One for each source row.
    Row,
    /// One for each element of an array column.
    Each(Placed<String>),
    /// One for each account.
    Account,
    /// One for each role of an account.
    Role,
}

/// A column or field of V2.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name; of a field the dotted path.
    pub name: Placed<String>,
    /// What fills it.
    pub fill: Option<Placed<FillDefinition>>,
    /// `null = true`: where there is no value, null is written instead of leaving the field out.
    pub null: Option<At>,
    /// `later = true`: it is filled in once all rows are in V2.
    pub later: Option<At>,
}

/// What fills a column, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FillDefinition {
    /// `{ id = true }`
    Id,
    /// `{ id = "label" }`
    DerivedId(String),
    /// `{ account = "field" }`
    Account(AccountField),
    /// `"column"`
    Column(String),
    /// `{ each = true }` (`None`: the write's own array) or `{ each = "column" }`
    Each(Option<String>),
    /// `{ email = "column" }`
    Email(Placed<String>),
    /// `{ phone = "column" }`
    Phone(Placed<String>),
    /// `{ address, part, prefer }`
    Address {
        /// The source column with the whole address.
        column: Placed<String>,
        /// The part that is taken.
        part: AddressPart,
        /// The source column that is taken instead where it is filled.
        prefer: Option<Placed<String>>,
    },
    /// `{ name, part, prefer }`
    Name {
        /// The source column with the whole name.
        column: Placed<String>,
        /// The part that is taken.
        part: NamePart,
        /// The source column that is taken instead where it is filled.
        prefer: Option<Placed<String>>,
    },
    /// `{ entity, key, missing }`
    Reference {
        /// The entity.
        entity: Placed<String>,
        /// Where the key stands.
        key: Placed<KeyDefinition>,
        /// What happens without such a row.
        missing: Placed<Missing>,
    },
    /// `{ lookup, by, key | account, missing }`
    Lookup {
        /// The table.
        table: Placed<String>,
        /// The column that is looked up.
        by: Placed<String>,
        /// Where the key stands.
        key: Placed<KeyDefinition>,
        /// What happens without such a row.
        missing: Placed<Missing>,
    },
    /// `{ value = … }`
    Constant(String, ConstantKind),
    /// `{ now = true }`
    Now,
}

/// How a constant was written, which says what it becomes where V2 leaves that open (a document's field).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types of TOML")]
pub enum ConstantKind {
    Text,
    Boolean,
    Integer,
    Float,
    Time,
}

/// Where the key of a reference or look-up stands, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyDefinition {
    /// `key = "column"`
    Column(String),
    /// `key = "each"` (`None`: the write's own array) or `key = { each = "column" }`
    Each(Option<String>),
    /// `account = "field"`
    Account(AccountField),
}

/// Every way to fill a column: the key that tells it from the others, and the keys it may have. The documentation
/// is tested against this list.
pub const FILLS: &[(&str, &[&str])] = &[
    ("lookup", &["lookup", "by", "key", "account", "missing"]),
    ("entity", &["entity", "key", "missing", LATER]),
    ("id", &["id", LATER]),
    ("account", &["account"]),
    ("each", &["each"]),
    ("email", &["email"]),
    ("phone", &["phone"]),
    ("address", &["address", "part", "prefer"]),
    ("name", &["name", "part", "prefer"]),
    ("value", &["value"]),
    ("now", &["now"]),
    ("column", &["column"]),
];

/// The key that every fill of a document's field may have which can be without a value: `null = true`.
pub const NULL: &str = "null";

/// The key of what is filled in only once all rows are there: `later = true`.
pub const LATER: &str = "later";

/// Whether a fill of this kind can be without a value, so that `null = true` says something.
pub fn can_be_null(kind: &str) -> bool {
    !matches!(kind, "id" | "value" | "now")
}

impl Definitions {
    /// The definitions as they hold for a MongoDB V2: their `[[mongodb]]` parts are what is written, the
    /// `[[postgres]]` parts are set aside.
    #[must_use]
    pub fn for_mongodb(&self) -> Self {
        let mut definitions = self.clone();
        for entity in &mut definitions.entities {
            std::mem::swap(&mut entity.writes, &mut entity.documents);
        }
        if let Some(accounts) = &mut definitions.accounts {
            std::mem::swap(&mut accounts.writes, &mut accounts.documents);
        }
        definitions
    }

    /// The files that become tables of V1's connection; the first one for each table.
    pub fn tables_from_files(&self) -> Vec<FileTable> {
        let sources = self.entities.iter().filter_map(|entity| entity.source.as_ref());
        let mut tables: Vec<FileTable> = Vec::new();
        for file in sources.flat_map(|source| &source.files) {
            if !tables.iter().any(|table| table.table == file.value.table) {
                tables.push(file.value.clone());
            }
        }
        tables
    }

    /// All problems as text for a person; see [`problem::render`].
    pub fn render(&self, problems: &[Problem]) -> String {
        problem::render(problems, &self.files, self.color)
    }
}

impl EntityDefinition {
    /// Whether a column is filled with a phone, which is read in the region of `accounts.toml`.
    pub fn reads_phones(&self) -> bool {
        let mut fills =
            self.writes.iter().flat_map(|write| &write.columns).filter_map(|column| column.fill.as_ref());
        fills.any(|fill| matches!(fill.value, FillDefinition::Phone(_)))
    }

    /// Every entity that this one refers to, where it does.
    pub fn references(&self) -> impl Iterator<Item = &Placed<String>> {
        self.references_of(|_| true)
    }

    /// The entities whose rows must be in V2 before this one's can be written.
    pub fn references_before(&self) -> impl Iterator<Item = &Placed<String>> {
        self.references_of(|column| column.later.is_none())
    }

    fn references_of(
        &self,
        which: impl Fn(&ColumnDefinition) -> bool,
    ) -> impl Iterator<Item = &Placed<String>> {
        let scope = self.account.as_ref().and_then(|account| account.scope.as_ref());
        let scope = scope.and_then(|scope| match &scope.value {
            ScopeDefinition::Reference { entity, .. } => Some(entity),
            ScopeDefinition::Own => None,
        });
        let columns = self.writes.iter().flat_map(|write| &write.columns);
        let fills = columns.filter(move |column| which(column)).filter_map(|column| column.fill.as_ref());
        scope.into_iter().chain(fills.filter_map(|fill| match &fill.value {
            FillDefinition::Reference { entity, .. } => Some(entity),
            _ => None,
        }))
    }
}

//! The keys that each part of a definition may have, and in a few words what each is for.
//!
//! The reader refuses what is not here and the JSON Schema offers what is, so an editor never proposes a key that
//! `check` would refuse. `docs/definitions.md` says more about each.

/// Keys and what they are for.
pub(super) type Keys = &'static [(&'static str, &'static str)];

pub(super) const ENTITY: Keys = &[
    ("entity", "the entity's name: lower-case letters, digits, _"),
    ("after", "entities whose rows must be in V2 first"),
    (
        "ids",
        "how V2's ids are made: derived from entity and key (as uuid or ObjectId), or V1's key, unchanged",
    ),
    ("disabled", "true: this file does not count"),
    ("source", "where the rows are read"),
    ("account", "every row is a person with an account: columns that hold its details"),
    ("postgres", "a table of V2 that is written"),
    ("mongodb", "a collection of V2 that is written"),
];

pub(super) const SOURCE: Keys = &[
    ("key", "the column that tells rows apart: unique, not null; rows are read in its order"),
    ("query", "one select of V1, without order by and parameters"),
    ("file", "a CSV or JSON file that the query reads as a table"),
];

pub(super) const FILE: Keys = &[
    ("table", "the name by which queries read the file"),
    ("path", "the file (.csv, .tsv, .json, .ndjson), from the folder of this definition"),
    ("columns", "types of columns that are not text"),
    ("delimiter", "what stands between cells, where it is no comma (.csv) or tab (.tsv)"),
    ("encoding", "Postgres's name of the encoding, where it is not UTF8"),
];

pub(super) const ACCOUNT: Keys = &[
    ("type", "code of the account's type"),
    ("role", "code of the role that this entity gives"),
    ("name", "column with the full name, which is split"),
    ("first_name", "column with the first name"),
    ("middle_name", "column with the middle names"),
    ("last_name", "column with the last name"),
    ("email", "column with the email"),
    ("phone", "column with the phone"),
    ("address", "column with the address"),
    ("password", "column with V1's password hash, carried over with passwords = keep"),
    ("created_at", "column with the time at which the account was made"),
    ("updated_at", "column with the time of its last change"),
    ("scope", "what the role is limited to: this row, or a row of another entity"),
    ("when", "only rows in which this column is neither null nor blank have an account"),
];

pub(super) const OWN_SCOPE: Keys = &[("id", "limited to this row")];

pub(super) const OTHER_SCOPE: Keys =
    &[("entity", "limited to a row of this entity"), ("key", "the source column with its key")];

pub(super) const WRITE: Keys = &[
    ("table", "V2's table"),
    ("each", "an array column: one row for each of its elements"),
    ("columns", "V2's column = what fills it"),
];

pub(super) const ACCOUNTS_WRITE: Keys = &[
    ("table", "V2's table"),
    ("per", "one row for each account, or for each role that an account gets"),
    ("columns", "V2's column = what fills it"),
];

pub(super) const COLLECTION: Keys = &[
    ("collection", "V2's collection"),
    ("each", "an array column: one document for each of its elements"),
    ("fields", "V2's field = what fills it; a dotted name nests"),
    ("embed", "an array of documents inside the document"),
];

pub(super) const ACCOUNTS_COLLECTION: Keys = &[
    ("collection", "V2's collection"),
    ("per", "one document for each account, or for each role that an account gets"),
    ("fields", "V2's field = what fills it; a dotted name nests"),
    ("embed", "an array of documents inside the account's document"),
];

pub(super) const EMBED: Keys = &[
    ("field", "the field that holds the array"),
    ("each", "an array column: one embedded document for each of its elements"),
    ("fields", "the embedded document's field = what fills it"),
];

pub(super) const ACCOUNTS_EMBED: Keys = &[
    ("field", "the field that holds the array"),
    ("per", "one embedded document for each role that an account gets"),
    ("fields", "the embedded document's field = what fills it"),
];

pub(super) const ACCOUNTS: Keys = &[
    ("builtin", "false: the built-in files do not count"),
    ("order", "entities in the order in which they are migrated where `after` leaves it open"),
    ("account", "what holds for all accounts"),
    ("policies", "what happens when two people claim the same email or phone"),
    ("postgres", "a table that accounts or roles are written to"),
    ("mongodb", "a collection that accounts or roles are written to"),
];

pub(super) const ACCOUNTS_ACCOUNT: Keys = &[
    (
        "phone_region",
        "ISO 3166-1 alpha-2 code of the country in which phones without a country code are read",
    ),
    ("placeholder", "template of the addresses for people without a usable one"),
    ("ids", "how accounts' ids are made: derived as uuid or, in MongoDB, as ObjectId"),
];

pub(super) const POLICIES: Keys = &[
    ("same_person", "same email and compatible names, in different entities"),
    ("other_person", "same email, names that do not go together"),
    ("same_entity", "same email twice in one entity"),
    ("same_phone", "same phone: families share phones"),
];

/// The keys alone.
pub(super) fn names(keys: Keys) -> Vec<&'static str> {
    keys.iter().map(|(name, _)| *name).collect()
}

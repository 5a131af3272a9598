//! Who is who: decides every account before anything is written.
//!
//! Emails, login phones and user names must be unique in V2, and one person may stand in several tables of V1. If
//! such questions were decided while rows are written, the answers would depend on chunk size, threads and the
//! moment of a crash. So they are decided here, up front, by a pure function of V1's contact columns and the accounts
//! that V2 has already; no I/O, no clock, no random numbers.
//!
//! 1. [`Existing`]: every account that V2 has, in any order.
//! 2. [`Survey`]: every row of every entity, in (entity order, key order): three hashes and some flags each.
//! 3. [`CloseLook`]: the same rows again; keeps key, email and name of those that share an email. Not needed when
//!    nothing clashes.
//! 4. [`Census`]: the decisions, looked up in the same order again by a [`Cursor`].
//!
//! # The order of decisions
//!
//! For one email, the account that holds it in V2 comes first, then the rows in (entity order, key order). A row
//! whose account is in V2 already is *settled*: it keeps what V2 holds. Every other row is compared with the accounts
//! before it. Each choice made for a row depends only on rows before it and takes the first thing that is free, so
//! rows that are settled with the very values that an undisturbed run gives them change nothing for the others: that
//! is why a killed run ends like an undisturbed one (and `property.rs` tests it with random subsets).
//!
//! # Memory
//!
//! 26 bytes for each row while surveying, 42 at the peak (sorted claims), 10 for a row in the finished census; rows
//! in clashes add about 100 bytes and their texts. Accounts of ours in V2 add 40 bytes each, others 16.

mod claims;
mod clashes;
mod close_look;
mod cursor;
mod decision;
pub mod evenly;
mod existing;
mod judge;
mod judge_emails;
mod phones;
mod result;
mod summary;
mod survey;

#[cfg(test)]
mod property;
#[cfg(test)]
mod town;
#[cfg(test)]
mod unit;

use std::sync::Arc;

use uuid::Uuid;

pub use claims::{Claims, Contact, EmailClaim, PhoneClaim};
pub use close_look::CloseLook;
pub use cursor::Cursor;
pub use decision::{
    AccountOf, Conflict, ConflictKind, Decision, EmailDecision, Founder, Other, Outcome, PhoneDecision,
    RejectCode, Settlement, UsernameDecision,
};
pub use existing::{Existing, ExistingAccount};
pub use result::Census;
pub use summary::{EntitySummary, Summary};
pub use survey::Survey;

use crate::error::{Error, Result};
use crate::identity::email::Template;
use crate::ids::IdMaker;
use crate::plan::{Accounts, Policies};

/// What the census decides by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What to do about each kind of clash.
    pub policies: Policies,
    /// How addresses are made for rows without a usable email.
    pub placeholder: Template,
    /// ISO 3166-1 alpha-2 region in which phones without a country code are read.
    pub phone_region: String,
}

impl Rules {
    /// The rules of `migrators/accounts.toml`.
    ///
    /// # Errors
    /// If the placeholder template is not usable.
    pub fn new(accounts: &Accounts) -> Result<Self> {
        let placeholder = Template::parse(&accounts.placeholder).map_err(|problem| {
            Error::usage(problem).help("correct `placeholder` in accounts.toml, or leave it out")
        })?;
        Ok(Self { policies: accounts.policies, placeholder, phone_region: accounts.phone_region.clone() })
    }
}

/// An entity as the census knows it. Entities without accounts may be listed too; they just have no rows here.
#[derive(Debug, Clone)]
pub struct People {
    /// The entity's name.
    pub name: Arc<str>,
    /// Makes its derived ids.
    pub ids: IdMaker,
}

/// The id of the account that the row with this key founds. Another label than the row's own id, so that a person's
/// profile and account never share an id.
pub fn account_id(ids: &IdMaker, key: &str) -> Uuid {
    ids.labelled(key, "account", 0)
}

/// The hash that stands for a key, email, phone or user name; 0 is kept for "none", 1 for "unusable".
fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).max(2)
}

/// Grows in steps of an eighth: doubling would leave up to half of the memory unused, and large blocks are moved by
/// the operating system without a copy.
fn push_tight<T>(into: &mut Vec<T>, value: T) {
    if into.len() == into.capacity() {
        into.reserve_exact((into.len() / 8).max(1024));
    }
    into.push(value);
}

/// Bytes that a vector has reserved on the heap.
fn heap<T>(vector: &Vec<T>) -> usize {
    vector.capacity() * size_of::<T>()
}

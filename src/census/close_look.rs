//! Pass 2: key, email and name of the rows that share an email, and from them the census.
//!
//! A hash only says that a closer look is needed. Here rows are grouped by the address itself, so two emails with
//! the same hash are no clash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::judge::{self, Verdicts};
use super::result::{Census, ConflictLine};
use super::survey::{Claimed, Joined, Rows};
use super::{hash, heap, phones};
use crate::error::{Error, Result};
use crate::identity::email::{self, Email};

/// A row in a clash.
#[derive(Debug)]
pub(super) struct Person {
    pub row: u32,
    pub entity: usize,
    /// Index of its address among the groups.
    pub group: u32,
    /// The address is a generated one.
    pub placeholder: bool,
    /// The address may imitate another, so it never merges anybody.
    pub doubtful: bool,
    pub key: Box<str>,
    pub name: Box<str>,
}

/// The rows that need a close look, and what is known of them so far.
#[derive(Debug)]
pub struct CloseLook {
    rows: Rows,
    claimed: Claimed,
    phones: Vec<u64>,
    joined: Vec<Joined>,
    /// Rows to look at, ascending.
    wanted: Vec<u32>,
    /// The address of each group.
    addresses: Vec<Arc<str>>,
    by_address: HashMap<Arc<str>, u32>,
    persons: Vec<Person>,
}

/// Rows of one entity.
#[derive(Debug)]
pub struct Wanted(HashSet<u64>);

impl Wanted {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the row with this key is among them.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains(&hash(key))
    }
}

impl CloseLook {
    pub(super) fn new(
        rows: Rows,
        claimed: Claimed,
        phones: Vec<u64>,
        joined: Vec<Joined>,
        wanted: Vec<u32>,
    ) -> Self {
        let persons = Vec::with_capacity(wanted.len());
        let by_address = HashMap::new();
        Self { rows, claimed, phones, joined, wanted, addresses: Vec::new(), by_address, persons }
    }

    /// True if no row needs a close look: pass 2 can be left out.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// How many rows need a close look.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// True if no row of this entity (or of any after it) needs a close look: its pass 2 can be left out.
    pub fn is_done_with(&self, entity: usize) -> bool {
        let range = self.rows.range(entity);
        let next = self.wanted.partition_point(|row| (*row as usize) < range.start);
        self.wanted.get(next).is_none_or(|row| *row as usize >= range.end)
    }

    /// The rows of an entity that need a close look: whoever can tell them from the others need not have V1 sort all rows
    /// again for a few.
    pub fn wanted(&self, entity: usize) -> Wanted {
        let range = self.rows.range(entity);
        let first = self.wanted.partition_point(|row| (*row as usize) < range.start);
        let rows = self.wanted[first..].iter().map(|row| *row as usize).take_while(|row| *row < range.end);
        Wanted(rows.map(|row| self.rows.keys[row]).collect())
    }

    /// Adds a row again: the same rows in the same order as in pass 1. Rows that need no close look are passed over.
    /// `email` is the raw text, `name` the full name in one string.
    pub fn push(&mut self, entity: usize, key: &str, email: Option<&str>, name: &str) {
        let Some(row) = self.next_row(entity, hash(key)) else { return };
        let (address, placeholder, doubtful) = match email.map_or(Email::Missing, email::normalise) {
            Email::Usable { address, flags } => (address, false, flags.forbids_merge()),
            Email::Missing | Email::Unusable(_) => {
                (self.rows.rules.placeholder.address(&self.rows.people[entity].name, key), true, true)
            }
        };
        let group = match self.by_address.get(address.as_str()) {
            Some(group) => *group,
            None => {
                let (group, address) = (self.addresses.len() as u32, Arc::<str>::from(address));
                self.addresses.push(Arc::clone(&address));
                self.by_address.insert(address, group);
                group
            }
        };
        self.persons.push(Person {
            row,
            entity,
            group,
            placeholder,
            doubtful,
            key: key.into(),
            name: name.into(),
        });
    }

    /// The next row to look at, if it has this key.
    fn next_row(&self, entity: usize, key: u64) -> Option<u32> {
        let row = *self.wanted.get(self.persons.len())?;
        (self.rows.range(entity).contains(&(row as usize)) && self.rows.keys[row as usize] == key)
            .then_some(row)
    }

    /// Decides everything.
    ///
    /// # Errors
    /// If pass 2 did not bring every row that pass 1 asked for: the two passes did not read the same snapshot.
    pub fn decide(self) -> Result<Census> {
        let Self { mut rows, claimed, mut phones, joined, wanted, addresses, by_address, persons } = self;
        if persons.len() != wanted.len() {
            return Err(Error::failed(format!(
                "{} of {} rows with a shared email were not found again in V1",
                wanted.len() - persons.len(),
                wanted.len()
            ))
            .help("both passes of the census must read the same snapshot of V1; start again"));
        }
        drop((wanted, by_address));
        let Verdicts { mut specials, mut conflicts, slots } =
            judge::decide(&rows, &claimed, &joined, &addresses, persons);
        for special in &specials {
            rows.flags[special.row as usize] |= super::survey::flag::SPECIAL;
        }
        let existing = claimed.existing;
        drop(claimed.emails);
        phones::decide(&mut rows, &existing, &mut phones, &specials, &mut conflicts);
        conflicts.sort_unstable_by_key(ConflictLine::order);
        conflicts.shrink_to_fit();
        specials.shrink_to_fit();
        Ok(Census::new(rows, specials, conflicts, slots))
    }

    /// Bytes on the heap, apart from the few of rules and entities.
    pub fn memory_bytes(&self) -> usize {
        let texts: usize = self.persons.iter().map(|person| person.key.len() + person.name.len()).sum();
        // A text in an `Arc` has two counters before it.
        let addresses: usize = self.addresses.iter().map(|address| address.len() + 16).sum();
        self.rows.memory_bytes()
            + self.claimed.memory_bytes()
            + heap(&self.phones)
            + heap(&self.joined)
            + heap(&self.wanted)
            + heap(&self.persons)
            + heap(&self.addresses)
            + self.by_address.capacity() * size_of::<(Arc<str>, u32)>() * 8 / 7
            + texts
            + addresses
    }
}

//! Which address an account gets when its own is taken: always the first of a fixed list that nobody has.
//!
//! "Nobody" means no row of V1, no account of V2 and no account decided before. As each row takes the first free
//! one, it makes no difference to the others whether a later row has taken its own in an earlier run already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::close_look::Person;
use super::decision::{EmailDecision, UsernameDecision};
use super::hash;
use super::survey::{Claimed, Rows, flag, local_part_taken};
use crate::identity::email::with_suffix;
use crate::plan::Policy;

/// How far beyond the number of rows with one address a suffix is looked for when V2's email must be recognised.
/// Only a V2 email that somebody edited makes the search go to the end.
const BEYOND: u32 = 1000;

pub(super) struct Addresses<'a> {
    rows: &'a Rows,
    claimed: &'a Claimed,
    texts: &'a [Arc<str>],
    /// How many rows have each address.
    sizes: Vec<u32>,
    /// The next suffix to try for each address; the ones below are taken and stay so.
    next: Vec<u32>,
    given: HashSet<u64>,
    /// Hashes of suffixed addresses by group: how far they were made, and which suffix each is.
    suffixes: HashMap<u32, (u32, HashMap<u64, u32>)>,
}

impl<'a> Addresses<'a> {
    pub fn new(rows: &'a Rows, claimed: &'a Claimed, texts: &'a [Arc<str>], sizes: Vec<u32>) -> Self {
        let next = vec![2; texts.len()];
        Self { rows, claimed, texts, sizes, next, given: HashSet::new(), suffixes: HashMap::new() }
    }

    pub fn hash_of(&self, group: usize) -> u64 {
        hash(&self.texts[group])
    }

    /// The address that a person has if nobody else wants it.
    pub fn plain(&self, person: &Person) -> EmailDecision {
        if person.placeholder { EmailDecision::Placeholder } else { EmailDecision::Own }
    }

    /// Another address than the person's own.
    pub fn another(&mut self, person: &Person, policy: Policy) -> EmailDecision {
        if person.placeholder {
            return self.suffixed_placeholder(&self.placeholder_text(person));
        }
        let group = person.group as usize;
        // Somebody may have been given their very placeholder in V1: then there is nothing else to fall back to.
        if policy == Policy::KeepFirst && *self.texts[group] != *self.placeholder_text(person) {
            return self.placeholder(person);
        }
        loop {
            let n = self.next[group];
            self.next[group] += 1;
            let address = hash(&with_suffix(&self.texts[group], n));
            if self.give(address) {
                return EmailDecision::Suffix(n);
            }
        }
    }

    fn placeholder(&mut self, person: &Person) -> EmailDecision {
        let address = self.placeholder_text(person);
        if self.give(hash(&address)) {
            return EmailDecision::Placeholder;
        }
        self.suffixed_placeholder(&address)
    }

    fn suffixed_placeholder(&mut self, address: &str) -> EmailDecision {
        let mut n = 2;
        while !self.give(hash(&with_suffix(address, n))) {
            n += 1;
        }
        EmailDecision::PlaceholderSuffix(n)
    }

    /// Takes an address; false if somebody has it.
    fn give(&mut self, address: u64) -> bool {
        !self.claimed.has(address) && self.given.insert(address)
    }

    fn placeholder_text(&self, person: &Person) -> String {
        self.rows.rules.placeholder.address(&self.rows.people[person.entity].name, &person.key)
    }

    /// Whether nobody else, in V1 or in V2, has the address that V1 has for this person.
    pub fn is_the_only_claim(&self, person: &Person) -> bool {
        let group = person.group as usize;
        self.sizes[group] == 1 && self.claimed.existing.email_holders(self.hash_of(group)).next().is_none()
    }

    /// Which address V2 holds for a settled person. `None` if it holds none.
    pub fn held(&mut self, person: &Person, email: u64) -> Option<EmailDecision> {
        if email == 0 {
            return None;
        }
        if !self.rows.has(person.row, flag::EMAIL_DIFFERS) {
            return Some(self.plain(person));
        }
        let text = self.placeholder_text(person);
        if !person.placeholder {
            if email == hash(&text) {
                return Some(EmailDecision::Placeholder);
            }
            if let Some(n) = self.suffix_of(person.group, email) {
                return Some(EmailDecision::Suffix(n));
            }
        }
        let found = (2..64).find(|n| email == hash(&with_suffix(&text, *n)));
        Some(found.map_or(EmailDecision::Held, EmailDecision::PlaceholderSuffix))
    }

    /// The suffix that makes this address out of the group's.
    fn suffix_of(&mut self, group: u32, email: u64) -> Option<u32> {
        let text = &self.texts[group as usize];
        let (made, known) = self.suffixes.entry(group).or_insert_with(|| (1, HashMap::new()));
        while !known.contains_key(&email) && *made < self.sizes[group as usize] + BEYOND {
            *made += 1;
            known.entry(hash(&with_suffix(text, *made))).or_insert(*made);
        }
        known.get(&email).copied()
    }

    /// The user name for an account that this person founds: short for placeholders, unless somebody has it.
    pub fn username(&self, person: &Person, email: EmailDecision) -> UsernameDecision {
        let address = match email {
            EmailDecision::Placeholder => self.placeholder_text(person),
            EmailDecision::PlaceholderSuffix(n) => with_suffix(&self.placeholder_text(person), n),
            EmailDecision::Own | EmailDecision::Suffix(_) | EmailDecision::Held => {
                return UsernameDecision::Email;
            }
        };
        let own = if self.rows.has(person.row, flag::SETTLED) { self.own_account(person) } else { None };
        if local_part_taken(&self.claimed.existing, &address, own) {
            UsernameDecision::Email
        } else {
            UsernameDecision::LocalPart
        }
    }

    fn own_account(&self, person: &Person) -> Option<u32> {
        self.claimed.existing.find(super::account_id(&self.rows.people[person.entity].ids, &person.key))
    }
}

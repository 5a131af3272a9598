//! Pass 1: three hashes and some flags for each row, and from them the rows that need a close look.

use std::ops::Range;

use uuid::Uuid;

use super::claims::{Claims, Contact, EmailClaim, PhoneClaim};
use super::clashes::wanted;
use super::close_look::CloseLook;
use super::existing::{Existing, NOBODY};
use super::{People, Rules, account_id, hash, heap, push_tight};
use crate::identity::email::{self, Email};
use crate::identity::phone::{self, Phone};

/// What is known of a row besides its hashes: bits of a `u16`.
pub(super) mod flag {
    /// The row is a person with an account.
    pub const ACCOUNT: u16 = 1;
    /// It has no email.
    pub const EMAIL_MISSING: u16 = 1 << 1;
    /// It has an email that is no address.
    pub const EMAIL_UNUSABLE: u16 = 1 << 2;
    /// It has a possible phone.
    pub const PHONE: u16 = 1 << 3;
    /// It has a phone that is no possible number.
    pub const PHONE_IMPOSSIBLE: u16 = 1 << 4;
    /// The account that it founded is in V2.
    pub const SETTLED: u16 = 1 << 5;
    /// The ledger names its account, which is in V2: it was migrated or merged before.
    pub const IN_LEDGER: u16 = 1 << 6;
    /// The account that the ledger names was founded by another row.
    pub const JOINED: u16 = 1 << 7;
    /// V2 holds another email for its account than the row's own or its placeholder.
    pub const EMAIL_DIFFERS: u16 = 1 << 8;
    /// V2 holds another phone for its account.
    pub const PHONE_DIFFERS: u16 = 1 << 9;
    /// The local part of its placeholder is another account's user name.
    pub const LOCAL_PART_TAKEN: u16 = 1 << 10;
    /// Decided: its phone is the login phone.
    pub const PHONE_LOGIN: u16 = 1 << 11;
    /// Decided: rejected because of its phone.
    pub const PHONE_REJECTED: u16 = 1 << 12;
    /// Decided: there is more about it in the table of special rows.
    pub const SPECIAL: u16 = 1 << 13;
    /// Nobody will ask what was decided about it.
    pub const CLOSED: u16 = 1 << 14;
}

/// The columns of all rows, shared by the passes.
#[derive(Debug)]
pub(super) struct Rows {
    pub rules: Rules,
    pub people: Vec<People>,
    /// First row of each entity seen so far.
    pub starts: Vec<u32>,
    pub keys: Vec<u64>,
    pub flags: Vec<u16>,
}

impl Rows {
    /// The rows of an entity.
    pub fn range(&self, entity: usize) -> Range<usize> {
        let end = self.keys.len();
        let at = |entity: usize| self.starts.get(entity).map_or(end, |start| *start as usize);
        at(entity)..at(entity + 1)
    }

    /// The entity of a row.
    pub fn entity_of(&self, row: u32) -> usize {
        self.starts.partition_point(|start| *start <= row).saturating_sub(1)
    }

    pub fn has(&self, row: u32, flag: u16) -> bool {
        self.flags[row as usize] & flag != 0
    }

    pub fn memory_bytes(&self) -> usize {
        heap(&self.keys) + heap(&self.flags) + heap(&self.starts)
    }
}

/// A row that the ledger puts into an account that another row founded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined {
    pub row: u32,
    /// Index into `Existing::ours`.
    pub known: u32,
    pub id: Uuid,
}

/// Pass 1 over the contact columns of all entities.
#[derive(Debug)]
pub struct Survey {
    rows: Rows,
    existing: Existing,
    emails: Vec<u64>,
    phones: Vec<u64>,
    joined: Vec<Joined>,
    /// Which bits of an email's hash are used: all, but for tests of what happens when hashes collide.
    pub(super) email_bits: u64,
}

impl Survey {
    /// Begins. `people` are the entities in their fixed order; all accounts of V2 must be in `existing` already.
    pub fn new(rules: Rules, people: Vec<People>, mut existing: Existing) -> Self {
        existing.seal();
        Self {
            rows: Rows { rules, people, starts: Vec::new(), keys: Vec::new(), flags: Vec::new() },
            existing,
            emails: Vec::new(),
            phones: Vec::new(),
            joined: Vec::new(),
            email_bits: u64::MAX,
        }
    }

    /// Adds the next row from its raw contact texts: [`Survey::push`] for callers that have not normalised them.
    pub fn push_raw(&mut self, entity: usize, key: &str, email: Option<&str>, phone: Option<&str>) {
        let email = email.map_or(Email::Missing, email::normalise);
        let region = &self.rows.rules.phone_region;
        let phone = phone.map_or(Phone::Missing, |text| phone::normalise(text, region));
        let claims = Claims::new(EmailClaim::from(&email), PhoneClaim::from(&phone));
        self.push(entity, &Contact { key, claims, has_account: true, account: None, closed: false });
    }

    /// Adds the next row. Entities come in order of their index, and rows in key order.
    ///
    /// # Panics
    /// If entities do not come in order, or after 2³² − 1 rows: both are mistakes of the calling program.
    pub fn push(&mut self, entity: usize, contact: &Contact<'_>) {
        let row = self.open(entity);
        let (mut flags, mut email, mut phone) = (0, 0, 0);
        if contact.has_account {
            let (settled, known) = self.settle(row, entity, contact);
            flags = flag::ACCOUNT | settled;
            (email, flags) = match contact.claims.email() {
                EmailClaim::Address(address) => (hash(address), flags),
                EmailClaim::Hashed(email) => (email, flags),
                EmailClaim::Missing => {
                    self.placeholder(entity, contact.key, known, flags | flag::EMAIL_MISSING)
                }
                EmailClaim::Unusable => {
                    self.placeholder(entity, contact.key, known, flags | flag::EMAIL_UNUSABLE)
                }
            };
            phone = match contact.claims.phone() {
                PhoneClaim::Missing | PhoneClaim::Impossible => 0,
                PhoneClaim::Number(e164) => hash(e164),
                PhoneClaim::Hashed(phone) => phone,
            };
            match contact.claims.phone() {
                PhoneClaim::Missing => {}
                PhoneClaim::Impossible => flags |= flag::PHONE_IMPOSSIBLE,
                PhoneClaim::Number(_) | PhoneClaim::Hashed(_) => flags |= flag::PHONE,
            }
            if contact.closed {
                flags |= flag::CLOSED;
            }
            if let Some(known) = known {
                let account = &self.existing.ours[known as usize];
                if account.email != 0 && account.email != email {
                    flags |= flag::EMAIL_DIFFERS;
                }
                if account.phone != 0 && account.phone != phone {
                    flags |= flag::PHONE_DIFFERS;
                }
            }
        }
        push_tight(&mut self.rows.keys, hash(contact.key));
        push_tight(&mut self.rows.flags, flags);
        push_tight(&mut self.emails, masked(email, self.email_bits));
        push_tight(&mut self.phones, phone);
    }

    fn open(&mut self, entity: usize) -> u32 {
        let row = self.rows.keys.len() as u32;
        assert!(entity < self.rows.people.len(), "the entity is not in the census");
        assert!(self.rows.starts.len() <= entity + 1, "entities must be surveyed in their order");
        assert!(row < NOBODY, "the census is full");
        while self.rows.starts.len() <= entity {
            self.rows.starts.push(row);
        }
        row
    }

    /// Looks for the row's account in V2: flags, and the account if the row founded it.
    fn settle(&mut self, row: u32, entity: usize, contact: &Contact<'_>) -> (u16, Option<u32>) {
        if self.existing.ours.is_empty() {
            return (0, None);
        }
        let own = account_id(&self.rows.people[entity].ids, contact.key);
        let named = contact.account.and_then(|id| Some((id, self.existing.find(id)?)));
        if let Some((id, known)) = named.filter(|(id, _)| *id != own) {
            self.joined.push(Joined { row, known, id });
            return (flag::IN_LEDGER | flag::JOINED, None);
        }
        match self.existing.find(own) {
            Some(known) => {
                self.existing.ours[known as usize].row = row;
                (flag::SETTLED | if named.is_some() { flag::IN_LEDGER } else { 0 }, Some(known))
            }
            None => (0, None),
        }
    }

    /// A row without a usable email claims its placeholder, so that a real email which equals it is found as a clash.
    fn placeholder(&self, entity: usize, key: &str, known: Option<u32>, mut flags: u16) -> (u64, u16) {
        let address = self.rows.rules.placeholder.address(&self.rows.people[entity].name, key);
        if local_part_taken(&self.existing, &address, known) {
            flags |= flag::LOCAL_PART_TAKEN;
        }
        (hash(&address), flags)
    }

    /// Ends pass 1: finds the rows that need a close look.
    pub fn clashes(self) -> CloseLook {
        let Self { mut rows, existing, emails, phones, joined, email_bits } = self;
        rows.keys.shrink_to_fit();
        rows.flags.shrink_to_fit();
        let mut claims = Vec::with_capacity(emails.iter().filter(|email| **email != 0).count());
        claims.extend(emails.iter().copied().zip(0..).filter(|(email, _)| *email != 0));
        drop(emails);
        claims.sort_unstable();

        let wanted = wanted(&rows, &existing, &claims, &joined);
        CloseLook::new(rows, Claimed { existing, emails: claims, email_bits }, phones, joined, wanted)
    }

    /// Bytes on the heap, apart from the few of rules and entities.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes()
            + self.existing.memory_bytes()
            + heap(&self.emails)
            + heap(&self.phones)
            + heap(&self.joined)
    }
}

/// The part of an email's hash that is used; 0 stays "none".
fn masked(email: u64, bits: u64) -> u64 {
    if email == 0 { 0 } else { (email & bits).max(1) }
}

/// True if another account has the part before the `@` of this address as its user name.
pub(super) fn local_part_taken(existing: &Existing, address: &str, own: Option<u32>) -> bool {
    let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
    existing.username_holders(hash(local)).any(|by| Some(by) != own)
}

/// Every email that V1 or V2 has.
#[derive(Debug)]
pub(super) struct Claimed {
    pub existing: Existing,
    /// (hash of email or placeholder, row), sorted.
    pub emails: Vec<(u64, u32)>,
    pub email_bits: u64,
}

impl Claimed {
    /// True if a row of V1 or an account of V2 has this address.
    pub fn has(&self, address: u64) -> bool {
        let masked = masked(address, self.email_bits);
        self.emails.binary_search_by_key(&masked, |(email, _)| *email).is_ok()
            || self.existing.email_holders(address).next().is_some()
    }

    pub fn memory_bytes(&self) -> usize {
        self.existing.memory_bytes() + heap(&self.emails)
    }
}

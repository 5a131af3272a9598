//! The accounts that V2 has already: what they hold can never be given away again.
//!
//! Ours are found by id (they settle rows), by email and by phone; of somebody else's only the claims matter. All
//! of it is hashes in sorted vectors, because a V2 may have as many accounts as V1 has rows.

use uuid::Uuid;

use super::evenly::Evenly;
use super::{hash, heap, push_tight};
use crate::identity::email::{self, Email};
use crate::identity::phone::{self, Phone};
use crate::ids::object_id;

/// Length of an ObjectId's text; no uuid is that short.
const OBJECT_ID_DIGITS: usize = 24;

/// Stands for "an account that is not ours" and for "no row".
pub(super) const NOBODY: u32 = u32::MAX;

/// An account as V2 holds it.
#[derive(Debug, Clone, Copy)]
pub struct ExistingAccount<'a> {
    /// Its id, as text.
    pub id: &'a str,
    /// Its login email.
    pub email: Option<&'a str>,
    /// Its login phone.
    pub phone: Option<&'a str>,
    /// Its user name.
    pub username: Option<&'a str>,
    /// True if this tool made it (the ledger names it).
    pub ours: bool,
}

/// An account of ours; 0 for what it does not hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub id: u64,
    pub email: u64,
    pub phone: u64,
    /// The row that founded it, once that was surveyed.
    pub row: u32,
}

/// All accounts of V2.
#[derive(Debug)]
pub struct Existing {
    phone_region: String,
    pub(super) ours: Vec<Known>,
    /// Over the ids of `ours`.
    by_id: Evenly,
    /// Indices into `ours` in order of what they hold.
    by_email: Box<[u32]>,
    by_phone: Box<[u32]>,
    foreign_emails: Vec<u64>,
    foreign_phones: Vec<u64>,
    /// User names that are not simply the account's email: (hash, index into `ours` or [`NOBODY`]).
    usernames: Vec<(u64, u32)>,
    /// User names of ours by account id, until indices are known.
    pending: Vec<(u64, u64)>,
    /// Ids of ours are ObjectIds, which are shorter than the uuids that they are made from.
    object_ids: bool,
}

impl Existing {
    /// None yet. `phone_region` is [`super::Rules::phone_region`].
    pub fn new(phone_region: &str) -> Self {
        Self {
            phone_region: phone_region.to_owned(),
            ours: Vec::new(),
            by_id: Evenly::over(0, |_| 0),
            by_email: Box::default(),
            by_phone: Box::default(),
            foreign_emails: Vec::new(),
            foreign_phones: Vec::new(),
            usernames: Vec::new(),
            pending: Vec::new(),
            object_ids: false,
        }
    }

    /// Adds an account. The order does not matter.
    pub fn push(&mut self, account: &ExistingAccount<'_>) {
        // A V2 that keeps no email still tells it when it is the user name.
        let login = account.email.or(account.username.filter(|username| username.contains('@')));
        let email = login.map_or(0, email_hash);
        let phone = account.phone.map_or(0, |text| self.phone_hash(text.trim()));
        let username = account.username.map_or(0, email_hash);
        if account.ours {
            let id = id_hash(account.id);
            self.object_ids |= account.id.len() == OBJECT_ID_DIGITS;
            push_tight(&mut self.ours, Known { id, email, phone, row: NOBODY });
            if username != 0 && username != email {
                push_tight(&mut self.pending, (username, id));
            }
            return;
        }
        if email != 0 {
            push_tight(&mut self.foreign_emails, email);
        }
        if phone != 0 {
            push_tight(&mut self.foreign_phones, phone);
        }
        if username != 0 && username != email {
            push_tight(&mut self.usernames, (username, NOBODY));
        }
    }

    /// Ours are in E.164 already, and reading a number costs more than all the rest.
    fn phone_hash(&self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if text.strip_prefix('+').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())) {
            return hash(text);
        }
        match phone::normalise(text, &self.phone_region) {
            Phone::Possible { e164, .. } => hash(&e164),
            Phone::Missing | Phone::Impossible => hash(text),
        }
    }

    /// Sorts everything for look-ups.
    pub(super) fn seal(&mut self) {
        self.ours.sort_unstable_by_key(|known| known.id);
        self.ours.dedup_by_key(|known| known.id);
        let ours = &self.ours;
        self.by_id = Evenly::over(ours.len(), |at| ours[at].id);
        // Sorted with their values beside them: following each index to its account would miss the cache every time.
        let order = |by: fn(&Known) -> u64| {
            let mut pairs: Vec<(u64, u32)> =
                ours.iter().map(by).zip(0..).filter(|(value, _)| *value != 0).collect();
            pairs.sort_unstable();
            pairs.into_iter().map(|(_, at)| at).collect::<Box<[u32]>>()
        };
        self.by_email = order(|known| known.email);
        self.by_phone = order(|known| known.phone);
        for (username, id) in std::mem::take(&mut self.pending) {
            let by = self.ours.binary_search_by_key(&id, |known| known.id).map_or(NOBODY, |at| at as u32);
            self.usernames.push((username, by));
        }
        self.usernames.sort_unstable();
        self.foreign_emails.sort_unstable();
        self.foreign_phones.sort_unstable();
    }

    /// True if V2 has no account at all.
    pub(super) fn is_empty(&self) -> bool {
        self.ours.is_empty()
            && self.foreign_emails.is_empty()
            && self.foreign_phones.is_empty()
            && self.usernames.is_empty()
    }

    /// The account of ours with this id.
    pub(super) fn find(&self, id: Uuid) -> Option<u32> {
        if self.ours.is_empty() {
            return None;
        }
        let id = if self.object_ids { id_hash(&object_id(id)) } else { uuid_hash(id) };
        self.by_id.position(id, |at| self.ours[at].id).map(|at| at as u32)
    }

    /// Who holds an email, as email or as user name: indices into `ours`, [`NOBODY`] for an account of somebody else.
    pub(super) fn email_holders(&self, email: u64) -> impl Iterator<Item = u32> + '_ {
        let foreign = self.foreign_emails.binary_search(&email).is_ok().then_some(NOBODY);
        foreign
            .into_iter()
            .chain(self.range(&self.by_email, email, |known| known.email))
            .chain(self.username_holders(email))
    }

    /// Who holds a phone: as for emails.
    pub(super) fn phone_holders(&self, phone: u64) -> impl Iterator<Item = u32> + '_ {
        let foreign = self.foreign_phones.binary_search(&phone).is_ok().then_some(NOBODY);
        foreign.into_iter().chain(self.range(&self.by_phone, phone, |known| known.phone))
    }

    /// Who holds a user name that is not the account's email.
    pub(super) fn username_holders(&self, username: u64) -> impl Iterator<Item = u32> + '_ {
        let from = self.usernames.partition_point(|(hash, _)| *hash < username);
        self.usernames[from..].iter().take_while(move |(hash, _)| *hash == username).map(|(_, by)| *by)
    }

    fn range<'a>(
        &'a self,
        order: &'a [u32],
        value: u64,
        by: fn(&Known) -> u64,
    ) -> impl Iterator<Item = u32> + 'a {
        let from = order.partition_point(|at| by(&self.ours[*at as usize]) < value);
        order[from..].iter().copied().take_while(move |at| by(&self.ours[*at as usize]) == value)
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        heap(&self.ours)
            + self.by_id.memory_bytes()
            + size_of_val(&*self.by_email)
            + size_of_val(&*self.by_phone)
            + heap(&self.foreign_emails)
            + heap(&self.foreign_phones)
            + heap(&self.usernames)
            + heap(&self.pending)
    }
}

/// Emails are compared in their one spelling, and so are user names, which mostly are emails.
fn email_hash(text: &str) -> u64 {
    if is_in_its_one_spelling(text) {
        return hash(text);
    }
    match email::normalise(text) {
        Email::Usable { address, .. } => hash(&address),
        Email::Missing | Email::Unusable(_) => match text.trim() {
            "" => 0,
            text => hash(&text.to_lowercase()),
        },
    }
}

/// Whether this is certainly what normalising it would give, as it is of nearly all emails that this tool wrote. Domains in
/// Punycode have another spelling, too, and a dot at the end is none.
fn is_in_its_one_spelling(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'+' | b'-' | b'_' | b'@');
    text.bytes().all(plain)
        && text.bytes().filter(|byte| *byte == b'@').count() == 1
        && !text.ends_with('.')
        && !text.contains("xn--")
}

fn uuid_hash(id: Uuid) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

/// Ids of ours are uuids, which V2 may write in several ways, or ObjectIds.
fn id_hash(id: &str) -> u64 {
    Uuid::try_parse(id).map_or_else(|_| xxhash_rust::xxh3::xxh3_64(id.as_bytes()), uuid_hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::IdMaker;
    use crate::plan::{Ids, KeyKind};

    proptest! {
        #[test]
        fn one_spelling_is_what_normalising_gives(text in "[a-z0-9.+_@-]{0,6}@[a-z0-9.+_-]{0,12}(\\.(com|org|invalid|x))?") {
            if is_in_its_one_spelling(&text) {
                match email::normalise(&text) {
                    Email::Usable { address, .. } => prop_assert_eq!(address, text),
                    Email::Missing | Email::Unusable(_) => prop_assert_eq!(text.trim().to_lowercase(), text),
                }
            }
        }
    }

    #[test]
    fn ours_are_found_by_id_however_it_is_written() {
        let maker = IdMaker::new("people", KeyKind::Text, "");
        for kind in [Ids::Uuid8, Ids::ObjectId] {
            let mut existing = Existing::new("NG");
            for key in 0..100 {
                let id = kind.text(maker.id(&key.to_string()));
                existing.push(&ExistingAccount {
                    id: &id,
                    email: None,
                    phone: None,
                    username: None,
                    ours: true,
                });
            }
            existing.seal();
            let found = |key: &str| existing.find(maker.id(key)).is_some();
            assert!((0..100).all(|key| found(&key.to_string())) && !found("100"), "{kind:?}");
        }
    }
}

//! Same email: same person or not, and which account each row belongs to.
//!
//! First the settled rows take their seats, because what V2 holds is no longer open. Then all rows are taken in
//! order, each compared with the accounts before it.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::account_id;
use super::close_look::Person;
use super::decision::{ConflictKind, EmailDecision, RejectCode, Settlement, UsernameDecision};
use super::existing::NOBODY;
use super::judge_emails::Addresses;
use super::result::{ConflictLine, Special};
use super::survey::{Claimed, Joined, Rows, flag};
use crate::identity::name::compatible;
use crate::plan::Policy;

/// An email that more accounts share is a school's or a dummy, not a person's: rows are compared with this many of
/// them and no more, which keeps the work linear in the number of rows.
const MOST_COMPARED: usize = 64;

/// What the close look led to.
pub(super) struct Verdicts {
    /// One for each person, ascending by row.
    pub specials: Vec<Special>,
    pub conflicts: Vec<ConflictLine>,
    /// All account numbers are below this.
    pub slots: usize,
}

/// An account of at least one person in a clash.
struct Account {
    number: u32,
    id: Uuid,
    /// Index of the person whose name and address it is compared by: the founder, or who stands in for it.
    person: usize,
    /// `None` until its turn comes: it is in V2, but V2 holds no email for it.
    email: Option<EmailDecision>,
    username: UsernameDecision,
    /// (entity, row) of the rows that belong to it.
    members: Vec<(usize, u32)>,
}

/// Who holds the address of a group.
#[derive(Clone, Copy, PartialEq)]
enum Holder {
    Nobody,
    /// An account of V2 about whose person nothing is known.
    Stranger,
    Account(usize),
}

/// The people and accounts around one address.
struct Group {
    holder: Holder,
    /// (row, account), ascending: the accounts, at the place of the row through which they belong here.
    seats: Vec<(u32, usize)>,
}

/// What the comparison of a row with those before it found.
enum Finding {
    /// Nobody before it has the address.
    Free,
    /// It belongs to this account.
    Merge { account: usize, kind: ConflictKind },
    /// It needs an account of its own, and another address.
    Clash { kind: ConflictKind, policy: Policy, other: u32 },
}

struct Judge<'a> {
    rows: &'a Rows,
    claimed: &'a Claimed,
    persons: Vec<Person>,
    addresses: Addresses<'a>,
    groups: Vec<Group>,
    accounts: Vec<Account>,
    /// The account of each person, once it has one.
    seat_of: Vec<Option<usize>>,
    slots: usize,
    conflicts: Vec<ConflictLine>,
}

/// Decides about all rows that share an email.
pub(super) fn decide(
    rows: &Rows,
    claimed: &Claimed,
    joined: &[Joined],
    addresses: &[Arc<str>],
    persons: Vec<Person>,
) -> Verdicts {
    let mut sizes = vec![0; addresses.len()];
    for person in &persons {
        sizes[person.group as usize] += 1;
    }
    let mut judge = Judge {
        rows,
        claimed,
        seat_of: vec![None; persons.len()],
        addresses: Addresses::new(rows, claimed, addresses, sizes),
        groups: addresses.iter().map(|_| Group { holder: Holder::Nobody, seats: Vec::new() }).collect(),
        accounts: Vec::new(),
        slots: rows.keys.len(),
        conflicts: Vec::new(),
        persons,
    };
    judge.seat_settled(joined);
    judge.find_holders();
    let rejected: Vec<bool> = (0..judge.persons.len()).map(|person| !judge.place(person)).collect();
    judge.verdicts(&rejected)
}

impl Judge<'_> {
    /// Gives every settled row the account that V2 has for it.
    fn seat_settled(&mut self, joined: &[Joined]) {
        let mut by_known = HashMap::new();
        for at in 0..self.persons.len() {
            let person = &self.persons[at];
            let Some((id, known)) = self.settled(person) else { continue };
            let email = self.addresses.held(person, self.claimed.existing.ours[known as usize].email);
            let (row, group) = (person.row, person.group);
            let account = self.open(at, row, id, email);
            by_known.insert(known, account);
            self.groups[group as usize].seats.push((row, account));
        }
        for joined in joined {
            let Ok(at) = self.persons.binary_search_by_key(&joined.row, |person| person.row) else {
                continue;
            };
            let (row, entity, group) = (joined.row, self.persons[at].entity, self.persons[at].group);
            let account = match by_known.get(&joined.known) {
                Some(account) => *account,
                None => {
                    // Its founder is in no clash, or gone from V1.
                    let number = match self.claimed.existing.ours[joined.known as usize].row {
                        NOBODY => {
                            self.slots += 1;
                            (self.slots - 1) as u32
                        }
                        founder => founder,
                    };
                    let account = self.open(at, number, joined.id, Some(EmailDecision::Held));
                    by_known.insert(joined.known, account);
                    account
                }
            };
            self.seat_of[at] = Some(account);
            let members = &mut self.accounts[account].members;
            if !members.contains(&(entity, row)) {
                members.push((entity, row));
            }
            let seats = &mut self.groups[group as usize].seats;
            if seats.iter().all(|(_, seated)| *seated != account) {
                seats.push((row, account));
            }
        }
        for group in &mut self.groups {
            group.seats.sort_unstable();
        }
    }

    fn settled(&self, person: &Person) -> Option<(Uuid, u32)> {
        if !self.rows.has(person.row, flag::SETTLED) {
            return None;
        }
        let id = account_id(&self.rows.people[person.entity].ids, &person.key);
        Some((id, self.claimed.existing.find(id)?))
    }

    /// A new account, with this person as its first member.
    fn open(&mut self, at: usize, number: u32, id: Uuid, email: Option<EmailDecision>) -> usize {
        let person = &self.persons[at];
        self.accounts.push(Account {
            number,
            id,
            person: at,
            email,
            username: UsernameDecision::Email,
            members: vec![(person.entity, person.row)],
        });
        let account = self.accounts.len() - 1;
        self.seat_of[at] = Some(account);
        account
    }

    /// Whoever holds an address in V2 comes first.
    fn find_holders(&mut self) {
        let existing = &self.claimed.existing;
        for (at, group) in self.groups.iter_mut().enumerate() {
            for by in existing.email_holders(self.addresses.hash_of(at)) {
                let row = existing.ours.get(by as usize).map_or(NOBODY, |known| known.row);
                let seat = group.seats.iter().find(|(seated, _)| *seated == row);
                let holder = seat.map_or(Holder::Stranger, |(_, account)| Holder::Account(*account));
                if group.holder == Holder::Nobody || holder == Holder::Stranger {
                    group.holder = holder;
                }
            }
        }
    }

    /// Decides about one person; false if it is rejected.
    fn place(&mut self, at: usize) -> bool {
        let finding = self.compare(at);
        let group = self.persons[at].group as usize;
        if let Some(account) = self.seat_of[at] {
            self.place_settled(at, account, &finding);
            return true;
        }
        let row = self.persons[at].row;
        let email = match finding {
            Finding::Merge { account, kind } => {
                self.seat_of[at] = Some(account);
                self.accounts[account].members.push((self.persons[at].entity, row));
                self.note(row, self.accounts[account].number, kind, Settlement::Merged);
                return true;
            }
            Finding::Clash { kind, policy: Policy::Reject, other } => {
                self.note(row, other, kind, Settlement::Rejected);
                return false;
            }
            Finding::Clash { kind, policy, other } => {
                let email = self.addresses.another(&self.persons[at], policy);
                self.note(row, other, kind, Settlement::of(email));
                email
            }
            Finding::Free => self.addresses.plain(&self.persons[at]),
        };
        let person = &self.persons[at];
        let id = account_id(&self.rows.people[person.entity].ids, &person.key);
        let username = self.addresses.username(person, email);
        let account = self.open(at, row, id, Some(email));
        self.accounts[account].username = username;
        let group = &mut self.groups[group];
        let place = group.seats.partition_point(|(seated, _)| *seated < row);
        group.seats.insert(place, (row, account));
        if matches!(finding, Finding::Free) {
            group.holder = Holder::Account(account);
        }
        true
    }

    /// A settled row keeps its account; what remains is to say why its email is what it is.
    fn place_settled(&mut self, at: usize, account: usize, finding: &Finding) {
        let (row, group) = (self.persons[at].row, self.persons[at].group as usize);
        if self.accounts[account].person != at {
            let kind = match finding {
                Finding::Merge { kind, .. } | Finding::Clash { kind, .. } => *kind,
                Finding::Free => ConflictKind::EmailChanged,
            };
            return self.note(row, self.accounts[account].number, kind, Settlement::Merged);
        }
        let plain = self.addresses.plain(&self.persons[at]);
        let email = match (self.accounts[account].email, finding) {
            // V1's address has changed, and the new one is free. As long as V1 stays the same this cannot be: whoever has
            // another address than their own has it because somebody else had a claim.
            (Some(email), _) if email != plain && self.addresses.is_the_only_claim(&self.persons[at]) => {
                plain
            }
            (Some(email), _) => email,
            (None, Finding::Free) => {
                self.groups[group].holder = Holder::Account(account);
                self.addresses.plain(&self.persons[at])
            }
            (None, Finding::Clash { policy: Policy::KeepFirst, .. }) => {
                self.addresses.another(&self.persons[at], Policy::KeepFirst)
            }
            (None, _) => self.addresses.another(&self.persons[at], Policy::Suffix),
        };
        self.accounts[account].email = Some(email);
        self.accounts[account].username = self.addresses.username(&self.persons[at], email);
        if email == self.addresses.plain(&self.persons[at]) {
            return;
        }
        let (kind, other) = match finding {
            Finding::Clash { kind, other, .. } => (*kind, *other),
            Finding::Merge { account, kind } => (*kind, self.accounts[*account].number),
            Finding::Free => (ConflictKind::EmailChanged, NOBODY),
        };
        self.note(row, other, kind, Settlement::of(email));
    }

    /// Compares a row with the accounts before it: the holder of the address, then in order.
    fn compare(&self, at: usize) -> Finding {
        let (person, own) = (&self.persons[at], self.seat_of[at]);
        let (group, policies) = (&self.groups[person.group as usize], &self.rows.rules.policies);
        let holder = match group.holder {
            Holder::Account(account) => Some(account),
            _ => None,
        };
        let founds = |account: &usize| own == Some(*account) && self.accounts[*account].person == at;
        if holder.as_ref().is_some_and(founds) {
            return Finding::Free;
        }
        let before = group.seats.iter().take_while(|(row, _)| *row < person.row).map(|(_, account)| *account);
        let before = before.filter(|account| Some(*account) != holder);
        let candidates = holder.into_iter().chain(before).filter(|account| !founds(account));

        let (mut first, mut same_entity, mut vacant, mut doubtful) = (None, None, None, person.doubtful);
        for index in candidates.take(MOST_COMPARED) {
            let account = &self.accounts[index];
            let other = &self.persons[account.person];
            first = first.or(Some(index));
            // Two questions, because a settled row may come after this one: was there such a row before it, and is
            // there one at all? Only what was before may change the outcome as long as V1 stays the same.
            let others = account.members.iter();
            let others = others.filter(|(entity, row)| *entity == person.entity && *row != person.row);
            let (mut earlier, mut occupied) = (false, false);
            for (_, row) in others {
                occupied = true;
                earlier |= *row < person.row || *row == account.number;
            }
            let merges_entity = policies.same_entity == Policy::Merge;
            if earlier {
                same_entity = same_entity.or(Some(index));
                if !merges_entity {
                    continue;
                }
            }
            if person.doubtful || other.doubtful {
                doubtful = true;
                continue;
            }
            if compatible(&person.name, &other.name) {
                let no_seat = occupied && !merges_entity && policies.same_person == Policy::Merge;
                let (kind, policy) = if earlier || no_seat {
                    (ConflictKind::SameEntity, policies.same_entity)
                } else {
                    (ConflictKind::SamePerson, policies.same_person)
                };
                if policy == Policy::Merge {
                    return Finding::Merge { account: index, kind };
                }
                return self.clash(group, kind, policy, index);
            }
            if occupied && !merges_entity {
                continue;
            }
            vacant = vacant.or(Some(index));
        }
        if let Some(account) = vacant.filter(|_| policies.other_person == Policy::Merge) {
            return Finding::Merge { account, kind: ConflictKind::OtherPerson };
        }
        let Some(other) = same_entity.or(holder).or(first) else {
            // A generated address can always be another one, so that is no reason to reject a row.
            let policy = if person.placeholder { Policy::Suffix } else { policies.other_person };
            return match group.holder {
                Holder::Stranger => Finding::Clash { kind: ConflictKind::HeldInV2, policy, other: NOBODY },
                _ => Finding::Free,
            };
        };
        let (kind, policy) = if person.placeholder || self.persons[self.accounts[other].person].placeholder {
            (ConflictKind::PlaceholderClash, Policy::Suffix)
        } else if same_entity.is_some() && policies.same_entity != Policy::Merge {
            (ConflictKind::SameEntity, policies.same_entity)
        } else if doubtful {
            (ConflictKind::DoubtfulEmail, policies.other_person)
        } else {
            (ConflictKind::OtherPerson, policies.other_person)
        };
        self.clash(group, kind, policy, other)
    }

    /// A clash, unless nobody holds the address any more.
    fn clash(&self, group: &Group, kind: ConflictKind, policy: Policy, other: usize) -> Finding {
        match group.holder {
            Holder::Nobody => Finding::Free,
            _ => Finding::Clash { kind, policy, other: self.accounts[other].number },
        }
    }

    fn note(&mut self, row: u32, other: u32, kind: ConflictKind, settlement: Settlement) {
        let other = if (other as usize) < self.rows.keys.len() { other } else { NOBODY };
        self.conflicts.push(ConflictLine { row, other, kind, settlement });
    }

    fn verdicts(self, rejected: &[bool]) -> Verdicts {
        let Self { persons, accounts, seat_of, slots, conflicts, .. } = self;
        // An account's email is made from its founder's address; who is no longer in that group cannot make it.
        let groups: Vec<u32> = accounts.iter().map(|account| persons[account.person].group).collect();
        let specials = persons.into_iter().zip(seat_of).zip(rejected).map(|((person, seat), rejected)| {
            let reject = rejected.then_some(RejectCode::SharedEmail);
            let Some((account, group)) = seat.map(|seat| (&accounts[seat], groups[seat])) else {
                let (email, username) = (EmailDecision::Own, UsernameDecision::Email);
                return Special {
                    row: person.row,
                    number: NOBODY,
                    id: Uuid::nil(),
                    email,
                    username,
                    reject,
                    key: person.key,
                };
            };
            let email = account.email.filter(|_| group == person.group).unwrap_or(EmailDecision::Held);
            let (number, id, username) = (account.number, account.id, account.username);
            Special { row: person.row, number, id, email, username, reject, key: person.key }
        });
        Verdicts { specials: specials.collect(), conflicts, slots }
    }
}

//! The finished census: ten bytes for an ordinary row, and tables for those about which there is more to say.

use uuid::Uuid;

use super::cursor::Cursor;
use super::decision::{
    AccountOf, Conflict, ConflictKind, Decision, EmailDecision, Founder, Other, Outcome, PhoneDecision,
    RejectCode, Settlement, UsernameDecision,
};
use super::existing::NOBODY;
use super::survey::{Rows, flag};
use super::{Rules, account_id, heap};

/// A row that took part in an email clash.
#[derive(Debug)]
pub(super) struct Special {
    pub row: u32,
    /// The account's number: its founder's row, or one beyond all rows if that is gone.
    pub number: u32,
    pub id: Uuid,
    pub email: EmailDecision,
    pub username: UsernameDecision,
    pub reject: Option<RejectCode>,
    pub key: Box<str>,
}

/// A conflict of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConflictLine {
    pub row: u32,
    /// The other row, or [`NOBODY`].
    pub other: u32,
    pub kind: ConflictKind,
    pub settlement: Settlement,
}

impl ConflictLine {
    pub fn order(&self) -> (u32, ConflictKind) {
        (self.row, self.kind)
    }
}

/// Every decision about every account.
#[derive(Debug)]
pub struct Census {
    pub(super) rows: Rows,
    /// Ascending by row.
    pub(super) specials: Vec<Special>,
    /// Ascending by row and kind.
    pub(super) conflicts: Vec<ConflictLine>,
    slots: usize,
}

impl Census {
    pub(super) fn new(
        rows: Rows,
        specials: Vec<Special>,
        conflicts: Vec<ConflictLine>,
        slots: usize,
    ) -> Self {
        Self { rows, specials, conflicts, slots }
    }

    /// Looks up decisions for the rows of an entity, in key order. For a cursor that can be moved to another task,
    /// see [`Cursor::new`].
    pub fn cursor(&self, entity: usize) -> Cursor<&Self> {
        Cursor::new(self, entity)
    }

    /// The rules it was made by.
    pub fn rules(&self) -> &Rules {
        &self.rows.rules
    }

    /// How many rows were surveyed.
    pub fn len(&self) -> usize {
        self.rows.keys.len()
    }

    /// True if no row was surveyed.
    pub fn is_empty(&self) -> bool {
        self.rows.keys.is_empty()
    }

    /// All account numbers are below this: the length of a bitmap of accounts.
    pub fn account_slots(&self) -> usize {
        self.slots
    }

    /// True if the account with this number was in V2 when the census was taken.
    pub fn exists_in_v2(&self, number: u32) -> bool {
        self.rows.flags.get(number as usize).is_none_or(|flags| flags & flag::SETTLED != 0)
    }

    /// What was decided about a row. `key` is needed because ordinary rows keep only a hash of it.
    pub(super) fn decision(&self, entity: usize, row: u32, key: &str) -> Decision {
        let flags = self.rows.flags[row as usize];
        let outcome = if flags & flag::ACCOUNT == 0 {
            Outcome::WithoutAccount
        } else if flags & flag::PHONE_REJECTED != 0 {
            Outcome::Rejected(RejectCode::SharedPhone)
        } else if let Some(special) = self.special(row, flags) {
            match special.reject {
                Some(code) => Outcome::Rejected(code),
                None => Outcome::Account(self.special_account(special, flags)),
            }
        } else {
            let placeholder = flags & (flag::EMAIL_MISSING | flag::EMAIL_UNUSABLE) != 0;
            let taken = flags & flag::LOCAL_PART_TAKEN != 0;
            Outcome::Account(AccountOf {
                id: account_id(&self.rows.people[entity].ids, key),
                number: row,
                founder: Founder::ThisRow,
                email: if placeholder { EmailDecision::Placeholder } else { EmailDecision::Own },
                username: if placeholder && !taken {
                    UsernameDecision::LocalPart
                } else {
                    UsernameDecision::Email
                },
                phone: phone_decision(flags),
            })
        };
        Decision { row, outcome }
    }

    fn special(&self, row: u32, flags: u16) -> Option<&Special> {
        if flags & flag::SPECIAL == 0 {
            return None;
        }
        let at = self.specials.binary_search_by_key(&row, |special| special.row).ok()?;
        Some(&self.specials[at])
    }

    fn special_account(&self, special: &Special, flags: u16) -> AccountOf {
        let founder = match special.number {
            number if number == special.row => Founder::ThisRow,
            number if (number as usize) < self.len() => {
                Founder::Row { entity: self.rows.entity_of(number), row: number }
            }
            _ => Founder::Gone,
        };
        AccountOf {
            id: special.id,
            number: special.number,
            founder,
            email: special.email,
            username: special.username,
            phone: phone_decision(flags),
        }
    }

    /// The key of a row that took part in an email clash; founders of shared accounts always did.
    pub fn kept_key(&self, row: u32) -> Option<&str> {
        let flags = *self.rows.flags.get(row as usize)?;
        self.special(row, flags).map(|special| &*special.key)
    }

    /// The login email of an account. `entity` and `key` are those of the row, `own` its normalised email. `None`
    /// when V2's stays as it is ([`EmailDecision::Held`]).
    pub fn email(&self, account: &AccountOf, entity: usize, key: &str, own: Option<&str>) -> Option<String> {
        let (entity, key) = match account.founder {
            Founder::Row { entity, row } => (entity, self.kept_key(row)?),
            Founder::ThisRow | Founder::Gone => (entity, key),
        };
        account.email.address(own, &self.rows.rules.placeholder, &self.rows.people[entity].name, key)
    }

    /// The lines of the conflict log about a row.
    pub fn conflicts(&self, row: u32) -> impl Iterator<Item = Conflict<'_>> {
        let lines = self.lines(row);
        self.simple_conflicts(row).chain(lines.iter().map(|line| Conflict {
            kind: line.kind,
            settlement: line.settlement,
            other: (line.other != NOBODY).then(|| {
                Other {
                    entity: self.rows.entity_of(line.other),
                    row: line.other,
                    // Of rows that share a phone hardly any key is kept, and which ones are must make no difference.
                    key: Some(line.other)
                        .filter(|_| line.kind != ConflictKind::PhoneShared)
                        .and_then(|row| self.kept_key(row)),
                }
            }),
        }))
    }

    fn lines(&self, row: u32) -> &[ConflictLine] {
        let from = self.conflicts.partition_point(|line| line.row < row);
        let count = self.conflicts[from..].iter().take_while(|line| line.row == row).count();
        &self.conflicts[from..from + count]
    }

    /// Conflicts that follow from a row's flags alone.
    pub(super) fn simple_conflicts(&self, row: u32) -> impl Iterator<Item = Conflict<'_>> {
        let flags = self.rows.flags[row as usize];
        let held = self.special(row, flags).is_some_and(|special| special.email == EmailDecision::Held);
        let email = if held { Settlement::KeptAsInV2 } else { Settlement::Placeholder };
        [
            (flag::EMAIL_MISSING, ConflictKind::EmailMissing, email),
            (flag::EMAIL_UNUSABLE, ConflictKind::EmailUnusable, email),
            (flag::PHONE_IMPOSSIBLE, ConflictKind::PhoneUnusable, Settlement::ContactOnly),
        ]
        .into_iter()
        .filter(move |(bit, ..)| flags & bit != 0)
        .map(|(_, kind, settlement)| Conflict { kind, settlement, other: None })
    }

    /// Bytes on the heap, apart from the few of rules and entities.
    pub fn memory_bytes(&self) -> usize {
        let keys: usize = self.specials.iter().map(|special| special.key.len()).sum();
        self.rows.memory_bytes() + heap(&self.specials) + heap(&self.conflicts) + keys
    }
}

fn phone_decision(flags: u16) -> PhoneDecision {
    if flags & flag::PHONE_DIFFERS != 0 {
        PhoneDecision::Held
    } else if flags & flag::PHONE_LOGIN != 0 {
        PhoneDecision::Login
    } else if flags & (flag::PHONE | flag::PHONE_IMPOSSIBLE) != 0 {
        PhoneDecision::ContactOnly
    } else {
        PhoneDecision::None
    }
}

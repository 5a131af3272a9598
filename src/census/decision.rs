//! What the census can decide about a row: the words that the run loop, the ledger and the reports share.

use uuid::Uuid;

use crate::identity::email::{Template, with_suffix};

/// What becomes of one row, as far as its account is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The row's number in the census (all entities, in order).
    pub row: u32,
    /// What was decided.
    pub outcome: Outcome,
}

/// The three things that can become of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row is no person with an account.
    WithoutAccount,
    /// The row belongs to this account.
    Account(AccountOf),
    /// A policy says `reject`.
    Rejected(RejectCode),
}

/// The account of a row, with all that is needed to create it should it not be in V2 yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountOf {
    /// The account's id.
    pub id: Uuid,
    /// A dense number of the account, below [`super::Census::account_slots`]: for a bitmap of accounts that exist.
    pub number: u32,
    /// The row after which the account's id is made.
    pub founder: Founder,
    /// The login email.
    pub email: EmailDecision,
    /// The user name.
    pub username: UsernameDecision,
    /// What becomes of *this row's* phone if this row creates the account.
    pub phone: PhoneDecision,
}

impl AccountOf {
    /// True if the row joins an account that another row founded.
    pub fn is_merged(&self) -> bool {
        self.founder != Founder::ThisRow
    }
}

/// Which row an account is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founder {
    /// The row itself.
    ThisRow,
    /// A row of the entity with this index. In the row's own entity (only with `same_entity = merge`) the run loop
    /// must see to it that the two are not written at the same time.
    Row {
        /// Index of the entity.
        entity: usize,
        /// The founder's number in the census.
        row: u32,
    },
    /// An account of ours in V2 whose founder is no longer in V1.
    Gone,
}

/// Which email an account gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmailDecision {
    /// The row's own normalised address.
    Own,
    /// The row's own address with `+n` before its `@`.
    Suffix(u32),
    /// The placeholder of the founder's entity and key.
    Placeholder,
    /// That placeholder with `+n`: somebody in V1 or V2 already has the plain one.
    PlaceholderSuffix(u32),
    /// Whatever V2 holds: the account exists, and V1's email has changed since. Never written.
    Held,
}

impl EmailDecision {
    /// The address. `own` is the row's normalised email, `entity` and `key` the founder's. `None` for
    /// [`EmailDecision::Held`], and if `own` is needed and missing.
    pub fn address(self, own: Option<&str>, template: &Template, entity: &str, key: &str) -> Option<String> {
        match self {
            Self::Own => own.map(str::to_owned),
            Self::Suffix(n) => own.map(|own| with_suffix(own, n)),
            Self::Placeholder => Some(template.address(entity, key)),
            Self::PlaceholderSuffix(n) => Some(with_suffix(&template.address(entity, key), n)),
            Self::Held => None,
        }
    }

    /// True when the address is a generated one.
    pub fn is_placeholder(self) -> bool {
        matches!(self, Self::Placeholder | Self::PlaceholderSuffix(_))
    }
}

/// Which user name an account gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsernameDecision {
    /// The account's email.
    Email,
    /// What stands before the `@` of the account's placeholder address.
    LocalPart,
}

impl UsernameDecision {
    /// The user name of an account with this email.
    pub fn text(self, email: &str) -> &str {
        match self {
            Self::Email => email,
            Self::LocalPart => email.rsplit_once('@').map_or(email, |(local, _)| local),
        }
    }
}

/// What becomes of a row's phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PhoneDecision {
    /// The row has none.
    None,
    /// It is the account's login phone.
    Login,
    /// It is kept to call, not to log in: another account has it, or it is no possible number.
    ContactOnly,
    /// The account exists with another phone; V2's stays. Never written.
    Held,
}

/// Why the census rejects a row. Stable: stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// Its email belongs to an account before it, and the policy is `reject`.
    SharedEmail,
    /// Its phone belongs to an account before it, and the policy is `reject`.
    SharedPhone,
}

impl RejectCode {
    /// The code as it stands in ledger and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SharedEmail => "shared_email",
            Self::SharedPhone => "shared_phone",
        }
    }

    /// The reason in a sentence without any value of the row.
    pub fn reason(self) -> &'static str {
        match self {
            Self::SharedEmail => "the email belongs to another account, and the policy for that is `reject`",
            Self::SharedPhone => "the phone belongs to another account, and `same_phone` is `reject`",
        }
    }
}

/// What was found about a row's email or phone. Stable: stands in the conflict log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ConflictKind {
    /// Same email and compatible names in two entities.
    SamePerson,
    /// Same email, names that do not go together.
    OtherPerson,
    /// Same email twice in one entity.
    SameEntity,
    /// Same email as an account of V2 that this tool did not make, or whose row is gone.
    HeldInV2,
    /// Same email, but one of the spellings was folded in a way that may hide another mailbox: never merged.
    DoubtfulEmail,
    /// A real email equals the placeholder of another row.
    PlaceholderClash,
    /// V1's email changed after the account was made.
    EmailChanged,
    /// The row has no email.
    EmailMissing,
    /// The row's email is no address.
    EmailUnusable,
    /// The phone belongs to another account.
    PhoneShared,
    /// The phone is no possible number.
    PhoneUnusable,
}

impl ConflictKind {
    /// All kinds, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::SamePerson,
        Self::OtherPerson,
        Self::SameEntity,
        Self::HeldInV2,
        Self::DoubtfulEmail,
        Self::PlaceholderClash,
        Self::EmailChanged,
        Self::EmailMissing,
        Self::EmailUnusable,
        Self::PhoneShared,
        Self::PhoneUnusable,
    ];

    /// The kind as it stands in the conflict log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SamePerson => "same_person",
            Self::OtherPerson => "other_person",
            Self::SameEntity => "same_entity_email",
            Self::HeldInV2 => "email_held_in_v2",
            Self::DoubtfulEmail => "email_doubtful",
            Self::PlaceholderClash => "placeholder_clash",
            Self::EmailChanged => "email_changed",
            Self::EmailMissing => "email_missing",
            Self::EmailUnusable => "email_unusable",
            Self::PhoneShared => "phone_shared",
            Self::PhoneUnusable => "phone_unusable",
        }
    }
}

/// What was decided about a conflict. Stable: stands in the conflict log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Settlement {
    /// The row joined the other account.
    Merged,
    /// The email got `+n`.
    Suffixed,
    /// The account got a placeholder email.
    Placeholder,
    /// The phone is kept to call, not to log in.
    ContactOnly,
    /// The row was rejected.
    Rejected,
    /// V2 keeps what it holds.
    KeptAsInV2,
}

impl Settlement {
    /// The decision as it stands in the conflict log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Suffixed => "suffixed",
            Self::Placeholder => "placeholder",
            Self::ContactOnly => "contact_only",
            Self::Rejected => "rejected",
            Self::KeptAsInV2 => "kept_as_in_v2",
        }
    }

    pub(super) fn of(email: EmailDecision) -> Self {
        match email {
            EmailDecision::Suffix(_) | EmailDecision::PlaceholderSuffix(_) => Self::Suffixed,
            EmailDecision::Placeholder => Self::Placeholder,
            EmailDecision::Own | EmailDecision::Held => Self::KeptAsInV2,
        }
    }
}

/// One line of the conflict log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// What was found.
    pub kind: ConflictKind,
    /// What was decided.
    pub settlement: Settlement,
    /// The row whose account came first; `None` if it is an account of V2 alone, or nobody else is concerned.
    pub other: Option<Other<'a>>,
}

/// The other side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other<'a> {
    /// Index of its entity.
    pub entity: usize,
    /// Its number in the census.
    pub row: u32,
    /// Its key; not known of somebody with the same phone.
    pub key: Option<&'a str>,
}

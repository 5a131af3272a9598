//! What definitions can choose from: policies for clashes, how ids are made, what happens without a row that is referred to.

/// What to do when two rows claim the same email or phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policies {
    /// Same email and compatible names, in different entities.
    pub same_person: Policy,
    /// Same email, names that do not go together.
    pub other_person: Policy,
    /// Same email twice in one entity.
    pub same_entity: Policy,
    /// Same phone: only [`Policy::KeepFirst`] and [`Policy::Reject`], because families share phones.
    pub same_phone: Policy,
}

/// One decision about a clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One account with several roles.
    Merge,
    /// The later one gets `+2`, `+3` before the `@`.
    Suffix,
    /// The first keeps it; the later one gets a placeholder email, or its phone as contact phone only.
    KeepFirst,
    /// The later row is rejected.
    Reject,
}

impl Policy {
    /// Names in definitions.
    pub const NAMES: &[(&str, Policy)] = &[
        ("merge", Self::Merge),
        ("suffix", Self::Suffix),
        ("keep-first", Self::KeepFirst),
        ("reject", Self::Reject),
    ];

    /// The policies that can decide about this key of `[policies]`.
    pub fn choices(key: &str) -> &'static [(&'static str, Policy)] {
        // Families share phones: one phone is no sign of one person, and has no part that could take a suffix.
        if key == "same_phone" { &Self::NAMES[2..] } else { Self::NAMES }
    }
}

impl Missing {
    /// Names in definitions.
    pub const NAMES: &[(&str, Missing)] =
        &[("reject", Self::Reject), ("null", Self::Null), ("skip", Self::Skip)];
}

impl Ids {
    /// Names in definitions.
    pub const NAMES: &[(&str, Ids)] =
        &[("uuid8", Self::Uuid8), ("keep", Self::Keep), ("objectid", Self::ObjectId)];

    /// Those that accounts can have: several rows of V1 can be one account, so no key is its own.
    pub const OF_ACCOUNTS: &[(&str, Ids)] = &[("uuid8", Self::Uuid8), ("objectid", Self::ObjectId)];

    /// A derived id as text: a uuid, or the 24 hex digits of an ObjectId.
    pub fn text(self, id: uuid::Uuid) -> String {
        match self {
            Self::Uuid8 | Self::Keep => id.to_string(),
            Self::ObjectId => crate::ids::object_id(id),
        }
    }
}

/// How the V2 ids of an entity are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Derived from entity and key, in key order (UUID version 8).
    Uuid8,
    /// V1's key, unchanged.
    Keep,
    /// MongoDB: as [`Ids::Uuid8`], cut to the 12 bytes of an ObjectId.
    ObjectId,
}

/// What happens when a reference or look-up finds nothing. A null key is never "missing": it gives null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The whole source row is rejected (default).
    Reject,
    /// The column becomes null, noted in the conflict log.
    Null,
    /// This one row of V2 is left out, noted in the conflict log; only in a [`super::When::Each`]. With
    /// [`super::KeyFrom::Elements`] this one element of the array is.
    Skip,
}

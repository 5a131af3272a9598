//! What of a record stays as V2 has it when V1's row has changed since: the same in every V2.

use super::Keeps;
use crate::plan::{AccountField, Column, Entity, Fill};

/// Whether an update leaves a column as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stays {
    Never,
    Always,
    /// Where [`Keeps::email`] says so.
    WithEmail,
    /// Where [`Keeps::phone`] says so.
    WithPhone,
}

impl Stays {
    /// Whether it does in one row.
    pub(crate) fn in_row(self, keeps: Keeps) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::WithEmail => keeps.email,
            Self::WithPhone => keeps.phone,
        }
    }
}

/// What of a record a comparison leaves out: what an update leaves as it is, and the time of the update. Whose account a record
/// belongs to does not change in an update, and is compared all the same; so is what was filled in later.
pub(crate) fn compared(entity: &Entity, column: &Column) -> Stays {
    use AccountField as F;
    let dated = entity.account.as_ref().is_some_and(|account| account.updated_at.is_some());
    match &column.fill {
        _ if column.later => Stays::Never,
        Fill::Account(F::UpdatedAt) if !dated => Stays::Always,
        Fill::Account(F::Id) => Stays::Never,
        other => stays(entity, other),
    }
}

/// Ids, the password and what says whether it may be used, and the time of the migration stay.
pub(crate) fn stays(entity: &Entity, fill: &Fill) -> Stays {
    use AccountField as F;
    let dated = entity.account.as_ref().is_some_and(|account| account.created_at.is_some());
    match fill {
        Fill::Id | Fill::DerivedId(_) | Fill::Now => Stays::Always,
        Fill::Account(F::Id | F::PasswordHash | F::MustChangePassword | F::Locked | F::Status) => {
            Stays::Always
        }
        Fill::Account(F::CreatedAt) if !dated => Stays::Always,
        Fill::Account(F::Email | F::EmailIsPlaceholder | F::Username) => Stays::WithEmail,
        Fill::Account(F::Phone) => Stays::WithPhone,
        _ => Stays::Never,
    }
}

//! What a row of V1 claims: an email and a phone, or the hashes of them that the ledger remembers.

use uuid::Uuid;

use super::hash;
use crate::identity::email::Email;
use crate::identity::phone::Phone;

/// A normalised email, as far as the census cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailClaim<'a> {
    /// There is none.
    Missing,
    /// It is no address.
    Unusable,
    /// An address in its one spelling.
    Address(&'a str),
    /// The hash of one.
    Hashed(u64),
}

impl<'a> From<&'a Email> for EmailClaim<'a> {
    fn from(email: &'a Email) -> Self {
        match email {
            Email::Missing => Self::Missing,
            Email::Unusable(_) => Self::Unusable,
            Email::Usable { address, .. } => Self::Address(address),
        }
    }
}

/// A normalised phone, as far as the census cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneClaim<'a> {
    /// There is none.
    Missing,
    /// It is no possible number.
    Impossible,
    /// A number in E.164.
    Number(&'a str),
    /// The hash of one.
    Hashed(u64),
}

impl<'a> From<&'a Phone> for PhoneClaim<'a> {
    fn from(phone: &'a Phone) -> Self {
        match phone {
            Phone::Missing => Self::Missing,
            Phone::Impossible => Self::Impossible,
            Phone::Possible { e164, .. } => Self::Number(e164),
        }
    }
}

/// Both claims of a row with an account, in sixteen bytes: what the ledger remembers, so that nobody has to read the
/// contact details of a row again that has not changed. Who has not got the value cannot find it out from the hash
/// without trying all possible ones; the accounts beside it have the value itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    email: u64,
    phone: u64,
}

/// The values that are no hashes: see [`hash`].
const NONE: u64 = 0;
const UNUSABLE: u64 = 1;

impl Claims {
    /// The claims of a row.
    pub fn new(email: EmailClaim<'_>, phone: PhoneClaim<'_>) -> Self {
        let email = match email {
            EmailClaim::Missing => NONE,
            EmailClaim::Unusable => UNUSABLE,
            EmailClaim::Address(address) => hash(address),
            EmailClaim::Hashed(hash) => hash,
        };
        let phone = match phone {
            PhoneClaim::Missing => NONE,
            PhoneClaim::Impossible => UNUSABLE,
            PhoneClaim::Number(e164) => hash(e164),
            PhoneClaim::Hashed(hash) => hash,
        };
        Self { email, phone }
    }

    /// The email.
    pub fn email(&self) -> EmailClaim<'static> {
        match self.email {
            NONE => EmailClaim::Missing,
            UNUSABLE => EmailClaim::Unusable,
            hash => EmailClaim::Hashed(hash),
        }
    }

    /// The phone.
    pub fn phone(&self) -> PhoneClaim<'static> {
        match self.phone {
            NONE => PhoneClaim::Missing,
            UNUSABLE => PhoneClaim::Impossible,
            hash => PhoneClaim::Hashed(hash),
        }
    }

    /// As the ledger keeps them.
    pub fn to_u128(self) -> u128 {
        u128::from(self.email) << 64 | u128::from(self.phone)
    }

    /// The way back of [`Claims::to_u128`].
    pub fn from_u128(both: u128) -> Self {
        Self { email: (both >> 64) as u64, phone: both as u64 }
    }
}

/// What the census is told of one row.
#[derive(Debug, Clone, Copy)]
pub struct Contact<'a> {
    /// The row's key, as text.
    pub key: &'a str,
    /// Its email and phone.
    pub claims: Claims,
    /// False for a row that has no account (a definition's `when`).
    pub has_account: bool,
    /// The account that the ledger names for this row, if it was migrated or merged before. Optional: without it
    /// rows that founded an account are still recognised by the account's id; with it merged rows keep their
    /// account even if V1 has changed since.
    pub account: Option<Uuid>,
    /// Nobody will ask what was decided about this row: it is in V2 and has not changed. It claims what it claims all the
    /// same.
    pub closed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_gives_back_what_it_was_given() {
        let emails = [EmailClaim::Missing, EmailClaim::Unusable, EmailClaim::Address("a@b.org")];
        let phones = [PhoneClaim::Missing, PhoneClaim::Impossible, PhoneClaim::Number("+2348031234567")];
        let same = |claims: Claims| Claims::new(claims.email(), claims.phone()) == claims;
        for email in emails {
            for phone in phones {
                let claims = Claims::new(email, phone);
                assert_eq!(Claims::from_u128(claims.to_u128()), claims);
                assert!(same(claims));
            }
        }
        assert_eq!(Claims::from_u128(0).email(), EmailClaim::Missing);
        assert_eq!(Claims::new(EmailClaim::Unusable, PhoneClaim::Missing).email(), EmailClaim::Unusable);
    }
}

//! Every person's phone as the census read it, in eight bytes: reading a number costs more than all the rest of a
//! row, so it is done once.

use crate::identity::phone::Phone;

/// By the census's row number.
#[derive(Debug, Default)]
pub struct Phones(Vec<PackedPhone>);

/// One of them; none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackedPhone(u64);

/// What is known of one phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownPhone {
    /// There is none.
    Missing,
    /// It is no possible number.
    Impossible,
    /// A possible number.
    Number {
        /// In E.164.
        e164: String,
        /// Whether its country's plan has handed it out.
        valid: bool,
        /// Whether somebody should look at it: it is not valid, or digits had to be guessed.
        doubtful: bool,
    },
}

/// E.164 numbers have at most 15 digits (ITU-T E.164, 6.1) and begin with a country code, which is never 0: so the
/// digits are a number below 2^50, and nothing is lost.
const DIGITS: u64 = (1 << 50) - 1;
const VALID: u64 = 1 << 62;
const DOUBTFUL: u64 = 1 << 63;
const IMPOSSIBLE: u64 = 1 << 61;

impl Phones {
    /// Adds the next row's phone.
    pub fn push(&mut self, phone: PackedPhone) {
        // Grown in eighths: doubling would leave up to half of the memory unused.
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact((self.0.len() / 8).max(1024));
        }
        self.0.push(phone);
    }

    /// The phone of a row.
    pub fn get(&self, row: u32) -> KnownPhone {
        match self.0.get(row as usize).copied().unwrap_or_default().0 {
            0 => KnownPhone::Missing,
            IMPOSSIBLE => KnownPhone::Impossible,
            packed => KnownPhone::Number {
                e164: format!("+{}", packed & DIGITS),
                valid: packed & VALID != 0,
                doubtful: packed & DOUBTFUL != 0,
            },
        }
    }
}

impl From<&Phone> for PackedPhone {
    fn from(phone: &Phone) -> Self {
        Self(match phone {
            Phone::Missing => 0,
            Phone::Impossible => IMPOSSIBLE,
            Phone::Possible { e164, valid, flags, .. } => match e164.trim_start_matches('+').parse::<u64>() {
                Ok(digits) if digits <= DIGITS => {
                    let doubtful = !valid || !flags.is_empty();
                    digits | if *valid { VALID } else { 0 } | if doubtful { DOUBTFUL } else { 0 }
                }
                _ => IMPOSSIBLE,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::phone::normalise;

    #[test]
    fn comes_back_as_it_went_in() {
        let texts =
            ["", "0803 123 4567", "+39 06 6982 0000", "12", "call me", "+1 800 FLOWERS", "+234 1 234"];
        let read: Vec<_> = texts.iter().map(|text| normalise(text, "NG")).collect();
        let mut phones = Phones::default();
        read.iter().for_each(|phone| phones.push(PackedPhone::from(phone)));
        for (row, phone) in (0..).zip(&read) {
            let expected = match phone {
                Phone::Missing => KnownPhone::Missing,
                Phone::Impossible => KnownPhone::Impossible,
                Phone::Possible { e164, valid, flags, .. } => KnownPhone::Number {
                    e164: e164.clone(),
                    valid: *valid,
                    doubtful: !valid || !flags.is_empty(),
                },
            };
            assert_eq!(phones.get(row), expected);
        }
        assert_eq!(phones.get(99), KnownPhone::Missing);
    }
}

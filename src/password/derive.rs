//! From the secret key and an account's id to its password: a pure function, stable for ever.
//!
//! The hand-out list may be exported months after the migration by a newer program, so nothing here may depend on
//! another crate's idea of "a random character". The whole construction, for whoever has to reproduce it:
//!
//! 1. seed = HKDF-SHA256 (RFC 5869) with the key as input, no salt, and `v1v2 password 1`, a zero byte and the
//!    account's id (UTF-8) as info; 32 bytes.
//! 2. words = the key stream of ChaCha20 under that seed (64-bit counter from 0, nonce 0) as little-endian `u32`.
//! 3. a character = the next word below 55 · ⌊2³² / 55⌋, modulo 55, as an index into [`ALPHABET`]; words above are
//!    dropped, so that no character is more likely than another.
//! 4. a password = that many characters; if it has no upper-case letter, no lower-case letter or no digit, it is
//!    dropped as a whole and the next one is drawn. So every allowed password is equally likely, and no position
//!    gives away what kind of character it holds, which "one of each, then fill up" would need a shuffle for.

use hkdf::Hkdf;
use rand::rngs::ChaCha20Rng;
use rand::{Rng, SeedableRng};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::SecretKey;
use crate::error::{Error, Result};

/// The 55 characters of generated passwords: digits and Latin letters without those that look alike in print or are
/// confused when read aloud from a hand-out list: `0 O o`, `1 I i l`. 8 digits, 24 upper-case and 23 lower-case letters;
/// 12 of them are 69 bits.
pub const ALPHABET: &[u8; 55] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz";

/// The first word that is dropped: the largest multiple of 55 that 32 bits hold.
const LIMIT: u32 = (u32::MAX / ALPHABET.len() as u32) * ALPHABET.len() as u32;

/// What the derivation is bound to, so that the key can serve other purposes later without any overlap.
const DOMAIN: &[u8] = b"v1v2 password 1\0";

/// Shortest password that can be asked for, in characters: NIST SP 800-63B's minimum.
pub const MIN_LENGTH: usize = 8;

/// Longest password that can be asked for, in characters.
pub const MAX_LENGTH: usize = 128;

/// Length of passwords unless a setting says otherwise, in characters.
pub const DEFAULT_LENGTH: PasswordLength = PasswordLength(12);

/// A checked password length, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordLength(usize);

impl PasswordLength {
    /// The length in characters.
    pub fn get(self) -> usize {
        self.0
    }
}

/// Checks the length of generated passwords, in characters.
///
/// # Errors
/// A usage error if it is not between [`MIN_LENGTH`] and [`MAX_LENGTH`].
pub fn check_length(length: usize) -> Result<PasswordLength> {
    if (MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        Ok(PasswordLength(length))
    } else {
        Err(Error::usage(format!("a password length of {length} is out of range"))
            .help(format!("choose a length from {MIN_LENGTH} to {MAX_LENGTH} characters")))
    }
}

/// The password of the account `account_id` under `key`: the same for the same arguments, for ever.
///
/// The id is taken as text, byte for byte: pass the form that V2 stores (for a UUID, lower case with hyphens).
pub fn derive(key: &SecretKey, account_id: &str, length: PasswordLength) -> Zeroizing<String> {
    let mut seed = Zeroizing::new([0u8; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes; 32 always fit")]
    Hkdf::<Sha256>::new(None, key.bytes())
        .expand_multi_info(&[DOMAIN, account_id.as_bytes()], seed.as_mut_slice())
        .expect("32 bytes are fewer than HKDF's limit");
    let mut words = ChaCha20Rng::from_seed(*seed);

    let mut password = Zeroizing::new(String::with_capacity(length.0));
    loop {
        for _ in 0..length.0 {
            password.push(next_character(&mut words));
        }
        let has = |class: fn(&u8) -> bool| password.bytes().any(|byte| class(&byte));
        if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit) {
            return password;
        }
        password.clear();
    }
}

fn next_character(words: &mut impl Rng) -> char {
    loop {
        let word = words.next_u32();
        if word < LIMIT {
            return char::from(ALPHABET[word as usize % ALPHABET.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes([byte; 32])
    }

    /// Computed by an independent implementation in another language. If this test fails, every hand-out list of an
    /// existing migration would be wrong: do not change the vectors, change the code back.
    #[test]
    fn golden_vectors() {
        let counting = SecretKey::from_bytes(std::array::from_fn(|index| index as u8));
        let cases: [(&SecretKey, &str, usize, &str); 5] = [
            (&key(0), "", 12, "6fWLveZyWc4b"),
            (&counting, "018f4e2c-7b1a-8c3d-9e4f-0123456789ab", 12, "WVUuTyr2fnyB"),
            (&counting, "018f4e2c-7b1a-8c3d-9e4f-0123456789ac", 12, "HCZ33bpN8dHQ"),
            (&key(0xff), "żółć/1", 8, "SFP8KZzR"),
            (
                &counting,
                "a",
                128,
                "JDymuDr5JWmhYtye9BT657rBN9bgYzkajN5PRT9TWjQJEHCfSLrjWWc5EQbgxbRmmk2fu4nVWmhKxeLbwZz4EGvfH7WKv6rCFEUgrKRsrbetFKjfgcSWxZCEDsBE2Kxy",
            ),
        ];
        for (key, id, length, expected) in cases {
            assert_eq!(
                *derive(key, id, check_length(length).unwrap()),
                expected,
                "id {id:?}, length {length}"
            );
        }
    }

    #[test]
    fn the_alphabet_is_unambiguous_sorted_and_has_no_duplicates() {
        assert!(ALPHABET.is_sorted_by(|a, b| a < b));
        assert!(!ALPHABET.iter().any(|byte| b"0Oo1Iil".contains(byte)));
        assert!(ALPHABET.iter().all(u8::is_ascii_alphanumeric));
        // Nothing that a spreadsheet takes for a formula, so that the export never has to change a password.
        assert!(!ALPHABET.iter().any(|byte| b"=+-@\t\r\n".contains(byte)));
    }

    #[test]
    fn lengths_are_checked() {
        for bad in [0, 7, 129, usize::MAX] {
            assert!(check_length(bad).is_err());
        }
        for good in [8, 12, 128] {
            assert_eq!(check_length(good).unwrap().get(), good);
        }
        assert_eq!(DEFAULT_LENGTH, check_length(12).unwrap());
    }

    /// Chi-squared over positions and characters. Fixed input, so it cannot fail by chance.
    #[test]
    fn characters_are_evenly_spread_over_every_position() {
        const PASSWORDS: usize = 20_000;
        let mut counts = [[0f64; 55]; 12];
        let mut seen = HashSet::new();
        for number in 0..PASSWORDS {
            let password = derive(&key(1), &number.to_string(), DEFAULT_LENGTH);
            for (position, byte) in password.bytes().enumerate() {
                counts[position][ALPHABET.iter().position(|&known| known == byte).unwrap()] += 1.0;
            }
            assert!(seen.insert(password.to_string()), "two accounts share a password");
        }
        // Demanding a digit makes digits a little more likely than letters, at every position alike.
        let class = |index: usize| usize::from(index >= 8) + usize::from(index >= 32);
        let mut totals = [0f64; 3];
        for row in &counts {
            for (index, count) in row.iter().enumerate() {
                totals[class(index)] += count / 12.0;
            }
        }
        for row in &counts {
            let chi: f64 = (0..55)
                .map(|index| {
                    let expected = totals[class(index)] / [8.0, 24.0, 23.0][class(index)];
                    (row[index] - expected).powi(2) / expected
                })
                .sum();
            // 54 degrees of freedom: the 99.99th percentile is 100.
            assert!(chi < 100.0, "chi-squared {chi}");
        }
    }

    proptest! {
        #[test]
        fn every_password_has_its_length_and_all_classes(seed: [u8; 32], id in ".{0,40}", length in 8usize..=128) {
            let key = SecretKey::from_bytes(seed);
            let length = check_length(length).unwrap();
            let password = derive(&key, &id, length);
            prop_assert_eq!(password.len(), length.get());
            prop_assert!(password.bytes().all(|byte| ALPHABET.contains(&byte)));
            prop_assert!(password.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert!(password.bytes().any(|byte| byte.is_ascii_lowercase()));
            prop_assert!(password.bytes().any(|byte| byte.is_ascii_digit()));
            prop_assert_eq!(&password, &derive(&key, &id, length));
            let other = derive(&key, &format!("{id}x"), length);
            prop_assert_ne!(&password, &other);
        }
    }
}

//! Hashes as databases hold them: what kind one is, and whether a password fits it.
//!
//! V2's are ours, but with mode `keep` they are whatever V1's application wrote over the years, so a stored hash is
//! untrusted text: it is recognised strictly, and neither a panic nor a huge allocation may come from it.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier, Version};

use crate::error::{Error, Result};

/// Largest memory, in KiB, that a stored hash may ask for when it is verified (4 GiB): the number comes from a
/// database, and a wrong one must not take the machine down.
const MAX_VERIFY_KIB: u32 = 4 * 1024 * 1024;

/// What made a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// argon2id, PHC string.
    Argon2id,
    /// argon2i, PHC string.
    Argon2i,
    /// argon2d, PHC string.
    Argon2d,
    /// bcrypt: `$2a$`, `$2b$` or `$2y$`.
    Bcrypt,
    /// scrypt, PHC string.
    Scrypt,
    /// PBKDF2, PHC string.
    Pbkdf2,
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2id => "argon2id",
            Self::Argon2i => "argon2i",
            Self::Argon2d => "argon2d",
            Self::Bcrypt => "bcrypt",
            Self::Scrypt => "scrypt",
            Self::Pbkdf2 => "PBKDF2",
        })
    }
}

/// What kind of hash a text is; `None` for plaintext, truncated hashes and kinds that we do not know.
///
/// Mode `keep` carries over only what this recognises: V1's column may hold anything, and a plaintext password
/// written into V2 as a "hash" would be a leak and a lock-out at once.
pub fn recognise(hash: &str) -> Option<HashKind> {
    if is_bcrypt(hash) {
        return Some(HashKind::Bcrypt);
    }
    let phc = PasswordHash::new(hash).ok()?;
    // A PHC string may legally end after its parameters; such a one verifies nobody.
    phc.salt.as_ref().and(phc.hash.as_ref())?;
    let has = |name: &str| phc.params.get_decimal(name).is_some_and(|value| value > 0);
    match phc.algorithm.as_str() {
        "argon2id" => argon2_cost(&phc).map(|_| HashKind::Argon2id),
        "argon2i" => argon2_cost(&phc).map(|_| HashKind::Argon2i),
        "argon2d" => argon2_cost(&phc).map(|_| HashKind::Argon2d),
        "scrypt" if has("ln") && has("r") && has("p") => Some(HashKind::Scrypt),
        "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512" if has("i") => Some(HashKind::Pbkdf2),
        _ => None,
    }
}

/// The parameters of an argon2 PHC string, if they are valid and its version is one of the two that exist.
fn argon2_cost(phc: &PasswordHash) -> Option<Params> {
    if !matches!(phc.version, None | Some(16 | 19)) {
        return None;
    }
    Params::try_from(phc).ok()
}

/// Whether the text is a bcrypt hash: `$2b$`, a cost from 04 to 31, 53 characters of bcrypt's base64. `$2x$`, the mark of
/// a faulty old implementation, is not accepted: most libraries compute something else for it.
fn is_bcrypt(hash: &str) -> bool {
    let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| hash.strip_prefix(prefix)) else {
        return false;
    };
    let Some((cost, data)) = rest.split_once('$') else { return false };
    let cost_fits = cost.len() == 2
        && cost.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(cost.parse::<u8>(), Ok(4..=31));
    cost_fits
        && data.len() == 53
        && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

/// Whether `password` is the one that `stored` was made from. Blocks for the time of one hash at the stored cost.
///
/// # Errors
/// When `stored` is no hash that can be checked here: unknown, malformed, scrypt or PBKDF2 (only recognised), or its
/// memory cost cannot be met.
pub fn verify(stored: &str, password: &str) -> Result<bool> {
    let unreadable =
        || Error::failed("the stored password hash cannot be read").help("reset this account's password");
    match recognise(stored).ok_or_else(unreadable)? {
        HashKind::Bcrypt => bcrypt::verify(password, stored).map_err(|_| unreadable()),
        HashKind::Argon2id | HashKind::Argon2i | HashKind::Argon2d => {
            let mut phc = PasswordHash::new(stored).map_err(|_| unreadable())?;
            // Before versions were written into the string there was only 0x10; the crate would assume 0x13.
            phc.version.get_or_insert(Version::V0x10.into());
            let params = argon2_cost(&phc).ok_or_else(unreadable)?;
            if params.m_cost() > MAX_VERIFY_KIB {
                return Err(Error::failed(format!(
                    "the stored password hash asks for {} KiB of memory; the limit is {MAX_VERIFY_KIB}",
                    params.m_cost()
                )));
            }
            // Algorithm, version and cost are the stored hash's own.
            match Argon2::default().verify_password(password.as_bytes(), &phc) {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(unreadable()),
            }
        }
        kind @ (HashKind::Scrypt | HashKind::Pbkdf2) => {
            Err(Error::failed(format!("the stored password hash is {kind}, which cannot be checked here"))
                .help("sign in to the application itself to check this account"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Made by the reference implementation's command-line program (v=19) for the password "password".
    const RFC_ID: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    const RFC_I: &str =
        "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
    const BCRYPT: &str = "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie";

    #[test]
    fn hashes_of_other_programs_verify() {
        for (stored, password) in [
            (RFC_ID, "password"),
            (RFC_I, "password"),
            (BCRYPT, "correctbatteryhorsestapler"),
            ("$2a$04$UuTkLRZZ6QofpDOlMz32MuuxEHA43WOemOYHPz6.SjsVsyO1tDU96", "password"),
        ] {
            assert!(verify(stored, password).unwrap(), "{stored}");
            assert!(!verify(stored, "wrong").unwrap(), "{stored}");
        }
        let php = BCRYPT.replace("$2b$", "$2y$");
        assert!(verify(&php, "correctbatteryhorsestapler").unwrap());
    }

    #[test]
    fn only_whole_known_hashes_are_recognised() {
        let known = [
            (RFC_ID, HashKind::Argon2id),
            (RFC_I, HashKind::Argon2i),
            (
                "$argon2d$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                HashKind::Argon2d,
            ),
            (BCRYPT, HashKind::Bcrypt),
            (
                "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
                HashKind::Scrypt,
            ),
            (
                "$pbkdf2-sha256$i=600000,l=32$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
                HashKind::Pbkdf2,
            ),
        ];
        for (hash, kind) in known {
            assert_eq!(recognise(hash), Some(kind), "{hash}");
            for end in 0..hash.len() {
                // A hash cut short is still base64 with sense only where whole bytes end, and then it is too short or
                // another hash; what matters is that no prefix loses its last field unnoticed.
                if hash[end..].contains('$') {
                    assert_eq!(recognise(&hash[..end]), None, "{}", &hash[..end]);
                }
            }
        }
        let unknown = [
            "",
            "secret",
            "$",
            "$ecret$",
            "$1$salt$hash",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$2x$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie",
            "$2b$03$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie",
            "$2b$32$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie",
            "$2b$+4$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie",
            "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxci",
            "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcü",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=20$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=4,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2x$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$scrypt$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ];
        for text in unknown {
            assert_eq!(recognise(text), None, "{text}");
            assert!(verify(text, "secret").is_err());
        }
    }

    #[test]
    fn a_hash_that_asks_for_too_much_memory_is_an_error_and_not_an_abort() {
        let greedy = RFC_ID.replace("m=65536", "m=4294967295");
        assert!(verify(&greedy, "password").unwrap_err().message().contains("memory"));
    }

    #[test]
    fn what_cannot_be_checked_is_an_error_without_the_hash_in_it() {
        let scrypt =
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E";
        let error = verify(scrypt, "x").unwrap_err().to_string();
        assert!(error.contains("scrypt") && !error.contains("nFNh2C"));
    }

    proptest! {
        #[test]
        fn any_text_is_recognised_or_not_but_never_panics(text in "\\$?[a-z0-9$=,./+é-]{0,80}") {
            let _: Option<HashKind> = recognise(&text);
        }

        #[test]
        fn plaintext_is_never_taken_for_a_hash(text in "[^$].{0,80}") {
            prop_assert_eq!(recognise(&text), None);
        }
    }
}

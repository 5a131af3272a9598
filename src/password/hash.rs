//! argon2id, as fast as safe code gets it, and the check of a password against whatever hash is stored.
//!
//! Hashing is nearly all of a migration's time, so [`Hasher`] has two implementations: the `argon2` crate, with its
//! memory allocated once per thread, is the reference; the `dryoc` crate picks AVX2, AVX-512 or NEON at run time and takes
//! about three quarters of the time where they exist. [`Implementation::choose`] takes the second only if it gives the
//! first one's results on this machine and is faster. What they compute is the same, so the choice leaves no trace.

use std::fmt;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordVerifier, Version};
use dryoc::classic::crypto_pwhash::{PasswordHashAlgorithm, crypto_pwhash};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::{Error, Result};
use crate::settings::HashCost;

/// Bytes of salt: RFC 9106, section 3.1, recommends 16.
const SALT_BYTES: usize = 16;

/// Bytes of hash: RFC 9106, section 4, uses 32 in both recommended settings.
const HASH_BYTES: usize = 32;

/// Largest memory, in KiB, that a stored hash may ask for when it is verified (4 GiB): the number comes from a
/// database, and a wrong one must not take the machine down.
const MAX_VERIFY_KIB: u32 = 4 * 1024 * 1024;

/// Computes argon2id version 19 at one fixed cost. Not shared between threads: it may own its working memory.
pub trait Hasher: Send {
    /// Hashes `password` with `salt` into `output`.
    ///
    /// # Errors
    /// When the memory cannot be had.
    fn fill(&mut self, password: &[u8], salt: &[u8; SALT_BYTES], output: &mut [u8; HASH_BYTES])
    -> Result<()>;
}

/// Which implementation of argon2id computes the hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// The `argon2` crate, memory reused from hash to hash. Any cost, any machine.
    Reference,
    /// The `dryoc` crate, with the processor's vector instructions. One lane only.
    Vectorised,
}

impl Implementation {
    /// The fastest implementation that is right on this machine. Takes about four hashes' time.
    ///
    /// # Errors
    /// When `cost` is out of range or its memory cannot be had.
    pub fn choose(cost: HashCost) -> Result<Self> {
        check_cost(cost)?;
        if cost.parallelism != 1 {
            return Ok(Self::Reference);
        }
        // The whole of an expensive setting would delay the start; how the two compare shows at the default cost too.
        let default = HashCost::default();
        let trial = HashCost {
            memory_kib: cost.memory_kib.min(default.memory_kib),
            iterations: cost.iterations.min(default.iterations),
            parallelism: 1,
        };
        let mut reference = Self::Reference.hasher(trial)?;
        let Ok(mut vectorised) = Self::Vectorised.hasher(trial) else { return Ok(Self::Reference) };
        let (mut slow, mut fast) = (Duration::MAX, Duration::MAX);
        for round in 0..2u8 {
            // Two lengths of password, so that agreement is more than luck.
            let password = &b"v1v2 self-check: more than one block of BLAKE2b input, which is 128 bytes"
                [..12 + 60 * usize::from(round)];
            let salt = [round; SALT_BYTES];
            let (mut expected, mut found) = ([0; HASH_BYTES], [0; HASH_BYTES]);
            let start = Instant::now();
            reference.fill(password, &salt, &mut expected)?;
            slow = slow.min(start.elapsed());
            let start = Instant::now();
            let worked = vectorised.fill(password, &salt, &mut found).is_ok();
            fast = fast.min(start.elapsed());
            if !worked || found != expected {
                return Ok(Self::Reference);
            }
        }
        Ok(if fast < slow { Self::Vectorised } else { Self::Reference })
    }

    /// A hasher for one thread.
    ///
    /// # Errors
    /// When `cost` is out of range, has several lanes although the implementation knows only one, or its memory cannot be had.
    pub fn hasher(self, cost: HashCost) -> Result<Box<dyn Hasher>> {
        let params = check_cost(cost)?;
        match self {
            Self::Reference => {
                let mut memory = Vec::new();
                memory.try_reserve_exact(params.block_count()).map_err(|_| out_of_memory(cost))?;
                memory.resize(params.block_count(), Block::new());
                Ok(Box::new(Reference { argon2: argon2id(params), memory, cost }))
            }
            Self::Vectorised if cost.parallelism == 1 => Ok(Box::new(Vectorised { cost })),
            Self::Vectorised => Err(Error::usage("the vectorised argon2id has one lane only")),
        }
    }
}

struct Reference {
    argon2: Argon2<'static>,
    /// Every hash overwrites all of it; allocating it anew would have the kernel zero 19 MiB of pages each time.
    memory: Vec<Block>,
    cost: HashCost,
}

impl Hasher for Reference {
    fn fill(
        &mut self,
        password: &[u8],
        salt: &[u8; SALT_BYTES],
        output: &mut [u8; HASH_BYTES],
    ) -> Result<()> {
        self.argon2
            .hash_password_into_with_memory(password, salt, output, self.memory.as_mut_slice())
            .map_err(|_| out_of_memory(self.cost))
    }
}

struct Vectorised {
    cost: HashCost,
}

impl Hasher for Vectorised {
    fn fill(
        &mut self,
        password: &[u8],
        salt: &[u8; SALT_BYTES],
        output: &mut [u8; HASH_BYTES],
    ) -> Result<()> {
        let bytes =
            (self.cost.memory_kib as usize).checked_mul(1024).ok_or_else(|| out_of_memory(self.cost))?;
        crypto_pwhash(
            output,
            password,
            salt,
            u64::from(self.cost.iterations),
            bytes,
            PasswordHashAlgorithm::Argon2id13,
        )
        .map_err(|_| out_of_memory(self.cost))
    }
}

/// Checks the cost of hashing.
///
/// # Errors
/// A usage error if argon2 does not allow it (RFC 9106, section 3.1: at least 8 KiB per lane, one pass, one lane).
pub fn check_cost(cost: HashCost) -> Result<Params> {
    Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(HASH_BYTES)).map_err(|_| {
        Error::usage(format!(
            "the hash cost m={} KiB, t={}, p={} is out of range",
            cost.memory_kib, cost.iterations, cost.parallelism
        ))
        .help(
            "at least 8 KiB of memory for each lane, one iteration and one lane; the default is 19456, 2, 1",
        )
    })
}

fn argon2id(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn out_of_memory(cost: HashCost) -> Error {
    Error::failed(format!("argon2id could not get its {} KiB of memory", cost.memory_kib))
        .help("lower `hash_threads` or the memory of the hash cost")
}

/// A hash as it waits for the writer: 60 bytes instead of a PHC string of about 100, because a run keeps many waiting.
/// Its [`Display`](fmt::Display) is the PHC string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashedPassword {
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
    cost: HashCost,
}

impl HashedPassword {
    /// The argon2id PHC string: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    pub fn phc(&self) -> String {
        self.to_string()
    }

    /// A place to be filled in.
    pub(super) fn blank(cost: HashCost) -> Self {
        Self { salt: [0; SALT_BYTES], hash: [0; HASH_BYTES], cost }
    }

    fn assemble(&self) -> Option<PasswordHash> {
        let params =
            Params::new(self.cost.memory_kib, self.cost.iterations, self.cost.parallelism, Some(HASH_BYTES));
        Some(PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params.ok()?).ok()?,
            salt: Some(Salt::new(&self.salt).ok()?),
            hash: Some(Output::new(&self.hash).ok()?),
        })
    }
}

impl fmt::Display for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cannot fail: the cost was checked when the hasher was made, and the lengths are PHC's usual ones.
        self.assemble().ok_or(fmt::Error)?.fmt(f)
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword(hidden)")
    }
}

/// Hashes `password` with a random salt.
///
/// `cost` must be the one that `hasher` was made with: it becomes part of the PHC string.
///
/// # Errors
/// When the random source fails or the memory cannot be had.
pub fn hash(hasher: &mut dyn Hasher, cost: HashCost, password: &[u8]) -> Result<HashedPassword> {
    check_cost(cost)?;
    let mut salt = [0; SALT_BYTES];
    SysRng
        .try_fill_bytes(&mut salt)
        .map_err(|error| Error::failed(format!("the operating system's random source failed: {error}")))?;
    let mut output = [0; HASH_BYTES];
    hasher.fill(password, &salt, &mut output)?;
    Ok(HashedPassword { salt, hash: output, cost })
}

/// How long one hash takes on one idle core of this machine: the base of a dry run's estimate. Blocks for a few hashes' time.
///
/// # Errors
/// As [`Implementation::choose`].
pub fn measure(cost: HashCost) -> Result<Duration> {
    let mut hasher = Implementation::choose(cost)?.hasher(cost)?;
    let mut output = [0; HASH_BYTES];
    let start = Instant::now();
    hasher.fill(b"v1v2 measure", &[0; SALT_BYTES], &mut output)?;
    Ok(start.elapsed())
}

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

    const CHEAP: HashCost = HashCost { memory_kib: 8, iterations: 1, parallelism: 1 };

    // Made by the reference implementation's command-line program (v=19) for the password "password".
    const RFC_ID: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    const RFC_I: &str =
        "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";
    const BCRYPT: &str = "$2b$04$EGdrhbKUv8Oc9vGiXX0HQOxSg445d458Muh7DAHskb6QbtCvdxcie";

    #[test]
    fn both_implementations_agree_and_verify() {
        for (memory_kib, iterations) in [(8, 1), (9, 1), (64, 3), (1000, 2)] {
            let cost = HashCost { memory_kib, iterations, parallelism: 1 };
            let (mut one, mut two) = ([0; 32], [0; 32]);
            Implementation::Reference.hasher(cost).unwrap().fill(b"secret", &[3; 16], &mut one).unwrap();
            Implementation::Vectorised.hasher(cost).unwrap().fill(b"secret", &[3; 16], &mut two).unwrap();
            assert_eq!(one, two, "m={memory_kib}, t={iterations}");
        }
    }

    #[test]
    fn reused_memory_leaves_no_trace() {
        let mut hasher = Implementation::Reference.hasher(CHEAP).unwrap();
        let first = hash(hasher.as_mut(), CHEAP, b"first").unwrap().phc();
        let second = hash(hasher.as_mut(), CHEAP, b"second").unwrap().phc();
        assert!(verify(&first, "first").unwrap() && verify(&second, "second").unwrap());
        assert!(!verify(&first, "second").unwrap());
    }

    #[test]
    fn the_phc_string_is_the_standard_one() {
        let cost = HashCost { memory_kib: 32, iterations: 2, parallelism: 2 };
        let implementation = Implementation::choose(cost).unwrap();
        assert_eq!(implementation, Implementation::Reference, "several lanes: the reference only");
        let mut hasher = implementation.hasher(cost).unwrap();
        let phc = hash(hasher.as_mut(), cost, "Grün9".as_bytes()).unwrap().phc();
        assert!(phc.starts_with("$argon2id$v=19$m=32,t=2,p=2$"), "{phc}");
        assert_eq!(phc.split('$').map(str::len).collect::<Vec<_>>()[4..], [22, 43]);
        assert_eq!(recognise(&phc), Some(HashKind::Argon2id));
        assert!(verify(&phc, "Grün9").unwrap());
        assert!(!verify(&phc, "Grun9").unwrap());
        assert_ne!(phc, hash(hasher.as_mut(), cost, "Grün9".as_bytes()).unwrap().phc(), "salts must differ");
    }

    #[test]
    fn a_hash_hides_itself_from_debug_and_stays_small() {
        let mut hasher = Implementation::choose(CHEAP).unwrap().hasher(CHEAP).unwrap();
        let hashed = hash(hasher.as_mut(), CHEAP, b"x").unwrap();
        assert_eq!(format!("{hashed:?}"), "HashedPassword(hidden)");
        assert_eq!(size_of::<HashedPassword>(), 60);
    }

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

    #[test]
    fn costs_are_checked() {
        for (memory_kib, iterations, parallelism) in [(7, 1, 1), (8, 0, 1), (8, 1, 0), (8, 1, 2)] {
            assert!(check_cost(HashCost { memory_kib, iterations, parallelism }).is_err());
        }
        check_cost(HashCost::default()).unwrap();
        assert!(measure(CHEAP).unwrap() > Duration::ZERO);
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

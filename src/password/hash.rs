//! argon2id, as fast as safe code gets it.
//!
//! Hashing is nearly all of a migration's time, so [`Hasher`] has two implementations: the `argon2` crate, with its
//! memory allocated once per thread, is the reference; the `dryoc` crate picks AVX2, AVX-512 or NEON at run time and takes
//! about three quarters of the time where they exist. [`Implementation::choose`] takes the second only if it gives the
//! first one's results on this machine and is faster. What they compute is the same, so the choice leaves no trace.

use std::fmt;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use dryoc::classic::crypto_pwhash::{PasswordHashAlgorithm, crypto_pwhash};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::error::{Error, Result};
use crate::settings::HashCost;

/// Bytes of salt: RFC 9106, section 3.1, recommends 16.
const SALT_BYTES: usize = 16;

/// Bytes of hash: RFC 9106, section 4, uses 32 in both recommended settings.
const HASH_BYTES: usize = 32;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::{HashKind, recognise, verify};

    const CHEAP: HashCost = HashCost { memory_kib: 8, iterations: 1, parallelism: 1 };

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
    fn costs_are_checked() {
        for (memory_kib, iterations, parallelism) in [(7, 1, 1), (8, 0, 1), (8, 1, 0), (8, 1, 2)] {
            assert!(check_cost(HashCost { memory_kib, iterations, parallelism }).is_err());
        }
        check_cost(HashCost::default()).unwrap();
        assert!(measure(CHEAP).unwrap() > Duration::ZERO);
    }
}

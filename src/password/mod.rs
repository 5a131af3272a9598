//! Passwords: derived from one secret key, hashed on all cores, and checked again afterwards.
//!
//! Hashing costs two orders of magnitude more time than the databases do, and a lost password is a person who
//! cannot sign in. Both lead to the same shape: a password is a pure function of the run's [`SecretKey`] and the
//! account's id, so that nothing has to be stored, a crash loses none, and the hand-out list can be produced later;
//! and its hash is computed on threads of its own ([`HashPool`]), ahead of the writer.
//!
//! What V2 stores is an argon2id PHC string; with mode `keep` it is whatever V1 had, if [`recognise`] knows it.

mod derive;
mod hash;
mod key;
mod pool;
mod stored;

pub use derive::{ALPHABET, DEFAULT_LENGTH, MAX_LENGTH, MIN_LENGTH, PasswordLength, check_length, derive};
pub use hash::{HashedPassword, Hasher, Implementation, check_cost, hash, measure};
pub use key::{SecretKey, load, load_or_create};
pub use pool::{Batch, HashPool, Job};
pub use stored::{HashKind, recognise, verify};

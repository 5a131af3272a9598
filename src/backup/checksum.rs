//! Checksums on the way through: each byte is read or written once, whatever is counted about it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use super::folder;
use crate::error::Result;

/// A checksum in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of some bytes.
pub(super) fn of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Size and SHA-256 of a file.
///
/// # Errors
/// Failed: it cannot be read.
pub(super) fn of_file(path: &Path) -> Result<(u64, String)> {
    let failed = |error| folder::failed("read", path, &error);
    let mut reader = Hashing::new(File::open(path).map_err(failed)?);
    let mut buffer = vec![0; 1 << 20];
    while reader.read(&mut buffer).map_err(failed)? > 0 {}
    Ok(reader.finish())
}

/// Counts and hashes what goes through it, in either direction.
pub(super) struct Hashing<T> {
    inner: T,
    bytes: u64,
    hash: Sha256,
}

impl<T> Hashing<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, bytes: 0, hash: Sha256::new() }
    }

    pub(super) fn inner(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Bytes and SHA-256.
    pub(super) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.hash.finalize()))
    }

    fn note(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.note(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(&buffer[..read]);
        Ok(read)
    }
}

/// Counts documents and hashes them twice: in their order, and in a way that does not depend on it, as a database that
/// they are put into may hand them back in another one.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    hash: Sha256,
    sum: u128,
}

impl Tally {
    pub(super) fn add(&mut self, document: &[u8]) {
        self.rows += 1;
        self.bytes += document.len() as u64;
        self.hash.update(document);
        self.sum = self.sum.wrapping_add(xxh3_128(document));
    }

    /// SHA-256 of all documents in their order.
    pub(super) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// What does not depend on the order.
    pub(super) fn digest(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_does_not_depend_on_the_order() {
        let tally = |documents: &[&[u8]]| {
            let mut tally = Tally::default();
            documents.iter().for_each(|document| tally.add(document));
            tally
        };
        let (one, other) = (tally(&[b"a", b"bc"]), tally(&[b"bc", b"a"]));
        assert_eq!((one.rows, one.bytes), (2, 3));
        assert_eq!(one.digest(), other.digest());
        assert_ne!(one.sha256(), other.sha256());
        assert_ne!(one.digest(), tally(&[b"a", b"a", b"bc"]).digest());
        // The test vector "abc" of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(b"abc"), abc);
    }
}

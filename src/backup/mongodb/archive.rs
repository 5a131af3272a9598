//! A collection's file: its documents as BSON, one after the other, in one stream of zstd. Compression and hashing are
//! work for a processor, so they happen on threads of their own, a few batches behind the network.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use mongodb::bson::Document;
use tokio::sync::mpsc;

use super::documents::Batch;
use crate::backup::checksum::{Hashing, Tally};
use crate::backup::folder;
use crate::error::{Error, Result};

/// zstd's own default level: documents shrink to about a third at hundreds of megabytes a second.
const LEVEL: i32 = 3;

/// The largest document that a server holds: 16 MiB, and 16 KiB more for its own needs (`BSONObjMaxInternalSize`).
const LARGEST: usize = (16 << 20) + (16 << 10);

/// What was written.
pub(super) struct Written {
    pub(super) tally: Tally,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Writes batches into a file until there are no more.
pub(super) fn write(file: File, path: &Path, mut from: mpsc::Receiver<Batch>) -> Result<Written> {
    let failed = |error: io::Error| folder::failed("write", path, &error);
    let mut tally = Tally::default();
    let mut encoder = zstd::Encoder::new(Hashing::new(file), LEVEL).map_err(failed)?;
    encoder.include_checksum(true).map_err(failed)?;
    while let Some(batch) = from.blocking_recv() {
        batch.iter().for_each(|document| tally.add(document));
        encoder.write_all(&batch.bytes).map_err(failed)?;
    }
    let mut hashing = encoder.finish().map_err(failed)?;
    hashing.inner().sync_all().map_err(failed)?;
    let (bytes, sha256) = hashing.finish();
    Ok(Written { tally, bytes, sha256 })
}

/// What reading a file back found.
pub(super) struct Found {
    pub(super) tally: Tally,
    pub(super) sha256: String,
    /// Why the stream could not be read to its end.
    pub(super) problem: Option<String>,
}

/// Reads a file back: every document is parsed and handed to `each`, which says whether to go on.
pub(super) fn read(path: &Path, mut each: impl FnMut(&[u8]) -> bool) -> Result<Found> {
    let failed = |error: io::Error| folder::failed("read", path, &error);
    let mut tally = Tally::default();
    let mut hashing = Hashing::new(File::open(path).map_err(failed)?);
    let problem = documents(&mut hashing, |document| {
        tally.add(document);
        each(document)
    })
    .err();
    // What comes after the stream, or after the place where it broke.
    io::copy(&mut hashing, &mut io::sink()).map_err(failed)?;
    let (_, sha256) = hashing.finish();
    Ok(Found { tally, sha256, problem })
}

fn documents(file: impl Read, mut each: impl FnMut(&[u8]) -> bool) -> std::result::Result<(), String> {
    let broken = |error: io::Error| format!("the compressed stream is broken: {error}");
    let decoder = zstd::Decoder::new(file).map_err(broken)?;
    let mut reader = BufReader::with_capacity(1 << 20, decoder);
    let mut document = Vec::new();
    loop {
        let mut length = [0; 4];
        match reader.read(&mut length[..1]).map_err(broken)? {
            0 => return Ok(()),
            _ => reader.read_exact(&mut length[1..]).map_err(broken)?,
        }
        let size = usize::try_from(i32::from_le_bytes(length)).unwrap_or_default();
        if !(5..=LARGEST).contains(&size) {
            return Err("a document has an impossible length".to_owned());
        }
        document.clear();
        document.extend_from_slice(&length);
        document.resize(size, 0);
        reader.read_exact(&mut document[4..]).map_err(broken)?;
        if Document::from_reader(document.as_slice()).is_err() {
            return Err("a document is no BSON".to_owned());
        }
        if !each(&document) {
            return Ok(());
        }
    }
}

/// Reads a file that was verified before, in batches.
pub(super) fn send(path: &Path, to: &mpsc::Sender<Batch>) -> Result<()> {
    let mut batch = Batch::default();
    let found = read(path, |document| {
        batch.push(document);
        !batch.is_full() || to.blocking_send(std::mem::take(&mut batch)).is_ok()
    })?;
    if let Some(problem) = found.problem {
        return Err(Error::differences(format!("{} is damaged: {problem}", path.display())));
    }
    if batch.documents > 0 {
        // Nobody listens any more: whoever does not has an error of its own.
        drop(to.blocking_send(batch));
    }
    Ok(())
}

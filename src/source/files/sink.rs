//! What the readers of files write to: COPY text, as V1's connection takes it.

use tokio::sync::mpsc::Sender;

use crate::error::{Error, Result};

/// Bytes that are sent to V1 at once.
const PORTION: usize = 64 << 10;

/// A record is finished before it is sent.
const SPARE: usize = 4 << 10;

/// Where the readers put records: COPY text, in portions.
pub(super) struct Sink {
    sender: Sender<Vec<u8>>,
    portion: Vec<u8>,
}

impl Sink {
    pub(super) fn new(sender: Sender<Vec<u8>>) -> Self {
        Self { sender, portion: Vec::with_capacity(PORTION + SPARE) }
    }

    /// Begins a record.
    pub(super) fn begin(&mut self, record: u64) {
        self.portion.extend_from_slice(record.to_string().as_bytes());
    }

    /// The next cell; `None` is null.
    pub(super) fn cell(&mut self, value: Option<&[u8]>) {
        self.portion.push(b'\t');
        let Some(value) = value else {
            self.portion.extend_from_slice(b"\\N");
            return;
        };
        // Of no encoding that is let in does a character hold these bytes.
        for &byte in value {
            match byte {
                b'\\' => self.portion.extend_from_slice(b"\\\\"),
                b'\t' => self.portion.extend_from_slice(b"\\t"),
                b'\n' => self.portion.extend_from_slice(b"\\n"),
                b'\r' => self.portion.extend_from_slice(b"\\r"),
                other => self.portion.push(other),
            }
        }
    }

    /// Ends a record.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.portion.push(b'\n');
        if self.portion.len() >= PORTION { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let portion = std::mem::replace(&mut self.portion, Vec::with_capacity(PORTION + SPARE));
        // V1 has refused what came before; its error is told.
        self.sender.blocking_send(portion).map_err(|_| Error::failed("V1 takes no more of the file"))
    }

    pub(super) fn end(mut self) -> Result<()> {
        self.flush()
    }
}

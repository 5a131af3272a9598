//! The ledger: one line in V2 for each source row, written in the transaction of the row's records.
//!
//! There is no other checkpoint. A run reads V1 and the ledger side by side, in the same key order; whatever has a
//! line already is done. Resuming after a crash, running again and picking up new rows are therefore one code path.

use std::cmp::Ordering;

use futures_util::TryStreamExt;

use uuid::Uuid;

use crate::census::Claims;
use crate::error::Result;
use crate::plan::KeyKind;
use crate::row::Lines;
use crate::source::compare_keys;
use crate::target::LedgerLines;

/// What became of a source row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Its records were written, and its account, if it has one, was created.
    Migrated,
    /// Its records were written; its person had an account already and got a further role.
    Merged,
    /// It was left out on purpose.
    Skipped,
    /// It could not be migrated.
    Rejected,
}

impl Outcome {
    /// The ledger's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Migrated => "m",
            Self::Merged => "g",
            Self::Skipped => "s",
            Self::Rejected => "r",
        }
    }

    /// From the ledger's letter.
    pub fn from_letter(letter: &str) -> Option<Self> {
        [Self::Migrated, Self::Merged, Self::Skipped, Self::Rejected]
            .into_iter()
            .find(|of| of.letter() == letter)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Migrated => "migrated",
            Self::Merged => "merged",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
        }
    }
}

/// Why a row was rejected. The codes are stable: people's scripts filter on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// A stable code: `missing-reference`, `database-23505`, …
    pub code: String,
    /// A sentence. It names columns, constraints and keys, never other values.
    pub reason: String,
}

impl Reject {
    /// A reject with its code and sentence.
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }
}

/// One line, as it is about to be written.
#[derive(Debug, Clone)]
pub struct Line {
    /// The source row's key.
    pub key: String,
    /// What became of it.
    pub outcome: Outcome,
    /// xxh3-128 of its COPY text.
    pub source_hash: u128,
    /// Something of it was left out that is to be filled in later: see [`Line::hash`].
    pub incomplete: bool,
    /// What a row that founded an account claims.
    pub claims: Option<Claims>,
    /// Its account.
    pub account_id: Option<String>,
    /// The id of its own record in V2.
    pub target_id: Option<String>,
    /// Set for rejects.
    pub reject: Option<Reject>,
}

impl Line {
    /// The line of a row that could not be migrated.
    pub fn rejected(key: String, source_hash: u128, reject: Reject) -> Self {
        Self {
            key,
            outcome: Outcome::Rejected,
            source_hash,
            incomplete: false,
            claims: None,
            account_id: None,
            target_id: None,
            reject: Some(reject),
        }
    }

    /// The hash as the ledger holds it. A row that is not complete yet has the complement of its own: so it counts as
    /// changed until it is complete, for whoever reads V1 and the ledger next, and needs no list of its own.
    pub fn hash(&self) -> u128 {
        if self.incomplete && self.reject.is_none() { !self.source_hash } else { self.source_hash }
    }
}

/// The columns that [`append`] writes, in order.
pub const COLUMNS: &str =
    "txid, run, outcome, source_hash, claims, entity, key, account_id, target_id, code, reason, source_row";

/// Appends a line in COPY text. `source_row` is the row's own COPY text, kept for rejects only.
pub fn append(
    lines: &mut Lines,
    row: u32,
    txid: i64,
    run: i32,
    entity: &str,
    line: &Line,
    source_row: Option<&str>,
) {
    lines.display(txid);
    lines.display(run);
    lines.raw(Some(line.outcome.letter().as_bytes()));
    lines.display(Uuid::from_u128(line.hash()));
    match line.claims {
        Some(claims) => lines.display(Uuid::from_u128(claims.to_u128())),
        None => lines.raw(None),
    }
    lines.text(Some(entity));
    lines.text(Some(&line.key));
    lines.text(line.account_id.as_deref());
    lines.text(line.target_id.as_deref());
    lines.text(line.reject.as_ref().map(|reject| reject.code.as_str()));
    lines.text(line.reject.as_ref().map(|reject| reject.reason.as_str()));
    lines.text(source_row);
    lines.end_line(row);
}

/// What the ledger knows about a source row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What became of it.
    pub outcome: Outcome,
    /// The hash of the row at that time; see [`Line::hash`].
    pub source_hash: u128,
    /// What it claimed at that time, if it founded an account.
    pub claims: Option<Claims>,
    /// The account, if another row founded it.
    pub joined: Option<Uuid>,
    /// V2 refused to bring it up to date the last time that this was tried: the conflict log says so. The row of V1 may be what
    /// the ledger says all the same, as it was the definition that had changed.
    pub refused: bool,
}

impl Known {
    /// Whether the row is what it was, but something of it is still to be filled in.
    pub fn is_incomplete(&self, source_hash: u128) -> bool {
        self.source_hash == !source_hash
    }
}

/// Lines of keys that the source does not have any more.
#[derive(Debug, Default)]
pub struct Gone {
    /// How many.
    pub count: u64,
    /// Their keys, if somebody wants them.
    pub keys: Option<Vec<String>>,
}

impl Gone {
    fn add(&mut self, key: &str) {
        self.count += 1;
        if let Some(keys) = &mut self.keys {
            keys.push(key.to_owned());
        }
    }
}

/// Reads one entity's lines in key order, beside the source.
pub struct Beside<'c> {
    lines: LedgerLines<'c>,
    next: Option<(String, Known)>,
    kind: KeyKind,
}

impl<'c> Beside<'c> {
    /// Begins to read.
    pub async fn open(lines: LedgerLines<'c>, kind: KeyKind) -> Result<Beside<'c>> {
        let mut this = Beside { lines, next: None, kind };
        this.step().await?;
        Ok(this)
    }

    /// What the ledger knows about this key. Keys must come in order; lines of keys that the source does not have
    /// are passed over and added to `gone`.
    pub async fn find(&mut self, key: &str, gone: &mut Gone) -> Result<Option<Known>> {
        while let Some((next, known)) = &self.next {
            match compare_keys(self.kind, next, key) {
                Ordering::Less => {
                    gone.add(next);
                    self.step().await?;
                }
                Ordering::Equal => {
                    let known = *known;
                    self.step().await?;
                    return Ok(Some(known));
                }
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Reads what is left, after the source's last row.
    pub async fn finish(mut self, gone: &mut Gone) -> Result<()> {
        while let Some((key, _)) = &self.next {
            gone.add(key);
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        self.next = self.lines.try_next().await?;
        Ok(())
    }
}

/// Text as an SQL literal.
pub fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_row_counts_as_changed_until_it_is_complete_or_rejected() {
        let (key, source_hash) = ("k".to_owned(), 7);
        let outcome = Outcome::Migrated;
        let line = Line {
            key,
            outcome,
            source_hash,
            incomplete: true,
            claims: None,
            account_id: None,
            target_id: None,
            reject: None,
        };
        let known = |line: &Line| Known {
            outcome,
            source_hash: line.hash(),
            claims: None,
            joined: None,
            refused: false,
        };
        assert!(known(&line).is_incomplete(7) && known(&line).source_hash != 7);
        let complete = Line { incomplete: false, ..line.clone() };
        assert!(!known(&complete).is_incomplete(7) && known(&complete).source_hash == 7);
        // Otherwise every run would try the row again, unasked.
        assert_eq!(Line { reject: Some(Reject::new("code", "reason")), ..line }.hash(), 7);
    }
}

//! What V2 remembers of an evolution.

use super::Direction;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its change is in V2.
    Applied,
    /// It stopped with an error.
    Failed,
    /// It is being worked on; or, if nobody holds the lock, was when the program ended without a word.
    Running,
    /// It was taken back.
    Reverted,
}

impl State {
    /// As it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Reverted => "reverted",
        }
    }

    /// The way back of [`State::as_str`]. What nobody knows counts as failed: it has to be looked at.
    pub fn from_text(text: &str) -> Self {
        match text {
            "applied" => Self::Applied,
            "running" => Self::Running,
            "reverted" => Self::Reverted,
            _ => Self::Failed,
        }
    }
}

/// One evolution in V2's own table or collection. Times are UTC, as text for people.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number.
    pub number: u32,
    /// Its folder's name when it was applied.
    pub name: String,
    /// What was done last, or is being done.
    pub direction: Direction,
    /// How far that is.
    pub state: State,
    /// Its checksum when it was applied.
    pub checksum: String,
    /// Whether it is all or nothing, so that it never stands half done.
    pub transactional: bool,
    /// In which order evolutions were applied.
    pub serial: i64,
    /// Statements or steps that are done.
    pub done: usize,
    /// Whether the one after them was begun.
    pub begun: bool,
    /// The title of the step that was begun.
    pub step: Option<String>,
    /// Checksum of those that are done.
    pub done_checksum: Option<String>,
    /// Documents changed so far by the step that was begun.
    pub documents: u64,
    /// Who.
    pub by: String,
    /// When it began.
    pub started: String,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// Version of the program that did it.
    pub tool_version: String,
    /// Why it failed.
    pub error: Option<String>,
}

impl Record {
    /// Whether its change is in V2 as a whole. An attempt to take it back in a transaction that failed has left it there.
    pub fn is_applied(&self) -> bool {
        match self.state {
            State::Applied => true,
            State::Failed | State::Running => self.transactional && self.direction == Direction::Down,
            State::Reverted => false,
        }
    }

    /// Whether it may be there in part.
    pub fn is_partial(&self) -> bool {
        matches!(self.state, State::Failed | State::Running)
            && !self.transactional
            && (self.begun || self.done > 0)
    }

    /// Why it is not done, in words.
    pub fn trouble(&self) -> String {
        match &self.error {
            Some(error) => error.clone(),
            None => "the program ended without a word (killed, or its machine went down)".to_owned(),
        }
    }
}

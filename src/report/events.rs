//! Results for scripts: with `--json` every line of stdout is one JSON object (NDJSON), each with `event` and `time`.
//! The names are a contract: fields may be added, none is renamed.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Output, printable_json};

/// Something that a script may want to know.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The command began.
    Started {
        /// The command: `migrate`, `check`, …
        command: String,
        /// Version of the program.
        version: String,
    },
    /// An entity began.
    EntityStarted {
        /// Its name.
        entity: String,
        /// Rows of V1 to work on, if known.
        total: Option<u64>,
    },
    /// An entity went on; at most one event each second.
    Progress {
        /// Its name.
        entity: String,
        /// Rows done so far.
        rows: u64,
        /// Rows of V1 to work on, if known.
        total: Option<u64>,
    },
    /// An entity is done.
    EntityFinished {
        /// Its name.
        entity: String,
        /// Rows that became records.
        migrated: u64,
        /// Rows that joined the account of another row.
        merged: u64,
        /// Rows that needed nothing.
        skipped: u64,
        /// Rows that could not be migrated.
        rejected: u64,
    },
    /// What the command found, in a form of its own.
    Result {
        /// The command.
        command: String,
        /// The finding.
        value: serde_json::Value,
    },
    /// The command failed.
    Error {
        /// The sentence.
        message: String,
        /// The fix, if there is one.
        fix: Option<String>,
        /// Text of several lines, if there is one.
        details: Option<String>,
    },
    /// The last event.
    Finished {
        /// The program's exit code.
        exit_code: u8,
        /// Time it took, in seconds.
        seconds: f64,
    },
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where events go: stdout with `--json`, else nowhere.
#[derive(Debug, Clone)]
pub struct Events {
    output: Option<Arc<Output>>,
}

impl Events {
    /// Events for an output, or for nobody.
    pub fn new(output: Option<Arc<Output>>) -> Self {
        Self { output }
    }

    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.output.is_some()
    }

    /// Tells an event.
    pub fn emit(&self, event: &Event) {
        let Some(output) = &self.output else { return };
        // Serialising our own types cannot fail; if it did, a lost event must not stop a run.
        if let Ok(line) = serde_json::to_string(&Stamped { time: Timestamp::now().to_string(), event }) {
            output.raw(&format!("{}\n", printable_json(&line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event::EntityStarted { entity: "a\nb".to_owned(), total: Some(3) };
        let line = serde_json::to_string(&Stamped { time: Timestamp::UNIX_EPOCH.to_string(), event: &event })
            .unwrap();
        let expected =
            r#"{"time":"1970-01-01T00:00:00Z","event":"entity_started","entity":"a\nb","total":3}"#;
        assert_eq!(line, expected);
    }
}

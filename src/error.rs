//! One error type for the whole program, because each error ends as one sentence, one fix and one exit code.
//!
//! This file alone decides which exit code an error leads to and whether a database error is worth a retry.
//! Database errors are rewritten here: the server's DETAIL line, and for errors about data its message too, hold
//! cell values (an email, a phone), which must never reach a log or a terminal.

pub mod mongodb;

use std::fmt;

use sqlx::postgres::PgDatabaseError;

pub use self::mongodb::{
    DUPLICATE_KEY, Duplicate, INVALID_DOCUMENT, UNAUTHORIZED, classify_mongodb, is_too_large, mongodb_code,
    mongodb_duplicate,
};

/// SQLSTATE `insufficient_privilege` (manual of Postgres, appendix A).
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of end an error is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something went wrong while working (exit 1).
    Failed,
    /// Wrong usage, settings or definitions (exit 2).
    Usage,
    /// The verification found differences (exit 4).
    Differences,
    /// Refused to start: locked, drifted, wrong target (exit 5).
    Refused,
    /// Interrupted by the user (exit 130).
    Interrupted,
}

/// What to do about a database error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Goes away by itself: retry the chunk.
    Transient,
    /// One row is at fault: reject that row.
    Row,
    /// Stop; nothing that was committed is lost.
    Fatal,
}

/// An error: a sentence that names the thing and the place, and, where there is one, the fix.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    help: Option<String>,
    /// SQLSTATE, when a Postgres server reported the error.
    sqlstate: Option<String>,
    /// Rendered definition problems (several lines), printed after the message.
    details: Option<String>,
}

impl Error {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None, sqlstate: None, details: None }
    }

    /// An error while working (exit 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// Wrong usage, settings or definitions (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Refused before anything was written (exit 5).
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// A verification found differences (exit 4).
    pub fn differences(message: impl Into<String>) -> Self {
        Self::new(Kind::Differences, message)
    }

    /// Stopped by the user (exit 130).
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// One refusal of all that is in the way, each with its fix, so that nobody mends one thing after the other.
    ///
    /// # Errors
    /// Refused, unless there is nothing.
    pub fn in_the_way(obstacles: Vec<Self>) -> Result<()> {
        let line = |of: &Self| match &of.help {
            Some(fix) => format!("  - {}\n    fix: {fix}", of.message),
            None => format!("  - {}", of.message),
        };
        let lines: Vec<String> = obstacles.iter().map(line).collect();
        match <[Self; 1]>::try_from(obstacles) {
            Ok([one]) => Err(Self { kind: Kind::Refused, ..one }),
            Err(none) if none.is_empty() => Ok(()),
            Err(many) => {
                Err(Self::refused(format!("{} things are in the way", many.len())).details(lines.join("\n")))
            }
        }
    }

    /// Adds the fix: what the user can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds text of several lines, printed below the sentence as it is.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// Wraps an error of the Postgres driver. `place` says where: `V1 (localhost:5432/school)`.
    pub fn database(place: &str, error: &sqlx::Error) -> Self {
        let (what, sqlstate) = describe(error);
        let mut this = Self::new(Kind::Failed, format!("{place}: {what}"));
        this.help = sqlstate.as_deref().and_then(advice).map(str::to_owned);
        this.sqlstate = sqlstate;
        this
    }

    /// Keeps the SQLSTATE of an error that was put into words elsewhere.
    #[must_use]
    pub fn with_sqlstate(mut self, code: &str) -> Self {
        self.sqlstate = Some(code.to_owned());
        self
    }

    /// Whether connecting again is of no use: the settings are wrong, or the server lets us in no more. Trying a wrong
    /// password again and again can lock the user out.
    pub fn is_lasting(&self) -> bool {
        let refused = |code: &str| code.starts_with("28") || matches!(code, "3D000" | "42501");
        matches!(self.kind, Kind::Usage | Kind::Refused) || self.sqlstate().is_some_and(refused)
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The sentence, without the fix.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fix, if there is one.
    pub fn fix(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Text of several lines that belongs below the sentence.
    pub fn more(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// SQLSTATE, when a Postgres server reported the error.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Differences => 4,
            Kind::Refused => 5,
            Kind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  fix: {help}")?;
        }
        if let Some(details) = &self.details {
            write!(f, "\n{details}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// How a database error is to be treated. The classes are those of Postgres's appendix "Error Codes".
pub fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Database(db) => match db.code().as_deref() {
            // A function may raise any code it likes: what it refuses is the row.
            Some(code) if is_raised(&**db) && classify_sqlstate(code) == Class::Fatal => Class::Row,
            Some(code) => classify_sqlstate(code),
            None => Class::Fatal,
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Class::Transient,
        _ => Class::Fatal,
    }
}

/// Whether the server gave a statement up: for its `statement_timeout`, or because somebody cancelled it. The code is the
/// same, and the words depend on the server's language.
pub fn is_cancelled(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(db) if db.code().as_deref() == Some("57014"))
}

/// As [`classify`], from the SQLSTATE alone.
pub fn classify_sqlstate(code: &str) -> Class {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Class::Transient,
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
        "57P01" | "57P02" | "57P03" | "57P05" => Class::Transient,
        // raise_exception: a trigger's own rule; program_limit_exceeded: a value that is too long for an index
        "P0001" | "54000" => Class::Row,
        _ => match code.get(..2) {
            Some("08") => Class::Transient,
            // data exception, integrity constraint violation, row violates a check option of a view
            Some("22" | "23" | "44") => Class::Row,
            _ => Class::Fatal,
        },
    }
}

/// Whether a function of the database's owner speaks, such as a trigger by RAISE: its words are not Postgres's, and may
/// quote the row.
fn is_raised(error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
    let routine = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    error.code().is_some_and(|code| code.starts_with("P0"))
        || matches!(routine, Some("exec_stmt_raise" | "exec_stmt_assert"))
}

/// The error in words, without cell values, and its SQLSTATE.
fn describe(error: &sqlx::Error) -> (String, Option<String>) {
    match error {
        sqlx::Error::Database(db) => {
            let code = db.code().map(|code| code.into_owned());
            let about_data = code.as_deref().is_some_and(|code| classify_sqlstate(code) == Class::Row);
            let mut what = if is_raised(&**db) {
                "a function or trigger of the database refused it".to_owned()
            } else if about_data {
                match code.as_deref() {
                    Some("23505") => "a unique constraint is violated".to_owned(),
                    Some("23503") => "a foreign key is violated".to_owned(),
                    Some("23502") => "a column that must not be null is null".to_owned(),
                    Some("23514") => "a check constraint is violated".to_owned(),
                    Some("54000") => "a value is too long for an index".to_owned(),
                    _ => "a value does not fit its column".to_owned(),
                }
            } else {
                db.message().to_owned()
            };
            if let Some(table) = db.table() {
                what.push_str(&format!(" (table {table}"));
                if let Some(constraint) = db.constraint() {
                    what.push_str(&format!(", constraint {constraint}"));
                }
                what.push(')');
            }
            if let Some(code) = &code {
                what.push_str(&format!(" [SQLSTATE {code}]"));
            }
            (what, code)
        }
        sqlx::Error::Io(io) => (format!("the connection failed: {io}"), None),
        sqlx::Error::Tls(tls) => (format!("TLS failed: {tls}"), None),
        sqlx::Error::RowNotFound => ("a row that must exist was not found".to_owned(), None),
        sqlx::Error::Protocol(what) => (format!("the server broke the protocol: {what}"), None),
        other => (other.to_string(), None),
    }
}

/// What usually helps against an error, by SQLSTATE.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" | "28000" => "check the user name and the password of the connection URL",
        "3D000" => "check the database name of the connection URL, or create the database",
        "42P01" => "check that the URL points at the right database; for V2, run `v1v2 setup` first",
        "42501" => "grant the missing privilege to the user of the connection URL",
        "53100" => {
            "free disk space on the server, then run the same command again: it goes on where it stopped"
        }
        "53300" => "the server has no free connection: lower `writers`, or raise max_connections",
        "57014" => {
            "a statement took longer than the server allows: raise statement_timeout or lower `batch_size`"
        }
        _ => return None,
    })
}

//! Errors of the MongoDB driver: sorted, and rewritten. The server quotes what it was sent (a duplicate's value, the
//! whole command that somebody may not run), and the driver's `Display` adds the server's full reply; so no text of
//! either is passed on unless its code is known to speak about structure only.

use mongodb::error::{
    Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR,
    UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure,
};

use super::{Class, Error, Kind};

/// DuplicateKey: a unique index has the value already.
pub const DUPLICATE_KEY: i32 = 11000;
/// DocumentValidationFailure: the collection's validator refused the document.
pub const INVALID_DOCUMENT: i32 = 121;
/// WriteConflict: another transaction was in the way.
pub const WRITE_CONFLICT: i32 = 112;
/// Unauthorized: not logged in, or without the privilege.
pub const UNAUTHORIZED: i32 = 13;

/// Codes at which one document is to blame: a duplicate (11001 and 12582 are its older numbers), refused by the
/// validator, too large (10334, and 17419, 17420 after an update), a field name or a value that cannot be stored or
/// indexed. Numbers: `error_codes.yml` of the server's sources.
const ROW: [i32; 12] =
    [DUPLICATE_KEY, 11001, 12582, INVALID_DOCUMENT, 10334, 17419, 17420, 52, 55, 56, 57, 171];

/// Codes that go away by themselves: elections and shutdowns, broken connections between the servers, locks, write
/// conflicts, a transaction that the server gave up, a majority that was too slow.
const TRANSIENT: [i32; 20] =
    [6, 7, 24, 46, 64, 89, 91, 112, 134, 189, 246, 251, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436];

/// Codes whose messages name collections, indexes and options, and nothing out of a document.
const STRUCTURAL: [i32; 10] = [20, 26, 48, 59, 67, 72, 85, 86, 197, 303];

/// Names of codes that say that a transaction is more than the server wants to hold.
const TOO_LARGE: [&str; 3] =
    ["TransactionTooLargeForCache", "TransactionTooLarge", "TransactionExceededLifetimeLimitSeconds"];

/// A value that a unique index has already: where, without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The collection.
    pub collection: String,
    /// The index's name; `_id_` for the primary key.
    pub index: String,
}

impl Duplicate {
    /// Reads it out of a message of the server: `E11000 duplicate key error collection: db.users index: users_email
    /// collation: {…} dup key: {…}`.
    pub fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once(" collection: ")?;
        let (namespace, rest) = rest.split_once(" index: ")?;
        let index = rest.split(" collation: ").next()?.split(" dup key: ").next()?.trim();
        let collection = namespace.split_once('.').map_or(namespace, |(_, collection)| collection);
        Some(Self { collection: collection.to_owned(), index: index.to_owned() })
    }
}

impl Error {
    /// Wraps an error of the MongoDB driver. `place` says where: `V2 (localhost:27017/school)`.
    pub fn mongodb(place: &str, error: &DriverError) -> Self {
        let mut this = Self::new(Kind::Failed, format!("{place}: {}", describe(error)));
        this.help = advice(error).map(str::to_owned);
        this
    }
}

/// How an error of MongoDB is to be treated: by the labels that server and driver gave it, else by its code. A
/// transaction that [`is_too_large`] is fatal as it stands: sent again it would fail again.
pub fn classify_mongodb(error: &DriverError) -> Class {
    let transient = [TRANSIENT_TRANSACTION_ERROR, RETRYABLE_WRITE_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT];
    if is_too_large(error) {
        return Class::Fatal;
    }
    if transient.iter().any(|label| error.contains_label(label)) {
        return Class::Transient;
    }
    match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::DnsResolve { .. } => Class::Transient,
        _ => match mongodb_code(error) {
            Some(code) if ROW.contains(&code) => Class::Row,
            Some(code) if TRANSIENT.contains(&code) => Class::Transient,
            _ => Class::Fatal,
        },
    }
}

/// Whether the server refused a transaction for its size or its age, so that it has to be split. (A transaction that
/// got too old may also be reported as NoSuchTransaction with the transient label: then only a clock can tell.)
pub fn is_too_large(error: &DriverError) -> bool {
    let name = match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code_name.as_str()),
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code_name.as_deref(),
        _ => None,
    };
    name.is_some_and(|name| TOO_LARGE.contains(&name))
}

/// Whether this code blames one document.
pub fn is_row(code: i32) -> bool {
    ROW.contains(&code)
}

/// The server's error code: of the command, else of the first document that was refused, else of the write concern.
pub fn mongodb_code(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Some(concern.code),
        ErrorKind::InsertMany(many) => {
            let first = many.write_errors.iter().flatten().map(|write| write.code).next();
            first.or_else(|| many.write_concern_error.as_ref().map(|concern| concern.code))
        }
        _ => None,
    }
}

/// The index that a document clashed with, if that is what the error says.
pub fn mongodb_duplicate(error: &DriverError) -> Option<Duplicate> {
    if mongodb_code(error) != Some(DUPLICATE_KEY) {
        return None;
    }
    let message = match error.kind.as_ref() {
        ErrorKind::Command(command) => &command.message,
        ErrorKind::Write(WriteFailure::WriteError(write)) => &write.message,
        ErrorKind::InsertMany(many) => &many.write_errors.iter().flatten().next()?.message,
        _ => return None,
    };
    Duplicate::parse(message)
}

/// The error in words, without anything out of a document.
fn describe(error: &DriverError) -> String {
    if let Some(Duplicate { collection, index }) = mongodb_duplicate(error) {
        return format!("a unique index is violated (collection {collection}, index {index}) [11000]");
    }
    match error.kind.as_ref() {
        ErrorKind::Command(command) if STRUCTURAL.contains(&command.code) => {
            format!("{} [{}]", command.message, command.code)
        }
        ErrorKind::Command(command) => coded(command.code, Some(&command.code_name)),
        ErrorKind::Write(WriteFailure::WriteError(write)) => coded(write.code, write.code_name.as_deref()),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            coded(concern.code, Some(&concern.code_name))
        }
        ErrorKind::InsertMany(many) => {
            let first = many.write_errors.iter().flatten().next();
            let write = first.map(|write| coded(write.code, write.code_name.as_deref()));
            let concern = || many.write_concern_error.as_ref().map(|of| coded(of.code, Some(&of.code_name)));
            write.or_else(concern).unwrap_or_else(|| "the server refused documents".to_owned())
        }
        ErrorKind::Io(io) => format!("the connection failed: {io}"),
        ErrorKind::ConnectionPoolCleared { .. } => {
            "the connection failed, with others to the same server".into()
        }
        ErrorKind::ServerSelection { .. } => "no server of the replica set can be written to".into(),
        ErrorKind::DnsResolve { .. } => "the name of the host cannot be looked up".into(),
        ErrorKind::Authentication { .. } => "the server does not accept user and password".into(),
        ErrorKind::InvalidTlsConfig { .. } => "the TLS settings of the URL do not fit".into(),
        ErrorKind::SessionsNotSupported => "the server has no sessions, so no transactions".into(),
        ErrorKind::IncompatibleServer { .. } => "the server lacks something that is needed".into(),
        ErrorKind::InvalidResponse { .. } => "the server's answer cannot be read".into(),
        ErrorKind::Transaction { .. } => "the transaction is not in a state for this".into(),
        ErrorKind::Bson(_) => "a document cannot be read or written as BSON".into(),
        ErrorKind::InvalidArgument { .. } => "the driver refuses the request".into(),
        // Whatever the driver will know some day: its kind is the first word of its Debug text, before any value.
        other => {
            let text = format!("{other:?}");
            let word: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
            format!("the driver reports {word}")
        }
    }
}

fn coded(code: i32, name: Option<&str>) -> String {
    match code {
        DUPLICATE_KEY => "a unique index is violated [11000]".to_owned(),
        INVALID_DOCUMENT => "the collection's validator refused a document [121]".to_owned(),
        UNAUTHORIZED => "the user may not do this [13]".to_owned(),
        _ => match name.filter(|name| !name.is_empty()) {
            Some(name) => format!("the server answers {name} [{code}]"),
            None => format!("the server answers with error {code}"),
        },
    }
}

/// What usually helps.
fn advice(error: &DriverError) -> Option<&'static str> {
    if is_too_large(error) {
        return Some("lower `batch_size`, so that a transaction holds less");
    }
    Some(match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => "check user, password and authSource of the connection URL",
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } => {
            "check that the replica set has a primary, then run the same command again: it goes on where it stopped"
        }
        _ => match mongodb_code(error)? {
            UNAUTHORIZED => {
                "grant the user of the connection URL the roles readWrite and dbAdmin on the database"
            }
            64 => {
                "too few members of the replica set are up to confirm a write: start them, then run the same command again"
            }
            50 => "an operation took longer than the server allows: lower `batch_size`",
            14031 => {
                "free disk space on the server, then run the same command again: it goes on where it stopped"
            }
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_told_without_its_value() {
        let plain = "E11000 duplicate key error collection: school.users index: users_email dup key: { email: \"CANARY\" }";
        let found = Duplicate::parse(plain).unwrap();
        assert_eq!((found.collection.as_str(), found.index.as_str()), ("users", "users_email"));
        let collated = "E11000 duplicate key error collection: a.b.c index: e collation: { locale: \"en\" } dup key: { e: \"0x31\" }";
        let found = Duplicate::parse(collated).unwrap();
        assert_eq!((found.collection.as_str(), found.index.as_str()), ("b.c", "e"));
        assert_eq!(Duplicate::parse("something else"), None);
    }

    #[test]
    fn the_network_is_transient_and_the_text_says_no_value() {
        let broken: DriverError = std::io::Error::from(std::io::ErrorKind::BrokenPipe).into();
        assert_eq!(classify_mongodb(&broken), Class::Transient);
        let ours = DriverError::custom("CANARY".to_owned());
        assert_eq!(classify_mongodb(&ours), Class::Fatal);
        let error = Error::mongodb("V2 (h:1/d)", &ours);
        assert!(error.message().starts_with("V2 (h:1/d): the driver reports Custom"), "{error}");
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}

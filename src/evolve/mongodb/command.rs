//! Steps that are commands of the server.
//!
//! Writes among them are part of a transaction with the note that the step is done, so that they happen once. What cannot
//! be in a transaction (indexes, options, names) can be told from its result: if such a step is met for the second time
//! after a kill, "it is so already" counts as done.

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};

use super::bookkeeping::Driver;
use crate::connect::WRITE_PATIENCE;
use crate::error::{Error, mongodb_code};

/// Commands that write documents.
const WRITES: [&str; 5] = ["insert", "update", "delete", "findAndModify", "findandmodify"];

/// Commands that take a write concern (manual, "Write Concern": all that write, and those on structure).
const CONCERNED: [&str; 7] =
    ["create", "createIndexes", "drop", "dropIndexes", "collMod", "renameCollection", "dropDatabase"];

/// The command's name: its first key.
pub(super) fn name(command: &Document) -> &str {
    command.keys().next().map(String::as_str).unwrap_or_default()
}

/// Whether it writes documents, and so can be part of a transaction.
pub(super) fn is_write(command: &Document) -> bool {
    WRITES.contains(&name(command))
}

/// The command as it is sent, and whether it goes to the database `admin`.
pub(super) fn prepared(database: &Database, command: &Document) -> (Document, bool) {
    let mut command = command.clone();
    if is_write(&command) {
        // The transaction's own counts.
        command.remove("writeConcern");
        return (command, false);
    }
    if CONCERNED.contains(&name(&command)) {
        let patience = i64::try_from(WRITE_PATIENCE.as_millis()).unwrap_or(i64::MAX);
        command.insert("writeConcern", doc! { "w": "majority", "wtimeout": patience });
    }
    if name(&command) != "renameCollection" {
        return (command, false);
    }
    // The one command that wants names with their database; a script does not know it.
    for field in ["renameCollection", "to"] {
        if let Some(Bson::String(collection)) = command.get(field) {
            let qualified = format!("{}.{collection}", database.name());
            command.insert(field, qualified);
        }
    }
    (command, true)
}

/// Runs a command that is no write.
pub(super) async fn run(database: &Database, command: &Document, place: &str) -> Driver<Result<(), Error>> {
    let (command, admin) = prepared(database, command);
    let answer = if admin {
        database.client().database("admin").run_command(command).await?
    } else {
        database.run_command(command).await?
    };
    Ok(accepted(&answer, place))
}

/// A command that wrote only some of its documents is answered like a success.
pub(super) fn accepted(answer: &Document, place: &str) -> Result<(), Error> {
    let errors = answer.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document());
    let refused = errors.or_else(|| answer.get_document("writeConcernError").ok());
    let Some(refused) = refused else { return Ok(()) };
    // Without the message: it may quote the document.
    let code = refused.get_i32("code").unwrap_or(0);
    Err(Error::failed(format!("{place}: the server did not write all documents of the command [{code}]")))
}

/// Whether an error of a command that may have been done already means that it was.
pub(super) async fn was_done(database: &Database, command: &Document, error: &mongodb::error::Error) -> bool {
    let code = mongodb_code(error);
    match name(command) {
        // NamespaceNotFound, IndexNotFound, NamespaceExists
        "drop" => code == Some(26),
        "dropIndexes" => matches!(code, Some(26 | 27)),
        "create" => code == Some(48),
        "renameCollection" if code == Some(26) => {
            let Ok(to) = command.get_str("to") else { return false };
            let found = database.list_collection_names().filter(doc! { "name": to }).await;
            found.is_ok_and(|found| !found.is_empty())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_is_an_error_without_the_document() {
        let answer =
            doc! { "ok": 1, "n": 0, "writeErrors": [{ "index": 0, "code": 11000, "errmsg": "CANARY" }] };
        let error = accepted(&answer, "V2").unwrap_err();
        assert!(error.message().contains("[11000]") && !format!("{error:?}").contains("CANARY"));
        assert!(accepted(&doc! { "ok": 1, "n": 1 }, "V2").is_ok());
        assert!(is_write(&doc! { "insert": "c" }) && !is_write(&doc! { "create": "c" }));
    }
}

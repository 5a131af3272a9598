//! Why a connection could not be opened, in one sentence and with the fix. The driver's errors are sorted here because
//! "Connection refused (os error 111)" does not say which of two servers, and the server's own text may name a user.

use std::io::ErrorKind;

use sqlx::postgres::PgConnectOptions;

use super::Place;
use crate::error::Error;

/// Everything that the driver reports.
pub(super) fn connecting(place: &Place, options: &PgConnectOptions, error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(db) => match db.code().as_deref() {
            Some(code @ ("28P01" | "28000")) => Error::failed(format!(
                "{place} does not let user {:?} in: the password is wrong or missing, or pg_hba.conf forbids it",
                options.get_username()
            ))
            .help(format!("check user and password in {}_DATABASE_URL", place.label))
            .with_sqlstate(code),
            Some(code @ "3D000") => Error::failed(format!("{place}: there is no database {:?}", place.database)).help(
                format!("check the database name in {}_DATABASE_URL, or create the database", place.label),
            )
            .with_sqlstate(code),
            // PgBouncer reports a name it does not know with the code of a broken protocol.
            _ => Error::database(&place.to_string(), error),
        },
        sqlx::Error::Io(io) if is_certificate(&io.to_string()) => untrusted(place, &io.to_string()),
        sqlx::Error::Io(io) => match io.kind() {
            // Over TCP the only file in play is a certificate's; a socket that is missing means no server.
            ErrorKind::NotFound if !place.host.starts_with('/') => {
                Error::usage(format!("{place}: a certificate file that the URL names does not exist"))
                    .help("check sslrootcert, sslcert and sslkey")
            }
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                Error::failed(format!("{place} cannot be reached: nothing listens there")).help(format!(
                    "start the server, or check host and port in {}_DATABASE_URL",
                    place.label
                ))
            }
            ErrorKind::PermissionDenied => Error::failed(format!("{place}: this user may not open the socket"))
                .help("check the permissions of the socket's directory"),
            _ => Error::failed(format!("{place} cannot be reached: {io}")).help("check host, port and firewall"),
        },
        sqlx::Error::Tls(tls) => {
            let reason = tls.to_string();
            if is_certificate(&reason) {
                untrusted(place, &reason)
            } else {
                Error::failed(format!("{place}: no verified TLS connection: {reason}")).help(TLS_FIX)
            }
        }
        sqlx::Error::Configuration(_) => {
            Error::usage(format!("{place}: the URL has a parameter with a value that does not fit"))
                .help("check sslmode, sslrootcert, sslcert, sslkey and port")
        }
        other => Error::database(&place.to_string(), other),
    }
}

const TLS_FIX: &str = "give the server a certificate and name its authority with sslrootcert=FILE in the URL; if you \
                       trust the network, sslmode=disable or --insecure-tls";

fn untrusted(place: &Place, reason: &str) -> Error {
    // What `openssl req -x509` makes if nothing else is said. Other clients take it, so the user cannot know.
    if reason.contains("CaUsedAsEndEntity") {
        return Error::failed(format!("{place}: the server's certificate is that of an authority, not of a server"))
            .help("make it with basicConstraints=CA:FALSE, or let it be signed by the authority that sslrootcert names");
    }
    Error::failed(format!("{place}: the server's certificate is not trusted: {reason}")).help(TLS_FIX)
}

fn is_certificate(reason: &str) -> bool {
    reason.contains("certificate")
}

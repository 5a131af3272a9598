//! Why MongoDB did not let us in, in one sentence and with the fix. The driver's own texts are not used: they hold the
//! list of all servers with everything known about them, and may quote the URL.

use std::io;

use mongodb::error::{Error as DriverError, ErrorKind};

use super::super::Place;
use super::address::Address;
use crate::error::{Error, UNAUTHORIZED, mongodb_code};

const TLS_FIX: &str = "name the authority of the server's certificate with tlsCAFile=FILE in the URL; if you trust the \
                       network, tls=false or --insecure-tls";

/// The driver refuses the URL's options, before it has connected.
pub(super) fn options(place: &Place, error: &DriverError) -> Error {
    match error.kind.as_ref() {
        ErrorKind::DnsResolve { .. } => Error::failed(format!("{place}: DNS does not name its servers"))
            .help("check the name behind mongodb+srv:// in V2_DATABASE_URL, and this machine's DNS"),
        ErrorKind::Io(_) | ErrorKind::InvalidTlsConfig { .. } => {
            Error::usage(format!("{place}: a certificate file that the URL names cannot be read"))
                .help("check tlsCAFile and tlsCertificateKeyFile")
        }
        _ => Error::usage(format!("{place}: parameters of the URL contradict each other"))
            .help("check directConnection, loadBalanced, replicaSet and the number of hosts"),
    }
}

/// A server answered, but not with what we asked for.
pub(super) fn connecting(address: &Address, error: &DriverError) -> Error {
    let place = &address.place;
    if is_authentication(error) {
        let source = address.login.as_deref().unwrap_or("admin");
        return Error::failed(format!(
            "{place} does not let the user of the URL in: the name or the password is wrong, or the user is not one of \
             database {source:?}"
        ))
        .help("check user, password and authSource (the database that the user was made in) in V2_DATABASE_URL");
    }
    match (mongodb_code(error), &address.login) {
        (Some(UNAUTHORIZED), None) => Error::failed(format!(
            "{place} asks for a user and a password, and the URL has none"
        ))
        .help(
            "write them into V2_DATABASE_URL: mongodb://user:password@host:27017/database?authSource=admin",
        ),
        (Some(UNAUTHORIZED), Some(_)) => {
            let database = &place.database;
            Error::failed(format!("{place}: the user of the URL may not use database {database:?}")).help(format!(
                "grant the roles: db.grantRolesToUser(USER, [{{ role: \"readWrite\", db: {database:?} }}, {{ role: \
                 \"dbAdmin\", db: {database:?} }}])"
            ))
        }
        _ => Error::mongodb(&place.to_string(), error),
    }
}

/// Nothing answers at any address; `error` is what the first one's connection met, with TLS or without. `None`: that may
/// pass.
pub(super) fn unreachable(place: &Place, error: &DriverError, encrypted: bool, last: bool) -> Option<Error> {
    let ErrorKind::Io(io) = error.kind.as_ref() else {
        return last.then(|| Error::mongodb(&place.to_string(), error));
    };
    let reason = io.to_string();
    if reason.contains("certificate") {
        let what = format!("{place}: the server's certificate is not trusted: {reason}");
        return Some(Error::failed(what).help(TLS_FIX));
    }
    let at_once = || Error::failed(format!("{place} closes the connection at once"));
    match io.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Some(
            Error::failed(format!("{place} cannot be reached: nothing listens there"))
                .help("start the server, or check host and port in V2_DATABASE_URL"),
        ),
        io::ErrorKind::InvalidData => {
            let what = format!("{place}: no verified TLS connection: the server does not speak TLS");
            Some(Error::failed(what).help(TLS_FIX))
        }
        // A server that is starting or stopping does this too, so it is not certain before the end.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if encrypted => {
            last.then(|| at_once().help(format!("it may not speak TLS: {TLS_FIX}")))
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            last.then(|| at_once().help("it may demand TLS: add tls=true to V2_DATABASE_URL"))
        }
        _ => last.then(|| {
            Error::failed(format!("{place} cannot be reached: {io}")).help("check host, port and firewall")
        }),
    }
}

fn is_authentication(error: &DriverError) -> bool {
    // 18: AuthenticationFailed
    matches!(error.kind.as_ref(), ErrorKind::Authentication { .. }) || mongodb_code(error) == Some(18)
}

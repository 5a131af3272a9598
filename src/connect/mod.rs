//! Opens connections. Everything that must hold before a row moves is settled here once: which kind of database a URL
//! means, TLS that is verified unless the user says otherwise, and an error that names the fix and never a password.
//! What only one kind of database needs is in `postgres/` and in `mongodb/`.

mod mongodb;
mod postgres;

use std::fmt;
use std::net::IpAddr;

use secrecy::ExposeSecret;

pub use self::mongodb::{
    MongoDb, OLDEST_MONGODB, WRITE_PATIENCE, majority, mongodb, mongodb_as, transaction_options,
};
pub use self::postgres::{
    Identity, OLDEST_SERVER, another, answered, as_new, identity, postgres, program_environment,
    same_database,
};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Which database is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old database, the source.
    V1,
    /// The new database, the target.
    V2,
}

impl Side {
    fn label(self) -> &'static str {
        match self {
            Self::V1 => "V1",
            Self::V2 => "V2",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What kind of database a URL means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `postgres://`, `postgresql://`
    Postgres,
    /// `mongodb://`, `mongodb+srv://`
    MongoDb,
}

/// Where a database is, for people: no user, no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `V1` or `V2`.
    pub label: &'static str,
    /// Host name, address or path of the unix socket (Postgres: its directory); the first one if there are several.
    pub host: String,
    /// TCP port, or the number in the socket's name; 0 if there is none: a socket of MongoDB, or a name that only
    /// DNS turns into hosts.
    pub port: u16,
    /// How many further hosts the URL names (MongoDB).
    pub more_hosts: usize,
    /// Name of the database.
    pub database: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.label, self.host)?;
        if self.port != 0 {
            write!(f, ":{}", self.port)?;
        }
        if self.more_hosts != 0 {
            write!(f, " and {} more", self.more_hosts)?;
        }
        write!(f, "/{})", self.database)
    }
}

/// What kind of database a side is. V1 is always Postgres.
///
/// # Errors
/// Usage: there is no URL, or it begins with something else.
pub fn scheme(side: Side, settings: &Settings) -> Result<Scheme> {
    let url = settings.require_url(side)?.expose_secret();
    // Not by the URL type, which does not know URLs with several hosts.
    let Some((scheme, _)) = url.split_once(':') else {
        return Err(Error::usage(format!("the URL of {side} is not a connection URL"))
            .help("write it like postgres://user:password@host:5432/database"));
    };
    match (scheme.to_ascii_lowercase().as_str(), side) {
        ("postgres" | "postgresql", _) => Ok(Scheme::Postgres),
        ("mongodb" | "mongodb+srv", Side::V2) => Ok(Scheme::MongoDb),
        (other, Side::V1) => {
            Err(Error::usage(format!("V1 must be Postgres, but its URL begins with {other}://"))
                .help("set V1_DATABASE_URL to a URL that begins with postgres://"))
        }
        (other, Side::V2) => {
            Err(Error::usage(format!("V2 must be Postgres or MongoDB, but its URL begins with {other}://"))
                .help("set V2_DATABASE_URL to a URL that begins with postgres:// or mongodb://"))
        }
    }
}

/// Where a side is.
///
/// # Errors
/// Usage: there is no URL, or it is not one of a database that this side can be. Refused: a remote host without
/// verified TLS.
pub fn place(side: Side, settings: &Settings) -> Result<Place> {
    match scheme(side, settings)? {
        Scheme::Postgres => self::postgres::place(side, settings),
        Scheme::MongoDb => self::mongodb::place(settings),
    }
}

/// Whether a host is this machine, so that nobody sits in between.
fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// No answer in time.
fn silent(place: &Place, waited: std::time::Duration) -> Error {
    Error::failed(format!("{place} did not answer within {} s", waited.as_secs_f32()))
        .help("check host, port and firewall, or raise connect_timeout")
}

/// The host's name means nothing.
fn unknown_host(place: &Place) -> Error {
    Error::failed(format!("{}: the host {} is not known", place.label, place.host))
        .help(format!("check the host name in {}_DATABASE_URL, and this machine's DNS", place.label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str) -> Settings {
        Settings { v1_url: Some(url.into()), v2_url: Some(url.into()), ..Settings::default() }
    }

    #[test]
    fn the_url_says_what_a_database_is() {
        let of = |side, url| scheme(side, &with(url));
        assert_eq!(of(Side::V1, "postgresql://me@h/d").unwrap(), Scheme::Postgres);
        assert_eq!(of(Side::V2, "mongodb://a:1,b:2/d").unwrap(), Scheme::MongoDb);
        assert_eq!(of(Side::V2, "mongodb+srv://a.example/d").unwrap(), Scheme::MongoDb);
        let source = of(Side::V1, "mongodb://me:CANARY@localhost/school").unwrap_err();
        assert!(source.exit_code() == 2 && source.fix().unwrap().contains("postgres://"));
        let mysql = of(Side::V2, "mysql://me:CANARY@localhost/school").unwrap_err();
        assert!(mysql.exit_code() == 2 && mysql.message().contains("mysql://"));
        assert!(!mysql.to_string().contains("CANARY"));
        let none = scheme(Side::V1, &Settings::default()).unwrap_err();
        assert!(none.exit_code() == 2 && none.fix().unwrap().contains("V1_DATABASE_URL"));
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in ["localhost", "127.0.0.1", "::1", "/var/run/postgresql"] {
            assert!(is_local(local), "{local}");
        }
        assert!(!is_local("localhost.example.com") && !is_local("10.0.0.1"));
    }
}

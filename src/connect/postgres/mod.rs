//! Connections to Postgres: a session whose text output does not depend on the server's configuration, and no pooler
//! that swaps sessions under us.

mod failure;
mod patience;
mod pooler;
mod programs;
mod prompt;

use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use url::Url;

pub use self::patience::answered;
pub use self::programs::program_environment;
use super::{Place, Side, is_local, silent, unknown_host};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// The oldest supported server: 12 is where generated columns and `extra_float_digits`' exact default arrived.
pub const OLDEST_SERVER: u32 = 12;

/// Everything needed to connect: checked, but not yet tried. No `Debug`, as the driver's prints the password.
struct Address {
    place: Place,
    options: PgConnectOptions,
    /// Prisma's `?schema=`, which becomes the search path.
    schema: Option<String>,
}

/// Where a Postgres side is; errors as [`super::place`].
pub(super) fn place(side: Side, settings: &Settings) -> Result<Place> {
    Ok(address(side, settings)?.place)
}

/// Opens a connection for the first time in this run: with the check for poolers, which costs a second connection
/// for some milliseconds.
///
/// # Errors
/// As [`another`]; refused also if a pooler shares sessions between clients.
pub async fn postgres(side: Side, settings: &Settings) -> Result<PgConnection> {
    let mut connection = once_free(side, settings).await?;
    let mut second = once_free(side, settings).await?;
    let place = place(side, settings)?;
    let checking = pooler::refuse(&place, &mut connection, &mut second);
    tokio::time::timeout(settings.connect_timeout, checking)
        .await
        .map_err(|_| silent(&place, settings.connect_timeout))??;
    // A failed goodbye changes nothing: the answer is known.
    drop(second.close().await);
    Ok(connection)
}

/// As [`another`]. A connection that we have closed a moment ago counts until the server has noticed: a role that may have
/// few of them would be refused for nothing, so it is asked again for a while.
async fn once_free(side: Side, settings: &Settings) -> Result<PgConnection> {
    const NOTICED: Duration = Duration::from_secs(2);
    let start = Instant::now();
    loop {
        match another(side, settings).await {
            Err(error) if error.sqlstate() == Some("53300") && start.elapsed() < NOTICED => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Opens one more connection to a database that [`postgres`] has accepted, with the same pinned session.
///
/// # Errors
/// Usage: no URL, or not one of Postgres. Refused: a remote host without verified TLS, a server that is too old.
/// Failed: the server cannot be reached, or does not let us in.
pub async fn another(side: Side, settings: &Settings) -> Result<PgConnection> {
    let Address { place, options, schema } = address(side, settings)?;
    let explicit_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    if !explicit_socket {
        resolve(&place, settings).await?;
    }
    let connecting = tokio::time::timeout(settings.connect_timeout, options.connect());
    let mut connection = match connecting.await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(failure::connecting(&place, &options, &error)),
        Err(_) => return Err(silent(&place, settings.connect_timeout)),
    };
    if !explicit_socket {
        prompt::send_at_once();
    }
    let version = connection.server_version_num().unwrap_or(0) / 10_000;
    if version < OLDEST_SERVER {
        return Err(Error::refused(format!("{place} runs Postgres {version}, which is too old"))
            .help(format!("use a server of version {OLDEST_SERVER} or later")));
    }
    // A link can fall silent behind the login as well as before it.
    let pinning = pin(&mut connection, side, settings, schema.as_deref());
    tokio::time::timeout(settings.connect_timeout, pinning)
        .await
        .map_err(|_| silent(&place, settings.connect_timeout))?
        .map_err(|error| Error::database(&place.to_string(), &error))?;
    Ok(connection)
}

/// Takes back what a script has set or made in its session.
///
/// # Errors
/// Failed: the database does not answer.
pub async fn as_new(connection: &mut PgConnection, side: Side, settings: &Settings) -> Result<()> {
    let Address { place, schema, .. } = address(side, settings)?;
    let failed = |error: sqlx::Error| Error::database(&place.to_string(), &error);
    sqlx::raw_sql("reset session authorization; reset role; reset all; discard temp")
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    pin(connection, side, settings, schema.as_deref()).await.map_err(failed)
}

/// Pins what decides how values look as text, so that two servers with different configuration files give the same
/// text. Done by statements and not by startup parameters, as poolers refuse startup parameters they do not know.
async fn pin(
    connection: &mut PgConnection,
    side: Side,
    settings: &Settings,
    schema: Option<&str>,
) -> sqlx::Result<()> {
    let mut sql = String::from(
        "set client_encoding to 'UTF8'; set standard_conforming_strings to on; set DateStyle to 'ISO, YMD'; \
         set IntervalStyle to 'postgres'; set TimeZone to 'UTC'; set extra_float_digits to 3; \
         set bytea_output to 'hex'; set xmloption to 'content'; set idle_in_transaction_session_timeout to 0;",
    );
    // So that the server notices within a minute that our machine is gone, and frees the run's lock. It is a matter of
    // its side of the connection; ours is bounded by `answered`.
    sql.push_str(
        "set tcp_keepalives_idle to 30; set tcp_keepalives_interval to 10; set tcp_keepalives_count to 3;",
    );
    sql.push_str(&format!(
        "set statement_timeout to {}; set lock_timeout to {};",
        settings.statement_timeout.as_millis(),
        settings.lock_timeout.as_millis()
    ));
    if side == Side::V1 {
        // A policy that hides rows from us must be an error: rows that are not seen cannot be accounted for.
        sql.push_str("set row_security to off;");
        // A database of this encoding holds whatever bytes it was given, and would refuse to send those that are no
        // text: one of them would end the run. They come as they are, and are rejected row by row.
        sql.push_str(
            "select set_config('client_encoding', 'SQL_ASCII', false) where getdatabaseencoding() = 'SQL_ASCII';",
        );
    }
    if let Some(schema) = schema {
        sql.push_str(&format!("set search_path to \"{}\";", schema.replace('"', "\"\"")));
    }
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// Looks the host up first, as the driver's error does not tell a wrong name from a wrong port.
async fn resolve(place: &Place, settings: &Settings) -> Result<()> {
    let looking = tokio::net::lookup_host((place.host.as_str(), place.port));
    match tokio::time::timeout(settings.connect_timeout, looking).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(unknown_host(place)),
        Err(_) => Err(silent(place, settings.connect_timeout)),
    }
}

fn address(side: Side, settings: &Settings) -> Result<Address> {
    let url = settings.require_url(side)?;
    let wrong = || {
        Error::usage(format!("the URL of {side} is not a connection URL"))
            .help("write it like postgres://user:password@host:5432/database")
    };
    let mut url = Url::parse(url.expose_secret()).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(other_kind(side, settings));
    }
    let (mode, schema) = keep_known_parameters(&mut url);
    let mut options = PgConnectOptions::from_url(&url);
    // The URL type keeps the brackets of [::1], which no resolver understands.
    let bare = options
        .as_ref()
        .ok()
        .and_then(|o| Some(o.get_host().strip_prefix('[')?.strip_suffix(']')?.to_owned()));
    if let (Some(bare), Ok(known)) = (bare, options.as_ref()) {
        options = Ok(known.clone().host(&bare));
    }
    // The driver's message may quote the URL.
    let options = options.map_err(|_| wrong())?;
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or(options.get_username()).to_owned();
    let place = Place { label: side.label(), port: options.get_port(), host, more_hosts: 0, database };
    let mode = tls(&place, mode.as_deref(), settings.insecure_tls)?;
    let options =
        options.application_name("v1v2").ssl_mode(mode).extra_float_digits(None).disable_statement_logging();
    Ok(Address { place, options, schema })
}

/// The URL is not one of Postgres. A MongoDB V2 gets here where a command needs what only Postgres has.
fn other_kind(side: Side, settings: &Settings) -> Error {
    match super::scheme(side, settings) {
        Err(error) => error,
        Ok(_) => Error::usage(format!("{side} is MongoDB, and this works with Postgres only"))
            .help(format!("set {side}_DATABASE_URL to a URL that begins with postgres:// or postgresql://")),
    }
}

/// What a URL's parameters may say. Others (Prisma's `connection_limit`, `pgbouncer`, …) are for other programs;
/// the driver would log them with their values.
const PARAMETERS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];

/// Takes `sslmode` and `schema` out and drops what the driver does not know.
fn keep_known_parameters(url: &mut Url) -> (Option<String>, Option<String>) {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let find = |name: &str| {
        pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    let (mode, schema) = (find("sslmode"), find("schema"));
    url.set_query(None);
    for (key, value) in pairs.iter().filter(|(key, _)| PARAMETERS.contains(&key.as_str()) && key != "sslmode")
    {
        url.query_pairs_mut().append_pair(key, value);
    }
    (mode, schema)
}

/// The TLS policy: what the URL says; else what `insecure_tls` says; else verified for remote hosts and whatever the
/// server offers for local ones. `prefer` and `allow` can be talked down to plain text by anybody in between, and
/// `require` does not look at the certificate, so for a remote host they count only if `insecure_tls` agrees or
/// the user has switched TLS off in so many words (`disable`) or named the weaker check (`require`, `verify-ca`).
fn tls(place: &Place, mode: Option<&str>, insecure: bool) -> Result<PgSslMode> {
    let local = is_local(&place.host);
    Ok(match mode {
        Some("disable") => PgSslMode::Disable,
        Some("require") => PgSslMode::Require,
        Some("verify-ca") => PgSslMode::VerifyCa,
        Some("verify-full") => PgSslMode::VerifyFull,
        Some("allow") if local || insecure => PgSslMode::Allow,
        Some("prefer") if local || insecure => PgSslMode::Prefer,
        Some(weak @ ("allow" | "prefer")) => {
            return Err(Error::refused(format!(
                "{place} is remote and sslmode={weak} does not promise an encrypted connection"
            ))
            .help("use sslmode=verify-full, or say --insecure-tls if you trust the network"));
        }
        Some(other) => {
            return Err(Error::usage(format!("{}: there is no sslmode {}", place, other.escape_debug()))
                .help("use disable, allow, prefer, require, verify-ca or verify-full"));
        }
        None if local || insecure => PgSslMode::Prefer,
        None => PgSslMode::VerifyFull,
    })
}

/// What tells one database of one cluster from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's `system_identifier`: made by `initdb`, shared by its replicas. None if we may not read it.
    pub system: Option<String>,
    /// When the server started, to the microsecond: stands in for the identifier where that cannot be read.
    pub started: String,
    /// Oid of the database in its cluster.
    pub oid: u32,
}

/// Reads what a database is.
///
/// # Errors
/// Failed: the database does not answer.
pub async fn identity(place: &Place, connection: &mut PgConnection) -> Result<Identity> {
    let failed = |error: sqlx::Error| Error::database(&place.to_string(), &error);
    let row = sqlx::query(
        "select pg_postmaster_start_time()::text, d.oid::int8, \
                has_function_privilege('pg_control_system()', 'execute') \
         from pg_database d where d.datname = current_database()",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let oid: i64 = row.get(1);
    let system = if row.get(2) {
        let sql = "select system_identifier::text from pg_control_system()";
        sqlx::query_scalar(sql).fetch_optional(connection).await.map_err(failed)?
    } else {
        None
    };
    Ok(Identity { system, started: row.get(0), oid: u32::try_from(oid).unwrap_or_default() })
}

/// Refuses a source that is the target, whatever names the two URLs give it. Only two of Postgres can be one: a V2 of
/// MongoDB needs no such check.
///
/// # Errors
/// Refused if both are one database; failed if one does not answer.
pub async fn same_database(v1: (&Place, &mut PgConnection), v2: (&Place, &mut PgConnection)) -> Result<()> {
    let (one, other) = (identity(v1.0, v1.1).await?, identity(v2.0, v2.1).await?);
    let same_cluster = match (&one.system, &other.system) {
        (Some(one), Some(other)) => one == other,
        _ => one.started == other.started,
    };
    if same_cluster && one.oid == other.oid {
        return Err(Error::refused(format!("{} and {} are the same database", v1.0, v2.0))
            .help("point V2_DATABASE_URL at the new database, and V1_DATABASE_URL at the old one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str) -> Settings {
        Settings { v1_url: Some(url.into()), v2_url: Some(url.into()), ..Settings::default() }
    }

    #[test]
    fn a_place_has_no_secret() {
        let place = place(Side::V1, &with("postgres://me:CANARY@localhost:5433/school")).unwrap();
        assert_eq!(place.to_string(), "V1 (localhost:5433/school)");
        let url = "postgres://?host=%2Ftmp%2Fsocket&port=5434&dbname=school&user=me&password=CANARY";
        assert_eq!(super::place(Side::V2, &with(url)).unwrap().to_string(), "V2 (/tmp/socket:5434/school)");
        let ipv6 = super::place(Side::V2, &with("postgres://me@[::1]:5434/school")).unwrap();
        assert_eq!(ipv6.host, "::1");
    }

    #[test]
    fn remote_hosts_need_verified_tls_unless_told_otherwise() {
        let at = |host: &str| Place {
            label: "V1",
            host: host.into(),
            port: 5432,
            more_hosts: 0,
            database: "school".into(),
        };
        let mode = |host: &str, mode, insecure| format!("{:?}", tls(&at(host), mode, insecure).unwrap());
        assert_eq!(mode("db.example", None, false), "VerifyFull");
        assert_eq!(mode("db.example", None, true), "Prefer");
        assert_eq!(mode("db.example", Some("disable"), false), "Disable");
        for local in ["localhost", "127.0.0.1", "::1", "/var/run/postgresql"] {
            assert_eq!(mode(local, None, false), "Prefer");
        }
        assert_eq!(tls(&at("db.example"), Some("prefer"), false).unwrap_err().exit_code(), 5);
        assert_eq!(tls(&at("db.example"), Some("sure"), false).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn parameters_for_other_programs_are_dropped() {
        let mut url =
            Url::parse("postgres://h/d?schema=app&pgbouncer=true&sslmode=require&sslrootcert=ca.pem")
                .unwrap();
        let (mode, schema) = keep_known_parameters(&mut url);
        assert_eq!((mode.as_deref(), schema.as_deref()), (Some("require"), Some("app")));
        assert_eq!(url.query(), Some("sslrootcert=ca.pem"));
    }
}

//! The same connection for Postgres's own programs (`pg_dump`, `pg_restore`): one URL decides for them as for us, TLS
//! included. Everything travels in the child's environment, as arguments show in process lists.

use std::ffi::OsString;
use std::path::Path;

use secrecy::ExposeSecret;
use sqlx::postgres::PgSslMode;
use url::Url;

use super::super::Side;
use super::{Address, address};
use crate::error::Result;
use crate::settings::Settings;

/// Where systems keep the authorities that they trust (Debian, Fedora, Alpine and macOS). Our own connections ask the
/// system; libpq before version 16 has to be told.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What libpq would take from its own environment instead of from us.
const MISLEADING: [&str; 6] =
    ["PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGTARGETSESSIONATTRS", "PGOPTIONS", "PGREQUIREPEER"];

/// The environment in which a program of Postgres connects to a side as we do: names, and values or `None` for what must
/// not be inherited. It holds the password: it is for the child's environment alone. A password that the URL does not
/// give comes from `PGPASSWORD` or `.pgpass`, as for our own connections.
///
/// # Errors
/// As [`super::super::place`].
pub fn program_environment(side: Side, settings: &Settings) -> Result<Vec<(&'static str, Option<OsString>)>> {
    let Address { place, options, .. } = address(side, settings)?;
    let mut found: Vec<(&'static str, Option<OsString>)> =
        MISLEADING.iter().map(|name| (*name, None)).collect();
    let mut set = |name, value: OsString| found.push((name, Some(value)));
    set("PGHOST", place.host.clone().into());
    set("PGPORT", place.port.to_string().into());
    set("PGUSER", options.get_username().into());
    set("PGDATABASE", place.database.clone().into());
    set("PGCONNECT_TIMEOUT", settings.connect_timeout.as_secs().max(2).to_string().into());
    set("PGCLIENTENCODING", "UTF8".into());
    // Messages are read by us.
    set("LC_ALL", "C".into());
    if let Some(options) = options.get_options().filter(|options| !options.is_empty()) {
        set("PGOPTIONS", options.into());
    }
    let mode = options.get_ssl_mode();
    set("PGSSLMODE", name_of(mode).into());
    let pairs = pairs(settings.require_url(side)?.expose_secret());
    let given = |key: &str| {
        pairs.iter().find(|(name, value)| name == key && !value.is_empty()).map(|(_, value)| value.clone())
    };
    if let Some(password) = given("password") {
        set("PGPASSWORD", password.into());
    }
    for (key, name) in [("sslcert", "PGSSLCERT"), ("sslkey", "PGSSLKEY")] {
        if let Some(path) = given(key) {
            set(name, path.into());
        }
    }
    let verified = matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let inherited = || std::env::var_os("PGSSLROOTCERT").is_some();
    let system = || AUTHORITIES.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned());
    if let Some(root) = given("sslrootcert").or_else(|| (verified && !inherited()).then(system).flatten()) {
        set("PGSSLROOTCERT", root.into());
    }
    Ok(found)
}

/// The parameters of a URL, and the password in front of its host as one of them. A parameter beats the URL's front, as
/// in our driver.
fn pairs(url: &str) -> Vec<(String, String)> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if let Some(password) = url.password() {
        // A form's decoding, but for `+`, which means itself in front of the host.
        let encoded = format!("password={}", password.replace('+', "%2B"));
        pairs.extend(url::form_urlencoded::parse(encoded.as_bytes()).into_owned());
    }
    pairs
}

fn name_of(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_connects_as_we_do() {
        let of = |url: &str| {
            let settings = Settings { v2_url: Some(url.into()), ..Settings::default() };
            let found = program_environment(Side::V2, &settings).unwrap();
            move |name: &str| {
                let value = found.iter().rev().find(|(of, value)| *of == name && value.is_some());
                value.map(|(_, value)| value.clone().unwrap().into_string().unwrap())
            }
        };
        let local = of("postgres://me:a%40b+c@localhost:5433/school");
        assert_eq!(local("PGPASSWORD").as_deref(), Some("a@b+c"));
        assert_eq!(local("PGPORT").as_deref(), Some("5433"));
        assert_eq!(local("PGSSLMODE").as_deref(), Some("prefer"));
        let remote = of("postgres://me@db.example/school?sslrootcert=/ca.pem&options=-c%20geqo%3Doff");
        assert_eq!(remote("PGSSLMODE").as_deref(), Some("verify-full"));
        assert_eq!(remote("PGSSLROOTCERT").as_deref(), Some("/ca.pem"));
        assert_eq!(remote("PGOPTIONS").as_deref(), Some("-c geqo=off"));
        assert_eq!(remote("PGPASSWORD"), None);
    }
}

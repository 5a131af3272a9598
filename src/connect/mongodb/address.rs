//! A URL of MongoDB, taken apart and judged before anything is tried: the database it must name, its hosts, its TLS.

use mongodb::options::{ClientOptions, ConnectionString, HostInfo, ServerAddress, Tls, TlsOptions};
use secrecy::{ExposeSecret, SecretString};

use super::super::{Place, Side, is_local, unknown_host};
use super::failure;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Port of MongoDB where a URL names none.
const PORT: u16 = 27017;

/// Everything needed to connect: checked, but not yet tried. No `Debug`: it holds the password.
pub(super) struct Address {
    pub(super) place: Place,
    /// Where the server looks the user up; `None` if the URL names no user.
    pub(super) login: Option<String>,
    /// There is no TLS, and only because all hosts of the URL are this machine.
    pub(super) plain_as_local: bool,
    url: SecretString,
    tls: Option<Tls>,
    /// Hosts to look up; empty if DNS is to name them.
    hosts: Vec<(String, u16)>,
}

impl Address {
    /// Reads V2's URL.
    pub(super) fn of(settings: &Settings) -> Result<Self> {
        let url = settings.require_url(Side::V2)?.clone();
        // The driver's message may quote the URL.
        let parsed = ConnectionString::parse(url.expose_secret()).map_err(|_| wrong(url.expose_secret()))?;
        let Some(database) = parsed.default_database.clone() else {
            return Err(Error::usage("the URL of V2 does not name a database").help(
                "write the database behind the host: mongodb://user:password@host:27017/database?authSource=admin",
            ));
        };
        let (mut place, hosts) = place(&parsed.host_info, database);
        let login = parsed.credential.as_ref().map(|credential| {
            let source = credential.source.clone().or_else(|| parsed.default_database.clone());
            source.unwrap_or_else(|| "admin".to_owned())
        });
        let local = match &parsed.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts.iter().all(is_here),
            _ => false,
        };
        if place.host.is_empty() {
            place.host = "localhost".to_owned();
        }
        let plain_as_local = local && parsed.tls.is_none() && parsed.direct_connection != Some(true);
        let tls = tls(&place, local, parsed.tls, settings.insecure_tls)?;
        Ok(Self { place, login, plain_as_local, url, tls, hosts })
    }

    /// Looks the hosts up first, as the driver keeps trying a name that does not exist like one that does.
    pub(super) async fn resolve(&self) -> Result<()> {
        for (host, port) in &self.hosts {
            if tokio::net::lookup_host((host.as_str(), *port)).await.is_ok() {
                return Ok(());
            }
        }
        if self.hosts.is_empty() { Ok(()) } else { Err(unknown_host(&self.place)) }
    }

    /// The driver's options, as the URL and our policy on TLS say. Asks DNS for the hosts of `mongodb+srv`.
    pub(super) async fn options(&self) -> Result<ClientOptions> {
        let parsed = ClientOptions::parse(self.url.expose_secret()).await;
        let mut options = parsed.map_err(|error| failure::options(&self.place, &error))?;
        options.tls.clone_from(&self.tls);
        Ok(options)
    }
}

fn place(hosts: &HostInfo, database: String) -> (Place, Vec<(String, u16)>) {
    let mut place = Place { label: "V2", host: String::new(), port: 0, more_hosts: 0, database };
    match hosts {
        HostInfo::DnsRecord(name) => {
            place.host.clone_from(name);
            (place, Vec::new())
        }
        HostInfo::HostIdentifiers(hosts) => {
            place.more_hosts = hosts.len().saturating_sub(1);
            match hosts.first() {
                Some(ServerAddress::Tcp { host, port }) => {
                    bare(host).clone_into(&mut place.host);
                    place.port = port.unwrap_or(PORT);
                }
                Some(socket) => place.host = socket.to_string(),
                None => {}
            }
            let tcp = |address: &ServerAddress| match address {
                ServerAddress::Tcp { host, port } => Some((bare(host).to_owned(), port.unwrap_or(PORT))),
                _ => None,
            };
            let tcp: Vec<_> = hosts.iter().filter_map(tcp).collect();
            // A socket in the file system needs no look-up, so there is nothing to find wrong.
            let all_tcp = tcp.len() == hosts.len();
            (place, if all_tcp { tcp } else { Vec::new() })
        }
        _ => (place, Vec::new()),
    }
}

/// An IPv6 address without its brackets, which no resolver understands.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The host of a member's name: `db.example:27017`, `[::1]:27017`.
pub(super) fn host_of(member: &str) -> &str {
    bare(member.rsplit_once(':').map_or(member, |(host, _)| host))
}

fn is_here(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => is_local(bare(host)),
        // A unix socket.
        _ => true,
    }
}

/// The TLS policy, as for Postgres: what the URL says; else what `insecure_tls` says; else verified for remote hosts.
/// MongoDB's driver has no "encrypted if the server can": without TLS in the URL a local host is spoken to in plain.
fn tls(place: &Place, local: bool, given: Option<Tls>, insecure: bool) -> Result<Option<Tls>> {
    match given {
        Some(Tls::Enabled(options))
            if options.allow_invalid_certificates == Some(true) && !local && !insecure =>
        {
            Err(Error::refused(format!("{place} is remote and the URL says not to check its certificate"))
                .help("name the certificate's authority with tlsCAFile=FILE instead, or say --insecure-tls if you trust the network"))
        }
        None if !local && !insecure => Ok(Some(Tls::Enabled(TlsOptions::default()))),
        given => Ok(given),
    }
}

/// The URL cannot be read. Says which of its parameters is at fault, if one is; never a value.
fn wrong(url: &str) -> Error {
    let example = "write it like mongodb://user:password@host:27017/database?authSource=admin, with %40 for an @ in the \
                   password";
    let pairs = url.split_once('?').map_or("", |(_, query)| query).split('&');
    let bad = |pair: &&str| {
        let alone = format!("mongodb://localhost/?{pair}");
        !pair.is_empty() && ConnectionString::parse(alone).is_err()
    };
    // A `?` in an unescaped password makes the rest of it look like a parameter: only what is a name may be shown.
    let is_name = |key: &&str| key.chars().all(|c| c.is_ascii_alphabetic());
    let key = pairs.filter(|pair| pair.contains('=')).find(bad).and_then(|pair| pair.split('=').next());
    match key.filter(is_name) {
        Some(key) => Error::usage(format!(
            "the URL of V2 has a parameter that MongoDB's driver does not accept: {key}"
        ))
        .help("correct it or leave it out"),
        None => Error::usage("the URL of V2 is not a connection URL of MongoDB").help(example),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Address> {
        Address::of(&Settings { v2_url: Some(url.into()), ..Settings::default() })
    }

    fn refused(url: &str) -> Error {
        of(url).err().unwrap()
    }

    #[test]
    fn a_place_has_no_secret() {
        let place = |url| of(url).unwrap().place.to_string();
        assert_eq!(place("mongodb://me:CANARY@localhost/school"), "V2 (localhost:27017/school)");
        assert_eq!(
            place("mongodb://a.example:1,b.example:2,c/school?tls=true"),
            "V2 (a.example:1 and 2 more/school)"
        );
        assert_eq!(place("mongodb+srv://me:CANARY@cluster.example/school"), "V2 (cluster.example/school)");
        assert_eq!(place("mongodb://[::1]:27018/school"), "V2 (::1:27018/school)");
        assert_eq!(place("mongodb://%2Ftmp%2Fmongodb.sock/school"), "V2 (/tmp/mongodb.sock/school)");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_values() {
        let error = refused("mongodb://me:CANARY@localhost");
        assert!(error.exit_code() == 2 && error.fix().unwrap().contains("27017/database"), "{error}");
        let error = refused("mongodb://me:CANARY@localhost/school?connectTimeoutMS=CANARY");
        assert!(error.exit_code() == 2 && error.message().contains("connectTimeoutMS"), "{error}");
        assert!(!format!("{error:?}").contains("CANARY"));
        let error = refused("mongodb://me:CAN@ARY@localhost/school");
        assert!(error.exit_code() == 2 && error.fix().unwrap().contains("%40"), "{error}");
        assert!(!format!("{error:?}").contains("ARY"));
    }

    #[test]
    fn remote_hosts_need_verified_tls_unless_told_otherwise() {
        let checked = |tls: &Option<Tls>| matches!(tls, Some(Tls::Enabled(o)) if o.allow_invalid_certificates != Some(true));
        assert!(checked(&of("mongodb://db.example/school").unwrap().tls));
        assert!(checked(&of("mongodb://localhost,db.example/school").unwrap().tls));
        assert!(checked(&of("mongodb+srv://db.example/school").unwrap().tls));
        assert!(matches!(of("mongodb://db.example/school?tls=false").unwrap().tls, Some(Tls::Disabled)));
        assert!(of("mongodb://127.0.0.1/school").unwrap().tls.is_none());
        for weak in ["tlsInsecure=true", "tls=true&tlsAllowInvalidCertificates=true"] {
            let url = format!("mongodb://db.example/school?{weak}");
            assert_eq!(refused(&url).exit_code(), 5);
            let trusting =
                Settings { v2_url: Some(url.as_str().into()), insecure_tls: true, ..Settings::default() };
            assert!(Address::of(&trusting).is_ok());
            assert!(of(&url.replace("db.example", "localhost")).is_ok());
        }
    }

    #[test]
    fn the_user_is_looked_up_where_the_url_says() {
        let login = |url| of(url).unwrap().login;
        assert_eq!(login("mongodb://localhost/school"), None);
        assert_eq!(login("mongodb://me:x@localhost/school").as_deref(), Some("school"));
        assert_eq!(login("mongodb://me:x@localhost/school?authSource=admin").as_deref(), Some("admin"));
    }

    #[test]
    fn a_password_that_looks_like_a_parameter_is_not_shown() {
        for url in [
            "mongodb://me:a/school?b:CANARY@localhost/?replicaSet=x",
            "mongodb:/school?me:CANARY@localhost/?replicaSet=x",
        ] {
            let error = wrong(url);
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        }
        assert!(wrong("mongodb://localhost/school?w=many%20&tlsCAFile").message().contains("URL of V2"));
    }
}

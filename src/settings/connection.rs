//! A connection is given as one URL or as its parts; later code knows URLs only. Which of the two counts is
//! decided here by layer, because a URL left over in `.env` must not silently beat a host given in the environment:
//! that is how a migration reaches the wrong database.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// What the layers said about one connection. `layer` is the rank of the layer that is being laid on; each part
/// remembers the rank of the layer it came from.
#[derive(Default)]
pub(super) struct Parts {
    pub layer: usize,
    url: Option<(usize, SecretString)>,
    host: Option<(usize, String)>,
    port: Option<u16>,
    name: Option<(usize, String)>,
    user: Option<String>,
    password: Option<SecretString>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("host", &self.host).field("name", &self.name).finish_non_exhaustive()
    }
}

type Applied = Result<(), String>;

impl Parts {
    pub(super) fn set_url(&mut self, text: &str) -> Applied {
        // The parser's own message may quote the text, and the text holds a password. URLs of MongoDB are judged where
        // the connection is made: the URL type knows none with several hosts.
        if !is_mongodb(text) && !Url::parse(text).is_ok_and(|url| !url.cannot_be_a_base()) {
            return Err("must be a URL like postgres://user:password@host:5432/database".to_owned());
        }
        self.url = Some((self.layer, text.into()));
        Ok(())
    }

    pub(super) fn set_host(&mut self, text: &str) -> Applied {
        let misplaced = |c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#');
        if text.is_empty() || text.contains(misplaced) || (text.contains('/') && !text.starts_with('/')) {
            return Err("must be a host name, an address or the directory of a unix socket".to_owned());
        }
        self.host = Some((self.layer, text.to_owned()));
        Ok(())
    }

    pub(super) fn set_port(&mut self, text: &str) -> Applied {
        self.port =
            Some(text.trim().parse().ok().filter(|port| *port != 0).ok_or("must be a port from 1 to 65535")?);
        Ok(())
    }

    pub(super) fn set_name(&mut self, text: &str) -> Applied {
        if text.is_empty() {
            return Err("must be the name of a database".to_owned());
        }
        self.name = Some((self.layer, text.to_owned()));
        Ok(())
    }

    pub(super) fn set_user(&mut self, text: &str) -> Applied {
        self.user = Some(text.to_owned());
        Ok(())
    }

    pub(super) fn set_password(&mut self, text: &str) -> Applied {
        self.password = Some(text.into());
        Ok(())
    }

    /// The URL that counts, or none if nothing was said. `prefix` is `V1` or `V2`.
    ///
    /// The URL wins over parts of the same or a lower layer. A password that is given apart completes a URL that
    /// has none: that is how secrets arrive from a secret store.
    pub(super) fn into_url(self, prefix: &str) -> Result<Option<SecretString>, String> {
        let place = self.host.as_ref().max_by_layer(self.name.as_ref());
        if let Some((layer, url)) = &self.url
            && place.is_none_or(|place| place <= *layer)
        {
            let Some(password) = &self.password else { return Ok(Some(url.clone())) };
            if is_mongodb(url.expose_secret()) {
                return Ok(Some(with_password(url.expose_secret(), password.expose_secret()).into()));
            }
            let Ok(mut parsed) = Url::parse(url.expose_secret()) else { return Ok(Some(url.clone())) };
            let in_query = parsed.query_pairs().any(|(key, _)| key == "password");
            if parsed.password().is_some() || parsed.username().is_empty() || in_query {
                return Ok(Some(url.clone()));
            }
            return match parsed.set_password(Some(&escaped(password.expose_secret()))) {
                Ok(()) => Ok(Some(String::from(parsed).into())),
                Err(()) => Ok(Some(url.clone())),
            };
        }
        if place.is_none() && self.port.is_none() && self.user.is_none() && self.password.is_none() {
            return Ok(None);
        }
        let Some((_, name)) = &self.name else {
            return Err(format!("{prefix}_DB_NAME is missing: the parts of {prefix}'s connection need it"));
        };
        // Everything travels as query parameters, which the URL type escapes: a password may hold any character,
        // and a host may be the directory of a socket.
        let Ok(mut url) = Url::parse("postgres://") else {
            return Err("the connection's parts do not make a URL".to_owned());
        };
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("host", self.host.as_ref().map_or("localhost", |(_, host)| host));
            query.append_pair("port", &self.port.unwrap_or(5432).to_string());
            query.append_pair("dbname", name);
            if let Some(user) = &self.user {
                query.append_pair("user", user);
            }
            if let Some(password) = &self.password {
                query.append_pair("password", password.expose_secret());
            }
        }
        Ok(Some(String::from(url).into()))
    }
}

fn is_mongodb(url: &str) -> bool {
    url.starts_with("mongodb://") || url.starts_with("mongodb+srv://")
}

/// A URL of MongoDB that has a user and no password, completed. By hand: with several hosts it is no URL to the URL type.
fn with_password(url: &str, password: &str) -> String {
    let end = url.find('?').unwrap_or(url.len());
    let start = url.find("://").map_or(0, |at| at + 3);
    match url[start..end].rfind('@').map(|at| start + at) {
        Some(at) if at > start && !url[start..at].contains(':') => {
            format!("{}:{}{}", &url[..at], escaped(password), &url[at..])
        }
        _ => url.to_owned(),
    }
}

/// Everything but letters, digits and `-._~` as `%XX`, so that the text means itself in a URL (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// The higher of two ranks, where each may be missing.
trait MaxByLayer {
    fn max_by_layer(self, other: Self) -> Option<usize>;
}

impl MaxByLayer for Option<&(usize, String)> {
    fn max_by_layer(self, other: Self) -> Option<usize> {
        self.map(|(layer, _)| *layer).max(other.map(|(layer, _)| *layer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(parts: Parts) -> String {
        parts.into_url("V1").unwrap().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn parts_make_a_url_whatever_the_password_holds() {
        let mut parts = Parts::default();
        parts.set_host("db.example").unwrap();
        parts.set_name("school").unwrap();
        parts.set_user("me").unwrap();
        parts.set_password("a@b:/?#%&ü").unwrap();
        let parsed = Url::parse(&url(parts)).unwrap();
        let pairs: Vec<(String, String)> =
            parsed.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        assert!(pairs.contains(&("password".to_owned(), "a@b:/?#%&ü".to_owned())));
        assert!(pairs.contains(&("port".to_owned(), "5432".to_owned())));
    }

    #[test]
    fn the_higher_layer_wins() {
        let mut parts = Parts { layer: 1, ..Parts::default() };
        parts.set_url("postgres://left@over/old").unwrap();
        parts.layer = 2;
        parts.set_host("new").unwrap();
        parts.set_name("school").unwrap();
        assert!(url(parts).contains("new"));

        let mut parts = Parts { layer: 1, ..Parts::default() };
        parts.set_host("old").unwrap();
        parts.set_url("postgres://me@new/school").unwrap();
        assert_eq!(url(parts), "postgres://me@new/school");
    }

    #[test]
    fn a_password_given_apart_completes_a_url() {
        let mut parts = Parts::default();
        parts.set_url("postgres://me@host/school").unwrap();
        parts.set_password("s3cret").unwrap();
        assert_eq!(url(parts), "postgres://me:s3cret@host/school");
    }

    #[test]
    fn a_password_given_apart_completes_a_url_of_mongodb() {
        let complete = |text: &str| {
            let mut parts = Parts::default();
            parts.set_url(text).unwrap();
            parts.set_password("p@ss%41:é").unwrap();
            url(parts)
        };
        let written = "p%40ss%2541%3A%C3%A9";
        assert_eq!(
            complete("mongodb://me@a:1,b:2/school?w=1"),
            format!("mongodb://me:{written}@a:1,b:2/school?w=1")
        );
        assert_eq!(complete("mongodb://me:old@a/school"), "mongodb://me:old@a/school");
        assert_eq!(complete("mongodb://a/school?appName=x@y"), "mongodb://a/school?appName=x@y");
        assert_eq!(complete("postgres://me@host/school"), format!("postgres://me:{written}@host/school"));
    }

    #[test]
    fn the_name_is_needed_and_nothing_is_nothing() {
        let mut parts = Parts::default();
        parts.set_host("host").unwrap();
        assert!(parts.into_url("V2").unwrap_err().contains("V2_DB_NAME"));
        assert!(Parts::default().into_url("V1").unwrap().is_none());
    }
}

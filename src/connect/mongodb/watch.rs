//! What the servers answer while the driver looks for one that it can use. The driver itself only ever says that it found
//! none; the answers say why: a standalone server, a set that was never started, another set, nobody there.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use mongodb::bson::Document;
use mongodb::error::Error as DriverError;
use mongodb::event::sdam::SdamEvent;
use mongodb::options::{ClientOptions, Tls};

use super::super::Place;
use super::failure;
use crate::error::Error;

/// What a server says it is, in answer to `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its replica set.
    pub(super) set: Option<String>,
    /// A router of a sharded cluster.
    pub(super) router: bool,
    /// Started as a member of a replica set which does not exist yet.
    pub(super) waiting: bool,
    /// It takes writes.
    pub(super) writable: bool,
}

impl Answer {
    pub(super) fn of(hello: &Document) -> Self {
        let is = |field: &str| hello.get_bool(field).unwrap_or(false);
        Self {
            set: hello.get_str("setName").ok().map(str::to_owned),
            router: hello.get_str("msg").is_ok_and(|text| text == "isdbgrid"),
            waiting: is("isreplicaset"),
            // The name of before 5.0 is what a driver's first question is answered with.
            writable: is("isWritablePrimary") || is("ismaster"),
        }
    }

    /// Why this server cannot be V2, if waiting does not help. `wanted`: the replica set that the URL names.
    pub(super) fn refusal(&self, place: &Place, wanted: Option<&str>) -> Option<Error> {
        if self.router {
            return None;
        }
        if self.waiting {
            return Some(
                Error::refused(format!(
                    "{place} waits to become part of a replica set, which was never started"
                ))
                .help("run rs.initiate() once, in mongosh on that server"),
            );
        }
        let Some(set) = &self.set else {
            return Some(
                Error::refused(format!("{place} is a standalone server, and transactions need a replica set")).help(
                    "one member is enough: start the server with --replSet rs0 (its data stays), then run rs.initiate() \
                     once in mongosh",
                ),
            );
        };
        wanted.filter(|wanted| wanted != set).map(|wanted| {
            Error::usage(format!(
                "{place} belongs to the replica set {set:?}, not to {wanted:?} as the URL says"
            ))
            .help("correct replicaSet in V2_DATABASE_URL, or leave it out")
        })
    }
}

/// Collects the last word of every server.
#[derive(Debug)]
pub(super) struct Watch {
    wanted: Option<String>,
    seeds: usize,
    encrypted: bool,
    heard: Mutex<BTreeMap<String, Result<Answer, DriverError>>>,
}

impl Watch {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self {
            wanted: options.repl_set_name.clone(),
            seeds: options.hosts.len(),
            encrypted: matches!(options.tls, Some(Tls::Enabled(_))),
            heard: Mutex::default(),
        }
    }

    /// Takes an event of the driver.
    pub(super) fn note(&self, event: SdamEvent) {
        let (address, word) = match event {
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                (event.server_address.to_string(), Ok(Answer::of(&event.reply)))
            }
            SdamEvent::ServerHeartbeatFailed(event) => (event.server_address.to_string(), Err(event.failure)),
            _ => return,
        };
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(address, word);
    }

    /// Why no server will do, as far as it is certain; with `last`, as far as anybody knows.
    pub(super) fn verdict(&self, place: &Place, last: bool) -> Option<Error> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = || heard.values().filter_map(|word| word.as_ref().ok());
        if let Some(refusal) = answers().find_map(|answer| answer.refusal(place, self.wanted.as_deref())) {
            return Some(refusal);
        }
        if answers().next().is_some() {
            return last.then(|| {
                Error::failed(format!("{place}: no member of the replica set is its primary")).help(
                    "check with rs.status() that a majority of the members is up and can reach each other",
                )
            });
        }
        // Somebody may still answer: a member that is down is no reason to give up.
        if heard.len() < self.seeds && !last {
            return None;
        }
        let failures: Vec<&DriverError> = heard.values().filter_map(|word| word.as_ref().err()).collect();
        let why = |error: &&DriverError, last| failure::unreachable(place, error, self.encrypted, last);
        if !last && !failures.iter().all(|error| why(error, false).is_some()) {
            return None;
        }
        why(failures.first()?, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn servers_that_cannot_be_v2() {
        let place = Place { label: "V2", host: "h".into(), port: 1, more_hosts: 0, database: "d".into() };
        let refusal = |hello: Document, wanted| Answer::of(&hello).refusal(&place, wanted);
        let alone = refusal(doc! { "ismaster": true }, None).unwrap();
        assert!(alone.exit_code() == 5 && alone.fix().unwrap().contains("--replSet"), "{alone}");
        let waiting = refusal(doc! { "isreplicaset": true }, None).unwrap();
        assert!(waiting.fix().unwrap().contains("rs.initiate()"), "{waiting}");
        let other = refusal(doc! { "setName": "one", "ismaster": true }, Some("two")).unwrap();
        assert!(other.exit_code() == 2 && other.message().contains("\"one\""), "{other}");
        assert!(refusal(doc! { "setName": "one", "secondary": true }, Some("one")).is_none());
        assert!(refusal(doc! { "msg": "isdbgrid" }, None).is_none());
    }
}

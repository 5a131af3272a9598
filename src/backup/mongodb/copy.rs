//! Copies a database to another server, or to another name on the same one, without a file in between.

use mongodb::bson::{Bson, Document, doc};
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::documents::{AHEAD, Inserter, Moment, tally};
use super::{different, empty, marker, structure, what_is_there};
use crate::backup::{MARKER, Observer};
use crate::connect::{self, MongoDb, Scheme, Side};
use crate::error::{Error, Kind, Result};
use crate::settings::Settings;

/// What a copy brought.
#[derive(Debug, Clone, Serialize)]
pub struct Copied {
    /// Where from, for people.
    pub from: String,
    /// Where to, for people.
    pub to: String,
    /// Collections and views, each with its documents.
    pub collections: Vec<(String, u64)>,
    /// All documents.
    pub documents: u64,
}

/// Copies the database that `from` names into the one that `to` names: collections, options, indexes, views, documents,
/// all from one moment of the source, and compares both afterwards. With `start_over`, what an interrupted copy left in
/// the target is removed first; nothing else ever is.
///
/// # Errors
/// Refused: both are the same database, however the URLs spell it, or the target is not empty. Differences: the target
/// does not hold what the source did. After another error the target carries the mark of an interrupted copy.
pub async fn copy(
    settings: &Settings,
    from: &SecretString,
    to: &SecretString,
    start_over: bool,
    observer: &dyn Observer,
) -> Result<Copied> {
    let source = open(settings, from, "the source", "--from").await?;
    let target = open(settings, to, "the target", "--to").await?;
    if same(&source, &target).await? {
        return Err(Error::refused(format!("{} and {} are the same database", source.place, target.place))
            .help("give the copy another name, or another server"));
    }
    let (from, to) = (source.place.to_string(), target.place.to_string());
    let occupied = what_is_there(&target).await?;
    match &occupied.interrupted {
        Some(what) if start_over && what.starts_with("copy") => {}
        Some(what) => {
            return Err(Error::refused(format!("{to} holds what is left of an interrupted {what}"))
                .help("add --start-over to remove what an interrupted copy left"));
        }
        None if occupied.is_empty() => {}
        None => {
            let names: Vec<&str> = occupied.contents.iter().take(5).map(|(name, _)| name.as_str()).collect();
            return Err(Error::refused(format!("{to} is not empty: it holds {}", names.join(", ")))
                .help("name a database that does not exist yet"));
        }
    }
    let parts = structure::read(&from, &source.database).await?;
    structure::require_whole(&from, &parts)?;
    let mut moment = Moment::now(&source).await?;
    let by = Uuid::now_v7();
    marker::set(&target, "copy", &from, by).await?;
    empty(&target, &[MARKER]).await?;
    let mut collections = Vec::new();
    let mut problems = Vec::new();
    for part in &parts {
        marker::require_ours(&target, by).await?;
        structure::create(&to, &target.database, part).await?;
        if part.view {
            collections.push((part.name.clone(), 0));
            continue;
        }
        let total = source.database.collection::<Document>(&part.name).estimated_document_count().await.ok();
        observer.begin(&part.name, total);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let inserter = Inserter { place: &to, database: &target.database, observer };
        let (read, written) = tokio::join!(moment.read(part, sender), inserter.write(&part.name, receiver));
        // A target that refuses ends the reader too, silently.
        let written = written?;
        read?;
        observer.step(&format!("indexes of {}", part.name));
        structure::create_indexes(&to, &target.database, part).await?;
        let found = tally(&to, &target.database, part).await?;
        if found.digest() != written.digest() {
            problems.push(format!("{}: its documents differ from the source's", part.name));
        }
        collections.push((part.name.clone(), written.rows));
    }
    let mut found = structure::read(&to, &target.database).await?;
    found.retain(|part| part.name != MARKER);
    problems.extend(structure::differences(&parts, &found));
    if !problems.is_empty() {
        return Err(different(&to, &problems));
    }
    marker::require_ours(&target, by).await?;
    marker::remove(&target).await?;
    let documents = collections.iter().map(|(_, documents)| documents).sum();
    Ok(Copied { from, to, collections, documents })
}

/// Connects as to V2, with the same demands; only the words of errors are others.
async fn open(settings: &Settings, url: &SecretString, label: &'static str, flag: &str) -> Result<MongoDb> {
    let settings = Settings { v2_url: Some(url.clone()), ..settings.clone() };
    let speak = |error: Error| reworded(&error, label, flag);
    match connect::scheme(Side::V2, &settings).map_err(speak)? {
        Scheme::MongoDb => {}
        Scheme::Postgres => {
            return Err(Error::usage(format!(
                "{flag} is a URL of Postgres, and only MongoDB databases are copied"
            ))
            .help("for Postgres: `v1v2 backup create`, then `v1v2 backup restore` into the other database"));
        }
    }
    let mut db = connect::mongodb(&settings).await.map_err(speak)?;
    db.place.label = label;
    Ok(db)
}

/// The connection's errors speak of V2 and its variable, where here it is a flag.
fn reworded(error: &Error, label: &str, flag: &str) -> Error {
    let text = |text: &str| {
        text.replace("V2_DATABASE_URL", flag)
            .replace("URL of V2", &format!("URL of {flag}"))
            .replace("V2", label)
    };
    let message = text(error.message());
    let new = match error.kind() {
        Kind::Failed => Error::failed(message),
        Kind::Usage => Error::usage(message),
        Kind::Differences => Error::differences(message),
        Kind::Refused => Error::refused(message),
        Kind::Interrupted => Error::interrupted(message),
    };
    match error.fix() {
        Some(fix) => new.help(text(fix)),
        None => new,
    }
}

/// Whether both are one database, whatever names the URLs give it: the same process answers, or a member of the same set
/// or a router of the same cluster does.
async fn same(one: &MongoDb, other: &MongoDb) -> Result<bool> {
    // The server itself takes names that differ in case for one.
    if !one.database.name().eq_ignore_ascii_case(other.database.name()) {
        return Ok(false);
    }
    let (one, other) = (Deployment::of(one).await?, Deployment::of(other).await?);
    Ok(one.is(&other))
}

/// What is known about who answers.
#[derive(Debug, Default, PartialEq)]
struct Deployment {
    /// Made anew whenever a server starts.
    process: Option<Bson>,
    set: Option<String>,
    hosts: Vec<String>,
    /// The identifier of the set or of the sharded cluster, if we may read it.
    id: Option<Bson>,
}

impl Deployment {
    async fn of(db: &MongoDb) -> Result<Self> {
        let admin = db.client.database("admin");
        let hello = admin
            .run_command(doc! { "hello": 1 })
            .await
            .map_err(|error| Error::mongodb(&db.place.to_string(), &error))?;
        let config = admin.run_command(doc! { "replSetGetConfig": 1 }).await.ok();
        let of_set = config.as_ref().and_then(|answer| {
            answer.get_document("config").ok()?.get_document("settings").ok()?.get("replicaSetId").cloned()
        });
        let of_cluster = match &of_set {
            Some(_) => None,
            None => {
                let versions = db.client.database("config").collection::<Document>("version");
                let found = versions.find_one(doc! { "_id": 1 }).await.ok().flatten();
                found.and_then(|version| version.get("clusterId").cloned())
            }
        };
        let process = hello.get_document("topologyVersion").ok().and_then(|of| of.get("processId").cloned());
        let hosts = hello.get_array("hosts").map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            process,
            set: hello.get_str("setName").ok().map(str::to_owned),
            hosts: hosts.iter().filter_map(|host| host.as_str().map(str::to_owned)).collect(),
            id: of_set.or(of_cluster),
        })
    }

    fn is(&self, other: &Self) -> bool {
        if self.process.is_some() && self.process == other.process {
            return true;
        }
        match (&self.id, &other.id) {
            (Some(one), Some(other)) => one == other,
            _ => {
                let shared = self.hosts.iter().any(|host| other.hosts.contains(host));
                self.set.is_some() && self.set == other.set && shared
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_deployment_under_other_names() {
        let set = |process: i32, name: &str, hosts: &[&str]| Deployment {
            process: Some(Bson::Int32(process)),
            set: Some(name.to_owned()),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            id: None,
        };
        assert!(set(1, "a", &["h:1"]).is(&set(1, "a", &["h:1"])));
        assert!(
            set(1, "a", &["h:1", "h:2"]).is(&set(2, "a", &["h:2", "h:1"])),
            "another primary of the same set"
        );
        assert!(!set(1, "a", &["h:1"]).is(&set(2, "a", &["h:2"])), "two sets of one name");
        assert!(!Deployment::default().is(&Deployment::default()));
    }

    #[test]
    fn errors_speak_of_the_flag() {
        let error =
            Error::failed("V2 (h:1/d) cannot be reached").help("check host and port in V2_DATABASE_URL");
        let error = reworded(&error, "the source", "--from");
        assert_eq!(error.message(), "the source (h:1/d) cannot be reached");
        assert_eq!(error.fix(), Some("check host and port in --from"));
    }
}

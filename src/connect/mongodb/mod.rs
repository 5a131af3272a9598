//! Connections to MongoDB. What a run relies on is decided here and not by the URL or the server: writes that a majority
//! has confirmed, reads that cannot be rolled back, a deployment that has transactions. The driver keeps trying for
//! as long as its patience lasts and then says "no available servers"; so what the servers answer meanwhile is
//! listened to (`watch.rs`), and a wrong URL is told at once and by its cause.

mod address;
mod failure;
mod watch;

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::options::{
    ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, TransactionOptions, WriteConcern,
};
use mongodb::{Client, Database};

use self::address::Address;
use self::watch::Watch;
use super::{Place, is_local, silent};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// The oldest supported server, major version: 5.0 is the first whose validators say which rule refused a document, and
/// that reads a snapshot outside of a transaction. What is older gets no corrections from MongoDB any more
/// (<https://www.mongodb.com/legal/support-policy/lifecycles>).
pub const OLDEST_MONGODB: i32 = 5;

/// How long a write waits for the majority's word before it counts as failed. Without a limit it would wait for ever
/// in a set whose members are down while its primary stays (one with an arbiter). 60 s: as long as a transaction may
/// live by the server's default (`transactionLifetimeLimitSeconds`).
pub const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// How long an operation waits for a primary, at least. Servers elect a new one within 12 s (manual, "Replica Set
/// Elections": the median with default settings), and a killed server is missed after 10 s.
const ELECTION_PATIENCE: Duration = Duration::from_secs(30);

/// How often the servers' answers are judged while the driver tries to connect.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A MongoDB that was accepted as V2: a primary answers, the user is let in, transactions work.
#[derive(Clone)]
pub struct MongoDb {
    /// The driver's client. Clones share its connections.
    pub client: Client,
    /// The database that the URL names.
    pub database: Database,
    /// Where it is, for people.
    pub place: Place,
    /// The server's version: `6.0.5`.
    pub version: String,
    /// The replica set's name; `None` for a sharded cluster.
    pub replica_set: Option<String>,
}

// Not derived: the driver's types print hosts and options, and this one is printed in tests' messages.
impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb")
            .field("place", &self.place)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The write concern of everything that is written: a majority, whatever the URL says.
pub fn majority() -> WriteConcern {
    let mut concern = WriteConcern::majority();
    concern.w_timeout = Some(WRITE_PATIENCE);
    concern
}

/// The options of every transaction: it reads one snapshot, from the primary, and is committed by a majority.
pub fn transaction_options() -> TransactionOptions {
    TransactionOptions::builder()
        .read_concern(ReadConcern::snapshot())
        .write_concern(majority())
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build()
}

/// Where V2 is; errors as [`super::place`].
pub(super) fn place(settings: &Settings) -> Result<Place> {
    Ok(Address::of(settings)?.place)
}

/// Connects to V2 and checks that it can be one.
///
/// # Errors
/// Usage: no URL, not one of MongoDB, or without a database's name. Refused: a remote host without verified TLS, a server
/// that is standalone or too old. Failed: no primary can be reached, or the user is not let in.
pub async fn mongodb(settings: &Settings) -> Result<MongoDb> {
    mongodb_as(settings, "v1v2").await
}

/// As [`mongodb()`], under a name by which the server's list of operations tells this client from others.
///
/// # Errors
/// As [`mongodb()`].
pub async fn mongodb_as(settings: &Settings, application: &str) -> Result<MongoDb> {
    let address = Address::of(settings)?;
    let place = address.place.clone();
    let opening = tokio::time::timeout(settings.connect_timeout, open(settings, address, application));
    opening.await.map_err(|_| silent(&place, settings.connect_timeout))?
}

async fn open(settings: &Settings, address: Address, application: &str) -> Result<MongoDb> {
    address.resolve().await?;
    let mut options = address.options().await?;
    let watch = Arc::new(Watch::new(&options));
    pin_options(&mut options, settings, application);
    let listener = Arc::clone(&watch);
    options.sdam_event_handler = Some(EventHandler::callback(move |event| listener.note(event)));
    let client = Client::with_options(options).map_err(|error| failure::options(&address.place, &error))?;

    let greeting = first_word(&client, &address, &watch, settings.connect_timeout).await?;
    greeting.accept(&address, settings.insecure_tls)?;
    let database = client.database(&address.place.database);
    let Greeting { version, answer, .. } = greeting;
    Ok(MongoDb { client, database, place: address.place, version, replica_set: answer.set })
}

/// The first answer that counts: of the server that the driver chose, or, as soon as it is certain that it will find none,
/// the reason.
async fn first_word(
    client: &Client,
    address: &Address,
    watch: &Watch,
    patience: Duration,
) -> Result<Greeting> {
    let mut greeting = pin!(greet(client, address));
    // Leaves room for the last word before the caller's own limit cuts it off.
    let deadline = tokio::time::Instant::now() + patience.mul_f32(0.9);
    loop {
        tokio::select! {
            greeting = &mut greeting => return greeting,
            () = tokio::time::sleep(LOOK_AGAIN) => {
                let last = tokio::time::Instant::now() >= deadline;
                if let Some(error) = watch.verdict(&address.place, last) {
                    return Err(error);
                }
                if last {
                    return Err(silent(&address.place, patience));
                }
            }
        }
    }
}

/// Lays what a run relies on over what the URL says.
fn pin_options(options: &mut ClientOptions, settings: &Settings, application: &str) {
    options.app_name = Some(application.to_owned());
    options.write_concern = Some(majority());
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    options.connect_timeout = Some(settings.connect_timeout);
    options.server_selection_timeout = Some(settings.connect_timeout.max(ELECTION_PATIENCE));
    // A writer holds one connection for the length of a transaction; some more are for lock, bookkeeping and reading.
    let needed = u32::try_from(settings.writers).unwrap_or(u32::MAX).saturating_add(8);
    options.max_pool_size = Some(options.max_pool_size.unwrap_or(10).max(needed));
}

/// What a server said about itself.
struct Greeting {
    answer: watch::Answer,
    version: String,
    major: i32,
    /// Members of the set as they call themselves.
    members: Vec<String>,
}

/// Asks what the server is, and whether we may look into the database.
async fn greet(client: &Client, address: &Address) -> Result<Greeting> {
    let failed = |error: mongodb::error::Error| failure::connecting(address, &error);
    let admin = client.database("admin");
    let build = admin.run_command(doc! { "buildInfo": 1 }).await.map_err(failed)?;
    let version = build.get_str("version").unwrap_or("unknown").to_owned();
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let hello = admin.run_command(doc! { "hello": 1 }).await.map_err(failed)?;
    // Neither of these asks who we are; this does.
    client.database(&address.place.database).list_collection_names().await.map_err(failed)?;
    Ok(Greeting { answer: watch::Answer::of(&hello), version, major, members: texts(&hello, "hosts") })
}

fn texts(document: &Document, field: &str) -> Vec<String> {
    let values = document.get_array(field).map(Vec::as_slice).unwrap_or_default();
    values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

impl Greeting {
    fn accept(&self, address: &Address, insecure: bool) -> Result<()> {
        let place = &address.place;
        if let Some(refusal) = self.answer.refusal(place, None) {
            return Err(refusal);
        }
        if self.major < OLDEST_MONGODB {
            return Err(Error::refused(format!("{place} runs MongoDB {}, which is too old", self.version))
                .help(format!("use a server of version {OLDEST_MONGODB}.0 or later")));
        }
        if !self.answer.writable {
            return Err(Error::refused(format!("{place} is not the primary of its replica set"))
                .help("name all members in the URL and leave directConnection out"));
        }
        // The URL names this machine, but the members know each other by other names: the driver follows those.
        let far = |member: &&String| !is_local(address::host_of(member));
        if address.plain_as_local
            && !insecure
            && let Some(member) = self.members.iter().find(far)
        {
            return Err(Error::refused(format!(
                "{place} belongs to a replica set whose member {member} is remote, and nothing promises an encrypted \
                 connection to it"
            ))
            .help(
                "add tls=true to the URL; or, if you trust the network, tls=false or --insecure-tls; or \
                 directConnection=true to talk to this server only",
            ));
        }
        Ok(())
    }
}

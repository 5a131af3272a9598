//! One run per V2 at a time, and its record.
//!
//! MongoDB has no advisory locks that die with their connection. In their place stand three things:
//! - the document `run` of `v1v2_lock`, which only one program can insert;
//! - a heartbeat in it, and the name under which its holder's connections stand in the server's list: a holder whose
//!   heart has stopped, or who has no connection left, is dead, and its lock can be taken over. No clock is compared with
//!   another: only whether the counter moves while one watches;
//! - fences: one document for each writer, which each of its transactions writes to. Taking the lock over removes them,
//!   so that a holder who only seemed dead cannot commit any more. A fence also names its writer's session: a transaction
//!   outlives its program, and would keep whoever takes over waiting until the server gives it up, after a minute.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReadConcern;
use mongodb::{ClientSession, Database};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::session::{LEDGER, LOCK, RUNS, Shared, id, require_setup};
use super::step::Steps;
use super::{bulk, prune, rollback, which_run};
use crate::backup::mongodb::marker;
use crate::connect::{self, MongoDb};
use crate::error::mongodb::{DUPLICATE_KEY, mongodb_code};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::plan::{BsonKind, Plan};
use crate::settings::OnEdited;
use crate::target::record::ENDED_WITHOUT_A_WORD;
use crate::target::{self, Pruned, RolledBack, RunName, RunRecord, State, ToTakeBack, holder};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);

/// How long a holder whose connections nobody can see, or see but not hear, must be silent before it counts as dead. An
/// election takes some twelve seconds, during which no heart can be heard.
const SILENCE: Duration = Duration::from_secs(30);

/// The `_id` of a writer's fence.
pub fn fence(writer: usize) -> String {
    format!("writer-{writer}")
}

/// The error of a run that lost its lock.
pub fn lost(place: &str) -> Error {
    Error::failed(format!("{place}: this run has lost its lock to another run, and stops"))
        .help("see `v1v2 status` for the run that goes on")
}

/// V2 is ours, and nothing was written yet.
pub struct Held {
    shared: Arc<Shared>,
    /// Its connections carry the name by which others see that we live.
    connection: MongoDb,
    id: Uuid,
    heart: JoinHandle<()>,
}

/// The right to write to V2, on record.
pub struct RunLock {
    held: Held,
    run: RunName,
}

impl Held {
    /// Takes the lock, or refuses and says who holds it, or that V2 is being restored.
    pub async fn take(shared: &Arc<Shared>) -> Result<Self> {
        Self::take_whole(shared, None).await
    }

    /// As [`Held::take_as`]; refuses a V2 that carries the mark of a restore. Before the lock is touched, as the restore may
    /// just be replacing its collection; and with the lock in hand, as the mark may have been set a moment ago.
    pub async fn take_whole(shared: &Arc<Shared>, command: Option<&str>) -> Result<Self> {
        marker::require_none(shared.connection().await?).await?;
        let held = Self::take_as(shared, command).await?;
        if let Err(error) = marker::require_none(&held.connection).await {
            target::Held::give_up(Box::new(held)).await;
            return Err(error);
        }
        Ok(held)
    }

    /// Takes the lock, or refuses and says who holds it; with the command's name also of a database that `setup` has not prepared, where no run can be
    /// recorded that would tell others what is going on.
    pub async fn take_as(shared: &Arc<Shared>, command: Option<&str>) -> Result<Self> {
        let id = Uuid::now_v7();
        let application = application(id);
        let connection = connect::mongodb_as(&shared.settings, &application).await?;
        if command.is_none() {
            require_setup(&connection.database, &shared.place).await?;
        }
        let lock = connection.database.collection::<Document>(LOCK);
        let ours = doc! { "command": command,
            "_id": "run", "application": &application, "holder": holder(), "beat": 0_i64,
            "user": user(&connection.database).await, "since": Bson::DateTime(mongodb::bson::DateTime::now()),
        };
        let failed = |error: mongodb::error::Error| shared.failed(&error);
        loop {
            match lock.insert_one(&ours).await {
                Ok(_) => break,
                Err(error) if mongodb_code(&error) == Some(DUPLICATE_KEY) => {}
                Err(error) => return Err(failed(error)),
            }
            let Some(theirs) = lock.find_one(doc! { "_id": "run" }).await.map_err(failed)? else { continue };
            if is_alive(shared, &connection, &application, &theirs).await? {
                return Err(refusal(shared, &connection.database, &theirs).await?);
            }
            // Only if it is still the same holder, with the heart where it stopped.
            let stopped =
                doc! { "_id": "run", "application": theirs.get("application"), "beat": theirs.get("beat") };
            let taken = lock.replace_one(stopped, &ours).await.map_err(failed)?;
            if taken.matched_count == 1 {
                tracing::warn!("the lock of a run that ended without a word was taken over");
                break;
            }
        }
        failpoint::reach("mongodb.lock.taken")?;
        end_sessions(&connection, &lock).await;
        // From here on no transaction of an earlier holder can commit; one that is under way is waited for.
        lock.delete_many(doc! { "_id": { "$regex": "^writer-" } }).await.map_err(failed)?;
        failpoint::reach("mongodb.lock.fenced")?;
        let heart = tokio::spawn(beat(lock.clone(), application));
        Ok(Self { shared: shared.clone(), connection, id, heart })
    }

    fn database(&self) -> &Database {
        &self.connection.database
    }

    /// Its own id, which becomes that of the run.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

/// The name of a run's connections in the server's list.
fn application(id: Uuid) -> String {
    format!("v1v2 run {id}")
}

/// Ends the transactions that an earlier holder has left open. Everybody may end their own user's sessions; those of
/// another user have to be waited for.
async fn end_sessions(connection: &MongoDb, lock: &mongodb::Collection<Document>) {
    let sessions: Result<Vec<Document>, _> = match lock.find(doc! { "session": { "$exists": true } }).await {
        Ok(cursor) => cursor.try_collect().await,
        Err(error) => Err(error),
    };
    let sessions = sessions.unwrap_or_default();
    let sessions: Vec<Bson> = sessions.iter().filter_map(|fence| fence.get("session").cloned()).collect();
    if !sessions.is_empty() {
        drop(connection.database.run_command(doc! { "killSessions": sessions }).await);
    }
}

/// Writes a writer's session into its fence, before the first transaction; false if the fence is gone.
pub async fn name_session(
    shared: &Shared,
    database: &Database,
    (run, writer): (i32, usize),
    session: &ClientSession,
) -> Result<bool> {
    let named = database
        .collection::<Document>(LOCK)
        .update_one(
            doc! { "_id": fence(writer), "run": run },
            doc! { "$set": { "session": session.id().clone() } },
        )
        .await
        .map_err(|error| shared.failed(&error))?;
    Ok(named.matched_count == 1)
}

async fn beat(lock: mongodb::Collection<Document>, application: String) {
    loop {
        tokio::time::sleep(BEAT).await;
        let ours = doc! { "_id": "run", "application": &application };
        // A beat that is missed shows by itself; whether the lock is still ours is decided at the fences.
        drop(lock.update_one(ours, doc! { "$inc": { "beat": 1_i64 } }).await);
    }
}

/// Who is logged in; nobody without authentication.
async fn user(database: &Database) -> Option<String> {
    let status = database.run_command(doc! { "connectionStatus": 1 }).await.ok()?;
    let users = status.get_document("authInfo").ok()?.get_array("authenticatedUsers").ok()?;
    let user = users.first()?.as_document()?;
    Some(format!("{}@{}", user.get_str("user").ok()?, user.get_str("db").ok()?))
}

/// Whether the holder lives: its heart beats; or, where the server's list of connections can be trusted to show it, it
/// stands there.
async fn is_alive(shared: &Shared, connection: &MongoDb, ours: &str, theirs: &Document) -> Result<bool> {
    let lock = connection.database.collection::<Document>(LOCK);
    let began = tokio::time::Instant::now();
    let beat = theirs.get_i64("beat").ok();
    let application = theirs.get_str("application").unwrap_or_default();
    let mut unseen = 0;
    while began.elapsed() < SILENCE {
        let now = lock.find_one(doc! { "_id": "run" }).await.map_err(|error| shared.failed(&error))?;
        let Some(now) = now else { return Ok(false) };
        if now.get_str("application").ok() != Some(application) || now.get_i64("beat").ok() != beat {
            return Ok(true);
        }
        // Twice, as a connection that is just being opened is in nobody's list.
        unseen = if is_connected(connection, ours, application, theirs).await == Some(false) {
            unseen + 1
        } else {
            0
        };
        if unseen >= 2 {
            return Ok(false);
        }
        tokio::time::sleep(BEAT / 4).await;
    }
    Ok(false)
}

/// Whether the server lists connections of that name; `None` if its answer says nothing: it does not list us either, or
/// only our own user's connections and the holder is another one.
async fn is_connected(connection: &MongoDb, ours: &str, theirs: &str, lock: &Document) -> Option<bool> {
    connection.replica_set.as_ref()?;
    let list = async |all_users: bool| {
        let stages = [
            // Without idle sessions: transactions that a dead program has left open stand there for a minute, under its name.
            doc! { "$currentOp": { "allUsers": all_users, "idleConnections": true, "idleSessions": false } },
            doc! { "$match": { "appName": { "$in": [ours, theirs] } } },
            doc! { "$group": { "_id": "$appName" } },
        ];
        let admin = connection.client.database("admin");
        // The server refuses to list its operations with the connection's own read concern, majority.
        let found = admin.aggregate(stages).read_concern(ReadConcern::local()).await?;
        found.try_collect::<Vec<Document>>().await
    };
    let (found, everybody) = match list(true).await {
        Ok(found) => (found, true),
        Err(_) => (list(false).await.ok()?, false),
    };
    let has = |name: &str| found.iter().any(|of| of.get_str("_id").ok() == Some(name));
    let same_user = everybody || lock.get_str("user").ok() == user(&connection.database).await.as_deref();
    if !has(ours) || !same_user {
        return None;
    }
    Some(has(theirs))
}

async fn refusal(shared: &Shared, database: &Database, lock: &Document) -> Result<Error> {
    let run = match lock.get("run") {
        Some(number) => database
            .collection::<Document>(RUNS)
            .find_one(doc! { "no": number })
            .await
            .map_err(|error| shared.failed(&error))?,
        None => None,
    };
    let holder = lock.get_str("holder").unwrap_or("somebody");
    let who = match run {
        Some(run) => format!(
            "`{}` of {holder} (run {}, since {})",
            run.get_str("command").unwrap_or_default(),
            run.get("_id").map(super::overview::uuid_text).unwrap_or_default(),
            run.get_datetime("startedAt").map(super::overview::time_text).unwrap_or_default()
        ),
        None => match lock.get_str("command") {
            Ok(command) => format!("`{command}` of {holder}"),
            Err(_) => format!("a run of {holder} that is just beginning or ending"),
        },
    };
    Ok(Error::refused(format!("{} is in use by another run: {who}", shared.place)).help(format!(
        "wait until it has ended; if its program is dead, the lock is free within {} s",
        SILENCE.as_secs()
    )))
}

#[async_trait]
impl target::Held for Held {
    async fn require_same_source(&mut self, record: &RunRecord) -> Result<()> {
        let Some(source) = &record.source_database else { return Ok(()) };
        let failed = |error: mongodb::error::Error| self.shared.failed(&error);
        let mut others = vec![doc! { "sourceDatabase": { "$ne": source } }];
        if let Some(system) = &record.source_system {
            others.push(doc! { "sourceSystem": { "$ne": system, "$exists": true } });
        }
        let filter = doc! { "command": "migrate", "sourceDatabase": { "$exists": true }, "$or": others };
        let runs = self.database().collection::<Document>(RUNS);
        let mut found = runs.find(filter).await.map_err(failed)?;
        while let Some(run) = found.try_next().await.map_err(failed)? {
            let wrote = self.database().collection::<Document>(LEDGER);
            let wrote = wrote.find_one(doc! { "run": run.get("no") }).await.map_err(failed)?;
            if wrote.is_some() {
                let other = run.get_str("sourceDatabase").unwrap_or_default();
                let system = run.get_str("sourceSystem").map(|system| format!(" of the cluster {system}"));
                return Err(Error::refused(format!(
                    "the ledger in {} was made from another V1: the database {other:?}{}, not {source:?} of this one",
                    self.shared.place,
                    system.unwrap_or_default()
                ))
                .help("point V1_DATABASE_URL at that database, or use another V2 (or `v1v2 setup --clean`, which empties this one)"));
            }
        }
        Ok(())
    }

    async fn find_run(&mut self, id: Option<&str>) -> Result<ToTakeBack> {
        which_run::find_run(&self.shared, self.database(), id).await
    }

    async fn give_up(self: Box<Self>) {
        let ours = doc! { "_id": "run", "application": application(self.id) };
        let lock = self.database().collection::<Document>(LOCK);
        // If this fails, the lock is taken over as that of a dead holder.
        drop(lock.delete_one(ours).await);
    }

    async fn begin(self: Box<Self>, record: &RunRecord) -> Result<Box<dyn target::RunLock>> {
        let shared = self.shared.clone();
        let failed = |error: mongodb::error::Error| shared.failed(&error);
        let runs = self.database().collection::<Document>(RUNS);
        let now = Bson::DateTime(mongodb::bson::DateTime::now());
        runs.update_many(
            doc! { "state": "running" },
            doc! { "$set": { "state": "failed", "finishedAt": &now, "error": ENDED_WITHOUT_A_WORD } },
        )
        .await
        .map_err(failed)?;
        let last = runs.find_one(doc! {}).sort(doc! { "no": -1 }).await.map_err(failed)?;
        let number = last.and_then(|run| run.get_i32("no").ok()).unwrap_or(0) + 1;
        let run = RunName { number, id: self.id };
        let mut document = doc! {
            "_id": id(&BsonKind::Uuid, &self.id.to_string()), "no": number, "command": record.command,
            "arguments": &record.arguments, "toolVersion": env!("CARGO_PKG_VERSION"), "startedAt": &now,
            "state": "running",
        };
        if let Some(system) = &record.source_system {
            document.insert("sourceSystem", system);
        }
        if let Some(database) = &record.source_database {
            document.insert("sourceDatabase", database);
        }
        runs.insert_one(document).await.map_err(failed)?;
        failpoint::reach("mongodb.run.recorded")?;
        Ok(Box::new(self.fence(run).await?))
    }
}

impl Held {
    /// Sets up the fences of a run: from now on its transactions can be committed.
    pub async fn fence(self, run: RunName) -> Result<RunLock> {
        let shared = self.shared.clone();
        let failed = |error: mongodb::error::Error| shared.failed(&error);
        let number = run.number;
        let lock = self.database().collection::<Document>(LOCK);
        // Fences first: whoever takes over removes them after it has marked the lock as its own, so if the mark below is
        // ours, fences that stood before it are either there or gone for good.
        let writers = shared.settings.writers.max(1);
        let fences = (0..writers).map(|writer| doc! { "_id": fence(writer), "run": number, "chunks": 0_i64 });
        lock.insert_many(fences).await.map_err(failed)?;
        failpoint::reach("mongodb.run.fences")?;
        let ours = doc! { "_id": "run", "application": application(self.id) };
        let marked = lock.update_one(ours, doc! { "$set": { "run": number } }).await.map_err(failed)?;
        if marked.matched_count != 1 {
            lock.delete_many(doc! { "run": number, "_id": { "$ne": "run" } }).await.map_err(failed)?;
            return Err(lost(&shared.place));
        }
        failpoint::reach("mongodb.run.marked")?;
        Ok(RunLock { held: self, run })
    }
}

#[async_trait]
impl target::RunLock for RunLock {
    fn run(&self) -> RunName {
        self.run
    }

    async fn begin_bulk(&mut self, plan: &Plan) -> Result<()> {
        bulk::begin(&self.held.shared, self.held.database(), plan, self.run.number).await
    }

    async fn prune(
        &mut self,
        plan: &Plan,
        gone: &[(usize, &[String])],
        on_edited: OnEdited,
    ) -> Result<Vec<Pruned>> {
        let again = "run the same command again: it goes on where this one stopped";
        let mut steps = Steps::of(&self.held.shared, &self.held.connection, self.run.number, again).await?;
        prune::prune(&mut steps, &self.held.shared, plan, gone, on_edited, None).await
    }

    async fn rollback(
        &mut self,
        plan: &Plan,
        run: RunName,
        advance: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<RolledBack> {
        rollback::rollback(&self.held.shared, &self.held.connection, plan, (self.run.number, run), advance)
            .await
    }

    async fn release(
        self: Box<Self>,
        state: State,
        error: Option<&str>,
        counts: &serde_json::Value,
    ) -> Result<()> {
        let held = &self.held;
        let failed = |error: mongodb::error::Error| held.shared.failed(&error);
        failpoint::reach("mongodb.end.before")?;
        let counts = mongodb::bson::serialize_to_bson(counts).unwrap_or(Bson::Null);
        let mut ended = doc! {
            "finishedAt": Bson::DateTime(mongodb::bson::DateTime::now()), "state": state.as_str(), "counts": counts,
        };
        if let Some(error) = error {
            ended.insert("error", error);
        }
        held.database()
            .collection::<Document>(RUNS)
            .update_one(doc! { "no": self.run.number }, doc! { "$set": ended })
            .await
            .map_err(failed)?;
        failpoint::reach("mongodb.end.recorded")?;
        let lock = held.database().collection::<Document>(LOCK);
        lock.delete_many(doc! { "run": self.run.number, "_id": { "$ne": "run" } }).await.map_err(failed)?;
        failpoint::reach("mongodb.end.fences")?;
        let ours = doc! { "_id": "run", "application": application(held.id) };
        lock.delete_one(ours).await.map(drop).map_err(failed)?;
        failpoint::reach("mongodb.end.after")?;
        Ok(())
    }
}

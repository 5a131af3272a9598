//! MongoDB servers for one test alone: a standalone one, one that was never initiated, a replica set of several members
//! whose primary can be told to step down or be killed. Without passwords, on this machine only, gone with the value.
//!
//! They elect a new primary within a second or two, and know fail points (`failCommand`), so that errors can be
//! had from the server itself. One member is up in half a second, three in about three.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;

use super::databases::{PREFIX, wait_for};
use super::servers::Server;

/// The replica set's name.
pub const SET: &str = "throwaway";

/// How long a server has to come up, and a set to elect a primary.
const PATIENCE: Duration = Duration::from_secs(60);

/// One or several servers.
#[derive(Debug)]
pub struct Mongod {
    members: Vec<Member>,
    in_set: bool,
}

#[derive(Debug)]
struct Member {
    child: Child,
    port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Mongod {
    /// A server that is no member of a replica set.
    pub fn standalone() -> Self {
        Self { members: vec![Member::start(&[])], in_set: false }
    }

    /// As [`Mongod::standalone`], with further arguments of the program.
    pub fn standalone_with(arguments: &[&str]) -> Self {
        Self { members: vec![Member::start(arguments)], in_set: false }
    }

    /// A server that was started as a member of a set that was never initiated.
    pub fn uninitiated() -> Self {
        Self { members: vec![Member::start(&["--replSet", SET])], in_set: false }
    }

    /// A replica set that has a primary.
    pub fn replica_set(members: usize) -> Self {
        Self::replica_set_with(members, &[])
    }

    /// As [`Mongod::replica_set`], with further arguments of the program for each member.
    pub fn replica_set_with(members: usize, arguments: &[&str]) -> Self {
        let arguments = [&["--replSet", SET], arguments].concat();
        let members: Vec<Member> = (0..members).map(|_| Member::start(&arguments)).collect();
        let list: Vec<Document> = members
            .iter()
            .enumerate()
            .map(|(id, member)| doc! { "_id": id as i32, "host": format!("127.0.0.1:{}", member.port) })
            .collect();
        let this = Self { members, in_set: true };
        let settings = doc! { "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200 };
        let config = doc! { "_id": SET, "members": list, "settings": settings };
        this.run_on(0, doc! { "replSetInitiate": config });
        this.wait_for_primary();
        this
    }

    /// The URL of a database on all members.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<String> = self.members.iter().map(|of| format!("127.0.0.1:{}", of.port)).collect();
        let set = if self.in_set { format!("?replicaSet={SET}") } else { String::new() };
        format!("mongodb://{}/{database}{set}", hosts.join(","))
    }

    /// The port of a member, from 0.
    pub fn port(&self, member: usize) -> u16 {
        self.members[member].port
    }

    /// The member that is the primary now.
    pub fn primary(&self) -> Option<usize> {
        let writable = |member: usize| {
            let hello = self.try_on(member, doc! { "hello": 1 });
            hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
        };
        (0..self.members.len()).find(|member| writable(*member))
    }

    /// Waits until there is a primary; which.
    pub fn wait_for_primary(&self) -> usize {
        let start = Instant::now();
        loop {
            if let Some(primary) = self.primary() {
                return primary;
            }
            assert!(start.elapsed() < PATIENCE, "no primary after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells the primary to step down; it does not stand for election again for this many seconds.
    pub fn step_down(&self, seconds: i32) {
        let primary = self.wait_for_primary();
        let command = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 5, "force": true };
        self.run_on(primary, command);
    }

    /// Kills a member; its data stays.
    pub fn kill(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.child.kill().unwrap();
        member.child.wait().unwrap();
    }

    /// Starts a killed member again.
    pub fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.child = spawn(&member.folder, member.port, &member.arguments);
        member.wait_until_it_answers().unwrap();
    }

    /// Runs a command in `admin` on one member.
    pub fn run_on(&self, member: usize, command: Document) -> Document {
        self.try_on(member, command).unwrap()
    }

    /// Makes the primary answer commands with an error or cut their connections:
    /// `fail_command(doc! { "times": 1 }, doc! { "failCommands": ["commitTransaction"], "errorCode": 91 })`. What it can
    /// do: "The failCommand Fail Point" in the server's sources. `doc! {}` as the second turns it off.
    pub fn fail_command(&self, mode: Document, data: Document) {
        let primary = self.wait_for_primary();
        let mut command = doc! { "configureFailPoint": "failCommand", "mode": mode };
        if data.is_empty() {
            command.insert("mode", "off");
        } else {
            command.insert("data", data);
        }
        self.run_on(primary, command);
    }

    fn try_on(&self, member: usize, command: Document) -> mongodb::error::Result<Document> {
        let port = self.members[member].port;
        wait_for(async move { ask(port, command).await })
    }
}

impl Member {
    fn start(arguments: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for attempt in 0.. {
            let name = format!("{}{}_mongod_{number}_{attempt}", *PREFIX, std::process::id());
            let folder = parent().join(name);
            fs::create_dir(&folder).unwrap();
            // Free now; if somebody else takes it before the server does, there is another attempt.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = spawn(&folder, port, &arguments);
            let mut member = Self { child, port, folder, arguments: arguments.clone() };
            match member.wait_until_it_answers() {
                Ok(()) => return member,
                Err(log) => assert!(attempt < 3, "mongod does not start:\n{log}"),
            }
        }
        unreachable!("the loop has no end of its own")
    }

    /// Listens for connections; else the last lines of its log. (An answer would take TLS into account.)
    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let gone = self.child.try_wait().unwrap().is_some();
            if gone || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only when the process has ended and was waited for, which is what they are for.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let program = program();
    Command::new(&program)
        .arg("--dbpath")
        .arg(folder)
        .arg("--logpath")
        .arg(folder.join("log"))
        .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--port"])
        .arg(port.to_string())
        .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
        .args(["--setParameter", "enableTestCommands=1"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()))
}

/// The program that `scripts/services.sh` runs: the environment's, the machine's, or the one that it downloaded.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("V1V2_MONGOD") {
        return program.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|folder| folder.join("mongod")).find(|it| it.exists())
    {
        return found;
    }
    // Starting the shared server brings the download.
    assert!(!Server::MongoDb.url().is_empty());
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join(".services/bin/mongod");
    assert!(found.exists(), "no mongod is installed here: set V1V2_MONGOD");
    found
}

/// Asks one server, whatever it is part of.
async fn ask(port: u16, command: Document) -> mongodb::error::Result<Document> {
    let mut options =
        ClientOptions::parse(format!("mongodb://127.0.0.1:{port}/?directConnection=true")).await?;
    options.server_selection_timeout = Some(Duration::from_secs(5));
    let client = Client::with_options(options)?;
    let answer = client.database("admin").run_command(command).await;
    client.shutdown().immediate(true).await;
    answer
}

/// Where the servers' folders are: in memory, if `scripts/services.sh` has found some; it says why.
fn parent() -> PathBuf {
    std::env::var_os("V1V2_TEST_MEMORY").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Ends the servers of test processes that are no more, once per process.
fn remove_leftovers() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        for entry in fs::read_dir(parent()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((process, _)) =
                name.strip_prefix(PREFIX.as_str()).and_then(|rest| rest.split_once("_mongod_"))
            else {
                continue;
            };
            if Path::new("/proc").join(process).exists() {
                continue;
            }
            // MongoDB's own lock file holds the server's process id; its command line must name the folder.
            let folder = entry.path();
            let pid = fs::read_to_string(folder.join("mongod.lock")).unwrap_or_default().trim().to_owned();
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if !pid.is_empty() && String::from_utf8_lossy(&command).contains(&name) {
                drop(Command::new("kill").args(["-s", "KILL", &pid]).status());
            }
            drop(fs::remove_dir_all(&folder));
        }
    });
}

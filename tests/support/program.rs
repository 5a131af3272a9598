//! Drives the real `v1v2` program, as a user's shell would.
//!
//! Each [`Project`] is a folder of its own with a clean environment: what the developer has set, their `.env` and their
//! home folder must not decide whether a test is green. Signals go to one process, by its id.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Database, MongoDatabase};

/// A folder in which the program runs, with the environment it gets. Gone when this value is.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    env: Vec<(String, String)>,
    program: PathBuf,
}

impl Project {
    /// An empty folder and no settings.
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), env: Vec::new(), program: env!("CARGO_BIN_EXE_v1v2").into() }
    }

    /// An empty folder, with the databases' URLs in the environment.
    pub fn between(v1: &Database, v2: &Database) -> Self {
        Self::new().env("V1_DATABASE_URL", v1.url()).env("V2_DATABASE_URL", v2.url())
    }

    /// As [`Project::between`], with MongoDB as V2.
    pub fn into_mongodb(v1: &Database, v2: &MongoDatabase) -> Self {
        Self::new().env("V1_DATABASE_URL", v1.url()).env("V2_DATABASE_URL", v2.url())
    }

    /// Runs another program instead.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = path;
        self
    }

    /// Sets an environment variable for every command; the last value wins.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder: the program's current and home folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the folder, with the folders on the way to it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Reads a file below the folder.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// Writes one of the built-in definitions, edited, to the folder `mine`.
    pub fn redefine(&self, name: &str, edit: impl FnOnce(&str) -> String) {
        let path = format!("{}/migrators/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        self.write(&format!("mine/{name}.toml"), &edit(&std::fs::read_to_string(path).unwrap()));
    }

    /// What `credentials export --plain` has written: how many people are listed, and email and password of one of them.
    pub fn handed_out(&self, path: &str) -> (u64, String, String) {
        let list = self.read(path);
        let lines: Vec<&str> = list.lines().collect();
        let header: Vec<&str> = lines[0].split(',').collect();
        let at = |name: &str| {
            header.iter().position(|column| *column == name).unwrap_or_else(|| panic!("{header:?}"))
        };
        // A line without quoted commas, so that splitting is reading.
        let line: Vec<&str> =
            lines[1..].iter().find(|line| !line.contains('"')).unwrap().split(',').collect();
        (lines.len() as u64 - 1, line[at("email")].to_owned(), line[at("password")].to_owned())
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.spawn(arguments).wait()
    }

    /// Runs the program to its end, with a text on its standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        self.start(arguments, Some(input), &[]).wait()
    }

    /// Runs the program to its end, with one more environment variable.
    #[cfg(feature = "failpoints")]
    pub fn run_with(&self, arguments: &[&str], name: &str, value: &str) -> Outcome {
        self.start(arguments, None, &[(name, value)]).wait()
    }

    /// Takes back the newest run that is left, as somebody does who undoes step by step: when nothing of the newest run of
    /// all is left, the program names the one before.
    pub fn roll_back_next(&self, more: &[&str]) -> Outcome {
        let done = self.run(&[&["rollback", "--force"], more].concat()).expect(0);
        let Some((_, id)) = done.stdout.split_once("v1v2 rollback --run ") else { return done };
        self.run(&[&["rollback", "--force", "--run", id.trim()], more].concat()).expect(0)
    }

    /// Kills the program as soon as it has written more than so much, and runs it again for the next number; how often it
    /// was killed before it was done. What it has done by then is the same on a fast machine and on a slow one.
    pub fn kill_at(&self, arguments: &[&str], amounts: &[u64], written: impl Fn() -> u64) -> usize {
        let is_killed = |amount: &&u64| {
            let mut running = self.spawn(arguments);
            running.wait_until(|_| written() > **amount);
            running.signal("KILL") && running.wait().signal() == Some(9)
        };
        amounts.iter().take_while(is_killed).count()
    }

    /// Starts the program and returns at once.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.start(arguments, None, &[])
    }

    fn start(&self, arguments: &[&str], input: Option<&str>, env: &[(&str, &str)]) -> Running {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("TMPDIR", self.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .envs(env.iter().copied())
            .current_dir(self.path())
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Stream::read(child.stdout.take().unwrap());
        let stderr = Stream::read(child.stderr.take().unwrap());
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input.map(str::to_owned)) {
            // On a thread: a program that does not read must not block the test. That it may end before it has read
            // everything is its right, too.
            std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        Running { command: arguments.join(" "), child, stdout, stderr, timeout: Duration::from_secs(120) }
    }
}

/// The program while it runs. Killed when this value is dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    timeout: Duration,
}

impl Running {
    /// How long [`Running::wait`] and [`Running::wait_until`] have; two minutes if not set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `INT`, to this one process. False if it has ended already.
    pub fn signal(&mut self, name: &str) -> bool {
        // Until `try_wait` has seen the end, the id cannot belong to anybody else.
        self.child.try_wait().unwrap().is_none()
            && Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap().success()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a condition holds; false if the program ended before.
    pub fn wait_until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if condition(self) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return condition(self);
            }
            self.check_time(start);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the run says that it is paused and nothing is written any more for more than a second; how much was.
    pub fn standstill(&mut self, written: impl Fn() -> u64) -> u64 {
        let (mut since, mut last) = (Instant::now(), 0);
        assert!(self.wait_until(|running| {
            let (stderr, count) = (running.stderr(), written());
            let paused = stderr.rfind("paused: the replica") > stderr.rfind("have caught up");
            if !paused || count != last {
                (since, last) = (Instant::now(), count);
            }
            since.elapsed() > Duration::from_millis(1_200)
        }));
        last
    }

    /// Waits for the end.
    pub fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            self.check_time(start);
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = start.elapsed();
        self.stdout.finish();
        self.stderr.finish();
        let command = std::mem::take(&mut self.command);
        Outcome { command, status, took, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn check_time(&self, start: Instant) {
        if start.elapsed() > self.timeout {
            let Self { command, timeout, .. } = self;
            let (stdout, stderr) = (self.stdout(), self.stderr());
            // The child is killed by Drop, while this panic unwinds.
            panic!("v1v2 {command}: not done after {timeout:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the process has ended and was waited for, which is what they are for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How the program ended, and all it said.
#[derive(Debug)]
pub struct Outcome {
    command: String,
    status: ExitStatus,
    /// From the call of `wait` (for `run`: from the start) to the end.
    pub took: Duration,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The exit code; `None` if a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended the program, if one did.
    pub fn signal(&self) -> Option<i32> {
        std::os::unix::process::ExitStatusExt::signal(&self.status)
    }

    /// What a command that was run with `--json` says about its result.
    #[track_caller]
    pub fn result(&self, command: &str) -> serde_json::Value {
        let events = self.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let is = |event: &serde_json::Value| event["event"] == "result" && event["command"] == command;
        events.into_iter().find(is).unwrap()["value"].clone()
    }

    /// Fails the test, with all the program said, unless it ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let Self { command, status, stdout, stderr, .. } = &self;
        assert!(
            status.code() == Some(code),
            "v1v2 {command}: {status} instead of exit code {code}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }
}

/// What a process writes to one of its outputs, read on a thread of its own so that the process never waits for us.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn read(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(size @ 1..) = from.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..size]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }
}

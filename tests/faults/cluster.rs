//! A Postgres server of a test's own, for what cannot be done to the one that all tests share: restarts, a full disk,
//! certificates.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The user that servers run as when the tests run as root, which Postgres refuses.
pub const SERVER_USER: &str = "postgres";

/// A server with its data in a temporary folder, stopped when this value is dropped.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    port: u16,
}

impl Cluster {
    /// A new server that runs.
    pub fn start() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same with its data below a folder.
    pub fn below(parent: &Path) -> Self {
        let folder = TempDir::new_in(parent).unwrap();
        give_away(folder.path());
        let cluster = Self { folder, port: free_port() };
        let data = cluster.data();
        let arguments =
            ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"];
        done(as_server(&program("initdb")).arg("--pgdata").arg(&data).args(arguments));
        // Not waiting for the disk is safe against everything these tests do: the machine stays up.
        let config = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\nmax_connections = 50\n\
             shared_buffers = 32MB\nhba_file = '{}'\n",
            cluster.port,
            data.join("pg_hba.conf").display()
        );
        cluster.configure(&config);
        cluster.control(&["start", "--wait"]);
        cluster
    }

    /// A streaming replica, with a replication slot of this name.
    pub fn replica(&self, slot: &str) -> Self {
        let folder = TempDir::new().unwrap();
        give_away(folder.path());
        let replica = Self { folder, port: free_port() };
        let connection = ["--host=127.0.0.1", "--username=postgres", "--no-password"];
        let how =
            ["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--create-slot", "--slot", slot];
        done(
            as_server(&program("pg_basebackup"))
                .args(connection)
                .arg(format!("--port={}", self.port))
                .args(how)
                .arg("--pgdata")
                .arg(replica.data()),
        );
        // A copy: its settings are those of the primary.
        let hba = replica.data().join("pg_hba.conf");
        replica.configure(&format!("port = {}\nhba_file = '{}'\n", replica.port, hba.display()));
        replica.control(&["start", "--wait"]);
        replica
    }

    /// Adds lines to the server's configuration file; they count from the next restart.
    pub fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + lines).unwrap();
    }

    /// Kills the server's processes, without a checkpoint, and starts it again: it recovers as after a power cut.
    pub fn crash_and_restart(&self) {
        self.control(&["restart", "--wait", "--mode=immediate"]);
    }

    /// Runs `pg_ctl`.
    pub fn control(&self, arguments: &[&str]) {
        let log = self.folder.path().join("server.log");
        done(
            as_server(&program("pg_ctl"))
                .arg("--pgdata")
                .arg(self.data())
                .arg("--log")
                .arg(&log)
                .args(arguments),
        );
    }

    /// The server's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// URL of a database of the server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = as_server(&program("pg_ctl"))
            .arg("--pgdata")
            .arg(self.data())
            .args(["stop", "--mode=immediate", "--silent"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        drop(stopped);
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a file or folder the server's own.
pub fn give_away(path: &Path) {
    if is_root() {
        done(Command::new("chown").arg(SERVER_USER).arg(path));
    }
}

/// A command that runs as the servers' user, with nothing of the tests' environment.
pub fn as_server(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={SERVER_USER}"), &format!("--regid={SERVER_USER}"), "--init-groups"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C.UTF-8").env("TZ", "UTC").stdin(Stdio::null());
    command.current_dir("/");
    command
}

/// Runs a command that must succeed. What the server inherits must not keep us waiting, so its output goes to files.
pub fn done(command: &mut Command) -> Output {
    let (out, err) = (tempfile::tempfile().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let status = command.stdout(out).stderr(err.reopen().unwrap()).status().unwrap();
    let stderr = std::fs::read(err.path()).unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    Output { status, stdout: Vec::new(), stderr }
}

/// A program of the newest Postgres there is, where `scripts/services.sh` looks for it too.
fn program(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("V1V2_PG_BIN") {
        return Path::new(&folder).join(name);
    }
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name))).collect())
        .unwrap_or_default();
    versions.retain(|path| path.exists());
    let version = |path: &PathBuf| -> u32 {
        path.iter().nth(4).and_then(|part| part.to_str()?.parse().ok()).unwrap_or(0)
    };
    versions.sort_by_key(version);
    versions.pop().unwrap_or_else(|| PathBuf::from(name))
}

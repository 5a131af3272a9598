//! Servers that restart, a pooler in front of one, and certificates.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use url::Url;

use super::cluster::{Cluster, as_server, done, free_port, give_away};
use super::{assert_undisturbed, fresh, in_the_middle, until_done};
use crate::job::Job;
use crate::support::{Database, Project};

/// The job with its V2 on another server.
pub fn on(cluster: &Cluster, job: Job) -> Job {
    let v2 = Database::on(&cluster.url("postgres"));
    let project = job.project.env("V2_DATABASE_URL", v2.url());
    project.run(&["setup"]).expect(0);
    Job { v1: job.v1, v2, project }
}

#[test]
fn a_server_that_crashes_and_comes_back() {
    let cluster = Cluster::start();
    let job = on(&cluster, fresh());
    let running = in_the_middle(&job.project, &job.v2);
    cluster.crash_and_restart();
    // The writers back off and come back. The session that held the lock cannot: the run may end with an error.
    let ended = running.wait();
    assert!(matches!(ended.code(), Some(1 | 3)), "{:?}\n{}", ended.code(), ended.stderr);
    assert!(ended.stderr.contains("the chunk is tried again"), "{}", ended.stderr);
    until_done(&job);
    assert_undisturbed(&job, "restarted");
}

/// PgBouncer between the program and a database, until this value is dropped.
struct Pooler {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `None` where PgBouncer is not installed.
    fn start(database: &str, mode: &str) -> Option<Self> {
        let program = Path::new("/usr/sbin/pgbouncer");
        if !program.exists() {
            return None;
        }
        let url = Url::parse(database).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let users = folder.path().join("users.txt");
        let (user, password) = (url.username(), url.password().unwrap());
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = {mode}\nmax_client_conn = 50\n\
                 default_pool_size = 20\nlogfile = {}\n",
                url.host_str().unwrap(),
                url.port().unwrap(),
                users.display(),
                folder.path().join("pgbouncer.log").display()
            ),
        )
        .unwrap();
        for path in [folder.path(), &users, &config] {
            give_away(path);
        }
        let process =
            as_server(program).arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pooler = Self { process, port, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "PgBouncer does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pooler)
    }

    fn url(&self, database: &str) -> String {
        let mut url = Url::parse(database).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.into()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_pooler_that_shares_sessions_is_refused_and_one_that_does_not_is_fine() {
    let job = Job::new(20, &[]);
    let Some(sharing) = Pooler::start(job.v2.url(), "transaction") else {
        eprintln!("skipped: PgBouncer is not installed");
        return;
    };
    let through = |pooler: &Pooler| {
        Project::new()
            .env("V1_DATABASE_URL", job.v1.url())
            .env("V2_DATABASE_URL", &pooler.url(job.v2.url()))
            .env("V1V2_PASSWORDS", "none")
    };
    let refused = through(&sharing).run(&["migrate", "--force"]).expect(5);
    assert!(refused.stderr.contains("shares sessions"), "{}", refused.stderr);
    assert!(refused.stderr.contains("fix: point V2_DATABASE_URL"), "{}", refused.stderr);
    assert_eq!(job.v2.count("v1v2.runs"), 0);

    let own = Pooler::start(job.v2.url(), "session").unwrap();
    through(&own).run(&["migrate", "--force"]).expect(0);
    assert_eq!(job.v2.count("\"Student\""), job.v1.count("\"Student\""));
}

/// A certificate for one IP address, signed by nobody else, and the server set up with it.
fn certificate(cluster: &Cluster, folder: &Path, address: &str) -> std::path::PathBuf {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    done(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args([
                "-days",
                "2",
                "-subj",
                "/CN=v1v2 test",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
            ])
            .arg(format!("subjectAltName=IP:{address}"))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    for (from, name) in [(&certificate, "server.crt"), (&key, "server.key")] {
        let to = cluster.data().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        give_away(&to);
    }
    cluster.configure("ssl = on\nlisten_addresses = '*'\n");
    cluster.control(&["restart", "--wait", "--mode=immediate"]);
    certificate
}

/// 0.0.0.0 reaches this machine and is no loopback address, so to the program it is a remote host.
#[test]
fn a_remote_server_must_prove_who_it_is() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let cluster = Cluster::start();
    let remote = |query: &str| format!("postgres://postgres@0.0.0.0:{}/postgres{query}", cluster.port());
    let status = |query: &str, flags: &[&str]| {
        let project = Project::new().env("V2_DATABASE_URL", &remote(query));
        project.run(&[&["status"], flags].concat())
    };
    cluster.configure("listen_addresses = '*'\n");
    let hba = cluster.data().join("pg_hba.conf");
    std::fs::write(&hba, std::fs::read_to_string(&hba).unwrap() + "host all all 0.0.0.0/0 trust\n").unwrap();
    cluster.control(&["restart", "--wait", "--mode=immediate"]);

    // Without TLS on the server: nothing but what the user says in so many words.
    let refused = status("", &[]).expect(1);
    assert!(refused.stderr.contains("fix: ") && refused.stderr.contains("sslrootcert"), "{}", refused.stderr);
    for weak in ["?sslmode=prefer", "?sslmode=allow"] {
        let refused = status(weak, &[]).expect(5);
        assert!(refused.stderr.contains("does not promise an encrypted connection"), "{}", refused.stderr);
    }
    // 5: it was let in, and V2 is not set up.
    for said in ["?sslmode=disable", "?sslmode=prefer"] {
        let flags: &[&str] = if said.ends_with("prefer") { &["--insecure-tls"] } else { &[] };
        assert!(status(said, flags).expect(5).stderr.contains("v1v2 setup"));
    }

    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate(&cluster, folder.path(), "0.0.0.0");
    let known = format!("sslrootcert={}", certificate.display());
    let refused = status("", &[]).expect(1);
    assert!(refused.stderr.contains("certificate is not trusted"), "{}", refused.stderr);
    assert!(status(&format!("?{known}"), &[]).expect(5).stderr.contains("v1v2 setup"));
    assert!(status("?sslmode=require", &[]).expect(5).stderr.contains("v1v2 setup"));
    // The certificate is good, but for another address.
    let other =
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=verify-full&{known}", cluster.port());
    let refused = Project::new().env("V2_DATABASE_URL", &other).run(&["status"]).expect(1);
    assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
}

#[test]
fn a_server_that_does_not_come_back_leaves_a_v2_that_does() {
    let cluster = Cluster::start();
    let job = on(&cluster, fresh());
    let running = in_the_middle(&job.project, &job.v2);
    cluster.control(&["stop", "--wait", "--mode=fast"]);
    let ended = running.wait().expect(1);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    cluster.control(&["start", "--wait"]);
    until_done(&job);
    assert_undisturbed(&job, "stopped and started");
}

//! Disks that are full: V2's, and that of the log; and a key file that cannot be written.

use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, give_away, is_root};
use super::{SLOW, assert_undisturbed, fresh, until_done};
use crate::job::Job;
use crate::support::Database;

/// A file system in memory of a certain size. Mounting takes root; `None` without.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "v1v2-test"])
            .arg(folder.path())
            .output();
        (is_root() && mounted.is_ok_and(|output| output.status.success())).then(|| Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount").args(["-o", &options]).arg(self.path()).status().unwrap();
        assert!(grown.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.path()).status());
    }
}

#[test]
fn a_full_disk_of_v2_stops_the_run_and_once_there_is_space_it_goes_on() {
    let Some(disk) = SmallDisk::mount("4m") else {
        eprintln!("skipped: a small file system can only be mounted by root");
        return;
    };
    give_away(disk.path());
    let cluster = Cluster::start();
    let Job { v1, project, .. } = fresh();
    let v2 = Database::on(&cluster.url("postgres"));
    v2.execute(&format!("create tablespace small location '{}'", disk.path().display()));
    v2.execute(&format!("alter database {} set default_tablespace = 'small'", v2.name()));
    let project = project.env("V2_DATABASE_URL", v2.url());
    project.run(&["setup"]).expect(0);
    // What is left is not enough for everybody.
    let (rest, filler) = (96 * 1024, disk.path().join("filler"));
    let free = free_bytes(disk.path());
    assert!(free > rest, "only {free} bytes are left after setup");
    std::fs::write(&filler, vec![b'x'; free - rest]).unwrap();
    let job = Job { v1, v2, project };

    let ended = job.run(SLOW).expect(1);
    assert!(ended.stderr.contains("53100"), "{}", ended.stderr);
    assert!(ended.stderr.contains("fix: free disk space on the server"), "{}", ended.stderr);
    disk.grow("200m");
    until_done(&job);
    // Where the tables are is part of no definition that is compared.
    assert_undisturbed(&job, "disk full");
}

pub fn free_bytes(path: &Path) -> usize {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap()
}

/// A limit on the size of files, as a full disk is to the program: a write fails.
#[test]
fn a_log_that_cannot_grow_is_a_warning_and_the_run_goes_on() {
    let job = fresh();
    // In blocks of 512 bytes or 1 KB, by shell. The key file and what the program prints are smaller, or no files.
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_v1v2")])
        .args(SLOW)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", job.project.path())
        .env("V1_DATABASE_URL", job.v1.url())
        .env("V2_DATABASE_URL", job.v2.url())
        .env("V1V2_HASH_MEMORY_KIB", "8")
        .env("V1V2_HASH_ITERATIONS", "1")
        .current_dir(job.project.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("warning: the log migration.log is incomplete"), "{stderr}");
    assert_eq!(stderr.matches("is incomplete").count(), 1, "{stderr}");
    assert_undisturbed(&job, "no log");
}

#[test]
fn a_log_that_cannot_be_opened_is_a_warning_and_the_run_goes_on() {
    let job = Job::new(20, &[]);
    let ended = job.migrate(&["--log-file", "no/such/folder/log"], 0);
    assert!(ended.stderr.contains("no log is written"), "{}", ended.stderr);
}

/// Whoever wants no log says `/dev/null`, as root too.
#[test]
fn a_log_that_is_no_file_is_left_where_it_is() {
    let job = Job::new(20, &[]);
    let pipe = job.project.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    job.migrate(&["--log-file", "pipe"], 0);
    let kind = std::fs::symlink_metadata(&pipe).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind), "it was moved away");
}

#[test]
fn a_key_file_that_cannot_be_written_is_refused_before_anything_is_written() {
    let job = Job::new(20, &[]);
    for place in ["no/such/folder/key", "/proc/v1v2.key"] {
        let refused = job.migrate(&["--passwords", "generate", "--key-file", place], 5);
        assert!(refused.stderr.contains(place) && refused.stderr.contains("fix: "), "{}", refused.stderr);
    }
    assert_eq!(job.v2.count("v1v2.ledger") + job.v2.count("v1v2.runs") + job.v2.count("\"User\""), 0);
}

#[test]
fn a_key_file_that_others_can_read_or_that_is_a_link_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let job = Job::new(20, &[]);
    let folder = job.project.path();
    let key = "v1v2-key-1:".to_owned() + &"0".repeat(64) + "\n";
    for (name, mode) in [("open", 0o644), ("private", 0o600)] {
        job.project.write(name, &key);
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink(folder.join("private"), folder.join("link")).unwrap();
    for (name, word) in [("open", "chmod 600 open"), ("link", "symbolic link")] {
        let refused = job.migrate(&["--passwords", "generate", "--key-file", name], 5);
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    assert_eq!(job.v2.count("v1v2.runs"), 0);
}

#[test]
fn a_hand_out_list_never_goes_through_a_link_or_over_a_file() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let job = Job::new(40, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    let folder = job.project.path();
    job.project.write("precious.csv", "mine");
    symlink(folder.join("precious.csv"), folder.join("link.csv")).unwrap();
    for place in ["precious.csv", "link.csv", "no/such/folder/list.csv"] {
        job.run(&["credentials", "export", "--plain", "--output", place]).expect(5);
    }
    assert_eq!(job.project.read("precious.csv"), "mine");
    job.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("list.csv"), mode("v1v2.key"), mode("migration.log")), (0o600, 0o600, 0o600));
}

//! What would stop a run in its middle is found before it begins: `check`, `migrate` and `evolve` say so, and write nothing.

use super::cluster::Cluster;
use super::disk::{SmallDisk, free_bytes};
use super::fresh;
use super::server::on;
use crate::job::Job;

#[test]
fn a_standby_is_no_v2() {
    let primary = Cluster::start();
    let job = on(&primary, Job::new(20, &[]));
    for name in ["a", "b"] {
        let path = format!("evolutions/000{}_{name}", if name == "a" { 1 } else { 2 });
        job.project.write(&format!("{path}/up.sql"), &format!("alter table \"User\" add column {name} int"));
        job.project.write(&format!("{path}/down.sql"), &format!("alter table \"User\" drop column {name}"));
    }
    job.run(&["evolve", "up", "--force", "--to", "1"]).expect(0);
    let before = job.v2.digest(&["public", "v1v2"], &[]);
    let standby = primary.replica("standby");
    let Job { v1, v2, project } = job;
    let job = Job { project: project.env("V2_DATABASE_URL", &standby.url(v2.name())), v1, v2 };
    for arguments in [
        &["check"][..],
        &["migrate", "--force"],
        &["migrate", "--force", "--safe"],
        &["evolve", "up", "--force"],
        &["evolve", "up", "--dry-run"],
        &["evolve", "down", "--force"],
        &["evolve", "down", "--dry-run"],
    ] {
        let refused = job.run(arguments).expect(5);
        assert!(refused.stderr.contains("is a standby and takes no writes"), "{}", refused.stderr);
        assert!(refused.stderr.contains("fix: point V2_DATABASE_URL at the primary"), "{}", refused.stderr);
    }
    assert_eq!(job.v2.digest(&["public", "v1v2"], &[]), before);
}

/// Postgres does not tell its free disk; where its data is on this machine, the system does.
#[test]
fn a_disk_that_cannot_hold_what_v1_has_is_told_before_the_run() {
    let Some(disk) = SmallDisk::mount("160m") else {
        eprintln!("skipped: a small file system can only be mounted by root");
        return;
    };
    super::cluster::give_away(disk.path());
    let cluster = Cluster::below(disk.path());
    let job = on(&cluster, fresh());
    job.v1.execute("create table ballast as select n, repeat('x', 1000) from generate_series(1, 20000) n");
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![b'x'; free_bytes(disk.path()) - (10 << 20)]).unwrap();
    for arguments in [&["check"][..], &["migrate", "--force"]] {
        let refused = job.run(arguments).expect(5);
        assert!(refused.stderr.contains("MiB of free disk, and V1's rows alone are 2"), "{}", refused.stderr);
        assert!(refused.stderr.contains("fix: free disk on V2's server"), "{}", refused.stderr);
    }
    assert_eq!(job.v2.count("v1v2.runs"), 0);
    disk.grow("185m");
    let warned = job.run(&["check"]).expect(0);
    assert!(warned.stderr.contains("3 times V1's rows is comfortable"), "{}", warned.stderr);
    disk.grow("400m");
    let quiet = job.run(&["check"]).expect(0);
    assert!(!quiet.stderr.contains("free disk"), "{}", quiet.stderr);
}

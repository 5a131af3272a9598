//! `--require-backup`: no verified backup of this very V2, no run.

use tempfile::TempDir;

use super::create;
use crate::job::Job;

#[test]
fn a_run_that_asks_for_a_backup_does_not_begin_without_one() {
    let job = Job::new(20, &[]);
    let backups = TempDir::new().unwrap();
    let job = Job { project: job.project.env("V1V2_BACKUPS", backups.path().to_str().unwrap()), ..job };
    let refused = job.migrate(&["--require-backup"], 5);
    assert!(refused.stderr.contains("holds no verified one"), "{}", refused.stderr);
    assert_eq!(job.v2.count("v1v2.runs"), 0);
    let backup = create(&job.project, backups.path());
    job.run(&["check", "--require-backup"]).expect(0);
    // Too old, of another database with the same data, and damaged: each is none.
    let refused = job.run(&["check", "--require-backup", "1ms"]).expect(5);
    assert!(refused.stderr.contains("old"), "{}", refused.stderr);
    let (job, _first) = job.another_v2();
    job.run(&["check", "--require-backup"]).expect(5);
    create(&job.project, backups.path());
    job.migrate(&["--require-backup", "1h"], 0);
    drop(backup);
}

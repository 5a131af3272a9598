//! What `check` and `evolve` see of a replica set before anything is written.

use std::path::PathBuf;
use std::process::Command;

use mongodb::bson::doc;

use super::Job;
use crate::support::{MongoDatabase, Mongod, prepared};

/// What `check` has found, as sentences.
fn findings(job: &Job) -> Vec<String> {
    let checked = job.run(&["check", "--json"]).expect(0);
    let result: Vec<serde_json::Value> =
        checked.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let list = result.iter().find_map(|event| event.pointer("/value/preflight")?.as_array()).unwrap();
    list.iter()
        .map(|of| format!("{}: {}", of["level"].as_str().unwrap(), of["what"].as_str().unwrap()))
        .collect()
}

#[test]
fn members_and_disk_are_looked_at_and_without_a_majority_nothing_begins() {
    let mut server = Mongod::replica_set(3);
    let job = Job::between(prepared::sample(20, &[]), MongoDatabase::on(&server, "v2"));
    let job = Job { project: job.project.env("V1V2_CONNECT_TIMEOUT", "5s"), ..job };
    job.project.write("evolutions/0001_a/up.json", r#"[ { "command": { "create": "made" } } ]"#);
    job.project.write("evolutions/0001_a/down.json", r#"[ { "command": { "drop": "made" } } ]"#);
    let found = findings(&job);
    let has = |found: &[String], text: &str| found.iter().any(|line| line.contains(text));
    assert!(has(&found, "all 3 members are well"), "{found:#?}");
    // The server's own word about its disk is that of the system.
    let told = found
        .iter()
        .find_map(|line| line.split_once(" MiB of free disk")?.0.split(' ').next_back()?.parse::<i64>().ok());
    // Where the tests' servers have their data.
    let folder = std::env::var_os("V1V2_TEST_MEMORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let output = Command::new("df").args(["--output=avail", "-B1M"]).arg(folder).output().unwrap();
    let free: i64 = String::from_utf8(output.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
    assert!((told.unwrap() - free).abs() < 1_000, "{found:#?}, and df says {free}");

    let primary = server.wait_for_primary();
    let (one, other) = ((primary + 1) % 3, (primary + 2) % 3);
    server.kill(one);
    let name = format!("warning: V2 (127.0.0.1:{}", server.port(primary));
    let down = format!("the member 127.0.0.1:{} is ", server.port(one));
    let mut found = Vec::new();
    for _ in 0..50 {
        found = findings(&job);
        if has(&found, &down) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(
        found.iter().any(|line| line.starts_with("warning: ") && line.contains(&down)),
        "{name}: {found:#?}"
    );
    // A majority is enough to go on, with a word about the other.
    for arguments in
        [&["up", "--force"][..], &["down", "--dry-run"], &["down", "--force"], &["up", "--force"]]
    {
        let warned = job.run(&[&["evolve"], arguments].concat()).expect(0);
        assert!(warned.stderr.contains(&down), "{arguments:?}: {}", warned.stderr);
    }

    let before = job.v2.digest(&[]);
    server.kill(other);
    let leads = || server.run_on(primary, doc! { "hello": 1 }).get_bool("isWritablePrimary").unwrap();
    while leads() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for arguments in [
        &["check"][..],
        &["migrate", "--force"],
        &["evolve", "up", "--force"],
        &["evolve", "down", "--force"],
        &["evolve", "down", "--dry-run"],
    ] {
        let refused = job.run(arguments);
        assert!(matches!(refused.code(), Some(1 | 5)), "{:?}: {}", refused.code(), refused.stderr);
        assert!(
            refused.stderr.contains("primary") || refused.stderr.contains("members are up"),
            "{}",
            refused.stderr
        );
    }
    server.restart(one);
    server.restart(other);
    server.wait_for_primary();
    assert_eq!(job.v2.digest(&[]), before);
}

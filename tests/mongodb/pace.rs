//! Runs that are slow on purpose, and runs that wait for V2's secondaries.

use mongodb::bson::doc;

use super::Job;
use crate::support::{MongoDatabase, Mongod};

#[test]
fn a_secondary_that_falls_behind_pauses_the_run_until_it_has_caught_up() {
    let mut server = Mongod::replica_set(3);
    let sample = Job::new(600, &[]);
    sample.migrate(&[], 0);
    let (result, total) = (sample.result(), sample.count("v1v2_ledger"));
    let job = Job::between(sample.v1, MongoDatabase::on(&server, "v2"));
    let primary = server.wait_for_primary();
    let secondary = (primary + 1) % 3;
    let name = format!("127.0.0.1:{}", server.port(secondary));
    let arguments = ["migrate", "--force", "--max-lag", "1s", "--max-rows-per-second", "100"];

    let mut running = job.project.spawn(&arguments);
    // Not before: on a slow machine the beginning of the run alone, without a row, would be a second behind.
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 20));
    // Locked, it answers and takes in nothing.
    server.run_on(secondary, doc! { "fsync": 1, "lock": true });
    // Perhaps it was paused already, and was told so of another one, which is behind from the set's beginning.
    let paused = "paused: the replica ";
    assert!(running.wait_until(|running| running.stderr().contains(paused)), "{}", running.stderr());
    let written = running.standstill(|| job.count("v1v2_ledger"));
    assert!(written > 0 && written < total, "{written} of {total}");
    server.run_on(secondary, doc! { "fsyncUnlock": 1 });
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > written));

    // Dead, it is still a member: the run waits for it. Ctrl-C is heard all the same.
    server.kill(secondary);
    let written = running.standstill(|| job.count("v1v2_ledger"));
    assert!(written < total, "{written} of {total}");
    assert!(running.signal("INT"));
    let stopped = running.wait().expect(130);
    assert!(stopped.stderr.contains("the replicas have caught up"), "{}", stopped.stderr);
    assert_eq!(job.count("v1v2_ledger"), written);
    let ended = job.run(&arguments).expect(0);
    let away = format!("the replica {name} of V2");
    assert!(ended.stderr.contains(&away) && ended.stderr.contains("is not connected"), "{}", ended.stderr);
    assert_eq!(job.result(), result);
}

#[test]
fn a_user_who_may_not_see_the_set_is_refused_with_the_role() {
    let job = Job::new(20, &[]);
    let user = format!("{}_writer", job.v2.name());
    let role = doc! { "role": "readWrite", "db": job.v2.name() };
    job.v2.run(doc! { "createUser": &user, "pwd": "sesame", "roles": [role] });
    let mut url = url::Url::parse(job.v2.url()).unwrap();
    url.set_username(&user).unwrap();
    url.set_password(Some("sesame")).unwrap();
    let url = url.as_str().replace("authSource=admin", &format!("authSource={}", job.v2.name()));
    let Job { v1, v2, project } = job;
    let job = Job { v1, v2, project: project.env("V2_DATABASE_URL", &url) };
    let refused = job.migrate(&["--max-lag", "10s"], 5);
    assert!(refused.stderr.contains("clusterMonitor"), "{}", refused.stderr);
    assert_eq!(job.count("v1v2_runs"), 0);
    let role = doc! { "role": "clusterMonitor", "db": "admin" };
    job.v2.run(doc! { "grantRolesToUser": &user, "roles": [role] });
    let ended = job.migrate(&["--max-lag", "10s"], 0);
    assert!(ended.stderr.contains("has no replica"), "{}", ended.stderr);
    job.v2.run(doc! { "dropUser": &user });
}

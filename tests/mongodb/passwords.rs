//! Passwords: generated ones open the accounts, kept ones are untouched, and none means locked.

use mongodb::bson::doc;

use super::{Job, at, text};
use crate::support::sample;

#[test]
fn generated_passwords_are_handed_out_and_open_the_accounts() {
    let job = Job::new(100, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    let hashed = doc! {
        "passwordHash": { "$regex": "^\\$argon2id\\$v=19\\$" }, "mustChangePassword": true, "status": "ACTIVE",
    };
    assert_eq!(job.v2.count("users", hashed), job.count("users"));
    job.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    let (listed, email, password) = job.project.handed_out("list.csv");
    let (email, password) = (email.as_str(), password.as_str());
    assert_eq!(listed, job.count("users"));
    assert_eq!(password.len(), 12);
    let login = |email: &str, password: &str| {
        job.project.run_with_input(&["users", "verify-login", email], &format!("{password}\n"))
    };
    login(email, password).expect(0);
    login(&email.to_uppercase(), password).expect(0);
    let refused = login(email, "wrong").expect(4);
    assert!(!refused.stderr.contains(email), "{}", refused.stderr);
    login("nobody@nowhere.example", password).expect(4);
    // Neither a password nor the key is in V2.
    let key = job.project.read("v1v2.key");
    for secret in [password, key.trim().rsplit(':').next().unwrap()] {
        for collection in job.v2.collections() {
            for document in job.v2.find(&collection, doc! {}) {
                assert!(!document.to_string().contains(secret), "{collection}");
            }
        }
    }
    // Somebody who has chosen a password is not on the list any more.
    assert_eq!(
        job.update("users", doc! { "email": email }, doc! { "$set": { "mustChangePassword": false } }),
        1
    );
    job.run(&["credentials", "export", "--plain", "--per-scope", "lists"]).expect(0);
    let folder = std::fs::read_dir(job.project.path().join("lists")).unwrap();
    let lists: Vec<String> =
        folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(lists.len() as u64 >= job.count("schools"), "{} files", lists.len());
    assert!(lists.iter().all(|list| !list.contains(email)));
    let listed: usize = lists.iter().map(|list| list.lines().count() - 1).sum();
    assert_eq!(listed as u64, job.count("users") - 1);
}

#[test]
fn kept_hashes_are_untouched_and_unknown_ones_lock() {
    let job = Job::new(200, &[]);
    let odd = sample::a_password_in_plain_sight(&job.v1);
    job.migrate(&["--passwords", "keep"], 0);
    let v1 = job.v1.rows("select id, password from \"Student\" where password is not null");
    assert!(!v1.is_empty());
    for row in v1 {
        let [Some(key), Some(password)] = &row[..] else { panic!("{row:?}") };
        let account = job.v2.one("users", doc! { "_id": job.line("students", key).get("accountId") });
        assert_eq!(at(&account, "passwordHash"), *password);
    }
    let locked = job.v2.one("users", doc! { "_id": job.line("teachers", &odd).get("accountId") });
    assert_eq!(text(locked.get("status")), "LOCKED");
    assert!(!locked.contains_key("passwordHash"), "absent, not null");
    assert_eq!(job.v2.count("v1v2_conflicts", doc! { "_id.kind": "password_unknown" }), 1);
}

#[test]
fn without_passwords_everybody_is_locked() {
    let job = Job::new(60, &[]);
    job.migrate(&["--passwords", "none"], 0);
    let locked = doc! { "passwordHash": { "$exists": false }, "status": "LOCKED" };
    assert_eq!(job.v2.count("users", locked), job.count("users"));
    let email = at(&job.v2.find("users", doc! {})[0], "email");
    job.project.run_with_input(&["users", "verify-login", &email], "anything\n").expect(4);
}

#[test]
fn another_key_is_refused() {
    let job = Job::new(100, &[]);
    job.migrate(&["--passwords", "generate", "--entities", "schools"], 0);
    std::fs::remove_file(job.project.path().join("v1v2.key")).unwrap();
    let refused = job.migrate(&["--passwords", "generate"], 5);
    assert!(refused.stderr.contains("key file"), "{}", refused.stderr);
    assert_eq!(job.count("teachers"), 0);
    assert_eq!(job.count("v1v2_lock"), 0);
}

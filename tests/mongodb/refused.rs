//! What V2 refuses costs only the rows that it refuses.

use mongodb::bson::{Bson, DateTime, doc};

use super::{Job, text};

/// Adds a rule to the students' validator, as an application's own schema may have them.
fn refuse(job: &Job, numbers: &[String]) {
    let collections = job.v2.run(doc! { "listCollections": 1, "filter": { "name": "students" } });
    let found = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].clone();
    let options = found.as_document().unwrap().get_document("options").unwrap();
    let mut validator = options.get_document("validator").unwrap().clone();
    validator.insert("admissionNo", doc! { "$nin": numbers });
    job.v2.run(doc! { "collMod": "students", "validator": validator });
}

/// The admission numbers of some rows.
fn numbers(job: &Job, keys: &[String]) -> Vec<String> {
    let list = keys.join("', '");
    let rows = job.v1.rows(&format!("select \"admissionNo\" from \"Student\" where id in ('{list}')"));
    rows.into_iter().map(|mut row| row[0].take().unwrap()).collect()
}

/// V1's rows are what they were, and the definition is the one by which they were tried: only the log tells.
#[test]
fn changes_by_an_edited_definition_that_v2_refuses_are_tried_again_by_every_run() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let keys = job.keys("Parent");
    let name = job.v1.one(&format!("select name from \"Parent\" where id = '{}'", keys[3]));
    let refuse = |names: &[&str]| {
        let collections = job.v2.run(doc! { "listCollections": 1, "filter": { "name": "parents" } });
        let found = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].clone();
        let options = found.as_document().unwrap().get_document("options").unwrap();
        let mut validator = options.get_document("validator").unwrap().clone();
        validator.insert("occupation", doc! { "$nin": names });
        job.v2.run(doc! { "collMod": "parents", "validator": validator });
    };
    refuse(&[&name]);
    // The query stays, and so do the hashes of V1's rows.
    job.project.redefine("parents", |definition| {
        let (postgres, mongodb) = definition.split_once("[[mongodb]]").unwrap();
        format!(
            "{postgres}[[mongodb]]{}",
            mongodb.replace("occupation = \"occupation\"", "occupation = \"name\"")
        )
    });
    let mine = ["--migrators", "mine"];
    let told = job.migrate(&[&mine[..], &["--accept-changes"]].concat(), 3);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    let refused = || {
        let log = job.v2.find("v1v2_conflicts", doc! { "_id.kind": "change_refused" });
        log.iter().map(|of| text(of.get_document("_id").unwrap().get("k"))).collect::<Vec<_>>()
    };
    assert_eq!(refused(), [keys[3].clone()]);
    for _ in 0..2 {
        let told = job.migrate(&mine, 3);
        assert!(!told.stderr.contains("was edited"), "{}", told.stderr);
        assert!(told.stdout.contains("parents: 1 rows have changed"), "{}", told.stdout);
        assert_eq!(refused(), [keys[3].clone()]);
    }
    refuse(&[]);
    job.migrate(&[&mine[..], &["--accept-changes"]].concat(), 0);
    assert!(refused().is_empty());
    let target = job.line("parents", &keys[3]).get("targetId").unwrap().clone();
    assert_eq!(text(job.v2.one("parents", doc! { "_id": target }).get("occupation")), name);
    let told = job.migrate(&mine, 0);
    assert!(!told.stdout.contains("have changed"), "{}", told.stdout);
}

#[test]
fn many_documents_that_a_validator_refuses() {
    let job = Job::new(1_000, &[]);
    let keys = job.keys("Student");
    // Some that stand together, some alone, the first and the last of the only chunk.
    let mut bad: Vec<String> = keys.iter().step_by(17).take(30).cloned().collect();
    bad.extend(keys[100..140].iter().cloned());
    bad.push(keys.last().unwrap().clone());
    bad.sort();
    bad.dedup();
    assert!(bad.len() > 60);
    refuse(&job, &numbers(&job, &bad));
    let dry = job.run(&["migrate", "--dry-run"]).expect(3);
    assert!(dry.stdout.contains("database-121"), "{}", dry.stdout);
    job.migrate(&[], 3);
    let expected: Vec<String> = bad.iter().map(|key| format!("students {key} database-121")).collect();
    assert_eq!(job.rejected(), expected);
    assert_eq!(job.count("students"), (keys.len() - bad.len()) as u64);
    let numbers = numbers(&job, &bad);
    for key in &bad {
        let line = job.line("students", key);
        let reason = text(line.get("reason"));
        assert!(reason.starts_with("students: ") && reason.contains("validator"), "{reason}");
        assert!(!numbers.iter().any(|number| reason.contains(number)), "{reason}");
        assert!(line.get("sourceRow").is_some() && line.get("targetId").is_none(), "{line}");
    }
    // Somebody who was rejected has no account, either: all or nothing.
    let lines = job.v2.find("v1v2_ledger", doc! { "accountId": { "$exists": true } });
    let accounts: Vec<&Bson> = lines.iter().filter_map(|line| line.get("accountId")).collect();
    assert!(job.v2.find("users", doc! {}).iter().all(|user| accounts.contains(&user.get("_id").unwrap())));
    job.run(&["validate", "--compare-counts"]).expect(0);
    refuse(&job, &[]);
    job.migrate(&["--retry-rejected", "--accept-changes"], 0);
    assert_eq!(job.count("students"), keys.len() as u64);
}

#[test]
fn a_value_that_somebody_elses_document_has() {
    let job = Job::new(300, &[]);
    job.migrate(&["--entities", "schools"], 0);
    let key = job.keys("Teacher")[3].clone();
    let number = job.v1.one(&format!("select \"employeeNo\" from \"Teacher\" where id = '{key}'"));
    let school = job.v1.one(&format!("select \"schoolId\" from \"Teacher\" where id = '{key}'"));
    let theirs = doc! {
        "_id": mongodb::bson::Uuid::new(), "userId": mongodb::bson::Uuid::new(),
        "schoolId": job.line("schools", &school).get("targetId"), "employment": { "number": &number }, "subjectIds": [],
        "createdAt": DateTime::now(), "updatedAt": DateTime::now(),
    };
    job.v2.insert("teachers", theirs.clone()).unwrap();
    job.migrate(&["--skip-validation"], 3);
    assert_eq!(job.rejected(), [format!("teachers {key} database-11000")]);
    let reason = text(job.line("teachers", &key).get("reason"));
    assert!(reason.contains("teachers_schoolId_number_key") && !reason.contains(&number), "{reason}");
    assert_eq!(job.v2.one("teachers", doc! { "_id": theirs.get("_id") }), theirs);
    assert_eq!(job.count("teachers"), job.v1.count("\"Teacher\""));
    // It is gone: the row can come.
    assert_eq!(job.remove("teachers", doc! { "_id": theirs.get("_id") }), 1);
    job.migrate(&["--retry-rejected"], 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn of_rows_that_share_what_is_unique_in_v2_the_first_stays() {
    for bulk in [false, true] {
        let job = Job::new(300, &[]);
        let job = if bulk { job.in_bulk() } else { job };
        job.v1.execute("drop index \"Student_admissionNo_key\"; drop index \"Teacher_employeeNo_key\"");
        let (students, teachers) = (job.keys("Student"), job.keys("Teacher"));
        let same = |table: &str, column: &str, keys: &[String]| {
            job.v1.execute(&format!(
                "update \"{table}\" set \"{column}\" = 'SAME', \"schoolId\" = (select min(id) from \"School\") where id in ('{}')",
                keys.join("', '")
            ));
        };
        same("Student", "admissionNo", &students[30..33]);
        same("Teacher", "employeeNo", &teachers[2..4]);
        job.migrate(&["--batch-size", "1", "--writers", "4"], 3);
        assert_eq!(
            job.rejected(),
            [
                format!("students {} duplicate-value", students[31]),
                format!("students {} duplicate-value", students[32]),
                format!("teachers {} duplicate-value", teachers[3]),
            ]
        );
    }
}

#[test]
fn an_index_that_cannot_come_back_is_reported_and_repaired() {
    let job = Job::new(200, &[]).in_bulk();
    let index =
        doc! { "name": "one_of_each_name", "key": { "name.first": 1, "name.last": 1 }, "unique": true };
    job.v2.run(doc! { "createIndexes": "users", "indexes": [index] });
    let structure = job.structure();
    // One person's name, in two accounts.
    let keys = job.keys("Student");
    job.v1.execute(&format!(
        "update \"Student\" set name = 'Aaron Twice', email = null where id in ('{}', '{}')",
        keys[4], keys[60]
    ));
    job.v1.execute(
        "update \"Student\" s set name = s.name || ' N' || n.no from \
         (select id, row_number() over (order by id) as no from \"Student\") n where n.id = s.id and name <> 'Aaron Twice'",
    );
    job.v1.execute(
        "update \"Parent\" s set name = s.name || ' P' || n.no from \
         (select id, row_number() over (order by id) as no from \"Parent\") n where n.id = s.id",
    );
    let failed = job.migrate(&[], 1);
    let accounts = job.v2.find("users", doc! { "name.last": "Twice" });
    let ids: Vec<String> = accounts.iter().map(|of| text(of.get("_id"))).collect();
    assert_eq!(ids.len(), 2);
    for word in ["one_of_each_name", "v1v2 repair", &ids[0], &ids[1]] {
        assert!(failed.stderr.contains(word), "{word}: {}", failed.stderr);
    }
    assert!(!failed.stderr.contains("Twice"), "{}", failed.stderr);
    assert_eq!(job.count("students"), keys.len() as u64, "nothing was dropped for it");
    let status = job.run(&["status"]).expect(0);
    assert!(status.stdout.contains("one_of_each_name"), "{}", status.stdout);
    job.run(&["validate"]).expect(4);
    job.run(&["repair"]).expect(1);
    assert_eq!(
        job.update("users", doc! { "_id": accounts[0].get("_id") }, doc! { "$set": { "name.last": "Once" } }),
        1
    );
    job.run(&["repair"]).expect(0);
    assert_eq!(job.structure(), structure);
    assert_eq!(job.count("v1v2_dropped"), 0);
    job.migrate(&[], 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

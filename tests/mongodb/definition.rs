//! Definitions that are edited between runs.

use mongodb::bson::doc;

use super::{Job, at, text};

#[test]
fn an_edited_definition_is_an_edit_of_all_its_rows() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let before = job.whole();
    job.project.redefine("parents", |definition| {
        assert!(definition.contains("p.occupation"));
        // A field gets another name, too: the old one goes from documents that nobody has edited.
        let (postgres, mongodb) = definition.split_once("[[mongodb]]").unwrap();
        let mongodb = mongodb.replace("\noccupation = ", "\n\"work.job\" = ");
        format!("{postgres}[[mongodb]]{mongodb}").replace("p.occupation", "upper(p.occupation) as occupation")
    });
    let mine = job.project.path().join("mine");
    let migrate = ["migrate", "--force", "--migrators", mine.to_str().unwrap()];
    let told = job.run(&migrate).expect(0);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    let parents = job.v2.find("parents", doc! {});
    let rows =
        job.v1.rows("select upper(occupation) from \"Parent\" where occupation is not null order by 1");
    let mut expected: Vec<String> = rows.into_iter().map(|mut row| row[0].take().unwrap()).collect();
    let mut found: Vec<String> =
        parents.iter().map(|of| at(of, "work.job")).filter(|job| !job.is_empty()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let again = job.run(&migrate).expect(0);
    assert!(
        !again.stderr.contains("was edited") && !again.stdout.contains("have changed"),
        "{}",
        again.stdout
    );
    job.project.roll_back_next(&[]);
    assert_eq!(job.whole(), before);
}

#[test]
fn what_a_rollback_took_back_comes_again_by_the_edited_definition() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let (before, facts) = (job.whole(), job.v2.find("v1v2_meta", doc! {}));
    job.project.redefine("parents", |definition| definition.replace("\noccupation = ", "\n\"work.job\" = "));
    let mine = job.project.path().join("mine");
    let mine = ["--migrators", mine.to_str().unwrap()];
    job.migrate(&mine, 0);
    let edited = job.result();
    assert_ne!(edited["parents"], before.0["parents"]);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!((job.whole(), job.v2.find("v1v2_meta", doc! {})), (before.clone(), facts));
    // By the definition of before there is nothing to do,
    let told = job.migrate(&[], 0);
    assert!(!told.stderr.contains("was edited"), "{}", told.stderr);
    assert_eq!(job.whole(), before);
    // by the edited one the same as before the rollback, even if a rollback was killed in between.
    let migrate = ["migrate", "--force", mine[0], mine[1]];
    let told = job.run(&migrate).expect(0);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    assert_eq!(job.result(), edited);
    #[cfg(feature = "failpoints")]
    {
        let killed = job.project.run_with(&["rollback", "--force"], "FAILPOINT", "mongodb.restored@1:abort");
        assert_eq!(killed.signal(), Some(9), "{}", killed.stderr);
        job.run(&migrate).expect(0);
        assert_eq!(job.result(), edited);
    }
}

/// Claims tell who shares an email or a phone with whom; another region of phone numbers makes other claims.
#[test]
fn claims_of_other_rules_do_not_come_back_with_a_rollback() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.v1.execute("update \"Parent\" set address = '1 New Road, Ikeja, Lagos'");
    job.migrate(&[], 0);
    let changed = text(job.v2.one("v1v2_runs", doc! { "no": 2 }).get("_id"));
    let claims = || job.v2.count("v1v2_ledger", doc! { "_id.e": "parents", "claims": { "$exists": true } });
    assert_ne!(claims(), 0);
    job.project.redefine("accounts", |definition| {
        assert!(definition.contains("phone_region = \"NG\""));
        definition.replace("phone_region = \"NG\"", "phone_region = \"GH\"")
    });
    let mine = job.project.path().join("mine");
    job.migrate(&["--entities", "teachers", "--migrators", mine.to_str().unwrap()], 0);
    assert_eq!(claims(), 0);
    job.run(&["rollback", "--force", "--run", &changed]).expect(0);
    assert_eq!(claims(), 0);
}

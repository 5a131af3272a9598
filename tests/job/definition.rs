//! Definitions that are edited between runs.

use super::Job;

/// The built-in definitions with other parents, who come by the query of before; what `migrate` needs to use them.
fn other_parents(job: &Job) -> [String; 2] {
    job.project.redefine("parents", |definition| {
        assert!(definition.contains("occupation = \"occupation\""));
        definition.replace("occupation = \"occupation\"", "occupation = \"phone\"")
    });
    ["--migrators".to_owned(), job.project.path().join("mine").to_str().unwrap().to_owned()]
}

#[test]
fn an_edited_definition_is_an_edit_of_all_its_rows() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.project.redefine("parents", |definition| {
        assert!(definition.contains("p.occupation"));
        definition.replace("p.occupation", "upper(p.occupation) as occupation")
    });
    let mine = job.project.path().join("mine");
    let told = job.run(&["migrate", "--force", "--migrators", mine.to_str().unwrap()]).expect(0);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    assert!(told.stderr.contains("(changed: the query): all of them"), "{}", told.stderr);
    assert_eq!(job.v2.one("select count(*) from \"Parent\" where occupation <> upper(occupation)"), "0");
    let again = job.run(&["migrate", "--force", "--migrators", mine.to_str().unwrap()]).expect(0);
    assert!(
        !again.stderr.contains("was edited") && !again.stdout.contains("have changed"),
        "{}",
        again.stdout
    );
}

#[test]
fn what_a_rollback_took_back_comes_again_by_the_edited_definition() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let before = job.content();
    let mine = other_parents(&job);
    let mine = [&*mine[0], &*mine[1]];
    job.migrate(&mine, 0);
    let edited = job.result();
    assert_ne!(edited["public.Parent"], before["public.Parent"]);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.content(), before);
    // By the definition of before there is nothing to do,
    let told = job.migrate(&[], 0);
    assert!(!told.stderr.contains("was edited"), "{}", told.stderr);
    assert_eq!(job.content(), before);
    // by the edited one the same as before the rollback.
    let told = job.migrate(&mine, 0);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    assert_eq!(job.result(), edited);
}

/// A rollback that was killed half-way leaves rows of both definitions.
#[cfg(feature = "failpoints")]
#[test]
fn an_interrupted_rollback_leaves_rows_that_either_definition_changes() {
    for last in ["edited", "before"] {
        let job = Job::new(200, &[]);
        job.migrate(&[], 0);
        let before = job.result();
        let mine = other_parents(&job);
        let mine = [&*mine[0], &*mine[1]];
        job.migrate(&mine, 0);
        let edited = job.result();
        let killed = job.project.run_with(&["rollback", "--force"], "FAILPOINT", "postgres.restored@1:abort");
        assert_eq!(killed.signal(), Some(9), "{}", killed.stderr);
        let (more, goal) = if last == "edited" { (&mine[..], edited) } else { (&[][..], before) };
        job.migrate(more, 0);
        assert_eq!(job.result(), goal, "{last}");
    }
}

/// Claims tell who shares an email or a phone with whom; another region of phone numbers makes other claims.
#[test]
fn claims_of_other_rules_do_not_come_back_with_a_rollback() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.v1.execute("update \"Parent\" set address = '1 New Road, Ikeja, Lagos'");
    job.migrate(&[], 0);
    let changed = job.v2.one("select id::text from v1v2.runs order by no desc limit 1");
    let claims = || job.v2.one("select count(claims) from v1v2.ledger where entity = 'parents'");
    assert_ne!(claims(), "0");
    job.project.redefine("accounts", |definition| {
        assert!(definition.contains("phone_region = \"NG\""));
        definition.replace("phone_region = \"NG\"", "phone_region = \"GH\"")
    });
    let mine = job.project.path().join("mine");
    job.run(&["migrate", "--force", "--entities", "teachers", "--migrators", mine.to_str().unwrap()])
        .expect(0);
    assert_eq!(claims(), "0");
    job.run(&["rollback", "--force", "--run", &changed]).expect(0);
    assert_eq!(claims(), "0");
}

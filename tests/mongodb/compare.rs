//! `validate --compare-fields`: damage behind the program's back is found and named, collection, key and field; what is the
//! application's to change is no damage. The counterpart of the test in `job/since.rs`.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};

use super::{Job, text};

const COMPARE: [&str; 3] = ["validate", "--compare-fields", "--json"];

impl Job {
    /// The differences that a comparison finds, as `entity key collection field`.
    #[track_caller]
    fn differences(&self, code: i32) -> BTreeSet<String> {
        let before = self.whole();
        let found = self.run(&COMPARE).expect(code);
        assert_eq!(self.whole(), before, "a comparison has written");
        let value = found.result("compare-fields");
        let all = value["first_differences"].as_array().unwrap();
        let line = |of: &serde_json::Value| {
            let parts =
                ["entity", "key", "table", "column"].map(|name| of[name].as_str().unwrap_or("missing"));
            parts.join(" ")
        };
        let lines: BTreeSet<String> = all.iter().map(line).collect();
        assert_eq!(lines.len(), all.len(), "each difference is told once");
        lines
    }

    /// Damages one document, whatever its validator says.
    #[track_caller]
    fn damage(&self, collection: &str, filter: Document, change: impl Into<Bson>) {
        let change = doc! { "q": filter, "u": change.into() };
        let command = doc! { "update": collection, "updates": [change], "bypassDocumentValidation": true };
        let answer = self.v2.run(command);
        assert_eq!(answer.get_i32("nModified").unwrap(), 1, "{answer}");
    }
}

/// A line of the ledger: the row's key, and the ids of its account and of its document.
struct Known {
    key: String,
    account: Document,
    target: Document,
}

impl Known {
    fn of(line: &Document) -> Self {
        let id = |field: &str| doc! { "_id": line.get(field).unwrap() };
        let key = text(line.get_document("_id").unwrap().get("k"));
        Self { key, account: id("accountId"), target: id("targetId") }
    }
}

/// The first rows of an entity with an outcome, and a document that matches.
fn known(job: &Job, entity: &str, outcome: &str, filter: Document) -> Vec<Known> {
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": entity, "outcome": outcome });
    let all = lines.iter().map(Known::of);
    let fits = |of: &Known| {
        let mut filter = filter.clone();
        filter.extend(of.target.clone());
        job.v2.count(entity, filter) == 1
    };
    all.filter(fits).take(8).collect()
}

#[test]
fn fields_of_v2_that_are_not_what_v1_says_are_found_with_their_keys() {
    let job = Job::new(800, &["--orphans"]);
    job.migrate(&["--passwords", "generate", "--batch-size", "50"], 3);
    let good = job.run(&["validate", "--compare-fields"]).expect(0);
    assert!(good.stdout.contains("as they would be migrated now, field by field"), "{}", good.stdout);

    let teachers = known(&job, "teachers", "m", doc! { "qualification": { "$type": "string" } });
    let parents = known(&job, "parents", "g", doc! {});
    let guarded = known(&job, "students", "m", doc! { "guardians.1": { "$exists": true } });

    // What is the application's own, or its to change.
    let own = doc! {
        "passwordHash": "x", "mustChangePassword": false, "status": "LOCKED", "theirs": { "own": 1 },
        "name.own": true, "roles.0.own": true, "roles.0.assignedAt": mongodb::bson::DateTime::MIN,
    };
    job.damage("users", teachers[0].account.clone(), doc! { "$set": own });
    let role = doc! { "$position": 0, "$each": [{ "role": "OWN" }] };
    job.damage("users", parents[0].account.clone(), doc! { "$push": { "roles": role } });
    job.damage("students", guarded[0].target.clone(), doc! { "$set": { "guardians.0.own": 1, "own": 1 } });
    assert_eq!(job.differences(0), BTreeSet::new());

    let mut expected = BTreeSet::new();
    let mut damage =
        |(entity, key): (&str, &str), collection: &str, of: &Document, field: &str, change: Bson| {
            job.damage(collection, of.clone(), change);
            expected.insert(format!("{entity} {key} {collection} {field}"));
        };
    let set = |field: &str, value: Bson| Bson::Document(doc! { "$set": { field: value } });
    let nobody = Bson::from(mongodb::bson::Uuid::new());

    // Plain and nested fields: another value, none, another type, a field where a document was.
    let [one, two, three, four, five] =
        [1, 2, 3, 4, 5].map(|at| (("teachers", &*teachers[at].key), &teachers[at]));
    let date = Bson::DateTime(mongodb::bson::DateTime::MIN);
    damage(one.0, "teachers", &one.1.target, "employment.hiredAt", set("employment.hiredAt", date));
    damage(one.0, "users", &one.1.account, "name.last", set("name.last", Bson::String("CANARY".into())));
    damage(
        two.0,
        "teachers",
        &two.1.target,
        "qualification",
        doc! { "$unset": { "qualification": 1 } }.into(),
    );
    damage(three.0, "teachers", &three.1.target, "qualification", set("qualification", Bson::Int32(7)));
    damage(four.0, "teachers", &four.1.target, "employment", set("employment", Bson::Boolean(true)));
    damage(five.0, "teachers", &five.1.target, "subjectIds", set("subjectIds", vec![nobody.clone()].into()));
    // Somebody else's account, once its own document is gone.
    let other = teachers[6].account.get("_id").unwrap().clone();
    job.remove("teachers", teachers[6].target.clone());
    damage(three.0, "teachers", &three.1.target, "userId", set("userId", other));

    // Elements of an embedded array.
    let [one, two, three, four] = [1, 2, 3, 4].map(|at| (("students", &*guarded[at].key), &guarded[at]));
    damage(
        one.0,
        "students",
        &one.1.target,
        "guardians.relation",
        set("guardians.1.relation", Bson::String("MOTHER".into())),
    );
    damage(two.0, "students", &two.1.target, "guardians.id", set("guardians.0.id", nobody.clone()));
    damage(three.0, "students", &three.1.target, "guardians", doc! { "$pop": { "guardians": 1 } }.into());
    damage(four.0, "students", &four.1.target, "guardians", set("guardians.0", Bson::String("x".into())));

    // Roles: of the row that joined an account, which does not tell about the rest of it, and of the one that created it.
    let [one, two] = [1, 2].map(|at| (("parents", &*parents[at].key), &parents[at]));
    let line = |of: &Known| job.v2.one("users", of.account.clone()).get_array("roles").unwrap().clone();
    let at = |of: &Known| {
        let is = |role: &Bson| text(role.as_document().unwrap().get("role")) == "PARENT";
        line(of).iter().position(is).unwrap()
    };
    let field = format!("roles.{}.schoolId", at(one.1));
    damage(one.0, "users", &one.1.account, "roles.schoolId", set(&field, nobody.clone()));
    let pull = doc! { "$pull": { "roles": { "role": "PARENT" } } };
    damage(two.0, "users", &two.1.account, "roles", pull.into());
    damage(
        ("students", &guarded[5].key),
        "users",
        &guarded[5].account,
        "roles.role",
        set("roles.0.role", Bson::String("OWN".into())),
    );

    // What is not there any more.
    expected.insert(format!("teachers {} teachers missing", teachers[6].key));
    assert_eq!(job.remove("users", teachers[7].account.clone()), 1);
    expected.insert(format!("teachers {} users missing", teachers[7].key));
    assert_eq!(job.differences(4), expected);
    let told = job.run(&COMPARE[..2]).expect(4);
    assert!(!told.stdout.contains("CANARY") && !told.stderr.contains("CANARY"), "{}", told.stderr);

    // What V1 has changed since differs as well.
    let key = &teachers[0].key;
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'New', phone = null where id = '{key}'"));
    expected.insert(format!("teachers {key} teachers qualification"));
    let now = job.differences(4);
    assert!(now.is_superset(&expected), "{now:?}");
    let more: Vec<&String> = now.difference(&expected).collect();
    assert!(more.iter().all(|line| line.starts_with(&format!("teachers {key} users "))), "{more:?}");
    let found = job.run(&COMPARE[..2]).expect(4);
    assert!(found.stdout.contains("teachers teachers: qualification"), "{}", found.stdout);
}

#[test]
fn documents_of_which_a_row_or_an_account_has_several() {
    let job = Job::new(200, &[]);
    let job = Job { project: job.project.env("V1V2_MIGRATORS_DIR", "mine"), ..job };
    let mine = |name: &str, more: &str| {
        job.project.redefine(name, |definition| format!("{definition}{more}"));
    };
    mine(
        "teachers",
        "\n[[mongodb]]\ncollection = \"lessons\"\neach = \"subject_codes\"\n[mongodb.fields]\n\
         _id = { id = \"lesson\" }\nteacherId = { id = true }\nsubject = { each = \"subject_codes\" }\n\
         since = { now = true }\n",
    );
    mine(
        "accounts",
        "\n[[mongodb]]\ncollection = \"grants\"\nper = \"role\"\n[mongodb.fields]\n_id = { id = \"grant\" }\n\
         userId = { account = \"id\" }\nrole = { account = \"role\" }\nsince = { now = true }\n",
    );
    job.v2.run(doc! { "create": "lessons" });
    job.v2.run(doc! { "create": "grants" });
    job.migrate(&[], 0);
    assert_eq!(job.differences(0), BTreeSet::new());
    let lessons = |of: &Known| job.v2.find("lessons", doc! { "teacherId": of.target.get("_id") });
    let all = known(&job, "teachers", "m", doc! {});
    let [one, two, three] =
        [0, 1, 2].map(|at| all.iter().filter(|of| !lessons(of).is_empty()).nth(at).unwrap());
    let id = |lesson: &Document| doc! { "_id": lesson.get("_id").unwrap() };
    let now = mongodb::bson::DateTime::MIN;
    job.damage("lessons", id(&lessons(one)[0]), doc! { "$set": { "subject": "X", "since": now, "own": 1 } });
    assert_eq!(job.remove("lessons", id(&lessons(two)[0])), 1);
    let mut copy = lessons(three)[0].clone();
    copy.insert("_id", mongodb::bson::Uuid::new());
    job.v2.insert("lessons", copy).unwrap();
    job.damage(
        "grants",
        doc! { "userId": one.account.get("_id") },
        doc! { "$set": { "role": "X", "since": now } },
    );
    let line =
        |of: &Known, collection: &str, field: &str| format!("teachers {} {collection} {field}", of.key);
    let expected = [
        line(one, "grants", "role"),
        line(one, "lessons", "subject"),
        line(two, "lessons", "missing"),
        line(three, "lessons", "(a document of this key too many)"),
    ];
    assert_eq!(job.differences(4), expected.into_iter().collect());
}

//! Changed rows whose records are not one document each: roles inside and outside of accounts, documents of which a row has several.

use super::*;

#[test]
fn a_role_belongs_to_its_own_row_alone() {
    let job = Job::new(800, &[]);
    job.migrate(&[], 0);
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "outcome": "g" });
    let key = |line: &Document| text(line.get_document("_id").unwrap().get("k"));
    let account = |line: &Document| line.get("accountId").unwrap().clone();
    let users: Vec<Document> = lines[..3].iter().map(|line| by_id(&job, "users", &account(line))).collect();
    // One role was edited, in one account the other row's role, and one account has a role of somebody else's.
    edit(&job, "users", &account(&lines[0]), doc! { "roles.1.theirs": true });
    edit(&job, "users", &account(&lines[1]), doc! { "roles.0.theirs": true });
    let extra = a_role(&job);
    job.update(
        "users",
        doc! { "_id": account(&lines[2]) },
        doc! { "$push": { "roles": { "$each": [extra.clone()], "$position": 0 } } },
    );
    let before = job.whole();
    for line in &lines[..3] {
        job.v1.execute(&format!(
            "update \"Parent\" set \"schoolId\" = (select id from \"School\" where id <> \"schoolId\"), \
             phone = '+2348031234567', address = 'X' where id = '{}'",
            key(line)
        ));
    }
    job.migrate(&[], 0);
    let now: Vec<Document> = lines[..3].iter().map(|line| by_id(&job, "users", &account(line))).collect();
    let roles = |user: &Document| user.get_array("roles").unwrap().clone();
    let role = |user: &Document, at: usize| roles(user)[at].as_document().unwrap().clone();
    let school = |user: &Document, at: usize| role(user, at).get("schoolId").cloned();
    assert_eq!(school(&now[0], 1), school(&users[0], 1), "an edited role stays");
    assert_eq!(job.conflicts("edited_in_v2").len(), 1);
    assert_eq!(job.conflicts("edited_in_v2")[0][3], "users.roles");
    assert_ne!(school(&now[1], 1), school(&users[1], 1));
    assert!(role(&now[1], 0).get_bool("theirs").unwrap());
    assert_eq!(role(&now[2], 0), extra);
    assert_ne!(school(&now[2], 2), school(&users[2], 1));
    for (now, before) in now.iter().zip(&users) {
        // Who joined an account has no say in its contact details, and the role is as old as it was.
        let but_roles = |of: &Document| {
            of.iter().filter(|(name, _)| *name != "roles").map(|(_, v)| v.clone()).collect::<Vec<_>>()
        };
        assert_eq!(but_roles(now), but_roles(before));
    }
    assert_eq!(role(&now[1], 1).get("assignedAt"), role(&users[1], 1).get("assignedAt"));
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
}

#[test]
fn documents_of_which_a_row_has_several() {
    let job = Job::new(200, &[]);
    let job = Job { project: job.project.env("V1V2_MIGRATORS_DIR", "mine"), ..job };
    let each = "\n[[mongodb]]\ncollection = \"lessons\"\neach = \"subject_codes\"\n[mongodb.fields]\n\
                _id = { id = \"lesson\" }\nteacherId = { id = true }\nsubject = { each = \"subject_codes\" }\n";
    job.project.redefine("teachers", |definition| format!("{definition}{each}"));
    job.v2.run(doc! { "create": "lessons" });
    let empty = job.whole();
    job.migrate(&[], 0);
    let before = job.whole();
    let lessons = job.count("lessons");
    let of_teacher = |line: &Document| job.v2.count("lessons", doc! { "teacherId": line.get("targetId") });
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": "teachers" });
    let keys: Vec<String> = lines
        .iter()
        .filter(|line| of_teacher(line) > 0)
        .map(|line| text(line.get_document("_id").unwrap().get("k")))
        .collect();
    // One has a subject less, one has others, one's were edited, one is gone.
    job.v1.execute(&format!(
        "delete from \"_SubjectToTeacher\" where \"B\" in ('{0}', '{1}', '{2}', '{3}'); \
         insert into \"_SubjectToTeacher\" (\"A\", \"B\") select id, '{0}' from \"Subject\" order by id desc limit 1; \
         insert into \"_SubjectToTeacher\" (\"A\", \"B\") select id, t from unnest('{{{1},{2}}}'::text[]) t, \
           (select id from \"Subject\" order by id desc limit 4) s; \
         delete from \"Teacher\" where id = '{3}'",
        keys[0], keys[1], keys[2], keys[3]
    ));
    let of = |key: &str| job.line("teachers", key).get("targetId").unwrap().clone();
    let count = |id: &Bson| job.v2.count("lessons", doc! { "teacherId": id });
    let ids: Vec<Bson> = keys[..4].iter().map(|key| of(key)).collect();
    let had: Vec<u64> = ids.iter().map(&count).collect();
    assert!(job.update("lessons", doc! { "teacherId": &ids[2] }, doc! { "$set": { "edited": true } }) > 0);
    let edited = job.whole();
    job.migrate(&["--prune"], 0);
    assert_eq!(ids.iter().map(&count).collect::<Vec<_>>(), [1, 4, had[2], 0]);
    assert_eq!(job.conflicts("edited_in_v2")[0][3], "lessons");
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), edited);
    job.migrate(&["--prune", "--on-edited", "overwrite"], 0);
    assert_eq!(ids.iter().map(&count).collect::<Vec<_>>(), [1, 4, 4, 0]);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), edited);
    assert_eq!((job.count("lessons"), before == edited), (lessons, false));
    // What was edited stays, with its account; all the others go.
    job.project.roll_back_next(&[]);
    assert_eq!(job.count("lessons"), had[2]);
    assert_eq!(job.remove("lessons", doc! {}) as u64, had[2]);
    assert_eq!(job.count("teachers") + job.count("v1v2_ledger"), 0);
    let (mut content, structure) = job.whole();
    content.insert("users".to_owned(), empty.0["users"].clone());
    assert_eq!((content, structure), empty);
}

#[test]
fn roles_in_a_collection_of_their_own() {
    let job = Job::new(800, &[]);
    let job = Job { project: job.project.env("V1V2_MIGRATORS_DIR", "mine"), ..job };
    let role = "\n[[mongodb]]\ncollection = \"grants\"\nper = \"role\"\n[mongodb.fields]\n\
                _id = { id = \"grant\" }\nuserId = { account = \"id\" }\nrole = { account = \"role\" }\n\
                schoolId = { account = \"scope\" }\nsince = { now = true }\n";
    job.project.redefine("accounts", |definition| format!("{definition}{role}"));
    job.v2.run(doc! { "create": "grants" });
    let empty = job.whole();
    job.migrate(&[], 0);
    let before = job.whole();
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "outcome": "g" });
    let key = |line: &Document| text(line.get_document("_id").unwrap().get("k"));
    let grants = |line: &Document| job.v2.find("grants", doc! { "userId": line.get("accountId") });
    let (first, second) = (grants(&lines[0]), grants(&lines[1]));
    assert_eq!((first.len(), second.len()), (2, 2));
    job.v1.execute(&format!(
        "update \"Parent\" set \"schoolId\" = (select id from \"School\" where id <> \"schoolId\") where id = '{}'; \
         delete from \"_ParentToStudent\" where \"A\" = '{1}'; delete from \"Parent\" where id = '{1}'",
        key(&lines[0]), key(&lines[1])
    ));
    job.migrate(&["--prune"], 0);
    let changed = grants(&lines[0]);
    let differ: Vec<usize> = (0..2).filter(|&at| first[at] != changed[at]).collect();
    assert_eq!(differ.len(), 1);
    let [old, new] = [&first, &changed].map(|of| &of[differ[0]]);
    assert_eq!((text(new.get("role")), new.get("since")), ("PARENT".to_owned(), old.get("since")));
    assert_ne!(old.get("schoolId"), new.get("schoolId"));
    let left = grants(&lines[1]);
    assert_eq!(left.iter().map(|of| text(of.get("role"))).collect::<Vec<_>>(), ["TEACHER"]);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
    job.project.roll_back_next(&[]);
    assert_eq!(job.whole(), empty);
}

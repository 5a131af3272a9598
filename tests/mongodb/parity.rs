//! The same V1 into Postgres and into MongoDB: the same people, roles, links, rejects and conflicts.
//!
//! Derived ids are the same in both, so rows and documents are brought into one form (fields by dotted name, values as
//! text, reference data by its code) and compared id by id, field by field. What one side alone has shows as a difference.

mod nasty;

use std::collections::BTreeMap;

use mongodb::bson::{Bson, Document, doc};

use super::{Job, text};
use crate::support::{Database, Project};

/// Fields of one person or record by dotted name; what has no value is not there.
type Fields = BTreeMap<String, String>;

/// By id.
type Records = BTreeMap<String, Fields>;

const TIME: &str = "'YYYY-MM-DD HH24:MI:SS.MS'";

/// A table of Postgres as documents: field and SQL expression. `~` marks times and dates.
fn table(v2: &Database, from: &str, fields: &[(&str, &str)]) -> Records {
    let expressions: Vec<String> = fields
        .iter()
        .map(|(_, sql)| match sql.strip_prefix('~') {
            Some(time) => format!("to_char({time}::timestamp, {TIME})"),
            None => format!("({sql})::text"),
        })
        .collect();
    let rows = v2.rows(&format!("select {} from {from}", expressions.join(", ")));
    rows.into_iter()
        .map(|row| {
            let named = fields.iter().map(|(name, _)| (*name).to_owned()).zip(row);
            let fields: Fields = named.filter_map(|(name, value)| Some((name, value?))).collect();
            (fields["_id"].clone(), fields)
        })
        .collect()
}

/// A collection in the same form. `codes` are reference data's codes by id.
fn collection(job: &Job, name: &str, codes: &BTreeMap<String, String>) -> Records {
    let documents = job.v2.find(name, doc! {}).into_iter().map(|document| {
        let mut fields = Fields::new();
        flatten("", &document, codes, &mut fields);
        (fields["_id"].clone(), fields)
    });
    documents.collect()
}

fn flatten(prefix: &str, document: &Document, codes: &BTreeMap<String, String>, fields: &mut Fields) {
    let known = |value: &Bson| {
        let text = text(Some(value));
        codes.get(&text).cloned().unwrap_or(text)
    };
    for (name, value) in document {
        let path = format!("{prefix}{name}");
        match value {
            Bson::Document(inner) => flatten(&format!("{path}."), inner, codes, fields),
            Bson::Array(elements) => {
                let mut texts: Vec<String> = elements
                    .iter()
                    .map(|element| match element {
                        Bson::Document(inner) => {
                            let of = |(name, value): (&String, &Bson)| match name.as_str() {
                                "assignedAt" => None,
                                _ => Some(format!("{name}={}", known(value))),
                            };
                            inner.iter().filter_map(of).collect::<Vec<_>>().join(" ")
                        }
                        other => known(other),
                    })
                    .collect();
                texts.sort();
                if !texts.is_empty() {
                    fields.insert(path, texts.join(", "));
                }
            }
            other => drop(fields.insert(path, known(other))),
        }
    }
}

fn code(table: &str, column: &str) -> String {
    format!("(select code from \"{table}\" r where r.id = t.\"{column}\")")
}

/// A list as one text, sorted.
fn list(element: &str, from: &str) -> String {
    format!("(select string_agg({element}, ', ' order by ({element}) collate \"C\") from {from})")
}

fn postgres(v2: &Database) -> BTreeMap<&'static str, Records> {
    let user_type = code("UserType", "userTypeId");
    let roles = list(
        "concat('id=', r.id, ' roleId=', o.code, ' role=', o.code, ' schoolId=' || r.\"schoolId\")",
        "\"UserRole\" r join \"Role\" o on o.id = r.\"roleId\" where r.\"userId\" = t.id",
    );
    let users = table(
        v2,
        "\"User\" t",
        &[
            ("_id", "id"),
            ("typeId", &user_type),
            ("type", &user_type),
            ("email", "email"),
            ("emailIsPlaceholder", "\"emailIsPlaceholder\""),
            ("phone", "phone"),
            ("username", "username"),
            ("passwordHash", "\"passwordHash\""),
            ("mustChangePassword", "\"mustChangePassword\""),
            ("status", "status"),
            ("name.title", "title"),
            ("name.first", "\"firstName\""),
            ("name.middle", "\"middleName\""),
            ("name.last", "\"lastName\""),
            ("name.suffix", "suffix"),
            ("contact.phone", "\"contactPhone\""),
            ("contact.phoneIsValid", "\"phoneIsValid\""),
            ("contact.phoneNeedsReview", "\"phoneNeedsReview\""),
            ("address.line1", "\"addressLine1\""),
            ("address.line2", "\"addressLine2\""),
            ("address.city", "city"),
            ("address.state", "state"),
            ("address.postalCode", "\"postalCode\""),
            ("address.country", "country"),
            ("address.raw", "\"addressRaw\""),
            ("roles", &roles),
            ("createdAt", "~\"createdAt\""),
            ("updatedAt", "~\"updatedAt\""),
        ],
    );
    let schools = table(
        v2,
        "\"School\" t",
        &[
            ("_id", "id"),
            ("code", "code"),
            ("name", "name"),
            ("curriculumId", &code("Curriculum", "curriculumId")),
            ("gradeSystemId", &code("GradeSystem", "gradeSystemId")),
            ("adminUserId", "\"adminUserId\""),
            ("contact.email", "email"),
            ("contact.phone", "phone"),
            ("address.line1", "\"addressLine1\""),
            ("address.line2", "\"addressLine2\""),
            ("address.city", "city"),
            ("address.state", "state"),
            ("address.postalCode", "\"postalCode\""),
            ("address.country", "country"),
            ("address.raw", "\"addressRaw\""),
            ("isActive", "\"isActive\""),
            ("createdAt", "~\"createdAt\""),
            ("updatedAt", "~\"updatedAt\""),
        ],
    );
    let subjects = list(
        "s.code",
        "\"TeacherSubject\" j join \"Subject\" s on s.id = j.\"subjectId\" where j.\"teacherId\" = t.id",
    );
    let teachers = table(
        v2,
        "\"Teacher\" t",
        &[
            ("_id", "id"),
            ("userId", "\"userId\""),
            ("schoolId", "\"schoolId\""),
            ("employment.number", "\"employeeNo\""),
            ("employment.hiredAt", "~\"hireDate\""),
            ("sex", "sex"),
            ("birthDate", "~\"birthDate\""),
            ("qualification", "qualification"),
            ("subjectIds", &subjects),
            ("createdAt", "~\"createdAt\""),
            ("updatedAt", "~\"updatedAt\""),
        ],
    );
    let schools_of_parent = list("j.\"schoolId\"::text", "\"ParentSchool\" j where j.\"parentId\" = t.id");
    let parents = table(
        v2,
        "\"Parent\" t",
        &[
            ("_id", "id"),
            ("userId", "\"userId\""),
            ("occupation", "occupation"),
            ("schoolIds", &schools_of_parent),
            ("createdAt", "~\"createdAt\""),
            ("updatedAt", "~\"updatedAt\""),
        ],
    );
    let guardians = list(
        "concat('id=', j.\"parentId\", ' relation=', j.relation, ' isPrimary=', j.\"isPrimary\"::text)",
        "\"StudentGuardian\" j where j.\"studentId\" = t.id",
    );
    let students = table(
        v2,
        "\"Student\" t",
        &[
            ("_id", "id"),
            ("userId", "\"userId\""),
            ("schoolId", "\"schoolId\""),
            ("admissionNo", "\"admissionNo\""),
            ("gradeLevelId", &code("GradeLevel", "gradeLevelId")),
            ("classLevelId", &code("ClassLevel", "classLevelId")),
            ("className", "\"className\""),
            ("sex", "sex"),
            ("birthDate", "~\"birthDate\""),
            ("guardians", &guardians),
            ("createdAt", "~\"createdAt\""),
            ("updatedAt", "~\"updatedAt\""),
        ],
    );
    [
        ("users", users),
        ("schools", schools),
        ("teachers", teachers),
        ("parents", parents),
        ("students", students),
    ]
    .into()
}

/// Names of tables and columns in reasons and details are each database's own.
fn in_postgres_words(text: &str) -> String {
    let words = [
        ("users.roles", "UserRole"),
        ("users", "User"),
        ("schools.contact.", "School."),
        ("schools", "School"),
        ("teachers_schoolId_number_key", "Teacher_schoolId_employeeNo_key"),
        ("students_schoolId_admissionNo_key", "Student_schoolId_admissionNo_key"),
        ("employment.number", "employeeNo"),
        ("teachers", "Teacher"),
        ("students.guardians.id", "StudentGuardian.parentId"),
        ("students", "Student"),
        ("parents.schoolIds", "ParentSchool.schoolId"),
        ("parents", "Parent"),
        ("gradeLevels", "GradeLevel"),
        ("classLevels", "ClassLevel"),
        ("curriculums", "Curriculum"),
        ("gradeSystems", "GradeSystem"),
    ];
    words.iter().fold(text.to_owned(), |text, (mongodb, postgres)| text.replace(mongodb, postgres))
}

/// What both ledgers and conflict logs say, one line each.
fn ledgers(postgres: &Database, job: &Job) -> [Vec<String>; 2] {
    let lines = postgres.rows(
        "select concat_ws(' | ', entity, key, left(outcome, 1), code, reason, account_id, target_id, \
         replace(source_hash::text, '-', ''), source_row) \
         from (select entity, key, outcome::text, code, reason, account_id, target_id, source_hash, source_row from v1v2.ledger) l \
         union all select concat_ws(' | ', 'conflict', entity, key, kind, decision, other_entity, nullif(other_key, ''), detail) \
         from v1v2.conflicts",
    );
    let mut theirs: Vec<String> =
        lines.into_iter().map(|mut row| in_postgres_words(&row[0].take().unwrap())).collect();
    let join = |parts: Vec<String>| {
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        in_postgres_words(&parts.join(" | "))
    };
    let mut ours = Vec::new();
    for line in job.v2.find("v1v2_ledger", doc! {}) {
        let id = line.get_document("_id").unwrap();
        let Some(Bson::Binary(hash)) = line.get("sourceHash") else { panic!("{line}") };
        let hash: String = hash.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut parts: Vec<String> = ["e", "k"].iter().map(|part| text(id.get(part))).collect();
        let fields = ["outcome", "code", "reason", "accountId", "targetId"];
        parts.extend(fields.iter().map(|field| text(line.get(field))));
        parts.extend([hash, text(line.get("sourceRow"))]);
        ours.push(join(parts));
    }
    for conflict in job.v2.find("v1v2_conflicts", doc! {}) {
        let id = conflict.get_document("_id").unwrap();
        let other = conflict.get_document("other").cloned().unwrap_or_default();
        let mut parts = vec!["conflict".to_owned()];
        parts.extend(["e", "k", "kind"].iter().map(|part| text(id.get(part))));
        parts.push(text(conflict.get("decision")));
        parts.extend(["e", "k"].iter().map(|part| text(other.get(part))));
        parts.push(text(conflict.get("detail")));
        ours.push(join(parts));
    }
    theirs.sort();
    ours.sort();
    [theirs, ours]
}

/// Shows the first differences instead of two texts of a thousand lines.
#[track_caller]
fn same(what: &str, postgres: &[String], mongodb: &[String]) {
    let only = |of: &[String], other: &[String]| {
        of.iter().filter(|line| !other.contains(line)).take(5).cloned().collect::<Vec<_>>()
    };
    let (left, right) = (only(postgres, mongodb), only(mongodb, postgres));
    assert!(
        left.is_empty() && right.is_empty() && postgres.len() == mongodb.len(),
        "{what}: {} in Postgres, {} in MongoDB\nonly in Postgres: {left:#?}\nonly in MongoDB: {right:#?}",
        postgres.len(),
        mongodb.len()
    );
}

/// Migrates one V1 into both.
pub fn into_both(
    people: u32,
    prepare: impl FnOnce(&Database),
    settings: &[&str],
    code: i32,
) -> (Database, Project, Job) {
    let job = Job::new(people, &["--orphans"]).in_bulk();
    prepare(&job.v1);
    job.migrate(settings, code);
    let v2 = Database::v2();
    let project = Project::between(&job.v1, &v2);
    project.run(&["setup"]).expect(0);
    project.run(&[&["migrate", "--force"], settings].concat()).expect(code);
    (v2, project, job)
}

/// Fails at the first differences.
pub fn compare(postgres_v2: &Database, job: &Job) {
    let mut codes = BTreeMap::new();
    for name in super::REFERENCE {
        for document in job.v2.find(name, doc! {}) {
            codes.insert(text(document.get("_id")), text(document.get("code")));
        }
    }
    let lines = |records: &Records| records.values().map(|fields| format!("{fields:?}")).collect::<Vec<_>>();
    for (name, theirs) in postgres(postgres_v2) {
        assert!(!theirs.is_empty(), "{name}");
        same(name, &lines(&theirs), &lines(&collection(job, name, &codes)));
    }
    let [theirs, ours] = ledgers(postgres_v2, job);
    same("ledger and conflicts", &theirs, &ours);
}

#[test]
fn the_sample_with_orphans_and_nasty_rows() {
    let settings = ["--passwords", "keep", "--batch-size", "100"];
    let (v2, _project, job) = into_both(400, nasty::add, &settings, 3);
    compare(&v2, &job);
    // What the comparison is about is there: each kind of conflict and of reject that such rows can have.
    let kinds = job.v2.run(doc! { "distinct": "v1v2_conflicts", "key": "_id.kind" });
    let kinds: Vec<String> = kinds.get_array("values").unwrap().iter().map(|kind| text(Some(kind))).collect();
    for kind in nasty::KINDS {
        assert!(kinds.iter().any(|of| of == kind), "no {kind} among {kinds:?}");
    }
    let codes: Vec<String> =
        job.rejected().iter().filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())).collect();
    for code in ["missing-reference", "duplicate-value"] {
        assert!(codes.iter().any(|of| of == code), "no {code}");
    }
}

#[test]
fn each_generated_password_is_the_same() {
    let job = Job::new(60, &[]);
    let v2 = Database::v2();
    job.migrate(&["--passwords", "generate"], 0);
    // The key file in the project's folder makes them: the same one for both.
    let project =
        Project::between(&job.v1, &v2).env("V1V2_HASH_MEMORY_KIB", "8").env("V1V2_HASH_ITERATIONS", "1");
    project.write("v1v2.key", &job.project.read("v1v2.key"));
    let key = project.path().join("v1v2.key");
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    project.run(&["setup"]).expect(0);
    project.run(&["migrate", "--force", "--passwords", "generate"]).expect(0);
    for project in [&job.project, &project] {
        project.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    }
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (postgres, mongodb) = (project.read("list.csv"), job.project.read("list.csv"));
    same("hand-out list", &sorted(postgres), &sorted(mongodb));
}

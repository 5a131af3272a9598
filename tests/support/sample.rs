//! What happens to the sample's V1 in tests of both V2. V1 does not know which of them it is for, so the story is told
//! once, and what V2 must make of it twice.

use super::Database;

/// Tables of V1, and the entities that they are.
pub const ENTITIES: [(&str, &str); 4] =
    [("School", "schools"), ("Teacher", "teachers"), ("Parent", "parents"), ("Student", "students")];

/// Changes of every kind that leave it clear who is who: a run into an empty V2 must end with the same people.
pub const CHANGES: &str = r#"
    update "School" set name = name || ' Academy', address = '1 New Road, Ikeja, Lagos' where id = (select min(id) from "School");
    update "Teacher" set qualification = 'PhD', "hireDate" = '2020-02-29' where id in (select id from "Teacher" order by id limit 3);
    delete from "_SubjectToTeacher" where "B" = (select min(id) from "Teacher");
    insert into "_SubjectToTeacher" ("A", "B") select id, (select min(id) from "Teacher") from "Subject" order by id desc limit 2;
    update "Parent" set occupation = 'Pilot', email = 'brand.new@example.org', phone = '+2348031234567'
        where id = (select max(id) from "Parent");
    update "Student" set "gradeLevel" = 'JSS 2', address = '7 Other Street, Kano' where id in (select id from "Student" order by id desc limit 5);
    delete from "_ParentToStudent" where "B" = (select max(id) from "Student");
    update "Student" set "updatedAt" = "updatedAt" + interval '1 day' where id = (select max(id) from "Student");
"#;

/// Three students leave.
pub const DEPARTURES: &str = r#"
    delete from "_ParentToStudent" where "B" in (select id from "Student" order by id limit 3);
    delete from "Student" where id in (select id from "Student" order by id limit 3);
"#;

/// A parent who is new: Ada Obi, ada.obi@new.example.
pub const AN_ARRIVAL: &str = r#"
    insert into "Parent" (id, "schoolId", name, email, "updatedAt")
        select 'a-new-one', min(id), 'Ada Obi', 'ada.obi@new.example', now() from "School"
"#;

/// Those whose school is not there move to one that is.
pub const ORPHANS_MOVE: &str = r#"
    update "Teacher" set "schoolId" = (select min(id) from "School") where "schoolId" not in (select id from "School");
    update "Student" set "schoolId" = (select min(id) from "School") where "schoolId" not in (select id from "School");
"#;

/// The schools of such teachers come back.
pub const THEIR_SCHOOLS_COME_BACK: &str = r#"
    insert into "School" (id, name, code, "updatedAt")
        select distinct t."schoolId", 'Found again', t."schoolId", now() from "Teacher" t
        where not exists (select from "School" s where s.id = t."schoolId")
"#;

/// Teachers whose school is not there: their keys, in order, with its key.
pub fn orphans(v1: &Database) -> Vec<[String; 2]> {
    let rows = v1.rows(
        "select id, \"schoolId\" from \"Teacher\" t \
         where not exists (select from \"School\" s where s.id = t.\"schoolId\") order by 1",
    );
    assert!(!rows.is_empty());
    let text = |row: &[Option<String>], at: usize| row[at].clone().unwrap();
    rows.iter().map(|row| [text(row, 0), text(row, 1)]).collect()
}

/// An email that a teacher logs in with, as an account has it.
pub fn an_email(v1: &Database) -> String {
    v1.one(
        "select lower(email) from \"Teacher\" where email ~ '^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$' order by id limit 1",
    )
}

/// Leaves a teacher with a password that is no hash; the row's key. Nobody is merged with a person without an email.
pub fn a_password_in_plain_sight(v1: &Database) -> String {
    let odd = v1.one("select min(id) from \"Teacher\" where email is null");
    v1.execute(&format!("update \"Teacher\" set password = 'in plain sight' where id = '{odd}'"));
    odd
}

/// A school, and what `migrate` is told to take it and its teachers, and nobody else.
pub fn pilot(v1: &Database) -> (String, [String; 6]) {
    let school = v1.one("select min(id) from \"School\"");
    let filters = ["schools:id", "teachers:school_id"].map(|column| format!("{column} = '{school}'"));
    let [schools, teachers] = filters;
    let arguments = ["--entities", "schools,teachers", "--filter", &schools, "--filter", &teachers];
    (school, arguments.map(str::to_owned))
}

/// A school that is going to close ([`upheaval`]), and its people.
pub const A_SCHOOL: &str = r#"
    insert into "School" (id, name, code, "updatedAt") values ('b-closing', 'Closing', 'CLOSING', now());
    update "Student" set "schoolId" = 'b-closing' where id in (select id from "Student" order by id offset 40 limit 6);
    update "Teacher" set "schoolId" = 'b-closing' where id in (select id from "Teacher" order by id offset 4 limit 2);
    update "Parent" set "schoolId" = 'b-closing' where id in (select id from "Parent" order by id offset 14 limit 2);
"#;

/// Much at once: beside [`CHANGES`] and [`DEPARTURES`], [`A_SCHOOL`] closes and its people move to one that is new; a teacher is
/// replaced by another one with the same email; a parent who is a teacher, too, is not a parent any more; somebody moves to a
/// school that is nowhere; and a parent has an occupation that V2 is to refuse ([`REFUSED`]).
pub fn upheaval(v1: &Database) {
    for sql in [CHANGES, DEPARTURES, AN_ARRIVAL, UPHEAVAL] {
        v1.execute(sql);
    }
}

/// The occupation of a parent whom [`upheaval`] changes.
pub const REFUSED: &str = "Refused";

const UPHEAVAL: &str = r#"
    alter table "Student" drop constraint "Student_schoolId_fkey";
    insert into "School" (id, name, code, "updatedAt") values ('a-new-school', 'New', 'NEW-1', now());
    update "Student" set "schoolId" = 'a-new-school' where "schoolId" = 'b-closing';
    update "Teacher" set "schoolId" = 'a-new-school' where "schoolId" = 'b-closing';
    update "Parent" set "schoolId" = 'a-new-school' where "schoolId" = 'b-closing';
    delete from "School" where id = 'b-closing';
    create temporary table replaced as select * from "Teacher" where email is not null order by id offset 9 limit 1;
    delete from "Teacher" where id in (select id from replaced);
    update replaced set id = 'a-new-teacher', name = 'Somebody Entirely New', phone = null, "employeeNo" = 'NEW-1';
    insert into "Teacher" select * from replaced;
    create temporary table both_of_them as
        select p.id from "Parent" p join "Teacher" t on lower(trim(p.email)) = lower(trim(t.email)) order by p.id limit 1;
    delete from "_ParentToStudent" where "A" in (select id from both_of_them);
    delete from "Parent" where id in (select id from both_of_them);
    update "Student" set "schoolId" = 'nowhere' where id = (select id from "Student" order by id offset 30 limit 1);
    update "Parent" set occupation = 'Refused' where id = (select id from "Parent" order by id offset 8 limit 1);
    update "Parent" set occupation = 'Cook' where id in (select id from "Parent" order by id offset 9 limit 4);
"#;

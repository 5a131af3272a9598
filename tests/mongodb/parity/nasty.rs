//! Rows that real V1s have, and that the sample does not.

use crate::support::Database;

/// The kinds of conflicts that must come up.
pub const KINDS: &[&str] = &[
    "same_person",
    "other_person",
    "same_entity_email",
    "email_missing",
    "email_unusable",
    "email_doubtful",
    "phone_shared",
    "phone_unusable",
    "missing-reference",
    "missing-lookup",
    "password_unknown",
];

/// Adds them to a sample. Keys begin with `zz`, some with what needs escaping.
pub fn add(v1: &Database) {
    v1.execute(
        r#"
drop index "Teacher_email_key";
drop index "Teacher_employeeNo_key";
drop index "Student_admissionNo_key";

insert into "School" (id, name, code, email, phone, address, country, curriculum, "adminName", "adminEmail", "adminPhone", "updatedAt") values
  ('zz''"\{}', E'St. Mary''s "A"\\B\tTab', 'ZZ-1', 'Office@STRASSE.example', '0803 123 4567', '12 Allen Avenue, Ikeja, Lagos State, Nigeria',
   'NG', 'no such curriculum', 'Dr. Maria de la Cruz', 'maria@zz.example', '+44 20 7946 0958', now()),
  ('zz-école', 'École', 'ZZ-2', 'no address', '123', E'line\nbreak', null, null, null, null, null, '1969-12-31 23:59:59.999');

insert into "Teacher" (id, "schoolId", "employeeNo", name, email, phone, password, address, sex, birthday, qualification, "hireDate", "createdAt", "updatedAt")
select 'zz-t' || n, 'zz-école', employee, name, email, phone, password, address, sex::"Sex", birthday::timestamp, qualification, hired::timestamp,
       '2001-02-03 04:05:06.789', '9999-12-31 23:59:59.999'
from (values
  (1, 'E1', 'DE LA CRUZ, María José', ' Maria@ZZ.example ', '08031234567', 'in plain sight', '10 Downing Street, London SW1A 2AA', 'FEMALE', '1890-01-01', null, '1969-12-31'),
  (2, 'E1', 'Same Number', 'same.number@zz.example', '(0803) 123-4567', '$2b$10$abcdefghijklmnopqrstuuK1Zp1HCB4KLLxrWcLmtxPFJZpKdcmUe', null, null, null, 'B.Ed', null),
  (3, 'E3', 'Ṁary O''Neil-Smith Jr.', 'shared@zz.example', 'call me', '', E'a\\b\tc', 'MALE', '0001-01-01', E'multi\nline', '9999-12-31'),
  (4, 'E4', '李小龍', 'shared@zz.example', '+8613800138000', 'x', null, null, null, '🎓', null),
  (5, 'E5', 'İpek Ş', 'İpek@zz.example', null, 'x', ' ', null, null, '', null),
  (6, 'E6', 'Раураl', 'раураl@zz.example', null, 'x', null, null, null, null, null),
  (7, 'E7', 'Madonna', 'not an email', '0800-FLOWERS', 'x', null, null, null, null, null),
  (8, 'E8', 'Ｆｕｌｌ Ｗｉｄｔｈ', 'ｆｕｌｌ@zz.example', null, 'x', null, null, null, null, null)
) as v (n, employee, name, email, phone, password, address, sex, birthday, qualification, hired);

insert into "Parent" (id, "schoolId", name, email, phone, address, occupation, "updatedAt")
select 'zz-p' || n, 'zz-école', name, email, phone, null, occupation, now()
from (values
  (1, 'Mary Oneil Smith', 'SHARED@zz.example', '08031234567', null),
  (2, 'Somebody Else', 'shared@ZZ.EXAMPLE', '08031234567', E'tab\there'),
  (3, 'Twin One', 'twins@zz.example', '08031234567', ''),
  (4, 'Twin Two', 'twins@zz.example', '08031234567', 'N/A'),
  (5, 'Full Width', 'full@zz.example', null, null),
  (6, 'María José de la Cruz', 'maria@zz.example', null, null),
  (7, 'Longs', repeat('x', 300) || '@zz.example', null, repeat('é', 70000))
) as v (n, name, email, phone, occupation);

insert into "Student" (id, "schoolId", "admissionNo", name, email, phone, address, sex, birthday, "gradeLevel", "className", "updatedAt")
select 'zz-s' || n, school, admission, name, email, null, null, null, birthday::timestamp, grade, class, now()
from (values
  (1, 'zz-école', 'A1', 'Child', null, '2012-02-29', 'JSS 2', E'a\tb'),
  (2, 'zz-école', 'A1', 'Same Admission', 'shared@zz.example', null, 'Kindergarten', null),
  (3, 'no such school', 'A3', 'Orphan', 'orphan@zz.example', null, null, null),
  (4, 'zz-école', '', 'Mononym', 'zz-s1@placeholder.invalid', '1582-10-10', '', ''),
  (5, 'zz''"\{}', 'A1', 'Same Number Elsewhere', 'students.zz-s1@placeholder.invalid', null, 'Year 99', null)
) as v (n, school, admission, name, email, birthday, grade, class);

-- A family: two who are there, one of whom is a member of the staff too, and one who is not.
insert into "_ParentToStudent" ("A", "B") values ('zz-p6', 'zz-s1'), ('zz-p1', 'zz-s1'), ('gone', 'zz-s1'), ('zz-p4', 'zz-s5');
"#,
    );
}

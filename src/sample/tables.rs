//! The rows of each table, one table after the other, streamed: memory does not grow with the number of people.

use super::column::{Kind, admission_number, awkward_or, bcrypt_hash, birthday, grade};
use super::contact::{Email, Mess, Phone};
use super::copy_text::Lines;
use super::family::Families;
use super::lists::LISTS;
use super::person::{Person, Spelling, either_sex};
use super::random::{Random, Stream};
use super::world::{Household, Member, World};
use super::{Piece, SampleSummary};

/// Bytes in one message of a COPY: large enough that the server never waits, small enough to forget about.
const CHUNK: usize = 1 << 20;

/// With `orphans`: every so many students lost their school, and so on; the second number is the first row.
const ORPHAN_STUDENTS: (u64, u64) = (200, 3);
const ORPHAN_TEACHERS: (u64, u64) = (200, 7);
const ORPHAN_LINKS: (u64, u64) = (150, 2);

/// Nobody takes the rows any more: the database failed, and that error is the one to report.
#[derive(Debug)]
pub(super) struct Gone;

/// Makes all rows and sends them on.
pub(super) struct Tables<F> {
    world: World,
    lines: Lines,
    people: u64,
    summary: SampleSummary,
    send: F,
}

impl<F: FnMut(Piece) -> Result<(), Gone>> Tables<F> {
    pub(super) fn new(world: World, send: F) -> Self {
        Self { world, lines: Lines::default(), people: 0, summary: SampleSummary::default(), send }
    }

    /// Writes every table, in the order of their foreign keys.
    pub(super) fn write(mut self) -> Result<SampleSummary, Gone> {
        self.subjects()?;
        self.schools()?;
        self.teachers()?;
        self.teachers_subjects()?;
        self.parents()?;
        self.students()?;
        self.guardians()?;
        Ok(self.summary)
    }

    fn begin(&mut self, copy: &'static str) -> Result<(), Gone> {
        (self.send)(Piece::Table(copy))
    }

    fn end_line(&mut self) -> Result<(), Gone> {
        self.lines.end_line();
        if self.lines.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        (self.send)(Piece::Lines(self.lines.take(), self.people))
    }

    fn is_orphan(&self, number: u64, (every, first): (u64, u64)) -> bool {
        self.world.orphans && number % every == first
    }

    fn count(&mut self, email: &Email, phone_shared: bool) {
        self.people += 1;
        match email.mess {
            Mess::None => {}
            Mess::Missing => self.summary.missing_emails += 1,
            Mess::Unusable => self.summary.unusable_emails += 1,
            Mess::Duplicate => self.summary.duplicate_emails += 1,
        }
        self.summary.shared_phones += u64::from(phone_shared);
    }

    fn subjects(&mut self) -> Result<(), Gone> {
        self.begin(r#"COPY "Subject" ("id", "code", "name", "createdAt", "updatedAt") FROM STDIN (FREEZE)"#)?;
        let world = self.world;
        for (number, (code, name)) in (0..).zip(&LISTS.school.subjects) {
            let mut random = world.random(Stream::School, number ^ (1 << 62));
            let (created, updated) = world.stamps(&mut random, Kind::Subject, number);
            let key = world.key(Kind::Subject, number);
            self.lines.text(&key).text(code).text(name).text(&created).text(&updated);
            self.end_line()?;
            self.summary.subjects += 1;
        }
        self.flush()
    }

    fn schools(&mut self) -> Result<(), Gone> {
        self.begin(
            r#"COPY "School" ("id", "name", "code", "email", "phone", "address", "country", "curriculum", "adminName", "adminEmail", "adminPhone", "isActive", "createdAt", "updatedAt") FROM STDIN (FREEZE)"#,
        )?;
        let world = self.world;
        for school in 0..world.counts.schools {
            let country = world.school_country(school);
            let mut random = world.random(Stream::School, school ^ (1 << 61));
            let address = super::contact::Address::new(&mut random, country);
            let phone = Phone::new(&mut random, country);
            let first = random.pick(&LISTS.school.school_first);
            let name = format!("{first} {}", random.pick(&LISTS.school.school_second));
            let name = if random.chance(50) { name.to_uppercase() } else { name };
            let curriculum = random.pick(LISTS.school.curriculum_spellings(&country.code));
            let email = random.chance(900).then(|| format!("info@{}", world.school_domain(school)));
            let shown_phone = random.chance(950).then(|| phone.write(&mut random));
            let shown_address = random.chance(960).then(|| address.write(&mut random));
            let admin = self.admin(school, &mut random);
            let is_active = if random.chance(960) { "t" } else { "f" };
            let (created, updated) = world.stamps(&mut random, Kind::School, school);
            self.lines
                .text(&world.key(Kind::School, school))
                .text(&name)
                .text(&format!("{}-{:04}", country.code, school + 1))
                .optional(email.as_deref())
                .optional(shown_phone.as_deref())
                .optional(shown_address.as_deref())
                .optional(random.chance(970).then_some(country.code.as_str()))
                .optional(random.chance(850).then_some(curriculum.as_str()));
            for value in admin {
                self.lines.optional(value.as_deref());
            }
            self.lines.text(is_active).text(&created).text(&updated);
            self.end_line()?;
            self.summary.schools += 1;
        }
        self.flush()
    }

    /// `adminName`, `adminEmail` and `adminPhone`: a teacher of the school, somebody else, or nobody.
    fn admin(&mut self, school: u64, random: &mut Random) -> [Option<String>; 3] {
        if let Some((person, address, phone)) = self.world.admin_teacher(school) {
            self.summary.admins_who_teach += 1;
            return [
                Some(person.write(random, Spelling::Recognisable)),
                Email::duplicate(random, &address).text,
                Some(phone.write(random)),
            ];
        }
        if random.chance(150) {
            return [None, None, None];
        }
        let country = self.world.school_country(school);
        let culture = &LISTS.names.cultures[*random.pick(&country.culture_places)];
        let surname = random.index(culture.surnames.len());
        let sex = either_sex(random);
        let person = Person::adult(random, culture, surname, sex);
        // The letter keeps these addresses apart from all others, which end in a digit.
        let address = format!("{}a@{}", person.email_local(random, school), self.world.school_domain(school));
        let email =
            if random.chance(100) { Email::missing(random, false) } else { Email::own(random, &address) };
        let phone = random.chance(900).then(|| Phone::new(random, country).write(random));
        [Some(person.write(random, Spelling::Any)), email.text, phone]
    }

    fn teachers(&mut self) -> Result<(), Gone> {
        self.begin(
            r#"COPY "Teacher" ("id", "schoolId", "name", "email", "phone", "address", "createdAt", "updatedAt", "employeeNo", "password", "sex", "birthday", "qualification", "hireDate") FROM STDIN (FREEZE)"#,
        )?;
        let world = self.world;
        for teacher in 0..world.counts.teachers {
            let household = world.teacher_household(teacher);
            let member = world.teacher(teacher, &household);
            let mut random = world.random(Stream::TeacherRow, teacher ^ (1 << 63));
            let orphan = self.is_orphan(teacher, ORPHAN_TEACHERS);
            self.summary.orphan_teachers += u64::from(orphan);
            self.person_columns(&mut random, Kind::Teacher, teacher, &member, &household, orphan);
            let number = match random.below(3) {
                0 => format!("EMP{:05}", teacher + 1),
                1 => format!("T/{}", teacher + 1),
                _ => format!("{:06}", teacher + 1),
            };
            let age = 23 + random.below(42) as i64;
            let qualification =
                random.chance(900).then(|| random.pick(&LISTS.school.qualifications).to_owned());
            let sex = random.chance(970).then(|| member.person.sex.sql());
            self.lines
                .text(&number)
                .text(&bcrypt_hash(&mut random))
                .optional(sex)
                .optional(birthday(&mut random, age).as_deref())
                .optional(awkward_or(&mut random, qualification).as_deref())
                .optional(world.hire_date(&mut random, teacher).as_deref());
            self.summary.teachers += 1;
            self.end_line()?;
        }
        self.flush()
    }

    fn teachers_subjects(&mut self) -> Result<(), Gone> {
        self.begin(r#"COPY "_SubjectToTeacher" ("A", "B") FROM STDIN (FREEZE)"#)?;
        let world = self.world;
        let subjects: Vec<String> =
            (0..).zip(&LISTS.school.subjects).map(|(number, _)| world.key(Kind::Subject, number)).collect();
        for teacher in 0..world.counts.teachers {
            let mut random = world.random(Stream::TeacherSubjects, teacher);
            let key = world.key(Kind::Teacher, teacher);
            let first = random.index(subjects.len());
            // Neighbours in the list: subjects that one person does teach together, and never one twice.
            for offset in 0..random.index(4) {
                self.lines.text(&subjects[(first + offset) % subjects.len()]).text(&key);
                self.summary.teacher_subjects += 1;
                self.end_line()?;
            }
        }
        self.flush()
    }

    fn parents(&mut self) -> Result<(), Gone> {
        self.begin(
            r#"COPY "Parent" ("id", "schoolId", "name", "email", "phone", "address", "createdAt", "updatedAt", "password", "occupation") FROM STDIN (FREEZE)"#,
        )?;
        let world = self.world;
        for family in Families::new(world.seed, world.counts) {
            let household = world.family_household(&family);
            for parent in family.parents.clone() {
                let (member, _) = world.parent(&family, &household, parent);
                let mut random = world.random(Stream::ParentRow, parent);
                self.person_columns(&mut random, Kind::Parent, parent, &member, &household, false);
                let occupation =
                    random.chance(850).then(|| random.pick(&LISTS.school.occupations).to_owned());
                let password = random.chance(900).then(|| bcrypt_hash(&mut random));
                self.lines
                    .optional(password.as_deref())
                    .optional(awkward_or(&mut random, occupation).as_deref());
                self.summary.parents += 1;
                self.summary.teachers_who_are_parents +=
                    u64::from(world.counts.teacher_of_parent(parent).is_some());
                self.end_line()?;
            }
        }
        self.flush()
    }

    fn students(&mut self) -> Result<(), Gone> {
        self.begin(
            r#"COPY "Student" ("id", "schoolId", "name", "email", "phone", "address", "createdAt", "updatedAt", "admissionNo", "password", "sex", "birthday", "gradeLevel", "className") FROM STDIN (FREEZE)"#,
        )?;
        let world = self.world;
        for family in Families::new(world.seed, world.counts) {
            let household = world.family_household(&family);
            for student in family.students.clone() {
                let member = world.student(&family, &household, student);
                let mut random = world.random(Stream::StudentRow, student);
                let orphan = self.is_orphan(student, ORPHAN_STUDENTS);
                self.summary.orphan_students += u64::from(orphan);
                self.person_columns(&mut random, Kind::Student, student, &member, &household, orphan);
                let (grade_level, class_name, age) = grade(&mut random, household.country);
                let password = random.chance(800).then(|| bcrypt_hash(&mut random));
                let sex = random.chance(980).then(|| member.person.sex.sql());
                self.lines
                    .text(&admission_number(&mut random, student))
                    .optional(password.as_deref())
                    .optional(sex)
                    .optional(birthday(&mut random, age).as_deref())
                    .optional(grade_level.as_deref())
                    .optional(class_name.as_deref());
                self.summary.students += 1;
                self.end_line()?;
            }
        }
        self.flush()
    }

    fn guardians(&mut self) -> Result<(), Gone> {
        self.begin(r#"COPY "_ParentToStudent" ("A", "B") FROM STDIN (FREEZE)"#)?;
        let world = self.world;
        for family in Families::new(world.seed, world.counts) {
            for student in family.students.clone() {
                let key = world.key(Kind::Student, student);
                for parent in world.guardians(&family, student) {
                    self.lines.text(&world.key(Kind::Parent, parent)).text(&key);
                    self.summary.guardianships += 1;
                    self.end_line()?;
                }
                if self.is_orphan(student, ORPHAN_LINKS) {
                    self.lines.text(&world.key(Kind::GoneParent, student)).text(&key);
                    self.summary.guardianships += 1;
                    self.summary.orphan_guardianships += 1;
                    self.end_line()?;
                }
            }
        }
        self.flush()
    }

    /// The columns that all tables of people begin with: id, schoolId, name, email, phone, address, createdAt,
    /// updatedAt.
    fn person_columns(
        &mut self,
        random: &mut Random,
        kind: Kind,
        number: u64,
        member: &Member,
        household: &Household,
        orphan: bool,
    ) {
        let world = self.world;
        let school = if orphan {
            world.key(Kind::GoneSchool, household.school + world.counts.schools)
        } else {
            world.key(Kind::School, household.school)
        };
        let name = member.person.write(random, member.spelling);
        let phone = member.phone.as_ref().map(|phone| phone.write(random));
        let address = random.chance(920).then(|| household.address.write(random));
        let (created, updated) = world.stamps(random, kind, number);
        self.count(&member.email, member.phone_shared);
        self.lines
            .text(&world.key(kind, number))
            .text(&school)
            .text(&name)
            .optional(member.email.text.as_deref())
            .optional(phone.as_deref())
            .optional(awkward_or(random, address).as_deref())
            .text(&created)
            .text(&updated);
    }
}

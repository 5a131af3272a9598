//! The people of the example before they are written down: who teaches where, who is whose parent, who shares
//! an email or a phone with whom.
//!
//! Everything is a function of the seed and a row number, so any row can ask about any other one.

use super::contact::{Address, Email, Mess, Phone};
use super::family::{Counts, Family};
use super::lists::{Country, Culture, LISTS};
use super::person::{Person, Sex, Spelling, either_sex};
use super::random::{Random, Stream};

/// The example V1 of one seed and size.
#[derive(Debug, Clone, Copy)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) counts: Counts,
    pub(super) orphans: bool,
}

/// People who live together.
#[derive(Debug, Clone)]
pub(super) struct Household {
    pub(super) school: u64,
    pub(super) culture: &'static Culture,
    pub(super) surname: usize,
    pub(super) phone: Phone,
    pub(super) address: Address,
    pub(super) country: &'static Country,
}

/// Somebody of a table, with what other rows may share.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) person: Person,
    pub(super) spelling: Spelling,
    pub(super) email: Email,
    pub(super) phone: Option<Phone>,
    /// The phone is one that an earlier row has.
    pub(super) phone_shared: bool,
}

/// What becomes of a teacher's email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Own,
    Missing,
    Unusable,
    Duplicate,
}

impl World {
    pub(super) fn random(&self, stream: Stream, number: u64) -> Random {
        Random::new(self.seed, stream, number)
    }

    pub(super) fn school_country(&self, school: u64) -> &'static Country {
        let mut share = self.random(Stream::School, school).below(100);
        let countries = &LISTS.countries;
        let chosen = countries.iter().find(|country| {
            let found = share < country.share;
            share = share.saturating_sub(country.share);
            found
        });
        chosen.unwrap_or(&countries[0])
    }

    /// The domain of a school's own addresses; reserved, like all domains of the sample.
    pub(super) fn school_domain(&self, school: u64) -> String {
        format!("school{school}.example")
    }

    fn household(&self, random: &mut Random, school: u64) -> Household {
        let country = self.school_country(school);
        let cultures = &LISTS.names.cultures;
        let culture = if random.chance(750) {
            &cultures[*random.pick(&country.culture_places)]
        } else {
            random.pick(cultures)
        };
        Household {
            school,
            culture,
            surname: random.index(culture.surnames.len()),
            phone: Phone::new(random, country),
            address: Address::new(random, country),
            country,
        }
    }

    pub(super) fn school_of_teacher(&self, teacher: u64) -> u64 {
        teacher % self.counts.schools
    }

    pub(super) fn teacher_household(&self, teacher: u64) -> Household {
        self.household(&mut self.random(Stream::Teacher, teacher), self.school_of_teacher(teacher))
    }

    fn teacher_person(&self, teacher: u64, household: &Household) -> (Person, Random) {
        let mut random = self.random(Stream::TeacherRow, teacher);
        let sex = either_sex(&mut random);
        (Person::adult(&mut random, household.culture, household.surname, sex), random)
    }

    /// Teachers whose address another row relies on (a parent's, a school's admin contact) keep it.
    fn teacher_fate(&self, teacher: u64) -> Fate {
        if self.counts.is_linked(teacher) || self.is_admin(teacher) {
            return Fate::Own;
        }
        match self.random(Stream::TeacherEmail, teacher).below(1000) {
            0..105 => Fate::Missing,
            105..110 => Fate::Unusable,
            110..145 => Fate::Duplicate,
            _ => Fate::Own,
        }
    }

    fn teacher_address(&self, teacher: u64, person: &Person) -> String {
        let mut random = self.random(Stream::TeacherEmail, teacher);
        let local = person.email_local(&mut random, teacher);
        if random.chance(700) {
            format!("{local}@{}", self.school_domain(self.school_of_teacher(teacher)))
        } else {
            format!("{local}@{}", random.pick(&LISTS.school.domains))
        }
    }

    /// A teacher. Duplicates are the nearest earlier teacher typed in again, or somebody else with that address.
    pub(super) fn teacher(&self, teacher: u64, household: &Household) -> Member {
        let (person, mut random) = self.teacher_person(teacher, household);
        let linked = self.counts.is_linked(teacher) || self.is_admin(teacher);
        let spelling = if linked { Spelling::Recognisable } else { Spelling::Any };
        let phone = (linked || random.chance(930)).then(|| household.phone.clone());
        let mut member = Member {
            email: Email { text: None, mess: Mess::None },
            person,
            spelling,
            phone,
            phone_shared: false,
        };
        let fate = self.teacher_fate(teacher);
        if fate == Fate::Duplicate
            && let Some(distance) =
                (1..=teacher.min(64)).find(|d| self.teacher_fate(teacher - d) == Fate::Own)
        {
            let first = teacher - distance;
            let first_household = self.teacher_household(first);
            let (first_person, _) = self.teacher_person(first, &first_household);
            let address = self.teacher_address(first, &first_person);
            member.email = Email::duplicate_for_unique(&address, distance as usize);
            if random.chance(500) {
                member.person = first_person;
                member.phone = Some(first_household.phone);
                member.phone_shared = true;
            }
            return member;
        }
        let address = self.teacher_address(teacher, &member.person);
        member.email = match fate {
            Fate::Missing => Email::missing(&mut random, true),
            Fate::Unusable => Email::unusable(&mut random, &address),
            Fate::Own | Fate::Duplicate => Email::own(&mut random, &address),
        };
        member
    }

    /// A school's admin contact is its first teacher in one case of four, and in the first school always, so that
    /// small samples have the case too. (The first `schools` teachers are the first ones of their schools.)
    pub(super) fn is_admin(&self, teacher: u64) -> bool {
        teacher == 0 || (teacher < self.counts.schools && self.random(Stream::Admin, teacher).chance(250))
    }

    /// The teacher who is the admin contact of a school, and their address.
    pub(super) fn admin_teacher(&self, school: u64) -> Option<(Person, String, Phone)> {
        if school >= self.counts.teachers || !self.is_admin(school) {
            return None;
        }
        let household = self.teacher_household(school);
        let (person, _) = self.teacher_person(school, &household);
        let address = self.teacher_address(school, &person);
        Some((person, address, household.phone))
    }

    /// Where a family lives: with the teacher, if one of the parents is one.
    pub(super) fn family_household(&self, family: &Family) -> Household {
        let teacher = family.parents.clone().find_map(|parent| self.counts.teacher_of_parent(parent));
        if let Some(teacher) = teacher {
            return self.teacher_household(teacher);
        }
        // The stream's first numbers decided the family's size.
        let mut random = self.random(Stream::Family, family.number ^ (1 << 63));
        let school = random.below(self.counts.schools);
        self.household(&mut random, school)
    }

    fn personal_address(&self, random: &mut Random, person: &Person, number: u64) -> String {
        let local = person.email_local(random, number);
        format!("{local}@{}", random.pick(&LISTS.school.domains))
    }

    /// A parent. Some are teachers; some use their spouse's email; many share the household's phone.
    pub(super) fn parent(
        &self,
        family: &Family,
        household: &Household,
        parent: u64,
    ) -> (Member, Option<String>) {
        let mut random = self.random(Stream::Parent, parent);
        if let Some(teacher) = self.counts.teacher_of_parent(parent) {
            let (teacher_person, _) = self.teacher_person(teacher, household);
            let address = self.teacher_address(teacher, &teacher_person);
            // One in ten is the teacher's spouse, who gave the teacher's address.
            let person = if random.chance(100) {
                let sex = if teacher_person.sex == Sex::Male { Sex::Female } else { Sex::Male };
                Person::adult(&mut random, household.culture, household.surname, sex)
            } else {
                teacher_person
            };
            let email = Email::duplicate(&mut random, &address);
            let phone = Some(household.phone.clone());
            let member =
                Member { person, spelling: Spelling::Recognisable, email, phone, phone_shared: true };
            return (member, Some(address));
        }
        let place = parent - family.parents.start;
        let sex = match place {
            0 => either_sex(&mut random),
            _ => self.other_sex(family, household),
        };
        let surname = if random.chance(750) {
            household.surname
        } else {
            random.index(household.culture.surnames.len())
        };
        let person = Person::adult(&mut random, household.culture, surname, sex);
        let own_phone = (place > 0 && random.chance(650)).then(|| Phone::new(&mut random, household.country));
        let has_phone = random.chance(950);
        let household_is_known = place > 0 || self.lives_with_teacher(family);
        let phone_shared = has_phone && own_phone.is_none() && household_is_known;
        let phone = has_phone.then(|| own_phone.unwrap_or_else(|| household.phone.clone()));
        let fate = random.below(1000);
        let mut known = None;
        let email = match fate {
            0..100 => Email::missing(&mut random, false),
            100..105 => {
                let address = self.personal_address(&mut random, &person, self.counts.teachers + parent);
                Email::unusable(&mut random, &address)
            }
            105..160 if place > 0 => match self.parent(family, household, family.parents.start).1 {
                Some(address) => Email::duplicate(&mut random, &address),
                None => Email::missing(&mut random, false),
            },
            _ => {
                let address = self.personal_address(&mut random, &person, self.counts.teachers + parent);
                let email = Email::own(&mut random, &address);
                known = Some(address);
                email
            }
        };
        (Member { person, spelling: Spelling::Any, email, phone, phone_shared }, known)
    }

    fn other_sex(&self, family: &Family, household: &Household) -> Sex {
        let first = family.parents.start;
        let sex = if self.counts.teacher_of_parent(first).is_some() {
            self.parent(family, household, first).0.person.sex
        } else {
            // The first number of a parent's stream decides the sex; no need to make the whole person.
            either_sex(&mut self.random(Stream::Parent, first))
        };
        if sex == Sex::Male { Sex::Female } else { Sex::Male }
    }

    fn lives_with_teacher(&self, family: &Family) -> bool {
        family.parents.clone().any(|parent| self.counts.teacher_of_parent(parent).is_some())
    }

    /// A student. Some were registered with a parent's email, most with the household's phone or none.
    pub(super) fn student(&self, family: &Family, household: &Household, student: u64) -> Member {
        let mut random = self.random(Stream::Student, student);
        let sex = either_sex(&mut random);
        // Counting on from one name of the family's, so that no two siblings are called the same.
        let given = self.random(Stream::Family, family.number ^ (1 << 62)).index(1000)
            + (student - family.students.start) as usize;
        let person = Person::child(&mut random, household.culture, household.surname, sex, given);
        let household_is_known = !family.parents.is_empty() || student > family.students.start;
        let (phone, phone_shared) = match random.below(100) {
            0..40 => (None, false),
            40..85 => (Some(household.phone.clone()), household_is_known),
            _ => (Some(Phone::new(&mut random, household.country)), false),
        };
        let number = self.counts.teachers + self.counts.parents + student;
        let email = match random.below(1000) {
            0..100 => Email::missing(&mut random, false),
            100..105 => {
                let address = self.personal_address(&mut random, &person, number);
                Email::unusable(&mut random, &address)
            }
            105..136 => {
                let known =
                    family.parents.clone().find_map(|parent| self.parent(family, household, parent).1);
                match known {
                    Some(address) => Email::duplicate(&mut random, &address),
                    None => Email::missing(&mut random, false),
                }
            }
            _ => {
                let address = self.personal_address(&mut random, &person, number);
                Email::own(&mut random, &address)
            }
        };
        Member { person, spelling: Spelling::Any, email, phone, phone_shared }
    }

    /// Which of the family's parents a student is linked to: nearly always all of them.
    pub(super) fn guardians(&self, family: &Family, student: u64) -> impl Iterator<Item = u64> + use<> {
        let mut random = self.random(Stream::Guardians, student);
        family.parents.clone().filter(move |_| !random.chance(40))
    }
}

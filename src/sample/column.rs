//! Values of single columns that are neither names nor contacts: keys, times, passwords, grades, free text.

use super::lists::{Country, LISTS};
use super::random::{Random, Stream};
use super::world::World;

/// Milliseconds since 1970 of 1 September 2020: when the first school was entered.
const FIRST_SCHOOL: i64 = 1_598_918_400_000;
/// 1 August 2021: when the first person was entered.
const FIRST_PERSON: i64 = 1_627_776_000_000;
/// 1 July 2025: the sample's present. Fixed, so that the same seed gives the same database next year.
const PRESENT: i64 = 1_751_328_000_000;
/// The school year that is the sample's present.
const PRESENT_YEAR: i64 = 2025;

const DAY: i64 = 86_400_000;

/// What a key or a time of creation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    School,
    Subject,
    Teacher,
    Parent,
    Student,
    /// Schools that rows refer to but that are no longer there.
    GoneSchool,
    GoneParent,
}

impl World {
    /// When a row was created, in milliseconds since 1970. Rows of a table come in the order of their creation.
    fn created(&self, kind: Kind, number: u64) -> i64 {
        let (from, to, rows) = match kind {
            Kind::School | Kind::GoneSchool => (FIRST_SCHOOL, FIRST_PERSON, self.counts.schools),
            Kind::Subject => (FIRST_SCHOOL, FIRST_PERSON, LISTS.school.subjects.len() as u64),
            Kind::Teacher => (FIRST_PERSON, PRESENT, self.counts.teachers),
            Kind::Parent => (FIRST_PERSON, PRESENT, self.counts.parents),
            Kind::Student | Kind::GoneParent => (FIRST_PERSON, PRESENT, self.counts.students),
        };
        let step = ((to - from) as u64 / rows.max(1)).max(1);
        // Numbers of deleted rows may lie beyond the table's end.
        let number = number % rows.max(1);
        let jitter = self.random(Stream::Key, number * 8 + kind as u64).below(step);
        from + (number * step + jitter) as i64
    }

    /// The primary key of a row: a cuid, which is `c`, the time, a counter, a fingerprint of the machine and
    /// random characters, all in base 36 (<https://github.com/paralleldrive/cuid>).
    pub(super) fn key(&self, kind: Kind, number: u64) -> String {
        let mut random = self.random(Stream::Key, (number * 8 + kind as u64) ^ (1 << 63));
        let mut key = String::with_capacity(25);
        key.push('c');
        push_base36(&mut key, self.created(kind, number) as u64, 8);
        push_base36(&mut key, number, 4);
        push_base36(&mut key, 0xd2f1 + kind as u64, 4);
        push_base36(&mut key, random.next(), 8);
        key
    }

    /// `createdAt` and `updatedAt`.
    pub(super) fn stamps(&self, random: &mut Random, kind: Kind, number: u64) -> (String, String) {
        let created = self.created(kind, number);
        let age = (PRESENT - created).max(1) as u64;
        // Half of all rows were never touched again.
        let updated = if random.chance(500) { created } else { created + random.below(age) as i64 };
        (timestamp(created), timestamp(updated))
    }

    /// When a teacher was hired: up to twenty years before they were entered. Unknown for some.
    pub(super) fn hire_date(&self, random: &mut Random, number: u64) -> Option<String> {
        let midnight = self.created(Kind::Teacher, number) / DAY * DAY;
        random.chance(920).then(|| timestamp(midnight - random.below(7300) as i64 * DAY))
    }
}

/// The last `width` digits of a number in base 36.
fn push_base36(text: &mut String, value: u64, width: u32) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    for place in (0..width).rev() {
        text.push(char::from(DIGITS[(value / 36u64.pow(place) % 36) as usize]));
    }
}

/// A time as Postgres reads it, in UTC as Prisma writes it.
fn timestamp(milliseconds: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    jiff::tz::Offset::UTC.to_datetime(time).to_string()
}

/// A birthday `years` before the sample's present; unknown for some, and for a few the form's default.
pub(super) fn birthday(random: &mut Random, years: i64) -> Option<String> {
    match random.below(1000) {
        0..50 => None,
        50..54 => Some("1900-01-01T00:00:00".to_owned()),
        _ => {
            let days = years * 365 + years / 4 + random.below(365) as i64;
            Some(timestamp(PRESENT / DAY * DAY - days * DAY))
        }
    }
}

/// The year of a student's first registration, and a number that is theirs alone.
pub(super) fn admission_number(random: &mut Random, student: u64) -> String {
    let year = PRESENT_YEAR - random.below(6) as i64;
    match random.below(4) {
        0 => format!("{year}/{:05}", student + 1),
        1 => format!("ADM-{year}-{:05}", student + 1),
        2 => format!("{:06}", student + 1),
        _ => format!("S{}/{}", student + 1, year % 100),
    }
}

/// A hash as bcrypt writes it: version, cost, 22 characters of salt and 31 of hash. No password belongs to it.
///
/// The last character of the salt holds only 2 bits and that of the hash only 4; strict verifiers check that.
pub(super) fn bcrypt_hash(random: &mut Random) -> String {
    const ALPHABET: &[u8; 64] = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(60);
    text.push_str(if random.chance(900) { "$2b$10$" } else { "$2a$10$" });
    for place in 0..53 {
        let place_values = match place {
            21 => 4,
            52 => 16,
            _ => 64,
        };
        let value = random.below(place_values) * (64 / place_values);
        text.push(char::from(ALPHABET[value as usize]));
    }
    text
}

/// A student's `gradeLevel` and `className`, and about how old they are.
pub(super) fn grade(random: &mut Random, country: &Country) -> (Option<String>, Option<String>, i64) {
    let year = 1 + random.below(12) as i64;
    let (spellings, shown) = LISTS.school.grade_spellings(&country.code, year);
    let level = random.pick(spellings).replace("{n}", &shown.to_string());
    let class = random.pick(&LISTS.school.class_names);
    let class_name = match random.below(100) {
        0..10 => None,
        10..40 => Some(format!("{level}{class}")),
        40..60 => Some(format!("{shown}-{class}")),
        60..85 => Some(class.clone()),
        _ => Some(format!("{level} {class}")),
    };
    let level = (!random.chance(5)).then_some(level);
    let age = year + 5 + i64::from(random.chance(150));
    (level, awkward_or(random, class_name), age)
}

/// Free text, which in a few rows is something that breaks careless escaping.
pub(super) fn awkward_or(random: &mut Random, text: Option<String>) -> Option<String> {
    if random.chance(4) { Some(random.pick(&LISTS.school.awkward).clone()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::family::Counts;

    #[test]
    fn keys_are_cuids_in_row_order() {
        let world = World { seed: 1, counts: Counts::of(5000), orphans: false };
        let keys: Vec<String> = (0..world.counts.students).map(|n| world.key(Kind::Student, n)).collect();
        assert!(keys.iter().all(|key| key.len() == 25 && key.starts_with('c')));
        assert!(keys.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn times_are_as_postgres_reads_them() {
        assert_eq!(timestamp(PRESENT), "2025-07-01T00:00:00");
        assert_eq!(timestamp(FIRST_PERSON + 1), "2021-08-01T00:00:00.001");
    }

    #[test]
    fn hashes_have_the_form_of_bcrypt() {
        let hash = bcrypt_hash(&mut Random::new(7, Stream::Key, 0));
        assert_eq!(hash.len(), 60);
        assert!(".Oeu".contains(hash.as_bytes()[28] as char));
    }
}

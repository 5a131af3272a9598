//! People and the ways in which their names get typed into a form.
//!
//! A person is fixed; how the name looks in a row is drawn for each row. So one person who stands in two tables
//! stands there as "Dr. Adaeze Okafor" and as "OKAFOR, A.", as in real databases.

use unicode_normalization::UnicodeNormalization;

use super::lists::{Culture, LISTS, plain_letters};
use super::random::Random;

/// V1's enum "Sex".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sex {
    Male,
    Female,
}

impl Sex {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Male => "MALE",
            Self::Female => "FEMALE",
        }
    }
}

/// Somebody's real name, as places in the lists of a culture.
#[derive(Debug, Clone)]
pub(super) struct Person {
    culture: &'static Culture,
    pub(super) sex: Sex,
    given: usize,
    middle: Option<usize>,
    surname: usize,
    second_surname: Option<usize>,
    title: Option<&'static str>,
    suffix: Option<&'static str>,
}

/// How freely a name may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Every way, single names and own script included.
    Any,
    /// Only ways that still show given name (or its initial) and surname in Latin letters: for people who stand in
    /// two tables and are to be recognised.
    Recognisable,
}

impl Person {
    /// An adult: may have a title and a suffix.
    pub(super) fn adult(random: &mut Random, culture: &'static Culture, surname: usize, sex: Sex) -> Self {
        let given = random.index(given_names(culture, sex).len());
        let mut person = Self::child(random, culture, surname, sex, given);
        if random.chance(400) {
            let (own, common) = match sex {
                Sex::Male => (&culture.titles_male, &LISTS.names.titles_male),
                Sex::Female => (&culture.titles_female, &LISTS.names.titles_female),
            };
            person.title = Some(random.pick(if own.is_empty() { common } else { own }).as_str());
        }
        if random.chance(40) {
            person.suffix = Some(random.pick(&LISTS.names.suffixes).as_str());
        }
        person
    }

    /// A child: neither title nor suffix. `given` counts around the culture's list of given names.
    pub(super) fn child(
        random: &mut Random,
        culture: &'static Culture,
        surname: usize,
        sex: Sex,
        given: usize,
    ) -> Self {
        let given_names = given_names(culture, sex).len();
        let given = given % given_names;
        // The next name in the list, so that nobody is called Henry Henry.
        let middle = random.chance(300).then(|| (given + 1 + random.index(given_names - 1)) % given_names);
        let second_surname =
            (culture.two_surnames && random.chance(600)).then(|| random.index(culture.surnames.len()));
        Self { culture, sex, given, middle, surname, second_surname, title: None, suffix: None }
    }

    fn given(&self) -> &'static str {
        &given_names(self.culture, self.sex)[self.given]
    }

    fn surname(&self) -> &'static str {
        &self.culture.surnames[self.surname]
    }

    /// The name before the `@` of this person's address. `number` makes it unique.
    pub(super) fn email_local(&self, random: &mut Random, number: u64) -> String {
        let given = plain_letters(self.given());
        let surname = plain_letters(self.surname());
        match random.below(10) {
            0 => format!("{}{surname}{number}", &given[..1]),
            1 => format!("{given}_{surname}{number}"),
            2 => format!("{surname}.{given}{number}"),
            3 => format!("{given}{number}"),
            4 => format!("{given}-{surname}+school{number}"),
            _ => format!("{given}.{surname}{number}"),
        }
    }

    /// The name as one row has it.
    pub(super) fn write(&self, random: &mut Random, spelling: Spelling) -> String {
        let kind = random.below(1000);
        let own_script = spelling == Spelling::Any && !self.culture.native_surnames.is_empty();
        if own_script && kind < 350 {
            return self.native();
        }
        if spelling == Spelling::Any && random.chance(25) {
            return self.given().to_owned();
        }
        let mut name = self.romanised(random, spelling);
        match random.below(1000) {
            0..60 => name = name.to_uppercase(),
            60..100 => name = name.to_lowercase(),
            100..130 => name = name.replacen(' ', "  ", 1),
            130..145 => name.insert(0, ' '),
            145..160 => name.push(' '),
            // Decomposed accents, as some keyboards and old imports leave them.
            160..165 => name = name.nfd().collect(),
            // A no-break space, as copied from a web page.
            165..168 => name = name.replacen(' ', "\u{a0}", 1),
            _ => {}
        }
        name
    }

    fn romanised(&self, random: &mut Random, spelling: Spelling) -> String {
        let mut given = self.given().to_owned();
        if random.chance(40)
            && let Some(initial) = given.chars().next()
        {
            given = format!("{initial}.");
        }
        if let Some(middle) = self.middle {
            let middle = &given_names(self.culture, self.sex)[middle];
            match random.below(3) {
                0 => given = format!("{given} {middle}"),
                1 => given.extend(middle.chars().next().into_iter().flat_map(|initial| [' ', initial, '.'])),
                _ => {}
            }
        }
        let mut surname = self.surname().to_owned();
        if let Some(second) = self.second_surname
            && random.chance(500)
        {
            surname = format!("{surname} {}", self.culture.surnames[second]);
        }
        let family_first = self.culture.family_first && spelling == Spelling::Any && random.chance(500);
        let mut name = if random.chance(70) {
            format!("{surname}, {given}")
        } else if family_first {
            format!("{surname} {given}")
        } else {
            format!("{given} {surname}")
        };
        if let Some(suffix) = self.suffix
            && random.chance(700)
        {
            name = if random.chance(500) { format!("{name}, {suffix}") } else { format!("{name} {suffix}") };
        }
        if let Some(title) = self.title
            && random.chance(600)
        {
            name = format!("{title} {name}");
        }
        name
    }

    fn native(&self) -> String {
        let given = match self.sex {
            Sex::Male => &self.culture.native_male[self.given],
            Sex::Female => &self.culture.native_female[self.given],
        };
        let surname = &self.culture.native_surnames[self.surname];
        match (self.culture.family_first, self.culture.native_space) {
            (true, true) => format!("{surname} {given}"),
            (true, false) => format!("{surname}{given}"),
            (false, _) => format!("{given} {surname}"),
        }
    }
}

fn given_names(culture: &'static Culture, sex: Sex) -> &'static [String] {
    match sex {
        Sex::Male => &culture.male,
        Sex::Female => &culture.female,
    }
}

/// Either sex, each as often.
pub(super) fn either_sex(random: &mut Random) -> Sex {
    if random.chance(500) { Sex::Male } else { Sex::Female }
}

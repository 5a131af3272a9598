//! The lists that the sample is made of (`names.toml`, `places.toml`, `school.toml`), parsed once.
//!
//! They are data so that a culture or a country can be added without touching code. They are part of the program,
//! so a mistake in them is a mistake in the program: a unit test parses and checks them.

use std::sync::LazyLock;

use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

/// Everything that the data files say.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) names: Names,
    pub(super) countries: Vec<Country>,
    pub(super) school: School,
}

/// `names.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names {
    pub(super) titles_male: Vec<String>,
    pub(super) titles_female: Vec<String>,
    pub(super) suffixes: Vec<String>,
    #[serde(rename = "culture")]
    pub(super) cultures: Vec<Culture>,
}

/// How people of one culture are called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Culture {
    pub(super) name: String,
    #[serde(default)]
    pub(super) family_first: bool,
    #[serde(default)]
    pub(super) native_space: bool,
    #[serde(default)]
    pub(super) two_surnames: bool,
    #[serde(default)]
    pub(super) titles_male: Vec<String>,
    #[serde(default)]
    pub(super) titles_female: Vec<String>,
    pub(super) male: Vec<String>,
    pub(super) female: Vec<String>,
    pub(super) surnames: Vec<String>,
    #[serde(default)]
    pub(super) native_male: Vec<String>,
    #[serde(default)]
    pub(super) native_female: Vec<String>,
    #[serde(default)]
    pub(super) native_surnames: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Places {
    country: Vec<Country>,
}

/// One country: how phones and addresses are written there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Country {
    pub(super) code: String,
    pub(super) names: Vec<String>,
    /// Out of 100 schools.
    pub(super) share: u64,
    pub(super) calling: String,
    pub(super) trunk: String,
    pub(super) mobile: Vec<String>,
    cultures: Vec<String>,
    pub(super) cities: Vec<(String, String)>,
    pub(super) streets: Vec<String>,
    pub(super) post: String,
    pub(super) layouts: Vec<String>,
    /// `cultures`, as places in [`Names::cultures`].
    #[serde(skip)]
    pub(super) culture_places: Vec<usize>,
}

/// `school.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct School {
    pub(super) domains: Vec<String>,
    pub(super) vanity_words: Vec<String>,
    pub(super) impossible_phones: Vec<String>,
    pub(super) school_first: Vec<String>,
    pub(super) school_second: Vec<String>,
    pub(super) occupations: Vec<String>,
    pub(super) qualifications: Vec<String>,
    pub(super) class_names: Vec<String>,
    pub(super) awkward: Vec<String>,
    /// Code and name.
    pub(super) subjects: Vec<(String, String)>,
    pub(super) curricula: Vec<Curricula>,
    pub(super) grades: Vec<Grades>,
}

/// Spellings of the curricula of some countries (none named: of all others).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Curricula {
    countries: Vec<String>,
    spellings: Vec<String>,
}

/// Spellings of some years of school in some countries (none named: of all others).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grades {
    countries: Vec<String>,
    from: i64,
    to: i64,
    shift: i64,
    spellings: Vec<String>,
}

fn covers(countries: &[String], country: &str) -> bool {
    countries.is_empty() || countries.iter().any(|code| code == country)
}

impl School {
    /// How the curriculum is spelled in `country`.
    pub(super) fn curriculum_spellings(&self, country: &str) -> &[String] {
        self.curricula
            .iter()
            .find(|entry| covers(&entry.countries, country))
            .map_or(&[], |entry| &entry.spellings)
    }

    /// How the `year` of school (1 to 12) is spelled in `country`, and the number that stands for `{n}`.
    pub(super) fn grade_spellings(&self, country: &str, year: i64) -> (&[String], i64) {
        self.grades
            .iter()
            .find(|entry| covers(&entry.countries, country) && (entry.from..=entry.to).contains(&year))
            .map_or((&[], year), |entry| (&entry.spellings, year + entry.shift))
    }
}

/// The lists.
pub(super) static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the files are part of the program; a unit test parses them")]
    parse().expect("the sample's data files are valid")
});

fn parse() -> Result<Lists, toml::de::Error> {
    let names: Names = toml::from_str(include_str!("names.toml"))?;
    let Places { country: mut countries } = toml::from_str(include_str!("places.toml"))?;
    let school: School = toml::from_str(include_str!("school.toml"))?;
    for country in &mut countries {
        country.culture_places = country
            .cultures
            .iter()
            .filter_map(|name| names.cultures.iter().position(|culture| culture.name == *name))
            .collect();
    }
    Ok(Lists { names, countries, school })
}

/// The letters of a name that an email address can hold: "Ní Dhomhnaill" becomes "nidhomhnaill".
pub(super) fn plain_letters(name: &str) -> String {
    name.nfd().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_files_are_complete() {
        let lists = parse().unwrap();
        for culture in &lists.names.cultures {
            for (romanised, native) in [
                (&culture.male, &culture.native_male),
                (&culture.female, &culture.native_female),
                (&culture.surnames, &culture.native_surnames),
            ] {
                assert!(!romanised.is_empty(), "{}", culture.name);
                assert!(native.is_empty() == culture.native_surnames.is_empty(), "{}", culture.name);
                assert!(native.is_empty() || native.len() == romanised.len(), "{}", culture.name);
                assert!(romanised.iter().all(|name| !plain_letters(name).is_empty()), "{}", culture.name);
            }
        }
        assert_eq!(lists.countries.iter().map(|country| country.share).sum::<u64>(), 100);
        for country in &lists.countries {
            assert_eq!(country.cultures.len(), country.culture_places.len(), "{}", country.code);
            assert!(!lists.school.curriculum_spellings(&country.code).is_empty());
            for year in 1..=12 {
                assert!(!lists.school.grade_spellings(&country.code, year).0.is_empty(), "{}", country.code);
            }
            for layout in &country.layouts {
                for part in layout.split('{').skip(1) {
                    let word = part.split('}').next().unwrap();
                    assert!(
                        ["house", "street", "city", "region", "post", "country"].contains(&word),
                        "{layout}"
                    );
                }
            }
        }
    }
}

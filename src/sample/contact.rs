//! Emails, phones and addresses, and the ways in which they get typed into a form.
//!
//! As with names, the thing itself is fixed and its look is drawn for each row: a family has one phone, written
//! as "0803 123 4567" by the mother and as "+234-803-123-4567 ext. 2" by the school's office.

use super::lists::{Country, LISTS};
use super::random::Random;

/// One real phone.
#[derive(Debug, Clone)]
pub(super) struct Phone {
    country: &'static Country,
    /// The national number without its trunk prefix, in groups.
    groups: String,
}

impl Phone {
    pub(super) fn new(random: &mut Random, country: &'static Country) -> Self {
        let groups = random.pick(&country.mobile).chars().map(|c| digit_or(random, c)).collect();
        Self { country, groups }
    }

    /// The number as one row has it. Now and then it is one that no phone can have.
    pub(super) fn write(&self, random: &mut Random) -> String {
        let (trunk, calling) = (&self.country.trunk, &self.country.calling);
        let groups = &self.groups;
        let solid = || groups.replace(' ', "");
        match random.below(1000) {
            0..220 => format!("{trunk}{groups}"),
            220..470 => format!("{trunk}{}", solid()),
            470..580 => format!("+{calling} {groups}"),
            580..700 => format!("+{calling}{}", solid()),
            700..760 => format!("00{calling}{}", solid()),
            760..800 => format!("{trunk}{}", groups.replace(' ', ".")),
            800..860 => format!("{trunk}{}", groups.replace(' ', "-")),
            860..890 => format!("+{calling} (0) {groups}"),
            890..930 => match groups.split_once(' ') {
                Some((first, rest)) => format!("({trunk}{first}) {}", rest.replace(' ', "-")),
                None => format!("({trunk}{groups})"),
            },
            930..950 => format!("{trunk}{groups} ext. {}", 1 + random.below(99)),
            950..960 => format!("+{calling} {groups} x{}", 1 + random.below(99)),
            960..970 => format!("Tel: {trunk}{groups} "),
            970..975 => format!("{trunk}{groups} (WhatsApp)"),
            975..980 => format!("{trunk}{} / {trunk}{}", solid(), Self::new(random, self.country).groups),
            // Letters in place of the last four digits.
            980..985 => {
                let digits = solid();
                let word = random.pick(&LISTS.school.vanity_words);
                format!("{trunk}{}-{word}", &digits[..digits.len() - 4])
            }
            985..992 => random.pick(&LISTS.school.impossible_phones).clone(),
            // A digit too few, and digits that another keyboard layout typed.
            992..996 => {
                let digits = solid();
                format!("{trunk}{}", &digits[..digits.len() - 3])
            }
            _ => solid()
                .chars()
                .map(|c| c.to_digit(10).and_then(|d| char::from_u32(0x0660 + d)).unwrap_or(c))
                .collect(),
        }
    }
}

/// One real address.
#[derive(Debug, Clone)]
pub(super) struct Address {
    country: &'static Country,
    city: usize,
    street: usize,
    house: u64,
    post: String,
}

impl Address {
    pub(super) fn new(random: &mut Random, country: &'static Country) -> Self {
        Self {
            country,
            city: random.index(country.cities.len()),
            street: random.index(country.streets.len()),
            house: 1 + random.below(240),
            post: country.post.chars().map(|c| digit_or(random, c)).collect(),
        }
    }

    /// The address as one row has it.
    pub(super) fn write(&self, random: &mut Random) -> String {
        let (city, region) = &self.country.cities[self.city];
        let mut text = String::with_capacity(64);
        let mut parts = random.pick(&self.country.layouts).split('{');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let Some((word, rest)) = part.split_once('}') else { continue };
            match word {
                "house" => text.push_str(&self.house.to_string()),
                "street" => text.push_str(&self.country.streets[self.street]),
                "city" => text.push_str(city),
                "region" => text.push_str(region),
                "post" => text.push_str(&self.post),
                _ => text.push_str(random.pick::<String>(&self.country.names)),
            }
            text.push_str(rest);
        }
        match random.below(1000) {
            0..40 => text.to_uppercase(),
            40..60 => text.to_lowercase(),
            60..90 => text.replace(", ", ","),
            90..110 => text.replace(", ", " , "),
            110..130 => format!("{text},"),
            130..150 => text.replacen(", ", ",, ", 1),
            150..160 => text.replace(", ", "\n"),
            _ => text,
        }
    }
}

fn digit_or(random: &mut Random, pattern: char) -> char {
    match pattern {
        '#' => char::from(b'0' + random.below(10) as u8),
        '@' => char::from(*random.pick(b"ABCDEFGHJKLMNPRSTWXY")),
        other => other,
    }
}

/// What is wrong with the email of a row, counted in the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mess {
    None,
    Missing,
    Unusable,
    Duplicate,
}

/// The email of a row.
#[derive(Debug, Clone)]
pub(super) struct Email {
    /// What the row says.
    pub(super) text: Option<String>,
    pub(super) mess: Mess,
}

impl Email {
    /// No email, in one of the ways in which people leave a field empty. NULL alone if the column is unique.
    pub(super) fn missing(random: &mut Random, unique: bool) -> Self {
        let text = if unique {
            None
        } else {
            match random.below(20) {
                0..10 => None,
                10..15 => Some(""),
                15..18 => Some("N/A"),
                18 => Some("n/a"),
                _ => Some(" "),
            }
        };
        Self { text: text.map(str::to_owned), mess: Mess::Missing }
    }

    /// Something that is no email address but tells whose it was meant to be.
    pub(super) fn unusable(random: &mut Random, address: &str) -> Self {
        let text = match random.below(5) {
            0 => address.replace('@', " at "),
            1 => address.split('@').next().unwrap_or_default().to_owned(),
            2 => address.replace('@', "@@"),
            3 => format!("{address}; {address}.uk"),
            _ => address.replace('@', "@ "),
        };
        Self { text: Some(text), mess: Mess::Unusable }
    }

    /// A person's own address, sometimes with capitals.
    pub(super) fn own(random: &mut Random, address: &str) -> Self {
        let text = if random.chance(60) { capitalised(address) } else { address.to_owned() };
        Self { text: Some(text), mess: Mess::None }
    }

    /// An address that an earlier row has too, exactly or with other case and spacing.
    pub(super) fn duplicate(random: &mut Random, address: &str) -> Self {
        let text = match random.below(10) {
            0 => address.to_ascii_uppercase(),
            1 | 2 => capitalised(address),
            3 => format!("{address} "),
            4 => format!(" {address}"),
            5 => format!("\t{}", capitalised(address)),
            _ => address.to_owned(),
        };
        Self { text: Some(text), mess: Mess::Duplicate }
    }

    /// A duplicate for a column with a case-sensitive unique index. `distance` is how many rows ago the first one
    /// came: distinct distances give distinct texts, all unlike those of [`Email::own`].
    pub(super) fn duplicate_for_unique(address: &str, distance: usize) -> Self {
        let text = match distance {
            0 | 1 => address.to_ascii_uppercase(),
            2 => format!(" {address}"),
            more => format!("{address}{}", " ".repeat(more - 2)),
        };
        Self { text: Some(text), mess: Mess::Duplicate }
    }
}

/// "adaeze.okafor1@example.com" as "Adaeze.Okafor1@example.com".
fn capitalised(address: &str) -> String {
    let mut at_start = true;
    let mut in_local = true;
    let capitalise = |c: char| {
        in_local &= c != '@';
        let shown = if at_start && in_local { c.to_ascii_uppercase() } else { c };
        at_start = !c.is_ascii_alphanumeric();
        shown
    };
    address.chars().map(capitalise).collect()
}

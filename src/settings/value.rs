//! What a setting's text means. All layers arrive as text, so that `batch_size = 5000` in a file,
//! `V1V2_BATCH_SIZE=5000` and `--batch-size 5000` are judged by the same few lines.

use std::time::Duration;

use super::{Color, MaxRejects, OnEdited, PasswordMode};

/// What was expected instead, as the end of a sentence: "must be …".
pub(crate) type Parsed<T> = Result<T, String>;

/// A whole number inside a range. Underscores and commas may group digits.
pub(super) fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Parsed<u64> {
    let wanted = || {
        if *range.end() == u64::MAX {
            format!("must be a whole number of at least {}", range.start())
        } else {
            format!("must be a whole number from {} to {}", range.start(), range.end())
        }
    };
    let digits: String = text.trim().chars().filter(|c| !matches!(c, '_' | ',')).collect();
    digits.parse().ok().filter(|number| range.contains(number)).ok_or_else(wanted)
}

/// As [`number`], for what is a count in memory.
pub(super) fn count(text: &str, range: std::ops::RangeInclusive<u64>) -> Parsed<usize> {
    usize::try_from(number(text, range)?).map_err(|_| "is too large for this machine".to_owned())
}

/// `true` or `false`, and the words people use for them in the environment.
pub(super) fn truth(text: &str) -> Parsed<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// Splits `10 MiB` into its number and its lower-case unit.
fn with_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let digits: String = text[..end].chars().filter(|c| *c != '_').collect();
    Some((digits.parse().ok()?, text[end..].trim().to_ascii_lowercase()))
}

/// A size in bytes: `8388608`, `8MiB`, `8 MB`. As in Postgres's own settings, kB and MB are powers of 1,024.
pub(super) fn bytes(text: &str) -> Parsed<usize> {
    with_unit(text)
        .and_then(|(number, unit)| {
            let factor: u64 = match unit.as_str() {
                "" | "b" => 1,
                "k" | "kb" | "kib" => 1 << 10,
                "m" | "mb" | "mib" => 1 << 20,
                "g" | "gb" | "gib" => 1 << 30,
                _ => return None,
            };
            usize::try_from(number.checked_mul(factor)?).ok()
        })
        .filter(|size| *size >= 64 << 10)
        .ok_or_else(|| "must be a size of at least 64KiB, such as 8MiB".to_owned())
}

/// A duration: a number of seconds, or a number with `ms`, `s`, `min` or `h`. Postgres holds timeouts as
/// milliseconds in 32 bits with a sign, so that is the limit here too.
pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    with_unit(text)
        .and_then(|(number, unit)| {
            let millis = match unit.as_str() {
                "ms" => 1,
                "" | "s" | "sec" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            number.checked_mul(millis).filter(|ms| *ms <= i32::MAX as u64).map(Duration::from_millis)
        })
        .ok_or_else(|| "must be a duration, such as 500ms, 10s or 5min".to_owned())
}

/// A number of rows, or a share of them: `50`, `2%`, `0.5%`.
pub(super) fn max_rejects(text: &str) -> Parsed<MaxRejects> {
    let parsed = match text.strip_suffix('%') {
        Some(share) => {
            let share: Option<f64> = share.trim().parse().ok();
            share.filter(|share| (0.0..=100.0).contains(share)).map(MaxRejects::Percent)
        }
        None => text.parse().ok().map(MaxRejects::Rows),
    };
    parsed.ok_or_else(|| "must be a number of rows, or a share such as 2%".to_owned())
}

/// The names of [`PasswordMode`].
pub(crate) const PASSWORD_MODES: &[&str] = &["generate", "keep", "none"];

/// How accounts get their passwords.
pub(super) fn password_mode(text: &str) -> Parsed<PasswordMode> {
    match text {
        "generate" => Ok(PasswordMode::Generate),
        "keep" => Ok(PasswordMode::Keep),
        "none" => Ok(PasswordMode::None),
        _ => Err(one_of(PASSWORD_MODES, text)),
    }
}

/// The names of [`OnEdited`].
pub(crate) const ON_EDITED: &[&str] = &["keep", "overwrite"];

/// What becomes of edited rows of V2.
pub(super) fn on_edited(text: &str) -> Parsed<OnEdited> {
    match text {
        "keep" => Ok(OnEdited::Keep),
        "overwrite" => Ok(OnEdited::Overwrite),
        _ => Err(one_of(ON_EDITED, text)),
    }
}

/// The names of [`Color`].
pub(crate) const COLORS: &[&str] = &["auto", "always", "never"];

/// When to use colours.
pub(super) fn color(text: &str) -> Parsed<Color> {
    match text {
        "auto" => Ok(Color::Auto),
        "always" => Ok(Color::Always),
        "never" => Ok(Color::Never),
        _ => Err(one_of(COLORS, text)),
    }
}

fn one_of(names: &[&str], text: &str) -> String {
    let list = names.join(", ");
    match did_you_mean(text, names.iter().copied()) {
        Some(name) => format!("must be one of {list}; did you mean {name}?"),
        None => format!("must be one of {list}"),
    }
}

/// A path: any text but an empty one.
pub(super) fn path(text: &str) -> Parsed<std::path::PathBuf> {
    if text.is_empty() { Err("must be a path".to_owned()) } else { Ok(text.into()) }
}

/// The name nearest to what was written, if one is near enough to be meant: Jaro-Winkler of at least 0.8, which
/// finds a transposition or a missing letter but not another word.
pub fn did_you_mean<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&written, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(bytes("8MiB"), Ok(8 << 20));
        assert_eq!(bytes("8 mb"), Ok(8 << 20));
        assert_eq!(bytes("65536"), Ok(65536));
        assert!(bytes("1").is_err() && bytes("8 apples").is_err() && bytes("-1").is_err());
        assert!(bytes("99999999999GiB").is_err());
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5 min"), Ok(Duration::from_secs(300)));
        assert!(duration("soon").is_err() && duration("").is_err() && duration("99999999h").is_err());
    }

    #[test]
    fn numbers_say_their_range() {
        assert_eq!(number("5_000", 1..=u64::MAX), Ok(5000));
        assert_eq!(number("0", 1..=64), Err("must be a whole number from 1 to 64".to_owned()));
        assert_eq!(number("abc", 1..=u64::MAX), Err("must be a whole number of at least 1".to_owned()));
    }

    #[test]
    fn a_near_name_is_proposed() {
        assert_eq!(did_you_mean("batchsize", ["writers", "batch_size"].into_iter()), Some("batch_size"));
        assert_eq!(did_you_mean("zebra", ["writers", "batch_size"].into_iter()), None);
    }
}

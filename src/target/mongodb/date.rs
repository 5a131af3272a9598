//! Dates and timestamps of Postgres as BSON's milliseconds.
//!
//! Twenty million of them go through a run, all in one form (`DateStyle ISO`, UTC), so they are read digit by digit.

use super::value::Fault;

const NO_DATE: Fault = Fault::NoValue("date or timestamp");
const DAY: i64 = 86_400_000;
/// 0001-01-01 and the last millisecond of 9999-12-31.
const RANGE: std::ops::RangeInclusive<i64> = -719_162 * DAY..=2_932_897 * DAY - 1;

/// Milliseconds since 1970 in UTC. Without an offset the text is in UTC. BSON counts whole milliseconds: what is finer
/// is cut off, towards the past on either side of 1970, so the order of any two stays what it was.
///
/// # Errors
/// `infinity`, years before 1 and after 9999: BSON could count to the latter, but hardly any program that reads them
/// can. Text that is no date.
pub fn milliseconds(text: &str) -> Result<i64, Fault> {
    if matches!(text, "infinity" | "-infinity") || text.ends_with(" BC") {
        return Err(Fault::DateRange);
    }
    let mut text = Text(text.as_bytes());
    let (year, month, day) = text.date()?;
    let mut time = days(year, month, day) * DAY;
    if !text.0.is_empty() {
        if !text.skip(b' ') && !text.skip(b'T') {
            return Err(NO_DATE);
        }
        time += text.time()? - text.offset()?;
    }
    if !text.0.is_empty() {
        return Err(NO_DATE);
    }
    if RANGE.contains(&time) { Ok(time) } else { Err(Fault::DateRange) }
}

struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn digit(&mut self) -> Option<i64> {
        let [digit @ b'0'..=b'9', rest @ ..] = self.0 else { return None };
        self.0 = rest;
        Some(i64::from(digit - b'0'))
    }

    /// Two digits, at most `most`.
    fn pair(&mut self, most: i64) -> Result<i64, Fault> {
        let number = self.digit().ok_or(NO_DATE)? * 10 + self.digit().ok_or(NO_DATE)?;
        if number <= most { Ok(number) } else { Err(NO_DATE) }
    }

    fn date(&mut self) -> Result<(i64, i64, i64), Fault> {
        let mut year = 0;
        let mut digits = 0;
        while let Some(digit) = self.digit() {
            year = (year * 10 + digit).min(100_000);
            digits += 1;
        }
        if digits < 4 || !self.skip(b'-') {
            return Err(NO_DATE);
        }
        let month = self.pair(12)?;
        if !self.skip(b'-') {
            return Err(NO_DATE);
        }
        let day = self.pair(31)?;
        if !(1..=9_999).contains(&year) {
            return Err(Fault::DateRange);
        }
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if month == 0 || day == 0 || day > last { Err(NO_DATE) } else { Ok((year, month, day)) }
    }

    fn time(&mut self) -> Result<i64, Fault> {
        let hours = self.pair(24)?;
        if !self.skip(b':') {
            return Err(NO_DATE);
        }
        let minutes = self.pair(59)?;
        let mut time = (hours * 60 + minutes) * 60_000;
        if self.skip(b':') {
            time += self.pair(60)? * 1_000;
            if self.skip(b'.') {
                let mut unit = 100;
                time += self.digit().ok_or(NO_DATE)? * unit;
                while let Some(digit) = self.digit() {
                    unit /= 10;
                    time += digit * unit;
                }
            }
        }
        if time <= DAY { Ok(time) } else { Err(NO_DATE) }
    }

    /// `Z`, `+00`, `-03:30`, `+00:19:32`, or nothing.
    fn offset(&mut self) -> Result<i64, Fault> {
        if self.0.is_empty() || self.skip(b'Z') {
            return Ok(0);
        }
        let sign = if self.skip(b'-') { -1 } else { 1 };
        if sign == 1 && !self.skip(b'+') {
            return Err(NO_DATE);
        }
        let mut seconds = self.pair(23)? * 3_600;
        if self.skip(b':') {
            seconds += self.pair(59)? * 60;
            if self.skip(b':') {
                seconds += self.pair(59)?;
            }
        }
        Ok(sign * seconds * 1_000)
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years are counted from March, so that a leap day is the
/// last one; 400 of them have 146,097 days.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_postgres_writes() {
        let of = |text: &str| milliseconds(text);
        assert_eq!(of("1970-01-01"), Ok(0));
        assert_eq!(of("0001-01-01"), Ok(-62_135_596_800_000));
        assert_eq!(of("9999-12-31 23:59:59.999999"), Ok(253_402_300_799_999));
        assert_eq!(of("2024-02-29 12:34:56.789"), Ok(1_709_210_096_789));
        assert_eq!(of("2024-02-29 12:34:56.7+00"), Ok(1_709_210_096_700));
        assert_eq!(of("2024-02-29T12:34:56Z"), Ok(1_709_210_096_000));
        assert_eq!(of("2024-02-29 12:34:56+05:30"), Ok(1_709_190_296_000));
        assert_eq!(of("1970-01-01 00:00:00.001999"), Ok(1), "cut off, not rounded");
        assert_eq!(of("1969-12-31 23:59:59.999001"), Ok(-1), "towards the past");
    }

    #[test]
    fn some_have_no_place_in_bson() {
        for text in [
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "0001-01-01 00:00:00 BC",
            "10000-01-01",
            "294276-12-31 23:59:59",
            "0000-01-01",
            "0001-01-01 00:00:00+01",
            "9999-12-31 23:59:59-01",
        ] {
            assert_eq!(milliseconds(text), Err(Fault::DateRange), "{text}");
        }
        for text in [
            "",
            "soon",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-1-1",
            "24-01-01",
            "2024-01-01 ",
            "2024-01-01 25:00",
            "2024-01-01 24:01",
            "2024-01-01 12",
            "2024-01-01 12:00:00.",
            "2024-01-01 12:00+",
            "2024-01-01 12:00:00 CET",
            "2024-01-01x",
        ] {
            assert_eq!(milliseconds(text), Err(NO_DATE), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_048))]

        #[test]
        fn agrees_with_the_calendar(micros in -62_135_596_800_000_000_i64..=253_402_207_200_999_999) {
            let time = jiff::Timestamp::from_microsecond(micros).unwrap();
            let text = time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
            prop_assert_eq!(milliseconds(&text), Ok(micros.div_euclid(1_000)));
            let day = text.split(' ').next().unwrap();
            prop_assert_eq!(milliseconds(day), Ok(micros.div_euclid(86_400_000_000) * DAY));
        }
    }
}

//! Numbers from their text, exactly or not at all.
//!
//! Postgres's `numeric` has up to 147,455 digits, a decimal of BSON 34, a double about 16. A number that does not fit
//! is refused: a balance that was rounded on the way is worse than one that was left behind. The driver's own parser
//! of decimals would do, but it makes several strings and bit slices for each number.

use super::value::Fault;

/// Digits of a decimal128.
const DIGITS: u32 = 34;
/// Exponents of a decimal128 whose coefficient is a whole number (IEEE 754-2008, table 3.6: emax 6144, 34 digits).
const EXPONENTS: std::ops::RangeInclusive<i64> = -6176..=6111;
const NAN: u128 = 0x7c << 120;
const INFINITY: u128 = 0x78 << 120;

/// `coefficient * 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    coefficient: u128,
    exponent: i64,
}

impl Decimal {
    /// Parses `-12.50`, `1e-7`: all that Postgres and JSON write.
    fn parse(text: &[u8]) -> Result<Self, Fault> {
        const NO_NUMBER: Fault = Fault::NoValue("number");
        let (negative, mut rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let mut coefficient = 0_u128;
        let mut exponent = 0_i64;
        let mut significant = 0;
        let (mut any, mut point) = (false, false);
        while let [byte, tail @ ..] = rest {
            match byte {
                b'0'..=b'9' if significant < DIGITS => {
                    any = true;
                    coefficient = coefficient * 10 + u128::from(byte - b'0');
                    significant += u32::from(coefficient > 0);
                    exponent -= i64::from(point);
                }
                // Zeros that follow 34 digits only move the point.
                b'0' => exponent += i64::from(!point),
                b'1'..=b'9' => return Err(if is_number(text) { Fault::Precision } else { NO_NUMBER }),
                b'.' if !point => point = true,
                b'e' | b'E' => {
                    exponent = exponent.saturating_add(power(tail).ok_or(NO_NUMBER)?);
                    rest = &[];
                    break;
                }
                _ => return Err(NO_NUMBER),
            }
            rest = tail;
        }
        if any && rest.is_empty() { Ok(Self { negative, coefficient, exponent }) } else { Err(NO_NUMBER) }
    }

    /// The same number, with as few digits as possible.
    fn reduced(mut self) -> Self {
        if self.coefficient == 0 {
            self.exponent = 0;
        }
        while self.coefficient != 0 && self.coefficient.is_multiple_of(10) {
            self.coefficient /= 10;
            self.exponent += 1;
        }
        self
    }

    /// The bits of a decimal128. Trailing zeros stay (`1.50`) as far as there is room for them.
    fn bits(mut self) -> Result<u128, Fault> {
        if self.coefficient == 0 {
            self.exponent = self.exponent.clamp(*EXPONENTS.start(), *EXPONENTS.end());
        }
        while self.exponent < *EXPONENTS.start() && self.coefficient.is_multiple_of(10) {
            self.coefficient /= 10;
            self.exponent += 1;
        }
        while self.exponent > *EXPONENTS.end() && self.coefficient < 10_u128.pow(DIGITS - 1) {
            self.coefficient *= 10;
            self.exponent -= 1;
        }
        if !EXPONENTS.contains(&self.exponent) {
            return Err(Fault::Precision);
        }
        // 34 digits need less than 113 bits, so the format's second form, for larger coefficients, never comes up.
        let biased = (self.exponent - EXPONENTS.start()) as u128;
        Ok(u128::from(self.negative) << 127 | biased << 113 | self.coefficient)
    }
}

/// The power of ten behind an `e`.
fn power(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far outside of what fits is as good as even farther.
    let size = digits.iter().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if text[0] == b'-' { -size } else { size })
}

/// Whether text with many digits is a number at all.
fn is_number(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// The bits of a decimal128 with exactly this value.
///
/// # Errors
/// If there is none, or the text is no number.
pub fn decimal(text: &str) -> Result<u128, Fault> {
    match text {
        "NaN" => Ok(NAN),
        "Infinity" => Ok(INFINITY),
        "-Infinity" => Ok(1 << 127 | INFINITY),
        _ => Decimal::parse(text.as_bytes())?.bits(),
    }
}

/// The double that stands for this number: whose shortest text has the same value. So `0.1` has one, and a number of
/// 20 digits has none.
///
/// # Errors
/// If there is none, or the text is no number.
pub fn double(text: &str) -> Result<f64, Fault> {
    let value: f64 = text.parse().map_err(|_| Fault::NoValue("number"))?;
    // Fifteen digits always come back from a double, if it is not among the very small ones.
    if text.len() <= 15 && (1e-290..1e290).contains(&value.abs()) {
        return Ok(value);
    }
    if !value.is_finite() {
        let is_named = !text.bytes().any(|byte| byte.is_ascii_digit());
        return if is_named { Ok(value) } else { Err(Fault::Precision) };
    }
    let shortest = Decimal::parse(format!("{value:e}").as_bytes())?;
    if shortest.reduced() == Decimal::parse(text.as_bytes())?.reduced() {
        Ok(value)
    } else {
        Err(Fault::Precision)
    }
}

/// A whole number.
///
/// # Errors
/// If the type cannot hold it, if it is not whole, or if the text is no number.
pub fn integer<T: std::str::FromStr>(text: &str) -> Result<T, Fault> {
    text.parse()
        .map_err(|_| if is_number(text.as_bytes()) { Fault::Precision } else { Fault::NoValue("number") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::Decimal128;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Decimal128, Fault> {
        decimal(text).map(|bits| Decimal128::from_bytes(bits.to_le_bytes()))
    }

    #[test]
    fn decimals_are_exact() {
        let nines = "9".repeat(34);
        for text in [
            "0",
            "1",
            "-1",
            "0.00",
            "1.50",
            "-0.000001",
            "12345678901234567890.12345678901234",
            "NaN",
            "Infinity",
            "-Infinity",
            &nines,
            &format!("-0.{nines}"),
            "1E+6144",
            "1E-6176",
        ] {
            let decimal = parsed(text).unwrap();
            assert_eq!(decimal, text.parse().unwrap(), "{text}");
        }
        assert_eq!(parsed("1.50").unwrap().to_string(), "1.50");
        assert_eq!(
            parsed(&format!("1{}", "0".repeat(40))).unwrap().to_string(),
            format!("1.{}E+40", "0".repeat(33))
        );
        assert_eq!(
            parsed(&format!("1.{}", "0".repeat(40))).unwrap().to_string(),
            format!("1.{}", "0".repeat(33))
        );
        assert_eq!(parsed(&format!("0.{}", "0".repeat(16_383))).unwrap().to_string(), "0E-6176");
        let largest = format!("{nines}{}", "0".repeat(6_111));
        assert_eq!(parsed(&largest).unwrap().to_string(), format!("9.{}E+6144", &nines[1..]));
    }

    #[test]
    fn decimals_are_never_rounded() {
        let many = "1".repeat(35);
        for text in [
            many.as_str(),
            &format!("0.{many}"),
            &format!("1.{}1", "0".repeat(34)),
            &format!("1{}", "0".repeat(6_145)),
            &format!("0.{}1", "0".repeat(6_176)),
            "1e6145",
            "11e-6177",
            "1e-99999999999999999999999",
        ] {
            assert_eq!(parsed(text), Err(Fault::Precision), "{text}");
        }
        for text in ["", "-", ".", "1e", "1e+", "e1", "1.2.3", "12a", "0x1", " 1", &format!("{many}x")] {
            assert_eq!(parsed(text), Err(Fault::NoValue("number")), "{text}");
        }
    }

    #[test]
    fn doubles_come_back() {
        for text in
            ["0", "0.1", "-2.5", "1e300", "0.30000000000000004", "5e-324", "100000000000000000000", "1e22"]
        {
            assert_eq!(double(text), Ok(text.parse().unwrap()), "{text}");
        }
        assert_eq!(double("-0").unwrap().to_bits(), (-0.0_f64).to_bits());
        assert!(double("NaN").unwrap().is_nan());
        assert_eq!(double("-Infinity"), Ok(f64::NEG_INFINITY));
        for text in
            ["12345678901234567890", "0.12345678901234567", "1e309", "1e-400", "9007199254740993", "3e-324"]
        {
            assert_eq!(double(text), Err(Fault::Precision), "{text}");
        }
        assert_eq!(double("one"), Err(Fault::NoValue("number")));
    }

    #[test]
    fn integers_fit_or_not() {
        assert_eq!(integer("-2147483648"), Ok(i32::MIN));
        assert_eq!(integer::<i32>("2147483648"), Err(Fault::Precision));
        assert_eq!(integer::<i64>("1.5"), Err(Fault::Precision));
        assert_eq!(integer::<i64>("x"), Err(Fault::NoValue("number")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn agrees_with_the_driver(text in r"-?(0|[1-9][0-9]{0,35})(\.[0-9]{1,36})?(e[+-]?[0-9]{1,4})?") {
            // The driver keeps other trailing zeros where there is no room for all: the value is what counts.
            let value = |decimal: Decimal128| Decimal::parse(decimal.to_string().as_bytes()).unwrap().reduced();
            let digits: String = text.split('e').next().unwrap().chars().filter(char::is_ascii_digit).collect();
            match (parsed(&text), text.parse::<Decimal128>()) {
                (Ok(ours), Ok(driver)) => prop_assert_eq!(value(ours), value(driver)),
                (Ok(ours), Err(_)) => prop_assert_eq!(value(ours), Decimal::parse(text.as_bytes()).unwrap().reduced()),
                (Err(fault), driver) => {
                    prop_assert_eq!(fault, Fault::Precision);
                    prop_assert!(driver.is_err() || digits.trim_matches('0').len() > 34);
                }
            }
        }

        #[test]
        fn every_double_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(double(&format!("{value:e}")).unwrap().to_bits(), bits);
            prop_assert_eq!(double(&value.to_string()).unwrap().to_bits(), bits);
        }
    }
}

use super::*;
use proptest::prelude::*;

fn number(raw: &str, region: &str) -> String {
    match normalise(raw, region) {
        Phone::Possible { e164, .. } => e164,
        other => format!("{other:?}"),
    }
}

#[test]
fn many_spellings_one_number() {
    for raw in [
        "08031234567",
        "0803 123 4567",
        "0803-123-4567",
        "(0803) 123 4567",
        "+2348031234567",
        "+234 803 123 4567",
        "+234 (0) 803 123 4567",
        "234 803 123 4567",
        "2348031234567",
        "8031234567",
        "002348031234567",
        "0092348031234567",
        "tel:+234-803-123-4567",
        "Tel: 0803 123 4567",
        "\u{202a}+234 803 123 4567\u{202c}",
        "０８０３１２３４５６７",
        "٠٨٠٣١٢٣٤٥٦٧",
        "'08031234567",
        "8031234567.0",
        "0803.123.4567",
        "08031234567 / 08059876543",
        "08031234567, 08059876543",
        "0803 123 4567 or 0805 987 6543",
        "08031234567 08059876543",
        "08031234567;08059876543",
        "08031234567\n08059876543",
        "08031234567/8",
    ] {
        assert_eq!(number(raw, "NG"), "+2348031234567", "{raw}");
    }
    for (raw, region, want) in [
        ("020 7946 0018", "GB", "+442079460018"),
        ("+44 (0)20 7946 0018", "NG", "+442079460018"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("1-212-555-0123", "US", "+12125550123"),
        ("030/23125555", "DE", "+493023125555"),
        ("0171 / 1234567", "DE", "+491711234567"),
        ("+49 (0)6131/123456", "DE", "+496131123456"),
        ("06 12 34 56 78", "FR", "+33612345678"),
        ("06-12345678", "NL", "+31612345678"),
        ("06 6982 1234", "IT", "+390669821234"),
        ("098765 43210", "IN", "+919876543210"),
        ("090-1234-5678", "JP", "+819012345678"),
        ("(11) 98765-4321", "BR", "+5511987654321"),
        ("0712 345678", "KE", "+254712345678"),
    ] {
        assert_eq!(number(raw, region), want, "{raw}");
    }
}

#[test]
fn remarks() {
    let flags = |raw: &str, region: &str| match normalise(raw, region) {
        Phone::Possible { flags, .. } => flags,
        other => panic!("{raw}: {other:?}"),
    };
    assert!(flags("0803 123 4567", "NG").is_empty());
    assert_eq!(flags("1-800-FLOWERS", "US"), PhoneFlags::LETTERS_TO_DIGITS);
    assert_eq!(flags("08031234567 / 08059876543", "NG"), PhoneFlags::FIRST_OF_SEVERAL);
    assert_eq!(flags("Mama: 08031234567", "NG"), PhoneFlags::TEXT_IGNORED);
    assert_eq!(flags("1-800-FLOWERS", "US").names().collect::<Vec<_>>(), ["letters-to-digits"]);
    for raw in ["(212) 555-0123 x12", "212-555-0123 ext. 12", "tel:+1-212-555-0123;ext=12"] {
        let Phone::Possible { e164, extension, flags, .. } = normalise(raw, "US") else { panic!("{raw}") };
        assert_eq!((e164.as_str(), extension.as_deref()), ("+12125550123", Some("12")), "{raw}");
        assert!(flags.is_empty(), "{raw}: {flags:?}");
    }
    // Possible, but a range that nobody has.
    assert!(matches!(normalise("+234 100 000 0000", "NG"), Phone::Possible { valid: false, .. }));
    assert!(matches!(normalise("0803 123 4567", "NG"), Phone::Possible { valid: true, .. }));
}

#[test]
fn nothing_and_nonsense() {
    for raw in ["", " ", "-", "N/A", "none", "0", "000000", "0000-000-0000", "nil", "\u{200b}", "no phone"] {
        assert_eq!(normalise(raw, "NG"), Phone::Missing, "{raw}");
    }
    for raw in [
        "12",
        "abc",
        "ask at the gate",
        "08O31234567",
        "8.03123E+09",
        "555",
        "+999 123 4567",
        "080312345678901234567",
        "ada@example.org",
    ] {
        assert_eq!(normalise(raw, "NG"), Phone::Impossible, "{raw}");
    }
    // A local number without its area code is not +1 555 0123.
    assert_eq!(normalise("555-0123", "US"), Phone::Impossible);
    assert_eq!(normalise("08031234567", "ZZ"), Phone::Impossible);
    assert_eq!(number("+2348031234567", "ZZ"), "+2348031234567");
}

#[test]
fn regions() {
    for region in ["NG", "GB", "US", "DE", "IN", "ZA"] {
        assert_eq!(check_region(region), Ok(()));
    }
    for (region, hint) in
        [("UK", "`GB`"), ("ng", "`NG`"), ("USA", "`US`"), ("ZZ", "ISO 3166"), ("", "ISO 3166"), ("ä", "ISO")]
    {
        assert!(check_region(region).is_err_and(|why| why.contains(hint)), "{region}");
    }
}

#[test]
fn two_numbers_with_blanks_inside_and_between() {
    for raw in ["0803 123 4567 0805 765 4321", "0803  123  4567   0805 765 4321", "08031234567 08057654321"] {
        let Phone::Possible { e164, flags, .. } = normalise(raw, "NG") else { panic!("{raw}") };
        assert_eq!(e164, "+2348031234567", "{raw}");
        assert!(flags.contains(PhoneFlags::FIRST_OF_SEVERAL), "{raw}");
    }
    assert_eq!(normalise(&"12 ".repeat(20_000), "NG"), Phone::Impossible);
}

fn inputs() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[+]?[0-9 ()./,;-]{5,24}",
        "0[789][01][0-9]{8}( ?[/,;x&] ?[0-9]{1,11})?",
        "\\+[1-9][0-9]{6,14}",
        "[0-9A-Za-z+ .x/]{4,20}",
        "(Tel|Mob)?[:. ]?[0-9０-９٠-٩ -]{7,16}(ext|x)?[0-9]{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn normalising_twice_changes_nothing(raw in inputs(), region in "NG|US|DE|IT|AR|MX|BR|GB|ZZ|") {
        if let Phone::Possible { e164, valid, .. } = normalise(&raw, &region) {
            prop_assert!(e164.len() <= 18 && e164.starts_with('+'));
            prop_assert!(e164[1..].bytes().all(|byte| byte.is_ascii_digit()));
            let want = Phone::Possible { e164: e164.clone(), valid, extension: None, flags: PhoneFlags::NONE };
            prop_assert_eq!(normalise(&e164, &region), want.clone());
            prop_assert_eq!(normalise(&e164, "US"), want);
        }
    }

    #[test]
    fn any_region_text_is_safe(region in any::<String>()) {
        let _checked = check_region(&region);
        let _read = normalise("08031234567", &region);
    }
}

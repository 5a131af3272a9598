use super::*;
use proptest::prelude::*;

fn usable(raw: &str) -> (String, EmailFlags) {
    match normalise(raw) {
        Email::Usable { address, flags } => (address, flags),
        other => panic!("{raw}: {other:?}"),
    }
}

#[test]
fn one_spelling_per_mailbox() {
    for (raw, want) in [
        ("Ada@Example.ORG", "ada@example.org"),
        ("  ada@example.org\t", "ada@example.org"),
        ("\u{feff}ada@example.org\u{200b}", "ada@example.org"),
        ("\u{a0}ada.obi+x@mail.example.co.uk", "ada.obi+x@mail.example.co.uk"),
        ("mailto:ada@example.org", "ada@example.org"),
        ("MAILTO:Ada@example.org?subject=Hi", "ada@example.org"),
        ("Ada Obi <Ada@Example.org>", "ada@example.org"),
        ("<ada@example.org>", "ada@example.org"),
        ("\"Obi, Ada\" <ada@example.org>", "ada@example.org"),
        ("ada@example.org,", "ada@example.org"),
        ("ada@example.org.", "ada@example.org"),
        ("o'brien@example.ie", "o'brien@example.ie"),
        ("a/b=c@example.org", "a/b=c@example.org"),
        ("hans@müller.de", "hans@xn--mller-kva.de"),
        ("hans@MÜLLER.de", "hans@xn--mller-kva.de"),
        ("hans@xn--mller-kva.de", "hans@xn--mller-kva.de"),
        ("josé@example.es", "josé@example.es"),
        ("jose\u{301}@example.es", "josé@example.es"),
        ("user@例え.jp", "user@xn--r8jz45g.jp"),
    ] {
        assert_eq!(usable(raw).0, want, "{raw}");
    }
}

#[test]
fn doubtful_spellings_are_flagged() {
    for (raw, want, flag) in [
        ("ａｄａ@example.org", "ada@example.org", EmailFlags::CHANGED_BY_NFKC),
        ("ada@ｅxample.org", "ada@example.org", EmailFlags::CHANGED_BY_NFKC),
        ("\u{212a}ate@example.org", "kate@example.org", EmailFlags::CHANGED_BY_NFKC),
        ("ada@example。org", "ada@example.org", EmailFlags::CHANGED_BY_NFKC),
        ("a\u{200b}da@example.org", "ada@example.org", EmailFlags::INVISIBLE_REMOVED),
        ("\u{130}brahim@example.com.tr", "i\u{307}brahim@example.com.tr", EmailFlags::TURKISH_I),
        ("\u{131}rmak@example.com.tr", "\u{131}rmak@example.com.tr", EmailFlags::TURKISH_I),
        // Cyrillic а in a Latin word, before and after the @, plain and as punycode.
        ("\u{430}da@example.org", "\u{430}da@example.org", EmailFlags::MIXED_SCRIPT),
        ("ada@ex\u{430}mple.org", "ada@xn--exmple-4nf.org", EmailFlags::MIXED_SCRIPT),
        ("ada@xn--exmple-4nf.org", "ada@xn--exmple-4nf.org", EmailFlags::MIXED_SCRIPT),
    ] {
        let (address, flags) = usable(raw);
        assert_eq!(address, want, "{raw}");
        assert!(flags.contains(flag) && flags.forbids_merge(), "{raw}: {flags:?}");
    }
    for (raw, flag) in [
        ("josé@example.es", EmailFlags::NON_ASCII_LOCAL),
        ("hans@müller.de", EmailFlags::NON_ASCII_DOMAIN),
        ("ada@example.org; obi@example.org", EmailFlags::FIRST_OF_SEVERAL),
        ("ada@example.org / obi@example.org", EmailFlags::FIRST_OF_SEVERAL),
        ("ada @ example.org", EmailFlags::REPAIRED),
    ] {
        let (_, flags) = usable(raw);
        assert!(flags.contains(flag) && !flags.forbids_merge(), "{raw}: {flags:?}");
    }
    assert_eq!(usable("ada @ example.org").0, "ada@example.org");
    assert_eq!(usable("ada@example.org; obi@example.org").0, "ada@example.org");
    assert_eq!(EmailFlags::TURKISH_I.names().collect::<Vec<_>>(), ["turkish-i"]);
}

#[test]
fn turkish_letters_never_become_a_plain_i() {
    let plain = usable("ibrahim@example.com").0;
    assert_ne!(usable("\u{130}brahim@example.com").0, plain);
    assert_ne!(usable("\u{131}brahim@example.com").0, plain);
    assert_eq!(usable("IBRAHIM@example.com").0, plain);
}

#[test]
fn nothing_and_nonsense() {
    for raw in ["", "  ", "-", "N/A", "n/a", "none", "NULL", "nil", "\u{200b}", "no email", "--", "."] {
        assert_eq!(normalise(raw), Email::Missing, "{raw}");
    }
    for (raw, problem) in [
        ("ada", EmailProblem::NoAddress),
        ("@example.org", EmailProblem::NoAddress),
        ("ada@", EmailProblem::NoAddress),
        ("ada obi@example.org", EmailProblem::Local),
        ("ada..obi@example.org", EmailProblem::Local),
        (".ada@example.org", EmailProblem::Local),
        ("\"ada obi\"@example.org", EmailProblem::Local),
        ("ada@localhost", EmailProblem::Domain),
        ("ada@example", EmailProblem::Domain),
        ("ada@192.168.1.1", EmailProblem::Domain),
        ("ada@[192.168.1.1]", EmailProblem::Domain),
        ("ada@exa_mple.org", EmailProblem::Domain),
        ("ada@-example.org", EmailProblem::Domain),
        ("ada@example..org", EmailProblem::Domain),
        ("ada@example.org\0x", EmailProblem::Domain),
    ] {
        assert_eq!(normalise(raw), Email::Unusable(problem), "{raw}");
    }
    let long = format!("{}@example.org", "a".repeat(65));
    assert_eq!(normalise(&long), Email::Unusable(EmailProblem::TooLong));
}

#[test]
fn suffixes_keep_the_limits() {
    assert_eq!(with_suffix("ada@example.org", 2), "ada+2@example.org");
    assert_eq!(with_suffix("ada+2@example.org", 3), "ada+2+3@example.org");
    let long = format!("{}@example.org", "a".repeat(64));
    assert_eq!(with_suffix(&long, 12), format!("{}+12@example.org", "a".repeat(61)));
}

#[test]
fn placeholders() {
    let template = "{entity}.{key}@placeholder.invalid";
    let of = |entity: &str, key: &str| placeholder(template, entity, key).unwrap();
    assert_eq!(of("parents", "42"), "parents.42@placeholder.invalid");
    assert_eq!(of("parents", "A_b"), "parents._41_5fb@placeholder.invalid");
    assert_eq!(of("", ""), "_._@placeholder.invalid");
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(of("guardians", uuid), format!("guardians.{uuid}@placeholder.invalid"));
    assert!(of("parents", &"x".repeat(90)).starts_with("parents._h"));
    for bad in [
        "",
        "x@y.z",
        "{key}@example.org",
        "{entity}{key}@example.org",
        "{entity}-{key}@example.org",
        "{entity}_{key}@example.org",
        "{entity}.{key}@",
        "{entity}.{key}",
        "{entity}.{key}@localhost",
        "{Entity}.{key}@example.org",
        "A{entity}.{key}@example.org",
        "{entity}.{key}.{key}@example.org",
        "{entity} {key}@example.org",
        "{key}@{entity}.example.org",
        "{entity}.{key}@Example.org",
        "a-very-long-own-part-of-text.{entity}.{key}@example.org",
        "{entity}.{key}{x y}@example.org",
    ] {
        assert!(check_template(bad).is_err(), "{bad}");
    }
    for good in ["{entity}.{key}@placeholder.invalid", "noreply+{key}.{entity}@mail.example.org"] {
        assert_eq!(check_template(good), Ok(()), "{good}");
    }
}

/// Strings near to emails, and any at all.
fn inputs() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9._+ <>;,'\"İıſKＡéÅ\u{301}\u{200b}]{0,12}@[a-zA-Z0-9.İＡü。ß\u{200d}-]{0,20}",
        "\\PC{0,20}@\\PC{1,12}\\.(com|рф|org)",
        "[\\p{L}\\p{M}]{1,12}@[\\p{Latin}\\p{Greek}]{1,6}\\.org",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn normalising_twice_changes_nothing(raw in inputs()) {
        if let Email::Usable { address, .. } = normalise(&raw) {
            prop_assert!(address.len() <= MAX_ADDRESS);
            match normalise(&address) {
                Email::Usable { address: again, .. } => prop_assert_eq!(&again, &address),
                other => prop_assert!(false, "{:?} -> {:?}", address, other),
            }
            for n in [2, 17, u32::MAX] {
                let suffixed = with_suffix(&address, n);
                prop_assert!(suffixed.rsplit_once('@').is_some_and(|(local, _)| local.len() <= MAX_LOCAL));
                prop_assert!(suffixed.len() <= MAX_ADDRESS);
                match normalise(&suffixed) {
                    Email::Usable { address, .. } => prop_assert_eq!(address, suffixed),
                    other => prop_assert!(false, "{:?} -> {:?}", suffixed, other),
                }
            }
        }
    }

    #[test]
    fn case_and_blanks_do_not_matter(local in "[a-z0-9]{1,8}(\\.[a-z0-9]{1,8})?", pad in "[ \t\u{a0}\u{200b}]{0,3}") {
        let address = format!("{local}@example.org");
        prop_assert_eq!(normalise(&format!("{pad}{}{pad}", address.to_uppercase())), normalise(&address));
    }

    #[test]
    fn placeholders_are_injective_and_stable(
        a in ("[a-zA-Z0-9._h-]{0,6}|\\PC{0,40}", "[a-zA-Z0-9._h-]{0,6}|\\PC{0,90}"),
        b in ("[a-zA-Z0-9._h-]{0,6}|\\PC{0,40}", "[a-zA-Z0-9._h-]{0,6}|\\PC{0,90}"),
        key_first in any::<bool>(),
    ) {
        let template = if key_first { "{key}+{entity}.x@p.invalid" } else { "{entity}.{key}@placeholder.invalid" };
        let template = Template::parse(template).unwrap();
        let (first, second) = (template.address(&a.0, &a.1), template.address(&b.0, &b.1));
        prop_assert_eq!(first == second, a == b);
        prop_assert_eq!(normalise(&first), Email::Usable { address: first.clone(), flags: EmailFlags::NONE });
    }

    #[test]
    fn never_panics(raw in any::<String>(), n in any::<u32>()) {
        let _checked = check_template(&raw);
        let _suffixed = with_suffix(&raw, n);
    }
}

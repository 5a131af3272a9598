//! Emails, phones, names and addresses as people type them, and as people attack with them.

use proptest::prelude::*;
use v1v2::identity::email::{self, Email};
use v1v2::identity::phone::{self, Phone};
use v1v2::identity::{address, blank, name};
use v1v2::report::printable;

use super::hostile;

proptest! {
    #[test]
    fn an_email_has_one_spelling(raw in hostile(), local in hostile(), domain in "[a-zA-Z0-9.ßİ。-]{1,20}\\.(org|com)") {
        for raw in [raw, format!("{local}@{domain}")] {
            let Email::Usable { address, .. } = email::normalise(&raw) else { continue };
            prop_assert!(address.len() <= email::MAX_ADDRESS);
            prop_assert!(!address.chars().any(|c| c.is_control() || c.is_whitespace() || blank::is_invisible(c)), "{:?}", address);
            prop_assert_eq!(address.matches('@').count(), 1);
            // What is printed, and what stands in the hand-out list, is the address itself.
            let shown = printable(&address).into_owned();
            prop_assert_eq!(&shown, &address);
            match email::normalise(&address) {
                Email::Usable { address: again, .. } => prop_assert_eq!(again, address),
                other => prop_assert!(false, "{:?} becomes {:?}", address, other),
            }
        }
    }

    #[test]
    fn a_phone_has_one_spelling(raw in hostile(), region in "[A-Z]{2}|") {
        if let Phone::Possible { e164, .. } = phone::normalise(&raw, &region) {
            prop_assert!(e164.strip_prefix('+').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())));
            prop_assert!((4..=18).contains(&e164.len()), "{}", e164);
            match phone::normalise(&e164, &region) {
                Phone::Possible { e164: again, .. } => prop_assert_eq!(again, e164),
                other => prop_assert!(false, "{:?} becomes {:?}", e164, other),
            }
        }
    }

    #[test]
    fn a_name_is_split_the_same_way_every_time(full in hostile(), first in hostile(), last in hostile()) {
        let parts = name::split(&full);
        prop_assert_eq!(&name::split(&full), &parts);
        let of_parts = name::from_parts(Some(&first), None, Some(&last));
        for parts in [parts, of_parts] {
            for part in [&parts.title, &parts.first, &parts.middle, &parts.last, &parts.suffix].into_iter().flatten() {
                prop_assert!(!part.is_empty() && part.trim() == part, "{:?}", part);
                // Postgres's text cannot hold it.
                prop_assert!(!part.contains('\0'), "{:?}", part);
            }
            name::display(&parts);
        }
        name::compatible(&first, &last);
    }

    #[test]
    fn an_address_keeps_its_text(raw in hostile()) {
        let parts = address::split(&raw);
        prop_assert_eq!(&parts.raw, &raw);
        let of = [&parts.line1, &parts.line2, &parts.city, &parts.state, &parts.postal_code, &parts.country];
        for part in of.into_iter().flatten() {
            prop_assert!(!part.is_empty() && part.trim() == part && !part.contains(['\n', '\r']), "{:?}", part);
        }
    }

    #[test]
    fn nothing_is_nothing_however_it_is_wrapped(word in "N/A|none|-|\\?|null|", wrap in "[ \t\u{a0}\u{200b}\u{feff}]{0,3}") {
        let raw = format!("{wrap}{word}{wrap}");
        prop_assert!(blank::is_absent(&raw));
        prop_assert_eq!(email::normalise(&raw), Email::Missing);
        prop_assert_eq!(phone::normalise(&raw, "NG"), Phone::Missing);
    }
}

/// Whoever may write into V1 must not be able to stop a run: what takes time takes it in proportion to the text.
#[test]
fn long_texts_take_no_eternity() {
    type Reader = (&'static str, fn(&str));
    let readers: &[Reader] = &[
        ("email", |text| drop(email::normalise(text))),
        ("phone", |text| drop(phone::normalise(text, "NG"))),
        ("name", |text| drop(name::split(text))),
        ("names", |text| assert!(!name::compatible(text, "Ada Obi") || text.is_empty())),
        ("address", |text| drop(address::split(text))),
        ("array", |text| drop(v1v2::row::elements(text))),
    ];
    for piece in [
        "a ", "a@", "0 ", "+", "Jr. ", ", ", "van ", "e\u{301}", "李", "\u{200b}", "12 ", "(", "\"", "ﷺ",
        "\n",
    ] {
        let text = piece.repeat(20_000);
        for (what, read) in readers {
            let started = std::time::Instant::now();
            read(&text);
            let took = started.elapsed();
            assert!(took.as_secs() < 5, "{what} of {piece:?}, 20,000 times: {took:?}");
        }
    }
}

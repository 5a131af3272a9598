use super::*;
use proptest::prelude::*;

/// `line1|line2|city|state|postal code|country`
fn parts(address: &Address) -> String {
    let Address { line1, line2, city, state, postal_code, country, .. } = address;
    [line1, line2, city, state, postal_code, country]
        .map(|part| part.as_deref().unwrap_or_default())
        .join("|")
}

#[test]
fn splits_where_the_form_leaves_no_doubt() {
    for (raw, want) in [
        ("", "|||||"),
        ("N/A", "|||||"),
        // United States
        ("742 Evergreen Terrace, Springfield, IL 62704", "742 Evergreen Terrace||Springfield|IL|62704|"),
        (
            "742 Evergreen Terrace\nSpringfield, IL 62704-1234\nUSA",
            "742 Evergreen Terrace||Springfield|IL|62704-1234|US",
        ),
        ("1 Main St, Apt 4, New York, New York 10001", "1 Main St|Apt 4|New York|New York|10001|"),
        ("1 Main St, Salt Lake City UT 84101", "1 Main St||Salt Lake City|UT|84101|"),
        ("1 Main St, Austin, TX, 73301", "1 Main St||Austin|TX|73301|"),
        ("1 Main St, Los Angeles, CA", "1 Main St||Los Angeles|CA||"),
        ("1 Main St, Charleston, West Virginia 25301, US", "1 Main St||Charleston|West Virginia|25301|US"),
        // United Kingdom
        ("10 Downing Street, London SW1A 2AA", "10 Downing Street||London||SW1A 2AA|"),
        ("10 Downing Street, London, sw1a2aa, UK", "10 Downing Street||London||SW1A 2AA|GB"),
        (
            "Flat 3, 5 High Street, Guildford, Surrey GU1 1AA",
            "Flat 3|5 High Street|Guildford|Surrey|GU1 1AA|",
        ),
        ("5 High Street, Guildford, Surrey, GU1 1AA, England", "5 High Street||Guildford|Surrey|GU1 1AA|GB"),
        ("5 High Street, M1 1AE", "5 High Street||||M1 1AE|"),
        // Nigeria
        ("12 Allen Avenue, Ikeja, Lagos State, Nigeria", "12 Allen Avenue||Ikeja|Lagos||NG"),
        ("12, Allen Avenue, Ikeja, Lagos.", "12 Allen Avenue||Ikeja|Lagos||"),
        ("12 Allen Avenue, Ikeja 100271, Lagos", "12 Allen Avenue||Ikeja|Lagos|100271|"),
        ("12 Broad Street, Lagos, Nigeria", "12 Broad Street||Lagos|||NG"),
        ("Plot 5, Wuse 2, Abuja, FCT", "Plot 5|Wuse 2|Abuja|FCT||"),
        ("Plot 5, Wuse 2, Abuja, Nigeria", "Plot 5|Wuse 2|Abuja|||NG"),
        ("7 Mission Road, Benin City, Edo State", "7 Mission Road||Benin City|Edo||"),
        ("Warri, Delta State", "||Warri|Delta||"),
        // Canada
        ("290 Bremner Blvd, Toronto, ON M5V 3L9", "290 Bremner Blvd||Toronto|ON|M5V 3L9|"),
        (
            "290 Bremner Blvd, Toronto, Ontario, m5v3l9, Canada",
            "290 Bremner Blvd||Toronto|Ontario|M5V 3L9|CA",
        ),
        ("290 Bremner Blvd, Toronto ON M5V 3L9", "290 Bremner Blvd||Toronto|ON|M5V 3L9|"),
        // postal code before the city
        ("Invalidenstraße 117, 10115 Berlin", "Invalidenstraße 117||Berlin||10115|"),
        ("Invalidenstraße 117\n10115 Berlin\nDeutschland", "Invalidenstraße 117||Berlin||10115|DE"),
        ("Invalidenstraße 117, 10115 Berlin, DE", "Invalidenstraße 117||Berlin||10115|DE"),
        ("Invalidenstraße 117, D-10115 Berlin", "Invalidenstraße 117||Berlin||10115|"),
        ("5 rue de Rivoli, 75004 Paris, France", "5 rue de Rivoli||Paris||75004|FR"),
        ("Damrak 1, 1012 LG Amsterdam", "Damrak 1||Amsterdam||1012 LG|"),
        ("Damrak 1, 1012LG Amsterdam, The Netherlands", "Damrak 1||Amsterdam||1012 LG|NL"),
        ("Stephansplatz 1, 1010 Wien, Österreich", "Stephansplatz 1||Wien||1010|AT"),
        ("Gran Vía 1, 28013 Madrid, España", "Gran Vía 1||Madrid||28013|ES"),
        // India
        ("12 MG Road, Bengaluru, Karnataka 560001", "12 MG Road||Bengaluru|Karnataka|560001|"),
        ("12 MG Road, Bengaluru - 560 001, Karnataka, India", "12 MG Road||Bengaluru|Karnataka|560001|IN"),
        ("12 MG Road, Bengaluru 560001, India", "12 MG Road||Bengaluru||560001|IN"),
        ("5 Park Street, Kolkata, West Bengal, 700016", "5 Park Street||Kolkata|West Bengal|700016|"),
        ("5 Janpath, New Delhi 110001, India", "5 Janpath||New Delhi||110001|IN"),
        // other countries, by name only
        ("12 High Street, Accra, Ghana", "12 High Street||Accra|||GH"),
        ("12 High Street, Accra, Greater Accra Region, GH", "12 High Street||Accra|Greater Accra Region||GH"),
        ("P.O. Box 123, Nairobi, Kenya", "P.O. Box 123||Nairobi|||KE"),
        ("Box 7, Plot 12, Uganda", "Box 7|Plot 12||||UG"),
        // not sure: everything in the first line
        ("12 Broad Street, Lagos", "12 Broad Street, Lagos|||||"),
        ("behind the market", "behind the market|||||"),
        ("Flat 2,12345 Main Street", "Flat 2, 12345 Main Street|||||"),
        ("Hauptstr. 5, Berlin, DE", "Hauptstr. 5, Berlin, DE|||||"),
        ("5 Rustaveli Ave, Tbilisi, Georgia", "5 Rustaveli Ave, Tbilisi, Georgia|||||"),
        ("12 Orchard Road, Singapore 238841", "12 Orchard Road, Singapore 238841|||||"),
        ("Nigeria", "Nigeria|||||"),
    ] {
        let address = split(raw);
        assert_eq!(parts(&address), want, "{raw}");
        assert_eq!(address.raw, raw);
    }
}

fn inputs() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[0-9]{1,3} [A-Z][a-z]{2,8} (Street|Road|Ave)",
        "[A-Z][a-z]{2,8}",
        "[0-9]{4,6}",
        "[A-Z]{2}",
        "[A-Z]{1,2}[0-9]{1,2} ?[0-9][A-Z]{2}",
        Just("Lagos State".to_owned()),
        Just("IL 62704".to_owned()),
        Just("10115 Berlin".to_owned()),
        Just("Karnataka".to_owned()),
        Just("Nigeria".to_owned()),
        Just("DE".to_owned()),
        Just("ON".to_owned()),
        "\\PC{0,8}",
    ];
    let address = prop::collection::vec((piece, ",|, |\n|;| | - "), 0..7)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, gap)| piece + &gap).collect::<String>());
    prop_oneof![1 => any::<String>(), 3 => address]
}

/// Letters and digits in any order, case and normal form aside.
fn signs(text: &str) -> Vec<char> {
    let mut signs: Vec<char> =
        text.nfc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect();
    signs.sort_unstable();
    signs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn keeps_the_text_and_every_sign_of_it(raw in inputs()) {
        let address = split(&raw);
        prop_assert_eq!(&address.raw, &raw);
        let Address { line1, line2, city, state, postal_code, country, .. } = &address;
        for part in [line1, line2, city, state, postal_code, country].into_iter().flatten() {
            prop_assert!(!part.is_empty() && part.trim() == part && is_nfc(part));
        }
        if city.is_none() && state.is_none() && postal_code.is_none() && country.is_none() && line1.is_some() {
            prop_assert_eq!(signs(&parts(&address)), signs(&raw));
        }
        // Only the word State, and the letters before a continental code, are left out; nothing is added.
        if country.is_none() && address != (Address { raw: raw.clone(), ..Address::default() }) {
            let mut left = signs(&raw);
            for sign in signs(&parts(&address)) {
                let at = left.iter().position(|c| *c == sign);
                prop_assert!(at.is_some(), "added: {}", sign);
                left.swap_remove(at.unwrap());
            }
            left.sort_unstable();
            prop_assert!(left.len() <= 2 || left == ['a', 'e', 's', 't', 't'], "lost: {:?}", left);
        }
        prop_assert_eq!(split(&raw), address);
    }

    #[test]
    fn an_unsplit_line_stays_unsplit(raw in inputs()) {
        let address = split(&raw);
        if let Address { line1: Some(line), line2: None, city: None, state: None, postal_code: None, country: None, .. } = &address {
            let again = split(line);
            prop_assert_eq!(again.line1.as_ref(), Some(line));
            prop_assert!(again.city.is_none() && again.postal_code.is_none() && again.country.is_none());
        }
    }
}

use super::*;
use proptest::prelude::*;

/// `title|first|middle|last|suffix`
fn parts(name: &Name) -> String {
    [&name.title, &name.first, &name.middle, &name.last, &name.suffix]
        .map(|part| part.as_deref().unwrap_or_default())
        .join("|")
}

#[test]
fn splits_names_of_many_cultures() {
    for (full, want) in [
        ("", "||||"),
        (" - ", "||||"),
        ("Ada", "|Ada|||"),
        ("Ada Obi", "|Ada||Obi|"),
        ("  Ada \t Ngozi\u{a0}Obi ", "|Ada|Ngozi|Obi|"),
        ("Obi, Ada", "|Ada||Obi|"),
        ("Obi, Ada Ngozi", "|Ada|Ngozi|Obi|"),
        ("J. R. R. Tolkien", "|J.|R. R.|Tolkien|"),
        ("J.R.R. Tolkien", "|J.R.R.||Tolkien|"),
        ("Mary Ann Evans", "|Mary|Ann|Evans|"),
        // particles
        ("Ludwig van Beethoven", "|Ludwig||van Beethoven|"),
        ("Vincent Van Gogh", "|Vincent||Van Gogh|"),
        ("Rembrandt Harmenszoon van Rijn", "|Rembrandt|Harmenszoon|van Rijn|"),
        ("Willem van der Meer", "|Willem||van der Meer|"),
        ("Otto von Bismarck", "|Otto||von Bismarck|"),
        ("Juan de la Cruz", "|Juan||de la Cruz|"),
        ("Cruz, Juan de la", "|Juan||de la Cruz|"),
        ("de la Cruz, Juan", "|Juan||de la Cruz|"),
        ("Maria dos Santos Silva", "|Maria||dos Santos Silva|"),
        ("Maria de Lourdes Silva", "|Maria|de Lourdes|Silva|"),
        ("María del Carmen Gómez", "|María|del Carmen|Gómez|"),
        ("Maria da Silva", "|Maria||da Silva|"),
        ("José Ortega y Gasset", "|José||Ortega y Gasset|"),
        ("Leonardo da Vinci", "|Leonardo||da Vinci|"),
        ("Mohammed bin Salman", "|Mohammed||bin Salman|"),
        ("Nasser Al Rashid", "|Nasser||Al Rashid|"),
        ("Omar al-Bashir", "|Omar||al-Bashir|"),
        ("Abd al-Rahman Khan", "|Abd al-Rahman||Khan|"),
        ("Fatima bint Ahmed al-Zahrani", "|Fatima||bint Ahmed al-Zahrani|"),
        ("Nguyen Van Anh", "|Nguyen|Van|Anh|"),
        ("van Gogh", "|van Gogh|||"),
        ("Sinéad O'Connor", "|Sinéad||O'Connor|"),
        ("Jane Smith-Jones", "|Jane||Smith-Jones|"),
        ("Mary St. John", "|Mary||St. John|"),
        ("Robert (Bob) Smith", "|Robert|(Bob)|Smith|"),
        // suffixes
        ("Sammy Davis Jr.", "|Sammy||Davis|Jr."),
        ("Sammy Davis, Jr.", "|Sammy||Davis|Jr."),
        ("Davis, Sammy, Jr.", "|Sammy||Davis|Jr."),
        ("Davis Jr., Sammy", "|Sammy||Davis|Jr."),
        ("Henry Gates III", "|Henry||Gates|III"),
        ("Chinua Achebe PhD", "|Chinua||Achebe|PhD"),
        ("Ada Obi, MD, PhD", "|Ada||Obi|MD PhD"),
        ("Yo-Yo Ma", "|Yo-Yo||Ma|"),
        ("Neymar da Silva Santos Júnior", "|Neymar||da Silva Santos|Júnior"),
        ("Iv Senior", "|Iv||Senior|"),
        // titles
        ("Dr. Ada Obi", "Dr.|Ada||Obi|"),
        ("Mrs Obi", "Mrs|Obi|||"),
        ("Obi, Dr. Ada", "Dr.|Ada||Obi|"),
        ("Prof. Dr. med. Hans Müller", "Prof. Dr. med.|Hans||Müller|"),
        ("Alhaji Musa Ibrahim", "Alhaji|Musa||Ibrahim|"),
        ("Chief Mrs Folake Ade", "Chief Mrs|Folake||Ade|"),
        ("Prince Okafor", "|Prince||Okafor|"),
        ("Prince Emeka Okafor", "Prince|Emeka||Okafor|"),
        ("Sra. Carmen Díaz", "Sra.|Carmen||Díaz|"),
        ("M. Night Shyamalan", "|M.|Night|Shyamalan|"),
        ("Mme Marie Curie", "Mme|Marie||Curie|"),
        // case
        ("OBI, ADA NGOZI", "|Ada|Ngozi|Obi|"),
        ("ada obi", "|Ada||Obi|"),
        ("JUAN DE LA CRUZ", "|Juan||de la Cruz|"),
        ("ronald mcdonald", "|Ronald||McDonald|"),
        ("FLORA MACDONALD", "|Flora||MacDonald|"),
        ("ANTONIO MACHADO", "|Antonio||Machado|"),
        ("SINEAD O'CONNOR-SMITH", "|Sinead||O'Connor-Smith|"),
        ("jean-luc picard", "|Jean-Luc||Picard|"),
        ("OMAR AL-BASHIR", "|Omar||al-Bashir|"),
        ("ahmed sa'id", "|Ahmed||Sa'id|"),
        ("DR. ADA OBI PHD", "Dr.|Ada||Obi|PhD"),
        ("martin king jr.", "|Martin||King|Jr."),
        ("henry gates iii", "|Henry||Gates|III"),
        ("j.r. ewing", "|J.R.||Ewing|"),
        ("JD SALINGER", "|JD||Salinger|"),
        ("LI NG", "|Li||Ng|"),
        ("ÉMILE ZOLA", "|Émile||Zola|"),
        ("ŞÜKRÜ İNÖNÜ", "|Şükrü||İnönü|"),
        ("ΓΙΩΡΓΟΣ ΠΑΠΠΑΣ", "|Γιωργος||Παππας|"),
        ("ИВАН ПЕТРОВ", "|Иван||Петров|"),
        ("Ian MacLEOD", "|Ian||MacLEOD|"),
        ("bell hooks", "|Bell||Hooks|"),
        // other scripts
        ("毛泽东", "|泽东||毛|"),
        ("欧阳修", "|修||欧阳|"),
        ("司马相如", "|相如||司马|"),
        ("李明", "|明||李|"),
        ("李 明", "|明||李|"),
        ("山田太郎", "|太郎||山田|"),
        ("山田\u{3000}太郎", "|太郎||山田|"),
        ("佐藤健", "|健||佐藤|"),
        ("佐々木希", "|希||佐々木|"),
        ("田中", "|田中|||"),
        ("山田はなこ", "|はなこ||山田|"),
        ("ジョン・スミス", "|ジョン||スミス|"),
        ("さくら", "|さくら|||"),
        ("김민수", "|민수||김|"),
        ("김 민 수", "|민수||김|"),
        ("남궁민", "|민||남궁|"),
        ("محمد بن سلمان", "|محمد||بن سلمان|"),
        ("José", "|José|||"),
        ("Jose\u{301} Pe\u{301}rez", "|José||Pérez|"),
    ] {
        assert_eq!(parts(&split(full)), want, "{full}");
    }
}

#[test]
fn takes_parts_as_they_are() {
    let of = |first, middle, last| parts(&from_parts(first, middle, last));
    assert_eq!(of(Some("Ada"), None, Some("Obi")), "|Ada||Obi|");
    assert_eq!(of(Some(" ADA "), Some("ngozi "), Some("obi")), "|ADA|ngozi|obi|");
    assert_eq!(of(Some("ADA"), Some(""), Some("DE SOUZA")), "|Ada||de Souza|");
    assert_eq!(of(Some("Mary Ann"), None, Some("van Dyk Jr.")), "|Mary Ann||van Dyk|Jr.");
    assert_eq!(of(Some("Dr. Ada"), None, Some("Obi")), "Dr.|Ada||Obi|");
    assert_eq!(of(Some("Ada Obi"), None, None), "|Ada||Obi|");
    assert_eq!(of(None, None, Some("Obi")), "|||Obi|");
    assert_eq!(of(None, None, None), "||||");
    assert_eq!(of(Some("-"), Some("-"), Some("-")), "||||");
    assert_eq!(of(Some("太郎"), None, Some("山田")), "|太郎||山田|");
}

#[test]
fn displays_in_the_script_s_order() {
    for (full, want) in [
        ("Obi, Dr. Ada N.", "Dr. Ada N. Obi"),
        ("Davis, Sammy, Jr.", "Sammy Davis Jr."),
        ("山田 太郎", "山田太郎"),
        ("ジョン・スミス", "ジョン・スミス"),
        ("김 민수", "김민수"),
        ("", ""),
    ] {
        assert_eq!(display(&split(full)), want, "{full}");
    }
}

#[test]
fn knows_who_can_be_one_person() {
    for (a, b) in [
        ("Ada Obi", "ADA OBI"),
        ("Ada Obi", "Obi, Ada"),
        ("A. Obi", "Ada Obi"),
        ("Ada N. Obi", "Ada Ngozi Obi"),
        ("Dr. Ada Obi", "Ada Obi"),
        ("Ada", "ada"),
        ("José Pérez", "Jose Perez"),
        ("李明", "李明"),
        ("Robert Smith", "Bob Smith"),
        ("Juan de la Cruz", "Juan De La Cruz"),
    ] {
        assert!(compatible(a, b) && compatible(b, a), "{a} / {b}");
    }
    for (a, b) in [
        ("Ada Obi", "Chidi Obi"),
        ("Ada Obi", "Ada Eze"),
        ("Ada", "Ada Obi"),
        ("", ""),
        ("", "Ada Obi"),
        ("-", "-"),
        ("Ada", "Chidi"),
        ("John Smith Jr.", "John Smith III"),
    ] {
        assert!(!compatible(a, b) && !compatible(b, a), "{a} / {b}");
    }
}

/// Texts that grow when they are normalised, and texts far longer than any name.
#[test]
fn survives_texts_that_are_no_names() {
    for text in [
        "ﷺ".repeat(66),
        "ﷺ ".repeat(40),
        "a ".repeat(50_000),
        "A.".repeat(90),
        "x".repeat(199),
        "\u{301}".repeat(90),
    ] {
        for other in [format!("{text} obi"), format!("ada {text}"), format!("obi, {text}"), text.clone()] {
            let _compared = compatible(&text, &other);
            let _name = from_parts(Some(&text), Some(&other), Some(&other));
            assert_eq!(letters(&display(&split(&other))), letters(&other));
        }
    }
}

fn inputs() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[A-Z][a-z]{1,7}",
        "[A-Z]{1,8}",
        "[a-z]{1,8}",
        "\\p{L}{1,6}",
        Just("de".to_owned()),
        Just("la".to_owned()),
        Just("Van".to_owned()),
        Just("y".to_owned()),
        Just("Dr.".to_owned()),
        Just("PRINCE".to_owned()),
        Just("Jr.".to_owned()),
        Just("iii".to_owned()),
        Just("María".to_owned()),
        Just("del".to_owned()),
        Just("Carmen".to_owned()),
        Just("Abd".to_owned()),
        Just("al-Din".to_owned()),
        Just("O'NEIL-mcrae".to_owned()),
        Just("ph.d.".to_owned()),
        Just("田中".to_owned()),
        Just("太".to_owned()),
        Just("スミス".to_owned()),
        Just("김".to_owned()),
    ];
    let name = (prop::collection::vec((word, "[ ]{1,2}|, |,|-|・|"), 0..7))
        .prop_map(|pieces| pieces.into_iter().map(|(word, gap)| word + &gap).collect::<String>());
    prop_oneof![1 => any::<String>(), 4 => name]
}

/// The letters, in any order, case and normal form aside.
fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<char> = text
        .nfd()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfd()
        .filter(|c| c.is_alphabetic())
        .collect();
    letters.sort_unstable();
    letters
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_letter_is_lost(full in inputs()) {
        let name = split(&full);
        prop_assert_eq!(letters(&parts(&name)), letters(&full));
        prop_assert_eq!(letters(&display(&name)), letters(&full));
        for part in [&name.title, &name.first, &name.middle, &name.last, &name.suffix].into_iter().flatten() {
            prop_assert!(!part.is_empty() && part.trim() == part && is_nfc(part) && !part.contains("  "));
        }
        prop_assert!(name.first.is_some() || name == Name::default());
    }

    #[test]
    fn taking_the_parts_again_changes_nothing(first in inputs(), middle in inputs(), last in inputs()) {
        let name = from_parts(Some(&first), Some(&middle), Some(&last));
        let again = from_parts(name.first.as_deref(), name.middle.as_deref(), name.last.as_deref());
        if name.middle.is_some() || name.last.is_some() {
            let found = letters(&parts(&name));
            prop_assert_eq!(found, letters(&format!("{first} {middle} {last}")));
            // Of a full name in the first name's place, a suffix can end up as the family name.
            let in_parts = middle.contains(char::is_alphanumeric) || last.contains(char::is_alphanumeric);
            if in_parts && name.title.is_none() && name.suffix.is_none() {
                prop_assert_eq!(again, name);
            }
        }
    }

    #[test]
    fn splitting_the_display_keeps_the_display(full in inputs()) {
        let shown = display(&split(&full));
        prop_assert_eq!(letters(&display(&split(&shown))), letters(&shown));
        if !full.contains([',', '،']) {
            prop_assert_eq!(display(&split(&shown)), shown);
        }
    }

    #[test]
    fn compatible_is_symmetric_and_reflexive(a in inputs(), b in inputs()) {
        prop_assert_eq!(compatible(&a, &b), compatible(&b, &a));
        prop_assert_eq!(compatible(&a, &a), a.nfkc().any(char::is_alphanumeric));
    }
}

//! The small words of names: titles, suffixes, particles.
//!
//! Many of them are also somebody's name (`Prince`, `Ben`, `Do`), so each list has a strict and a lenient half, and
//! the lenient one counts only where enough other words remain.

use super::super::fold::Folded;

/// Titles that are hardly ever a name. Lower case, without dots.
const TITLES: &[&str] = &[
    "mr",
    "mrs",
    "ms",
    "miss",
    "mx",
    "mister",
    "dr",
    "doctor",
    "drs",
    "prof",
    "professor",
    "sir",
    "madam",
    "madame",
    "rev",
    "revd",
    "reverend",
    "evang",
    "engr",
    "barr",
    "barrister",
    "chief",
    "alhaji",
    "alh",
    "alhaja",
    "hajia",
    "hajiya",
    "mallam",
    "malam",
    "surv",
    "otunba",
    "capt",
    "col",
    "lt",
    "maj",
    "sgt",
    "herr",
    "frau",
    "fräulein",
    "dipl-ing",
    "mme",
    "mlle",
    "monsieur",
    "mademoiselle",
    "sra",
    "srta",
    "señor",
    "señora",
    "señorita",
    "senhor",
    "senhora",
    "dra",
    "dott",
    "dottssa",
    "profssa",
    "sig",
    "sigra",
    "signor",
    "signora",
    "avv",
    "smt",
    "sheikh",
    "shaikh",
    "ustaz",
    "ustadh",
    "mevrouw",
    "dhr",
    "mw",
];

/// Titles that are names as well: only before two or more other words.
const TITLES_OR_NAMES: &[&str] = &[
    "don",
    "doña",
    "dona",
    "dame",
    "lady",
    "lord",
    "prince",
    "princess",
    "master",
    "general",
    "captain",
    "colonel",
    "major",
    "bishop",
    "pastor",
    "father",
    "sister",
    "brother",
    "oba",
    "igwe",
    "imam",
    "hafiz",
    "shri",
    "hon",
    "honourable",
    "honorable",
    "arc",
    "judge",
    "justice",
    "nurse",
    "coach",
];

/// Titles only if they are written with a dot.
const TITLES_WITH_DOT: &[&str] = &["ing", "mag", "sr", "fr", "hr", "st-prof", "pr"];

/// Titles only after another one: `Dr. med.`, `Prof. h. c.`
const TITLES_AFTER_TITLE: &[&str] = &["med", "phil", "jur", "nat", "rer", "habil", "hc", "dent"];

/// Suffixes that are hardly ever a name, in their own case and without dots.
pub(super) const SUFFIXES: &[&str] = &[
    "Jr", "Jnr", "Sr", "Snr", "II", "III", "IV", "2nd", "3rd", "4th", "PhD", "DPhil", "EdD", "Esq", "MBA",
    "BSc", "MSc", "BEng", "MEng", "MPhil", "LLB", "LLM", "BEd", "MEd", "MBBS", "DDS", "FCA", "ACA", "ACCA",
    "FCCA", "CPA", "OBE", "MBE", "CBE", "KBE", "OON", "OFR", "MFR", "CFR", "GCON", "GCFR", "QC", "KC",
    "FRCS",
];

/// Generations in words: only after two or more other words.
pub(super) const GENERATIONS: &[&str] = &["Junior", "Júnior", "Senior", "Filho", "Neto", "Sobrinho", "Hijo"];

/// Suffixes only after a comma or with their dots: without, they are surnames (Ma, Ba, Do), initials or first names.
pub(super) const SUFFIXES_AFTER_COMMA: &[&str] = &[
    "MD", "MA", "BA", "DO", "RN", "JP", "SAN", "SJ", "OP", "V", "VI", "JD", "PE", "MP", "HND", "NCE", "FNSE",
];

/// Particles of family names that stay particles with a capital: `Van Gogh`, `De Souza`, `Al Rashid`.
const PARTICLES: &[&str] = &[
    "de", "da", "dos", "das", "del", "della", "dello", "dei", "degli", "di", "du", "des", "van", "von",
    "vom", "zu", "zum", "zur", "der", "ter", "bin", "ibn", "bint", "binti", "abu", "al", "el", "la", "los",
    "las", "af", "av", "st", "ap", "ó", "ní", "nic", "mac", "mc", "dal", "dalla", "vander", "ould", "ait",
    "aït", "بن", "ابن", "بنت", "آل",
];

/// Particles only in small letters: with a capital they are names.
const LOWER_PARTICLES: &[&str] = &[
    "do", "lo", "le", "den", "ten", "te", "ben", "bat", "san", "santa", "in", "op", "het", "'t", "ab", "ad",
    "as", "ash", "at", "az", "e", "d'", "a",
];

/// Given names made with a particle, after María: not the start of the family name.
const AFTER_MARIA: &[&str] = &[
    "lourdes",
    "lurdes",
    "fátima",
    "fatima",
    "carmen",
    "pilar",
    "rosario",
    "rosário",
    "jesús",
    "jesus",
    "conceição",
    "dores",
    "graça",
    "ángeles",
    "angeles",
    "mar",
    "rocío",
    "rocio",
    "socorro",
    "luz",
    "milagros",
    "mercedes",
    "guadalupe",
    "consuelo",
    "dolores",
    "belén",
    "nieves",
    "glória",
    "amparo",
];

/// Family names that come first in Vietnamese, where `Van` is a middle name.
const VIETNAMESE: &[&str] = &[
    "nguyen", "nguyễn", "tran", "trần", "pham", "phạm", "hoang", "hoàng", "huynh", "huỳnh", "phan", "vu",
    "vũ", "vo", "võ", "dang", "đặng", "bui", "bùi", "ngo", "ngô", "duong", "dương", "lê", "đỗ", "hồ", "lý",
];

/// True if the list has the word, case and dots aside. The list is in lower case.
fn in_list(word: &str, list: &[&str]) -> bool {
    Folded::of(word).is_in(list)
}

/// As [`in_list`], for keys in their own case.
pub(super) fn find_cased(word: &str, list: &'static [&'static str]) -> Option<&'static str> {
    let folded = Folded::of(word);
    let word = folded.as_str();
    // All but one are ASCII, and that one is short.
    let same =
        |key: &&str| key.len() == word.len() && key.chars().flat_map(char::to_lowercase).eq(word.chars());
    if word.is_empty() { None } else { list.iter().copied().find(same) }
}

/// True if `word`, before `left` other words, is a title.
pub(super) fn is_title(word: &str, left: usize, after_title: bool) -> bool {
    let folded = Folded::of(word);
    folded.is_in(TITLES)
        || (left >= 2 && folded.is_in(TITLES_OR_NAMES))
        || (word.ends_with('.') && folded.is_in(TITLES_WITH_DOT))
        || (after_title && folded.is_in(TITLES_AFTER_TITLE))
}

/// True if `word`, after `left` other words, is a suffix.
pub(super) fn is_suffix(word: &str, left: usize) -> bool {
    if left >= 2 && find_cased(word, GENERATIONS).is_some() {
        return true;
    }
    let known = find_cased(word, SUFFIXES).is_some();
    // `Iv` is a name.
    let numeral = in_list(word, &["ii", "iii", "iv"]);
    let one_case = !(word.contains(char::is_lowercase) && word.contains(char::is_uppercase));
    (known && (!numeral || one_case))
        || (word.matches('.').count() > 1
            && word.chars().filter(|c| c.is_alphabetic()).count() > 1
            && find_cased(word, SUFFIXES_AFTER_COMMA).is_some())
}

/// True if `word`, in a group of its own after a comma, is a suffix.
pub(super) fn suffix_after_comma(word: &str) -> bool {
    is_suffix(word, 2)
        || find_cased(word, SUFFIXES_AFTER_COMMA).is_some_and(|_| word.chars().all(|c| !c.is_lowercase()))
}

/// True if `word` belongs to the family name that follows it.
pub(super) fn is_particle(word: &str) -> bool {
    in_list(word, PARTICLES) || is_lower_particle(word)
}

/// True if `word` is a particle and is written in small letters.
pub(super) fn is_lower_particle(word: &str) -> bool {
    !word.contains(char::is_uppercase)
        && (LOWER_PARTICLES.contains(&word) || PARTICLES.contains(&word.trim_end_matches('.')))
}

/// A particle, for title case: those that are names with a capital are not lowered.
pub(super) fn is_certain_particle(word: &str) -> bool {
    !word.contains('.')
        && in_list(word, PARTICLES)
        && !in_list(word, &["st", "mac", "mc", "ó", "ní", "nic", "abu", "ait"])
}

/// `Abd` and `Abdul` are half of a name.
pub(super) fn is_half_name(word: &str) -> bool {
    in_list(word, &["abd", "abdul", "abdel", "abdal", "abdur"])
}

/// Where the family name begins, at the earliest after `given` words. There are at least two words.
pub(super) fn last_name_start(words: &[&str], given: usize) -> usize {
    let end = words.len() - 1;
    let all_upper = !words.iter().any(|word| word.contains(char::is_lowercase));
    let vietnamese = in_list(words[0], VIETNAMESE);
    let mut at = given;
    if in_list(words[0], &["maría", "maria", "mª"])
        && let Some(noun) = words.iter().skip(1).position(|word| !is_particle(word)).map(|i| i + 1)
        && noun > 1
        && noun < end
        && in_list(words[noun], AFTER_MARIA)
    {
        at = noun + 1;
    }
    while at < end {
        let word = words[at];
        let particle = if all_upper { in_list(word, PARTICLES) } else { is_particle(word) };
        let arabic = word
            .get(..3)
            .is_some_and(|start| ["al-", "el-"].iter().any(|article| start.eq_ignore_ascii_case(article)));
        if (particle && !(vietnamese && in_list(word, &["van"]))) || arabic {
            return at;
        }
        // `Ortega y Gasset`
        if at + 2 == end && matches!(words[at + 1], "y" | "i" | "Y") {
            return at;
        }
        at += 1;
    }
    end
}

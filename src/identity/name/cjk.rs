//! Names in Chinese, Japanese and Korean scripts: the family name stands first, mostly without a blank.
//!
//! Where the family name ends is known for most: it has one character, unless it is on a short list. What is not
//! known stays in one piece.

/// Chinese and Korean family names of two characters.
const DOUBLE: &[&str] = &[
    "欧阳", "歐陽", "司马", "司馬", "诸葛", "諸葛", "上官", "司徒", "东方", "東方", "皇甫", "尉迟", "公孙",
    "公孫", "慕容", "令狐", "长孙", "宇文", "夏侯", "端木", "百里", "南宫", "南宮", "남궁", "황보", "제갈",
    "선우", "독고", "사공", "서문",
];

/// Frequent Japanese family names of two and three characters.
const JAPANESE: &[&str] = &[
    "佐々木",
    "長谷川",
    "五十嵐",
    "佐藤",
    "鈴木",
    "高橋",
    "田中",
    "伊藤",
    "渡辺",
    "渡邊",
    "山本",
    "中村",
    "小林",
    "加藤",
    "吉田",
    "山田",
    "山口",
    "松本",
    "井上",
    "木村",
    "斎藤",
    "斉藤",
    "清水",
    "山崎",
    "池田",
    "橋本",
    "阿部",
    "石川",
    "山下",
    "中島",
    "石井",
    "小川",
    "前田",
    "岡田",
    "藤田",
    "後藤",
    "近藤",
    "村上",
    "遠藤",
    "青木",
    "坂本",
    "福田",
    "太田",
    "西村",
    "藤井",
    "岡本",
    "藤原",
    "三浦",
    "中野",
    "中川",
    "原田",
    "松田",
    "竹内",
    "小野",
    "田村",
    "中山",
    "石田",
    "上田",
    "森田",
    "横山",
];

fn is_han(c: char) -> bool {
    matches!(c, '\u{3005}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

fn is_katakana_letter(c: char) -> bool {
    matches!(c, '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{ff66}'..='\u{ff9f}')
}

fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{309f}') || is_katakana_letter(c)
}

fn is_hangul(c: char) -> bool {
    matches!(c, '\u{ac00}'..='\u{d7a3}')
}

fn is_letter(c: char) -> bool {
    is_han(c) || is_kana(c) || is_hangul(c)
}

/// True if the text is of these scripts alone (the dots between katakana names included).
pub(super) fn is_cjk(text: &str) -> bool {
    text.chars().all(|c| is_letter(c) || matches!(c, '・' | '·')) && text.contains(is_letter)
}

/// True if the text is katakana alone.
pub(super) fn is_katakana(text: &str) -> bool {
    text.chars().all(|c| is_katakana_letter(c) || c == '・') && text.contains(is_katakana_letter)
}

/// Family name (where it is known) and given name of a cleaned text; `None` if the text is not of these scripts.
pub(super) fn split(text: &str) -> Option<(Option<String>, String)> {
    if text.is_ascii() || !text.split(' ').all(is_cjk) {
        return None;
    }
    let whole = || Some((None, text.to_owned()));
    let pair = |last: &str, first: &str| Some((Some(last.to_owned()), first.to_owned()));

    let words: Vec<&str> = text.split(' ').collect();
    if let [word] = words.as_slice() {
        // Foreign names keep their own order around the dot.
        if is_katakana(word) {
            return match word.split('・').filter(|part| !part.is_empty()).collect::<Vec<_>>().as_slice() {
                [first, last] => pair(last, first),
                _ => whole(),
            };
        }
        return match family_length(word) {
            Some(at) => pair(&word[..at], &word[at..]),
            None => whole(),
        };
    }
    match words.as_slice() {
        _ if text.contains(['・', '·']) => whole(),
        [last, first] => pair(last, first),
        // 김 민 수
        [last, given @ ..] if given.iter().all(|word| word.chars().count() == 1) => {
            pair(last, &given.concat())
        }
        _ => whole(),
    }
}

/// Octets of the family name at the start of `word`, if it is sure and something follows.
fn family_length(word: &str) -> Option<usize> {
    let count = word.chars().count();
    let after = |chars: usize| word.char_indices().nth(chars).map(|(at, _)| at);
    let listed = |list: &[&str]| list.iter().find(|name| word.starts_with(**name)).map(|name| name.len());
    if word.chars().all(is_han) {
        if let Some(at) = listed(DOUBLE).or_else(|| listed(JAPANESE)) {
            // A family name alone is a single name.
            return (count <= 5 && at < word.len()).then_some(at);
        }
        return match count {
            2 | 3 => after(1),
            // Four characters without a Chinese double name are Japanese.
            4 => after(2),
            _ => None,
        };
    }
    if word.chars().all(is_hangul) {
        return match (count, listed(DOUBLE)) {
            (3 | 4, Some(at)) => Some(at),
            (2 | 3, None) => after(1),
            _ => None,
        };
    }
    // 山田はなこ: the family name in Han, the given name in kana.
    let han = word.chars().take_while(|c| is_han(*c)).count();
    ((1..=3).contains(&han) && word.chars().skip(han).all(is_kana)).then(|| after(han)).flatten()
}

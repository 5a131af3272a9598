//! Emails: one spelling per mailbox, and addresses for those who have none.
//!
//! An email is the login name of the new account and the only thing on which two rows are ever merged. So a value
//! that was folded in a way that could hide another mailbox (full-width letters, a Turkish `İ`, invisible
//! characters) says so in its flags, and the census does not merge on it by itself.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::blank;

pub use flags::EmailFlags;
pub use placeholder::{Template, check_template, placeholder};

mod flags;
mod placeholder;
#[cfg(test)]
mod tests;

/// The longest local part (before the `@`), in octets: RFC 5321, 4.5.3.1.1.
pub const MAX_LOCAL: usize = 64;
/// The longest address, in octets: RFC 5321, 4.5.3.1.3 (a path of 256 with its angle brackets).
pub const MAX_ADDRESS: usize = 254;
/// The longest domain that is accepted, in octets. DNS would allow 253; what is left here is that every domain has
/// room for a local part of [`MAX_LOCAL`], so that [`with_suffix`] can never run out of room.
pub const MAX_DOMAIN: usize = MAX_ADDRESS - 1 - MAX_LOCAL;

/// What a source's email field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Email {
    /// Nothing: empty, or a word such as `N/A`.
    Missing,
    /// Something that is no email address.
    Unusable(EmailProblem),
    /// An address.
    Usable {
        /// The address in its one spelling: NFKC, lower case, domain in ASCII.
        address: String,
        /// What was remarkable about it.
        flags: EmailFlags,
    },
}

/// Why an email field cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmailProblem {
    /// There is no `@`, or nothing before or after it.
    NoAddress,
    /// The part before the `@` breaks the syntax of RFC 5321 (or is a quoted string, which hardly any provider
    /// issues and most login forms refuse).
    Local,
    /// The part after the `@` is no domain name on the internet.
    Domain,
    /// Longer than [`MAX_LOCAL`] before or [`MAX_DOMAIN`] after the `@`.
    TooLong,
}

impl EmailProblem {
    /// A stable code for ledger and reports.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoAddress => "no-address",
            Self::Local => "local-part",
            Self::Domain => "domain",
            Self::TooLong => "too-long",
        }
    }
}

impl std::fmt::Display for EmailProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "it holds no email address",
            Self::Local => "the part before the @ is not valid",
            Self::Domain => "the part after the @ is not an internet domain",
            Self::TooLong => "it is too long",
        })
    }
}

/// The one spelling of an email field.
///
/// Accepted beside a plain address: `mailto:a@b.c?subject=…`, `Name <a@b.c>`, blanks beside the `@`, punctuation
/// around the address, and several addresses in one field (the first is taken; flagged).
pub fn normalise(raw: &str) -> Email {
    let text = blank::trim(raw);
    if let Some(email) = plain(text) {
        return email;
    }
    if blank::is_absent(text) {
        return Email::Missing;
    }
    thorough(text)
}

/// The common case in one pass: an ASCII address with nothing around it. `None`: look closer.
fn plain(text: &str) -> Option<Email> {
    let mut at = None;
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+' => {}
            b'@' if at.is_none() => at = Some(i),
            _ => return None,
        }
    }
    let at = at?;
    // A punycode label may be a homoglyph in disguise, and a dot at the end is the DNS root.
    let domain = text.get(at + 1..)?;
    if domain.ends_with('.') || has_punycode(domain) {
        return None;
    }
    let address = text.to_ascii_lowercase();
    Some(match check(&address, at) {
        Ok(()) => Email::Usable { address, flags: EmailFlags::NONE },
        Err(problem) => Email::Unusable(problem),
    })
}

fn has_punycode(domain: &str) -> bool {
    domain.split('.').any(|label| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--")))
}

/// Everything else: other scripts, decoration, several addresses.
fn thorough(text: &str) -> Email {
    let mut flags = EmailFlags::NONE;
    let mut text = fold(text, &mut flags);
    if blank::is_absent(&text) {
        return Email::Missing;
    }
    // `Name <a@b.c>`: the address is in the last pair of brackets.
    if let Some((_, rest)) = text.rsplit_once('<') {
        let inside = rest.split('>').next().unwrap_or(rest);
        if inside.contains('@') {
            text = inside.to_owned();
        }
    }
    let text = text.trim();
    let text = text.get(7..).filter(|_| text.starts_with("mailto:")).unwrap_or(text);
    let text = text.split('?').next().filter(|start| start.contains('@')).unwrap_or(text);
    let text = first_of_several(text, &mut flags);
    let text = text.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, ',' | ';' | ':' | '<' | '>' | '(' | ')' | '[' | ']' | '"')
    });
    let text = text.strip_suffix('.').unwrap_or(text);

    let Some((local, domain)) = text.rsplit_once('@') else {
        return Email::Unusable(EmailProblem::NoAddress);
    };
    if local.ends_with(char::is_whitespace) || domain.starts_with(char::is_whitespace) {
        flags.insert(EmailFlags::REPAIRED);
    }
    let (local, domain) = (local.trim_end(), domain.trim_start());
    if local.is_empty() || domain.is_empty() {
        return Email::Unusable(EmailProblem::NoAddress);
    }
    // Bounds the work below, too: IDNA is not linear in the length of its input.
    if local.len() > MAX_LOCAL || domain.len() > 4 * MAX_DOMAIN {
        return Email::Unusable(EmailProblem::TooLong);
    }
    let Some(ascii) = ascii_domain(domain, &mut flags) else { return Email::Unusable(EmailProblem::Domain) };
    flags.note_local(local);

    let address = format!("{local}@{ascii}");
    match check(&address, local.len()) {
        Ok(()) => Email::Usable { address, flags },
        Err(problem) => Email::Unusable(problem),
    }
}

/// NFKC, lower case, without invisible characters; what that changed goes into the flags.
fn fold(text: &str, flags: &mut EmailFlags) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut visible: String = text.chars().filter(|c| !blank::is_invisible(*c)).collect();
    if visible.len() != text.len() {
        flags.insert(EmailFlags::INVISIBLE_REMOVED);
    }
    // U+0130 lower-cases to i with a dot above, and a dotless i is not an i: neither becomes a plain i here, but
    // many systems have folded one into the other, so such an address is for a person to look at.
    if visible.contains(['\u{130}', '\u{131}']) {
        flags.insert(EmailFlags::TURKISH_I);
    }
    if !is_nfc(&visible) {
        visible = visible.nfc().collect();
    }
    // The Kelvin sign is a K even to NFC; it is the only letter beyond ASCII that becomes an ASCII one there.
    let kelvin = text.contains('\u{212a}');
    let mut folded: String = visible.nfkc().collect();
    if kelvin || folded != visible {
        flags.insert(EmailFlags::CHANGED_BY_NFKC);
    }
    // Lower case can undo NFKC and the other way round for a handful of characters: repeat until nothing changes.
    // Unicode promises that this ends; the bound only keeps a wrong table from looping.
    for _ in 0..4 {
        let next: String = folded.to_lowercase().nfkc().filter(|c| !blank::is_invisible(*c)).collect();
        if next == folded {
            break;
        }
        folded = next;
    }
    folded
}

/// The first address, if the field holds several.
fn first_of_several<'a>(text: &'a str, flags: &mut EmailFlags) -> &'a str {
    if text.matches('@').count() < 2 {
        return text;
    }
    let first = text
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '/' | '|' | '&'))
        .find(|piece| piece.contains('@'))
        .unwrap_or(text);
    if first.len() != text.len() {
        flags.insert(EmailFlags::FIRST_OF_SEVERAL);
    }
    first
}

/// The domain in ASCII (UTS 46), or `None` if it is not a domain.
fn ascii_domain(domain: &str, flags: &mut EmailFlags) -> Option<String> {
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .ok()?
        .into_owned();
    if !domain.is_ascii() || has_punycode(&ascii) {
        let (unicode, shown) = idna::domain_to_unicode(&ascii);
        shown.ok()?;
        flags.note_domain(domain, &unicode);
    }
    Some(ascii)
}

/// Syntax and length of an address whose `@` is at octet `at`.
fn check(address: &str, at: usize) -> Result<(), EmailProblem> {
    let (local, domain) = (&address[..at], &address[at + 1..]);
    if local.is_empty() || domain.is_empty() {
        return Err(EmailProblem::NoAddress);
    }
    if local.len() > MAX_LOCAL || domain.len() > MAX_DOMAIN {
        return Err(EmailProblem::TooLong);
    }
    if local.starts_with('"') || !local_is_valid(local) {
        return Err(EmailProblem::Local);
    }
    // At least two labels, and a last one that is not a number: RFC 3696, 2.
    let top = domain.rsplit_once('.').map(|(_, top)| top);
    let named = top.is_some_and(|top| top.len() > 1 && !top.bytes().all(|byte| byte.is_ascii_digit()));
    let ldh = domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if !named || !ldh || !email_address::EmailAddress::is_valid_domain(domain) {
        return Err(EmailProblem::Domain);
    }
    Ok(())
}

/// RFC 5322's dot-atom. RFC 6531 adds every character beyond ASCII; those are checked here, because the crate
/// knows only some of them: letters, digits and their marks pass, blanks and controls do not.
fn local_is_valid(local: &str) -> bool {
    if local.is_ascii() {
        return email_address::EmailAddress::is_valid_local_part(local);
    }
    let mut ascii = String::with_capacity(local.len());
    for c in local.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else if c.is_whitespace() || c.is_control() || is_private_or_noncharacter(c) {
            return false;
        } else {
            ascii.extend(std::iter::repeat_n('x', c.len_utf8()));
        }
    }
    email_address::EmailAddress::is_valid_local_part(&ascii)
}

fn is_private_or_noncharacter(c: char) -> bool {
    let code = c as u32;
    matches!(code, 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xfff9..=0xffff | 0xf_0000..)
        || code & 0xfffe == 0xfffe
}

/// The address with `+n` before its `@`: still delivered to the same mailbox at most providers (RFC 5233).
///
/// Keeps the limits of RFC 5321 (64 octets before the `@`, 254 in all) by cutting the end of the local part, so two
/// long addresses can get the same result: the caller tries the next `n` until the address is free.
/// `address` is one that [`normalise`] or [`placeholder`] made.
pub fn with_suffix(address: &str, n: u32) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let suffix = format!("+{n}");
    let room = MAX_LOCAL.min((MAX_ADDRESS - 1).saturating_sub(domain.len())).saturating_sub(suffix.len());
    let kept = &local[..local.floor_char_boundary(room)];
    let mut out = String::with_capacity(kept.len() + suffix.len() + 1 + domain.len());
    out.push_str(kept);
    out.push_str(&suffix);
    out.push('@');
    out.push_str(domain);
    out
}

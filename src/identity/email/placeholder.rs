//! Addresses for people without a usable email.
//!
//! The new database wants a unique email for every account, so those without one get an address on a domain that the
//! user owns (or that can never exist). It must follow from entity and key alone, and no two rows may get the same:
//! the mapping is injective. What does not fit 64 octets ends in a 128-bit hash instead, which is as good as unique.

use xxhash_rust::xxh3::xxh3_128;

use super::{Email, MAX_LOCAL, normalise};

const ENTITY: &str = "{entity}";
const KEY: &str = "{key}";
/// `_h` and 32 hexadecimal digits.
const HASHED: usize = 34;
/// What the template itself may put before the `@`: leaves room for a hash and six octets of the entity's name.
const MAX_FIXED: usize = MAX_LOCAL - HASHED - 6;

/// A checked template such as `{entity}.{key}@placeholder.invalid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    before: String,
    between: String,
    after: String,
    domain: String,
    entity_first: bool,
}

impl Template {
    /// Reads and checks a template.
    ///
    /// # Errors
    /// A sentence that says what is wrong, if an address made from it could be invalid or ambiguous.
    pub fn parse(template: &str) -> Result<Self, String> {
        let (local, domain) = template
            .rsplit_once('@')
            .ok_or_else(|| format!("the placeholder template `{template}` has no @"))?;
        let place = |name: &str| -> Result<usize, String> {
            match (local.find(name), local.matches(name).count()) {
                (Some(at), 1) => Ok(at),
                _ => Err(format!("the placeholder template `{template}` must have {name} once before its @")),
            }
        };
        let (entity, key) = (place(ENTITY)?, place(KEY)?);
        let entity_first = entity < key;
        let (first_end, second, second_end) = if entity_first {
            (entity + ENTITY.len(), key, key + KEY.len())
        } else {
            (key + KEY.len(), entity, entity + ENTITY.len())
        };
        let this = Self {
            before: local[..entity.min(key)].to_owned(),
            between: local[first_end..second].to_owned(),
            after: local[second_end..].to_owned(),
            domain: domain.to_owned(),
            entity_first,
        };
        // Without a character between them that escaped text cannot hold, `ab` + `c` and `a` + `bc` would be one.
        if !this.between.bytes().any(|byte| !is_plain(byte) && byte != b'_') {
            return Err(format!(
                "the placeholder template `{template}` needs a dot or another sign between {ENTITY} and {KEY}"
            ));
        }
        if this.before.len() + this.between.len() + this.after.len() > MAX_FIXED {
            return Err(format!(
                "the placeholder template `{template}` has more than {MAX_FIXED} characters of its own before the @"
            ));
        }
        let sample = this.address("entity", "key");
        match normalise(&sample) {
            Email::Usable { address, flags } if address == sample && flags.is_empty() => Ok(this),
            Email::Usable { .. } => {
                Err(format!("the placeholder template `{template}` must be in lower-case ASCII"))
            }
            Email::Unusable(problem) => {
                Err(format!("the placeholder template `{template}` makes no valid address: {problem}"))
            }
            Email::Missing => Err(format!("the placeholder template `{template}` makes no address")),
        }
    }

    /// The address of a row. Different (entity, key) pairs get different addresses, and [`normalise`] leaves each
    /// as it is.
    pub fn address(&self, entity: &str, key: &str) -> String {
        let mut entity_text = escape(entity);
        let mut key_text = escape(key);
        let fixed = self.before.len() + self.between.len() + self.after.len();
        if fixed + entity_text.len() + key_text.len() > MAX_LOCAL {
            // The hash covers both names (with the entity's length, so that no boundary can shift); what is left of
            // the entity's name is for people. No escaped text has `h` after `_`.
            let mut both = Vec::with_capacity(entity.len() + key.len() + 8);
            both.extend_from_slice(&(entity.len() as u64).to_le_bytes());
            both.extend_from_slice(entity.as_bytes());
            both.extend_from_slice(key.as_bytes());
            key_text = format!("_h{:032x}", xxh3_128(&both));
            entity_text.truncate(MAX_LOCAL - HASHED - fixed);
        }
        let (first, second) =
            if self.entity_first { (&entity_text, &key_text) } else { (&key_text, &entity_text) };
        [&self.before, first, &self.between, second, &self.after, "@", &self.domain].concat()
    }
}

/// Checks a template: see [`Template::parse`].
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_template(template: &str) -> Result<(), String> {
    Template::parse(template).map(drop)
}

/// The address of one row. For many rows, parse the [`Template`] once.
///
/// # Errors
/// A sentence that says what is wrong with the template.
pub fn placeholder(template: &str, entity: &str, key: &str) -> Result<String, String> {
    Ok(Template::parse(template)?.address(entity, key))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// `_` and two hexadecimal digits for every octet but `a-z 0-9 -`; a lone `_` for the empty text. Reversible, and
/// safe against systems that fold case.
fn escape(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(byte as char);
        } else {
            out.push('_');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
    out
}

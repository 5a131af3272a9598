//! The parts that the engine can take from a column with a whole address or a whole name.

/// A part of an address or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `{ address = "column", part = "…" }`
    Address(AddressPart),
    /// `{ name = "column", part = "…" }`
    Name(NamePart),
}

/// A part of an address; what each holds stands in [`AddressPart::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the names that definitions use; documented in NAMES")]
pub enum AddressPart {
    Line1,
    Line2,
    City,
    State,
    PostalCode,
    Country,
    Raw,
}

impl AddressPart {
    /// Name in definitions, part, what it holds.
    pub const NAMES: &[(&str, Self, &str)] = &[
        ("line1", Self::Line1, "street and number, or the whole address when its parts are not sure"),
        ("line2", Self::Line2, "flat, floor, district"),
        ("city", Self::City, "city"),
        ("state", Self::State, "state or province"),
        ("postal_code", Self::PostalCode, "postal code"),
        ("country", Self::Country, "ISO 3166-1 alpha-2 code, when the text names the country"),
        ("raw", Self::Raw, "V1's text, unchanged; null when it is blank"),
    ];
}

/// A part of a name; what each holds stands in [`NamePart::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the names that definitions use; documented in NAMES")]
pub enum NamePart {
    Title,
    First,
    Middle,
    Last,
    Suffix,
}

impl NamePart {
    /// Name in definitions, part, what it holds.
    pub const NAMES: &[(&str, Self, &str)] = &[
        ("title", Self::Title, "Dr., Mrs., …"),
        ("first", Self::First, "first name; also a single name"),
        ("middle", Self::Middle, "middle names"),
        ("last", Self::Last, "last name with its particles; null for a single name"),
        ("suffix", Self::Suffix, "Jr., III, PhD, …"),
    ];
}

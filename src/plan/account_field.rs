//! What of an account a definition can write, by the names that definitions use. Documentation, checks and the JSON
//! Schema all read this one list, so none of them can fall behind the engine.

/// A field of an account that a definition can write: `{ account = "email" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the variants are the names that definitions use; documented in AccountField::NAMES"
)]
pub enum AccountField {
    Id,
    Type,
    Role,
    Scope,
    Email,
    EmailIsPlaceholder,
    Phone,
    ContactPhone,
    PhoneIsValid,
    PhoneNeedsReview,
    Username,
    PasswordHash,
    MustChangePassword,
    Locked,
    Status,
    Title,
    FirstName,
    MiddleName,
    LastName,
    Suffix,
    AddressLine1,
    AddressLine2,
    City,
    State,
    PostalCode,
    Country,
    AddressRaw,
    CreatedAt,
    UpdatedAt,
}

impl AccountField {
    /// Name in definitions, field, what it holds.
    pub const NAMES: &[(&str, AccountField, &str)] = &[
        ("id", Self::Id, "the account's V2 id; null for a row without an account"),
        ("type", Self::Type, "the type code that the definition gives"),
        ("role", Self::Role, "the role code that the definition gives"),
        ("scope", Self::Scope, "V2 id of what the role is limited to"),
        ("email", Self::Email, "the login email: unique, lower case; a placeholder when V1 has none"),
        ("email_is_placeholder", Self::EmailIsPlaceholder, "true when the email was generated"),
        ("phone", Self::Phone, "the login phone in E.164: unique; null when another account has it"),
        (
            "contact_phone",
            Self::ContactPhone,
            "the phone to call: E.164, or V1's text when it is no possible number",
        ),
        (
            "phone_is_valid",
            Self::PhoneIsValid,
            "whether the contact phone is a valid number of its country; null without one",
        ),
        (
            "phone_needs_review",
            Self::PhoneNeedsReview,
            "true when the phone was not valid, or digits had to be guessed",
        ),
        ("username", Self::Username, "unique: the email, or the local part of a placeholder"),
        ("password_hash", Self::PasswordHash, "the password's hash; null with `passwords = none`"),
        ("must_change_password", Self::MustChangePassword, "true for generated passwords"),
        ("locked", Self::Locked, "true when there is no password to log in with"),
        ("status", Self::Status, "`ACTIVE`, or `LOCKED` when there is no password to log in with"),
        ("title", Self::Title, "Dr., Mrs., …"),
        ("first_name", Self::FirstName, "first name; also a single name; empty when there is no name at all"),
        ("middle_name", Self::MiddleName, "middle names"),
        ("last_name", Self::LastName, "last name with its particles; null for a single name"),
        ("suffix", Self::Suffix, "Jr., III, PhD, …"),
        (
            "address_line1",
            Self::AddressLine1,
            "street and number, or the whole address when its parts are not sure",
        ),
        ("address_line2", Self::AddressLine2, "flat, floor, district"),
        ("city", Self::City, "city"),
        ("state", Self::State, "state or province"),
        ("postal_code", Self::PostalCode, "postal code"),
        ("country", Self::Country, "ISO 3166-1 alpha-2 code"),
        ("address_raw", Self::AddressRaw, "V1's text, unchanged"),
        ("created_at", Self::CreatedAt, "the definition's created_at column, else the time of the run"),
        ("updated_at", Self::UpdatedAt, "the definition's updated_at column, else the time of the run"),
    ];
}

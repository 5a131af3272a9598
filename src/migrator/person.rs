//! A row's person: what its account holds, as the census decided it and the row's contact columns say.

use crate::census::{AccountOf, Census, Claims, EmailClaim, PhoneClaim, PhoneDecision};
use crate::identity::address::{self, Address};
use crate::identity::email::{self, Email};
use crate::identity::name::{self, Name};
use crate::ledger::Reject;
use crate::password;
use crate::plan::{AccountField, AccountSpec, NameColumns, Scope};
use crate::row::Row;
use crate::settings::PasswordMode;
use crate::target::Keeps;

use super::{Context, KnownPhone, MISSING_REFERENCE, Note};

/// What stands in the place of a password hash in a dry run: the form of one, of no password.
const PRETENDED_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What is known of a row's account before the row is converted.
pub struct Account<'a> {
    /// The census's decision.
    pub of: AccountOf,
    /// Whether this row creates the account, or created it before.
    pub creates: bool,
    /// Whether the row is in V2 already: its account keeps its password, and what belongs to somebody else by now.
    pub updates: bool,
    /// The row's phone, as the census read it.
    pub phone: KnownPhone,
    /// How accounts get their passwords.
    pub mode: PasswordMode,
    /// The hash of the generated password.
    pub password_hash: Option<&'a str>,
    /// With `keep`: V1's hash of another row of this person.
    pub joining_password: Option<&'a str>,
    /// A dry run: nothing is hashed.
    pub pretend: bool,
    /// Knows the founder's key.
    pub census: &'a Census,
}

/// A row's person.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// The account's V2 id.
    pub account_id: String,
    /// Whether this row creates the account; if not, it only adds a role, and contact details are not filled.
    pub creates: bool,
    account_type: String,
    role: String,
    scope: Option<String>,
    contact: Contact,
    created_at: String,
    updated_at: String,
}

/// The contact details of an account that is being created.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    email: String,
    email_is_placeholder: bool,
    username: String,
    phone: Option<String>,
    contact_phone: Option<String>,
    phone_is_valid: Option<bool>,
    phone_needs_review: bool,
    name: Name,
    address: Address,
    password_hash: Option<String>,
    must_change_password: bool,
    keeps: Keeps,
    claims: Option<Claims>,
}

impl Person {
    /// What the row claims, if it creates the account.
    pub fn claims(&self) -> Option<Claims> {
        self.contact.claims
    }

    /// What of the account stays as V2 has it, if it is there already.
    pub fn keeps(&self) -> Keeps {
        self.contact.keeps
    }

    /// Builds the person of a row.
    ///
    /// # Errors
    /// [`Reject`] if the role is limited to a row that V2 does not have, or if the row is to create an account for
    /// which it has no name.
    pub fn of(
        row: &Row<'_>,
        spec: &AccountSpec,
        account: &Account<'_>,
        context: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> Result<Self, Reject> {
        let time = |column: Option<usize>| {
            column
                .and_then(|column| row.text(column))
                .map_or_else(|| context.now.to_owned(), |text| text.into_owned())
        };
        Ok(Self {
            account_id: context.plan.account_id(account.of.id),
            creates: account.creates,
            account_type: spec.account_type.clone(),
            role: spec.role.clone(),
            scope: scope(row, spec, context)?,
            contact: if account.creates {
                contact(row, spec, account, context, notes)?
            } else {
                Contact::default()
            },
            created_at: time(spec.created_at),
            updated_at: time(spec.updated_at),
        })
    }

    /// A field as text; `None` for null.
    pub fn field(&self, field: AccountField) -> Option<&str> {
        fn some(text: &str) -> Option<&str> {
            Some(text)
        }
        fn boolean(value: bool) -> &'static str {
            if value { "true" } else { "false" }
        }
        let contact = &self.contact;
        let locked = contact.password_hash.is_none();
        match field {
            AccountField::Id => some(&self.account_id),
            AccountField::Type => some(&self.account_type),
            AccountField::Role => some(&self.role),
            AccountField::Scope => self.scope.as_deref(),
            AccountField::Email => some(&contact.email),
            AccountField::EmailIsPlaceholder => Some(boolean(contact.email_is_placeholder)),
            AccountField::Phone => contact.phone.as_deref(),
            AccountField::ContactPhone => contact.contact_phone.as_deref(),
            AccountField::PhoneIsValid => contact.phone_is_valid.map(boolean),
            AccountField::PhoneNeedsReview => Some(boolean(contact.phone_needs_review)),
            AccountField::Username => some(&contact.username),
            AccountField::PasswordHash => contact.password_hash.as_deref(),
            AccountField::MustChangePassword => Some(boolean(contact.must_change_password)),
            AccountField::Locked => Some(boolean(locked)),
            AccountField::Status => Some(if locked { "LOCKED" } else { "ACTIVE" }),
            AccountField::Title => contact.name.title.as_deref(),
            AccountField::FirstName => some(contact.name.first.as_deref().unwrap_or_default()),
            AccountField::MiddleName => contact.name.middle.as_deref(),
            AccountField::LastName => contact.name.last.as_deref(),
            AccountField::Suffix => contact.name.suffix.as_deref(),
            AccountField::AddressLine1 => contact.address.line1.as_deref(),
            AccountField::AddressLine2 => contact.address.line2.as_deref(),
            AccountField::City => contact.address.city.as_deref(),
            AccountField::State => contact.address.state.as_deref(),
            AccountField::PostalCode => contact.address.postal_code.as_deref(),
            AccountField::Country => contact.address.country.as_deref(),
            AccountField::AddressRaw => some(&contact.address.raw).filter(|raw| !raw.is_empty()),
            AccountField::CreatedAt => some(&self.created_at),
            AccountField::UpdatedAt => some(&self.updated_at),
        }
    }
}

fn scope(row: &Row<'_>, spec: &AccountSpec, context: &Context<'_>) -> Result<Option<String>, Reject> {
    Ok(match &spec.scope {
        None => None,
        Some(Scope::Own) => Some(context.own_id()),
        Some(Scope::Reference { entity, column }) => match row.text(*column) {
            None => None,
            Some(key)
                if *entity == context.entity && key == context.key
                    || context.references.exists(*entity, &key) =>
            {
                Some(context.target_id(*entity, &key))
            }
            Some(key) => {
                let other = &context.plan.entities[*entity].name;
                let reason = format!("the account's scope: {other} has no migrated row with the key {key:?}");
                return Err(Reject::new(MISSING_REFERENCE, reason));
            }
        },
    })
}

fn contact(
    row: &Row<'_>,
    spec: &AccountSpec,
    account: &Account<'_>,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) -> Result<Contact, Reject> {
    let filled = |column: Option<usize>| column.and_then(|column| row.filled(column));
    let name = match &spec.name {
        NameColumns::Full(column) => name::split(&row.text(*column).unwrap_or_default()),
        NameColumns::Parts { first, middle, last } => name::from_parts(
            filled(Some(*first)).as_deref(),
            filled(*middle).as_deref(),
            filled(Some(*last)).as_deref(),
        ),
    };
    let own = filled(spec.email).map_or(Email::Missing, |text| email::normalise(&text));
    let phone = match &account.phone {
        KnownPhone::Missing => PhoneClaim::Missing,
        KnownPhone::Impossible => PhoneClaim::Impossible,
        KnownPhone::Number { e164, .. } => PhoneClaim::Number(e164),
    };
    let claims = Some(Claims::new(EmailClaim::from(&own), phone));
    let own = match own {
        Email::Usable { address, .. } => Some(address),
        Email::Missing | Email::Unusable(_) => None,
    };
    let decided = account.of.email;
    let email = account.census.email(&account.of, context.entity, context.key, own.as_deref());
    let keeps = Keeps {
        email: account.updates && email.is_none(),
        phone: account.updates && account.of.phone == PhoneDecision::Held,
    };
    let email = match email {
        Some(email) => email,
        None if keeps.email => String::new(),
        None => {
            let reason = "the account's email in V2 differs from V1's, and V2 lacks the account";
            return Err(Reject::new("account-changed", reason));
        }
    };
    let mut contact = Contact {
        keeps,
        claims,
        username: account.of.username.text(&email).to_owned(),
        email,
        email_is_placeholder: decided.is_placeholder(),
        name,
        address: filled(spec.address).map_or_else(Address::default, |text| address::split(&text)),
        ..Contact::default()
    };
    if let Some(text) = filled(spec.phone) {
        set_phone(&mut contact, &text, account.phone.clone(), account.of.phone);
    }
    if !account.updates {
        set_password(&mut contact, row, spec, account, context, notes);
    }
    Ok(contact)
}

fn set_phone(contact: &mut Contact, text: &str, known: KnownPhone, decided: PhoneDecision) {
    match known {
        KnownPhone::Missing => {}
        KnownPhone::Impossible => {
            contact.contact_phone = Some(text.to_owned());
            contact.phone_is_valid = Some(false);
            contact.phone_needs_review = true;
        }
        KnownPhone::Number { e164, valid, doubtful } => {
            contact.phone = (decided == PhoneDecision::Login).then(|| e164.clone());
            contact.contact_phone = Some(e164);
            contact.phone_is_valid = Some(valid);
            contact.phone_needs_review = doubtful;
        }
    }
}

fn set_password(
    contact: &mut Contact,
    row: &Row<'_>,
    spec: &AccountSpec,
    account: &Account<'_>,
    context: &Context<'_>,
    notes: &mut Vec<Note>,
) {
    match account.mode {
        PasswordMode::None => {}
        PasswordMode::Generate => {
            let hash = if account.pretend { Some(PRETENDED_HASH) } else { account.password_hash };
            contact.password_hash = hash.map(str::to_owned);
            contact.must_change_password = true;
        }
        PasswordMode::Keep => {
            let own = spec.password.and_then(|column| row.filled(column));
            let Some(stored) = own.as_deref().or(account.joining_password) else { return };
            if password::recognise(stored).is_some() {
                contact.password_hash = Some(stored.to_owned());
            } else {
                // Carrying an unknown text over could publish a plain password; the person resets it instead.
                notes.push(Note {
                    row: context.number,
                    kind: "password_unknown".to_owned(),
                    decision: "locked".to_owned(),
                    other: None,
                    detail: Some("V1's password is no hash of a known kind".to_owned()),
                });
            }
        }
    }
}

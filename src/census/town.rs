//! A small town for the tests of the census: people in V1, accounts in V2, and decisions in words.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::*;
use crate::identity::email::{Email, normalise};
use crate::plan::{KeyKind, Policy};

pub const ENTITIES: [&str; 3] = ["staff", "parents", "pupils"];

/// A row of V1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resident {
    pub entity: usize,
    pub key: String,
    pub email: Option<String>,
    /// E.164, or anything else for an impossible number.
    pub phone: Option<String>,
    pub name: String,
    pub has_account: bool,
}

/// An account as V2 holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: String,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub username: Option<String>,
    pub ours: bool,
}

/// A conflict: what, what was decided, and (entity, row) of the other.
pub type Line = (ConflictKind, Settlement, Option<(usize, u32)>);

/// A decision with everything spelled out; only what must not depend on earlier runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelled {
    pub decision: Decision,
    pub email: Option<String>,
    pub username: Option<String>,
    pub conflicts: Vec<Line>,
}

impl Spelled {
    pub fn account(&self) -> Option<AccountOf> {
        match self.decision.outcome {
            Outcome::Account(account) => Some(account),
            _ => None,
        }
    }

    pub fn kinds(&self) -> Vec<(ConflictKind, Settlement)> {
        self.conflicts.iter().map(|(kind, settlement, _)| (*kind, *settlement)).collect()
    }
}

pub fn resident(entity: usize, key: &str, email: &str, phone: &str, name: &str) -> Resident {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (email, phone) = (some(email), some(phone));
    Resident { entity, key: key.to_owned(), email, phone, name: name.to_owned(), has_account: true }
}

pub fn foreign(email: &str, phone: &str, username: &str) -> Held {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let id = format!("foreign {email}{phone}{username}");
    Held { id, email: some(email), phone: some(phone), username: some(username), ours: false }
}

pub const DEFAULT: Policies = Policies {
    same_person: Policy::Merge,
    other_person: Policy::Suffix,
    same_entity: Policy::Suffix,
    same_phone: Policy::KeepFirst,
};

pub fn rules(policies: Policies) -> Rules {
    let placeholder = Template::parse("{entity}.{key}@placeholder.invalid").unwrap();
    Rules { policies, placeholder, phone_region: "NG".to_owned() }
}

pub fn people() -> Vec<People> {
    ENTITIES
        .iter()
        .map(|name| People { name: Arc::from(*name), ids: IdMaker::new(name, KeyKind::Text, "") })
        .collect()
}

/// Takes a census. `ledger` names accounts of rows by (entity, key).
pub fn census_with(
    policies: Policies,
    town: &[Resident],
    v2: &[Held],
    ledger: &HashMap<(usize, String), Uuid>,
    email_bits: u64,
) -> Census {
    census_of_the_open(policies, town, v2, ledger, email_bits, &|_| false)
}

/// Takes a census that will be asked about some rows only: not about those that are `closed`.
pub fn census_of_the_open(
    policies: Policies,
    town: &[Resident],
    v2: &[Held],
    ledger: &HashMap<(usize, String), Uuid>,
    email_bits: u64,
    closed: &dyn Fn(&Resident) -> bool,
) -> Census {
    let rules = rules(policies);
    let mut existing = Existing::new(&rules.phone_region);
    for held in v2 {
        existing.push(&ExistingAccount {
            id: &held.id,
            email: held.email.as_deref(),
            phone: held.phone.as_deref(),
            username: held.username.as_deref(),
            ours: held.ours,
        });
    }
    let mut survey = Survey::new(rules, people(), existing);
    survey.email_bits = email_bits;
    for row in town {
        let email = row.email.as_deref().map_or(Email::Missing, normalise);
        let phone = match row.phone.as_deref() {
            None => PhoneClaim::Missing,
            Some(phone) if phone.starts_with('+') => PhoneClaim::Number(phone),
            Some(_) => PhoneClaim::Impossible,
        };
        let account = ledger.get(&(row.entity, row.key.clone())).copied();
        let (key, claims) = (row.key.as_str(), Claims::new(EmailClaim::from(&email), phone));
        let closed = closed(row);
        survey.push(row.entity, &Contact { key, claims, has_account: row.has_account, account, closed });
    }
    let mut look = survey.clashes();
    for row in town {
        look.push(row.entity, &row.key, row.email.as_deref(), &row.name);
    }
    look.decide().unwrap()
}

pub fn census(policies: Policies, town: &[Resident], v2: &[Held]) -> Census {
    census_with(policies, town, v2, &HashMap::new(), u64::MAX)
}

/// All decisions in words.
pub fn spell(census: &Census, town: &[Resident]) -> Vec<Spelled> {
    let mut cursors: Vec<_> = (0..ENTITIES.len()).map(|entity| census.cursor(entity)).collect();
    town.iter()
        .map(|row| {
            let decision = cursors[row.entity].next(&row.key).unwrap();
            let own = row.email.as_deref().and_then(|email| match normalise(email) {
                Email::Usable { address, .. } => Some(address),
                _ => None,
            });
            let (mut email, mut username) = (None, None);
            if let Outcome::Account(account) = &decision.outcome {
                email = census.email(account, row.entity, &row.key, own.as_deref());
                username = email.as_deref().map(|email| account.username.text(email).to_owned());
            }
            let conflicts = census
                .conflicts(decision.row)
                .map(|line| (line.kind, line.settlement, line.other.map(|other| (other.entity, other.row))))
                .collect();
            Spelled { decision, email, username, conflicts }
        })
        .collect()
}

pub fn decide(policies: Policies, town: &[Resident], v2: &[Held]) -> Vec<Spelled> {
    spell(&census(policies, town, v2), town)
}

/// The accounts that a run makes of these decisions: each is created by its first row that is not lost (an orphan).
pub fn written(
    town: &[Resident],
    decisions: &[Spelled],
    lost: &dyn Fn(usize) -> bool,
) -> BTreeMap<Uuid, Held> {
    let mut accounts = BTreeMap::new();
    for (at, (row, spelled)) in town.iter().zip(decisions).enumerate() {
        let Some(account) = spelled.account().filter(|_| !lost(at)) else { continue };
        accounts.entry(account.id).or_insert_with(|| Held {
            id: account.id.to_string(),
            email: spelled.email.clone(),
            phone: row.phone.clone().filter(|_| account.phone == PhoneDecision::Login),
            username: spelled.username.clone(),
            ours: true,
        });
    }
    accounts
}

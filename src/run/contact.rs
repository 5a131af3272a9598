//! The columns of a row by which the census tells who is who, normalised.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::broken;
use crate::census::{Claims, EmailClaim, PhoneClaim};
use crate::error::{Error, Result};
use crate::identity::{email, phone};
use crate::migrator::PackedPhone;
use crate::plan::{AccountSpec, Entity, NameColumns};
use crate::row::{Row, Rows};

/// Contact details of one row, normalised.
pub(super) struct Normalised {
    pub key: String,
    pub claims: Claims,
    pub phone: PackedPhone,
    pub has_account: bool,
}

/// Where the contact columns are.
pub(super) struct ContactColumns {
    entity: Arc<str>,
    /// All columns that are read.
    names: Vec<String>,
    key: usize,
    email: Option<usize>,
    phone: Option<usize>,
    when: Option<usize>,
    password: Option<usize>,
    name: Vec<usize>,
}

impl ContactColumns {
    /// Among all columns of the source.
    pub fn among_all(entity: &Entity, spec: &AccountSpec) -> Self {
        let source = &entity.source;
        let names = source.columns.iter().map(|column| column.name.clone()).collect();
        Self::find(entity, spec, names, source.key_index, |column| column)
    }

    /// Of a query that asks for nothing else.
    pub fn alone(entity: &Entity, spec: &AccountSpec) -> Self {
        let source = &entity.source;
        let mut names = vec![source.key.clone()];
        let mut this = Self::find(entity, spec, Vec::new(), 0, |column| {
            names.push(source.columns[column].name.clone());
            names.len() - 1
        });
        this.names = names;
        this
    }

    fn find(
        entity: &Entity,
        spec: &AccountSpec,
        names: Vec<String>,
        key: usize,
        mut place: impl FnMut(usize) -> usize,
    ) -> Self {
        let email = spec.email.map(&mut place);
        let phone = spec.phone.map(&mut place);
        let when = spec.when.map(&mut place);
        let password = spec.password.map(&mut place);
        let name = match &spec.name {
            NameColumns::Full(column) => vec![place(*column)],
            NameColumns::Parts { first, middle, last } => {
                [Some(*first), *middle, Some(*last)].into_iter().flatten().map(&mut place).collect()
            }
        };
        Self { entity: entity.name.clone(), names, key, email, phone, when, password, name }
    }

    /// The columns' names, in the order that they are read.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// One line of COPY text.
    pub fn parse(&self, line: &[u8]) -> Result<Rows> {
        let mut rows = Rows::new(self.names.len());
        if rows.push(line) { Ok(rows) } else { Err(broken("V1 sent a row with another number of columns")) }
    }

    /// The row's key.
    pub fn key<'r>(&self, row: &Row<'r>) -> Result<Cow<'r, str>> {
        row.text(self.key).ok_or_else(|| {
            let (entity, key) = (&self.entity, &self.names[self.key]);
            Error::failed(format!("{entity}: a row of V1 has no key ({key} is null)"))
                .help("choose a key column that is unique and not null, or leave such rows out in the query")
        })
    }

    /// Reads what the row claims.
    pub fn normalise(&self, row: &Row<'_>, region: &str) -> Result<Normalised> {
        let key = self.key(row)?.into_owned();
        let email = self.email(row).map_or(email::Email::Missing, |text| email::normalise(&text));
        let phone = self.text(row, self.phone);
        let phone = phone.map_or(phone::Phone::Missing, |text| phone::normalise(&text, region));
        let claims = Claims::new(EmailClaim::from(&email), PhoneClaim::from(&phone));
        let has_account = self.when.is_none_or(|column| row.filled(column).is_some());
        Ok(Normalised { key, claims, phone: PackedPhone::from(&phone), has_account })
    }

    /// The email as V1 has it.
    pub fn email<'r>(&self, row: &Row<'r>) -> Option<Cow<'r, str>> {
        self.text(row, self.email)
    }

    /// V1's password hash.
    pub fn password<'r>(&self, row: &Row<'r>) -> Option<Cow<'r, str>> {
        self.text(row, self.password)
    }

    /// The full name in one string.
    pub fn name(&self, row: &Row<'_>) -> String {
        self.name.iter().filter_map(|&column| self.text(row, Some(column))).collect::<Vec<_>>().join(" ")
    }

    fn text<'r>(&self, row: &Row<'r>, column: Option<usize>) -> Option<Cow<'r, str>> {
        // What is no text identifies nobody: such a row will be rejected.
        column.filter(|&column| row.is_text(column)).and_then(|column| row.filled(column))
    }
}

/// Rows that one task normalises. Enough that handing them over costs nothing.
const PORTION: usize = 1_000;

/// Portions under way: as many as there are cores to use, and one that is being filled.
const UNDER_WAY: usize = 4;

/// Normalises rows on all cores and hands them on in the order they came.
pub(super) struct InOrder {
    contact: Arc<ContactColumns>,
    region: String,
    filling: Rows,
    under_way: VecDeque<JoinHandle<Result<Vec<Normalised>>>>,
    rows: u64,
}

impl InOrder {
    /// None yet.
    pub fn new(contact: Arc<ContactColumns>, region: String) -> Self {
        let filling = Rows::new(contact.names.len());
        Self { contact, region, filling, under_way: VecDeque::new(), rows: 0 }
    }

    /// Takes one line of COPY text.
    pub async fn take(&mut self, line: &[u8], each: impl FnMut(Normalised)) -> Result<()> {
        if !self.filling.push(line) {
            return Err(broken("V1 sent a row with another number of columns"));
        }
        self.rows += 1;
        if self.filling.len() >= PORTION { self.start(UNDER_WAY, each).await } else { Ok(()) }
    }

    /// Hands on what is left; returns the number of rows.
    pub async fn finish(mut self, each: impl FnMut(Normalised)) -> Result<u64> {
        self.start(0, each).await?;
        Ok(self.rows)
    }

    /// Starts the portion that was filled, and waits until no more than `most` are under way.
    async fn start(&mut self, most: usize, mut each: impl FnMut(Normalised)) -> Result<()> {
        let portion = std::mem::replace(&mut self.filling, Rows::new(self.contact.names.len()));
        let (contact, region) = (self.contact.clone(), self.region.clone());
        self.under_way.push_back(tokio::task::spawn_blocking(move || {
            (0..portion.len()).map(|number| contact.normalise(&portion.row(number), &region)).collect()
        }));
        while self.under_way.len() > most {
            let Some(first) = self.under_way.pop_front() else { break };
            first.await.map_err(|_| broken("normalising panicked"))??.into_iter().for_each(&mut each);
        }
        Ok(())
    }
}

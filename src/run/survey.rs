//! Feeds the census: the accounts that V2 has, then the keys and contact columns of all entities with accounts.
//!
//! The census always sees all rows, also of entities and rows that this invocation does not migrate: decisions must
//! not depend on `--entities` or `--filter`, so that a pilot run of one part and a full run later end like one run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::broken;
use crate::census::{Census, Contact, EmailClaim, Existing, Outcome, People, PhoneClaim, Rules, Survey};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::identity::{email, phone};
use crate::migrator::{EntityIds, Phones};
use crate::plan::{AccountSpec, Accounts, Entity, NameColumns, Plan};
use crate::row::{Row, Rows};
use crate::settings::{PasswordMode, Settings};
use crate::source::{Snapshot, compare_keys};
use crate::target::Control;

/// What the survey found.
#[derive(Default)]
pub(super) struct Surveyed {
    /// `None` when no entity has accounts.
    pub census: Option<Census>,
    /// Each entity's number of rows, where it was counted on the way.
    pub row_counts: Vec<Option<u64>>,
    /// With `passwords = keep`, by account: V1's password hash of a row that joins the account, for a founder who has
    /// none of their own.
    pub joining_passwords: HashMap<u32, String>,
    /// Everybody's phone.
    pub phones: Phones,
}

/// Takes the census.
pub(super) async fn take(
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    plan: &Plan,
    ids: &[EntityIds],
    settings: &Arc<Settings>,
    place: &str,
) -> Result<Surveyed> {
    let mut surveyed = Surveyed { row_counts: vec![None; plan.entities.len()], ..Surveyed::default() };
    let Some(accounts) = &plan.accounts else { return Ok(surveyed) };
    let keep = settings.passwords == PasswordMode::Keep;
    let rules = Rules::new(accounts)?;
    let region = rules.phone_region.clone();
    let existing = existing(control, accounts, settings.into_existing, place).await?;
    let people = plan.entities.iter().zip(ids);
    let people =
        people.map(|(entity, ids)| People { name: entity.name.clone(), ids: ids.maker.clone() }).collect();
    let mut survey = Survey::new(rules, people, existing);
    let with_account = |index: usize| {
        let spec = plan.entities.get(index)?.account.as_ref()?;
        Some(Arc::new(ContactColumns::new(&plan.entities[index], spec)))
    };
    let mut begun = None;
    for (index, entity) in plan.entities.iter().enumerate() {
        let Some(contact) = with_account(index) else { continue };
        let mut people = InOrder::new(contact.clone(), region.clone());
        let names = contact.names();
        let mut joined = HashMap::new();
        control
            .joined_accounts(&entity.name, &mut |key, account| {
                joined.extend(crate::ids::parse(account).map(|id| (key.to_owned(), id)));
            })
            .await?;
        let this = begun.take();
        if let Some((next, contact)) =
            (index + 1..plan.entities.len()).find_map(|next| Some((next, with_account(next)?)))
        {
            let source = &plan.entities[next].source;
            begun = snapshot.begin_ahead(settings, source, Some(&contact.names()), None).await;
        }
        snapshot
            .read_begun(this, &entity.source, Some(&names), None, async |line| {
                failpoint::reach("census.row")?;
                people
                    .take(line, |person| add(&mut survey, &mut surveyed.phones, index, &person, &joined))
                    .await?;
                Ok(true)
            })
            .await?;
        let rows =
            people.finish(|person| add(&mut survey, &mut surveyed.phones, index, &person, &joined)).await?;
        surveyed.row_counts[index] = Some(rows);
    }
    let mut close_look = survey.clashes();
    let mut stored = Vec::new();
    if !close_look.is_empty() {
        for (index, entity) in plan.entities.iter().enumerate() {
            let Some(spec) = &entity.account else { continue };
            if close_look.is_done_with(index) {
                continue;
            }
            let contact = ContactColumns::new(entity, spec);
            let wanted = close_look.wanted(index);
            let mut people = Vec::new();
            snapshot
                .scan(&entity.source, &contact.names(), async |line| {
                    let row = contact.parse(line)?;
                    let row = row.row(0);
                    let key = row.text(0).ok_or_else(|| null_key(&entity.name, &entity.source.key))?;
                    if wanted.has(&key) {
                        let text = |column| contact.text(&row, column).map(std::borrow::Cow::into_owned);
                        let password = text(contact.password).filter(|_| keep);
                        people.push((key.into_owned(), text(contact.email), contact.name(&row), password));
                    }
                    Ok(true)
                })
                .await?;
            people.sort_unstable_by(|(a, ..), (b, ..)| compare_keys(entity.source.key_kind, a, b));
            for (key, email, name, password) in people {
                close_look.push(index, &key, email.as_deref(), &name);
                stored.extend(password.map(|password| (index, key, password)));
            }
        }
    }
    failpoint::reach("census.read")?;
    let census = close_look.decide()?;
    for of in stored.chunk_by(|(a, ..), (b, ..)| a == b) {
        let mut cursor = census.cursor(of[0].0);
        for (_, key, password) in of {
            if let Some(Outcome::Account(account)) = cursor.next(key).map(|decision| decision.outcome)
                && account.is_merged()
            {
                surveyed.joining_passwords.entry(account.number).or_insert_with(|| password.clone());
            }
        }
    }
    surveyed.census = Some(census);
    Ok(surveyed)
}

fn null_key(entity: &str, key: &str) -> Error {
    Error::failed(format!("{entity}: a row of V1 has no key ({key} is null)"))
        .help("choose a key column that is unique and not null, or leave such rows out in the query")
}

/// Contact details of one row, normalised.
struct Normalised {
    key: String,
    email: email::Email,
    phone: phone::Phone,
    has_account: bool,
}

/// `joined`: accounts of rows that joined one before, by key.
fn add(
    survey: &mut Survey,
    phones: &mut Phones,
    entity: usize,
    person: &Normalised,
    joined: &HashMap<String, Uuid>,
) {
    phones.push(&person.phone);
    survey.push(
        entity,
        &Contact {
            key: &person.key,
            email: EmailClaim::from(&person.email),
            phone: PhoneClaim::from(&person.phone),
            has_account: person.has_account,
            account: joined.get(&person.key).copied(),
        },
    );
}

/// Rows that one task normalises. Enough that handing them over costs nothing.
const PORTION: usize = 1_000;

/// Portions under way: as many as there are cores to use, and one that is being filled.
const UNDER_WAY: usize = 4;

/// Normalises rows on all cores and hands them on in the order they came.
struct InOrder {
    contact: Arc<ContactColumns>,
    region: String,
    filling: Rows,
    under_way: VecDeque<JoinHandle<Result<Vec<Normalised>>>>,
    rows: u64,
}

impl InOrder {
    fn new(contact: Arc<ContactColumns>, region: String) -> Self {
        let filling = Rows::new(contact.names.len());
        Self { contact, region, filling, under_way: VecDeque::new(), rows: 0 }
    }

    async fn take(&mut self, line: &[u8], each: impl FnMut(Normalised)) -> Result<()> {
        if !self.filling.push(line) {
            return Err(broken("V1 sent a row with another number of columns"));
        }
        self.rows += 1;
        if self.filling.len() >= PORTION { self.start(UNDER_WAY, each).await } else { Ok(()) }
    }

    /// Hands on what is left; returns the number of rows.
    async fn finish(mut self, each: impl FnMut(Normalised)) -> Result<u64> {
        self.start(0, each).await?;
        Ok(self.rows)
    }

    /// Starts the portion that was filled, and waits until no more than `most` are under way.
    async fn start(&mut self, most: usize, mut each: impl FnMut(Normalised)) -> Result<()> {
        let portion = std::mem::replace(&mut self.filling, Rows::new(self.contact.names.len()));
        let (contact, region) = (self.contact.clone(), self.region.clone());
        self.under_way.push_back(tokio::task::spawn_blocking(move || contact.normalise(&portion, &region)));
        while self.under_way.len() > most {
            let Some(first) = self.under_way.pop_front() else { break };
            first.await.map_err(|_| broken("normalising panicked"))??.into_iter().for_each(&mut each);
        }
        Ok(())
    }
}

/// The few columns that the census reads, by their position in the narrowed query.
struct ContactColumns {
    entity: Arc<str>,
    names: Vec<String>,
    email: Option<usize>,
    phone: Option<usize>,
    when: Option<usize>,
    password: Option<usize>,
    name: Vec<usize>,
}

impl ContactColumns {
    fn new(entity: &Entity, spec: &AccountSpec) -> Self {
        let source = &entity.source;
        let mut names = vec![source.key.clone()];
        let mut add = |column: usize| {
            names.push(source.columns[column].name.clone());
            names.len() - 1
        };
        let email = spec.email.map(&mut add);
        let phone = spec.phone.map(&mut add);
        let when = spec.when.map(&mut add);
        let password = spec.password.map(&mut add);
        let name = match &spec.name {
            NameColumns::Full(column) => vec![add(*column)],
            NameColumns::Parts { first, middle, last } => {
                [Some(*first), *middle, Some(*last)].into_iter().flatten().map(&mut add).collect()
            }
        };
        Self { entity: entity.name.clone(), names, email, phone, when, password, name }
    }

    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn normalise(&self, rows: &Rows, region: &str) -> Result<Vec<Normalised>> {
        let of = |row: Row<'_>| {
            let key = row.text(0).ok_or_else(|| null_key(&self.entity, &self.names[0]))?.into_owned();
            let email =
                self.text(&row, self.email).map_or(email::Email::Missing, |text| email::normalise(&text));
            let phone = self.text(&row, self.phone);
            let phone = phone.map_or(phone::Phone::Missing, |text| phone::normalise(&text, region));
            Ok(Normalised { key, email, phone, has_account: self.has_account(&row) })
        };
        (0..rows.len()).map(|number| of(rows.row(number))).collect()
    }

    fn parse(&self, line: &[u8]) -> Result<Rows> {
        let mut rows = Rows::new(self.names.len());
        if rows.push(line) { Ok(rows) } else { Err(broken("V1 sent a row with another number of columns")) }
    }

    fn text<'r>(&self, row: &Row<'r>, column: Option<usize>) -> Option<std::borrow::Cow<'r, str>> {
        // What is no text identifies nobody: such a row will be rejected.
        column.filter(|&column| row.is_text(column)).and_then(|column| row.filled(column))
    }

    fn has_account(&self, row: &Row<'_>) -> bool {
        self.when.is_none_or(|column| row.filled(column).is_some())
    }

    fn name(&self, row: &Row<'_>) -> String {
        self.name.iter().filter_map(|&column| self.text(row, Some(column))).collect::<Vec<_>>().join(" ")
    }
}

/// The accounts that V2 has. Those that the ledger does not name are somebody else's.
async fn existing(
    control: &mut dyn Control,
    accounts: &Accounts,
    into_existing: bool,
    place: &str,
) -> Result<Existing> {
    let mut existing = Existing::new(&accounts.phone_region);
    let mut foreign = 0_u64;
    control
        .accounts(accounts, &mut |account| {
            foreign += u64::from(!account.ours);
            existing.push(account);
        })
        .await?;
    if foreign > 0 && !into_existing {
        return Err(Error::refused(format!(
            "{place}: {} has {foreign} accounts that no run of v1v2 made",
            accounts.table.name
        ))
        .help("`--into-existing` migrates beside them: their emails, phones and user names stay theirs"));
    }
    Ok(existing)
}

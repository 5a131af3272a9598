//! Feeds the census: the accounts that V2 has, then the keys and contact columns of all entities with accounts.
//!
//! The census always sees all rows, also of entities and rows that this invocation does not migrate: decisions must
//! not depend on `--entities` or `--filter`, so that a pilot run of one part and a full run later end like one run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::contact::{ContactColumns, InOrder, Normalised};
use super::identify::Ask;
use super::levels::Levels;
use super::since::{Met, Reading, Seen, Since};
use super::{Job, prepare};
use crate::census::{Census, CloseLook, Contact, Existing, Outcome, People, Rules, Survey};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::migrator::{EntityIds, Phones};
use crate::plan::Accounts;
use crate::settings::PasswordMode;
use crate::source::{Ahead, Snapshot, compare_keys};
use crate::target::Control;

/// What the survey found.
#[derive(Default)]
pub(super) struct Surveyed {
    /// `None` when no entity has accounts.
    pub census: Option<Census>,
    /// Each entity's number of rows, where it was counted on the way.
    pub row_counts: Vec<Option<u64>>,
    /// By entity: what was found in it, if all of it was read already.
    pub seen: Vec<Option<Seen>>,
    /// With `passwords = keep`, by account: V1's password hash of a row that joins the account, for a founder who has
    /// none of their own.
    pub joining_passwords: HashMap<u32, String>,
    /// Everybody's phone.
    pub phones: Phones,
}

/// What V2 knows already.
pub(super) struct InV2<'a> {
    /// How ids are made, by entity.
    pub ids: &'a [EntityIds],
    /// Number of lines in the ledger, by entity.
    pub ledger_lines: &'a [u64],
    /// Whether the definition is not what it was, by entity.
    pub edited: &'a [bool],
}

/// Takes the census. `begun` has begun to read already, so that V1 is at work while V2 tells what it has.
pub(super) async fn take(
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    mut begun: Ways<'_>,
) -> Result<Surveyed> {
    let job = begun.job;
    let entities = &job.plan.entities;
    let mut surveyed = Surveyed { row_counts: vec![None; entities.len()], ..Surveyed::default() };
    surveyed.seen.resize_with(entities.len(), || None);
    let Some(accounts) = &job.plan.accounts else { return Ok(surveyed) };
    let rules = Rules::new(accounts)?;
    let people = entities.iter().zip(begun.in_v2.ids);
    let people =
        people.map(|(entity, ids)| People { name: entity.name.clone(), ids: ids.maker.clone() }).collect();
    let existing = existing(control, accounts, job.settings.into_existing, job.target.place()).await?;
    let mut survey = Survey::new(rules, people, existing);
    while let Some((index, way)) = begun.take(snapshot).await? {
        let mut met = |met: Met| {
            surveyed.phones.push(met.person.phone);
            survey.push(index, &met.contact());
        };
        let ahead = match way {
            Way::Once(mut since) => {
                while let Some(portion) = since.next().await {
                    for person in portion {
                        failpoint::reach("census.row")?;
                        met(person);
                    }
                }
                surveyed.seen[index] = since.finish().await?;
                None
            }
            Way::Narrow(ahead) => ahead,
        };
        surveyed.row_counts[index] = Some(match &surveyed.seen[index] {
            Some(seen) => seen.found.rows,
            None => narrow(job, index, snapshot, control, ahead, met).await?,
        });
    }
    let mut close_look = survey.clashes();
    let mut passwords = Vec::new();
    for (index, entity) in entities.iter().enumerate() {
        if entity.account.is_some() && !close_look.is_done_with(index) {
            let seen = surveyed.seen[index].as_ref();
            passwords.extend(look_closely(job, index, snapshot, control, &mut close_look, seen).await?);
        }
    }
    failpoint::reach("census.read")?;
    let census = close_look.decide()?;
    for of in passwords.chunk_by(|a, b| a.entity == b.entity) {
        let mut cursor = census.cursor(of[0].entity);
        for Stored { key, password, .. } in of {
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

/// How an entity is read.
enum Way {
    /// All columns, beside the ledger, so that nothing need be read again.
    Once(Since),
    /// The few columns that the census needs, perhaps by a connection that has begun to.
    Narrow(Option<Ahead>),
}

/// Entities that are read at the same time, …
const AT_A_TIME: usize = 2;

/// … not counting those of which the ledger has so few lines: V1 is done with them at once, while V2 still tells what it has.
const FEW_LINES: std::ops::RangeInclusive<u64> = 1..=50_000;

/// Entities that are read at the same time, few lines or many: each takes a connection of V1.
const MOST_AT_A_TIME: usize = 4;

/// Begins to read entities before their turn comes.
pub(super) struct Ways<'j> {
    job: &'j Job<'j>,
    in_v2: InV2<'j>,
    /// The claims in the ledger were made by the rules of today.
    trust_claims: bool,
    /// The first entity that was not begun.
    next: usize,
    begun: VecDeque<(usize, Way)>,
}

impl<'j> Ways<'j> {
    /// Begins to read the first entities with accounts.
    pub async fn open(
        job: &'j Job<'j>,
        snapshot: &mut Snapshot,
        control: &mut dyn Control,
        in_v2: InV2<'j>,
    ) -> Result<Self> {
        let trust_claims = match &job.plan.accounts {
            Some(accounts) => prepare::has_claims_of_today(control, accounts).await?,
            None => false,
        };
        let mut this = Self { job, in_v2, trust_claims, next: 0, begun: VecDeque::new() };
        this.begin(snapshot).await?;
        Ok(this)
    }

    /// The next entity with accounts.
    async fn take(&mut self, snapshot: &mut Snapshot) -> Result<Option<(usize, Way)>> {
        self.begin(snapshot).await?;
        Ok(self.begun.pop_front())
    }

    async fn begin(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let plan = &self.job.plan;
        let Some(accounts) = &plan.accounts else { return Ok(()) };
        let is_large = |index: usize| !FEW_LINES.contains(&self.in_v2.ledger_lines[index]);
        while self.next < plan.entities.len()
            && self.begun.iter().filter(|(index, _)| is_large(*index)).count() < AT_A_TIME
            && self.begun.len() < MOST_AT_A_TIME
        {
            let index = self.next;
            self.next += 1;
            let entity = &plan.entities[index];
            let Some(spec) = &entity.account else { continue };
            let settings = &self.job.settings;
            if !self.can_be_read_once(index) {
                let contact = ContactColumns::alone(entity, spec);
                // The snapshot's own connection reads whatever comes first.
                let ahead = match self.begun.is_empty() {
                    true => None,
                    false => {
                        snapshot.begin_ahead(settings, &entity.source, Some(&contact.names()), None).await
                    }
                };
                self.begun.push_back((index, Way::Narrow(ahead)));
                continue;
            }
            let Some(ahead) = snapshot.begin_ahead(settings, &entity.source, None, None).await else {
                self.begun.push_back((index, Way::Narrow(None)));
                continue;
            };
            let options = &self.job.options;
            let reading = Reading {
                plan: plan.clone(),
                entity: index,
                contact: ContactColumns::among_all(entity, spec),
                region: accounts.phone_region.clone(),
                ask: Ask {
                    retry_rejected: options.retry_rejected,
                    compare: false,
                    edited: false,
                    later: false,
                },
                trust_claims: self.trust_claims,
                keep_gone: options.prune,
            };
            let since = reading.start(ahead, self.job.target.control().await?);
            self.begun.push_back((index, Way::Once(since)));
        }
        Ok(())
    }

    /// Whether one pass over the entity can tell everything: V2 has it already, and nothing stands in the way of looking
    /// at each of its rows once.
    fn can_be_read_once(&self, index: usize) -> bool {
        let entity = &self.job.plan.entities[index];
        self.job.selected.contains(&index)
            && !self.job.compares
            && self.job.filter(entity).is_none()
            && self.in_v2.ledger_lines[index] > 0
            && !self.in_v2.edited[index]
            && !Levels::are_needed(entity, index)
            && !entity.is_completed_later()
    }
}

impl Met {
    fn contact(&self) -> Contact<'_> {
        Contact {
            key: &self.person.key,
            claims: self.person.claims,
            has_account: self.person.has_account,
            account: self.joined,
            closed: self.closed,
        }
    }
}

/// Reads the few columns that the census needs of all rows; returns their number.
async fn narrow(
    job: &Job<'_>,
    index: usize,
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    ahead: Option<Ahead>,
    mut met: impl FnMut(Met),
) -> Result<u64> {
    let entity = &job.plan.entities[index];
    let (Some(spec), Some(accounts)) = (&entity.account, &job.plan.accounts) else { return Ok(0) };
    let contact = Arc::new(ContactColumns::alone(entity, spec));
    let mut joined: HashMap<String, Uuid> = HashMap::new();
    control
        .joined_accounts(&entity.name, &mut |key, account| {
            joined.extend(crate::ids::parse(account).map(|id| (key.to_owned(), id)));
        })
        .await?;
    let mut each = |person: Normalised| {
        let joined = joined.get(&person.key).copied();
        met(Met { person, joined, closed: false });
    };
    let mut people = InOrder::new(contact.clone(), accounts.phone_region.clone());
    snapshot
        .read_begun(ahead, &entity.source, Some(&contact.names()), None, async |line| {
            failpoint::reach("census.row")?;
            people.take(line, &mut each).await?;
            Ok(true)
        })
        .await?;
    people.finish(each).await
}

/// V1's password hash of a row that shares an email.
struct Stored {
    entity: usize,
    key: String,
    password: String,
}

/// For so many rows V1 is asked for by their keys; for more it is cheaper to read all.
const MOST_BY_KEY: usize = 10_000;

/// Reads email and name of an entity's rows in clashes.
async fn look_closely(
    job: &Job<'_>,
    index: usize,
    snapshot: &mut Snapshot,
    control: &mut dyn Control,
    close_look: &mut CloseLook,
    seen: Option<&Seen>,
) -> Result<Vec<Stored>> {
    let entity = &job.plan.entities[index];
    let Some(spec) = &entity.account else { return Ok(Vec::new()) };
    let keep = job.settings.passwords == PasswordMode::Keep;
    let contact = ContactColumns::alone(entity, spec);
    let wanted = close_look.wanted(index);
    let mut keys = None;
    if let Some(seen) = seen.filter(|_| wanted.len() <= MOST_BY_KEY) {
        // The census has but a hash of each key; whoever is not open is in the ledger.
        let mut of_wanted: Vec<String> = seen.open.iter().filter(|key| wanted.has(key)).cloned().collect();
        control
            .migrated_keys(&entity.name, &mut |key| {
                if wanted.has(key) {
                    of_wanted.push(key.to_owned());
                }
            })
            .await?;
        keys = Some(of_wanted);
    }
    let mut people = Vec::new();
    snapshot
        .scan(&entity.source, &contact.names(), keys.as_deref(), async |line| {
            let row = contact.parse(line)?;
            let row = row.row(0);
            let key = contact.key(&row)?;
            if wanted.has(&key) {
                let email = contact.email(&row).map(std::borrow::Cow::into_owned);
                let password = contact.password(&row).filter(|_| keep).map(std::borrow::Cow::into_owned);
                people.push((key.into_owned(), email, contact.name(&row), password));
            }
            Ok(true)
        })
        .await?;
    people.sort_unstable_by(|(a, ..), (b, ..)| compare_keys(entity.source.key_kind, a, b));
    let mut stored = Vec::new();
    for (key, email, name, password) in people {
        close_look.push(index, &key, email.as_deref(), &name);
        stored.extend(password.map(|password| Stored { entity: index, key, password }));
    }
    Ok(stored)
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

//! Everything a run looks up once, before the first row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{EntitySummary, Estimate, Summary, pace};
use crate::error::{Error, Result};
use crate::ids::{IdMaker, common_prefix};
use crate::migrator::{EntityIds, Lookups, MigratedKeys, References};
use crate::password::{self, HashPool};
use crate::plan::{Accounts, Entity, Fill, KeyKind, Plan, Scope};
use crate::settings::{PasswordMode, Settings, did_you_mean};
use crate::source::Snapshot;
use crate::target::{CLAIMS_FACT, Control, NewEntity, definition};

/// V2's facts about generated passwords.
const PASSWORD_KEY: &str = "password_key";
const PASSWORD_LENGTH: &str = "password_length";

/// The plan's entities that were asked for, in dependency order.
///
/// # Errors
/// Usage: there is no entity of that name. `flag` says where it was named.
pub fn select(plan: &Plan, wanted: Option<&[String]>, flag: &str) -> Result<Vec<usize>> {
    let Some(wanted) = wanted else { return Ok((0..plan.entities.len()).collect()) };
    let names: Vec<&str> = plan.entities.iter().map(|entity| &*entity.name).collect();
    for name in wanted {
        if !names.contains(&name.as_str()) {
            let close = did_you_mean(name, names.iter().copied());
            let hint = close.map(|close| format!("did you mean {close}? ")).unwrap_or_default();
            return Err(Error::usage(format!("{flag}: there is no entity {name:?}"))
                .help(format!("{hint}the definitions have {}", names.join(", "))));
        }
    }
    Ok((0..names.len()).filter(|&index| wanted.iter().any(|name| name == names[index])).collect())
}

/// What V2 knows about the plan's entities, in their order.
pub struct Entities {
    /// How their ids are made.
    pub ids: Vec<EntityIds>,
    /// Those that V2 does not know yet.
    pub new: Vec<NewEntity>,
    /// Whether its rows are in V2 by another definition than today's.
    pub edited: Vec<bool>,
}

/// How each entity's ids are made, and which of that V2 does not know yet. The prefix is decided when an entity is
/// first read and never changes after that.
pub async fn entities(control: &mut dyn Control, snapshot: &mut Snapshot, plan: &Plan) -> Result<Entities> {
    let mut ids = Vec::new();
    let mut new = Vec::new();
    let mut edited = vec![false; plan.entities.len()];
    for (index, entity) in plan.entities.iter().enumerate() {
        let key_prefix = match control.entity(&entity.name).await? {
            Some(known) => {
                let hash = known.definition_hash.unwrap_or_else(|| entity.definition_hash.clone());
                edited[index] = hash != entity.definition_hash;
                if hash == definition::SEVERAL {
                    tracing::warn!(
                        "a rollback has left rows of {} by more than one definition: all of them are treated as changed",
                        entity.name
                    );
                } else if edited[index] {
                    let before = control.fact(&definition::fact(&entity.name)).await?.unwrap_or_default();
                    tracing::warn!(
                        "the definition of {} was edited since its rows were migrated ({}): all of them are treated as changed",
                        entity.name,
                        what_changed(&before, &entity.parts())
                    );
                }
                known.key_prefix
            }
            None => {
                let range = match entity.source.key_kind {
                    KeyKind::Integer => None,
                    KeyKind::Text | KeyKind::Uuid => snapshot.key_range(&entity.source).await?,
                };
                let key_prefix =
                    range.map(|(first, last)| common_prefix(&first, &last).to_owned()).unwrap_or_default();
                new.push(NewEntity {
                    name: entity.name.to_string(),
                    key_prefix: key_prefix.clone(),
                    definition_hash: entity.definition_hash.clone(),
                });
                key_prefix
            }
        };
        let maker = IdMaker::new(&entity.name, entity.source.key_kind, &key_prefix);
        ids.push(EntityIds { maker, kind: entity.ids });
    }
    Ok(Entities { ids, new, edited })
}

/// Which parts of a definition are other ones than before, in words. `before` is the fact that V2 keeps.
fn what_changed(before: &str, now: &BTreeMap<String, String>) -> String {
    let Ok(before) = serde_json::from_str::<BTreeMap<String, String>>(before) else {
        return "in what, nobody has noted".to_owned();
    };
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changes = names.into_iter().filter_map(|name| match (before.get(name), now.get(name)) {
        (Some(before), Some(now)) if before == now => None,
        (Some(_), Some(_)) => Some(format!("changed: {name}")),
        (None, _) => Some(format!("new: {name}")),
        (_, None) => Some(format!("gone: {name}")),
    });
    let changes: Vec<String> = changes.collect();
    if changes.is_empty() { "in nothing that its rows show".to_owned() } else { changes.join(", ") }
}

/// Number of ledger lines of each entity of the plan.
pub async fn ledger_lines(control: &mut dyn Control, plan: &Plan) -> Result<Vec<u64>> {
    let counts = control.ledger_lines().await?;
    Ok(plan.entities.iter().map(|entity| counts.get(&*entity.name).copied().unwrap_or(0)).collect())
}

/// Entities that others depend on must be in V2 already or be part of this run.
pub async fn require_dependencies(
    snapshot: &mut Snapshot,
    plan: &Plan,
    selected: &[usize],
    ledger_lines: &[u64],
) -> Result<()> {
    for &index in selected {
        let entity = &plan.entities[index];
        let mut lacking = Vec::new();
        for (other, dependency) in plan.entities.iter().enumerate() {
            let needed = entity.after.contains(&dependency.name);
            if needed
                && !selected.contains(&other)
                && ledger_lines[other] == 0
                && snapshot.count(&dependency.source, None).await? > 0
            {
                lacking.push(&*dependency.name);
            }
        }
        if !lacking.is_empty() {
            let list = lacking.join(", ");
            return Err(Error::usage(format!(
                "{} depend on {list}, which V2 does not have yet",
                entity.name
            ))
            .help(format!(
                "migrate them first or together: --entities {},{}",
                lacking.join(","),
                entity.name
            )));
        }
    }
    Ok(())
}

/// By which rules claims are made: another version of this program may normalise otherwise.
fn claims_rules(accounts: &Accounts) -> String {
    format!("{} {}", env!("CARGO_PKG_VERSION"), accounts.phone_region)
}

/// Whether the claims in the ledger were made by the rules of today.
pub async fn has_claims_of_today(control: &mut dyn Control, accounts: &Accounts) -> Result<bool> {
    Ok(control.fact(CLAIMS_FACT).await?.is_some_and(|rules| rules == claims_rules(accounts)))
}

/// Forgets claims that were made by other rules.
pub async fn forget_old_claims(control: &mut dyn Control, plan: &Plan) -> Result<()> {
    match &plan.accounts {
        Some(accounts) if !has_claims_of_today(control, accounts).await? => {
            control.forget_claims(&claims_rules(accounts)).await
        }
        _ => Ok(()),
    }
}

/// Refuses a V2 whose tables have changed since the entities were first written.
pub async fn require_same_structure(
    control: &mut dyn Control,
    entities: &[&Entity],
    place: &str,
) -> Result<()> {
    let changes = control.structure_changes(entities).await?;
    let Some(first) = changes.first() else { return Ok(()) };
    let error = Error::refused(format!(
        "{place}: its tables have changed since rows were first migrated into them: {first}"
    ))
    .help(
        "undo the change, or say `--accept-changes` if it was meant: then this is how they are from now on",
    );
    Err(if changes.len() == 1 { error } else { error.details(changes[1..].join("\n")) })
}

/// V2's reference data.
pub async fn lookups(control: &mut dyn Control, plan: &Plan, place: &str) -> Result<Lookups> {
    let mut all = Vec::new();
    for lookup in &plan.lookups {
        let found = control.lookup(lookup).await?;
        if found.is_empty() {
            let name = &lookup.table.name;
            return Err(Error::refused(format!("{place}: the reference data in {name} is empty"))
                .help("run `v1v2 setup`, which fills it"));
        }
        all.push(found);
    }
    Ok(Lookups(all))
}

/// The rows that others may refer to and that V2 has already.
pub async fn references(control: &mut dyn Control, plan: &Plan) -> Result<References> {
    let mut needed = vec![false; plan.entities.len()];
    for entity in &plan.entities {
        for column in entity.writes.iter().flat_map(|write| &write.columns) {
            if let Fill::Reference { entity, .. } = &column.fill {
                needed[*entity] = true;
            }
        }
        if let Some(Scope::Reference { entity, .. }) =
            entity.account.as_ref().and_then(|spec| spec.scope.as_ref())
        {
            needed[*entity] = true;
        }
    }
    let mut references = Vec::new();
    for (entity, needed) in plan.entities.iter().zip(needed) {
        if !needed {
            references.push(None);
            continue;
        }
        let keys = MigratedKeys::default();
        control.migrated_keys(&entity.name, &mut |key| keys.extend(std::iter::once(key))).await?;
        references.push(Some(keys));
    }
    Ok(References(references))
}

/// Refuses a key or a length that is not the one of earlier runs: the hand-out list is made from one of each.
pub async fn require_same_passwords(settings: &Settings, control: &mut dyn Control) -> Result<()> {
    password::check_length(settings.password_length)?;
    let key = password::load_or_create(&settings.key_file)?;
    let Some((fingerprint, length)) = password_facts(control).await? else { return Ok(()) };
    if fingerprint != key.fingerprint() {
        return Err(Error::refused(format!(
            "the key file {} is not the one that the passwords in V2 were derived from (its fingerprint is {}, V2 \
             says {fingerprint})",
            settings.key_file.display(),
            key.fingerprint(),
        ))
        .help("use the same key file for all runs into one V2 (`key_file`, V1V2_KEY_FILE)"));
    }
    if length != settings.password_length {
        return Err(Error::refused(format!(
            "the passwords in V2 were made with a length of {length} characters"
        ))
        .help(format!("set password_length to {length}")));
    }
    Ok(())
}

/// Starts the workers that hash passwords.
pub async fn hash_pool(settings: &Settings, control: &mut dyn Control) -> Result<HashPool> {
    let length = password::check_length(settings.password_length)?;
    let key = password::load(&settings.key_file)?;
    control.remember(PASSWORD_KEY, &key.fingerprint()).await?;
    control.remember(PASSWORD_LENGTH, &settings.password_length.to_string()).await?;
    HashPool::new(settings.hash_threads, settings.hash_cost, key, length)
}

/// How long the run itself will take, from what the dry run took and the time of one hash on this machine.
pub fn estimate(settings: &Settings, summary: &Summary) -> Result<Estimate> {
    let mut hashing = Duration::ZERO;
    if settings.passwords == PasswordMode::Generate && summary.passwords > 0 {
        let threads = match settings.hash_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        };
        let one = password::measure(settings.hash_cost)?;
        hashing = one.mul_f64(summary.passwords as f64 / threads as f64);
    }
    let rows = |of: &EntitySummary| of.migrated + of.merged + of.skipped + of.rejected;
    let writing = pace::time_of(summary.entities.iter().map(rows).sum(), settings);
    // Hashing goes on while rows are written, so the longer of the two counts.
    Ok(Estimate { total: summary.duration.max(hashing).max(writing), hashing })
}

/// The time of the run as Postgres writes a timestamp, in UTC, to the millisecond.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// The fingerprint of the key and the length that V2's generated passwords were made with; `None` if there are none.
///
/// # Errors
/// V2 does not answer.
pub async fn password_facts(control: &mut dyn Control) -> Result<Option<(String, usize)>> {
    let fingerprint = control.fact(PASSWORD_KEY).await?;
    let length = control.fact(PASSWORD_LENGTH).await?.and_then(|length| length.parse().ok());
    Ok(fingerprint.zip(length))
}

//! What a MongoDB V2 knows: v1v2's own collections, reference data, accounts.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use mongodb::Database;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use xxhash_rust::xxh3::xxh3_64;

use super::session::{ENTITIES, LEDGER, META, REPLACED, Shared, at, count_at, id_text, raw, text_at};
use super::{accounts, bulk, conflicts, counts, definition, ledger, overview, structure};
use crate::census::ExistingAccount;
use crate::census::evenly::Evenly;
use crate::error::{Error, Result};
use crate::ledger::{Known, Outcome};
use crate::plan::{Accounts, Entity, KeyKind, Lookup, Plan};
use crate::target::definition::Applied;
use crate::target::{
    CLAIMS_FACT, Control, EachAccount, EachJoined, EachKey, FreshAccount, KnownEntity, LedgerLines, Login,
    NewEntity, Overview,
};
use crate::validate::{Check, EntityCounts};

/// A prepared V2.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) database: Database,
}

impl Session {
    /// Connects; refuses a V2 that `setup` has not prepared.
    pub async fn open(shared: &Arc<Shared>) -> Result<Self> {
        Ok(Self { database: shared.prepared().await?, shared: shared.clone() })
    }

    fn failed(&self, error: &mongodb::error::Error) -> Error {
        self.shared.failed(error)
    }

    fn collection(&self, name: &str) -> mongodb::Collection<Document> {
        self.database.collection(name)
    }
}

#[async_trait]
impl Control for Session {
    async fn entity(&mut self, name: &str) -> Result<Option<KnownEntity>> {
        let found = self.collection(ENTITIES).find_one(doc! { "_id": name }).await;
        Ok(found.map_err(|error| self.failed(&error))?.map(|known| KnownEntity {
            key_prefix: known.get_str("keyPrefix").unwrap_or_default().to_owned(),
            definition_hash: known.get_str("definitionHash").ok().map(str::to_owned),
        }))
    }

    async fn keep_entities(&mut self, new: &[NewEntity], run: i32) -> Result<()> {
        for of in new {
            let first = doc! {
                "keyPrefix": &of.key_prefix, "definitionHash": &of.definition_hash, "firstRun": run,
            };
            self.collection(ENTITIES)
                .update_one(doc! { "_id": &of.name }, doc! { "$setOnInsert": first })
                .upsert(true)
                .await
                .map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    async fn fact(&mut self, key: &str) -> Result<Option<String>> {
        let found = self.collection(META).find_one(doc! { "_id": key }).await;
        let found = found.map_err(|error| self.failed(&error))?;
        Ok(found.and_then(|fact| fact.get_str("value").ok().map(str::to_owned)))
    }

    async fn remember(&mut self, key: &str, value: &str) -> Result<()> {
        self.collection(META)
            .update_one(doc! { "_id": key }, doc! { "$setOnInsert": { "value": value } })
            .upsert(true)
            .await
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    async fn structure_changes(&mut self, entities: &[&Entity]) -> Result<Vec<String>> {
        structure::changes(&self.shared, &self.database, entities).await
    }

    async fn keep_structure(&mut self, entities: &[&Entity], anew: bool) -> Result<()> {
        structure::keep(&self.shared, &self.database, entities, anew).await
    }

    async fn ledger_lines(&mut self) -> Result<HashMap<String, u64>> {
        let group = doc! { "$group": { "_id": "$_id.e", "count": { "$sum": 1 } } };
        let cursor = raw(&self.database, LEDGER).aggregate([group]).await;
        let cursor = cursor.map_err(|error| self.failed(&error))?.with_type::<RawDocumentBuf>();
        let found: Vec<_> = cursor.try_collect().await.map_err(|error| self.failed(&error))?;
        Ok(found
            .iter()
            .filter_map(|of| Some((text_at(of, "_id")?.to_owned(), count_at(of, "count"))))
            .collect())
    }

    async fn ledger<'c>(&'c mut self, entity: &str, _kind: KeyKind) -> Result<LedgerLines<'c>> {
        let refused =
            conflicts::refused(&self.database, entity).await.map_err(|error| self.failed(&error))?;
        // Keys that are whole numbers are stored as such, so the order of `_id` is the order of keys.
        let cursor = raw(&self.database, LEDGER)
            .find(ledger::lines_of(entity))
            .sort(doc! { "_id": 1 })
            .projection(doc! { "outcome": 1, "sourceHash": 1, "claims": 1, "accountId": 1 })
            .batch_size(10_000)
            .await
            .map_err(|error| self.failed(&error))?;
        let shared = &*self.shared;
        Ok(cursor
            .map(move |line| {
                let line = line.map_err(|error| shared.failed(&error))?;
                let known = ledger::parse(&line).ok_or_else(|| {
                    Error::failed(format!(
                        "{}: {LEDGER} has a document that this version does not understand",
                        shared.place
                    ))
                    .help("use the version of v1v2 that wrote it (see toolVersion in v1v2_runs)")
                });
                known.map(|(key, known)| {
                    let refused = refused.contains(&key);
                    (key, Known { refused, ..known })
                })
            })
            .boxed())
    }

    async fn keep_definition(&mut self, run: i32, entity: &str, now: &Applied) -> Result<()> {
        let kept = definition::keep(&self.database, run, entity, now).await;
        kept.map_err(|error| self.failed(&error))
    }

    async fn forget_claims(&mut self, rules: &str) -> Result<()> {
        let ledger = self.collection(LEDGER);
        let forgotten =
            ledger.update_many(doc! { "claims": { "$exists": true } }, doc! { "$unset": { "claims": "" } });
        forgotten.await.map_err(|error| self.failed(&error))?;
        // Also of lines that a rollback would bring back.
        let kept = doc! { "collection": LEDGER, "document.claims": { "$exists": true } };
        self.collection(REPLACED)
            .update_many(kept, doc! { "$unset": { "document.claims": "" } })
            .await
            .map_err(|error| self.failed(&error))?;
        // Last: until then they are of the old rules, which the fact says.
        self.collection(META)
            .update_one(doc! { "_id": CLAIMS_FACT }, doc! { "$set": { "value": rules } })
            .upsert(true)
            .await
            .map(drop)
            .map_err(|error| self.failed(&error))
    }

    async fn joined_accounts(&mut self, entity: &str, each: &mut EachJoined<'_>) -> Result<()> {
        let mut lines = ledger::lines_of(entity);
        lines.insert("outcome", Outcome::Merged.letter());
        let mut cursor = raw(&self.database, LEDGER)
            .find(lines)
            .projection(doc! { "accountId": 1 })
            .batch_size(10_000)
            .await
            .map_err(|error| self.failed(&error))?;
        while cursor.advance().await.map_err(|error| self.failed(&error))? {
            let line = cursor.current();
            if let (Some(key), Some(account)) = (ledger::key_text(line), at(line, "accountId")) {
                each(&key, &id_text(account));
            }
        }
        Ok(())
    }

    async fn migrated_keys(&mut self, entity: &str, each: &mut EachKey<'_>) -> Result<()> {
        let mut lines = ledger::lines_of(entity);
        lines.insert("outcome", doc! { "$in": [Outcome::Migrated.letter(), Outcome::Merged.letter()] });
        let mut cursor = raw(&self.database, LEDGER)
            .find(lines)
            .projection(doc! { "_id": 1 })
            .batch_size(10_000)
            .await
            .map_err(|error| self.failed(&error))?;
        while cursor.advance().await.map_err(|error| self.failed(&error))? {
            if let Some(key) = ledger::key_text(cursor.current()) {
                each(&key);
            }
        }
        Ok(())
    }

    async fn lookup(&mut self, lookup: &Lookup) -> Result<HashMap<String, String>> {
        let mut cursor = raw(&self.database, &lookup.table.name)
            .find(doc! {})
            .projection(doc! { &lookup.by: 1, &lookup.id: 1 })
            .await
            .map_err(|error| self.failed(&error))?;
        let mut found = HashMap::new();
        while cursor.advance().await.map_err(|error| self.failed(&error))? {
            let document = cursor.current();
            if let (Some(key), Some(id)) = (at(document, &lookup.by), at(document, &lookup.id)) {
                found.insert(id_text(key), id_text(id));
            }
        }
        Ok(found)
    }

    async fn accounts(&mut self, accounts: &Accounts, each: &mut EachAccount<'_>) -> Result<()> {
        let name = &accounts.table.name;
        let failed = |error: mongodb::error::Error| self.failed(&error);
        if raw(&self.database, name).find_one(doc! {}).await.map_err(failed)?.is_none() {
            return Ok(());
        }
        // Eight bytes for each: a V2 may have as many accounts as V1 has rows.
        let mut ours: Vec<u64> = Vec::new();
        let mut lines = raw(&self.database, LEDGER)
            .find(doc! { "accountId": { "$exists": true } })
            .projection(doc! { "_id": 0, "accountId": 1 })
            .batch_size(10_000)
            .await
            .map_err(failed)?;
        while lines.advance().await.map_err(failed)? {
            if let Some(id) = at(lines.current(), "accountId") {
                ours.push(xxh3_64(id_text(id).as_bytes()));
            }
        }
        ours.sort_unstable();
        ours.dedup();
        let evenly = Evenly::over(ours.len(), |at| ours[at]);
        let fields = [&accounts.email_column, &accounts.phone_column, &accounts.username_column];
        let mut projection = doc! { &accounts.id_column: 1 };
        fields.into_iter().flatten().for_each(|field| drop(projection.insert(field, 1)));
        let mut cursor = raw(&self.database, name)
            .find(doc! {})
            .projection(projection)
            .batch_size(10_000)
            .await
            .map_err(failed)?;
        while cursor.advance().await.map_err(failed)? {
            let document = cursor.current();
            let [email, phone, username] =
                fields.map(|field| field.as_deref().and_then(|field| text_at(document, field)));
            let id = at(document, &accounts.id_column).map(id_text).unwrap_or_default();
            let ours = evenly.position(xxh3_64(id.as_bytes()), |at| ours[at]).is_some();
            each(&ExistingAccount { id: &id, email, phone, username, ours });
        }
        Ok(())
    }

    async fn missing(&mut self) -> Result<Vec<(String, String)>> {
        bulk::missing(&self.shared, &self.database).await
    }

    async fn overview(&mut self) -> Result<Overview> {
        overview::read(&self.database).await.map_err(|error| self.failed(&error))
    }

    async fn accounting(&mut self, entity: &str) -> Result<EntityCounts> {
        let found = overview::accounting(&self.database, ledger::lines_of(entity)).await;
        let found = found.map_err(|error| self.failed(&error))?.into_iter().next();
        Ok(found.unwrap_or_else(|| EntityCounts { entity: entity.to_owned(), ..EntityCounts::default() }))
    }

    async fn check_records(&mut self, entity: &Entity) -> Result<Vec<Check>> {
        counts::records(&self.database, entity).await.map_err(|error| self.failed(&error))
    }

    async fn check_tables(&mut self, plan: &Plan) -> Result<(Vec<(String, u64)>, Vec<Check>)> {
        counts::collections(&self.database, plan).await.map_err(|error| self.failed(&error))
    }

    async fn fresh_accounts(
        &mut self,
        plan: &Plan,
        each: &mut (dyn FnMut(FreshAccount) -> Result<()> + Send),
    ) -> Result<()> {
        accounts::fresh(&self.shared, &self.database, plan, each).await
    }

    async fn login(&mut self, plan: &Plan, email: &str) -> Result<Option<Login>> {
        accounts::login(&self.shared, &self.database, plan, email).await
    }
}

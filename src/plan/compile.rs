//! From definitions to a plan: asks both servers what the checks need to know, then leaves the judging to
//! [`super::check`], which is pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use mongodb::Database;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::check::{Inputs, check};
use super::describe::{Described, Fault, describe};
use super::v2::V2;
use super::{Lookup, Plan, TableName};
use crate::catalog::{Catalog, Collections, quote, quote_table};
use crate::definition::{Definitions, FillDefinition, KeyDefinition};
use crate::error::{Error, Result};

/// Codes that V2's reference data has, for each table that accounts look up.
pub type Codes = HashMap<Lookup, HashSet<String>>;

/// Checks all definitions against both live databases.
///
/// Nothing is executed on V1 but catalog queries and `PREPARE`; V2 is only read.
///
/// # Errors
/// [`crate::error::Kind::Usage`] with every problem, rendered, as its details; or that a server did not answer.
pub async fn compile(
    definitions: &Definitions,
    v1: &mut PgConnection,
    v2: &mut PgConnection,
) -> Result<Plan> {
    let v1_catalog = Catalog::read(v1, &[]).await?;
    let v2_catalog = Catalog::read(v2, &[]).await?;
    let sources = sources(definitions, v1, &v1_catalog).await?;
    let codes = codes(definitions, v2, &v2_catalog).await?;
    let v2 = V2::Postgres(&v2_catalog);
    judged(&Inputs { definitions, sources: &sources, v1_user: &v1_catalog.user, v2, codes: &codes })
}

/// As [`compile`], for a MongoDB V2: validators and indexes are its catalog.
///
/// # Errors
/// As for [`compile`].
pub async fn compile_mongodb(
    definitions: &Definitions,
    v1: &mut PgConnection,
    v2: &Database,
) -> Result<Plan> {
    let v1_catalog = Catalog::read(v1, &[]).await?;
    let sources = sources(definitions, v1, &v1_catalog).await?;
    let (mut written, mut looked_up) = (BTreeSet::new(), BTreeSet::new());
    let of_entities = definitions.entities.iter().flat_map(|entity| &entity.documents);
    for write in of_entities.chain(definitions.accounts.iter().flat_map(|accounts| &accounts.documents)) {
        written.insert(write.table.value.as_str());
        for fill in write.columns.iter().filter_map(|column| column.fill.as_ref()) {
            if let FillDefinition::Lookup { table, .. } = &fill.value {
                looked_up.insert(table.value.as_str());
            }
        }
    }
    let collections = Collections::read(v2, &written, &looked_up).await?;
    let codes = document_codes(definitions, v2, &collections).await?;
    let v2 = V2::MongoDb(&collections);
    judged(&Inputs { definitions, sources: &sources, v1_user: &v1_catalog.user, v2, codes: &codes })
}

/// What V1 says about each entity's query.
async fn sources(
    definitions: &Definitions,
    v1: &mut PgConnection,
    catalog: &Catalog,
) -> Result<Vec<Option<Result<Described, Fault>>>> {
    let mut sources = Vec::new();
    for entity in &definitions.entities {
        sources.push(match &entity.source {
            Some(source) => Some(describe(v1, catalog, &source.query.value).await?),
            None => None,
        });
    }
    Ok(sources)
}

fn judged(inputs: &Inputs<'_>) -> Result<Plan> {
    check(inputs).map_err(|problems| {
        let count = problems.len();
        let what = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        Error::usage(format!("{what} in the definitions; nothing was changed"))
            .details(inputs.definitions.render(&problems))
    })
}

/// Reads the reference data that account types and roles are looked up in: a role that V2 lacks would
/// reject every single row.
async fn codes(definitions: &Definitions, v2: &mut PgConnection, catalog: &Catalog) -> Result<Codes> {
    let mut codes = Codes::new();
    let writes = definitions.accounts.iter().flat_map(|accounts| &accounts.writes);
    for fill in writes.flat_map(|write| &write.columns).filter_map(|column| column.fill.as_ref()) {
        let FillDefinition::Lookup { table, by, key, .. } = &fill.value else { continue };
        let Some((name, found)) = catalog.resolve(&table.value) else { continue };
        let readable = found.privileges.select && !catalog.closed_schemas.contains(&name.schema);
        let (Some([id]), Some(_)) = (found.primary_key.as_deref(), found.column(&by.value)) else { continue };
        if !matches!(key.value, KeyDefinition::Account(_)) || !readable {
            continue;
        }
        let lookup = Lookup { table: name.clone(), by: by.value.clone(), id: id.clone() };
        let sql = format!(
            "select {by}::text from {table} where {by} is not null",
            by = quote(&by.value),
            table = quote_table(name)
        );
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut *v2)
            .await
            .map_err(|error| Error::database("reading V2's reference data", &error))?;
        codes.insert(lookup, rows.into_iter().collect());
    }
    Ok(codes)
}

/// The same of a MongoDB V2.
async fn document_codes(
    definitions: &Definitions,
    v2: &Database,
    collections: &Collections,
) -> Result<Codes> {
    let mut codes = Codes::new();
    let writes = definitions.accounts.iter().flat_map(|accounts| &accounts.documents);
    for fill in writes.flat_map(|write| &write.columns).filter_map(|column| column.fill.as_ref()) {
        let FillDefinition::Lookup { table, by, key, .. } = &fill.value else { continue };
        let name = table.value.as_str();
        let there = collections.collections.contains_key(name) && collections.allows(name, "find");
        if !matches!(key.value, KeyDefinition::Account(_)) || !there {
            continue;
        }
        let found = Collections::texts(v2, name, &by.value).await?;
        let table = TableName { schema: String::new(), name: name.to_owned() };
        codes.insert(Lookup { table, by: by.value.clone(), id: "_id".to_owned() }, found);
    }
    Ok(codes)
}

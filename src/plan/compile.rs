//! From definitions to a plan: asks both servers what the checks need to know, then leaves the judging to
//! [`super::check`], which is pure.

use std::collections::{HashMap, HashSet};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::check::{Inputs, check};
use super::describe::describe;
use super::{Lookup, Plan};
use crate::catalog::{Catalog, quote, quote_table};
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
    let mut sources = Vec::new();
    for entity in &definitions.entities {
        sources.push(match &entity.source {
            Some(source) => Some(describe(v1, &v1_catalog, &source.query.value).await?),
            None => None,
        });
    }
    let codes = codes(definitions, v2, &v2_catalog).await?;
    let inputs =
        Inputs { definitions, sources: &sources, v1_user: &v1_catalog.user, v2: &v2_catalog, codes: &codes };
    check(&inputs).map_err(|problems| {
        let count = problems.len();
        let what = if count == 1 { "1 problem".to_owned() } else { format!("{count} problems") };
        Error::usage(format!("{what} in the definitions; nothing was changed"))
            .details(definitions.render(&problems))
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

//! Whether a bulk load may take indexes and foreign keys away: an owner's right, which no privilege gives. See
//! `target/postgres/bulk.rs` for what is taken away, and when.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::catalog::{quote, quote_table};
use crate::error::{Error, Result};
use crate::plan::TableName;
use crate::preflight::{Finding, Level};

/// `tables`: those that a run writes; its own are added. Nothing if there is something in them, as there is no bulk load then.
pub(super) async fn look(
    v2: &mut PgConnection,
    label: &str,
    tables: &[TableName],
) -> Result<Option<Finding>> {
    let failed = |error: sqlx::Error| Error::database(label, &error);
    let own =
        ["ledger", "conflicts"].map(|name| TableName { schema: "v1v2".to_owned(), name: name.to_owned() });
    let any: Vec<String> = tables
        .iter()
        .chain(&own[..1])
        .map(|name| format!("exists (select from {})", quote_table(name)))
        .collect();
    let any: bool = sqlx::query_scalar(AssertSqlSafe(format!("select {}", any.join(" or "))))
        .fetch_one(&mut *v2)
        .await
        .map_err(failed)?;
    if any {
        return Ok(None);
    }
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().chain(&own).map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let others: Vec<(String, String, String, bool, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text, o.rolname::text, o.rolsuper, current_user::text \
         from unnest($1::text[], $2::text[]) wanted (schema, name) \
         join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name \
         join pg_roles o on o.oid = c.relowner \
         where not pg_has_role(c.relowner, 'USAGE') and not pg_has_role(n.nspowner, 'USAGE') \
           and (exists (select from pg_constraint f where f.conrelid = c.oid and f.contype = 'f') \
             or exists (select from pg_index i where i.indrelid = c.oid and not i.indisunique)) \
         order by 1, 2",
    )
    .bind(&schemas)
    .bind(&names)
    .fetch_all(v2)
    .await
    .map_err(failed)?;
    let Some((.., user)) = others.first() else { return Ok(None) };
    let list: Vec<String> = others.iter().map(|(schema, name, ..)| format!("{schema}.{name}")).collect();
    // Membership in a superuser's role would be more than anybody should give.
    let owners: BTreeSet<String> =
        others.iter().filter(|(.., is_super, _)| !is_super).map(|(_, _, owner, ..)| quote(owner)).collect();
    let grant = match owners.is_empty() {
        true => String::new(),
        false => {
            let owners: Vec<String> = owners.into_iter().collect();
            format!("; or GRANT {} TO {};", owners.join(", "), quote(user))
        }
    };
    let what = format!("{label}: the user {user} does not own {}, as a bulk load must", list.join(", "));
    let fix =
        format!("`--no-bulk` (the setting `bulk`) loads with all indexes and foreign keys in place{grant}");
    Ok(Some(Finding::new(Level::Blocking, what).fix(fix)))
}

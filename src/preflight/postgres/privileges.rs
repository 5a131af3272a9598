//! Whether V2's user may do what `evolve` is about to do: keep its records, and what the scripts demand for certain.
//! (What `migrate` needs is a matter of its definitions: see `plan/privileges.rs`.)

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::scripts::{Demand, Name, Right, demands};
use crate::catalog::{quote, quote_table};
use crate::error::{Error, Result};
use crate::evolve::Pending;
use crate::plan::TableName;
use crate::preflight::{Finding, Level};

/// The schema of v1v2's own tables.
const OWN: &str = "v1v2";

/// What `evolve` does with its own table.
const EVOLUTIONS: (&str, [&str; 3]) = ("evolutions", ["SELECT", "INSERT", "UPDATE"]);

/// Where `setup` was, `evolve` takes the lock of a run: see `target/postgres/lock.rs`.
const RUN: [(&str, [&str; 3]); 3] = [
    ("lock", ["SELECT", "INSERT", "UPDATE"]),
    ("meta", ["SELECT", "", ""]),
    ("runs", ["SELECT", "INSERT", "UPDATE"]),
];

/// Who asks, and where.
struct Asker<'a> {
    v2: &'a mut PgConnection,
    label: &'a str,
    user: String,
    database: String,
}

/// What is lacking, or that nothing is.
pub(super) async fn look(v2: &mut PgConnection, label: &str, pending: &[Pending]) -> Result<Vec<Finding>> {
    let row = sqlx::query("select current_user::text, current_database()::text")
        .fetch_one(&mut *v2)
        .await
        .map_err(|error| Error::database(label, &error))?;
    let mut asker = Asker { v2, label, user: row.get(0), database: row.get(1) };
    let mut findings = Vec::from_iter(asker.own_tables().await?);
    // What is lacking twice is told once, with the evolution that is the first to need it.
    let mut told: BTreeMap<String, Finding> = BTreeMap::new();
    for demand in demands(pending) {
        if let Some(finding) = asker.judge(&demand).await? {
            told.entry(finding.fix.clone().unwrap_or_default()).or_insert(finding);
        }
    }
    findings.extend(told.into_values());
    if findings.is_empty() {
        let what = format!(
            "{label}: the user {} has the privileges that evolve needs, as far as can be told",
            asker.user
        );
        findings.push(Finding::new(Level::Good, what));
    }
    Ok(findings)
}

impl Asker<'_> {
    fn failed(&self, error: &sqlx::Error) -> Error {
        Error::database(self.label, error)
    }

    fn lacks(&self, what: &str, fix: String) -> Finding {
        let Self { label, user, .. } = self;
        Finding::new(Level::Blocking, format!("{label}: the user {user} {what}")).fix(fix)
    }

    /// v1v2's own tables: to be made, or to be read and written.
    async fn own_tables(&mut self) -> Result<Option<Finding>> {
        let row = sqlx::query(
            "select n.oid is not null, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), \
                    coalesce(has_schema_privilege(n.oid, 'CREATE'), false), has_database_privilege(current_database(), 'CREATE') \
             from (select) one left join pg_namespace n on n.nspname = $1",
        )
        .bind(OWN)
        .fetch_one(&mut *self.v2)
        .await
        .map_err(|error| self.failed(&error))?;
        let (there, usage, create, create_schema): (bool, bool, bool, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let user = quote(&self.user);
        if !there {
            let fix = format!("GRANT CREATE ON DATABASE {} TO {user};", quote(&self.database));
            let what = "may not create the schema v1v2, in which evolve keeps its records";
            return Ok((!create_schema).then(|| self.lacks(what, fix)));
        }
        let mut grants = Vec::new();
        if !usage {
            grants.push(format!("GRANT USAGE ON SCHEMA v1v2 TO {user};"));
        }
        let prepared = self.table_lacks("ledger", &[]).await?.is_some();
        let needed = [EVOLUTIONS].into_iter().chain(RUN.into_iter().filter(|_| prepared));
        for (table, privileges) in needed {
            let lacking = self.table_lacks(table, &privileges).await?;
            match lacking {
                Some(lacking) if lacking.is_empty() => {}
                Some(lacking) => {
                    grants.push(format!("GRANT {} ON v1v2.{table} TO {user};", lacking.join(", ")));
                }
                None if table == EVOLUTIONS.0 && !create => {
                    grants.push(format!("GRANT CREATE ON SCHEMA v1v2 TO {user};"));
                }
                None => {}
            }
        }
        let fix = format!("run as their owner: {}", grants.join(" "));
        let what = "lacks privileges on v1v2's own tables, in which evolve keeps its records";
        Ok((!grants.is_empty()).then(|| self.lacks(what, fix)))
    }

    /// Those of the privileges that the user does not have on one of v1v2's tables; `None` if there is no such table.
    async fn table_lacks<'p>(&mut self, table: &str, privileges: &[&'p str]) -> Result<Option<Vec<&'p str>>> {
        let privileges: Vec<&str> = privileges.iter().copied().filter(|name| !name.is_empty()).collect();
        let held: Option<Vec<bool>> = sqlx::query_scalar(
            "select array(select has_table_privilege(c.oid, p) from unnest($3::text[]) with ordinality u (p, n) order by n) \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2",
        )
        .bind(OWN)
        .bind(table)
        .bind(&privileges)
        .fetch_optional(&mut *self.v2)
        .await
        .map_err(|error| self.failed(&error))?;
        let lacking = |held: Vec<bool>| {
            privileges.into_iter().zip(held).filter(|(_, held)| !held).map(|(name, _)| name).collect()
        };
        Ok(held.map(lacking))
    }

    /// What stands in the way of a demand. What is not there is no obstacle: an earlier script may bring it, or the server
    /// says so.
    async fn judge(&mut self, demand: &Demand) -> Result<Option<Finding>> {
        match demand {
            Demand::Relation { evolution, name, right } => self.relation(evolution, name, *right).await,
            Demand::CreateIn { evolution, schema } => self.create_in(evolution, schema.as_deref()).await,
            Demand::CreateSchema { evolution } => {
                let may: bool =
                    sqlx::query_scalar("select has_database_privilege(current_database(), 'CREATE')")
                        .fetch_one(&mut *self.v2)
                        .await
                        .map_err(|error| self.failed(&error))?;
                let fix =
                    format!("GRANT CREATE ON DATABASE {} TO {};", quote(&self.database), quote(&self.user));
                Ok((!may).then(|| self.lacks(&format!("may not create schemas, and {evolution} does"), fix)))
            }
            Demand::DropSchema { evolution, name } => {
                let sql = "select nspname::text, pg_get_userbyid(nspowner)::text, pg_has_role(nspowner, 'USAGE') from pg_namespace \
                           where nspname = $1 and $2::text is null";
                let name = Name { schema: None, name: name.clone() };
                self.dropped(evolution, (&name, "SCHEMA"), sql).await
            }
            Demand::DropType { evolution, name } => {
                // The search path decides like the server does.
                let sql = "select n.nspname::text, pg_get_userbyid(t.typowner)::text, \
                                  pg_has_role(t.typowner, 'USAGE') or pg_has_role(n.nspowner, 'USAGE') \
                           from pg_type t join pg_namespace n on n.oid = t.typnamespace \
                           where t.typname = $1 \
                             and case when $2::text is null then n.nspname = any (current_schemas(true)) else n.nspname = $2 end \
                           order by array_position(current_schemas(true), n.nspname) limit 1";
                self.dropped(evolution, (name, "TYPE"), sql).await
            }
        }
    }

    /// What is dropped and no relation. `sql` asks by name and schema for the schema, the owner, and whether that will do.
    async fn dropped(
        &mut self,
        evolution: &str,
        (name, kind): (&Name, &str),
        sql: &'static str,
    ) -> Result<Option<Finding>> {
        let found: Option<(String, String, bool)> = sqlx::query_as(sql)
            .bind(&name.name)
            .bind(&name.schema)
            .fetch_optional(&mut *self.v2)
            .await
            .map_err(|error| self.failed(&error))?;
        let Some((schema, owner, false)) = found else { return Ok(None) };
        let (shown, sql) = match kind {
            "SCHEMA" => (name.name.clone(), quote(&name.name)),
            _ => (format!("{schema}.{}", name.name), format!("{}.{}", quote(&schema), quote(&name.name))),
        };
        let what = format!(
            "does not own the {} {shown}, which {evolution} drops: it belongs to {owner}",
            kind.to_lowercase()
        );
        let fix = format!("run evolve as {owner}, or: ALTER {kind} {sql} OWNER TO {};", quote(&self.user));
        Ok(Some(self.lacks(&what, fix)))
    }

    async fn create_in(&mut self, evolution: &str, schema: Option<&str>) -> Result<Option<Finding>> {
        let found: Option<(String, bool)> = sqlx::query_as(
            "select nspname::text, has_schema_privilege(oid, 'CREATE') from pg_namespace \
             where nspname = coalesce($1, current_schema())",
        )
        .bind(schema)
        .fetch_optional(&mut *self.v2)
        .await
        .map_err(|error| self.failed(&error))?;
        let Some((schema, false)) = found else { return Ok(None) };
        let what = format!("may not create in the schema {schema}, and {evolution} does");
        let fix = format!("GRANT USAGE, CREATE ON SCHEMA {} TO {};", quote(&schema), quote(&self.user));
        Ok(Some(self.lacks(&what, fix)))
    }

    async fn relation(&mut self, evolution: &str, name: &Name, right: Right) -> Result<Option<Finding>> {
        // The search path decides like the server does: schemas in its order, without those that one may not use.
        let row = sqlx::query(
            "select n.nspname::text, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), \
                    pg_has_role(n.nspowner, 'USAGE'), has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'), \
                    has_any_column_privilege(c.oid, 'INSERT'), has_any_column_privilege(c.oid, 'UPDATE'), \
                    has_table_privilege(c.oid, 'DELETE'), has_table_privilege(c.oid, 'TRUNCATE'), \
                    coalesce((select rolsuper from pg_roles r where r.oid = c.relowner), true) \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relname = $2 and case when $1::text is null then n.nspname = any (current_schemas(true)) else n.nspname = $1 end \
             order by array_position(current_schemas(true), n.nspname) limit 1",
        )
        .bind(&name.schema)
        .bind(&name.name)
        .fetch_optional(&mut *self.v2)
        .await
        .map_err(|error| self.failed(&error))?;
        let Some(row) = row else { return Ok(None) };
        let (schema, owner): (String, String) = (row.get(0), row.get(1));
        let holds = |index: usize| row.get::<bool, _>(index);
        let (owns, owns_schema) = (holds(2), holds(3));
        let table = TableName { schema: schema.clone(), name: name.name.clone() };
        let shown = format!("{schema}.{}", name.name);
        let (user, sql) = (quote(&self.user), quote_table(&table));
        if !holds(4) {
            let what = format!("may not use the schema {schema}, in which {evolution} changes {}", name.name);
            return Ok(Some(
                self.lacks(&what, format!("GRANT USAGE ON SCHEMA {} TO {user};", quote(&schema))),
            ));
        }
        let privilege = |name: &str, verb: &str| {
            let what = format!("may not {verb} {shown}, and {evolution} does");
            Some((what, format!("GRANT {name} ON {sql} TO {user};")))
        };
        // Membership in a superuser's role would be more than anybody should give.
        let owner_role = match holds(10) {
            true => format!("ALTER TABLE {sql} OWNER TO {user};"),
            false => format!("GRANT {} TO {user};", quote(&owner)),
        };
        let owned = |verb: &str| {
            let what = format!("does not own {shown}, which {evolution} {verb}: it belongs to {owner}");
            Some((what, format!("run evolve as {owner}, or: {owner_role}")))
        };
        let lacking = match right {
            Right::Alter if !owns => owned("alters"),
            Right::Index if !owns => owned("gives an index"),
            Right::Index if !holds(5) => {
                let what =
                    format!("may not create in the schema {schema}, and {evolution} makes an index there");
                Some((what, format!("GRANT USAGE, CREATE ON SCHEMA {} TO {user};", quote(&schema))))
            }
            Right::Drop if !owns && !owns_schema => owned("drops"),
            Right::Insert if !holds(6) => privilege("SELECT, INSERT", "insert into"),
            Right::Update if !holds(7) => privilege("SELECT, UPDATE", "update"),
            Right::Delete if !holds(8) => privilege("SELECT, DELETE", "delete from"),
            Right::Truncate if !holds(9) => privilege("TRUNCATE", "truncate"),
            _ => None,
        };
        Ok(lacking.map(|(what, fix)| self.lacks(&what, fix)))
    }
}

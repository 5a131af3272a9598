//! What a dry run's copies refer to, and what refers to them: a temporary table cannot have a foreign key to another kind of
//! table, nor from one.
//!
//! Between two copies the foreign keys are there as V2 has them, with all that they do. To and from V2's other tables, which a
//! migration never writes, triggers look whether the row is there. What the application's own rows would lose by a cascade
//! is not tried, nor what cannot be read.

use sqlx::{AssertSqlSafe, PgConnection};

use super::copies::Copies;
use super::table;
use crate::plan::{Fill, Plan, TableName};
use crate::source::quoted;

/// One of V2's foreign keys.
struct ForeignKey {
    name: String,
    table: TableName,
    columns: Vec<String>,
    to: TableName,
    to_columns: Vec<String>,
    /// What its definition says behind the columns.
    rest: Option<String>,
    /// Whether a row that is referred to cannot go.
    restricts: bool,
    readable: bool,
}

/// A row of [`FOREIGN_KEYS`].
type Found = (String, String, String, Vec<String>, String, String, Vec<String>, Option<String>, bool, bool);

impl From<Found> for ForeignKey {
    fn from(of: Found) -> Self {
        let (name, schema, table, columns, to_schema, to_table, to_columns, rest, restricts, readable) = of;
        let (table, to) =
            (TableName { schema, name: table }, TableName { schema: to_schema, name: to_table });
        Self { name, table, columns, to, to_columns, rest, restricts, readable }
    }
}

/// Partitions have those of the whole, once more.
const FOREIGN_KEYS: &str = "
select c.conname::text as name, n.nspname::text as schema, r.relname::text as table, k.names as columns,
  tn.nspname::text as to_schema, t.relname::text as to_table, tk.names as to_columns,
  case when starts_with(def, head) then regexp_replace(substr(def, length(head) + 1), ' NOT VALID$', '') end as rest,
  c.confdeltype in ('a', 'r') as restricts,
  has_table_privilege(r.oid, 'select') and has_schema_privilege(n.oid, 'usage')
    and has_table_privilege(t.oid, 'select') and has_schema_privilege(tn.oid, 'usage') as readable
from pg_constraint c
  join pg_class r on r.oid = c.conrelid join pg_namespace n on n.oid = r.relnamespace
  join pg_class t on t.oid = c.confrelid join pg_namespace tn on tn.oid = t.relnamespace,
  lateral (select array_agg(a.attname::text order by no) as names, string_agg(quote_ident(a.attname), ', ' order by no) as list
    from unnest(c.conkey) with ordinality as u(attnum, no) join pg_attribute a on a.attrelid = c.conrelid and a.attnum = u.attnum) as k,
  lateral (select array_agg(a.attname::text order by no) as names, string_agg(quote_ident(a.attname), ', ' order by no) as list
    from unnest(c.confkey) with ordinality as u(attnum, no) join pg_attribute a on a.attrelid = c.confrelid and a.attnum = u.attnum) as tk,
  lateral (select pg_get_constraintdef(c.oid) as def,
    format('FOREIGN KEY (%s) REFERENCES %s(%s)', k.list, c.confrelid::regclass, tk.list) as head) as d
where c.contype = 'f' and c.conparentid = 0 and not r.relispartition
  and (c.conrelid = any ($1::text[]::regclass[]) or c.confrelid = any ($1::text[]::regclass[]))
order by 1";

/// Makes them. `with_rows`: V2's rows are in the copies. Where there are none yet, nothing goes, and whether our rows refer to
/// each other's is known to the engine.
pub async fn make(
    connection: &mut PgConnection,
    plan: &Plan,
    copies: &Copies,
    with_rows: bool,
) -> sqlx::Result<()> {
    let tables: Vec<String> = copies.iter().map(|(of, _)| table(of)).collect();
    let found: Vec<Found> = sqlx::query_as(FOREIGN_KEYS).bind(&tables).fetch_all(&mut *connection).await?;
    let speaks = "select exists (select from pg_language where lanname = 'plpgsql' and has_language_privilege(oid, 'usage'))";
    let speaks: bool = sqlx::query_scalar(speaks).fetch_one(&mut *connection).await?;
    for (number, of) in found.into_iter().map(ForeignKey::from).enumerate() {
        let sql = match (copies.get(&of.table), copies.get(&of.to)) {
            (Some(from), Some(to)) if with_rows => of.between(from, to),
            (Some(copy), None) if speaks && of.readable && !of.is_looked_up(plan) => {
                Some(of.leads_somewhere(number, copy))
            }
            (None, Some(copy)) if speaks && of.readable && of.restricts && with_rows => {
                Some(of.holds(number, copy))
            }
            _ => None,
        };
        let Some(sql) = sql else {
            tracing::debug!(name = of.name, "a foreign key of {} is not tried", of.table.name);
            continue;
        };
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    Ok(())
}

impl ForeignKey {
    /// Whether the ids come from V2 itself.
    fn is_looked_up(&self, plan: &Plan) -> bool {
        let writes = plan.entities.iter().flat_map(|entity| &entity.writes);
        let of_table = writes.filter(|write| write.table == self.table);
        let mut filled =
            of_table.flat_map(|write| &write.columns).filter(|of| self.columns.contains(&of.name));
        filled.all(|column| matches!(column.fill, Fill::Lookup { .. }))
    }

    /// The same between copies. What is there already was looked at by V2.
    fn between(&self, from: &TableName, to: &TableName) -> Option<String> {
        let rest = self.rest.as_ref().filter(|rest| !rest.contains("NOT ENFORCED"))?;
        Some(format!(
            "alter table {} add constraint {} foreign key ({}) references {} ({}){rest} not valid",
            table(from),
            quoted(&self.name),
            list(&self.columns),
            table(to),
            list(&self.to_columns),
        ))
    }

    /// A trigger on the copy that looks into the table which its rows refer to.
    fn leads_somewhere(&self, number: usize, copy: &TableName) -> String {
        let all = |of: &str| {
            let names: Vec<_> = self.columns.iter().map(|name| format!("{of}.{}", quoted(name))).collect();
            names.join(", ")
        };
        let body = format!(
            "if tg_op = 'UPDATE' then if row({old}) is not distinct from row({new}) then return null; end if; end if; \
             if row({new}) is not null and not exists (select from {to} as other where {same}) then {raise} end if;",
            old = all("old"),
            new = all("new"),
            to = table(&self.to),
            same = self.same("other", &self.to_columns, "new", &self.columns),
            raise = self.raise(),
        );
        trigger(number, "insert or update", copy, &body)
    }

    /// A trigger on the copy that looks into the table whose rows refer to those of the copy.
    fn holds(&self, number: usize, copy: &TableName) -> String {
        let body = format!(
            "if exists (select from {from} as other where {same}) then {raise} end if;",
            from = table(&self.table),
            same = self.same("other", &self.columns, "old", &self.to_columns),
            raise = self.raise(),
        );
        trigger(number, "delete", copy, &body)
    }

    fn same(&self, one: &str, columns: &[String], other: &str, others: &[String]) -> String {
        let pairs = columns.iter().zip(others);
        let same = pairs.map(|(a, b)| format!("{one}.{} = {other}.{}", quoted(a), quoted(b)));
        same.collect::<Vec<_>>().join(" and ")
    }

    /// As the server complains.
    fn raise(&self) -> String {
        let literal = crate::ledger::literal;
        format!(
            "raise foreign_key_violation using message = 'a foreign key is violated', table = {}, constraint = {};",
            literal(&self.table.name),
            literal(&self.name)
        )
    }
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn trigger(number: usize, when: &str, copy: &TableName, body: &str) -> String {
    let body = crate::ledger::literal(&format!("begin {body} return null; end"));
    format!(
        "create function pg_temp.\"v1v2 {number}\"() returns trigger language plpgsql as {body}; \
         create trigger \"v1v2 {number}\" after {when} on {} for each row execute function pg_temp.\"v1v2 {number}\"()",
        table(copy)
    )
}

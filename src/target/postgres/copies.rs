//! Temporary copies of V2's tables: the same columns, constraints and indexes under the same names, and the rows that V2 has.
//!
//! What a copy takes its numbers from is a copy as well: a sequence does not forget what a dry run has taken from it.

use std::collections::{BTreeMap, HashSet};

use sqlx::{AssertSqlSafe, PgConnection};

use super::stage::WRITTEN_BY;
use super::table;
use crate::plan::{Plan, TableName};
use crate::source::quoted;

/// The copies, by table of V2.
#[derive(Debug, Default)]
pub struct Copies(BTreeMap<String, (TableName, TableName)>);

impl Copies {
    /// Of all tables that the plan writes; nothing is made yet.
    pub fn of(plan: &Plan) -> Self {
        let tables = || plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table);
        let mut copies = BTreeMap::new();
        for of in tables() {
            let is_alone = tables().all(|other| other.name != of.name || other.schema == of.schema);
            copies.insert(table(of), (of.clone(), temporary(of, is_alone)));
        }
        Self(copies)
    }

    /// V2's tables with their copies.
    pub fn iter(&self) -> impl Iterator<Item = (&TableName, &TableName)> {
        self.0.values().map(|(of, copy)| (of, copy))
    }

    /// The copy of a table.
    pub fn get(&self, of: &TableName) -> Option<&TableName> {
        self.0.get(&table(of)).map(|(_, copy)| copy)
    }
}

/// The copy's name: that of the table, so that what the server says of it names what people know. Two schemas may have tables of
/// the same name.
fn temporary(table: &TableName, is_alone: bool) -> TableName {
    let mut name = if is_alone { table.name.clone() } else { format!("{}.{}", table.schema, table.name) };
    // Postgres cuts names at 63 bytes; a hash keeps long ones apart.
    if name.len() > 63 {
        name = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(name.as_bytes()));
    }
    TableName { schema: "pg_temp".into(), name }
}

/// Makes a copy, with the table's rows if it is to have any.
pub async fn make(
    connection: &mut PgConnection,
    (of, copy): (&TableName, &TableName),
    with_rows: bool,
) -> sqlx::Result<()> {
    let (from, to) = (table(of), table(copy));
    execute(
        connection,
        &format!(
            "create temporary table {} (like {from} including all excluding comments excluding statistics); \
             alter table {to} add column {WRITTEN_BY} bigint",
            quoted(&copy.name)
        ),
    )
    .await?;
    own_numbers(connection, &from, &to).await?;
    // What V2's rows need not fulfil, because they were there before, those of the copy need not either.
    let loose = "select conname::text, pg_get_constraintdef(oid) from pg_constraint \
                 where conrelid = $1::text::regclass and contype = 'c' and not convalidated";
    let loose: Vec<(String, String)> = sqlx::query_as(loose).bind(&from).fetch_all(&mut *connection).await?;
    for (name, _) in &loose {
        execute(connection, &format!("alter table {to} drop constraint {}", quoted(name))).await?;
    }
    name_indexes(connection, &from, &to).await?;
    if with_rows {
        let columns = "select coalesce(string_agg(quote_ident(attname), ', ' order by attnum) || ', ', '') from pg_attribute \
             where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''";
        let columns: String = sqlx::query_scalar(columns).bind(&from).fetch_one(&mut *connection).await?;
        let sql = format!(
            "insert into {to} ({columns}{WRITTEN_BY}) overriding system value \
             select {columns}xmin::text::bigint from {from}; analyze {to}"
        );
        execute(connection, &sql).await?;
    }
    for (name, check) in &loose {
        execute(connection, &format!("alter table {to} add constraint {} {check}", quoted(name))).await?;
    }
    Ok(())
}

async fn execute(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Lets defaults take their numbers from sequences of the copy's own, which go on where V2's stand.
async fn own_numbers(connection: &mut PgConnection, from: &str, to: &str) -> sqlx::Result<()> {
    let next = "coalesce(pg_sequence_last_value(s.oid) + 1, p.seqstart)";
    // An identity brings a sequence of its own, which begins at the beginning.
    let identities = format!(
        "select format('alter table {{}} alter column %I restart with %s', a.attname, {next}) \
         from pg_attribute a join pg_depend d on d.refobjid = a.attrelid and d.refobjsubid = a.attnum \
             and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype = 'i' \
           join pg_class s on s.oid = d.objid and s.relkind = 'S' join pg_sequence p on p.seqrelid = s.oid \
         where a.attrelid = $1::text::regclass and a.attidentity <> ''"
    );
    // Any other default names its sequence.
    let defaults = format!(
        "select format('create temporary sequence %1$I start with %2$s increment by %3$s minvalue %4$s maxvalue %5$s; \
                        alter table {{}} alter column %6$I set default ', name, {next}, p.seqincrement, p.seqmin, p.seqmax, attname) || \
                replace(pg_get_expr(adbin, adrelid), quote_literal(s.oid::regclass::text), quote_literal(format('pg_temp.%I', name))) \
         from (select distinct d.adrelid, d.adbin, a.attname, u.refobjid, format('v1v2 %s.%s', $2::text, a.attnum) as name \
               from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum \
                 join pg_depend u on u.classid = 'pg_attrdef'::regclass and u.objid = d.oid and u.refclassid = 'pg_class'::regclass \
               where d.adrelid = $1::text::regclass) as uses \
           join pg_class s on s.oid = refobjid and s.relkind = 'S' join pg_sequence p on p.seqrelid = s.oid"
    );
    let identities: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(identities)).bind(from).fetch_all(&mut *connection).await?;
    let number = xxhash_rust::xxh3::xxh3_64(from.as_bytes()).to_string();
    let defaults: Vec<String> = sqlx::query_scalar(AssertSqlSafe(defaults))
        .bind(from)
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
    for sql in identities.iter().chain(&defaults) {
        execute(connection, &sql.replacen("{}", to, 1)).await?;
    }
    Ok(())
}

/// Gives the copy's indexes, and with them its constraints, the names that V2's have: reasons of rejects tell them.
async fn name_indexes(connection: &mut PgConnection, from: &str, to: &str) -> sqlx::Result<()> {
    // What stands behind USING names neither index nor table.
    let sql = "with indexes as ( \
                 select x.indrelid, c.relname::text as name, c.oid, row_number() over \
                   (partition by x.indrelid, x.indisprimary, x.indisunique, form order by c.oid) as no, \
                   x.indisprimary, x.indisunique, form \
                 from pg_index x join pg_class c on c.oid = x.indexrelid, \
                   lateral (select regexp_replace(pg_get_indexdef(c.oid), '^.*? USING ', '') as form) as f \
                 where x.indrelid in ($1::text::regclass, $2::text::regclass)) \
               select copy.name, own.name from indexes own join indexes copy using (indisprimary, indisunique, form, no) \
               where own.indrelid = $1::text::regclass and copy.indrelid = $2::text::regclass order by 1";
    let names: Vec<(String, String)> =
        sqlx::query_as(sql).bind(from).bind(to).fetch_all(&mut *connection).await?;
    let rename =
        |from: &str, to: &str| format!("alter index pg_temp.{} rename to {}; ", quoted(from), quoted(to));
    // By way of names that nobody has, since they may have changed places.
    let number = xxhash_rust::xxh3::xxh3_64(from.as_bytes());
    let aside = |at: usize| format!("v1v2 {number}.i{at}");
    let away: String = names.iter().enumerate().map(|(at, (name, _))| rename(name, &aside(at))).collect();
    execute(connection, &away).await?;
    let taken = "select relname::text from pg_class where relnamespace = pg_my_temp_schema()";
    let taken: HashSet<String> =
        sqlx::query_scalar(taken).fetch_all(&mut *connection).await?.into_iter().collect();
    for (at, (_, own)) in names.iter().enumerate().filter(|(_, (_, own))| !taken.contains(own)) {
        execute(connection, &rename(&aside(at), own)).await?;
    }
    Ok(())
}

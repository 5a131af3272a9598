//! Where changes and removals happen: in V2's own tables, or, for a dry run, in copies of them. Both are judged by the same
//! statements, so that a dry run cannot decide otherwise than the run.

use sqlx::PgConnection;

use super::replace::UNTOUCHED;

/// The column of a copy that tells which transaction wrote V2's own row; null if the dry run itself wrote it.
pub const WRITTEN_BY: &str = "\"v1v2 xmin\"";

/// V2's tables, or copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// V2's own tables: what is replaced is kept, and the ledger is written.
    Real,
    /// Temporary copies. Nothing is kept, and what the ledger would say stands in tables that are temporary, too.
    Copies,
}

impl Stage {
    /// Whether what is replaced is kept, and the ledger and the conflict log are written.
    pub fn is_real(self) -> bool {
        self == Self::Real
    }

    /// The ledger's lines to read.
    pub fn ledger(self) -> &'static str {
        match self {
            Self::Real => "v1v2.ledger",
            Self::Copies => "pg_temp.v1v2_ledger",
        }
    }

    /// The same, of some keys: a parameter. The server finds them in a view only if it is told inside.
    pub fn ledger_of(self, parameter: &str) -> String {
        match self {
            Self::Real => self.ledger().to_owned(),
            Self::Copies => {
                format!("(select * from {} where key = any ({parameter})) as ledger", self.ledger())
            }
        }
    }

    /// A record that nobody has touched since v1v2 wrote it: as [`UNTOUCHED`].
    pub fn untouched(self) -> String {
        match self {
            Self::Real => UNTOUCHED.to_owned(),
            Self::Copies => format!("(record.{WRITTEN_BY} is null or record.{WRITTEN_BY} = any (t.xids))"),
        }
    }

    /// What an update sets beside its values.
    pub fn marks(self) -> String {
        match self {
            Self::Real => String::new(),
            Self::Copies => format!(", {WRITTEN_BY} = null"),
        }
    }
}

/// Makes what the ledger of a dry run consists of: V2's own lines, but for those that would go, and those that would come.
pub async fn pretend_ledger(connection: &mut PgConnection) -> sqlx::Result<()> {
    let columns = "entity, key, outcome, txid, earlier, account_id, target_id";
    let sql = format!(
        "create temporary table v1v2_made as select {columns} from v1v2.ledger with no data; \
         create index on pg_temp.v1v2_made (entity, key); \
         create temporary table v1v2_gone as select entity, key from v1v2.ledger with no data; \
         create index on pg_temp.v1v2_gone (entity, key); \
         create temporary view v1v2_ledger as select {columns} from v1v2.ledger l \
           where not exists (select from pg_temp.v1v2_gone g where g.entity = l.entity and g.key = l.key) \
         union all select {columns} from pg_temp.v1v2_made"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Lines that the run would write.
pub async fn pretend_lines(connection: &mut PgConnection, batch: &crate::target::Batch) -> sqlx::Result<()> {
    let all = || batch.lines.iter().map(|line| line.key.as_str()).collect::<Vec<_>>();
    if batch.again {
        let gone = sqlx::query("insert into pg_temp.v1v2_gone select $1, unnest($2::text[])");
        gone.bind(&*batch.name).bind(all()).execute(&mut *connection).await?;
    }
    let outcomes: Vec<&str> = batch.lines.iter().map(|line| line.outcome.letter()).collect();
    let ids = |id: fn(&crate::ledger::Line) -> &Option<String>| {
        batch.lines.iter().map(|line| id(line).as_deref()).collect::<Vec<_>>()
    };
    let made = sqlx::query(
        "insert into pg_temp.v1v2_made (entity, key, outcome, txid, account_id, target_id) \
         select $1, key, outcome::\"char\", 0, account, target \
         from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as sent(key, outcome, account, target)",
    );
    let made = made.bind(&*batch.name).bind(all()).bind(outcomes);
    let made = made.bind(ids(|line| &line.account_id)).bind(ids(|line| &line.target_id));
    made.execute(connection).await.map(drop)
}

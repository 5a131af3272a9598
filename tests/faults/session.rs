//! A database session that a test holds open, to keep locks that stand in the program's way.

use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// An open session; what it holds is given back when this value is dropped.
pub struct Session(Arc<Mutex<Option<Inner>>>);

struct Inner {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
}

impl Session {
    pub fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(PgConnection::connect(url)).unwrap();
        Self(Arc::new(Mutex::new(Some(Inner { runtime, connection }))))
    }

    /// Runs one or several statements, and waits for them.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        run(&self.0, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
    }

    /// The one value of a query that returns a boolean.
    pub fn is_true(&self, sql: &str) -> bool {
        let mut inner = self.0.lock().unwrap();
        let Inner { runtime, connection } = inner.as_mut().unwrap();
        runtime.block_on(sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection)).unwrap()
    }

    /// Runs statements on a thread of their own: they are going to wait for somebody's lock.
    pub fn run_meanwhile(&self, sql: &str) -> std::thread::JoinHandle<Result<(), sqlx::Error>> {
        let (inner, sql) = (self.0.clone(), sql.to_owned());
        std::thread::spawn(move || run(&inner, &sql))
    }

    /// Ends the session.
    pub fn end(self) {
        let Inner { runtime, connection } = self.0.lock().unwrap().take().unwrap();
        runtime.block_on(connection.close()).unwrap();
    }
}

fn run(inner: &Mutex<Option<Inner>>, sql: &str) -> Result<(), sqlx::Error> {
    let mut inner = inner.lock().unwrap();
    let Inner { runtime, connection } = inner.as_mut().unwrap();
    runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection)).map(drop)
}

//! A limit to waiting on a connection that is open. A link can fall silent without a word: a firewall that forgot it, a
//! machine that lost its power. The driver would wait until the operating system gives up, which can take hours.

use std::future::Future;
use std::io::{Error as IoError, ErrorKind};
use std::time::Duration;

/// The answer, or the error of a lost connection when there is none in time. The connection cannot be used after that.
pub async fn answered<T>(
    patience: Duration,
    asked: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
        let what = format!("the server did not answer within {} s", patience.as_secs_f32());
        Err(sqlx::Error::Io(IoError::new(ErrorKind::TimedOut, what)))
    })
}

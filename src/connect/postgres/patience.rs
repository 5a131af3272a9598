//! A limit to waiting on a connection that is open. A link can fall silent without a word: a firewall that forgot it, a
//! machine that lost its power. The driver would wait until the operating system gives up, which can take hours.

use std::future::{Future, poll_fn};
use std::io::{Error as IoError, ErrorKind};
use std::task::Poll;
use std::time::Duration;

/// The answer, or the error of a lost connection when there is none in time. The connection cannot be used after that.
pub async fn answered<T>(
    patience: Duration,
    asked: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let mut asked = std::pin::pin!(asked);
    // Nearly all rows of a COPY are there already, and looking at the clock for each would cost more than taking it.
    if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await {
        return answer;
    }
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
        let what = format!("the server did not answer within {} s", patience.as_secs_f32());
        Err(sqlx::Error::Io(IoError::new(ErrorKind::TimedOut, what)))
    })
}

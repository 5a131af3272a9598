//! One transaction of whoever holds the lock, outside of the writers: a step of a rollback, or of a removal; or of whoever
//! only reads. It is taken as often as it needs, so each step must find out by itself that it has been taken already.

use async_trait::async_trait;
use mongodb::ClientSession;

use super::lock::{lost, name_session};
use super::session::Shared;
use super::transaction::{Failure, Transaction};
use super::writer::{ATTEMPTS, backoff};
use crate::connect::MongoDb;
use crate::error::{Error, Result};

/// The fence that steps go through: that of the first writer, who is not at work when steps are taken.
const FENCE: usize = 0;

/// What one transaction does.
#[async_trait]
pub trait Step: Sync {
    /// What it found.
    type Done: Send;

    /// Does it; begin and commit are not its own.
    async fn take(&self, transaction: &mut Transaction<'_>) -> Result<Self::Done, Failure>;
}

/// Takes steps over one session.
pub struct Steps<'s> {
    shared: &'s Shared,
    connection: &'s MongoDb,
    session: ClientSession,
    run: i32,
    again: &'static str,
    /// Whether nothing is written.
    reads: bool,
}

impl<'s> Steps<'s> {
    /// Of the run that holds the lock. `again` is the advice after a failure.
    pub async fn of(
        shared: &'s Shared,
        connection: &'s MongoDb,
        run: i32,
        again: &'static str,
    ) -> Result<Self> {
        let session = connection.client.start_session().await;
        let session = session.map_err(|error| shared.failed(&error))?;
        if !name_session(shared, &connection.database, (run, FENCE), &session).await? {
            return Err(lost(&shared.place));
        }
        Ok(Self { shared, connection, session, run, again, reads: false })
    }

    /// Of a command that writes nothing and holds no lock.
    pub async fn reading(shared: &'s Shared, connection: &'s MongoDb) -> Result<Self> {
        let session = connection.client.start_session().await;
        let session = session.map_err(|error| shared.failed(&error))?;
        let again = "run the same command again later";
        Ok(Self { shared, connection, session, run: 0, again, reads: true })
    }

    /// One transaction, as often as it takes. A commit that nobody answered is committed again; where that stays
    /// unanswered too, the step is taken again and finds out.
    pub async fn take<S: Step>(&mut self, step: &S) -> Result<S::Done> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match self.once(step).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            // The server gives it up by itself; this only tells it sooner.
            drop(self.session.abort_transaction().await);
            match failure {
                Failure::Transient(error) | Failure::Conflict(error) | Failure::Unknown(error) => {
                    if attempt >= ATTEMPTS {
                        return Err(error.help(self.again));
                    }
                    tracing::warn!(attempt, "the chunk is tried again: {}", error.message());
                    tokio::time::sleep(backoff(attempt)).await;
                }
                Failure::Fatal(error) => return Err(error),
                Failure::TooLarge(error) => return Err(error.help(self.again)),
                Failure::Row(_, reject) => {
                    let why = format!("{}: {}", self.shared.place, reject.reason);
                    return Err(
                        Error::failed(why).help("repair that document, then run the same command again")
                    );
                }
            }
        }
    }

    async fn once<S: Step>(&mut self, step: &S) -> Result<S::Done, Failure> {
        let mut transaction = Transaction {
            database: &self.connection.database,
            session: &mut self.session,
            place: &self.shared.place,
            run: self.run,
            real: !self.reads,
        };
        transaction.begin().await?;
        if self.reads {
            let done = step.take(&mut transaction).await?;
            // Whether or not the server hears of it: there is nothing to commit.
            drop(transaction.session.abort_transaction().await);
            return Ok(done);
        }
        transaction.pass_fence(FENCE).await?;
        let done = step.take(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done)
    }
}

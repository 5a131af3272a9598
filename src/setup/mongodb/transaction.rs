//! One transaction, as often as it takes: what the server calls transient is tried again from the beginning, a commit
//! whose answer is unknown is only committed again.

use std::time::Duration;

use mongodb::ClientSession;
use mongodb::error::{Error as DriverError, UNKNOWN_TRANSACTION_COMMIT_RESULT};

use super::failed;
use crate::connect::{MongoDb, transaction_options};
use crate::error::{Class, classify_mongodb};
use crate::{Error, Result};

/// Attempts in all. Setup's transaction has competition only if two setups meet, and takes a fraction of a second.
const ATTEMPTS: u32 = 8;

/// The first pause between attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What stops the work of a transaction.
pub(super) enum Fault {
    /// Decided here: final.
    Ours(Error),
    /// The driver's: may pass. With the place that a message names.
    Driver(String, DriverError),
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        Self::Driver("V2".to_owned(), error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Does the work in a transaction and commits it.
pub(super) async fn run<T>(
    v2: &MongoDb,
    work: impl AsyncFn(&mut ClientSession) -> Result<T, Fault>,
) -> Result<T> {
    let mut session = v2.client.start_session().await.map_err(failed)?;
    let mut pause = FIRST_PAUSE;
    let mut attempt = 0;
    loop {
        attempt += 1;
        session.start_transaction().with_options(transaction_options()).await.map_err(failed)?;
        let fault = match work(&mut session).await {
            Ok(value) => match commit(&mut session).await {
                Ok(()) => return Ok(value),
                Err(error) => Fault::from(error),
            },
            Err(fault) => {
                // The server gives up an abandoned transaction by itself; this only tells it sooner.
                drop(session.abort_transaction().await);
                fault
            }
        };
        match fault {
            Fault::Driver(_, error) if classify_mongodb(&error) == Class::Transient && attempt < ATTEMPTS => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Fault::Driver(place, error) => return Err(Error::mongodb(&place, &error)),
            Fault::Ours(error) => return Err(error),
        }
    }
}

async fn commit(session: &mut ClientSession) -> Result<(), DriverError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match session.commit_transaction().await {
            Err(error) if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    session.commit_transaction().await
}

//! How fast a run may write: somebody else uses V2 and its replicas, too.
//!
//! Two brakes, both between chunks and never inside of a transaction. A rate: each chunk takes up as much time as its rows
//! are worth, all writers take turns, and time in which nothing was written is not made up for. And the lag of V2's
//! replicas, which `lag.rs` watches.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::lag::{self, Brake};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::Target;

/// Chunks in a second at a limited rate, at least: so that its load is spread out, and no second has more than its share.
const CHUNKS_PER_SECOND: u64 = 4;

/// The pace of one run, shared by its writers.
pub struct Pace {
    /// Rows in a second.
    rate: Option<u64>,
    /// When the next chunk may begin.
    next: Mutex<Instant>,
    brake: Option<watch::Receiver<Brake>>,
    watcher: Option<JoinHandle<()>>,
}

impl Pace {
    /// The pace that the settings ask for, and a watch over V2's replicas if they say so. A dry run writes nothing that
    /// could be too fast, but tells what the run itself would be refused for.
    ///
    /// # Errors
    /// Refused if V2 does not let us see its replicas.
    pub async fn open(settings: &Settings, target: &dyn Target, dry_run: bool) -> Result<Self> {
        let rate = settings.max_rows_per_second.filter(|_| !dry_run);
        let mut this = Self { rate, next: Mutex::new(Instant::now()), brake: None, watcher: None };
        if let Some(limit) = settings.max_lag {
            let mut replicas = target.replicas().await?;
            lag::first_look(&mut *replicas, target.place()).await?;
            if !dry_run {
                // Held until the first look at where everybody is.
                let (sender, brake) = watch::channel(Brake::Held);
                this.watcher = Some(tokio::spawn(lag::watch(replicas, limit, sender)));
                this.brake = Some(brake);
            }
        }
        Ok(this)
    }

    /// Rows that a chunk may have, if it could have `most`.
    pub fn rows_in_chunk(&self, most: usize) -> usize {
        let share = self.rate.map(|rate| usize::try_from((rate / CHUNKS_PER_SECOND).max(1)));
        share.and_then(std::result::Result::ok).map_or(most, |share| share.min(most))
    }

    /// Returns when a chunk of so many rows may be written.
    ///
    /// # Errors
    /// Nobody can tell any more how far V2's replicas are behind.
    pub async fn wait(&self, rows: u64) -> Result<()> {
        if let Some(brake) = &self.brake {
            let mut brake = brake.clone();
            let now = brake.wait_for(|brake| *brake != Brake::Held).await.map(|brake| brake.clone());
            match now {
                Ok(Brake::Free) => {}
                Ok(Brake::Lost(why)) => return Err(lost(&why)),
                Ok(Brake::Held) | Err(_) => return Err(lost("the watch over them ended")),
            }
        }
        // After the pause, not before: turns taken during it would all come due at once.
        if let Some(rate) = self.rate {
            let begin = self.turn(rows, rate, Instant::now());
            tokio::time::sleep_until(begin.into()).await;
        }
        Ok(())
    }

    /// Takes the next turn for so many rows; when it begins.
    fn turn(&self, rows: u64, rate: u64, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.max(*next);
        *next = begin + Duration::from_secs_f64(rows as f64 / rate as f64);
        begin
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

fn lost(why: &str) -> Error {
    Error::failed(format!("V2 does not tell any more how far its replicas are behind: {why}")).help(
        "what was committed stays; the same command goes on after it, without --max-lag if the replicas do not matter",
    )
}

/// How long so many rows take at the settings' rate.
pub fn time_of(rows: u64, settings: &Settings) -> Duration {
    let seconds = settings.max_rows_per_second.map_or(0.0, |rate| rows as f64 / rate as f64);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: Option<u64>) -> Pace {
        Pace { rate, next: Mutex::new(Instant::now()), brake: None, watcher: None }
    }

    fn braked(brake: watch::Receiver<Brake>) -> Pace {
        Pace { rate: None, next: Mutex::new(Instant::now()), brake: Some(brake), watcher: None }
    }

    #[test]
    fn chunks_are_small_enough_to_be_spread_out() {
        assert_eq!(pace(None).rows_in_chunk(5_000), 5_000);
        assert_eq!(pace(Some(1_000)).rows_in_chunk(5_000), 250);
        assert_eq!(pace(Some(100_000)).rows_in_chunk(5_000), 5_000);
        assert_eq!(pace(Some(1)).rows_in_chunk(5_000), 1);
    }

    #[test]
    fn turns_follow_each_other_and_nothing_is_made_up_for() {
        let pace = pace(Some(100));
        let start = *pace.next.lock().unwrap();
        let after = |begin: Instant| begin.duration_since(start).as_millis();
        assert_eq!(after(pace.turn(50, 100, start)), 0);
        assert_eq!(after(pace.turn(20, 100, start)), 500);
        assert_eq!(after(pace.turn(20, 100, start)), 700);
        let later = start + Duration::from_secs(60);
        assert_eq!(after(pace.turn(100, 100, later)), 60_000);
        assert_eq!(after(pace.turn(1, 100, later)), 61_000);
    }

    #[tokio::test]
    async fn a_brake_that_is_let_go_lets_writers_go_on() {
        let (sender, brake) = watch::channel(Brake::Held);
        let pace = std::sync::Arc::new(braked(brake));
        let waiting = tokio::spawn({
            let pace = pace.clone();
            async move { pace.wait(1).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(Brake::Free);
        assert!(waiting.await.unwrap());
        sender.send_replace(Brake::Lost("gone".to_owned()));
        assert!(pace.wait(1).await.unwrap_err().message().contains("gone"));
    }
}

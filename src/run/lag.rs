//! Watches V2's replicas beside a run, and holds the writers back while one of them is too far behind.
//!
//! How far behind, in time: the moment at which the primary was last where the replica is now. That needs no clock but ours,
//! grows while a replica is stuck, and is nothing while nothing is written.
//!
//! A replica that leaves during the run is waited for as long as V2 itself keeps a place for it (a replication slot, a
//! member of the set); one that was away when the run began is not. Not knowing counts like a replica that is behind: the
//! writers wait, and after [`GIVE_UP`] the run ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::Result;
use crate::target::{Look, Replicas};

/// How long an answer about replicas may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long V2 may not tell about its replicas before the run ends: as long as a server takes to restart, or a set to elect
/// a primary.
const GIVE_UP: Duration = Duration::from_secs(60);

/// More moments than a day has seconds are not remembered singly.
const MOMENTS: usize = 100_000;

/// What the writers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brake {
    /// Go on.
    Free,
    /// Wait.
    Held,
    /// It will not be free any more: why.
    Lost(String),
}

/// When the primary was where, and where replicas were last seen.
#[derive(Debug, Default)]
struct History {
    moments: VecDeque<(Instant, u64)>,
    /// By name: position, and how far behind it is meant to be.
    seen: BTreeMap<String, (u64, Duration)>,
}

impl History {
    /// Takes a look in; how far behind each replica is that counts. The names are of replicas that do not count any more.
    fn add(&mut self, look: &Look) -> (Vec<(String, Duration)>, Vec<String>) {
        // After an election the new primary may be a little before the old one.
        while self.moments.back().is_some_and(|(_, position)| *position > look.primary) {
            self.moments.pop_back();
        }
        match self.moments.back_mut() {
            Some((at, position)) if *position == look.primary => *at = look.at,
            _ => self.moments.push_back((look.at, look.primary)),
        }
        let mut left = Vec::new();
        self.seen.retain(|name, _| {
            let stays = look.kept.contains(name) || look.replicas.iter().any(|replica| replica.name == *name);
            if !stays {
                left.push(name.clone());
            }
            stays
        });
        let mut told: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut positions: BTreeMap<&str, u64> = BTreeMap::new();
        for replica in &look.replicas {
            // Two without slots on one machine have one name: the one that is further behind counts.
            let position = positions.entry(&replica.name).or_insert(replica.position);
            *position = replica.position.min(*position);
            let longest = told.entry(&replica.name).or_default();
            *longest = replica.told.max(*longest);
            self.seen.insert(replica.name.clone(), (*position, replica.on_purpose));
        }
        let behind = self.seen.iter().map(|(name, (position, on_purpose))| {
            let passed = self.moments.partition_point(|(_, primary)| primary <= position);
            let lag = match passed.checked_sub(1) {
                Some(last) => look.at.saturating_duration_since(self.moments[last].0),
                // Behind since before we looked: at least as long as we have been looking.
                None => {
                    let looking = self.moments.front().map(|(first, _)| look.at.duration_since(*first));
                    looking.unwrap_or_default().max(told.get(name.as_str()).copied().unwrap_or_default())
                }
            };
            (name.clone(), lag.saturating_sub(*on_purpose))
        });
        let behind = behind.collect();
        self.forget();
        (behind, left)
    }

    /// Moments that every replica has passed say nothing, but for the last one.
    fn forget(&mut self) {
        let last = self.seen.values().map(|(position, _)| *position).min().unwrap_or(u64::MAX);
        let passed = self.moments.partition_point(|(_, primary)| *primary <= last);
        self.moments.drain(..passed.saturating_sub(1));
        if self.moments.len() > MOMENTS {
            // Every second one: what is said about a replica that is so far behind errs by seconds, to its disadvantage.
            let mut keep = false;
            self.moments.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}

/// Whether the writers are held, with the gap between holding and letting go that keeps them from doing both all the time.
#[derive(Debug)]
struct Judge {
    limit: Duration,
    /// `None`: nothing is known yet.
    held: Option<bool>,
}

impl Judge {
    /// Judges the replica that is furthest behind; whether that changes anything.
    fn is_new(&mut self, worst: Option<Duration>) -> bool {
        let worst = worst.unwrap_or_default();
        let held = match self.held {
            Some(true) => worst >= self.limit / 2,
            _ => worst > self.limit,
        };
        let before = self.held.replace(held);
        before != Some(held)
    }
}

/// How often to look: often enough for the limit to mean something.
fn interval(limit: Duration) -> Duration {
    (limit / 4).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

/// Looks once, and tells what the user should know before the run.
///
/// # Errors
/// V2 does not tell.
pub async fn first_look(replicas: &mut dyn Replicas, place: &str) -> Result<()> {
    let look = replicas.look().await?;
    for name in &look.kept {
        if !look.replicas.iter().any(|replica| replica.name == *name) {
            tracing::warn!("the replica {name} of {place} is not connected: the run does not wait for it");
        }
    }
    if look.replicas.is_empty() {
        tracing::warn!(
            "max_lag is set, but {place} has no replica: there is nothing to watch until one connects"
        );
    }
    Ok(())
}

/// Watches until nobody listens any more, or until it is of no use.
pub async fn watch(mut replicas: Box<dyn Replicas>, limit: Duration, brake: watch::Sender<Brake>) {
    let mut history = History::default();
    let mut judge = Judge { limit, held: None };
    let mut silent_since: Option<Instant> = None;
    while !brake.is_closed() {
        let looked = tokio::time::timeout(PATIENCE, replicas.look()).await;
        let problem = match looked {
            Ok(Ok(look)) => {
                silent_since = None;
                let (behind, left) = history.add(&look);
                for name in left {
                    tracing::warn!(
                        "the replica {name} is gone, and V2 keeps no place for it: the run does not wait for it"
                    );
                }
                let worst = behind.into_iter().max_by_key(|(_, lag)| *lag);
                let first = judge.held.is_none();
                if judge.is_new(worst.as_ref().map(|(_, lag)| *lag)) {
                    let held = judge.held == Some(true);
                    brake.send_replace(if held { Brake::Held } else { Brake::Free });
                    match worst {
                        Some((name, lag)) if held => tracing::warn!(
                            "paused: the replica {name} is {:.1} s behind, and max_lag is {:.1} s; the run goes on when it is \
                             less than {:.1} s behind",
                            lag.as_secs_f64(),
                            limit.as_secs_f64(),
                            limit.as_secs_f64() / 2.0
                        ),
                        _ if first => {}
                        _ => tracing::warn!("the replicas have caught up: the run goes on"),
                    }
                }
                None
            }
            Ok(Err(error)) if error.is_lasting() => {
                brake.send_replace(Brake::Lost(error.message().to_owned()));
                return;
            }
            Ok(Err(error)) => Some(error.message().to_owned()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if let Some(problem) = problem {
            let since = *silent_since.get_or_insert_with(|| {
                tracing::warn!("paused: V2 does not tell how far its replicas are behind ({problem})");
                Instant::now()
            });
            // Whatever is seen next is news.
            judge.held = Some(true);
            brake.send_replace(Brake::Held);
            if since.elapsed() > GIVE_UP {
                brake.send_replace(Brake::Lost(problem));
                return;
            }
        }
        tokio::time::sleep(interval(limit)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Replica;

    fn look(start: Instant, seconds: u64, primary: u64, replicas: &[(&str, u64)], kept: &[&str]) -> Look {
        let replica = |(name, position): &(&str, u64)| Replica {
            name: (*name).to_owned(),
            position: *position,
            told: Duration::from_secs(7),
            on_purpose: Duration::ZERO,
        };
        Look {
            at: start + Duration::from_secs(seconds),
            primary,
            replicas: replicas.iter().map(replica).collect(),
            kept: kept.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn seconds(behind: Vec<(String, Duration)>) -> Vec<(String, u64)> {
        behind.into_iter().map(|(name, lag)| (name, lag.as_secs())).collect()
    }

    #[test]
    fn positions_become_time() {
        let (start, mut history) = (Instant::now(), History::default());
        let mut at = |second, primary, position| {
            seconds(history.add(&look(start, second, primary, &[("r", position)], &[])).0)[0].1
        };
        assert_eq!(at(0, 100, 90), 7, "before our time, only V2 can tell");
        assert_eq!(at(9, 200, 90), 9, "not less than we know ourselves");
        assert_eq!(at(10, 300, 150), 10, "it is where the primary was at 0");
        assert_eq!(at(11, 400, 300), 1);
        assert_eq!(at(60, 400, 400), 0, "nothing was written, nothing is behind");
        assert_eq!(at(100, 500, 400), 40, "a position that was last seen 40 seconds ago");
        assert_eq!(at(101, 450, 450), 0, "a new primary");
    }

    #[test]
    fn whoever_leaves_is_waited_for_only_if_v2_keeps_a_place() {
        let (start, mut history) = (Instant::now(), History::default());
        history.add(&look(start, 0, 10, &[("slot", 10), ("guest", 10)], &["slot", "old"]));
        let (behind, left) = history.add(&look(start, 5, 20, &[], &["slot", "old"]));
        assert_eq!(seconds(behind), [("slot".to_owned(), 5)]);
        assert_eq!(left, ["guest"]);
        let (behind, left) = history.add(&look(start, 9, 30, &[("slot", 20)], &["slot", "old"]));
        assert_eq!(seconds(behind), [("slot".to_owned(), 4)]);
        assert_eq!(left, Vec::<String>::new());
        let (behind, left) = history.add(&look(start, 10, 30, &[], &["old"]));
        assert!(behind.is_empty());
        assert_eq!(left, ["slot"]);
    }

    #[test]
    fn only_what_somebody_needs_is_remembered() {
        let (start, mut history) = (Instant::now(), History::default());
        for second in 0..1_000 {
            history.add(&look(start, second, second * 10, &[("r", second * 10)], &[]));
        }
        assert_eq!(history.moments.len(), 1);
        for second in 1_000..1_000 + 2 * MOMENTS as u64 {
            history.add(&look(start, second, second * 10, &[("r", 9_990)], &[]));
        }
        assert!(history.moments.len() <= MOMENTS);
        let last = 2_000 + 2 * MOMENTS as u64;
        let behind = history.add(&look(start, last, last * 10, &[("r", 9_990)], &[])).0;
        assert_eq!(behind[0].1.as_secs(), last - 999);
    }

    #[test]
    fn a_replica_that_is_late_on_purpose_may_be() {
        let (start, mut history) = (Instant::now(), History::default());
        let mut late = look(start, 0, 10, &[("r", 10)], &[]);
        late.replicas[0].on_purpose = Duration::from_secs(30);
        history.add(&late);
        late.at += Duration::from_secs(40);
        late.primary = 20;
        assert_eq!(seconds(history.add(&late).0), [("r".to_owned(), 10)]);
    }

    #[test]
    fn between_holding_and_letting_go_there_is_a_gap() {
        let mut judge = Judge { limit: Duration::from_secs(10), held: None };
        let mut told = |seconds| (judge.is_new(Some(Duration::from_secs(seconds))), judge.held == Some(true));
        assert_eq!(told(10), (true, false));
        assert_eq!(told(9), (false, false));
        assert_eq!(told(11), (true, true));
        assert_eq!(told(9), (false, true));
        assert_eq!(told(5), (false, true));
        assert_eq!(told(4), (true, false));
        assert_eq!(told(8), (false, false));
    }
}

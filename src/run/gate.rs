//! Keeps the order between entities: a chunk is converted only when everything before its phase is in V2.
//!
//! Inside a phase chunks are independent and may finish in any order. Between phases they are not: whether a row's
//! reference exists, or its person has an account already, is known only when the earlier phase is complete.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Counts the chunks of each phase that are not in V2 yet.
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// Chunks sent and not done, by phase.
    open: Vec<usize>,
    /// Phases before this one will get no more chunks.
    closed: usize,
    failed: bool,
}

impl Gate {
    /// For a number of phases.
    pub fn new(phases: usize) -> Self {
        let state = State { open: vec![0; phases], closed: 0, failed: false };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// A chunk was sent.
    pub fn sent(&self, phase: usize) {
        self.with(|state| state.open[phase] += 1);
    }

    /// A chunk is in V2.
    pub fn done(&self, phase: usize) {
        self.with(|state| state.open[phase] -= 1);
        self.changed.notify_waiters();
    }

    /// A phase gets no more chunks. Phases are closed in order.
    pub fn close(&self, phase: usize) {
        self.with(|state| state.closed = phase + 1);
        self.changed.notify_waiters();
    }

    /// Nothing goes on any more.
    pub fn fail(&self) {
        self.with(|state| state.failed = true);
        self.changed.notify_waiters();
    }

    /// Returns once nothing goes on any more.
    pub async fn failed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.with(|state| state.failed) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until all phases before this one are in V2; `false` when that will not happen.
    pub async fn enter(&self, phase: usize) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            let (failed, ready) = self.with(|state| {
                (state.failed, state.closed >= phase && state.open[..phase].iter().all(|&open| open == 0))
            });
            if failed {
                return false;
            }
            if ready {
                return true;
            }
            changed.await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn a_phase_waits_for_the_ones_before_it() {
        let gate = Arc::new(Gate::new(3));
        gate.sent(0);
        gate.sent(2);
        assert!(gate.enter(0).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(2).await }
        });
        gate.close(0);
        gate.done(0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "phase 1 may still get chunks");
        gate.close(1);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_failure_lets_nobody_wait_for_ever() {
        let gate = Arc::new(Gate::new(2));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.enter(1).await }
        });
        tokio::task::yield_now().await;
        gate.fail();
        assert!(!waiting.await.unwrap());
    }
}

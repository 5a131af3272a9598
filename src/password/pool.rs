//! Threads that derive and hash passwords, fed in batches ahead of the writer.
//!
//! One hash keeps a core busy for some 15 ms: on an async thread that would stall every connection, and inside a
//! transaction it would hold locks for minutes. So hashing has threads of its own, all cores from the first second; a chunk
//! submits its accounts as a [`Batch`] as soon as they are known and awaits it just before it writes.
//!
//! Jobs are served strictly in the order of submission, across batches, because the writer needs the chunks in that order;
//! one batch is spread over all threads. No password leaves a thread: a batch yields hashes only.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::derive::{PasswordLength, derive};
use super::hash::{self, HashedPassword, Hasher, Implementation};
use super::key::SecretKey;
use crate::error::{Error, Result};
use crate::settings::HashCost;

/// One account that needs a password.
#[derive(Debug, Clone)]
pub struct Job {
    /// The account's id as [`derive()`] takes it.
    pub account_id: String,
}

/// Threads that hash. Dropping it stops them after the hash that each is at; batches that are not done then fail.
#[derive(Debug)]
pub struct HashPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl HashPool {
    /// Starts `threads` threads (0: as many as there are cores), each with its own working memory of `cost.memory_kib`.
    ///
    /// Chooses the fastest implementation first, which blocks for about four hashes' time.
    ///
    /// # Errors
    /// When `cost` is out of range, its memory cannot be had, or a thread cannot be started.
    pub fn new(threads: usize, cost: HashCost, key: SecretKey, length: PasswordLength) -> Result<Self> {
        let implementation = Implementation::choose(cost)?;
        tracing::debug!(?implementation, "argon2id");
        Self::start(threads, cost, key, length, Box::new(move || implementation.hasher(cost)))
    }

    fn start(
        threads: usize,
        cost: HashCost,
        key: SecretKey,
        length: PasswordLength,
        make_hasher: MakeHasher,
    ) -> Result<Self> {
        let threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        let shared = Arc::new(Shared {
            work: Mutex::new(Work { batches: VecDeque::new(), stopped: false }),
            arrived: Condvar::new(),
            submitted: AtomicU64::new(0),
            hashed: AtomicU64::new(0),
            cost,
            key,
            length,
            make_hasher,
        });
        // Built first, so that the threads that did start are stopped if a later one does not.
        let mut pool = Self { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || shared.serve())
                .map_err(|error| {
                    Error::failed(format!("hashing thread {number} could not be started: {error}"))
                        .help("lower `hash_threads`")
                })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Queues the jobs and returns at once. The batch yields one hash for each, in their order.
    ///
    /// The queue is not bounded: how far to hash ahead is the caller's decision. A batch that is dropped before it is
    /// done gives up its place in the queue.
    pub fn submit(&self, jobs: Vec<Job>) -> Batch {
        let count = jobs.len();
        let state = Arc::new(BatchState(Mutex::new(if count == 0 {
            Stage::Done(Ok(Vec::new()))
        } else {
            Stage::Working { hashes: Vec::new(), total: count, left: count, waker: None }
        })));
        if count > 0 {
            self.shared.submitted.fetch_add(count as u64, Ordering::Relaxed);
            let queued = Queued { state: Arc::clone(&state), jobs: jobs.into_iter(), next: 0 };
            lock(&self.shared.work).batches.push_back(queued);
            self.shared.arrived.notify_all();
        }
        Batch { state }
    }

    /// Passwords hashed so far, for progress and rates.
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Relaxed)
    }

    /// Passwords submitted so far, those of dropped batches included.
    pub fn submitted(&self) -> u64 {
        self.shared.submitted.load(Ordering::Relaxed)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// How long one hash takes on one idle core; blocks. See [`super::measure`].
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn measure(&self) -> Result<Duration> {
        hash::measure(self.shared.cost)
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        let abandoned = {
            let mut work = lock(&self.shared.work);
            work.stopped = true;
            std::mem::take(&mut work.batches)
        };
        self.shared.arrived.notify_all();
        for batch in abandoned {
            batch.state.finish(Err(Error::failed("hashing was stopped before this batch was done")));
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has failed its batch already; there is nobody left to tell.
            drop(thread.join());
        }
    }
}

type MakeHasher = Box<dyn Fn() -> Result<Box<dyn Hasher>> + Send + Sync>;

/// What the threads share.
struct Shared {
    work: Mutex<Work>,
    /// Work arrived, or the pool stops.
    arrived: Condvar,
    submitted: AtomicU64,
    hashed: AtomicU64,
    cost: HashCost,
    key: SecretKey,
    length: PasswordLength,
    make_hasher: MakeHasher,
}

struct Work {
    batches: VecDeque<Queued>,
    stopped: bool,
}

struct Queued {
    state: Arc<BatchState>,
    jobs: std::vec::IntoIter<Job>,
    /// Index of the next job in the batch.
    next: usize,
}

impl Shared {
    /// What each thread does until the pool stops.
    fn serve(&self) {
        let mut hasher = None;
        while let Some((batch, index, job)) = self.next() {
            // No lock is held in here, and what a panic may leave half-done is thrown away below.
            match catch_unwind(AssertUnwindSafe(|| self.run(&mut hasher, &job))) {
                Ok(Ok(hash)) => {
                    self.hashed.fetch_add(1, Ordering::Relaxed);
                    batch.put(index, hash);
                }
                Ok(Err(error)) => batch.finish(Err(error)),
                Err(_) => {
                    hasher = None;
                    batch
                        .finish(Err(Error::failed("a hashing thread panicked; this batch has no passwords")));
                }
            }
        }
    }

    fn run(&self, hasher: &mut Option<Box<dyn Hasher>>, job: &Job) -> Result<HashedPassword> {
        let hasher = match hasher {
            Some(hasher) => hasher,
            None => hasher.insert((self.make_hasher)()?),
        };
        let password = derive(&self.key, &job.account_id, self.length);
        hash::hash(hasher.as_mut(), self.cost, password.as_bytes())
    }

    /// The next job, as soon as there is one; `None` when the pool stops.
    fn next(&self) -> Option<(Arc<BatchState>, usize, Job)> {
        let mut work = lock(&self.work);
        loop {
            if work.stopped {
                return None;
            }
            let Some(queued) = work.batches.front_mut() else {
                work = self.arrived.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            match queued.jobs.next() {
                // A failed or dropped batch needs no more work.
                Some(job) if queued.state.begin(self.cost) => {
                    queued.next += 1;
                    return Some((Arc::clone(&queued.state), queued.next - 1, job));
                }
                _ => drop(work.batches.pop_front()),
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("cost", &self.cost)
            .field("hashed", &self.hashed)
            .finish_non_exhaustive()
    }
}

/// A promise of hashes: `batch.await` yields them in the order of the jobs, or the error that stopped the batch.
#[derive(Debug)]
#[must_use = "a batch that is dropped is not hashed"]
pub struct Batch {
    state: Arc<BatchState>,
}

impl Future for Batch {
    type Output = Result<Vec<HashedPassword>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = lock(&self.state.0);
        if let Stage::Working { waker, .. } = &mut *stage {
            match waker {
                Some(known) => known.clone_from(context.waker()),
                None => *waker = Some(context.waker().clone()),
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *stage, Stage::Taken) {
            Stage::Done(outcome) => Poll::Ready(outcome),
            _ => Poll::Ready(Err(Error::failed("a batch of hashes was awaited twice"))),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        *lock(&self.state.0) = Stage::Taken;
    }
}

#[derive(Debug)]
struct BatchState(Mutex<Stage>);

#[derive(Debug)]
enum Stage {
    /// Being hashed, or still queued.
    Working { hashes: Vec<HashedPassword>, total: usize, left: usize, waker: Option<Waker> },
    /// All hashed, or failed.
    Done(Result<Vec<HashedPassword>>),
    /// Handed over, or no longer wanted.
    Taken,
}

impl BatchState {
    /// Makes room for the hashes when the first job begins, not while the batch waits; false if nobody wants them any more.
    fn begin(&self, cost: HashCost) -> bool {
        match &mut *lock(&self.0) {
            Stage::Working { hashes, total, .. } => {
                if hashes.is_empty() {
                    *hashes = vec![HashedPassword::blank(cost); *total];
                }
                true
            }
            Stage::Done(_) | Stage::Taken => false,
        }
    }

    fn put(&self, index: usize, hash: HashedPassword) {
        let finished = match &mut *lock(&self.0) {
            Stage::Working { hashes, left, .. } => {
                hashes[index] = hash;
                *left -= 1;
                if *left > 0 {
                    return;
                }
                std::mem::take(hashes)
            }
            Stage::Done(_) | Stage::Taken => return,
        };
        self.finish(Ok(finished));
    }

    /// Ends the batch, unless it has ended, and wakes whoever waits for it.
    fn finish(&self, outcome: Result<Vec<HashedPassword>>) {
        let mut stage = lock(&self.0);
        if let Stage::Working { waker, .. } = &mut *stage {
            let waker = waker.take();
            *stage = Stage::Done(outcome);
            drop(stage);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Locks. Nothing panics while it holds one of these locks, and what they guard is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

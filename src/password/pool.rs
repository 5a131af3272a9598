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
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;
    use crate::password::{DEFAULT_LENGTH, verify};

    const CHEAP: HashCost = HashCost { memory_kib: 8, iterations: 1, parallelism: 1 };

    fn key() -> SecretKey {
        SecretKey::from_bytes([5; 32])
    }

    fn jobs(ids: impl IntoIterator<Item = usize>) -> Vec<Job> {
        ids.into_iter().map(|id| Job { account_id: format!("account-{id}") }).collect()
    }

    /// A hasher that does what the password's test asks for.
    struct Scripted<F>(F);

    impl<F: FnMut() -> Result<()> + Send> Hasher for Scripted<F> {
        fn fill(&mut self, _: &[u8], _: &[u8; 16], output: &mut [u8; 32]) -> Result<()> {
            output.fill(1);
            (self.0)()
        }
    }

    fn scripted(threads: usize, script: impl Fn() -> Result<()> + Send + Sync + 'static) -> HashPool {
        let script = Arc::new(script);
        let make: MakeHasher = Box::new(move || {
            let script = Arc::clone(&script);
            Ok(Box::new(Scripted(move || script())))
        });
        HashPool::start(threads, CHEAP, key(), DEFAULT_LENGTH, make).unwrap()
    }

    #[tokio::test]
    async fn hashes_come_in_the_order_of_the_jobs_and_verify() {
        let pool = HashPool::new(3, CHEAP, key(), DEFAULT_LENGTH).unwrap();
        assert_eq!(pool.threads(), 3);
        let (first, second) = (pool.submit(jobs(0..200)), pool.submit(jobs(200..210)));
        // Awaiting the later one first must not block.
        let second = second.await.unwrap();
        let first = first.await.unwrap();
        assert_eq!((first.len(), second.len()), (200, 10));
        for (id, hashed) in first.iter().chain(&second).enumerate() {
            let password = derive(&key(), &format!("account-{id}"), DEFAULT_LENGTH);
            assert!(verify(&hashed.phc(), &password).unwrap(), "account {id}");
        }
        assert_eq!((pool.hashed(), pool.submitted()), (210, 210));
        assert!(pool.measure().unwrap() > Duration::ZERO);
    }

    #[tokio::test]
    async fn an_empty_batch_is_done_and_no_threads_means_all_cores() {
        let pool = HashPool::new(0, CHEAP, key(), DEFAULT_LENGTH).unwrap();
        assert!(pool.threads() >= 1);
        assert!(pool.submit(Vec::new()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_batch_awaited_twice_is_an_error_and_not_an_empty_success() {
        let pool = HashPool::new(1, CHEAP, key(), DEFAULT_LENGTH).unwrap();
        let mut batch = pool.submit(jobs(0..3));
        assert_eq!((&mut batch).await.unwrap().len(), 3);
        assert!(batch.await.is_err());
    }

    #[tokio::test]
    async fn a_panic_fails_its_batch_and_only_that() {
        let calls = AtomicU64::new(0);
        let pool = scripted(1, move || {
            assert!(calls.fetch_add(1, Ordering::Relaxed) != 2, "third hash: panic on purpose");
            Ok(())
        });
        let (bad, good) = (pool.submit(jobs(0..5)), pool.submit(jobs(0..5)));
        assert!(bad.await.unwrap_err().message().contains("panicked"));
        assert_eq!(good.await.unwrap().len(), 5);
        assert_eq!(pool.hashed(), 7, "the rest of a failed batch is not worked on");
    }

    #[tokio::test]
    async fn an_error_fails_its_batch() {
        let pool = scripted(2, || Err(Error::failed("no memory")));
        assert_eq!(pool.submit(jobs(0..50)).await.unwrap_err().message(), "no memory");
        assert_eq!(pool.hashed(), 0);
    }

    #[tokio::test]
    async fn batches_are_served_first_in_first_out() {
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Mutex::new(receiver);
        let pool = scripted(1, move || {
            lock(&receiver).recv().map_err(|_| Error::failed("gone"))?;
            Ok(())
        });
        let (first, second) = (pool.submit(jobs(0..3)), pool.submit(jobs(0..3)));
        for _ in 0..3 {
            sender.send(()).unwrap();
        }
        // Three permits are exactly the first batch; the second must not have used one of them.
        assert_eq!(first.await.unwrap().len(), 3);
        for _ in 0..3 {
            sender.send(()).unwrap();
        }
        assert_eq!(second.await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn dropping_the_pool_stops_promptly_and_fails_what_is_queued() {
        let pool = scripted(2, || {
            thread::sleep(Duration::from_millis(20));
            Ok(())
        });
        let (running, queued) = (pool.submit(jobs(0..10_000)), pool.submit(jobs(0..10_000)));
        let start = Instant::now();
        drop(pool);
        assert!(start.elapsed() < Duration::from_secs(5), "20,000 jobs would take 200 s");
        assert!(running.await.unwrap_err().message().contains("stopped"));
        assert!(queued.await.unwrap_err().message().contains("stopped"));
    }

    #[tokio::test]
    async fn a_dropped_batch_gives_up_its_place() {
        let pool = scripted(1, || {
            thread::sleep(Duration::from_millis(1));
            Ok(())
        });
        drop(pool.submit(jobs(0..100_000)));
        assert_eq!(pool.submit(jobs(0..2)).await.unwrap().len(), 2);
        assert!(pool.hashed() < 1000);
    }

    #[test]
    fn debug_shows_no_key() {
        let pool = HashPool::new(1, CHEAP, key(), DEFAULT_LENGTH).unwrap();
        let text = format!("{pool:?} {:?}", pool.submit(jobs(0..1)));
        assert!(!text.contains("0505") && !text.contains("[5, 5"), "{text}");
    }
}

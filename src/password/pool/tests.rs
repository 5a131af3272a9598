//! The pool's promises: order, first in first out, and that whatever goes wrong is never taken for done.

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

//! Named places at which a test can make the program die, fail, or lose its connections.
//!
//! "Any moment is a safe moment to die" can be tried at random moments, which finds much, or at each step in turn, which
//! misses none. For the latter the steps have names. A shipped program holds none of this: without the feature
//! `failpoints` a point is an empty function, no environment variable is read, and a release build with the feature does
//! not compile. (The `fail` crate does the same with a registry of actions, but its last release is of 2022, and it can
//! neither cut a connection nor return an error that is made for the place.)
//!
//! `FAILPOINT=name@N:action` arms a point for its Nth visit; `;` stands between several. Actions: `error`, one that goes away by itself; `fatal`,
//! one that does not; `abort`, the end of the process at this place by SIGKILL; `cut ADDRESS`, which connects to that
//! address and goes on once the other side, which cuts the program's connections meanwhile, hangs up.
//!
//! `FAILPOINT_PAUSE=milliseconds` bounds the pauses between two tries, so that a test of what happens after the last one need not wait for them.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for tests: a release build must not obey FAILPOINT");

/// The error of a point that was armed with one. It becomes what a database's driver would report there.
#[cfg(not(feature = "failpoints"))]
#[derive(Debug)]
pub(crate) enum Injected {}

/// The error of a point that was armed with one. It becomes what a database's driver would report there.
#[cfg(feature = "failpoints")]
#[derive(Debug)]
pub(crate) enum Injected {
    /// Goes away by itself.
    Transient,
    /// Does not.
    Fatal,
}

/// A point. See the module.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn reach(_name: &str) -> Result<(), Injected> {
    Ok(())
}

/// How long to wait before the next try, where that would be so long.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn pause(wanted: std::time::Duration) -> std::time::Duration {
    wanted
}

#[cfg(feature = "failpoints")]
pub(crate) use armed::{pause, reach};

impl From<Injected> for sqlx::Error {
    fn from(injected: Injected) -> Self {
        match injected {
            #[cfg(feature = "failpoints")]
            Injected::Transient => Self::Io(std::io::Error::other("a fail point")),
            #[cfg(feature = "failpoints")]
            Injected::Fatal => Self::Protocol("a fail point".to_owned()),
        }
    }
}

impl From<Injected> for mongodb::error::Error {
    fn from(injected: Injected) -> Self {
        match injected {
            #[cfg(feature = "failpoints")]
            Injected::Transient => std::io::Error::other("a fail point").into(),
            #[cfg(feature = "failpoints")]
            Injected::Fatal => Self::custom("a fail point".to_owned()),
        }
    }
}

impl From<Injected> for crate::Error {
    fn from(injected: Injected) -> Self {
        Self::database("V2", &injected.into())
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::Injected;

    struct Armed {
        name: String,
        /// The visit at which it goes off, from 1.
        visit: u32,
        action: String,
        visits: AtomicU32,
    }

    static ARMED: LazyLock<Vec<Armed>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINT").unwrap_or_default();
        text.split(';').filter_map(parse).collect()
    });

    static PAUSE: LazyLock<Option<Duration>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINT_PAUSE").ok()?;
        Some(Duration::from_millis(text.parse().ok()?))
    });

    /// How long to wait before the next try, where that would be so long.
    pub(crate) fn pause(wanted: Duration) -> Duration {
        PAUSE.map_or(wanted, |longest| longest.min(wanted))
    }

    fn parse(text: &str) -> Option<Armed> {
        let (point, action) = text.split_once(':')?;
        let (name, visit) = point.split_once('@')?;
        let (name, action, visit) = (name.to_owned(), action.to_owned(), visit.parse().ok()?);
        Some(Armed { name, visit, action, visits: AtomicU32::new(0) })
    }

    /// A point. See the module.
    pub(crate) fn reach(name: &str) -> Result<(), Injected> {
        let Some(armed) = ARMED.iter().find(|armed| armed.name == name) else { return Ok(()) };
        if armed.visits.fetch_add(1, Ordering::SeqCst) + 1 != armed.visit {
            return Ok(());
        }
        tracing::warn!("fail point {name}: {}", armed.action);
        match armed.action.split_once(' ').unwrap_or((&armed.action, "")) {
            ("error", _) => Err(Injected::Transient),
            ("abort", _) => die(),
            ("cut", address) => {
                if let Ok(mut stream) = TcpStream::connect(address) {
                    // Nothing ever comes: it ends when the connections are cut.
                    drop(stream.read(&mut [0]));
                }
                Ok(())
            }
            _ => Err(Injected::Fatal),
        }
    }

    /// As `kill -9`: nothing is flushed, no destructor runs, and unlike with `std::process::abort` no core file is left.
    fn die() -> ! {
        let _unless_it_fails =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

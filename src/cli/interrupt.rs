//! Ctrl-C (and SIGTERM, which is how containers are stopped). The first one lets a command that asked for it finish its
//! chunk; the second one, or the first at any other moment, ends the program at once, which is safe at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// A command's view of Ctrl-C. Clones see the same.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: watch::Receiver<bool>,
    finishing: Arc<AtomicUsize>,
}

/// The sender's end, kept by [`super::main`].
#[derive(Debug)]
pub(super) struct Signal {
    asked: watch::Sender<bool>,
    finishing: Arc<AtomicUsize>,
}

/// While this lives, the first Ctrl-C only asks.
#[derive(Debug)]
pub struct Finishing(Arc<AtomicUsize>);

impl Drop for Finishing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn pair() -> (Signal, Interrupt) {
    let (sender, receiver) = watch::channel(false);
    let finishing = Arc::new(AtomicUsize::new(0));
    (Signal { asked: sender, finishing: Arc::clone(&finishing) }, Interrupt { asked: receiver, finishing })
}

impl Interrupt {
    /// From now on the first Ctrl-C only asks: the caller looks at [`Interrupt::is_asked`] between chunks, stops, and
    /// returns [`crate::Error::interrupted`].
    #[must_use]
    pub fn finish_first(&self) -> Finishing {
        self.finishing.fetch_add(1, Ordering::SeqCst);
        Finishing(Arc::clone(&self.finishing))
    }

    /// Whether the user wants to stop.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Returns when the user wants to stop.
    pub async fn asked(&self) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked).await.is_err() {
            // The sender is gone, so nobody will ever ask.
            std::future::pending::<()>().await;
        }
    }

    /// The channel itself, for code below the command line.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.asked.clone()
    }

    /// One that never comes, for tests and for programs that handle signals themselves.
    pub fn never() -> Self {
        pair().1
    }
}

impl Signal {
    /// A signal came: true if the program is to end now.
    pub(super) fn raise(&self) -> bool {
        let second = self.asked.send_replace(true);
        second || self.finishing.load(Ordering::SeqCst) == 0
    }
}

/// Waits for Ctrl-C or SIGTERM.
#[cfg(unix)]
pub(super) async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_asks_while_a_chunk_is_written_and_the_second_ends() {
        let (signal, interrupt) = pair();
        let finishing = interrupt.finish_first();
        assert!(!interrupt.is_asked());
        assert!(!signal.raise());
        assert!(interrupt.is_asked());
        assert!(signal.raise());
        drop(finishing);

        let (signal, _interrupt) = pair();
        assert!(signal.raise(), "with nothing to finish, the first ends");
    }
}

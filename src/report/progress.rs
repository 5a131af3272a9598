//! Progress on stderr: bars on a terminal, a plain line now and then off it, nothing with `--quiet` or `--json`. Bars and
//! log lines share the terminal, so log lines are written through [`Progress::suspend`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{
    HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle,
};

use super::events::{Event, Events};
use super::printable;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars that move: stderr is a terminal.
    Bars,
    /// A line every ten seconds at most: a log collector or a CI system reads stderr.
    Lines,
    /// Nothing on stderr.
    Hidden,
}

/// Time between two lines of one entity.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
/// Time between two events of one entity.
const BETWEEN_EVENTS: Duration = Duration::from_secs(1);

/// The progress of a whole command. Clones share the same screen.
#[derive(Debug, Clone)]
pub struct Progress {
    mode: ProgressMode,
    bars: MultiProgress,
    events: Events,
}

impl Progress {
    /// Progress that is shown in this way, and told to nobody else.
    pub fn new(mode: ProgressMode) -> Self {
        Self::with_events(mode, Events::new(None))
    }

    /// As [`Progress::new`], and told as events too.
    pub fn with_events(mode: ProgressMode, events: Events) -> Self {
        let target = match mode {
            ProgressMode::Bars => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        Self { mode, bars: MultiProgress::with_draw_target(target), events }
    }

    /// Begins an entity (or a pass over one); `total` is in rows.
    pub fn entity(&self, name: &str, total: Option<u64>) -> EntityProgress {
        self.events.emit(&Event::EntityStarted { entity: name.to_owned(), total });
        self.start(name, total, "rows")
    }

    /// Begins the second line: passwords that are being hashed beside the load.
    pub fn hashing(&self, total: Option<u64>) -> EntityProgress {
        self.start("hashing", total, "passwords")
    }

    fn start(&self, name: &str, total: Option<u64>, unit: &'static str) -> EntityProgress {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let bar = self.bars.add(bar.with_finish(ProgressFinish::AndLeave));
        bar.set_style(style(total.is_some(), unit));
        bar.set_prefix(printable(name).into_owned());
        if self.mode == ProgressMode::Bars {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let now = Instant::now();
        EntityProgress(Arc::new(Shared {
            name: name.to_owned(),
            unit,
            total,
            done: AtomicU64::new(0),
            started: now,
            told: Mutex::new((now, now)),
            bar,
            progress: self.clone(),
        }))
    }

    /// Runs something that writes to the terminal, with the bars out of the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        if self.mode == ProgressMode::Bars { self.bars.suspend(write) } else { write() }
    }

    fn line(&self, text: &str) {
        use std::io::Write;
        // If stderr is gone, the run goes on.
        drop(writeln!(std::io::stderr().lock(), "{text}"));
    }
}

/// The templates are constants; should one not parse, indicatif's own default shows the same numbers less neatly.
fn style(bounded: bool, unit: &str) -> ProgressStyle {
    let template = if bounded {
        format!(
            "{{prefix:>12.bold}} {{bar:24.cyan/dim}} {{percent:>3}} %  {{human_pos}}/{{human_len}} {unit}  {{rate}}  ETA {{eta}}"
        )
    } else {
        format!("{{prefix:>12.bold}} {{spinner}} {{human_pos}} {unit}  {{rate}}  {{elapsed}}")
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // indicatif's own rate has four decimals, which change faster than anybody reads.
    style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let written = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
        debug_assert!(written.is_ok(), "writing into a String cannot fail");
    })
}

/// The progress of one entity. Clones count together, so that several writers can share one.
#[derive(Debug, Clone)]
pub struct EntityProgress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    unit: &'static str,
    total: Option<u64>,
    done: AtomicU64,
    started: Instant,
    /// When the last line and the last event were told.
    told: Mutex<(Instant, Instant)>,
    bar: ProgressBar,
    progress: Progress,
}

impl EntityProgress {
    /// Counts `rows` more as done.
    pub fn advance(&self, rows: u64) {
        let this = &*self.0;
        let done = this.done.fetch_add(rows, Ordering::Relaxed) + rows;
        this.bar.inc(rows);
        let now = Instant::now();
        // Whoever finds the lock taken leaves the telling to the one who holds it.
        let Ok(mut told) = this.told.try_lock() else { return };
        if this.progress.mode == ProgressMode::Lines && now.duration_since(told.0) >= BETWEEN_LINES {
            told.0 = now;
            this.progress.line(&this.sentence(done));
        }
        if this.unit == "rows" && this.progress.events.is_on() && now.duration_since(told.1) >= BETWEEN_EVENTS
        {
            told.1 = now;
            let event = Event::Progress { entity: this.name.clone(), rows: done, total: this.total };
            this.progress.events.emit(&event);
        }
    }

    /// Rows done so far.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Ends the entity; its last numbers stay on the screen.
    pub fn finish(&self) {
        let this = &*self.0;
        this.bar.finish();
        if this.progress.mode == ProgressMode::Lines {
            this.progress.line(&this.sentence(self.done()));
        }
    }
}

impl Shared {
    /// `schools: 1,200 of 5,000 rows, 400 rows/s, 10 s left`
    fn sentence(&self, done: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let rate = done as f64 / seconds;
        let mut text = format!("{}: {}", printable(&self.name), grouped(done));
        if let Some(total) = self.total {
            text.push_str(&format!(" of {}", grouped(total)));
        }
        text.push_str(&format!(" {}, {} {}/s", self.unit, grouped(rate as u64), self.unit));
        match self.total {
            Some(total) if total > done && rate > 0.0 => {
                text.push_str(&format!(", {} s left", grouped(((total - done) as f64 / rate).ceil() as u64)));
            }
            _ => text.push_str(&format!(", {seconds:.1} s")),
        }
        text
    }
}

/// A number with its thousands set off.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_count_together() {
        let progress = Progress::new(ProgressMode::Hidden);
        let entity = progress.entity("schools", Some(100));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let entity = entity.clone();
                scope.spawn(move || (0..25).for_each(|_| entity.advance(1)));
            }
        });
        assert_eq!(entity.done(), 100);
        entity.finish();
    }

    #[test]
    fn a_line_says_rate_and_rest() {
        let entity = Progress::new(ProgressMode::Hidden).entity("schools", Some(5000));
        entity.advance(1200);
        let line = entity.0.sentence(1200);
        assert!(line.starts_with("schools: 1,200 of 5,000 rows, ") && line.ends_with(" s left"), "{line}");
    }
}

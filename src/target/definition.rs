//! By which definition an entity's rows are in V2, and by which they were before each run that applied an edited one: what a
//! rollback of that run goes back to. Keeping it is each kind of V2's own matter.

use serde::{Deserialize, Serialize};

/// The hash of no definition: a rollback was interrupted, or took back a run in the middle. Rows are in V2 by several
/// definitions then, so that whatever a run applies next is an edit of all of them.
pub const SEVERAL: &str = "";

/// The fact that tells of which parts an entity's definition consisted when its rows came into V2.
pub fn fact(entity: &str) -> String {
    format!("definition of {entity}")
}

/// The key of an entity's [`History`] begins with this.
pub const HISTORY: &str = "definitions of ";

/// A definition by which rows are in V2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Its hash, or [`SEVERAL`].
    pub hash: String,
    /// Its parts: the fact [`fact`].
    pub parts: Option<String>,
}

impl Applied {
    fn several() -> Self {
        Self { hash: SEVERAL.to_owned(), parts: None }
    }
}

/// The definition that a run found, and replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Before {
    run: i32,
    was: Applied,
}

/// The definitions of one entity that were replaced, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Before>);

impl History {
    /// From what V2 keeps; empty if it keeps none.
    pub fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// What V2 is to keep; nothing if it is empty.
    pub fn text(&self) -> Option<String> {
        if self.0.is_empty() { None } else { serde_json::to_string(self).ok() }
    }

    /// A run replaces the definition. Told again, it says nothing new.
    pub fn replace(&mut self, run: i32, was: Applied) {
        if !self.holds(run) {
            self.0.push(Before { run, was });
        }
    }

    /// Whether the run has replaced the definition.
    pub fn holds(&self, run: i32) -> bool {
        self.0.iter().any(|before| before.run == run)
    }

    /// The run is taken back: by which definition the rows are in V2 then. `None` if it had replaced none.
    pub fn take_back(&mut self, run: i32) -> Option<Applied> {
        let at = self.0.iter().position(|before| before.run == run)?;
        let was = self.0.remove(at).was;
        // A later run has replaced what this one had applied, and did so with rows that this one takes back.
        let Some(later) = self.0.get_mut(at) else { return Some(was) };
        later.was = Applied::several();
        Some(Applied::several())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hash: &str) -> Applied {
        Applied { hash: hash.to_owned(), parts: Some(format!("parts of {hash}")) }
    }

    #[test]
    fn runs_are_taken_back_one_by_one() {
        let mut history = History::default();
        history.replace(3, of("first"));
        history.replace(3, of("a run that went on after it was killed"));
        history.replace(7, of("second"));
        let mut history = History::parse(history.text().as_deref());
        assert!(history.holds(3) && history.holds(7) && !history.holds(5));
        assert_eq!(history.take_back(5), None);
        assert_eq!(history.take_back(7), Some(of("second")));
        assert_eq!(history.take_back(3), Some(of("first")));
        assert_eq!(history.text(), None);
    }

    #[test]
    fn after_a_run_in_the_middle_nobody_knows() {
        let mut history = History::default();
        history.replace(3, of("first"));
        history.replace(7, of("second"));
        assert_eq!(history.take_back(3), Some(Applied::several()));
        assert_eq!(history.take_back(7), Some(Applied::several()));
    }
}

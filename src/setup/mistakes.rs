//! Collects every mistake of the user's files, because being told about one at a time is a bad afternoon.

use crate::{Error, Result};

/// Sentences, each with its file and line.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Notes one: `place` is `file:line`.
    pub(super) fn add(&mut self, place: impl std::fmt::Display, sentence: impl std::fmt::Display) {
        self.0.push(format!("{place}: {sentence}"));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them as one error.
    pub(super) fn finish(mut self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(Error::usage(self.0.remove(0))),
            n => Err(Error::usage(format!("{n} mistakes in the setup files")).details(self.0.join("\n"))),
        }
    }
}

/// `; did you mean "roles"?`, or nothing if no candidate is close.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // A third of the letters may differ: catches a typo and a missing plural, not a coincidence.
    let limit = word.chars().count().max(3) / 3;
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [many @ .., last] => format!("{} and {last}", many.join(", ")),
    }
}

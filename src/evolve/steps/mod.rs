//! The steps of an evolution of MongoDB: an array in a JSON file (Extended JSON, the server's own words), read strictly
//! and completely before the first one is done.
//!
//! There are four kinds. A `command` is whatever the server knows. `update`, `aggregate` and `delete` work on documents,
//! inside the server, and can go batch by batch in the order of `_id`, so that they can be throttled, watched and
//! resumed. There is no language of our own: what is done to a document is an aggregation pipeline.

mod places;

use std::time::Duration;

use mongodb::bson::{Bson, Document};

use super::folder::Problems;
use crate::definition::problem::{At, Problem};
use crate::settings::{did_you_mean, duration};
use places::Places;

/// Documents of a batch if nothing is said. Above some thousand the time per document hardly falls, while the documents
/// of a batch stay locked against other writers for longer.
pub const BATCH: u32 = 1_000;

/// The largest batch: what one transaction changes has to fit into the server's cache.
const LARGEST_BATCH: i64 = 100_000;

/// Stages that an update may consist of (manual, "Updates with Aggregation Pipeline").
const UPDATE_STAGES: [&str; 6] = ["$addFields", "$set", "$project", "$unset", "$replaceRoot", "$replaceWith"];

/// How many documents at a time, and how long to rest in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Documents looked at in a batch.
    pub batch: u32,
    /// Pause after each batch.
    pub throttle: Duration,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A database command.
    Command(Document),
    /// Changes documents by an aggregation pipeline; batch and position commit together.
    Update {
        /// The collection.
        collection: String,
        /// Which documents; empty: all.
        filter: Document,
        /// What becomes of each.
        pipeline: Vec<Document>,
        /// How fast.
        pace: Pace,
    },
    /// Runs an aggregation that writes its result into a collection (`$merge`, `$out`).
    Aggregate {
        /// The collection that is read.
        collection: String,
        /// Its last stage is `$merge` or `$out`.
        pipeline: Vec<Document>,
        /// Whether it works document by document, and so can be cut into batches.
        pace: Option<Pace>,
    },
    /// Removes documents; batch and position commit together.
    Delete {
        /// The collection.
        collection: String,
        /// Which documents.
        which: Doomed,
        /// How fast.
        pace: Pace,
    },
}

/// Which documents go.
#[derive(Debug, Clone, PartialEq)]
pub enum Doomed {
    /// Those that match.
    Matching(Document),
    /// Those whose `_id` is an `_id` of that collection too: what an earlier step has copied there.
    ListedIn(String),
}

impl Step {
    /// In a few words: `update users`.
    pub fn title(&self) -> String {
        match self {
            Self::Command(command) => {
                let target = match command.iter().next() {
                    Some((name, Bson::String(target))) => format!("{name} {target}"),
                    Some((name, _)) => name.clone(),
                    None => "command".to_owned(),
                };
                if let Some(Ok(to)) = command.contains_key("renameCollection").then(|| command.get_str("to"))
                {
                    format!("{target} to {to}")
                } else {
                    target
                }
            }
            Self::Update { collection, .. } => format!("update {collection}"),
            Self::Aggregate { collection, .. } => format!("aggregate {collection}"),
            Self::Delete { collection, which: Doomed::Matching(_), .. } => {
                format!("delete from {collection}")
            }
            Self::Delete { collection, which: Doomed::ListedIn(list), .. } => {
                format!("delete from {collection} what is in {list}")
            }
        }
    }
}

/// Reads a file of steps; what is wrong is told in `problems`. Not one of them is left out silently: with a problem nothing
/// is done at all.
pub(super) fn read(text: &str, file: usize, problems: &mut Problems) -> Vec<Step> {
    let documents: Vec<Document> = match serde_json::from_str(text) {
        Ok(documents) => documents,
        Err(error) => {
            let at = places::offset(text, error.line(), error.column());
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
            let place = format!("line {}, column {}", error.line(), error.column());
            let problem = Problem::at(
                At { file, start: at, end: at + text[at..].chars().next().map_or(0, char::len_utf8) },
                format!("this is no array of steps: {what}"),
                place,
            );
            problems.push(problem.help("write [ { \"command\": {…} }, { \"update\": \"COLLECTION\", … } ]"));
            return Vec::new();
        }
    };
    let places = Places::of(text);
    let read = |(index, document)| Reader { document, places: &places, index, file, problems }.step();
    documents.iter().enumerate().filter_map(read).collect()
}

/// Reads one step.
struct Reader<'r> {
    document: &'r Document,
    places: &'r Places,
    index: usize,
    file: usize,
    problems: &'r mut Problems,
}

/// The kinds, with the keys that each may have.
const KINDS: [(&str, &[&str]); 4] = [
    ("command", &["comment"]),
    ("update", &["filter", "pipeline", "batch", "throttle", "comment"]),
    ("aggregate", &["pipeline", "batch", "throttle", "comment"]),
    ("delete", &["filter", "listed_in", "batch", "throttle", "comment"]),
];

impl Reader<'_> {
    fn step(mut self) -> Option<Step> {
        let kinds = KINDS.map(|(kind, _)| kind);
        let found: Vec<&str> = kinds.into_iter().filter(|kind| self.document.contains_key(kind)).collect();
        let [kind] = found.as_slice() else {
            let name = self.document.keys().next().map(String::as_str).unwrap_or_default();
            let message = match found.as_slice() {
                [] => "a step of no kind that is known".to_owned(),
                many => format!("one step cannot be {} at once", many.join(" and ")),
            };
            let meant =
                did_you_mean(name, kinds.into_iter()).map(|meant| format!("; did you mean `{meant}`?"));
            self.problem(
                None,
                message,
                &format!("step {}", self.index + 1),
                &format!("a step has one of the keys {}{}", kinds.join(", "), meant.unwrap_or_default()),
            );
            return None;
        };
        let keys = KINDS.iter().find(|(name, _)| name == kind).map_or(&[][..], |(_, keys)| keys);
        for key in self.document.keys().filter(|key| *key != kind && !keys.contains(&key.as_str())) {
            let fix = did_you_mean(key, keys.iter().copied()).map_or_else(
                || format!("there is: {}", keys.join(", ")),
                |meant| format!("did you mean `{meant}`?"),
            );
            self.problem(Some(key), format!("a step `{kind}` has no key `{key}`"), "unknown", &fix);
        }
        match *kind {
            "command" => self.command(),
            "update" => self.update(),
            "aggregate" => self.aggregate(),
            _ => self.delete(),
        }
    }

    fn command(&mut self) -> Option<Step> {
        let command = self.document.get_document("command").ok().filter(|command| !command.is_empty());
        if command.is_none() {
            self.problem(
                Some("command"),
                "`command` must be a command of the server",
                "",
                "{ \"command\": { \"createIndexes\": \"users\", … } }",
            );
        }
        command.cloned().map(Step::Command)
    }

    fn update(&mut self) -> Option<Step> {
        let (collection, pipeline) = (self.collection("update")?, self.pipeline()?);
        for stage in &pipeline {
            let name = stage.keys().next().map(String::as_str).unwrap_or_default();
            if stage.len() != 1 || !UPDATE_STAGES.contains(&name) {
                let fix = format!("the server allows {}", UPDATE_STAGES.join(", "));
                self.problem(Some("pipeline"), format!("an update cannot have the stage `{name}`"), "", &fix);
                return None;
            }
        }
        let filter = self.filter()?.unwrap_or_default();
        Some(Step::Update { collection, filter, pipeline, pace: self.pace() })
    }

    fn aggregate(&mut self) -> Option<Step> {
        let (collection, pipeline) = (self.collection("aggregate")?, self.pipeline()?);
        let last = pipeline.last();
        let merge = last.and_then(|stage| stage.get("$merge"));
        if merge.is_none() && !last.is_some_and(|stage| stage.contains_key("$out")) {
            self.problem(
                Some("pipeline"),
                "the result goes nowhere",
                "",
                "end the pipeline with $merge or $out",
            );
            return None;
        }
        // It cannot be part of a transaction, so a kill may have it done twice.
        let repeatable = |mode: &Bson| matches!(mode.as_str(), Some("replace" | "keepExisting" | "merge"));
        if let Some(Bson::Document(merge)) = merge
            && merge.get("whenMatched").is_some_and(|mode| !repeatable(mode))
        {
            let message = "this $merge cannot be repeated, and after a kill the step is";
            self.problem(Some("pipeline"), message, "", "set whenMatched to replace, merge or keepExisting");
        }
        let batched = self.document.contains_key("batch") || self.document.contains_key("throttle");
        if batched && merge.is_none() {
            self.problem(
                Some("pipeline"),
                "$out replaces the collection with each batch",
                "",
                "use $merge, or leave out batch and throttle",
            );
        }
        let pace = batched.then(|| self.pace());
        Some(Step::Aggregate { collection, pipeline, pace })
    }

    fn delete(&mut self) -> Option<Step> {
        let collection = self.collection("delete")?;
        let which = match (self.filter()?, self.document.get("listed_in")) {
            (Some(filter), None) => Doomed::Matching(filter),
            (None, Some(Bson::String(list))) if !list.is_empty() => Doomed::ListedIn(list.clone()),
            _ => {
                let message = "what is to be deleted must be said once, by `filter` or by `listed_in`";
                self.problem(Some("delete"), message, "", "\"filter\": {} deletes everything");
                return None;
            }
        };
        Some(Step::Delete { collection, which, pace: self.pace() })
    }

    fn collection(&mut self, key: &str) -> Option<String> {
        let name = self.document.get_str(key).ok().filter(|name| !name.is_empty());
        if name.is_none() {
            self.problem(Some(key), format!("`{key}` must be the name of a collection"), "", "");
        }
        name.map(str::to_owned)
    }

    fn pipeline(&mut self) -> Option<Vec<Document>> {
        let stages = self.document.get_array("pipeline").ok().filter(|stages| !stages.is_empty());
        let stages: Option<Vec<Document>> =
            stages.and_then(|stages| stages.iter().map(|stage| stage.as_document().cloned()).collect());
        if stages.is_none() {
            let key = if self.document.contains_key("pipeline") { Some("pipeline") } else { None };
            self.problem(
                key,
                "`pipeline` must be an array of stages",
                "",
                "\"pipeline\": [ { \"$set\": … } ]",
            );
        }
        stages
    }

    /// The outer `None`: it is wrong.
    fn filter(&mut self) -> Option<Option<Document>> {
        match self.document.get("filter") {
            None => Some(None),
            Some(Bson::Document(filter)) => Some(Some(filter.clone())),
            Some(_) => {
                self.problem(Some("filter"), "`filter` must be an object", "", "");
                None
            }
        }
    }

    fn pace(&mut self) -> Pace {
        let batch = match self.document.get("batch") {
            None => Some(BATCH),
            Some(Bson::Int32(batch)) if (1..=LARGEST_BATCH).contains(&i64::from(*batch)) => {
                u32::try_from(*batch).ok()
            }
            Some(_) => None,
        };
        if batch.is_none() {
            let message = format!("`batch` must be a whole number from 1 to {LARGEST_BATCH}");
            self.problem(Some("batch"), message, "", "");
        }
        let throttle = match self.document.get("throttle") {
            None => Some(Duration::ZERO),
            Some(Bson::String(text)) => duration(text).ok(),
            Some(_) => None,
        };
        if throttle.is_none() {
            self.problem(Some("throttle"), "`throttle` must be a duration, such as \"50ms\"", "", "");
        }
        Pace { batch: batch.unwrap_or(BATCH), throttle: throttle.unwrap_or_default() }
    }

    /// `key`: the one that is wrong; else the step as a whole.
    fn problem(&mut self, key: Option<&str>, message: impl Into<String>, label: &str, fix: &str) {
        let range = self.places.of_key(self.index, key);
        let label = if label.is_empty() { "here" } else { label };
        let problem = Problem::at(At { file: self.file, start: range.start, end: range.end }, message, label);
        self.problems.push(if fix.is_empty() { problem } else { problem.help(fix) });
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn read(text: &str) -> (Vec<Step>, Vec<Problem>) {
        let mut problems = Problems::default();
        let steps = super::read(text, 0, &mut problems);
        (steps, problems.list)
    }

    #[test]
    fn steps_keep_order_and_types() {
        let (steps, problems) = read(
            r#"[ { "command": { "createIndexes": "c", "indexes": [ { "key": { "b": 1, "a": -1 }, "name": "n" } ] } },
                 { "update": "c", "filter": { "at": { "$lt": { "$date": "2020-01-01T00:00:00Z" } } },
                   "pipeline": [ { "$set": { "x": "$y" } } ], "batch": 10, "throttle": "50ms", "comment": "why" } ]"#,
        );
        assert!(problems.is_empty(), "{problems:?}");
        let Step::Command(command) = &steps[0] else { panic!() };
        let key =
            command.get_array("indexes").unwrap()[0].as_document().unwrap().get_document("key").unwrap();
        assert_eq!(key.keys().collect::<Vec<_>>(), ["b", "a"]);
        let Step::Update { filter, pace, .. } = &steps[1] else { panic!() };
        assert!(filter.get_document("at").unwrap().get_datetime("$lt").is_ok());
        assert_eq!(*pace, Pace { batch: 10, throttle: Duration::from_millis(50) });
        assert_eq!(steps[1].title(), "update c");
    }

    #[test]
    fn every_mistake_has_its_place() {
        let text = r#"[ { "updat": "c" }, { "update": "c", "pipline": [], "pipeline": [ { "$match": {} } ] },
            { "delete": "c" }, { "aggregate": "c", "pipeline": [ { "$merge": { "into": "d", "whenMatched": "fail" } } ] } ]"#;
        let (steps, problems) = read(text);
        assert_eq!((steps.len(), problems.len()), (1, 5), "{problems:#?}");
        let pointed: Vec<&str> =
            problems.iter().map(|p| &text[p.at.unwrap().start..p.at.unwrap().end]).collect();
        assert_eq!(pointed[1], "\"pipline\"");
        assert_eq!(pointed[4], "\"pipeline\"");
        assert!(problems[0].help.as_ref().unwrap().contains("did you mean `update`?"), "{problems:#?}");
    }

    #[test]
    fn broken_json_says_line_and_column() {
        let (_, problems) = read("[\n  { \"command\": }\n]");
        let at = problems[0].at.unwrap();
        assert_eq!((at.start, problems[0].label.as_str()), (17, "line 2, column 16"));
        assert_eq!(doc! {}.len(), 0);
    }
}

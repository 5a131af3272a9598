//! Whether the server knows the commands that the steps of evolutions consist of. It would say so itself, when the steps before
//! are done and no transaction takes them back.

use mongodb::Database;
use mongodb::bson::doc;

use crate::evolve::{Pending, Step, Work};
use crate::preflight::{Finding, Level};
use crate::settings::did_you_mean;

/// A name that the server understands and does not list. (Its other aliases differ in capitals only.)
const ALIAS: &str = "deleteIndexes";

/// Each command that the server does not know; nothing if it does not tell what it knows.
pub(super) async fn look(database: &Database, label: &str, pending: &[Pending]) -> Vec<Finding> {
    let Ok(answer) = database.run_command(doc! { "listCommands": 1 }).await else { return Vec::new() };
    let Ok(commands) = answer.get_document("commands") else { return Vec::new() };
    let known = |name: &str| name == ALIAS || commands.keys().any(|known| known.eq_ignore_ascii_case(name));
    let mut findings = Vec::new();
    for of in pending {
        let Work::Steps(steps) = &of.script.work else { continue };
        for (index, step) in steps.iter().enumerate().skip(of.done) {
            let Step::Command(command) = step else { continue };
            let Some(name) = command.keys().next().filter(|name| !known(name)) else { continue };
            let what = format!("{label} has no command `{name}`, which is step {} of {}", index + 1, of.name);
            let fix = match did_you_mean(name, commands.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "the server's manual has them under \"Database Commands\"".to_owned(),
            };
            findings.push(Finding::new(Level::Blocking, what).fix(fix));
        }
    }
    findings
}

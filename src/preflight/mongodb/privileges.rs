//! Whether V2's user may do what `evolve` is about to do: take the lock, keep its records, and every step of the scripts.
//! What the server lists as the user's privileges is compared with the actions that its manual names for each command
//! ("Privilege Actions"). A command that is not known here demands nothing, and nothing is certain any more behind one
//! that changes users or roles. (What `migrate` needs is a matter of its definitions: see `plan/privileges.rs`.)

use std::collections::{BTreeMap, BTreeSet};

use mongodb::Database;
use mongodb::bson::{Bson, Document};

use crate::catalog::{Collections, User};
use crate::evolve::steps::Doomed;
use crate::evolve::{Pending, Step, Work};
use crate::preflight::{Finding, Level};

/// What `evolve` does with its own collections, in any database.
const OWN: [(&str, &[&str]); 2] = [
    ("v1v2_lock", &["find", "insert", "update", "remove"]),
    ("v1v2_evolutions", &["find", "insert", "update"]),
];

/// Where `setup` was, it records a run too.
const PREPARED: [(&str, &[&str]); 2] =
    [("v1v2_meta", &["find"]), ("v1v2_runs", &["find", "insert", "update"])];

/// Actions that the built-in role `readWrite` does not give, and `dbAdmin` does.
const OF_ADMINS: [&str; 2] = ["collMod", "dropDatabase"];

/// The actions that one step needs: any of these sets will do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    /// The name of another database, if it is not V2's.
    database: Option<String>,
    /// Each: (collection, action); the collection is empty for the database as a whole.
    ways: Vec<Vec<(String, &'static str)>>,
}

/// What is lacking, or that nothing is.
pub(super) async fn look(database: &Database, label: &str, pending: &[Pending]) -> Finding {
    let Ok(collections) = Collections::read(database, &BTreeSet::new(), &BTreeSet::new()).await else {
        return Finding::new(Level::Unknown, format!("{label} does not tell what its user may do"));
    };
    let Some(user) = &collections.user else {
        return Finding::new(Level::Good, format!("{label} asks nobody who they are"));
    };
    let mut lacking: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut roles: BTreeSet<(String, &'static str)> = BTreeSet::new();
    let mut judge = |need: &Need, evolution: Option<&str>| {
        let of = need.database.as_deref().unwrap_or(database.name());
        let Some(missing) = missing(user, of, need) else { return };
        for (collection, action) in missing {
            let role = if OF_ADMINS.contains(&action) { "dbAdmin" } else { "readWrite" };
            roles.insert((of.to_owned(), role));
            let place = match (collection.as_str(), need.database.is_some()) {
                ("", _) => of.to_owned(),
                (name, true) => format!("{of}.{name}"),
                (name, false) => name.to_owned(),
            };
            let actions = lacking.entry((evolution.unwrap_or_default().to_owned(), place)).or_default();
            if !actions.iter().any(|other| other == action) {
                actions.push(action.to_owned());
            }
        }
    };
    let prepared = collections.collections.contains_key("v1v2_ledger");
    for (collection, actions) in OWN.into_iter().chain(PREPARED.into_iter().filter(|_| prepared)) {
        judge(&all(collection, actions), None);
    }
    'scripts: for of in pending {
        let Work::Steps(steps) = &of.script.work else { continue };
        for step in steps.iter().skip(of.done) {
            if changes_users(step) {
                break 'scripts;
            }
            needs(step).iter().for_each(|need| judge(need, Some(&of.name)));
        }
    }
    if lacking.is_empty() {
        let what = format!(
            "{label}: the user {} has the privileges that evolve needs, as far as can be told",
            user.name
        );
        return Finding::new(Level::Good, what);
    }
    let list: Vec<String> = lacking
        .iter()
        .map(|((evolution, place), actions)| {
            let of = if evolution.is_empty() { String::new() } else { format!(" ({evolution})") };
            format!("{} on {place}{of}", actions.join(", "))
        })
        .collect();
    let roles: Vec<String> =
        roles.iter().map(|(database, role)| format!("{{ role: {role:?}, db: {database:?} }}")).collect();
    Finding::new(
        Level::Blocking,
        format!("{label}: the user {} lacks privileges: {}", user.name, list.join("; ")),
    )
    .fix(format!(
        "run as an administrator: db.getSiblingDB({:?}).grantRolesToUser({:?}, [{}])",
        user.database,
        user.name,
        roles.join(", ")
    ))
}

/// What the user lacks of the way that is nearest; `None`: one of them is open.
fn missing<'n>(user: &User, database: &str, need: &'n Need) -> Option<Vec<(&'n String, &'static str)>> {
    let lacking = |way: &'n Vec<(String, &'static str)>| -> Vec<(&'n String, &'static str)> {
        let lacks = |(collection, action): &&(String, &'static str)| !user.may(database, collection, action);
        way.iter().filter(lacks).map(|(collection, action)| (collection, *action)).collect()
    };
    let nearest = need.ways.iter().map(lacking).min_by_key(Vec::len)?;
    (!nearest.is_empty()).then_some(nearest)
}

fn all(collection: &str, actions: &[&'static str]) -> Need {
    let way = actions.iter().map(|action| (collection.to_owned(), *action)).collect();
    Need { database: None, ways: vec![way] }
}

fn any(collection: &str, actions: &[&'static str]) -> Need {
    let ways = actions.iter().map(|action| vec![(collection.to_owned(), *action)]).collect();
    Need { database: None, ways }
}

/// `createUser`, `grantRolesToUser`, `updateRole` and so on.
fn changes_users(step: &Step) -> bool {
    let Step::Command(command) = step else { return false };
    let name = command.keys().next().map(String::as_str).unwrap_or_default();
    ["User", "Role", "Privilege"].iter().any(|word| name.contains(word))
}

/// What a step needs for certain. Collections of the system have rules of their own.
fn needs(step: &Step) -> Vec<Need> {
    let mut needs = match step {
        Step::Command(command) => of_command(command),
        Step::Update { collection, .. } => vec![all(collection, &["find", "update"])],
        Step::Aggregate { collection, pipeline, .. } => {
            let mut needs = vec![all(collection, &["find"])];
            pipeline.iter().for_each(|stage| of_stage(stage, &mut needs));
            needs
        }
        Step::Delete { collection, which: Doomed::Matching(_), .. } => {
            vec![all(collection, &["find", "remove"])]
        }
        Step::Delete { collection, which: Doomed::ListedIn(list), .. } => {
            vec![all(list, &["find"]), all(collection, &["remove"])]
        }
    };
    let ours = |need: &Need| need.ways.iter().flatten().all(|(name, _)| !name.starts_with("system."));
    needs.retain(ours);
    needs
}

fn of_command(command: &Document) -> Vec<Need> {
    let Some((name, Bson::String(target))) = command.iter().next() else {
        return match command.keys().next().map(String::as_str) {
            Some("dropDatabase") => vec![all("", &["dropDatabase"])],
            _ => Vec::new(),
        };
    };
    match name.as_str() {
        "createIndexes" => vec![all(target, &["createIndex"])],
        "dropIndexes" | "deleteIndexes" => vec![all(target, &["dropIndex"])],
        "collMod" => vec![all(target, &["collMod"])],
        "create" => vec![any(target, &["createCollection", "insert"])],
        "drop" => vec![all(target, &["dropCollection"])],
        "insert" => vec![all(target, &["insert"])],
        "update" => vec![all(target, &["update"])],
        "delete" => vec![all(target, &["remove"])],
        "findAndModify" | "findandmodify" => {
            let action = if command.get_bool("remove").unwrap_or(false) { "remove" } else { "update" };
            vec![all(target, &["find", action])]
        }
        "renameCollection" => {
            let Ok(to) = command.get_str("to") else { return Vec::new() };
            let pairs = |list: [(&str, &'static str); 4]| {
                list.map(|(collection, action)| (collection.to_owned(), action)).to_vec()
            };
            let by_parts =
                pairs([(target, "find"), (target, "dropCollection"), (to, "insert"), (to, "createIndex")]);
            // Inside of one database either will do.
            let ways = vec![vec![(String::new(), "renameCollectionSameDB")], by_parts];
            vec![Need { database: None, ways }]
        }
        _ => Vec::new(),
    }
}

/// Collections that a stage reads, or writes to.
fn of_stage(stage: &Document, needs: &mut Vec<Need>) {
    for (name, body) in stage {
        match (name.as_str(), body) {
            ("$lookup" | "$graphLookup" | "$unionWith", Bson::Document(body)) => {
                for from in ["from", "coll"].iter().filter_map(|key| body.get_str(key).ok()) {
                    needs.push(all(from, &["find"]));
                }
                for stage in body.get_array("pipeline").into_iter().flatten().filter_map(Bson::as_document) {
                    of_stage(stage, needs);
                }
            }
            ("$unionWith", Bson::String(from)) => needs.push(all(from, &["find"])),
            ("$merge", Bson::String(into)) => needs.push(all(into, &["insert", "update"])),
            ("$merge", Bson::Document(body)) => {
                let is = |key: &str, value: &str| body.get_str(key).is_ok_and(|found| found == value);
                let mut actions = Vec::new();
                if body.get_str("whenNotMatched").is_err() || is("whenNotMatched", "insert") {
                    actions.push("insert");
                }
                // The manual does not say whether keeping what is there counts as an update.
                if !is("whenMatched", "keepExisting") && !is("whenMatched", "fail") {
                    actions.push("update");
                }
                needs.extend(body.get("into").and_then(|into| written(into, &actions)));
            }
            ("$out", into) => needs.extend(written(into, &["insert", "remove"])),
            _ => {}
        }
    }
}

/// `COLLECTION` or `{ db: DATABASE, coll: COLLECTION }`.
fn written(into: &Bson, actions: &[&'static str]) -> Option<Need> {
    match into {
        Bson::String(collection) => Some(all(collection, actions)),
        Bson::Document(into) => {
            let database = into.get_str("db").ok().map(str::to_owned);
            Some(Need { database, ..all(into.get_str("coll").ok()?, actions) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;
    use crate::catalog::Privilege;

    /// In short: `find users`, ways by bars.
    fn short(step: &Step) -> Vec<String> {
        let way = |way: &Vec<(String, &'static str)>| -> String {
            way.iter().map(|(name, action)| format!("{action} {name}")).collect::<Vec<_>>().join(", ")
        };
        let need = |need: Need| need.ways.iter().map(way).collect::<Vec<_>>().join(" | ");
        needs(step).into_iter().map(need).collect()
    }

    #[test]
    fn what_each_command_needs() {
        for (command, needed) in [
            (doc! { "createIndexes": "c", "indexes": [] }, "createIndex c"),
            (doc! { "collMod": "c", "validator": {} }, "collMod c"),
            (doc! { "create": "c" }, "createCollection c | insert c"),
            (doc! { "drop": "c" }, "dropCollection c"),
            (doc! { "dropDatabase": 1 }, "dropDatabase "),
            (doc! { "findAndModify": "c", "remove": true }, "find c, remove c"),
            (
                doc! { "renameCollection": "a", "to": "b" },
                "renameCollectionSameDB  | find a, dropCollection a, insert b, createIndex b",
            ),
        ] {
            assert_eq!(short(&Step::Command(command)), [needed]);
        }
        for command in [doc! { "validate": "c" }, doc! { "ping": 1 }, doc! { "collMod": "system.views" }] {
            assert_eq!(short(&Step::Command(command)), [""; 0]);
        }
        assert!(changes_users(&Step::Command(doc! { "grantRolesToUser": "u", "roles": [] })));
        assert!(!changes_users(&Step::Command(doc! { "createIndexes": "userRoles" })));
    }

    #[test]
    fn what_an_aggregation_reads_and_writes() {
        let step = |last: Document| Step::Aggregate {
            collection: "a".to_owned(),
            pipeline: vec![
                doc! { "$lookup": { "from": "b", "pipeline": [{ "$unionWith": "c" }], "as": "x" } },
                last,
            ],
            pace: None,
        };
        let read = ["find a", "find b", "find c"];
        let with = |last: &'static str| [&read[..], &[last]].concat();
        assert_eq!(short(&step(doc! { "$merge": "d" })), with("insert d, update d"));
        let keep = doc! { "$merge": { "into": "d", "whenMatched": "keepExisting" } };
        assert_eq!(short(&step(keep)), with("insert d"));
        let elsewhere = step(doc! { "$out": { "db": "other", "coll": "d" } });
        assert_eq!(short(&elsewhere), with("insert d, remove d"));
        assert_eq!(needs(&elsewhere)[3].database.as_deref(), Some("other"));
    }

    #[test]
    fn of_several_ways_the_nearest_is_told() {
        let actions = ["dropCollection", "insert", "createIndex"].map(str::to_owned).into();
        let privilege = Privilege { database: "v2".to_owned(), collection: String::new(), actions };
        let user = User { privileges: vec![privilege], ..User::default() };
        let [need] = of_command(&doc! { "renameCollection": "a", "to": "b" }).try_into().unwrap();
        assert_eq!(missing(&user, "v2", &need), Some(vec![(&String::new(), "renameCollectionSameDB")]));
        let [need] = of_command(&doc! { "create": "a" }).try_into().unwrap();
        assert_eq!(missing(&user, "v2", &need), None);
        assert_eq!(missing(&user, "other", &need).map(|missing| missing.len()), Some(1));
    }
}

//! MongoDB as V2: its members, its user's privileges, the commands it knows, and its disk, which it tells in `dbStats`.

mod commands;
mod privileges;

use mongodb::bson::{Bson, Document, doc};

use super::{Finding, Level, Needs, disk};
use crate::connect;
use crate::error::Result;
use crate::settings::Settings;

/// Seconds that a secondary may lag behind without a word: a majority that is slower slows every commit.
const LAG: i64 = 10;

pub(super) async fn look(settings: &Settings, needs: &Needs) -> Result<Vec<Finding>> {
    let db = connect::mongodb(settings).await?;
    let label = db.place.to_string();
    let mut findings = vec![Finding::new(Level::Good, format!("{label} runs MongoDB {}", db.version))];
    if db.replica_set.is_some() {
        let status = db.client.database("admin").run_command(doc! { "replSetGetStatus": 1 }).await;
        match status {
            Ok(status) => findings.extend(members(&label, &status)),
            Err(_) => findings.push(
                Finding::new(
                    Level::Unknown,
                    format!("{label}: the user may not ask for the replica set's health"),
                )
                .fix("grant the role clusterMonitor to have it looked at"),
            ),
        }
    }
    let stats = db.database.run_command(doc! { "dbStats": 1 }).await.ok();
    let free = stats.as_ref().and_then(|stats| {
        let number = |field| stats.get(field).and_then(number);
        u64::try_from(number("fsTotalSize")?.checked_sub(number("fsUsedSize")?)?).ok()
    });
    findings.push(disk(&label, free, needs.bytes));
    if let Some(pending) = &needs.evolutions {
        findings.push(privileges::look(&db.database, &label, pending).await);
        findings.extend(commands::look(&db.database, &label, pending).await);
    }
    Ok(findings)
}

fn number(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

/// The members' health, from `replSetGetStatus`.
fn members(label: &str, status: &Document) -> Vec<Finding> {
    let members: Vec<&Document> = status
        .get_array("members")
        .map(|members| members.iter().filter_map(Bson::as_document).collect())
        .unwrap_or_default();
    let text = |member: &Document, field| member.get_str(field).unwrap_or("unknown").to_owned();
    let is_up = |member: &&&Document| member.get("health").and_then(number) == Some(1);
    let up = members.iter().filter(is_up).count();
    let mut findings = Vec::new();
    if up * 2 <= members.len() {
        findings.push(
            Finding::new(Level::Blocking, format!("{label}: only {up} of {} members are up", members.len()))
                .fix("a majority must confirm every write: start the others"),
        );
    }
    let applied =
        |member: &Document| member.get_datetime("optimeDate").ok().map(|at| at.timestamp_millis() / 1_000);
    let primary =
        members.iter().find(|member| text(member, "stateStr") == "PRIMARY").and_then(|of| applied(of));
    for member in members.iter().filter(|member| text(member, "stateStr") != "PRIMARY") {
        let (name, state) = (text(member, "name"), text(member, "stateStr"));
        if !matches!(state.as_str(), "SECONDARY" | "ARBITER") {
            findings.push(
                Finding::new(Level::Warning, format!("{label}: the member {name} is {state}"))
                    .fix("rs.status() in mongosh says why"),
            );
        } else if let (Some(primary), Some(applied)) = (primary, applied(member))
            && primary - applied > LAG
        {
            let behind = primary - applied;
            findings.push(Finding::new(
                Level::Warning,
                format!("{label}: the member {name} is {behind} s behind"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new(Level::Good, format!("{label}: all {} members are well", members.len())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::DateTime;

    #[test]
    fn members_are_judged() {
        let member = |name: &str, state: &str, health: f64, second: i64| {
            doc! { "name": name, "stateStr": state, "health": health, "optimeDate": DateTime::from_millis(second * 1_000) }
        };
        let levels = |members: Vec<Document>| -> Vec<Level> {
            members_of(members).iter().map(|finding| finding.level).collect()
        };
        let (primary, well) = (member("a:1", "PRIMARY", 1.0, 100), member("b:1", "SECONDARY", 1.0, 99));
        assert_eq!(levels(vec![primary.clone(), well.clone()]), [Level::Good]);
        let slow = member("c:1", "SECONDARY", 1.0, 50);
        assert_eq!(levels(vec![primary.clone(), well, slow]), [Level::Warning]);
        let down = member("d:1", "(not reachable/healthy)", 0.0, 0);
        assert_eq!(levels(vec![primary.clone(), down.clone()]), [Level::Blocking, Level::Warning]);
        let arbiter = doc! { "name": "e:1", "stateStr": "ARBITER", "health": 1.0 };
        assert_eq!(levels(vec![primary, down, arbiter]), [Level::Warning]);
    }

    fn members_of(list: Vec<Document>) -> Vec<Finding> {
        members("V2", &doc! { "members": list })
    }
}

//! In which order evolutions are applied and taken back. Pure: folders and records in, a list out.

use std::collections::BTreeMap;

use super::folder::{Problems, number_of};
use super::manifest::Required;
use super::record::{Record, State};
use super::{Direction, Evolution, Evolutions};
use crate::definition::problem::Problem;
use crate::error::{Error, Result};

/// Finds what each requires, and puts that first; otherwise they stand by number. `numbers`: of all folders, those with
/// nothing for this database included, which nobody has to wait for.
pub(super) fn sorted(
    found: Vec<(Evolution, Vec<Required>)>,
    numbers: &BTreeMap<u32, String>,
    problems: &mut Problems,
) -> Vec<Evolution> {
    let mut waiting = Vec::new();
    for (mut evolution, requires) in found {
        for Required { text, at } in requires {
            let number = numbers.iter().find(|(_, name)| **name == text).map(|(number, _)| *number);
            let number = number.or_else(|| text.parse().ok().filter(|number| numbers.contains_key(number)));
            match number {
                Some(number) => evolution.requires.push(number),
                None => {
                    let problem = Problem::at(at, format!("there is no evolution `{text}`"), "unknown");
                    problems.push(problem.suggest(&text, numbers.values().map(String::as_str)));
                }
            }
        }
        waiting.push(evolution);
    }
    waiting.sort_by_key(|evolution| evolution.number);
    let mut list: Vec<Evolution> = Vec::new();
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|one| {
            one.requires.iter().all(|number| !waiting.iter().any(|other| other.number == *number))
        });
        match ready {
            Some(ready) => list.push(waiting.remove(ready)),
            None => {
                let names: Vec<&str> = waiting.iter().map(|evolution| evolution.name.as_str()).collect();
                problems.push(
                    Problem::general(format!(
                        "these require each other, so none can be the first: {}",
                        names.join(", ")
                    ))
                    .help("take one out of `requires`"),
                );
                list.append(&mut waiting);
            }
        }
    }
    list
}

/// What `up` has to do: all that is pending up to a number, and what that requires.
///
/// # Errors
/// Usage: there is no such number, or scripts that are not filled in. Refused: something that was applied was edited since, or its taking back stands
/// unfinished.
pub fn up<'e>(evolutions: &'e Evolutions, records: &[Record], to: Option<u32>) -> Result<Vec<&'e Evolution>> {
    check_target(evolutions, to)?;
    refuse_edited(evolutions, records)?;
    if let Some(half) =
        records.iter().find(|record| record.is_partial() && record.direction == Direction::Down)
    {
        return Err(Error::refused(format!("{} is half taken back: {}", half.name, half.trouble()))
            .help("run `v1v2 evolve down` again: it goes on where it stopped (mend its script first if that was the cause)"));
    }
    let pending =
        |evolution: &&Evolution| !records.iter().any(|of| of.number == evolution.number && of.is_applied());
    let mut wanted: Vec<u32> = evolutions
        .list
        .iter()
        .filter(pending)
        .map(|evolution| evolution.number)
        .filter(|number| to.is_none_or(|to| *number <= to))
        .collect();
    // What they require may have a higher number.
    let mut next = 0;
    while let Some(number) = wanted.get(next) {
        let requires =
            evolutions.find(*number).map(|evolution| evolution.requires.clone()).unwrap_or_default();
        for number in requires {
            if !wanted.contains(&number) && evolutions.find(number).as_ref().is_some_and(pending) {
                wanted.push(number);
            }
        }
        next += 1;
    }
    let list: Vec<&Evolution> =
        evolutions.list.iter().filter(|evolution| wanted.contains(&evolution.number)).collect();
    let unfilled: Vec<&str> = list
        .iter()
        .flat_map(|evolution| evolution.unfilled())
        .map(|script| script.file.label.as_str())
        .collect();
    match unfilled.len() {
        0 => Ok(list),
        _ => Err(Error::usage(format!(
            "nothing is written yet in {}; nothing was changed",
            unfilled.join(", ")
        ))
        .help("fill it in, or remove the folder: what is applied empty cannot be filled in later")),
    }
}

/// Those of a list that stand before one which is applied already, and that one: whoever wrote it may not have known of them,
/// and other databases may have them in the opposite order. What was applied early because others require it is in order.
pub fn late<'e, 'r>(
    evolutions: &Evolutions,
    records: &'r [Record],
    list: &'e [Evolution],
) -> Vec<(&'e Evolution, &'r Record)> {
    let pulled = |number: u32| {
        evolutions.list.iter().any(|other| other.number < number && other.requires.contains(&number))
    };
    let applied = records.iter().filter(|record| record.is_applied() && !pulled(record.number));
    let Some(last) = applied.max_by_key(|record| record.number) else { return Vec::new() };
    let begun = |number: u32| records.iter().any(|of| of.number == number && of.is_partial());
    let late = |of: &&Evolution| of.number < last.number && !begun(of.number);
    list.iter().filter(late).map(|evolution| (evolution, last)).collect()
}

/// What `down` has to take back, in this order: everything above a number, or the one that was applied last.
///
/// # Errors
/// Usage: there is no such number. Refused, with all of it: one of them was edited since, is not in the folder, cannot be
/// taken back, is half applied, or something that stays requires it. `force` waives what the person who runs it can answer for: that it
/// is irreversible or half applied.
pub fn down<'e>(
    evolutions: &'e Evolutions,
    records: &[Record],
    to: Option<u32>,
    force: bool,
) -> Result<Vec<&'e Evolution>> {
    check_target(evolutions, to.filter(|to| *to > 0))?;
    refuse_edited(evolutions, records)?;
    let mut there: Vec<&Record> =
        records.iter().filter(|record| record.is_applied() || record.is_partial()).collect();
    // What stands half done came last.
    there.sort_by_key(|record| (record.is_partial(), record.serial));
    there.reverse();
    let going: Vec<&Record> = match to {
        Some(to) => there.iter().filter(|record| record.number > to).copied().collect(),
        None => there.first().copied().into_iter().collect(),
    };
    let (mut list, mut obstacles) = (Vec::new(), Vec::new());
    for record in &going {
        let Some(evolution) = evolutions.find(record.number) else {
            let folder = evolutions.folder.display();
            let missing =
                Error::refused(format!("{} was applied, and {folder} does not have it", record.name));
            obstacles.push(
                missing.help("get the folder's version that has it: only its own script can take it back"),
            );
            continue;
        };
        let requires = |other: &&&Record| {
            !going.iter().any(|gone| gone.number == other.number)
                && evolutions.find(other.number).is_some_and(|other| other.requires.contains(&record.number))
        };
        if let Some(other) = there.iter().find(requires) {
            obstacles.push(
                Error::refused(format!("{} requires {}, which would go", other.name, record.name))
                    .help(format!("take {} back first", other.name)),
            );
        }
        if let Some(reason) = evolution.irreversible.as_ref().filter(|_| !force) {
            let help = match evolution.down {
                Some(_) => "--force runs its script all the same, which cannot bring everything back",
                None => "--force notes it as taken back without changing any data",
            };
            obstacles.push(
                Error::refused(format!("{} cannot be taken back: {reason}", evolution.name)).help(help),
            );
        }
        if record.is_partial() && record.direction == Direction::Up && !force {
            obstacles.push(
                Error::refused(format!("{} is half applied: {}", record.name, record.trouble())).help(
                    "finish it by `v1v2 evolve up` (mend its script first if that was the cause); --force runs the script that \
                     takes it back on what is there",
                ),
            );
        }
        list.push(evolution);
    }
    Error::in_the_way(obstacles)?;
    Ok(list)
}

fn check_target(evolutions: &Evolutions, to: Option<u32>) -> Result<()> {
    let Some(to) = to.filter(|to| evolutions.find(*to).is_none()) else { return Ok(()) };
    let last = evolutions.list.iter().map(|evolution| evolution.number).max().unwrap_or(0);
    Err(Error::usage(format!(
        "--to {to}: there is no evolution of this number in {}",
        evolutions.folder.display()
    ))
    .help(format!("the last one is {last}; `v1v2 evolve status` lists all")))
}

/// Records whose evolution looks different now. One that is half done may be mended: see [`Record::is_partial`].
pub fn edited<'r>(evolutions: &Evolutions, records: &'r [Record]) -> Vec<&'r Record> {
    let differs = |record: &&Record| {
        evolutions.find(record.number).is_some_and(|evolution| {
            let renamed = number_of(&record.name) == Some(evolution.number) && record.name != evolution.name;
            record.is_applied() && (record.checksum != evolution.checksum || renamed)
        })
    };
    records.iter().filter(differs).collect()
}

fn refuse_edited(evolutions: &Evolutions, records: &[Record]) -> Result<()> {
    let names: Vec<&str> = edited(evolutions, records).iter().map(|record| record.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let what = match names.len() {
        1 => "was edited after it had been applied",
        _ => "were edited after they had been applied",
    };
    Err(Error::refused(format!("{} {what}", names.join(", "))).help(
        "bring back what was applied, and write the change as a new evolution; `v1v2 repair` accepts the folder as it is now",
    ))
}

/// Whether everything that it requires is applied: what `requires` promises, looked at again before each one.
pub fn unmet<'e>(
    evolution: &Evolution,
    evolutions: &'e Evolutions,
    records: &[Record],
) -> Option<&'e Evolution> {
    let applied = |number: u32| records.iter().any(|of| of.number == number && of.state == State::Applied);
    let missing = evolution.requires.iter().find(|number| !applied(**number));
    missing.and_then(|number| evolutions.find(*number))
}

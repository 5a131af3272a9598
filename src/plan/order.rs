//! Orders that foreign keys and references demand, and the cycles that make one impossible.

use super::v2::V2;
use crate::catalog::Catalog;
use crate::definition::problem::Problem;
use crate::definition::{Definitions, EntityDefinition, FillDefinition, RowsDefinition, ScopeDefinition};
use crate::plan::{Entity, Fill, When, Write};

/// Sorts `0..count` so that what `before(i)` names comes before `i`; where nothing decides, the smaller number comes
/// first. `Err`: a cycle, with the first number repeated at its end.
pub(super) fn sort(count: usize, before: impl Fn(usize) -> Vec<usize>) -> Result<Vec<usize>, Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(count);
    while order.len() < count {
        let waiting = |item: &usize| !order.contains(item);
        let ready = |item: &usize| before(*item).iter().all(|earlier| order.contains(earlier));
        match (0..count).filter(waiting).find(ready) {
            Some(item) => order.push(item),
            None => {
                // Each waiting item waits for another one: following them must come round.
                let mut path: Vec<usize> = (0..count).filter(waiting).take(1).collect();
                loop {
                    let next = path.last().and_then(|last| before(*last).into_iter().find(waiting));
                    let Some(next) = next else { return Err(path) };
                    if let Some(start) = path.iter().position(|item| *item == next) {
                        path.drain(..start);
                        path.push(next);
                        return Err(path);
                    }
                    path.push(next);
                }
            }
        }
    }
    Ok(order)
}

/// The order of entities: indices into [`Definitions::entities`]. A cycle is a problem, and the entities on it
/// then stand in the order of the definitions, so that the other checks can go on.
pub(super) fn entities(definitions: &Definitions, v2: V2<'_>, problems: &mut Vec<Problem>) -> Vec<usize> {
    let entities = &definitions.entities;
    let index = |name: &str| entities.iter().position(|entity| entity.name.value == name);
    let mut before: Vec<Vec<usize>> = entities
        .iter()
        .map(|entity| {
            let after = entity.after.iter().map(|name| name.value.as_str());
            // Rows of one entity may refer to each other: they are read in an order that allows for it.
            let others = entity.references_before().filter(|name| name.value != entity.name.value);
            after.chain(others.map(|name| name.value.as_str())).filter_map(index).collect()
        })
        .collect();
    loop {
        match sort(entities.len(), |item| before[item].clone()) {
            Ok(order) => return order,
            Err(cycle) => {
                let names: Vec<&str> = cycle.iter().map(|item| entities[*item].name.value.as_str()).collect();
                let message = format!("entities depend on each other in a circle: {}", names.join(" → "));
                let label = "none of them can come first";
                let help = if names.len() == 2 {
                    "leave its own name out of `after`: rows that refer to rows of their own entity need nothing"
                        .to_owned()
                } else {
                    let links = cycle.windows(2).map(|link| (&entities[link[0]], &entities[link[1]]));
                    way_out(&links.collect::<Vec<_>>(), v2)
                };
                problems.push(Problem::at(entities[cycle[0]].name.at, message, label).help(help));
                let (first, second) = (cycle[0], cycle[1]);
                before[first].retain(|item| *item != second);
            }
        }
    }
}

/// How a circle of entities can be opened: each refers to the next, or names it in its `after`.
fn way_out(links: &[(&EntityDefinition, &EntityDefinition)], v2: V2<'_>) -> String {
    let (mut open, mut closed, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for (entity, next) in links {
        let (own, other) = (&entity.name.value, &next.name.value);
        if entity.references_before().all(|name| name.value != *other) {
            named.push(format!("{other:?} out of the `after` of `{own}`"));
            continue;
        }
        let (mut can, mut cannot) = (Vec::new(), Vec::new());
        for write in &entity.writes {
            for column in write.columns.iter().filter(|column| column.later.is_none()) {
                let refers = matches!(
                    column.fill.as_ref().map(|fill| &fill.value),
                    Some(FillDefinition::Reference { entity, .. }) if entity.value == *other
                );
                if refers {
                    let store = v2.resolve(&write.table.value);
                    let whole = matches!(write.rows, RowsDefinition::Each(_)) || write.inside.is_some();
                    let required = store.is_some_and(|store| store.requires(&column.name.value));
                    let place = match &write.inside {
                        Some(array) => format!("{}.{}.{}", write.table.value, array.value, column.name.value),
                        None => format!("{}.{}", write.table.value, column.name.value),
                    };
                    if whole || !required { can.push(place) } else { cannot.push(place) }
                }
            }
        }
        let scope = entity.account.as_ref().and_then(|account| account.scope.as_ref());
        let scoped = scope.is_some_and(
            |scope| matches!(&scope.value, ScopeDefinition::Reference { entity, .. } if entity.value == *other),
        );
        // Only what opens the whole link is a way out.
        if scoped || (can.is_empty() && cannot.is_empty()) {
            continue;
        }
        if cannot.is_empty() { open.push(can.join(" and ")) } else { closed.push(cannot.join(" and ")) }
    }
    let mut ways = Vec::new();
    if !named.is_empty() {
        ways.push(format!("leave {}", named.join(", or ")));
    }
    match open.as_slice() {
        [] => {}
        [one] => {
            ways.push(format!("write `later = true` in what fills {one}: it is then filled in at the end"))
        }
        several => ways.push(format!(
            "write `later = true` in what fills one of these, which is then filled in at the end: {}",
            several.join(", or ")
        )),
    }
    if ways.is_empty() && !closed.is_empty() {
        ways.push(format!(
            "let {} be null in V2, and write `later = true` in what fills it: it is then filled in at the end",
            closed.join(", or ")
        ));
    }
    if ways.is_empty() {
        ways.push(
            "leave one of these references out, or define the rows that refer as an entity of their own, after the others"
                .to_owned(),
        );
    }
    ways.join("; or ")
}

/// Sorts an entity's writes by V2's foreign keys. Only keys count whose columns are all written, and at once: the
/// others are null.
pub(super) fn writes(
    entity: &mut Entity,
    at: crate::definition::problem::At,
    v2: &Catalog,
    problems: &mut Vec<Problem>,
) {
    let writes = std::mem::take(&mut entity.writes);
    let parents = |child: usize, deferrable: bool| -> Vec<usize> {
        let child_write = &writes[child];
        let Some(table) = v2.tables.get(&child_write.table) else { return Vec::new() };
        let written =
            |name: &String| child_write.columns.iter().any(|column| column.name == *name && !column.later);
        let keys = table.foreign_keys.iter().filter(|key| deferrable || !key.deferrable);
        keys.filter(|key| key.columns.iter().all(written) && key.references != child_write.table)
            .flat_map(|key| (0..writes.len()).filter(|parent| writes[*parent].table == key.references))
            .collect()
    };
    let order = sort(writes.len(), |child| parents(child, true)).or_else(|_| {
        // A deferrable key is checked when the chunk commits, so its parent may come later.
        sort(writes.len(), |child| parents(child, false))
    });
    match order {
        Ok(order) => {
            let mut writes: Vec<Option<Write>> = writes.into_iter().map(Some).collect();
            entity.writes = order.into_iter().filter_map(|index| writes[index].take()).collect();
        }
        Err(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|item| writes[*item].table.name.as_str()).collect();
            let message = format!("V2's foreign keys go round in a circle: {}", names.join(" → "));
            let mut help = String::new();
            for link in cycle.windows(2) {
                let (child, parent) = (&writes[link[0]], &writes[link[1]]);
                let keys = v2.tables.get(&child.table).into_iter().flat_map(|table| &table.foreign_keys);
                let columns = keys.filter(|key| key.references == parent.table).flat_map(|key| &key.columns);
                let can_wait = |name: &&String| {
                    child.columns.iter().any(|column| {
                        let waits =
                            matches!(column.fill, Fill::Id | Fill::DerivedId(_) | Fill::Reference { .. });
                        column.name == **name && waits && !column.not_null
                    })
                };
                if let Some(name) = columns.into_iter().find(can_wait) {
                    help = format!(
                        "write `later = true` in what fills {}.{name}: it is then filled in at the end; or ",
                        child.table.name
                    );
                    break;
                }
            }
            help.push_str(
                "make one of these foreign keys deferrable (alter table … alter constraint … deferrable), or leave its column out",
            );
            problems.push(Problem::at(at, message, "no write of this entity can come first").help(help));
            entity.writes = writes;
        }
    }
}

/// The order of an entity's documents. Nothing holds MongoDB to one; whoever reads while a chunk is written sees none
/// of it. The account comes first and arrays after the documents that they stand in, as the target wants them.
pub(super) fn documents(entity: &mut Entity) {
    entity.writes.sort_by_key(|write| (write.inside.is_some(), write.when != When::Account));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_stably_and_names_cycles() {
        let before = |item: usize| match item {
            0 => vec![2],
            3 => vec![0],
            _ => vec![],
        };
        assert_eq!(sort(4, before), Ok(vec![1, 2, 0, 3]));
        assert_eq!(sort(3, |item| vec![(item + 1) % 3]), Err(vec![0, 1, 2, 0]));
        assert_eq!(sort(2, |item| if item == 1 { vec![1] } else { vec![] }), Err(vec![1, 1]));
        // 0 waits for the cycle but is not on it.
        assert_eq!(sort(3, |item| [vec![1], vec![2], vec![1]][item].clone()), Err(vec![1, 2, 1]));
    }
}

//! Orders that foreign keys and references demand, and the cycles that make one impossible.

use crate::catalog::Catalog;
use crate::definition::Definitions;
use crate::definition::problem::Problem;
use crate::plan::{Entity, When, Write};

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
pub(super) fn entities(definitions: &Definitions, problems: &mut Vec<Problem>) -> Vec<usize> {
    let entities = &definitions.entities;
    let index = |name: &str| entities.iter().position(|entity| entity.name.value == name);
    let mut before: Vec<Vec<usize>> = entities
        .iter()
        .map(|entity| {
            let after = entity.after.iter().map(|name| name.value.as_str());
            // Rows of one entity may refer to each other: they are read in an order that allows for it.
            let others = entity.references().filter(|name| name.value != entity.name.value);
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
                } else {
                    "leave one of these references out, or define the rows that refer as an entity of their own, after the others"
                };
                problems.push(Problem::at(entities[cycle[0]].name.at, message, label).help(help));
                let (first, second) = (cycle[0], cycle[1]);
                before[first].retain(|item| *item != second);
            }
        }
    }
}

/// Sorts an entity's writes by V2's foreign keys. Only keys count whose columns are all written: the others stay null.
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
        let written = |name: &String| child_write.columns.iter().any(|column| column.name == *name);
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
            problems.push(
                Problem::at(at, message, "no write of this entity can come first")
                    .help("make one of these foreign keys deferrable (alter table … alter constraint … deferrable), or leave its column out"),
            );
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

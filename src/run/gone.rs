//! `--prune`: removes what V1 no longer has.
//!
//! Entities go from the last to the first, so that what refers to others goes before them. Where they refer to each other in a
//! circle there is no such order: they go together, with all that stand between them.

use std::ops::RangeInclusive;
use std::sync::PoisonError;

use super::Shared;
use crate::error::Result;
use crate::plan::Plan;
use crate::target::{RunLock, Trial};

/// Who removes.
pub(super) enum Remover<'r> {
    /// The run.
    Real(&'r mut dyn RunLock),
    /// A dry run.
    Trial(&'r mut dyn Trial),
}

/// Removes rows of V2, and counts them.
pub(super) async fn prune(shared: &Shared, mut remover: Remover<'_>) -> Result<()> {
    let gone = std::mem::take(&mut *shared.gone.lock().unwrap_or_else(PoisonError::into_inner));
    for together in together(&shared.plan, &gone).into_iter().rev() {
        let some = together.filter(|&entity| !gone[entity].is_empty());
        let some: Vec<(usize, &[String])> = some.map(|entity| (entity, &*gone[entity])).collect();
        for (entity, keys) in &some {
            let name = &shared.plan.entities[*entity].name;
            let does = if shared.dry_run { "trying to remove" } else { "removing" };
            shared.observer.step(&format!("{does} {} rows of {name} that V1 no longer has", keys.len()));
        }
        let on_edited = shared.settings.on_edited;
        let pruned = match &mut remover {
            Remover::Real(lock) => lock.prune(&shared.plan, &some, on_edited).await?,
            Remover::Trial(trial) => trial.prune(&some, on_edited).await?,
        };
        for ((entity, _), pruned) in some.iter().zip(pruned) {
            shared.summary.pruned(*entity, pruned);
        }
    }
    Ok(())
}

/// Ranges of entities whose rows go together; most consist of one.
fn together(plan: &Plan, gone: &[Vec<String>]) -> Vec<RangeInclusive<usize>> {
    let has = |entity: usize| gone.get(entity).is_some_and(|keys| !keys.is_empty());
    let circles = (0..plan.entities.len()).filter(|&entity| has(entity)).flat_map(|entity| {
        let others = plan.entities[entity].later_references().filter(|&other| has(other));
        others.map(move |other| (entity.min(other), entity.max(other)))
    });
    ranges(gone.len(), has, &circles.collect::<Vec<_>>())
}

/// Joins what must not be apart: all from the first to the last of each pair.
fn ranges(
    entities: usize,
    has: impl Fn(usize) -> bool,
    pairs: &[(usize, usize)],
) -> Vec<RangeInclusive<usize>> {
    let mut ranges = Vec::new();
    let mut first = 0;
    while first < entities {
        let (mut last, mut at) = (first, first);
        while at <= last {
            last = pairs.iter().filter(|pair| pair.0 == at).map(|pair| pair.1).fold(last, usize::max);
            at += 1;
        }
        if (first..=last).any(&has) {
            ranges.push(first..=last);
        }
        first = last + 1;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn circles_go_together_with_what_is_between_them() {
        let all = |_| true;
        assert_eq!(ranges(3, all, &[]), [0..=0, 1..=1, 2..=2]);
        assert_eq!(ranges(3, |at| at == 1, &[(1, 1)]), [1..=1]);
        assert_eq!(ranges(6, all, &[(1, 3), (2, 4)]), [0..=0, 1..=4, 5..=5]);
        assert_eq!(ranges(3, |_| false, &[]), []);
    }
}

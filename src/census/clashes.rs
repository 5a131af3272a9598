//! Which rows need a close look: those that share an address with somebody, as far as anybody will ask about them.
//!
//! Most rows of a later run are closed: they are in V2 and have not changed. A group of rows with one address in which all
//! are closed decides nothing for anybody, so nobody has to look at it. An account that has rows of several groups
//! ties these groups together.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::existing::{Existing, NOBODY};
use super::survey::{Joined, Rows, flag};

/// The rows, ascending. `claims` are (hash of an email, row), sorted.
pub(super) fn wanted(rows: &Rows, existing: &Existing, claims: &[(u64, u32)], joined: &[Joined]) -> Vec<u32> {
    let mut ties = Ties::of(existing, joined);
    let open = |row: &u32| !rows.has(*row, flag::CLOSED);
    let mut wanted: Vec<u32> = joined.iter().map(|joined| joined.row).filter(open).collect();
    let mut at = 0;
    for same in claims.chunk_by(|a, b| a.0 == b.0) {
        let group = at..at + same.len();
        at = group.end;
        if clashes(rows, existing, same) {
            ties.note(&group, same);
            if same.iter().any(|(_, row)| open(row)) {
                wanted.extend(same.iter().map(|(_, row)| *row));
            }
        }
    }
    let tied = ties.follow(&wanted, claims);
    wanted.extend(tied);
    wanted.sort_unstable();
    wanted.dedup();
    wanted.shrink_to_fit();
    wanted
}

/// Whether there is more to say about the rows with one address than that it is theirs.
fn clashes(rows: &Rows, existing: &Existing, same: &[(u64, u32)]) -> bool {
    let (email, row) = same[0];
    let by_another = |by| by == NOBODY || existing.ours[by as usize].row != row;
    same.len() > 1
        || rows.has(row, flag::EMAIL_DIFFERS)
        || !existing.is_empty() && existing.email_holders(email).any(by_another)
}

/// An account that has more rows than its founder's.
struct Shared {
    /// `None` if V1 does not have it any more.
    founder: Option<u32>,
    joined: Vec<u32>,
}

/// The accounts that tie rows, and the groups of these rows, together.
struct Ties {
    accounts: Vec<Shared>,
    /// The account of each row that is a part of one.
    account_of: HashMap<u32, usize>,
    /// Of these rows: the group of claims that they are in, if it clashes.
    group_of: HashMap<u32, Range<usize>>,
}

impl Ties {
    fn of(existing: &Existing, joined: &[Joined]) -> Self {
        let mut this = Self { accounts: Vec::new(), account_of: HashMap::new(), group_of: HashMap::new() };
        let mut by_known = HashMap::new();
        for joined in joined {
            let account = *by_known.entry(joined.known).or_insert_with(|| {
                let founder = Some(existing.ours[joined.known as usize].row).filter(|row| *row != NOBODY);
                this.accounts.push(Shared { founder, joined: Vec::new() });
                this.account_of.extend(founder.map(|row| (row, this.accounts.len() - 1)));
                this.accounts.len() - 1
            });
            this.accounts[account].joined.push(joined.row);
            this.account_of.insert(joined.row, account);
        }
        this
    }

    fn note(&mut self, group: &Range<usize>, same: &[(u64, u32)]) {
        let parts = same.iter().map(|(_, row)| *row).filter(|row| self.account_of.contains_key(row));
        self.group_of.extend(parts.map(|row| (row, group.clone())));
    }

    /// The rows that are tied to these.
    fn follow(&self, wanted: &[u32], claims: &[(u64, u32)]) -> HashSet<u32> {
        let mut seen = vec![false; self.accounts.len()];
        let mut tied = HashSet::new();
        let mut left: Vec<u32> = wanted.to_vec();
        while let Some(row) = left.pop() {
            let Some(&account) = self.account_of.get(&row) else { continue };
            if std::mem::replace(&mut seen[account], true) {
                continue;
            }
            let Shared { founder, joined } = &self.accounts[account];
            let groups = founder.iter().chain(joined).filter_map(|row| self.group_of.get(row));
            let in_groups = groups.flat_map(|group| &claims[group.clone()]).map(|(_, row)| *row);
            for row in in_groups.chain(joined.iter().copied()) {
                if tied.insert(row) {
                    left.push(row);
                }
            }
        }
        tied
    }
}

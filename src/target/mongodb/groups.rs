//! What has to be removed at one and the same moment, and in which order: MongoDB has no foreign keys, so whoever looks at V2 between two
//! transactions of a removal, or after one of them was the last, must not find a reference that leads nowhere.
//!
//! Rows that refer to each other in a circle are one group (a strongly connected component, found by Tarjan's algorithm: SIAM
//! Journal on Computing 1 (1972), pages 146 to 160). Between groups there is an order: what refers goes before what it refers to.

/// Not yet seen, in [`Search::number`].
const NONE: usize = usize::MAX;

/// The groups of rows that are numbered from 0, each before those that it refers to; in a group the rows are in order. Without any
/// reference each row is alone, and they keep their order.
pub fn groups(rows: usize, mut refers: Vec<(usize, usize)>) -> Vec<Vec<usize>> {
    refers.sort_unstable();
    refers.dedup();
    let mut search = Search {
        refers,
        number: vec![NONE; rows],
        lowest: vec![NONE; rows],
        open: Vec::new(),
        is_open: vec![false; rows],
        count: 0,
        found: Vec::new(),
    };
    // The first group to be found refers to none of the others, so it is the last one to go.
    for row in (0..rows).rev() {
        if search.number[row] == NONE {
            search.from(row);
        }
    }
    search.found.reverse();
    search.found
}

struct Search {
    /// Who refers to whom, sorted.
    refers: Vec<(usize, usize)>,
    /// When a row was seen first.
    number: Vec<usize>,
    /// The earliest row that is still open and can be reached from it.
    lowest: Vec<usize>,
    /// Rows whose group is not known yet.
    open: Vec<usize>,
    is_open: Vec<bool>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn enter(&mut self, row: usize) -> (usize, usize) {
        (self.number[row], self.lowest[row]) = (self.count, self.count);
        self.count += 1;
        self.open.push(row);
        self.is_open[row] = true;
        (row, self.refers.partition_point(|(from, _)| *from < row))
    }

    /// Goes along references, without recursion: a chain may be as long as a table.
    fn from(&mut self, row: usize) {
        // Each row on the way, with the next of its references.
        let mut way = vec![self.enter(row)];
        while let Some((row, next)) = way.last_mut() {
            let row = *row;
            if let Some((_, to)) = self.refers.get(*next).copied().filter(|(from, _)| *from == row) {
                *next += 1;
                if self.number[to] == NONE {
                    way.push(self.enter(to));
                } else if self.is_open[to] {
                    self.lowest[row] = self.lowest[row].min(self.number[to]);
                }
                continue;
            }
            way.pop();
            if let Some((before, _)) = way.last() {
                self.lowest[*before] = self.lowest[*before].min(self.lowest[row]);
            }
            if self.lowest[row] == self.number[row] {
                let first = self.open.iter().rposition(|open| *open == row).unwrap_or(0);
                let mut group = self.open.split_off(first);
                group.iter().for_each(|row| self.is_open[*row] = false);
                group.sort_unstable();
                self.found.push(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::groups;

    #[test]
    fn rows_without_references_keep_their_order() {
        assert_eq!(groups(3, vec![]), [[0], [1], [2]]);
        assert_eq!(groups(0, vec![]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn what_refers_goes_first_and_circles_go_together() {
        assert_eq!(groups(3, vec![(0, 0), (1, 0), (2, 1)]), [[2], [1], [0]]);
        assert_eq!(groups(5, vec![(0, 3), (3, 0), (0, 1), (4, 3)]), [vec![2], vec![4], vec![0, 3], vec![1]]);
    }

    #[test]
    fn a_chain_as_long_as_a_table_is_no_matter() {
        let rows = 300_000;
        let chain = groups(rows, (1..rows).map(|row| (row, row - 1)).collect());
        assert!(chain.iter().map(|group| group[0]).eq((0..rows).rev()));
        let circle = groups(rows, (0..rows).map(|row| (row, (row + 1) % rows)).collect());
        assert_eq!(circle.iter().map(Vec::len).collect::<Vec<_>>(), [rows]);
    }

    proptest! {
        #[test]
        fn groups_are_what_reaches_each_other(refers in prop::collection::vec((0..12_usize, 0..12_usize), 0..30)) {
            let mut reaches = [[false; 12]; 12];
            (0..12).for_each(|row| reaches[row][row] = true);
            for _ in 0..12 {
                for &(from, to) in &refers {
                    for row in reaches.iter_mut().filter(|row| row[from]) {
                        row[to] = true;
                    }
                }
            }
            let found = groups(12, refers.clone());
            let mut place = [usize::MAX; 12];
            for (at, group) in found.iter().enumerate() {
                group.iter().for_each(|row| place[*row] = at);
            }
            for (from, of) in reaches.iter().enumerate() {
                for (to, reached) in of.iter().enumerate() {
                    prop_assert_eq!(place[from] == place[to], *reached && reaches[to][from]);
                    prop_assert!(!reached || place[from] <= place[to]);
                }
            }
        }
    }
}

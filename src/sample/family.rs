//! Who belongs to whom: how many of each kind there are, and families of parents and children in row order.
//!
//! A family is a run of neighbouring parents and a run of neighbouring students. That way three tables
//! (parents, students, who belongs to whom) can be written one after the other by walking the same families again,
//! without keeping any of them.

use std::ops::Range;

use super::random::{Random, Stream};

/// How many rows each table gets. Of `people`, 6 % are teachers, 38 % parents and the rest students: about what a
/// school with 17 students to a teacher has. There is one school for 400 people, and at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) schools: u64,
    pub(super) teachers: u64,
    pub(super) parents: u64,
    pub(super) students: u64,
}

/// Every twelfth teacher is a parent too.
const TEACHERS_PER_LINKED: u64 = 12;
/// Which of the twelve.
const LINKED_PLACE: u64 = 5;

impl Counts {
    pub(super) fn of(people: u64) -> Self {
        let teachers = (people * 6 + 50) / 100;
        let parents = (people * 38 + 50) / 100;
        Self { schools: (people / 400).max(1), teachers, parents, students: people - teachers - parents }
    }

    /// How many teachers are parents too.
    pub(super) fn linked(self) -> u64 {
        ((self.teachers + TEACHERS_PER_LINKED - 1 - LINKED_PLACE) / TEACHERS_PER_LINKED).min(self.parents)
    }

    /// Is this teacher a parent too?
    pub(super) fn is_linked(self, teacher: u64) -> bool {
        teacher % TEACHERS_PER_LINKED == LINKED_PLACE && teacher / TEACHERS_PER_LINKED < self.linked()
    }

    /// The teacher who this parent is, if any. Linked parents are spread evenly over the table.
    pub(super) fn teacher_of_parent(self, parent: u64) -> Option<u64> {
        let stride = self.parents.checked_div(self.linked())?;
        let place = parent / stride;
        (parent.is_multiple_of(stride) && place < self.linked())
            .then_some(place * TEACHERS_PER_LINKED + LINKED_PLACE)
    }
}

/// Some parents (0 to 3) and their children, as row numbers of their tables.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) number: u64,
    pub(super) parents: Range<u64>,
    pub(super) students: Range<u64>,
}

/// Walks all families in row order; together they hold each parent and each student once.
#[derive(Debug)]
pub(super) struct Families {
    seed: u64,
    counts: Counts,
    next: Family,
}

impl Families {
    pub(super) fn new(seed: u64, counts: Counts) -> Self {
        Self { seed, counts, next: Family { number: 0, parents: 0..0, students: 0..0 } }
    }
}

impl Iterator for Families {
    type Item = Family;

    fn next(&mut self) -> Option<Family> {
        let (parents_left, students_left) =
            (self.counts.parents - self.next.parents.end, self.counts.students - self.next.students.end);
        if parents_left == 0 && students_left == 0 {
            return None;
        }
        let mut random = Random::new(self.seed, Stream::Family, self.next.number);
        let parents: u64 = match random.below(100) {
            0..2 => 0,
            2..32 => 1,
            32..97 => 2,
            _ => 3,
        };
        let mut children: u64 = match random.below(100) {
            0..3 => 0,
            3..23 => 1,
            23..55 => 2,
            55..80 => 3,
            80..95 => 4,
            _ => 5,
        };
        // Keeps both tables on course, so that the last families are not all orphans or all childless.
        let course = |parents: u64, students: u64| {
            u128::from(students) * u128::from(self.counts.parents)
                < u128::from(parents) * u128::from(self.counts.students)
        };
        if course(self.next.parents.end, self.next.students.end) {
            children += u64::from(random.chance(250));
        } else if children > 1 {
            children -= u64::from(random.chance(250));
        }
        if parents + children == 0 || (parents == 0 && students_left == 0) {
            children = 1;
        }
        // One kind is used up: the rest of the other kind are families without it.
        let parents = if students_left == 0 { parents.max(1) } else { parents };
        let children = if parents_left == 0 { children.max(1) } else { children };
        let family = Family {
            number: self.next.number,
            parents: self.next.parents.end..self.next.parents.end + parents.min(parents_left),
            students: self.next.students.end..self.next.students.end + children.min(students_left),
        };
        self.next = Family { number: family.number + 1, ..family.clone() };
        Some(family)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn families_hold_everybody_once(people in 1u64..3000, seed: u64) {
            let counts = Counts::of(people);
            prop_assert_eq!(counts.teachers + counts.parents + counts.students, people);
            let (mut parents, mut students) = (0, 0);
            for family in Families::new(seed, counts) {
                prop_assert_eq!(family.parents.start, parents);
                prop_assert_eq!(family.students.start, students);
                prop_assert!(family.parents.end > parents || family.students.end > students);
                prop_assert!(family.parents.end - parents <= 3);
                (parents, students) = (family.parents.end, family.students.end);
            }
            prop_assert_eq!((parents, students), (counts.parents, counts.students));
        }

        #[test]
        fn each_linked_teacher_is_one_parent(people in 1u64..20_000) {
            let counts = Counts::of(people);
            let linked: Vec<u64> = (0..counts.parents).filter_map(|parent| counts.teacher_of_parent(parent)).collect();
            let expected: Vec<u64> = (0..counts.teachers).filter(|&teacher| counts.is_linked(teacher)).collect();
            prop_assert_eq!(linked, expected);
        }
    }
}

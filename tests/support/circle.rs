//! A V1 whose tables refer to each other in a circle, for tests of both V2: departments have a head and members,
//! employees a department and a mentor. Each V2 adds the rows that it cannot take.

use super::Database;

/// Every third department is without a head; 26 is headed by nobody at all. Mentors go round in circles; one employee is
/// their own.
const ROWS: &str = "
create table department (id integer primary key, name text, head integer, members integer[]);
create table employee (id integer primary key, name text, department integer, mentor integer);
insert into department select n, 'D' || n, case when n % 3 > 0 then n * 7 end, array[n, 300 - n] from generate_series(1, 40) n;
insert into employee select n, 'E' || n, 1 + n % 40, case when n % 10 = 0 then n - 9 else n + 1 end from generate_series(1, 300) n;
update department set head = 9999 where id = 26;
insert into employee values (301, 'E301', 5, 301), (302, 'E302', 5, null);
";

/// A head who is new, a head who goes to a department that is new, whose head he is; a mentor; a member less.
pub const CHANGES: &str = "
insert into employee values (400, 'E400', 2, 401), (401, 'E401', 50, 400);
insert into department values (50, 'D50', 401, array[400, 7]);
update department set head = 400 where id = 1;
update department set head = 14, members = '{1}' where id = 3;
update employee set department = 50, mentor = 401 where id = 7;
";

/// A V1 with such rows, and more.
pub fn v1_with(more: &str) -> Database {
    let v1 = Database::v1();
    v1.execute(ROWS);
    v1.execute(more);
    v1
}

/// Fails with what is in one and not in the other.
#[track_caller]
pub fn assert_same<T: Clone + PartialEq + std::fmt::Debug>(expected: &[T], held: &[T]) {
    let lacking = |of: &[T], from: &[T]| of.iter().filter(|row| !from.contains(row)).cloned().collect();
    let none: (Vec<T>, Vec<T>) = (vec![], vec![]);
    assert_eq!((lacking(expected, held), lacking(held, expected)), none);
}

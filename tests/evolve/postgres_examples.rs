//! The worked examples for Postgres: up, down and up again, with the data before and after.

use super::{Postgres, copy_example};

fn there_and_back(example: &str, seed: &str, select: [&str; 2], before: &[&str], after: &[&str]) -> Postgres {
    let postgres = Postgres::new();
    copy_example(&postgres.project, "postgres", example);
    postgres.v2.execute(seed);
    assert_eq!(postgres.lines(select[0]), before);
    postgres.up();
    assert_eq!(postgres.lines(select[1]), after, "up");
    postgres.down();
    assert_eq!(postgres.lines(select[0]), before, "down");
    postgres.up();
    assert_eq!(postgres.lines(select[1]), after, "up again");
    postgres
}

#[test]
fn members_get_a_status_and_an_index() {
    let postgres = there_and_back(
        "0001_status",
        "create table members (id int primary key, deleted boolean not null); insert into members values (1, false), (2, true)",
        ["select * from members order by id", "select * from members order by id"],
        &["1|f", "2|t"],
        &["1|f|active", "2|t|inactive"],
    );
    let index = "select indisvalid from pg_index where indexrelid = 'members_status'::regclass";
    assert_eq!(postgres.lines(index), ["t"]);
}

#[test]
fn names_are_split_and_put_together() {
    there_and_back(
        "0002_first_and_last_name",
        "create table customers (id int primary key, name text); \
         insert into customers values (1, 'Ada Lovelace'), (2, ' Juan  de Borbón'), (3, 'Plato'), (4, ''), (5, null)",
        [
            "select id, name from customers order by id",
            "select id, first_name, last_name, name_as_written from customers order by id",
        ],
        &["1|Ada Lovelace", "2| Juan  de Borbón", "3|Plato", "4|", "5|~"],
        &["1|Ada|Lovelace|~", "2|Juan de|Borbón| Juan  de Borbón", "3|Plato||Plato", "4|||", "5|~|~|~"],
    );
}

#[test]
fn ages_become_integers() {
    let postgres = there_and_back(
        "0003_ages_as_integers",
        "create table people (id int primary key, age text); \
         insert into people values (1, '41'), (2, ' 7 '), (3, 'abc'), (4, null), (5, '99999999999')",
        ["select id, age from people order by id", "select id, age, age_as_written from people order by id"],
        &["1|41", "2| 7 ", "3|abc", "4|~", "5|99999999999"],
        &["1|41|41", "2|7| 7 ", "3|0|abc", "4|0|~", "5|0|99999999999"],
    );
    postgres.v2.execute("update people set age = 42 where id = 1");
    postgres.down();
    assert_eq!(postgres.lines("select age from people where id = 1"), ["42"]);
}

#[test]
fn duplicate_emails_are_set_aside_and_come_back() {
    let postgres = there_and_back(
        "0004_unique_emails",
        "create table accounts (id int primary key, email text, created_at date); \
         insert into accounts values (1, 'a@x', '2021-01-01'), (2, 'a@x', '2020-01-01'), (3, 'b@x', null), (4, null, null), (5, null, null)",
        ["select * from accounts order by id", "select * from accounts order by id"],
        &["1|a@x|2021-01-01", "2|a@x|2020-01-01", "3|b@x|~", "4|~|~", "5|~|~"],
        &["2|a@x|2020-01-01", "3|b@x|~", "4|~|~", "5|~|~"],
    );
    assert_eq!(postgres.lines("select id from accounts_duplicates"), ["1"]);
    assert_eq!(postgres.states(), ["0004_unique_emails|applied|up"]);
}

//! A change of V1 touches the records of V2 that it changes, and no other of the same row.

use super::Job;

/// The tables into which a row with a list of its own is written.
const TABLES: [&str; 4] = ["\"User\"", "\"UserRole\"", "\"Student\"", "\"StudentGuardian\""];

impl Job {
    /// How many records of each table have been written anew since `before`.
    fn written_since(&self, before: &[Vec<Vec<Option<String>>>]) -> Vec<usize> {
        let count = |(table, before): (&&str, &Vec<Vec<Option<String>>>)| {
            self.written(table).iter().filter(|row| !before.contains(row)).count()
        };
        TABLES.iter().zip(before).map(count).collect()
    }

    fn all_written(&self) -> Vec<Vec<Vec<Option<String>>>> {
        TABLES.iter().map(|table| self.written(table)).collect()
    }

    /// A student with two guardians.
    fn student(&self) -> String {
        self.v1.one("select min(id) from (select \"B\" as id from \"_ParentToStudent\" group by 1 having count(*) = 2) as s")
    }

    fn change(&self, student: &str, change: &str) {
        self.v1.execute(&format!("update \"Student\" set {change} where id = '{student}'"));
        self.migrate(&[], 0);
    }
}

#[test]
fn what_a_change_would_leave_as_it_is_is_not_written() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let student = job.student();
    let guardians = job.v1.rows(&format!("select \"A\" from \"_ParentToStudent\" where \"B\" = '{student}'"));
    let (start, before) = (job.content(), job.all_written());
    job.change(&student, "address = '7 Marina Road, Lagos'");
    assert_eq!(job.written_since(&before), [1, 0, 0, 0]);
    assert_eq!(job.v2.one("select count(*) from v1v2.replaced where table_name like '%public%'"), "1");

    // Records that were left alone still count as ours: later changes reach them, whichever transaction wrote them.
    let before = job.all_written();
    job.change(&student, "\"className\" = 'Blue'");
    assert_eq!(job.written_since(&before), [0, 0, 1, 0]);
    let before = job.all_written();
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"B\" = '{student}' and \"A\" = '{}'",
        guardians[0][0].as_deref().unwrap()
    ));
    job.migrate(&[], 0);
    assert_eq!(job.written_since(&before), [0, 0, 0, 1]);
    assert_eq!(job.result(), job.made_anew());
    // What V2 does not take over at all changes nothing in V2.
    let before = job.all_written();
    job.change(&student, "password = 'another'");
    assert_eq!(job.written_since(&before), [0, 0, 0, 0]);

    // Each run takes back what it wrote, and nothing else.
    job.project.roll_back_next(&[]);
    job.project.roll_back_next(&[]);
    let look = format!(
        "select count(*) from \"StudentGuardian\" g join v1v2.ledger l on l.target_id = g.\"studentId\"::text where l.key = '{student}'"
    );
    assert_eq!(job.v2.one(&look), "2");
    job.project.roll_back_next(&[]);
    let before = job.all_written();
    job.project.roll_back_next(&[]);
    assert_eq!(job.written_since(&before), [1, 0, 0, 0]);
    assert_eq!(job.content(), start);
    job.project.roll_back_next(&[]);
    assert_eq!(job.v2.count("\"User\"") + job.v2.count("v1v2.ledger") + job.v2.count("v1v2.replaced"), 0);
}

#[test]
fn an_edit_is_noticed_however_many_transactions_wrote_the_rows_records() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let student = job.student();
    // More often than the ledger remembers: then all records are written once, and it begins anew.
    for round in 0..10 {
        job.change(&student, &format!("address = '{round} Marina Road, Lagos'"));
        let known =
            format!("select coalesce(cardinality(earlier), 0) from v1v2.ledger where key = '{student}'");
        assert_eq!(
            job.v2.one(&known),
            if round < 8 { (round + 1).to_string() } else { (round - 8).to_string() }
        );
    }
    let before = job.all_written();
    job.change(&student, "\"className\" = 'Green'");
    assert_eq!(job.written_since(&before), [0, 0, 1, 0]);
    job.v2.execute("update \"Student\" set \"admissionNo\" = 'edited' where \"className\" = 'Green'");
    job.change(&student, "\"className\" = 'Red', address = '12 Marina Road, Lagos'");
    let look = "select \"className\" from \"Student\" where \"admissionNo\" = 'edited'";
    assert_eq!(job.v2.one(look), "Green");
    assert_eq!(
        job.v2.one("select detail from v1v2.conflicts where kind = 'edited_in_v2' and decision = 'kept'"),
        "Student"
    );
    assert_eq!(
        job.v2.one("select count(*) from \"User\" where \"addressRaw\" = '12 Marina Road, Lagos'"),
        "1"
    );
    let gone = "select count(*) from \"Student\" where \"admissionNo\" = 'edited'";
    job.v1.execute(&format!("delete from \"_ParentToStudent\" where \"B\" = '{student}'; delete from \"Student\" where id = '{student}'"));
    job.migrate(&["--prune", "--skip-validation"], 3);
    assert_eq!(job.v2.one(gone), "1");
}

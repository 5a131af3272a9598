//! Data that is meant for the one who reads it: escape sequences for a terminal, formulas for a spreadsheet.

use crate::job::Job;
use crate::support::Outcome;

/// Clears the screen, sets the title, recolours (as one byte too), and turns the direction of writing around.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}gnp.exe";

#[track_caller]
fn inert(outcome: &Outcome) {
    for (stream, text) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
        let found: Vec<char> = text
            .chars()
            .filter(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c))
            .collect();
        assert!(found.is_empty(), "{stream} has {found:?} in\n{}", text.escape_debug());
    }
}

fn hostile_names() -> Job {
    let job = Job::new(40, &["--orphans"]);
    job.v1.execute(&format!(
        "update \"School\" set name = '{HOSTILE}'; update \"Teacher\" set name = '{HOSTILE} Obi', qualification = '{HOSTILE}'; \
         update \"Parent\" set occupation = '{HOSTILE}', address = '{HOSTILE}'"
    ));
    job
}

#[test]
fn names_do_nothing_to_the_terminal_in_a_dry_run() {
    let job = hostile_names();
    let dry = job.run(&["migrate", "--dry-run"]).expect(3);
    assert!(dry.stdout.contains("gnp.exe"), "{}", dry.stdout);
    inert(&dry);
}

#[test]
fn names_do_nothing_to_the_terminal_in_a_run() {
    let job = hostile_names();
    inert(&job.migrate(&[], 3));
    for arguments in [&["status"][..], &["validate", "--compare-counts"], &["rollback", "--force"]] {
        inert(&job.run(arguments).expect(0));
    }
}

#[test]
fn keys_do_nothing_to_the_terminal() {
    let job = Job::new(40, &[]);
    job.v1.execute(&format!(
        "alter table \"Teacher\" drop constraint \"Teacher_schoolId_fkey\"; \
         alter table \"Parent\" drop constraint \"Parent_schoolId_fkey\"; \
         update \"Teacher\" set \"schoolId\" = '{HOSTILE}' where id = (select min(id) from \"Teacher\"); \
         insert into \"Parent\" (id, \"schoolId\", name, \"updatedAt\") values ('{HOSTILE}', 'nowhere', 'Ada Obi', now())"
    ));
    inert(&job.run(&["migrate", "--dry-run"]));
    inert(&job.migrate(&[], 3));
    inert(&job.run(&["status"]));
    inert(&job.run(&["status", "--json"]));
}

#[test]
fn names_that_are_formulas_are_text_in_the_hand_out_list() {
    let job = Job::new(60, &[]);
    let formulas = ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(1)"];
    for (offset, formula) in formulas.iter().enumerate() {
        let name = formula.replace('\'', "''");
        job.v1.execute(&format!(
            "update \"School\" set name = '{name}' where id = (select id from \"School\" order by id offset 0 limit 1); \
             update \"Teacher\" set name = '{name} Obi' where id = (select id from \"Teacher\" order by id offset {offset} limit 1)"
        ));
    }
    job.migrate(&["--passwords", "generate"], 0);
    job.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    let list = job.project.read("list.csv");
    let mut lines = csv::Reader::from_reader(list.as_bytes());
    let mut disarmed = 0;
    for line in lines.records() {
        for cell in &line.unwrap() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
            disarmed +=
                usize::from(cell.starts_with("'@") || cell.starts_with("'=") || cell.starts_with("'+"));
        }
    }
    assert!(disarmed >= 1, "no cell was dangerous:\n{list}");
    // V2 has the name as it was.
    assert_eq!(job.v2.one("select count(*) from \"School\" where name = '@SUM(1)'"), "1");
}

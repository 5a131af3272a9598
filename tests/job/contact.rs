//! Contact details that belong to no account: a school's own email, phone and address.

use super::Job;
use crate::support::Database;

/// V2's schools by V1's key, over the ledger.
fn schools(job: &Job, columns: &str) -> Vec<Vec<Option<String>>> {
    job.v2.rows(&format!(
        "select l.key, {columns} from \"School\" s join v1v2.ledger l on l.entity = 'schools' and l.target_id = s.id::text \
         order by l.key"
    ))
}

#[test]
fn schools_contact_details_are_normalised_and_split() {
    let job = Job::new(20_000, &[]);
    job.v1.execute("update \"School\" set email = upper(email)");
    job.migrate(&["--entities", "schools"], 0);

    assert_ne!(job.v2.one("select count(email) from \"School\""), "0");
    let wrong = "select count(*) from \"School\" where email <> lower(email) or email !~ '^[^@ ]+@[^@ ]+$'";
    assert_eq!(job.v2.one(wrong), "0");
    // The sample's schools have plain addresses, so lower case is all there is to do.
    assert_eq!(
        schools(&job, "email"),
        job.v1.rows("select id, lower(email) from \"School\" order by id collate \"C\"")
    );

    let international = "select count(*) from \"School\" where phone ~ '^\\+[1-9][0-9]{6,14}$'";
    let others = "select count(*) from \"School\" where phone !~ '^\\+[1-9][0-9]{6,14}$'";
    assert_ne!(job.v2.one(international), "0");
    // What is no possible number is kept as it was, and the log says so.
    assert_eq!(
        job.v2.one(others),
        job.v2.one("select count(*) from v1v2.conflicts where kind = 'phone_unusable' and detail like 'School.phone: %'")
    );

    for column in ["addressLine1", "city", "postalCode"] {
        assert_ne!(job.v2.one(&format!("select count(\"{column}\") from \"School\"")), "0", "{column}");
    }
    assert_eq!(
        schools(&job, "\"addressRaw\""),
        job.v1.rows("select id, address from \"School\" order by id collate \"C\""),
        "V1's text is kept, whatever was made of it"
    );
    assert_eq!(job.v2.one("select count(*) from \"School\" where country !~ '^[A-Z]{2}$'"), "0");
}

#[test]
fn each_case_of_a_school() {
    let job = Job::new(1_200, &[]);
    let keys: Vec<String> = job
        .v1
        .rows("select id from \"School\" order by id collate \"C\"")
        .into_iter()
        .filter_map(|row| row.into_iter().next()?)
        .collect();
    let school =
        |set: &str, key: &str| job.v1.execute(&format!("update \"School\" set {set} where id = '{key}'"));
    school(
        "email = ' Info@Example.ORG ', phone = '0803 123 4567', country = null, \
         address = '12 Allen Avenue, Ikeja, Lagos State, Nigeria'",
        &keys[0],
    );
    // Unusable twice over: the school's own email and its administrator's.
    school(
        "email = 'nobody at example.org', phone = 'ask the office', address = '  ', country = ' ', \
         \"adminName\" = 'Ada Obi', \"adminEmail\" = 'ada at example.org'",
        &keys[1],
    );
    school(
        "email = 'N/A', phone = '-', address = '12 Allen Avenue, Ikeja, Lagos State, Nigeria', country = 'gh'",
        &keys[2],
    );
    job.v1.execute(
        "insert into \"School\" (id, name, code, email, \"updatedAt\") \
         values ('zz-plain', 'Without administrator', 'ZZ', 'nobody at example.org', now())",
    );
    job.migrate(&["--entities", "schools"], 0);

    let columns = "email, phone, \"addressLine1\", city, state, \"postalCode\", country, \"addressRaw\"";
    let found = schools(&job, columns);
    let row = |key: &str| {
        let row = found.iter().find(|row| row[0].as_deref() == Some(key)).unwrap();
        row[1..]
            .iter()
            .map(|value| value.clone().unwrap_or_else(|| "null".to_owned()))
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let address = "12 Allen Avenue, Ikeja, Lagos State, Nigeria";
    assert_eq!(
        row(&keys[0]),
        format!(
            "info@example.org | +2348031234567 | 12 Allen Avenue | Ikeja | Lagos | null | NG | {address}"
        ),
        "V1 names no country, but the address does"
    );
    assert_eq!(row(&keys[1]), "null | ask the office | null | null | null | null | null | null");
    assert_eq!(
        row(&keys[2]),
        format!("null | null | 12 Allen Avenue | Ikeja | Lagos | null | GH | {address}"),
        "V1's own column wins"
    );

    let conflicts = |key: &str| {
        job.v2.rows(&format!(
            "select kind, decision, detail from v1v2.conflicts where key = '{key}' and kind like '%unusable' order by kind"
        ))
    };
    let some = |text: &str| Some(text.to_owned());
    assert!(conflicts(&keys[0]).is_empty() && conflicts(&keys[2]).is_empty());
    assert_eq!(
        conflicts(&keys[1]),
        [
            // One line: the account's decision, and what happened to the other column.
            [some("email_unusable"), some("placeholder"), some("School.email: it holds no email address")],
            [some("phone_unusable"), some("kept"), some("School.phone: it is no possible number")],
        ]
    );
    assert_eq!(
        conflicts("zz-plain"),
        [[some("email_unusable"), some("null"), some("School.email: it holds no email address")]],
        "without an account the column's own decision stands"
    );
    let leaked = "select count(*) from v1v2.conflicts where detail ~ 'nobody|office|ada at'";
    assert_eq!(job.v2.one(leaked), "0", "the log names places, not values");
}

#[test]
fn accounts_say_what_is_known_of_their_phone() {
    let job = Job::new(2_000, &[]);
    job.migrate(&[], 0);
    let wrong = "select count(*) from \"User\" where (\"contactPhone\" is null) <> (\"phoneIsValid\" is null) \
                 or (phone is not null and \"phoneIsValid\" is null) or (not \"phoneIsValid\" and not \"phoneNeedsReview\")";
    assert_eq!(job.v2.one(wrong), "0");
    for some in [
        "\"phoneIsValid\"",
        "not \"phoneIsValid\" and \"contactPhone\" !~ '^\\+'",
        "\"phoneIsValid\" and \"phoneNeedsReview\"",
    ] {
        assert_ne!(job.v2.one(&format!("select count(*) from \"User\" where {some}")), "0", "{some}");
    }
    assert_eq!(
        job.v2.one("select count(*) from \"User\" where country !~ '^[A-Z]{2}$'"),
        "0",
        "countries are codes, as in V2's reference data"
    );
    assert_ne!(job.v2.one("select count(country) from \"User\""), "0");
}

#[test]
fn the_split_does_not_depend_on_chunks() {
    let job = Job::new(3_000, &[]);
    job.v1.execute("update \"School\" set email = replace(email, '@', ' at ') where length(name) % 2 = 0");
    job.migrate(&["--entities", "schools"], 0);
    let expected = job.result();
    let mut job = job;
    let mut kept: Vec<Database> = Vec::new();
    for settings in [&["--batch-size", "1", "--writers", "3"][..], &["--batch-size", "7", "--no-bulk"]] {
        let (other, old) = job.another_v2();
        kept.push(old);
        job = other;
        job.migrate(&[&["--entities", "schools"], settings].concat(), 0);
        assert_eq!(job.result(), expected, "{settings:?}");
    }
}

#[test]
fn two_unusable_columns_of_a_row_share_a_line() {
    let job = Job::new(60, &[]);
    let two = include_str!("../../migrators/schools.toml").replace(
        "addressLine2  = { address = \"address\", part = \"line2\" }",
        "addressLine2 = { email = \"address\" }",
    );
    let folder = job.project.path().join("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("schools.toml"), two).unwrap();
    job.v1.execute(
        "update \"School\" set email = 'nobody at example.org', address = 'some @', \"adminName\" = null",
    );
    job.migrate(&["--entities", "schools", "--migrators", "mine"], 0);
    let lines =
        job.v2.rows("select distinct decision, detail from v1v2.conflicts where kind = 'email_unusable'");
    let detail = "School.email: it holds no email address; School.addressLine2: it holds no email address";
    assert_eq!(lines, [[Some("null".to_owned()), Some(detail.to_owned())]]);
    assert_eq!(
        job.v2.one("select count(*) from \"School\" where email is not null or \"addressLine2\" is not null"),
        "0"
    );
}

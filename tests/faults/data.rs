//! Values that some database, or some part on the way, cannot hold.

use crate::support::{Database, Project};

/// A V1 and a V2 with one table each, and a definition that carries it over.
struct Documents {
    v1: Database,
    v2: Database,
    project: Project,
}

impl Documents {
    /// The columns beside the key, with their types in V1 and in V2.
    fn new(v1: Database, columns: &[(&str, &str, &str)]) -> Self {
        let v2 = Database::v2();
        let list = |type_of: &dyn Fn(&(&str, &str, &str)) -> String| {
            columns.iter().map(|column| format!(", {} {}", column.0, type_of(column))).collect::<String>()
        };
        v1.execute(&format!("create table document (id integer primary key{})", list(&|of| of.1.to_owned())));
        let paper = format!("create table paper (id integer primary key{});\n", list(&|of| of.2.to_owned()));
        let project = Project::between(&v1, &v2)
            .env("V1V2_PASSWORDS", "none")
            .env("V1V2_MIGRATORS_DIR", "mine")
            .env("V1V2_SETUP_DIR", "own");
        let filled: String = columns.iter().map(|(name, ..)| format!("{name} = \"{name}\"\n")).collect();
        project.write("mine/accounts.toml", "builtin = false\n");
        project.write(
            "mine/documents.toml",
            &format!(
                "entity = \"documents\"\nids = \"keep\"\n\n[source]\nkey = \"id\"\nquery = \"select * from document\"\n\n\
                 [[postgres]]\ntable = \"paper\"\n[postgres.columns]\nid = {{ id = true }}\n{filled}"
            ),
        );
        project.write("own/postgres/schema.sql", &paper);
        project.write("own/reference/manifest.toml", "");
        project.run(&["setup"]).expect(0);
        Self { v1, v2, project }
    }

    fn rejected(&self) -> Vec<Vec<Option<String>>> {
        self.v2.rows("select key, code from v1v2.ledger where outcome = 'r' order by key::int")
    }
}

fn cells(rows: &[[&str; 2]]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect()).collect()
}

#[test]
fn a_zero_character_in_json_is_a_reject() {
    let job = Documents::new(Database::v1(), &[("body", "json", "jsonb")]);
    job.v1.execute(
        r#"insert into document select n, '{"n": 1}' from generate_series(1, 40) n;
           insert into document values (41, '{"text": "a\u0000b"}'), (42, '{"text": "a\u0001b"}')"#,
    );
    job.project.run(&["migrate", "--force"]).expect(3);
    assert_eq!(job.rejected(), cells(&[["41", "database-22P05"]]));
    assert_eq!(job.v2.count("paper"), 41);
    let source = job.v2.one("select source_row from v1v2.ledger where key = '41'");
    assert!(source.contains(r"\\u0000"), "{source}");
}

#[test]
fn bytes_that_are_no_text_are_rejects() {
    // A source that takes every byte for a character.
    let v1 = Database::v1();
    let name = format!("{}_ascii", v1.name());
    v1.execute(&format!(
        "create database {name} encoding 'SQL_ASCII' locale_provider libc locale 'C' template template0"
    ));
    let mut url = url::Url::parse(v1.url()).unwrap();
    url.set_path(&name);
    let ascii = Ascii { server: v1, name, url: url.into() };
    let job = Documents::new(Database::v1(), &[("body", "text", "text")]);
    let session = super::session::Session::open(&ascii.url);
    session.run(
        "create table document (id integer primary key, body text); \
         insert into document select n, 'plain' from generate_series(1, 40) n; \
         set client_encoding to 'SQL_ASCII'; \
         insert into document values (41, convert_from('\\xe9', 'SQL_ASCII')), (42, convert_from('\\xc3a9', 'SQL_ASCII'))",
    );
    session.end();
    let project = job.project.env("V1_DATABASE_URL", &ascii.url);
    project.run(&["migrate", "--force"]).expect(3);
    assert_eq!(
        job.v2.rows("select key, code from v1v2.ledger where outcome = 'r'"),
        cells(&[["41", "database-22021"]])
    );
    assert_eq!(job.v2.one("select body from paper where id = 42"), "é");
    // Kept as COPY writes bytes, and nothing was replaced.
    assert_eq!(job.v2.one("select source_row from v1v2.ledger where key = '41'"), r"41	\xe9");
    assert_eq!(job.v2.one("select count(*) from paper where body like '%\u{fffd}%'"), "0");
    project.run(&["validate", "--compare-counts"]).expect(0);
}

/// A database beside the test's own, which drops it.
struct Ascii {
    server: Database,
    name: String,
    url: String,
}

impl Drop for Ascii {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.execute(&format!("drop database {} with (force)", self.name));
        }
    }
}

#[test]
fn extreme_values_pass_through_unchanged() {
    let columns = [
        ("day", "date", "date"),
        ("moment", "timestamptz", "timestamptz"),
        ("span", "interval", "interval"),
        ("amount", "numeric", "numeric"),
        ("real_number", "double precision", "double precision"),
        ("small_number", "real", "real"),
        ("raw", "bytea", "bytea"),
        ("list", "text[]", "text[]"),
        ("body", "jsonb", "jsonb"),
        ("bits", "bit varying", "bit varying"),
        ("spans", "int4range", "int4range"),
        ("text", "text", "text"),
    ];
    let job = Documents::new(Database::v1(), &columns);
    job.v1.execute(
        r#"insert into document values
           (1, 'infinity', '-infinity', '-178000000 years', 'NaN', 'NaN', '-Infinity', '\x00ff5c', '{}', 'null', '', 'empty', ''),
           (2, '4713-01-01 BC', '4713-01-01 00:00:00+00 BC', '1 mon -1 day 00:00:00.000001',
            12345678901234567890123456789012345678901234567890.12345678901234567890, 5e-324, 1.17549435e-38, '',
            '[2:3]={a,NULL}', '{"a": [1.10, "\\\"", "\t"]}', '101', '[1,5)', E'tab\t nl\n cr\r bs\b ff\f vt\v \\ \\N \\. end'),
           (3, '5874897-12-31', '294276-12-31 23:59:59.999999+00', '-00:00:00.000001', '-0.00', '-0', 'Infinity', null,
            array['', 'NULL', '"', '\', 'a,b', null], '"é"', null, null, '\N'),
           (4, null, null, null, 'Infinity', 1.7976931348623157e308, 3.4028235e38, '\x', '{{1,2},{3,4}}', '[]', '0', '(,)', '\.')"#,
    );
    job.project.run(&["migrate", "--force"]).expect(0);
    let read = |database: &Database, table: &str| {
        database.rows(&format!(
            "set datestyle to iso; set timezone to utc; set extra_float_digits to 3; select * from {table} order by id"
        ))
    };
    assert_eq!(read(&job.v2, "paper"), read(&job.v1, "document"));
    job.project.run(&["validate", "--compare-counts"]).expect(0);
    job.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.v2.count("paper"), 0);
}

#[test]
fn what_does_not_fit_the_new_type_costs_only_its_row() {
    let columns = [
        ("amount", "bigint", "integer"),
        ("price", "numeric", "numeric(5, 2)"),
        ("word", "text", "varchar(5)"),
        ("day", "timestamp", "date"),
    ];
    let job = Documents::new(Database::v1(), &columns);
    job.v1.execute(
        "insert into document select n, n, 1.234, 'ok', '2020-01-01' from generate_series(1, 50) n; \
         update document set amount = 99999999999 where id = 7; update document set price = 1000 where id = 8; \
         update document set word = 'too long' where id = 31; update document set word = 'ok     ' where id = 32; \
         update document set day = '294276-12-31' where id = 33",
    );
    job.project.run(&["migrate", "--force"]).expect(3);
    assert_eq!(
        job.rejected(),
        cells(&[["7", "database-22003"], ["8", "database-22003"], ["31", "database-22001"]])
    );
    assert_eq!(job.v2.count("paper"), 47);
    assert_eq!(job.v2.one("select string_agg(day::text, ',') from paper where id = 33"), "294276-12-31");
}

/// What is read back after writing is compared as V2's types see it, with a key and without.
#[test]
fn values_that_v2_stores_in_another_form_are_no_difference() {
    for key in [true, false] {
        let columns = [
            ("code", "text", "char(5)"),
            ("price", "numeric", "numeric(7, 1)"),
            ("moment", "timestamptz", "timestamp(1)"),
            ("body", "json", "json"),
            ("again", "json", "jsonb"),
            ("ratio", "double precision", "real"),
            ("span", "interval", "interval second(1)"),
            ("flags", "bit varying", "bit(3)"),
            ("names", "text[]", "varchar(3)[]"),
            ("spans", "int4range", "int4range"),
            ("nothing", "point", "point"),
        ];
        let job = Documents::new(Database::v1(), &columns);
        if !key {
            job.v2.execute(
                "alter table paper drop constraint paper_pkey, alter id drop not null, add unique (id)",
            );
        }
        job.v1.execute(
            r#"insert into document select n, 'a', n + 0.05, '2020-01-01 12:00:00.06+03', '{"b" :1,"a": 2}', '{"b" :1,"a": 2}',
               '0.1000000001', '1.26 sec', '101', '{abc,"d  "}', '[1,3]', null from generate_series(1, 50) n"#,
        );
        job.project.run(&["migrate", "--force"]).expect(0);
        assert_eq!(
            job.v2.one("select price || code || again from paper where id = 1"),
            r#"1.1a{"a": 2, "b": 1}"#
        );
        // A trigger is found in either case.
        job.v1.execute("insert into document values (51, 'b')");
        job.v2.execute(
            "create function meddle() returns trigger language plpgsql as $$ begin new.code = 'c'; return new; end $$; \
             create trigger meddle before insert on paper for each row execute function meddle()",
        );
        let ended = job.project.run(&["migrate", "--force"]).expect(4);
        assert!(ended.stderr.contains(if key { "the column code of paper" } else { "paper does not show" }));
        assert_eq!(job.v2.count("paper"), 50);
    }
}

#[test]
fn a_value_too_long_for_an_index_costs_only_its_row() {
    let job = Documents::new(Database::v1(), &[("word", "text", "text unique")]);
    job.v1.execute(
        "insert into document select n, n::text from generate_series(1, 50) n; \
         update document set word = (select string_agg(md5(n::text), '') from generate_series(1, 500) n) where id = 20",
    );
    job.project.run(&["migrate", "--force"]).expect(3);
    assert_eq!(job.rejected(), cells(&[["20", "database-54000"]]));
    assert_eq!(job.v2.count("paper"), 49);
}

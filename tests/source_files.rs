//! CSV and JSON files as sources: they become tables of V1's connection, and then they are SQL.

use mongodb::bson::{Bson, doc};

use crate::support::{Database, MongoDatabase, Project};

/// A V1 with towns, a V2 for people, and definitions that read people from a file.
struct Files {
    v1: Database,
    v2: Database,
    project: Project,
}

const PEOPLE: &str = "create table people (id text primary key, name text, town text, born date, note text, debt numeric, row bigint);";

impl Files {
    /// `file` is the `[[source.file]]` part; `query` reads it.
    fn new(file: &str, query: &str) -> Self {
        let (v1, v2) = (Database::v1(), Database::v2());
        v1.execute("create table town (code text primary key, name text); insert into town values ('LOS', 'Lagos'), ('KAN', 'Kano')");
        let project = Project::between(&v1, &v2);
        let files = Self { v1, v2, project: define(project, file, query) };
        files.project.write("own/postgres/schema.sql", PEOPLE);
        files.project.run(&["setup"]).expect(0);
        files
    }

    fn csv() -> Self {
        Self::new(
            "table = \"members\"\npath = \"data/members.csv\"\ncolumns = { born = \"date\", debt = \"numeric\" }",
            "select m.\"No\" as id, m.name, t.name as town, m.born, m.note, m.debt, m._row as row from members m left join town t on t.code = m.town",
        )
    }

    fn migrate(&self, more: &[&str]) {
        self.project.run(&[&["migrate", "--force"], more].concat()).expect(0);
    }

    fn people(&self) -> Vec<Vec<Option<String>>> {
        self.v2.rows("select * from people order by id")
    }
}

fn define(project: Project, file: &str, query: &str) -> Project {
    let project =
        project.env("V1V2_PASSWORDS", "none").env("V1V2_MIGRATORS_DIR", "mine").env("V1V2_SETUP_DIR", "own");
    project.write("mine/accounts.toml", "builtin = false\n");
    project.write(
        "mine/people.toml",
        &format!(
            "entity = \"people\"\nids = \"keep\"\n[source]\nkey = \"id\"\nquery = '''{query}'''\n[[source.file]]\n{file}\n\
             [[postgres]]\ntable = \"people\"\n[postgres.columns]\nid = {{ id = true }}\nname = \"name\"\ntown = \"town\"\n\
             born = \"born\"\nnote = \"note\"\ndebt = \"debt\"\nrow = \"row\"\n\
             [[mongodb]]\ncollection = \"people\"\n[mongodb.fields]\n_id = {{ id = true }}\nname = \"name\"\ntown = \"town\"\n\
             born = \"born\"\nnote = \"note\"\ndebt = \"debt\"\nrow = \"row\"\n"
        ),
    );
    project.write("own/reference/manifest.toml", "");
    project
}

fn texts(row: [&str; 7]) -> Vec<Option<String>> {
    row.iter().map(|text| (*text != "-").then(|| (*text).to_owned())).collect()
}

const MEMBERS: &str = "\u{feff}No,name,town,born,note,debt\r\n\
    007,\"O'Neil, Ada\",LOS,1990-02-28,\"two\nlines, a \"\"quote\"\", a \\ and a\ttab\",12345678901234567890.123456789\r\n\
    8,Bola,KAN,,,\r\n\
    10,Ẹniọlá 🙂,XXX,2001-12-31,\\N,0\r\n";

#[test]
fn a_csv_file_is_read_as_a_table_and_kept_up_with() {
    let files = Files::csv();
    files.project.write("mine/data/members.csv", MEMBERS);
    files.project.run(&["check"]).expect(0);
    files.project.run(&["migrate", "--dry-run"]).expect(0);
    assert_eq!(files.people(), Vec::<Vec<_>>::new());
    files.migrate(&[]);
    let ada = texts([
        "007",
        "O'Neil, Ada",
        "Lagos",
        "1990-02-28",
        "two\nlines, a \"quote\", a \\ and a\ttab",
        "12345678901234567890.123456789",
        "1",
    ]);
    let bola = texts(["8", "Bola", "Kano", "-", "-", "-", "2"]);
    let eniola = texts(["10", "Ẹniọlá 🙂", "-", "2001-12-31", "\\N", "0", "3"]);
    assert_eq!(files.people(), [ada.clone(), eniola.clone(), bola.clone()]);
    files.project.run(&["validate", "--compare-counts"]).expect(0);
    files.project.run(&["validate", "--compare-fields"]).expect(0);
    // Nothing is left in V1.
    let left = "select count(*) from pg_class where relname = 'members'";
    assert_eq!(files.v1.one(left), "0");

    // The next delivery: a row changed, one gone, one new.
    let next = MEMBERS.replace("8,Bola,KAN,,,", "8,Bola,LOS,,,-1").replace("10,", "11,");
    files.project.write("mine/data/members.csv", &next);
    files.migrate(&["--prune"]);
    let bola = texts(["8", "Bola", "Lagos", "-", "-", "-1", "2"]);
    let mut eleven = eniola;
    eleven[0] = Some("11".to_owned());
    assert_eq!(files.people(), [ada, eleven, bola]);
    // A file that is not there is an error, and no order to remove everybody.
    std::fs::remove_file(files.project.path().join("mine/data/members.csv")).unwrap();
    let before = files.people();
    let refused = files.project.run(&["migrate", "--force", "--prune"]).expect(2);
    assert!(refused.stderr.contains("members.csv: this file"), "{}", refused.stderr);
    assert_eq!(files.people(), before);
}

/// Semicolons and one byte for each character, as spreadsheets write them.
#[test]
fn a_file_may_have_another_delimiter_and_another_encoding() {
    let file = "table = \"m\"\npath = \"m.csv\"\ndelimiter = \";\"\nencoding = \"WIN1252\"";
    let query = "select m.\"Größe\" as id, m.name, null as town, null::date as born, null as note, null::numeric as debt, m._row as row from m";
    let files = Files::new(file, query);
    let bytes = b"Gr\xf6\xdfe;name\n1,5;Ren\xe9e \x80\n";
    std::fs::write(files.project.path().join("mine/m.csv"), bytes).unwrap();
    files.migrate(&[]);
    assert_eq!(files.people(), [texts(["1,5", "Renée €", "-", "-", "-", "-", "1"])]);
}

const OBJECTS: [&str; 3] = [
    r#"{"id": "a", "name": "Ada \u20ac \"x\"\n\\", "town": "LOS", "debt": 123456789012345678901234567890.5, "tags": ["p", {"q": null}]}"#,
    r#"{"name": "Bola", "id": "b", "born": "1999-01-02", "debt": null, "active": true}"#,
    r#"{"id": "c", "name": 7}"#,
];

const OF_OBJECTS: &str = "select m.id, m.name || coalesce(m.active, '') as name, t.name as town, m.born, m.tags::jsonb -> 1 as note, m.debt, m._row as row
    from m left join town t on t.code = m.town";

fn expected_objects() -> [Vec<Option<String>>; 3] {
    [
        texts([
            "a",
            "Ada € \"x\"\n\\",
            "Lagos",
            "-",
            "{\"q\": null}",
            "123456789012345678901234567890.5",
            "1",
        ]),
        texts(["b", "Bolatrue", "-", "1999-01-02", "-", "-", "2"]),
        texts(["c", "7", "-", "-", "-", "-", "3"]),
    ]
}

#[test]
fn json_objects_are_rows_in_an_array_or_one_after_the_other() {
    for (name, text) in [
        ("m.json", format!("\u{feff} [{}]\n", OBJECTS.join(",\n"))),
        ("m.ndjson", OBJECTS.join("\n")),
        ("m.jsonl", OBJECTS.join("\r\n\r\n")),
    ] {
        let types = "columns = { born = \"date\", debt = \"numeric\" }";
        let files = Files::new(
            &format!("table = \"m\"\npath = \"{name}\"\n{types}"),
            &OF_OBJECTS.replace("-> 1 as", "->> 1 as"),
        );
        files.project.write(&format!("mine/{name}"), &text);
        files.migrate(&[]);
        assert_eq!(files.people(), expected_objects(), "{name}");
    }
}

#[test]
fn files_go_into_mongodb_too() {
    let (v1, v2) = (Database::v1(), MongoDatabase::new());
    v1.execute(
        "create table town (code text primary key, name text); insert into town values ('LOS', 'Lagos')",
    );
    let file = "table = \"m\"\npath = \"m.json\"\ncolumns = { born = \"date\", debt = \"numeric\" }";
    let project = define(Project::into_mongodb(&v1, &v2), file, OF_OBJECTS);
    project.write("own/mongodb/collections/people.json", "{}");
    project.write("mine/m.json", &format!("[{}]", OBJECTS.join(",")));
    project.run(&["setup"]).expect(0);
    project.run(&["migrate", "--force"]).expect(0);
    let ada = v2.one("people", doc! { "_id": "a" });
    assert_eq!(ada.get_document("note").unwrap(), &doc! { "q": Bson::Null });
    assert_eq!(ada.get("debt").unwrap().to_string(), "123456789012345678901234567890.5");
    assert_eq!(v2.one("people", doc! { "_id": "c" }), doc! { "_id": "c", "name": "7", "row": 3_i64 });
    assert_eq!(v2.count("people", doc! {}), 3);
}

/// Many more than are sent at once, and than one chunk holds.
#[test]
fn a_long_file_is_read_whole() {
    let files = Files::csv();
    let line =
        |number: u32| format!("{number},{},LOS,,{},1\n", "name".repeat(5), "x".repeat(number as usize % 300));
    let text: String =
        std::iter::once("No,name,town,born,note,debt\n".to_owned()).chain((0..20_000).map(line)).collect();
    files.project.write("mine/data/members.csv", &text);
    files.migrate(&["--batch-size", "3000"]);
    assert_eq!(
        files.v2.one("select count(*) || ' ' || sum(length(note)) || ' ' || max(row) from people"),
        "20000 2980000 20000"
    );
}

/// One clear sentence each, with the file and the record; never the value; nothing written.
#[test]
fn what_is_wrong_with_a_file_is_told_by_its_record() {
    let files = Files::csv();
    let header = "No,name,town,born,note,debt";
    let long = "x".repeat(64);
    let cases: [(String, &[&str]); 10] = [
        (String::new(), &["members.csv: the file is empty; its first line must name the columns"]),
        (
            format!("{header}\n1,Secret,LOS,,,\n2,Secret,LOS,1990-13-01,,\n"),
            &["members.csv: record 2: the cell of column `born` is no date"],
        ),
        (
            format!("{header}\n1,Secret,LOS,,\n"),
            &["record 1: it begins on line 2 and has 5 cells, but the first line names 6 columns"],
        ),
        (
            "No,name,town,note,debt\n".to_owned(),
            &["the definition gives column `born` a type, and the file has no such column"],
        ),
        (format!("{header},name\n"), &["two columns are named `name`"]),
        (format!("{header},\n"), &["column 7 has no name"]),
        (format!("{header},_row\n"), &["column 7 is named _row"]),
        (format!("{header},{long}\n"), &["the name of column 7 is longer than 63 bytes"]),
        (
            format!("{header}\n1,Sec\0ret,LOS,,,\n"),
            &["record 1: a cell is not written in UTF8, or holds a NUL character"],
        ),
        ("No;name;town;born;note;debt\n".to_owned(), &["column `born` a type", "it has No;name"]),
    ];
    for (text, told) in cases {
        files.project.write("mine/data/members.csv", &text);
        let refused = files.project.run(&["migrate", "--force"]).expect(2);
        assert!(told.iter().all(|told| refused.stderr.contains(told)), "{text}\n{}", refused.stderr);
        assert!(!refused.stderr.contains("ecret"), "{}", refused.stderr);
        assert_eq!(files.v2.count("people") + files.v2.count("v1v2.ledger"), 0);
    }
    std::fs::write(
        files.project.path().join("mine/data/members.csv"),
        b"No,name,town,born,note,debt\n1,Ren\xe9,,,,\n",
    )
    .unwrap();
    let refused = files.project.run(&["migrate", "--force"]).expect(2);
    assert!(refused.stderr.contains("encoding = \"WIN1252\""), "{}", refused.stderr);
    // A file is a table, which cannot hide one of V1's.
    files.v1.execute("create table members ()");
    files.project.write("mine/data/members.csv", MEMBERS);
    let refused = files.project.run(&["check"]).expect(2);
    assert!(refused.stderr.contains("has a table members of its own"), "{}", refused.stderr);
}

#[test]
fn what_is_wrong_with_json_is_told_by_its_record() {
    let files = Files::new(
        "table = \"m\"\npath = \"m.json\"\ncolumns = { born = \"date\", debt = \"numeric\", name = \"text\", town = \"text\", active = \"text\", tags = \"jsonb\" }",
        OF_OBJECTS,
    );
    for (text, told) in [
        ("[{\"id\": \"secret\"}, 7]", "m.json: record 2: this is no object (line 1, column 21)"),
        ("{\"id\": \"secret\"}\n{\"id\": secret}\n", "record 2: this is not JSON (line 2, column 8)"),
        ("[{\"id\": \"secret\"}", "record 2: the file ends in the middle of it"),
        ("[{\"id\": \"secret\"}] []", "this is not JSON"),
        ("{\"id\": \"\\ud800\", \"name\": \"secret\"}", "record 1: the value of `id` is no text"),
        (
            "{\"id\": \"a\\u0000\", \"name\": \"secret\"}",
            "record 1: a cell is not written in UTF8, or holds a NUL character",
        ),
        ("{\"id\": \"a\", \"debt\": \"secret\"}", "record 1: the cell of column `debt` is no numeric"),
    ] {
        files.project.write("mine/m.json", text);
        let refused = files.project.run(&["migrate", "--force"]).expect(2);
        assert!(refused.stderr.contains(told), "{text}\n{}", refused.stderr);
        assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
        assert_eq!(files.v2.count("people") + files.v2.count("v1v2.ledger"), 0);
    }
}

/// A definition's own mistakes stand in the list of all problems, with their place.
#[test]
fn what_is_wrong_with_the_definition_of_a_file_is_pointed_at() {
    for (file, told) in [
        ("table = \"m\"\npath = \"m.xls\"", "the name of `m.xls` does not say how it is written"),
        ("table = \"m\"\npath = \"m.csv\"\ndelimiter = \";;\"", "`;;` cannot stand between cells"),
        (
            "table = \"m\"\npath = \"m.csv\"\nencoding = \"win1252\"",
            "`win1252` is no encoding that such a file may have",
        ),
        ("table = \"m\"\npath = \"m.json\"\nencoding = \"WIN1252\"", "`WIN1252` is no encoding"),
        (
            "table = \"m\"\npath = \"m.csv\"\n[[source.file]]\ntable = \"m\"\npath = \"n.csv\"",
            "two files become the table `m`",
        ),
        ("table = \"m\"\npath = \"m.csv\"\ncolumn = {}", "column"),
        ("path = \"m.csv\"", "[[source.file]] has no `table`"),
    ] {
        let files = Files::new(file, "select _row as id from m");
        files.project.write("mine/m.csv", "No\n1\n");
        files.project.write("mine/n.csv", "No\n1\n");
        files.project.write("mine/m.json", "[]");
        let refused = files.project.run(&["check"]).expect(2);
        assert!(refused.stderr.contains(told), "{file}\n{}", refused.stderr);
    }
}

/// Reading needs no more than SELECT; a file needs the right to make a temporary table, which a user may have lost.
#[test]
fn the_right_that_files_need_is_named() {
    let files = Files::csv();
    files.project.write("mine/data/members.csv", MEMBERS);
    let name = files.v1.name();
    let user = format!("{name}_reader");
    files.v1.execute(&format!(
        "create role {user} login password 'x'; grant select on all tables in schema public to {user}; revoke temporary on database {name} from public"
    ));
    let (_, place) = files.v1.url().split_once('@').unwrap();
    let project = files.project.env("V1_DATABASE_URL", &format!("postgres://{user}:x@{place}"));
    let refused = project.run(&["check"]);
    files.v1.execute(&format!("grant temporary on database {name} to {user}"));
    let allowed = project.run(&["check"]);
    files.v1.execute(&format!("drop owned by {user}; drop role {user}"));
    assert_ne!(refused.code(), Some(0));
    assert!(refused.stderr.contains("GRANT TEMPORARY ON DATABASE"), "{}", refused.stderr);
    allowed.expect(0);
}

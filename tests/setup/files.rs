//! What is wrong with a user's setup folder is told, each mistake once, with file and line.

use std::path::Path;

use v1v2::setup::SetupFiles;

use super::{EMBEDDED, embedded, mistakes};

#[test]
fn columns_of_a_data_file_are_checked() {
    let header = |header: &str| mistakes(&[("reference/subjects.csv", header)]);
    assert_eq!(
        header("# note\n\nid,code,categori,name\n"),
        "reference/subjects.csv:3: unknown column \"categori\"; did you mean \"category\"?"
    );
    assert_eq!(
        header("id,code\n"),
        "reference/subjects.csv:1: columns \"category\" and \"name\" are missing"
    );
    assert_eq!(
        header("id,code,category,name,id\n"),
        "reference/subjects.csv:1: column \"id\" is there twice"
    );
    assert_eq!(
        header("# nothing\n"),
        "reference/subjects.csv: the file is empty; its first line must name the columns"
    );
}

#[test]
fn each_mistake_is_one_sentence() {
    let roles = "id,code,userType,isSystem,name,description\n\
                 1,SUPER_ADMIN,ADMNI,true,A,\n\
                 # between\n\
                 2,SCHOOL_ADMIN,ADMIN,yes,B,\n\
                 two,TEACHER,STAFF,true,C,\n\
                 4,PARENT,,true,,\n\
                 5,STUDENT,LEARNER,true\n\
                 6,X,,true,X,\n\
                 7,X,,true,X,\n\
                 6,Y,,true,Y,\n";
    let pairs = "role,permissions\nX,NOTHING.* STUDENTS.REED\nX,FEES.READ\nX,AUDIT.READ FEES.READ\n";
    let text = mistakes(&[("reference/roles.csv", roles), ("reference/role_permissions.csv", pairs)]);
    let expected = [
        "reference/roles.csv:2: \"userType\" names \"ADMNI\", which is not in reference/user_types.csv; did you mean \"ADMIN\"?",
        "reference/roles.csv:4: \"isSystem\" is \"yes\", not true or false",
        "reference/roles.csv:5: \"id\" is \"two\", not a whole number",
        "reference/roles.csv:6: \"name\" is empty",
        "reference/roles.csv:7: 4 cells, but the first line names 6 columns",
        "reference/roles.csv:9: code \"X\" is there already, on line 8",
        "reference/roles.csv:10: id \"6\" is there already, on line 8",
        "reference/role_permissions.csv:2: \"permissions\": nothing in reference/permissions.csv begins with \"NOTHING.\"",
        "reference/role_permissions.csv:2: \"permissions\" names \"STUDENTS.REED\", which is not in reference/permissions.csv; did you mean \"STUDENTS.READ\"?",
        "reference/role_permissions.csv:4: role \"X\" and permissions \"AUDIT.READ FEES.READ\" is there already, on line 3",
    ];
    for sentence in expected {
        assert!(text.lines().any(|line| line == sentence), "missing: {sentence}\nin:\n{text}");
    }
    assert_eq!(text.lines().count(), expected.len() + 1, "{text}");
}

#[test]
fn one_mistake_is_told_once() {
    // Roles, their permissions and nothing else hang on the type that this file has lost.
    let types = embedded("reference/user_types.csv").replace("2,STAFF", "two,STAFF");
    assert_eq!(
        mistakes(&[("reference/user_types.csv", &types)]),
        "reference/user_types.csv:4: \"id\" is \"two\", not a whole number"
    );
    let manifest = embedded(EMBEDDED).replacen("code = \"text\"", "code = \"txt\"", 1);
    assert_eq!(mistakes(&[(EMBEDDED, &manifest)]).lines().count(), 1);
}

#[test]
fn mistakes_in_the_manifest_have_their_line() {
    let manifest = embedded(EMBEDDED);
    let with = |from: &str, to: &str| mistakes(&[(EMBEDDED, &manifest.replacen(from, to, 1))]);
    let line = |part: &str| manifest.lines().position(|line| line.starts_with(part)).unwrap() + 1;
    assert!(with("code = \"text\"", "code = \"txt\"").contains(&format!(
        "{EMBEDDED}:{}: column \"code\": \"txt\" is no type; there are text, integer and boolean; did you mean \"text\"?",
        line("code = ")
    )));
    assert!(with("key = [\"code\"]", "keys = [\"code\"]").contains("unknown field `keys`"));
    let missing = with("file = \"subjects.csv\"", "file = \"sujects.csv\"");
    assert_eq!(
        missing,
        format!("{EMBEDDED}:{}: there is no file reference/sujects.csv", line("file = \"subjects.csv\""))
    );
    let later = with("{ references = \"PermissionModule\"", "{ references = \"Subject\"");
    assert!(later.contains("table \"Subject\" must stand above, to be loaded first"), "{later}");
}

#[test]
fn files_that_nothing_reads_are_named() {
    let text = mistakes(&[
        ("reference/role.csv", ""),
        ("postgres/shema.sql", ""),
        ("postgres/control.sql", ""),
        ("refrence/roles.csv", ""),
        (".git/config", ""),
        ("mongodb/indexes.toml", ""),
        ("mongodb/control.json", "{}"),
        ("mongodb/collections/own.json", "{}"),
    ]);
    assert_eq!(
        text,
        "6 mistakes in the setup files\n\
         refrence: nothing reads this; did you mean \"reference\"?\n\
         mongodb/control.json: what v1v2 itself remembers belongs to the program and cannot be replaced; remove this file\n\
         mongodb/indexes.toml: nothing reads this file\n\
         postgres/control.sql: what v1v2 itself remembers belongs to the program and cannot be replaced; remove this file\n\
         postgres/shema.sql: nothing reads this file; did you mean \"postgres/schema.sql\"?\n\
         reference/role.csv: the manifest names no such file; did you mean \"reference/roles.csv\"?"
    );
    let error = SetupFiles::load(Some(Path::new("no/such/folder"))).unwrap_err();
    assert_eq!(error.exit_code(), 2);
}

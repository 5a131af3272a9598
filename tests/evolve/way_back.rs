//! `evolve down` looks ahead as `up` does: what is in its way is told at once, and V2 stays as it is; what is granted is
//! enough; and whoever may go back is not stopped.

use mongodb::bson::{Document, doc};

use super::privileges::{User, as_role, grants};
use super::{Mongo, Postgres};
use crate::faults::sources::Role;

const BACK: [&[&str]; 2] = [&["down", "--force", "--to", "0"], &["down", "--dry-run", "--to", "0"]];

/// Two evolutions that a superuser has applied.
fn applied() -> Postgres {
    let postgres = Postgres::new();
    postgres.v2.execute(
        "create schema app; create table app.users (id int, name text); insert into app.users values (1, 'a'); \
         create table plain (id int); insert into plain values (1); create type mood as enum ('good')",
    );
    postgres.evolution(
        "0001_status",
        "alter table app.users add column status text; create index users_status on app.users (status)",
        "drop index app.users_status; alter table app.users drop column status",
    );
    postgres.evolution(
        "0002_more",
        "create table made (id int); create sequence counted; create schema extra; update plain set id = id + 1; drop type mood",
        "create type mood as enum ('good'); update plain set id = id - 1; drop sequence counted; drop table made; drop schema extra",
    );
    postgres.up();
    postgres
}

fn digest(postgres: &Postgres) -> impl PartialEq + std::fmt::Debug + use<> {
    postgres.v2.digest(&["public", "app", "v1v2"], &[])
}

#[test]
fn what_a_role_may_not_take_back_is_told_at_once_and_granting_it_is_enough() {
    let postgres = applied();
    let before = digest(&postgres);
    let role = Role::new(&postgres.v2, "writer", "secret");
    for arguments in BACK {
        let told = as_role(&postgres, &role, arguments, 5);
        assert!(told.stderr.contains("lacks privileges on v1v2's own tables"), "{}", told.stderr);
    }
    role.grant("grant usage on schema v1v2 to {role}; grant select on v1v2.evolutions to {role}");
    for arguments in BACK {
        let told = as_role(&postgres, &role, arguments, 5);
        for text in [
            "GRANT INSERT, UPDATE ON v1v2.evolutions",
            "may not use the schema app, in which the way back of 0001_status changes users",
            "may not create in the schema public, and the way back of 0002_more does",
            "may not update public.plain, and the way back of 0002_more does",
            "does not own public.made, which the way back of 0002_more drops",
            "does not own public.counted, which the way back of 0002_more drops",
            "does not own the schema extra, which the way back of 0002_more drops",
        ] {
            assert!(told.stderr.contains(text), "{text}\n{}", told.stderr);
        }
        assert_eq!(digest(&postgres), before);
    }
    // What stands behind another obstacle shows when that is gone.
    let mut rounds = 0;
    loop {
        let tried = postgres.project.path().join("evolutions");
        let tried = crate::support::Project::new()
            .env("V2_DATABASE_URL", &role.url)
            .env("V1V2_EVOLUTIONS", tried.to_str().unwrap())
            .run(&["evolve", "down", "--dry-run", "--to", "0"]);
        if tried.code() == Some(0) {
            break;
        }
        rounds += 1;
        assert!(rounds < 4, "{}", tried.stderr);
        role.grant(&grants(&tried.expect(5)));
    }
    assert_eq!(postgres.lines("select id from plain"), ["2"], "a dry run");
    as_role(&postgres, &role, BACK[0], 0);
    assert_eq!(postgres.states(), ["0001_status|reverted|down", "0002_more|reverted|down"]);
    assert_eq!(postgres.lines("select * from plain"), ["1"]);
    assert_eq!(postgres.lines("select * from app.users"), ["1|a"]);
    assert_eq!(
        postgres.lines("select relname from pg_class where relname in ('made', 'counted', 'users_status')"),
        [""; 0]
    );
    role.grant("reassign owned by {role} to current_user");
}

#[test]
fn a_v2_that_takes_no_writes_is_left_as_it_is() {
    let postgres = applied();
    let before = digest(&postgres);
    let role = Role::new(&postgres.v2, "reader", "secret");
    role.grant("alter role {role} superuser; alter role {role} set default_transaction_read_only = on");
    for arguments in BACK {
        let refused = as_role(&postgres, &role, arguments, 5);
        assert!(refused.stderr.contains("read-only (default_transaction_read_only)"), "{}", refused.stderr);
        assert_eq!(digest(&postgres), before);
    }
    role.grant("alter role {role} reset default_transaction_read_only");
    as_role(&postgres, &role, BACK[0], 0);
    assert_eq!(postgres.states(), ["0001_status|reverted|down", "0002_more|reverted|down"]);
}

/// A member of the owner's role, or one who becomes the owner first, may go back.
#[test]
fn whoever_may_go_back_is_not_stopped() {
    let postgres = Postgres::new();
    let owner = Role::new(&postgres.v2, "owner", "secret");
    owner.grant(&format!(
        "create table users (id int); alter table users owner to {{role}}; \
         grant usage, create on schema public to {{role}}; grant create on database {} to {{role}}",
        postgres.v2.name()
    ));
    postgres.evolution("0001_a", "alter table users add column a int", "alter table users drop column a");
    postgres.evolution(
        "0002_b",
        "create schema s; create table s.t (id int)",
        "drop table s.t; drop schema s; drop sequence if exists nowhere; drop schema if exists nowhere",
    );
    postgres.evolution(
        "0003_c",
        "alter table users add column c int",
        &format!("set role {}; alter table users drop column c", owner.name),
    );
    as_role(&postgres, &owner, &["up", "--force"], 0);
    let member = Role::new(&postgres.v2, "member", "secret");
    member.grant(&format!("grant {} to {{role}}", owner.name));
    as_role(&postgres, &member, &["down", "--dry-run", "--to", "0"], 0);
    as_role(&postgres, &member, &["down", "--force", "--to", "0"], 0);
    assert_eq!(postgres.states(), ["0001_a|reverted|down", "0002_b|reverted|down", "0003_c|reverted|down"]);
    assert_eq!(postgres.lines("select attname from pg_attribute where attrelid = 'users'::regclass and attnum > 0 and not attisdropped"), ["id"]);
    drop(member);
    owner.grant("reassign owned by {role} to current_user");
}

/// It takes data away, so a backup that is asked for is asked for here as well.
#[test]
fn a_backup_that_is_required_must_be_there() {
    let postgres = applied();
    let before = digest(&postgres);
    let refused = postgres.run(&["down", "--force", "--require-backup"]).expect(5);
    assert!(refused.stderr.contains("holds no verified one of this V2"), "{}", refused.stderr);
    assert_eq!(digest(&postgres), before);
    postgres.run(&["down", "--dry-run", "--require-backup"]).expect(0);
    postgres.project.run(&["backup", "create"]).expect(0);
    postgres.run(&["down", "--force", "--require-backup"]).expect(0);
    assert_eq!(postgres.states(), ["0001_status|applied|up", "0002_more|reverted|down"]);
}

/// Every obstacle on the way back that the folder and the records tell, not only the first.
#[test]
fn all_that_cannot_be_taken_back_is_told_at_once() {
    let postgres = Postgres::new();
    for name in ["0001_a", "0002_b", "0003_c"] {
        postgres.evolution(name, &format!("create table t{name} (id int)"), &format!("drop table t{name}"));
    }
    for name in ["0001_a", "0002_b"] {
        let reason = format!("irreversible = true\nreason = \"the old {name} is not kept\"");
        postgres.project.write(&format!("evolutions/{name}/evolution.toml"), &reason);
    }
    postgres.up();
    std::fs::remove_dir_all(postgres.project.path().join("evolutions/0003_c")).unwrap();
    let before = digest(&postgres);
    let refused = postgres.run(&["down", "--to", "0"]).expect(5);
    for text in [
        "3 things are in the way",
        "0003_c was applied, and",
        "0002_b cannot be taken back: the old 0002_b is not kept",
        "0001_a cannot be taken back: the old 0001_a is not kept",
    ] {
        assert!(refused.stderr.contains(text), "{text}\n{}", refused.stderr);
    }
    assert_eq!(digest(&postgres), before);
}

/// The steps before it would be done by then, and nothing takes them back.
#[test]
fn a_command_that_the_server_does_not_know_is_found_before_the_first_step() {
    let mongo = Mongo::new();
    let create = |name: &str| {
        format!(r#"[ {{ "command": {{ "create": "{name}" }} }}, {{ "command": {{ "ping": 1 }} }} ]"#)
    };
    let typo = r#"[ { "command": { "create": "b" } }, { "command": { "creat": "c" } }, { "command": { "nonsense": 1 } } ]"#;
    let back = r#"[ { "command": { "drop": "a" } } ]"#;
    mongo.evolution("0001_a", &create("a"), back);
    mongo.evolution("0002_b", typo, "[]");
    for arguments in [&["up", "--force"][..], &["up", "--dry-run"]] {
        let told = mongo.run(arguments).expect(5).stderr;
        for text in
            ["has no command `creat`, which is step 2 of 0002_b", "did you mean `create`?", "`nonsense`"]
        {
            assert!(told.contains(text), "{text}\n{told}");
        }
        assert!(mongo.v2.collections().is_empty());
    }
    mongo.evolution("0002_b", "[]", &typo.replace("creat\"", "drp\""));
    mongo.up();
    let before = mongo.v2.digest(&[]);
    for arguments in BACK {
        let told = mongo.run(arguments).expect(5).stderr;
        assert!(told.contains("has no command `drp`, which is step 2 of the way back of 0002_b"), "{told}");
        assert_eq!(mongo.v2.digest(&[]), before);
    }
}

/// Other names of commands, which the server understands and does not list.
#[test]
fn other_names_of_commands_are_no_mistakes() {
    let mongo = Mongo::new();
    mongo.seed("users", r#"[ { "_id": 1 } ]"#);
    let index =
        r#"{ "command": { "createIndexes": "users", "indexes": [ { "key": { "a": 1 }, "name": "x" } ] } }"#;
    let back = r#"{ "command": { "deleteIndexes": "users", "index": "x" } }"#;
    let find = r#"{ "command": { "findandmodify": "users", "query": { "_id": 1 }, "update": { "$set": { "a": 2 } } } }"#;
    mongo.evolution("0001_a", &format!("[ {index}, {find} ]"), &format!("[ {back} ]"));
    mongo.up();
    assert_eq!(mongo.content("users"), [doc! { "_id": 1, "a": 2 }]);
    mongo.down();
    assert!(!mongo.v2.indexes("users").contains_key("x"));
}

/// Both directions have steps of every kind.
fn every_kind() -> Mongo {
    let mongo = Mongo::new();
    mongo.seed("users", r#"[ { "_id": 1, "name": "a" }, { "_id": 2, "name": "b" } ]"#);
    mongo.evolution(
        "0001_index",
        r#"[ { "command": { "createIndexes": "users", "indexes": [ { "key": { "name": 1 }, "name": "by_name" } ] } } ]"#,
        r#"[ { "command": { "dropIndexes": "users", "index": "by_name" } } ]"#,
    );
    mongo.evolution(
        "0002_status",
        r#"[ { "aggregate": "users", "pipeline": [ { "$merge": "kept" } ] },
             { "update": "users", "pipeline": [ { "$set": { "status": "new" } } ] } ]"#,
        r#"[ { "update": "users", "pipeline": [ { "$unset": "status" } ] },
             { "command": { "collMod": "users", "validator": {} } },
             { "delete": "users", "listed_in": "kept" },
             { "aggregate": "kept", "pipeline": [ { "$merge": { "into": "users", "whenMatched": "replace" } } ] },
             { "command": { "drop": "kept" } } ]"#,
    );
    mongo.up();
    mongo
}

#[test]
fn what_a_user_of_mongodb_may_not_take_back_is_told_at_once_and_granting_it_is_enough() {
    let mongo = every_kind();
    let name = mongo.v2.name();
    let before = mongo.v2.digest(&[]);
    let user = User::new(&mongo, vec![doc! { "role": "read", "db": name }]);
    for arguments in BACK {
        let refused = user.run(arguments, 5);
        for text in [
            "insert, update on v1v2_evolutions",
            "insert, update, remove on v1v2_lock;",
            "dropIndex on users (the way back of 0001_index)",
            "update, collMod, remove, insert on users (the way back of 0002_status)",
            "dropCollection on kept (the way back of 0002_status)",
            &format!("{{ role: \"dbAdmin\", db: \"{name}\" }}, {{ role: \"readWrite\", db: \"{name}\" }}"),
        ] {
            assert!(refused.stderr.contains(text), "{text}\n{}", refused.stderr);
        }
        assert_eq!(mongo.v2.digest(&[]), before);
    }
    mongo.v2.run(doc! { "grantRolesToUser": &user.name, "roles": [{ "role": "readWrite", "db": name }] });
    let refused = user.run(BACK[0], 5);
    assert!(
        refused.stderr.contains("lacks privileges: collMod on users (the way back of 0002_status)"),
        "{}",
        refused.stderr
    );
    assert_eq!(mongo.v2.digest(&[]), before);
    mongo.v2.run(doc! { "grantRolesToUser": &user.name, "roles": [{ "role": "dbAdmin", "db": name }] });
    user.run(BACK[1], 0);
    assert_eq!(mongo.v2.digest(&[]), before);
    user.run(BACK[0], 0);
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "reverted");
    let users: Vec<Document> = mongo.content("users");
    assert_eq!(users, [doc! { "_id": 1, "name": "a" }, doc! { "_id": 2, "name": "b" }]);
    assert!(!mongo.v2.indexes("users").contains_key("by_name"));
}

/// The demands are compared with what the server itself demands: this user has not one action more.
#[test]
fn a_user_of_mongodb_with_exactly_what_the_way_back_needs_is_not_stopped() {
    let mongo = every_kind();
    let name = mongo.v2.name();
    let on = |collection: &str, actions: &[&str]| doc! { "resource": { "db": name, "collection": collection }, "actions": actions.to_vec() };
    let role = format!("{name}_back");
    let privileges = vec![
        on("", &["listCollections"]),
        on("v1v2_lock", &["find", "insert", "update", "remove"]),
        on("v1v2_evolutions", &["find", "insert", "update"]),
        on("users", &["find", "insert", "update", "remove", "collMod", "dropIndex"]),
        on("kept", &["find", "dropCollection"]),
    ];
    mongo.v2.run(doc! { "createRole": &role, "privileges": privileges, "roles": [] });
    let user = User::new(&mongo, vec![doc! { "role": &role, "db": name }]);
    user.run(BACK[1], 0);
    user.run(BACK[0], 0);
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "reverted");
    drop(user);
    mongo.v2.run(doc! { "dropRole": &role });
}

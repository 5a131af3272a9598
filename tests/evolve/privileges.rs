//! What the user may not do is told before anything is done, with what grants it; granting that is enough; and whoever may
//! do it is not stopped.

use mongodb::bson::{Document, doc};

use super::{Mongo, Postgres};
use crate::faults::sources::Role;
use crate::support::{Outcome, Project};

/// The same evolutions, run as this role.
pub(super) fn as_role(postgres: &Postgres, role: &Role<'_>, arguments: &[&str], code: i32) -> Outcome {
    let folder = postgres.project.path();
    let (evolutions, backups) = (folder.join("evolutions"), folder.join("backups"));
    let project = Project::new()
        .env("V2_DATABASE_URL", &role.url)
        .env("V1V2_EVOLUTIONS", evolutions.to_str().unwrap())
        .env("V1V2_BACKUPS", backups.to_str().unwrap());
    let arguments = [&["evolve"], arguments].concat();
    project.run(&arguments).expect(code)
}

/// The statements that an error tells to run.
pub(super) fn grants(outcome: &Outcome) -> String {
    let words = ["GRANT ", "ALTER TABLE ", "ALTER SCHEMA "];
    let statements = outcome.stderr.split(';').filter_map(|part| {
        let at = words.iter().filter_map(|word| part.find(word)).min()?;
        Some(part[at..].to_owned() + ";")
    });
    statements.collect()
}

/// Neither records nor anything else of `evolve`.
fn untouched(postgres: &Postgres) -> bool {
    postgres.lines("select nspname from pg_namespace where nspname = 'v1v2'").is_empty()
}

#[test]
fn what_a_role_may_not_do_is_told_at_once_and_granting_it_is_enough() {
    let postgres = Postgres::new();
    let owner = Role::new(&postgres.v2, "owner", "secret");
    owner.grant(
        "create schema app authorization {role}; create table app.users (id int, name text); alter table app.users owner to {role}; \
         create table plain (id int); create table gone (id int); insert into plain values (1)",
    );
    postgres.evolution(
        "0001_status",
        "alter table app.users add column status text; create index users_status on app.users (status)",
        "alter table app.users drop column status",
    );
    postgres.evolution(
        "0002_more",
        "create table mine (id int); alter table mine add x int; update plain set id = id + 1; drop table gone",
        "drop table mine; create table gone (id int)",
    );
    let role = Role::new(&postgres.v2, "writer", "secret");
    for arguments in [&["up", "--force"][..], &["up", "--dry-run"], &["up", "--safe", "--force"]] {
        let refused = as_role(&postgres, &role, arguments, 5);
        for text in [
            "may not create the schema v1v2",
            "may not use the schema app, in which 0001_status changes users",
            "may not create in the schema public, and 0002_more does",
            "may not update public.plain, and 0002_more does",
            "does not own public.gone, which 0002_more drops",
        ] {
            assert!(refused.stderr.contains(text), "{text}\n{}", refused.stderr);
        }
        assert!(untouched(&postgres));
    }
    assert!(!postgres.project.path().join("backups").exists());
    // What stands behind another obstacle shows when that is gone.
    for _ in 0..3 {
        let told = as_role(&postgres, &role, &["up", "--dry-run", "--to", "1"], 5);
        role.grant(&grants(&told));
        if told.stderr.contains(&format!("GRANT \"{}\"", owner.name)) {
            break;
        }
    }
    let told = as_role(&postgres, &role, &["up", "--force"], 5);
    assert!(
        told.stderr.contains("ALTER TABLE \"public\".\"gone\" OWNER TO"),
        "of a superuser: {}",
        told.stderr
    );
    role.grant(&grants(&told));
    as_role(&postgres, &role, &["up", "--dry-run"], 0);
    as_role(&postgres, &role, &["up", "--force"], 0);
    assert_eq!(postgres.states(), ["0001_status|applied|up", "0002_more|applied|up"]);
    assert_eq!(postgres.lines("select id from plain"), ["2"]);
    drop(role);
}

#[test]
fn whoever_may_is_not_stopped() {
    let postgres = Postgres::new();
    let owner = Role::new(&postgres.v2, "owner", "secret");
    owner.grant("create table users (id int, name text); alter table users owner to {role}");
    let role = Role::new(&postgres.v2, "member", "secret");
    role.grant(&format!(
        "grant create on database {} to {{role}}; grant usage, create on schema public to {{role}}, {}; \
         alter role {{role}} noinherit; grant {} to {{role}}",
        postgres.v2.name(),
        owner.name,
        owner.name
    ));
    // Who becomes the owner may do what the owner may.
    postgres.evolution(
        "0001_owner",
        &format!("set role {}; alter table users add column a int", owner.name),
        "select 1",
    );
    as_role(&postgres, &role, &["up", "--force"], 0);
    // A table of the script's own hides the one of that name; what is not there yet belongs to whoever makes it.
    postgres.evolution(
        "0002_own",
        "create temporary table users (id int); alter table users add column b int; \
         create schema made; create table made.t (id int); create index on made.t (id); drop table if exists nowhere",
        "drop schema made cascade",
    );
    as_role(&postgres, &role, &["up", "--force"], 0);
    // Without becoming the owner the very same statement is refused, and the server would refuse it as well.
    postgres.evolution("0003_alone", "alter table users add column c int", "select 1");
    let refused = as_role(&postgres, &role, &["up", "--force"], 5);
    assert!(refused.stderr.contains("does not own public.users"), "{}", refused.stderr);
    let become_member = format!("GRANT \"{}\" TO \"{}\";", owner.name, role.name);
    assert!(refused.stderr.contains(&become_member), "{}", refused.stderr);
    role.grant("alter role {role} inherit");
    // From version 16 on, what is inherited was decided when the membership was given.
    role.grant(&format!("revoke {0} from {{role}}; grant {0} to {{role}}", owner.name));
    as_role(&postgres, &role, &["up", "--force"], 0);
    role.grant(&format!("revoke {0} from {{role}}; reassign owned by {{role}} to current_user", owner.name));
    drop(role);
}

#[test]
fn privileges_on_v1v2s_own_tables_are_told_whatever_evolve_may_read() {
    let postgres = Postgres::new();
    postgres.project.run(&["setup"]).expect(0);
    postgres.evolution("0001_nothing", "truncate v1v2.dropped", "select 1");
    let role = Role::new(&postgres.v2, "writer", "secret");
    role.grant("grant truncate on v1v2.dropped to {role}");
    let told = as_role(&postgres, &role, &["up", "--force"], 5);
    for text in ["GRANT USAGE ON SCHEMA v1v2", "SELECT, INSERT, UPDATE ON v1v2.evolutions", "ON v1v2.runs"] {
        assert!(told.stderr.contains(text), "{text}\n{}", told.stderr);
    }
    assert_eq!(postgres.v2.count("v1v2.runs"), 0);
    role.grant(&grants(&told));
    as_role(&postgres, &role, &["up", "--force"], 0);
    assert_eq!(postgres.states(), ["0001_nothing|applied|up"]);
}

/// A user of the database with these roles; the project that runs as that user.
pub(super) struct User<'m> {
    mongo: &'m Mongo,
    pub(super) name: String,
    project: Project,
}

impl<'m> User<'m> {
    pub(super) fn new(mongo: &'m Mongo, roles: Vec<Document>) -> Self {
        let name = format!("{}_user", mongo.v2.name());
        mongo.v2.run(doc! { "createUser": &name, "pwd": "sesame", "roles": roles });
        let (_, rest) = mongo.v2.url().split_once('@').unwrap();
        let source = format!("authSource={}", mongo.v2.name());
        let url = format!("mongodb://{name}:sesame@{rest}").replace("authSource=admin", &source);
        Self { mongo, name, project: Project::new().env("V2_DATABASE_URL", &url) }
    }

    pub(super) fn run(&self, arguments: &[&str], code: i32) -> Outcome {
        let folder = self.mongo.project.path().join("evolutions");
        let arguments = [&["evolve"], arguments, &["--evolutions", folder.to_str().unwrap()]].concat();
        self.project.run(&arguments).expect(code)
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.mongo.v2.run(doc! { "dropUser": &self.name });
    }
}

/// An evolution with every kind of step.
fn every_kind() -> Mongo {
    let mongo = Mongo::new();
    mongo.seed("users", r#"[ { "_id": 1, "name": "a" }, { "_id": 2, "name": "b" } ]"#);
    mongo.seed("old", r#"[ { "_id": 1 }, { "_id": 3 } ]"#);
    mongo.evolution(
        "0001_every_kind",
        r#"[ { "command": { "createIndexes": "users", "indexes": [ { "key": { "name": 1 }, "name": "by_name" } ] } },
             { "command": { "collMod": "users", "validator": { "name": { "$exists": true } } } },
             { "update": "users", "pipeline": [ { "$set": { "status": "new" } } ] },
             { "aggregate": "old", "pipeline": [ { "$merge": { "into": "kept", "whenMatched": "keepExisting" } } ] },
             { "aggregate": "users", "pipeline": [ { "$lookup": { "from": "old", "localField": "_id", "foreignField": "_id", "as": "o" } },
                                                   { "$merge": "joined" } ], "batch": 1 },
             { "delete": "old", "listed_in": "kept" },
             { "command": { "renameCollection": "old", "to": "older" } },
             { "command": { "create": "made" } },
             { "command": { "insert": "made", "documents": [ { "_id": 1 } ] } },
             { "delete": "made", "filter": {} },
             { "command": { "drop": "made" } },
             { "command": { "dropIndexes": "users", "index": "by_name" } } ]"#,
        "[]",
    );
    mongo
}

#[test]
fn what_a_user_of_mongodb_may_not_do_is_told_at_once_and_granting_it_is_enough() {
    let mongo = every_kind();
    let name = mongo.v2.name();
    let before = mongo.v2.collections();
    let user = User::new(&mongo, vec![doc! { "role": "read", "db": name }]);
    for arguments in [&["up", "--force"][..], &["up", "--dry-run"], &["up", "--safe", "--force"]] {
        let refused = user.run(arguments, 5);
        for text in [
            "insert, update, remove on v1v2_lock;",
            "createIndex, collMod, update, dropIndex on users (0001_every_kind)",
            "insert on kept (0001_every_kind)",
            &format!("{{ role: \"dbAdmin\", db: \"{name}\" }}, {{ role: \"readWrite\", db: \"{name}\" }}"),
        ] {
            assert!(refused.stderr.contains(text), "{text}\n{}", refused.stderr);
        }
        assert_eq!(mongo.v2.collections(), before);
    }
    let grant = |role: &str| {
        mongo.v2.run(doc! { "grantRolesToUser": &user.name, "roles": [{ "role": role, "db": name }] });
    };
    grant("readWrite");
    let refused = user.run(&["up", "--force"], 5);
    assert!(
        refused.stderr.contains("lacks privileges: collMod on users (0001_every_kind)"),
        "{}",
        refused.stderr
    );
    assert_eq!(mongo.v2.collections(), before);
    grant("dbAdmin");
    user.run(&["up", "--dry-run"], 0);
    user.run(&["up", "--force"], 0);
    assert_eq!(mongo.v2.count("joined", doc! {}), 2);
}

/// The demands are compared with what the server itself demands: this user has not one action more.
#[test]
fn a_user_of_mongodb_with_exactly_what_is_needed_is_not_stopped() {
    let mongo = every_kind();
    let name = mongo.v2.name();
    let on = |collection: &str, actions: &[&str]| doc! { "resource": { "db": name, "collection": collection }, "actions": actions.to_vec() };
    let privileges = vec![
        on("", &["listCollections"]),
        on("v1v2_lock", &["find", "insert", "update", "remove"]),
        on("v1v2_evolutions", &["find", "insert", "update"]),
        on("users", &["createIndex", "dropIndex", "collMod", "find", "update"]),
        on("old", &["find", "remove", "dropCollection"]),
        on("kept", &["find", "insert", "update"]),
        on("joined", &["insert", "update"]),
        on("older", &["insert", "createIndex"]),
        on("made", &["insert", "find", "remove", "dropCollection"]),
    ];
    mongo.v2.run(doc! { "createRole": "exactly", "privileges": privileges, "roles": [] });
    let user = User::new(&mongo, vec![doc! { "role": "exactly", "db": name }]);
    user.run(&["up", "--force"], 0);
    assert_eq!(mongo.v2.count("older", doc! {}), 0);
    drop(user);
    mongo.v2.run(doc! { "dropRole": "exactly" });
}

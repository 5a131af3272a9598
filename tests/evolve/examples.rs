//! The worked examples for MongoDB: up, down and up again, with the data before and after.

use mongodb::bson::doc;

use super::{Mongo, copy_example, documents_of};

/// Up → as expected; down → as before; up → as expected.
fn there_and_back(example: &str, collection: &str, before: &str, after: &str) -> Mongo {
    let mongo = Mongo::new();
    copy_example(&mongo.project, "mongodb", example);
    mongo.seed(collection, before);
    let before = documents_of(before);
    let after = documents_of(after);
    mongo.up();
    assert_eq!(mongo.content(collection), after, "up");
    mongo.down();
    assert_eq!(mongo.content(collection), before, "down");
    mongo.up();
    assert_eq!(mongo.content(collection), after, "up again");
    mongo
}

#[test]
fn achievements_get_dates() {
    there_and_back(
        "0001_achievements_with_dates",
        "users",
        r#"[ { "_id": 1, "achievements": ["a", "b"], "createdAt": { "$date": "2020-01-02T03:04:05Z" } },
             { "_id": 2, "achievements": [{ "$oid": "0123456789abcdef01234567" }], "createdAt": "2021-06-07T08:09:10.500Z" },
             { "_id": 3, "achievements": ["a"], "createdAt": "rubbish" },
             { "_id": 4, "achievements": ["a"], "createdAt": 17 },
             { "_id": 5, "achievements": ["a"] },
             { "_id": 6, "achievements": [], "createdAt": null },
             { "_id": 7, "achievements": "none" }, { "_id": 8 } ]"#,
        r#"[ { "_id": 1, "achievements_v2": [ { "achievementId": "a", "unlockedAt": { "$date": "2020-01-02T03:04:05Z" } },
                 { "achievementId": "b", "unlockedAt": { "$date": "2020-01-02T03:04:05Z" } } ],
               "createdAt": { "$date": "2020-01-02T03:04:05Z" } },
             { "_id": 2, "achievements_v2": [ { "achievementId": { "$oid": "0123456789abcdef01234567" },
                 "unlockedAt": { "$date": "2021-06-07T08:09:10.500Z" } } ], "createdAt": "2021-06-07T08:09:10.500Z" },
             { "_id": 3, "achievements_v2": [ { "achievementId": "a", "unlockedAt": null } ], "createdAt": "rubbish" },
             { "_id": 4, "achievements_v2": [ { "achievementId": "a", "unlockedAt": null } ], "createdAt": 17 },
             { "_id": 5, "achievements_v2": [ { "achievementId": "a", "unlockedAt": null } ] },
             { "_id": 6, "achievements_v2": [], "createdAt": null },
             { "_id": 7, "achievements": "none" }, { "_id": 8 } ]"#,
    );
}

#[test]
fn list_keys_become_json_keys() {
    there_and_back(
        "0002_list_keys_to_json",
        "reports",
        r#"[ { "_id": 1, "skills_list": [1, 2], "listing": "x", "_list": 0, "a_list": { "b_list": 1 } },
             { "_id": 2, "x": null } ]"#,
        r#"[ { "_id": 1, "skills_json": [1, 2], "listing": "x", "_json": 0, "a_json": { "b_list": 1 } },
             { "_id": 2, "x": null } ]"#,
    );
}

#[test]
fn a_key_whose_new_name_is_taken_stays() {
    let mongo = Mongo::new();
    copy_example(&mongo.project, "mongodb", "0002_list_keys_to_json");
    mongo.seed("reports", r#"[ { "_id": 1, "a_list": [1], "a_json": [2], "b_list": [3] } ]"#);
    mongo.up();
    assert_eq!(
        mongo.content("reports"),
        documents_of(r#"[ { "_id": 1, "a_list": [1], "a_json": [2], "b_json": [3] } ]"#)
    );
}

#[test]
fn answers_get_fields_with_defaults() {
    let new = r#""llm_result": { "status": "pending", "model": null, "output": null, "tokens": { "input": 0, "output": 0 }, "attempts": 0, "error": null }"#;
    let after = format!(r#"[ {{ "_id": 1, "text": "x", {new} }}, {{ "_id": "two", {new} }} ]"#);
    let mongo = there_and_back(
        "0003_llm_result_fields",
        "answers",
        r#"[ { "_id": 1, "text": "x" }, { "_id": "two" } ]"#,
        &after,
    );
    assert!(mongo.v2.indexes("answers").contains_key("answers_llm_status"));
    mongo.down();
    assert_eq!(mongo.v2.indexes("answers").len(), 1);
    mongo
        .v2
        .insert("answers", doc! { "_id": "three", "llm_result": { "status": "done", "model": "m" } })
        .unwrap();
    mongo.up();
    let kept = mongo.v2.one("answers", doc! { "_id": "three" });
    let kept = kept.get_document("llm_result").unwrap();
    assert_eq!((kept.get_str("status").unwrap(), kept.get_i32("attempts").unwrap()), ("done", 0));
}

#[test]
fn field_lists_become_json_schema() {
    there_and_back(
        "0004_fields_to_json_schema",
        "forms",
        r#"[ { "_id": 1, "title": "A", "fields": [
                 { "name": "age", "type": "integer", "required": true, "description": "in years", "label": "Age" },
                 { "name": "born", "type": "date", "required": false },
                 { "name": "mood", "type": "emoji", "required": true } ] },
             { "_id": 2, "fields": [] },
             { "_id": 3, "fields": [ { "name": "x", "type": "string", "required": true }, { "name": "x", "type": "number", "required": true } ] },
             { "_id": 4, "fields": "none" }, { "_id": 5 } ]"#,
        r#"[ { "_id": 1, "title": "A", "json_schema": { "type": "object", "additionalProperties": false, "required": ["age", "mood"],
                 "properties": { "age": { "type": "integer", "description": "in years", "label": "Age" },
                   "born": { "type": "string", "format": "date-time" }, "mood": { "type": "string", "x-type": "emoji" } } } },
             { "_id": 2, "json_schema": { "type": "object", "additionalProperties": false, "required": [], "properties": {} } },
             { "_id": 3, "fields": [ { "name": "x", "type": "string", "required": true }, { "name": "x", "type": "number", "required": true } ] },
             { "_id": 4, "fields": "none" }, { "_id": 5 } ]"#,
    );
}

#[test]
fn json_schema_becomes_response_format() {
    there_and_back(
        "0005_json_schema_to_response_format",
        "prompts",
        r#"[ { "_id": 1, "json_schema": { "type": "object" } }, { "_id": 2, "json_schema": null }, { "_id": 3 } ]"#,
        r#"[ { "_id": 1, "response_format": { "type": "object" } }, { "_id": 2, "response_format": null }, { "_id": 3 } ]"#,
    );
}

#[test]
fn dates_are_renamed() {
    there_and_back(
        "0006_created_and_modified",
        "articles",
        r#"[ { "_id": 1, "created_date": { "$date": "2020-01-01T00:00:00Z" }, "modified_date": "yesterday" },
             { "_id": 2, "created_date": null }, { "_id": 3 } ]"#,
        r#"[ { "_id": 1, "createdAt": { "$date": "2020-01-01T00:00:00Z" }, "updatedAt": "yesterday" },
             { "_id": 2, "createdAt": null }, { "_id": 3 } ]"#,
    );
}

#[test]
fn members_get_a_status_and_an_index() {
    let mongo = there_and_back(
        "0007_status",
        "members",
        r#"[ { "_id": 1 }, { "_id": 2, "deleted": true }, { "_id": 3, "deleted": false } ]"#,
        r#"[ { "_id": 1, "status": "active" }, { "_id": 2, "deleted": true, "status": "inactive" },
             { "_id": 3, "deleted": false, "status": "active" } ]"#,
    );
    assert!(mongo.v2.indexes("members").contains_key("members_status"));
}

#[test]
fn emails_are_normalised_and_there_is_no_way_back() {
    let mongo = Mongo::new();
    copy_example(&mongo.project, "mongodb", "0008_normalised_emails");
    mongo.seed("contacts", r#"[ { "_id": 1, "email": " A@B.example " }, { "_id": 2, "email": "c@d.example" }, { "_id": 3, "email": 5 }, { "_id": 4 } ]"#);
    let after = documents_of(
        r#"[ { "_id": 1, "email": "a@b.example" }, { "_id": 2, "email": "c@d.example" }, { "_id": 3, "email": 5 }, { "_id": 4 } ]"#,
    );
    mongo.up();
    assert_eq!(mongo.content("contacts"), after);
    let refused = mongo.run(&["down"]).expect(5);
    assert!(refused.stderr.contains("how an email was written before is not kept"), "{}", refused.stderr);
    assert_eq!(mongo.record(8).get_str("state").unwrap(), "applied");
    mongo.down();
    assert_eq!(mongo.content("contacts"), after);
    assert_eq!(mongo.record(8).get_str("state").unwrap(), "reverted");
    mongo.up();
    assert_eq!(mongo.content("contacts"), after);
}

#[test]
fn names_are_split_and_put_together() {
    there_and_back(
        "0009_first_and_last_name",
        "customers",
        r#"[ { "_id": 1, "name": "Ada Lovelace" }, { "_id": 2, "name": "Juan  Carlos de Borbón" }, { "_id": 3, "name": "Plato" },
             { "_id": 4, "name": " Ann Lee " }, { "_id": 5, "name": "" }, { "_id": 6, "name": null }, { "_id": 7 },
             { "_id": 8, "name": "Ana María López" } ]"#,
        r#"[ { "_id": 1, "firstName": "Ada", "lastName": "Lovelace" },
             { "_id": 2, "firstName": "Juan Carlos de", "lastName": "Borbón", "nameAsWritten": "Juan  Carlos de Borbón" },
             { "_id": 3, "firstName": "Plato", "lastName": "", "nameAsWritten": "Plato" },
             { "_id": 4, "firstName": "Ann", "lastName": "Lee", "nameAsWritten": " Ann Lee " },
             { "_id": 5, "firstName": "", "lastName": "", "nameAsWritten": "" }, { "_id": 6, "name": null }, { "_id": 7 },
             { "_id": 8, "firstName": "Ana María", "lastName": "López" } ]"#,
    );
}

#[test]
fn ages_become_integers() {
    there_and_back(
        "0010_ages_as_integers",
        "people",
        r#"[ { "_id": 1, "age": "41" }, { "_id": 2, "age": " 7 " }, { "_id": 3, "age": "abc" }, { "_id": 4, "age": null }, { "_id": 5 },
             { "_id": 6, "age": 41.5 }, { "_id": 7, "age": "" }, { "_id": 8, "age": "007" } ]"#,
        r#"[ { "_id": 1, "age": 41 }, { "_id": 2, "age": 7, "ageAsWritten": { "value": " 7 " } },
             { "_id": 3, "age": 0, "ageAsWritten": { "value": "abc" } }, { "_id": 4, "age": 0, "ageAsWritten": { "value": null } },
             { "_id": 5, "age": 0, "ageAsWritten": { "missing": true } }, { "_id": 6, "age": 41, "ageAsWritten": { "value": 41.5 } },
             { "_id": 7, "age": 0, "ageAsWritten": { "value": "" } }, { "_id": 8, "age": 7, "ageAsWritten": { "value": "007" } } ]"#,
    );
}

#[test]
fn duplicate_emails_are_set_aside_and_come_back() {
    let mongo = there_and_back(
        "0011_unique_emails",
        "accounts",
        r#"[ { "_id": 1, "email": "a@x", "createdAt": { "$date": "2021-01-01T00:00:00Z" }, "n": { "deep": [1] } },
             { "_id": 2, "email": "a@x", "createdAt": { "$date": "2020-01-01T00:00:00Z" } },
             { "_id": 3, "email": "b@x" }, { "_id": 4, "email": "b@x" }, { "_id": 5, "email": "b@x" },
             { "_id": 6 }, { "_id": 7, "email": null }, { "_id": 8, "email": "c@x" } ]"#,
        r#"[ { "_id": 2, "email": "a@x", "createdAt": { "$date": "2020-01-01T00:00:00Z" } },
             { "_id": 3, "email": "b@x" }, { "_id": 6 }, { "_id": 7, "email": null }, { "_id": 8, "email": "c@x" } ]"#,
    );
    assert!(mongo.v2.indexes("accounts")["accounts_email_key"].get_bool("unique").unwrap());
    assert!(mongo.v2.insert("accounts", doc! { "email": "c@x" }).is_err());
    assert_eq!(mongo.v2.count("accounts_duplicates", doc! {}), 3);
}

#[test]
fn old_users_become_users() {
    let mongo = Mongo::new();
    for example in ["0001_achievements_with_dates", "0012_old_users_to_users"] {
        copy_example(&mongo.project, "mongodb", example);
    }
    mongo.seed("users", r#"[ { "_id": 1, "email": "here@x", "source": "form" } ]"#);
    let old = r#"[ { "_id": 1, "mail": "other@x" },
        { "_id": 2, "mail": " Bo@X ", "first_name": "Bo", "last_name": "Li", "state": "active", "registered": "2019-05-06T00:00:00Z" },
        { "_id": "three", "first_name": "Al", "state": "gone", "registered": "long ago" } ]"#;
    mongo.seed("old_users", old);
    let before = documents_of(r#"[ { "_id": 1, "email": "here@x", "source": "form" } ]"#);
    let after = documents_of(
        r#"[ { "_id": 1, "email": "here@x", "source": "form" },
             { "_id": 2, "email": "bo@x", "name": { "first": "Bo", "last": "Li" }, "active": true, "source": "old_users",
               "createdAt": { "$date": "2019-05-06T00:00:00Z" } },
             { "_id": "three", "email": "", "name": { "first": "Al" }, "active": false, "source": "old_users", "createdAt": null } ]"#,
    );
    mongo.up();
    assert_eq!(mongo.content("users"), after);
    mongo.down();
    assert_eq!(mongo.content("users"), before);
    mongo.up();
    assert_eq!(mongo.content("users"), after);
    assert_eq!(mongo.content("old_users"), documents_of(old));
}

//! Makes V2's collections, or makes sure that those which are there are the right ones.
//!
//! What setup itself made may be brought up to date by the next setup, as long as nobody else has changed it since: a
//! fingerprint of each validator is kept in `v1v2_meta`. Everything else that looks different is refused.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::{ValidationAction, ValidationLevel};
use mongodb::results::{CollectionSpecification, CollectionType};
use xxhash_rust::xxh3::xxh3_128;

use super::collections::{CollectionSpec, IndexSpec};
use super::same::same;
use super::{META, failed, meta};
use crate::connect::MongoDb;
use crate::error::{mongodb_code, mongodb_duplicate};
use crate::{Error, Result};

/// NamespaceExists.
const EXISTS: i32 = 48;
/// IndexOptionsConflict and IndexKeySpecsConflict.
const INDEX_CONFLICTS: [i32; 2] = [85, 86];

/// What [`ensure`] made.
#[derive(Debug, Default)]
pub(super) struct Structure {
    pub(super) created: Vec<String>,
    pub(super) altered: Vec<String>,
}

/// What has to be done to one collection.
enum Step<'a> {
    Create(&'a CollectionSpec),
    Validator(&'a CollectionSpec),
    /// The validator is right, but is remembered otherwise: a setup died in between.
    Remember(&'a CollectionSpec),
    Index(&'a CollectionSpec, &'a IndexSpec),
}

/// Creates or corrects, or refuses if something else is there.
pub(super) async fn ensure(
    v2: &MongoDb,
    control: &[CollectionSpec],
    wanted: &[CollectionSpec],
) -> Result<Structure> {
    let live = list(v2).await?;
    let made = made(v2).await?;
    let owed = owed(v2).await?;
    let (mut steps, mut differences) = (Vec::new(), Vec::new());
    for spec in control.iter().chain(wanted) {
        match live.get(&spec.name) {
            None => steps.push(Step::Create(spec)),
            Some(there) => {
                compare_validator(spec, there, made.get(&spec.name), &mut steps, &mut differences);
                compare_indexes(v2, spec, &owed, &mut steps, &mut differences).await?;
            }
        }
    }
    if !differences.is_empty() {
        return Err(refusal(v2, differences));
    }
    let control: Vec<&str> = control.iter().map(|spec| spec.name.as_str()).collect();
    let mut structure = Structure::default();
    for step in steps {
        match step {
            Step::Create(spec) => {
                create(v2, spec).await?;
                if !control.contains(&spec.name.as_str()) {
                    structure.created.push(spec.name.clone());
                }
            }
            Step::Validator(spec) => {
                let change = doc! { "collMod": &spec.name, "validator": spec.validator.clone(),
                "validationLevel": "strict", "validationAction": "error" };
                v2.database.run_command(change).await.map_err(failed)?;
                note(v2, spec).await?;
                structure.altered.push(format!("validator of {}", spec.name));
            }
            Step::Remember(spec) => note(v2, spec).await?,
            Step::Index(spec, index) => {
                create_indexes(v2, &spec.name, std::slice::from_ref(index)).await?;
                structure.altered.push(format!("index {} of {}", index.name, spec.name));
            }
        }
    }
    Ok(structure)
}

/// All collections and views.
pub(super) async fn list(v2: &MongoDb) -> Result<BTreeMap<String, CollectionSpecification>> {
    let found: Vec<CollectionSpecification> =
        v2.database.list_collections().await.map_err(failed)?.try_collect().await.map_err(failed)?;
    Ok(found.into_iter().map(|found| (found.name.clone(), found)).collect())
}

/// Start of the keys under which `v1v2_meta` holds what setup made.
const MADE: &str = "collection:";

/// The collections that setup made, with the fingerprints of the validators it gave them.
pub(super) async fn made(v2: &MongoDb) -> Result<BTreeMap<String, String>> {
    let filter = doc! { "_id": { "$gte": MADE, "$lt": "collection;" } };
    let found: Vec<Document> =
        meta(v2).find(filter).await.map_err(failed)?.try_collect().await.map_err(failed)?;
    let pair = |found: &Document| {
        let name = found.get_str("_id").ok()?.strip_prefix(MADE)?;
        Some((name.to_owned(), found.get_str("value").ok()?.to_owned()))
    };
    Ok(found.iter().filter_map(pair).collect())
}

/// Indexes that a bulk load took away and will bring back: (collection, name).
async fn owed(v2: &MongoDb) -> Result<Vec<(String, String)>> {
    let dropped = v2.database.collection::<Document>("v1v2_dropped");
    let found: Vec<Document> =
        dropped.find(doc! {}).await.map_err(failed)?.try_collect().await.map_err(failed)?;
    let pair = |found: &Document| {
        Some((found.get_str("collection").ok()?.to_owned(), found.get_str("name").ok()?.to_owned()))
    };
    Ok(found.iter().filter_map(pair).collect())
}

fn compare_validator<'a>(
    spec: &'a CollectionSpec,
    there: &CollectionSpecification,
    made: Option<&String>,
    steps: &mut Vec<Step<'a>>,
    differences: &mut Vec<String>,
) {
    let name = &spec.name;
    if there.collection_type != CollectionType::Collection {
        differences.push(format!("{name} is no ordinary collection but a view or a time series"));
        return;
    }
    let live = there.options.validator.clone().unwrap_or_default();
    let strict = matches!(there.options.validation_level, None | Some(ValidationLevel::Strict))
        && matches!(there.options.validation_action, None | Some(ValidationAction::Error));
    let right = same(&Bson::Document(spec.validator.clone()), &Bson::Document(live.clone()));
    match made {
        _ if right && !strict && !live.is_empty() => {
            differences
                .push(format!("the validator of {name} is not enforced (validationLevel, validationAction)"));
        }
        Some(made) if right && *made != fingerprint(&spec.validator) => steps.push(Step::Remember(spec)),
        _ if right => {}
        Some(made) if strict && *made == fingerprint(&live) => steps.push(Step::Validator(spec)),
        Some(_) => differences.push(format!("the validator of {name} was changed since setup made it")),
        None if live.is_empty() => differences.push(format!("{name} is there and has no validator")),
        None => differences.push(format!("{name} is there and has another validator")),
    }
}

async fn compare_indexes<'a>(
    v2: &MongoDb,
    spec: &'a CollectionSpec,
    owed: &[(String, String)],
    steps: &mut Vec<Step<'a>>,
    differences: &mut Vec<String>,
) -> Result<()> {
    // As documents: the driver's type knows only the options of its day.
    let list = doc! { "listIndexes": &spec.name };
    let cursor = match v2.database.run_cursor_command(list).await {
        Ok(cursor) => cursor,
        // A view: told already.
        Err(error) if mongodb_code(&error) == Some(166) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let live: Vec<Document> = cursor.try_collect().await.map_err(failed)?;
    for index in &spec.indexes {
        if live.iter().any(|live| index.is_like(live))
            || owed.iter().any(|(collection, name)| *collection == spec.name && *name == index.name)
        {
            continue;
        }
        if live.iter().any(|live| live.get_str("name").is_ok_and(|name| name == index.name)) {
            differences
                .push(format!("index {} of {} is there with another definition", index.name, spec.name));
        } else {
            steps.push(Step::Index(spec, index));
        }
    }
    Ok(())
}

fn refusal(v2: &MongoDb, mut differences: Vec<String>) -> Error {
    let first = differences.remove(0);
    let error = Error::refused(format!(
        "V2, database {}: there are collections of the same names that look different: {first}",
        v2.database.name()
    ))
    .help(
        "check that the URL points at the right database; if an earlier setup made these collections, `setup --clean` \
         makes them anew; if they are your own or the application has changed them, put their validator and indexes \
         into mongodb/collections/NAME.json of your setup folder",
    );
    if differences.is_empty() { error } else { error.details(differences.join("\n")) }
}

/// Creates a collection. It is remembered first: one that was made and not remembered would stay for ever.
async fn create(v2: &MongoDb, spec: &CollectionSpec) -> Result<()> {
    if !spec.name.starts_with("v1v2_") {
        note(v2, spec).await?;
    }
    let mut command = doc! { "create": &spec.name };
    if !spec.validator.is_empty() {
        command.insert("validator", spec.validator.clone());
        command.insert("validationLevel", "strict");
        command.insert("validationAction", "error");
    }
    v2.database.run_command(command).await.map_err(|error| {
        if mongodb_code(&error) != Some(EXISTS) {
            return Error::mongodb(&format!("V2, collection {}", spec.name), &error);
        }
        Error::refused(format!("V2: somebody else has created {} at this moment", spec.name))
            .help("wait until the other setup has finished, then run this one again")
    })?;
    create_indexes(v2, &spec.name, &spec.indexes).await
}

async fn create_indexes(v2: &MongoDb, collection: &str, indexes: &[IndexSpec]) -> Result<()> {
    if indexes.is_empty() {
        return Ok(());
    }
    let list: Vec<Document> = indexes.iter().map(IndexSpec::command).collect();
    let command = doc! { "createIndexes": collection, "indexes": list };
    let Err(error) = v2.database.run_command(command).await else { return Ok(()) };
    if let Some(duplicate) = mongodb_duplicate(&error) {
        return Err(Error::refused(format!(
            "V2: index {} of {collection} cannot be made: two documents share a value that must be unique",
            duplicate.index
        ))
        .help("find and correct them, then run this again"));
    }
    if mongodb_code(&error).is_some_and(|code| INDEX_CONFLICTS.contains(&code)) {
        return Err(Error::refused(format!(
            "V2: {collection} has an index on the same fields with other options"
        ))
        .help("drop that index, or describe it in mongodb/collections/NAME.json of your setup folder")
        .details(Error::mongodb("V2", &error).message().to_owned()));
    }
    Err(Error::mongodb(&format!("V2, collection {collection}"), &error))
}

/// Remembers that setup made a collection, and with which validator.
async fn note(v2: &MongoDb, spec: &CollectionSpec) -> Result<()> {
    let set = doc! { "$set": { "value": fingerprint(&spec.validator) } };
    let key = doc! { "_id": format!("{MADE}{}", spec.name) };
    v2.database.collection::<Document>(META).update_one(key, set).upsert(true).await.map_err(failed)?;
    Ok(())
}

/// Tells one validator from another. The server gives back the bytes that it was given.
fn fingerprint(validator: &Document) -> String {
    let bytes = RawDocumentBuf::try_from(validator).map(RawDocumentBuf::into_bytes).unwrap_or_default();
    format!("{:032x}", xxh3_128(&bytes))
}

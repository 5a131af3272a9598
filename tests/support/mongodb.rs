//! A fresh MongoDB database for each test, and questions to ask it: the counterpart of `databases.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Once};

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database as Handle};
use xxhash_rust::xxh3::xxh3_128;

use super::databases::{Content, Digest, PREFIX, url_of, wait_for};
use super::mongod::Mongod;
use super::servers::Server;

/// A MongoDB database of one test, empty at first, dropped when this value is.
#[derive(Debug)]
pub struct MongoDatabase {
    name: String,
    url: String,
    client: Client,
}

impl MongoDatabase {
    /// An empty database on the shared server.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        drop_leftovers();
        let name = format!("{}{}_{}", *PREFIX, std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let url = url_of(Server::MongoDb.url(), &name);
        Self { name, url, client: client().clone() }
    }

    /// A database of a server that belongs to the test: dropping it is left to the server's end.
    pub fn on(server: &Mongod, name: &str) -> Self {
        let url = server.url(name);
        let connecting = url.clone();
        let client = wait_for(async move { Client::with_uri_str(&connecting).await }).unwrap();
        Self { name: name.to_owned(), url, client }
    }

    /// A copy of this one, beside it: collections with their options, documents and indexes.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy.become_like(self);
        copy
    }

    /// Makes this one a copy of another. What both have stays where it is: each collection and each index is a file, and a
    /// server that makes and drops thousands of them is busy with little else.
    pub fn become_like(&self, other: &Self) {
        let (from, to) = (other.handle(), self.handle());
        let copying = wait_for(async move {
            let (wanted, mut there) = (list_collections(&from).await?, list_collections(&to).await?);
            for (name, options) in &there {
                if wanted.get(name) != Some(options) {
                    to.collection::<Document>(name).drop().await?;
                }
            }
            there.retain(|name, options| wanted.get(name) == Some(options));
            // Side by side: each step waits for the server's journal.
            let copies = wanted.iter().map(|(name, options)| {
                let options = (!there.contains_key(name)).then_some(options);
                copy_collection(&from, &to, name, options)
            });
            try_join_all(copies).await
        });
        copying.unwrap();
    }

    /// The URL, for the program and for connections of the test's own.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's handle. All tests on the shared server share one client, which lives in the support's own runtime.
    pub fn handle(&self) -> Handle {
        self.client.database(&self.name)
    }

    /// Runs a command; its answer.
    pub fn run(&self, command: Document) -> Document {
        let handle = self.handle();
        wait_for(async move { handle.run_command(command).await }).unwrap()
    }

    /// Inserts one document.
    pub fn insert(&self, collection: &str, document: Document) -> mongodb::error::Result<()> {
        let collection = self.handle().collection::<Document>(collection);
        wait_for(async move { collection.insert_one(document).await.map(drop) })
    }

    /// The documents that match, in the order of `_id`.
    pub fn find(&self, collection: &str, filter: Document) -> Vec<Document> {
        let collection = self.handle().collection::<Document>(collection);
        wait_for(async move { collection.find(filter).sort(doc! { "_id": 1 }).await?.try_collect().await })
            .unwrap()
    }

    /// The only document that matches.
    pub fn one(&self, collection: &str, filter: Document) -> Document {
        let mut found = self.find(collection, filter.clone());
        assert_eq!(found.len(), 1, "documents of {collection} that match {filter}");
        found.remove(0)
    }

    /// How many documents match.
    pub fn count(&self, collection: &str, filter: Document) -> u64 {
        let collection = self.handle().collection::<Document>(collection);
        wait_for(async move { collection.count_documents(filter).await }).unwrap()
    }

    /// The names of all collections and views but the server's own, sorted.
    pub fn collections(&self) -> Vec<String> {
        let handle = self.handle();
        let mut names = wait_for(async move { handle.list_collection_names().await }).unwrap();
        names.retain(|name| !name.starts_with("system."));
        names.sort();
        names
    }

    /// The names of all databases of the server.
    pub fn databases(&self) -> Vec<String> {
        let client = self.client.clone();
        wait_for(async move { client.list_database_names().await }).unwrap()
    }

    /// The indexes of a collection as `listIndexes` describes them, by name; none if there is no such collection.
    pub fn indexes(&self, collection: &str) -> BTreeMap<String, Document> {
        if !self.collections().iter().any(|name| name == collection) {
            return BTreeMap::new();
        }
        let (handle, list) = (self.handle(), doc! { "listIndexes": collection });
        let found: Vec<Document> =
            wait_for(async move { handle.run_cursor_command(list).await?.try_collect().await }).unwrap();
        found.into_iter().map(|index| (index.get_str("name").unwrap().to_owned(), index)).collect()
    }

    /// The contents of all collections, by name: the text of all documents in the order of `_id`, with types, whatever the
    /// order of their fields. `except` leaves out what differs between two equal runs: `collection`, `collection.field`
    /// or `*.field`; a dotted field is looked for inside of documents and of the elements of arrays.
    pub fn digest(&self, except: &[&str]) -> Digest {
        let mut digest = Digest::new();
        for name in self.collections() {
            if except.contains(&name.as_str()) {
                continue;
            }
            let hidden = |entry: &&str| {
                let (collection, field) = entry.split_once('.')?;
                (collection == "*" || collection == name).then(|| field.to_owned())
            };
            let hidden: Vec<String> = except.iter().filter_map(hidden).collect();
            let (mut rows, mut text) = (0, String::new());
            for mut document in self.find(&name, doc! {}) {
                for field in &hidden {
                    hide(&mut document, field);
                }
                rows += 1;
                text.push_str(&format!("{:?}\n", sorted(Bson::Document(document))));
            }
            digest.insert(name, Content { rows, hash: format!("{:032x}", xxh3_128(text.as_bytes())) });
        }
        digest
    }
}

/// The options of each collection, by its name.
async fn list_collections(of: &Handle) -> mongodb::error::Result<BTreeMap<String, Document>> {
    let list: Vec<Document> =
        of.run_cursor_command(doc! { "listCollections": 1 }).await?.try_collect().await?;
    let named = |of: Document| {
        (of.get_str("name").unwrap().to_owned(), of.get_document("options").cloned().unwrap_or_default())
    };
    Ok(list.into_iter().map(named).collect())
}

/// The indexes of a collection, but for the one that each has.
async fn list_indexes(of: &Handle, collection: &str) -> mongodb::error::Result<Vec<Document>> {
    let list = of.run_cursor_command(doc! { "listIndexes": collection }).await?;
    let mut list: Vec<Document> = list.try_collect().await?;
    list.retain(|index| index.get_str("name").unwrap() != "_id_");
    Ok(list)
}

/// Makes a collection hold what another database's collection of that name holds; with options, it is made first.
async fn copy_collection(
    from: &Handle,
    to: &Handle,
    name: &str,
    make: Option<&Document>,
) -> mongodb::error::Result<()> {
    let (mut wanted, target) = (list_indexes(from, name).await?, to.collection::<Document>(name));
    if let Some(options) = make {
        let mut create = doc! { "create": name };
        create.extend(options.clone());
        to.run_command(create).await?;
    } else {
        target.delete_many(doc! {}).await?;
        let there = list_indexes(to, name).await?;
        for index in there.iter().filter(|index| !wanted.contains(index)) {
            target.drop_index(index.get_str("name").unwrap()).await?;
        }
        wanted.retain(|index| !there.contains(index));
    }
    if !wanted.is_empty() {
        to.run_command(doc! { "createIndexes": name, "indexes": wanted }).await?;
    }
    let documents = from.collection::<Document>(name).find(doc! {}).await?;
    let documents: Vec<Document> = documents.try_collect().await?;
    if !documents.is_empty() {
        target.insert_many(documents).await?;
    }
    Ok(())
}

impl Drop for MongoDatabase {
    fn drop(&mut self) {
        if !self.url.starts_with(Server::MongoDb.url().split("/?").next().unwrap_or_default()) {
            return;
        }
        let handle = self.handle();
        let dropped = wait_for(async move { handle.drop().await });
        if let Err(error) = dropped
            && !std::thread::panicking()
        {
            panic!("{} cannot be dropped: {error}", self.name);
        }
    }
}

fn hide(document: &mut Document, path: &str) {
    let Some((first, rest)) = path.split_once('.') else {
        document.remove(path);
        return;
    };
    match document.get_mut(first) {
        Some(Bson::Document(inner)) => hide(inner, rest),
        Some(Bson::Array(elements)) => {
            for element in elements.iter_mut().filter_map(Bson::as_document_mut) {
                hide(element, rest);
            }
        }
        _ => {}
    }
}

/// With the fields of every document in alphabetical order.
fn sorted(value: Bson) -> Bson {
    match value {
        Bson::Document(document) => {
            let fields: BTreeMap<String, Bson> = document.into_iter().collect();
            Bson::Document(fields.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Bson::Array(elements) => Bson::Array(elements.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// One client for all tests: each would bring its own monitoring threads and connections.
fn client() -> &'static Client {
    static CLIENT: LazyLock<Client> = LazyLock::new(|| wait_for(connect()).unwrap());
    &CLIENT
}

/// The server keeps what was dropped for as long as somebody may still read its past: five minutes, if not told otherwise.
/// Tests drop a hundred collections and indexes in a second, and beside ten thousand that wait for their end it takes
/// most of a second to make a new one. No test's backup of the shared server takes half a minute.
async fn connect() -> mongodb::error::Result<Client> {
    let client = Client::with_uri_str(Server::MongoDb.url()).await?;
    let shorter = doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 30 };
    client.database("admin").run_command(shorter).await?;
    Ok(client)
}

/// Drops the databases of test processes that are no more, once per process.
fn drop_leftovers() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        // Not inside of the work: making the client waits for the same runtime.
        let client = client();
        for name in wait_for(async { client.list_database_names().await }).unwrap() {
            let process = name.strip_prefix(PREFIX.as_str()).and_then(|rest| rest.split('_').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Another process that starts now may drop it at the same time: it is gone either way.
                drop(wait_for(async move { client.database(&name).drop().await }));
            }
        }
    });
}

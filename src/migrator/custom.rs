//! Migrators in Rust, for what neither SQL nor a definition can say.
//!
//! One of these stands before the migrator of its entity's definition, which says where rows are read and what they are
//! written to, and is checked against both databases like any other. Most do one thing and leave the rest to it.

use std::fmt;
use std::sync::Arc;

use super::{Definition, Migrator};
use crate::definition::problem::did_you_mean;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Makes a migrator of the one that runs the definition; once for each chunk of rows.
pub type Make = dyn Fn(Definition) -> Box<dyn Migrator> + Send + Sync;

/// The migrator in Rust of one entity.
#[derive(Clone)]
pub struct Custom {
    make: Arc<Make>,
    /// What [`Migrator::version`] says.
    pub version: u32,
}

impl Custom {
    /// Before the definition's own.
    pub fn before(&self, definition: Definition) -> Box<dyn Migrator> {
        (self.make)(definition)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Custom(version {})", self.version)
    }
}

/// The migrators in Rust that a program brings, by the names of their entities.
#[derive(Clone, Default)]
pub struct Migrators(Vec<(String, Arc<Make>)>);

impl Migrators {
    /// One more.
    pub fn add(&mut self, entity: &str, make: Arc<Make>) {
        self.0.push((entity.to_owned(), make));
    }

    /// Puts them into the plan. They count as a part of their entities' definitions: another version is an edit.
    ///
    /// # Errors
    /// Usage: an entity has none of that name in the plan, or two of them.
    pub fn join(&self, plan: &mut Plan) -> Result<()> {
        for (name, make) in &self.0 {
            let Some(index) = plan.entities.iter().position(|entity| *entity.name == **name) else {
                let names = plan.entities.iter().map(|entity| &*entity.name);
                let error = Error::usage(format!(
                    "this program has a migrator for `{name}`, of which there is no definition"
                ));
                return Err(match did_you_mean(name, names) {
                    Some(meant) => error.help(format!("did you mean `{meant}`?")),
                    None => error.help(
                        "write its definition: it says where rows are read and what they are written to",
                    ),
                });
            };
            if plan.entities[index].custom.is_some() {
                return Err(Error::usage(format!("this program has two migrators for `{name}`")));
            }
            let version = make(Definition::new(Arc::new(plan.clone()), index)).version();
            let entity = &mut plan.entities[index];
            let both = format!("{} {version}", entity.definition_hash);
            entity.definition_hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(both.as_bytes()));
            entity.custom = Some(Custom { make: Arc::clone(make), version });
        }
        Ok(())
    }
}

impl fmt::Debug for Migrators {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

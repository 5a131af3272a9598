//! The main job, driven through the real program, judged by what the databases hold.

mod carry;
mod contact;
mod definition;
mod foretold;
mod interrupted;
mod narrow;
mod once;
mod passwords;
mod refused;
mod rejects;
mod selection;
mod since;
mod undo;

use crate::support::{Database, Digest, Outcome, Project, prepared};

/// A V1 with people, an empty V2, and the program between them.
pub struct Job {
    pub v1: Database,
    pub v2: Database,
    pub project: Project,
}

impl Job {
    /// `people` of the sample in V1, and a V2 that was set up. Hashing costs nothing here: its cost has tests of its own.
    pub fn new(people: u32, more: &[&str]) -> Self {
        let (v1, v2) = (prepared::sample(people, more), prepared::v2());
        let project = Project::between(&v1, &v2)
            .env("V1V2_HASH_MEMORY_KIB", "8")
            .env("V1V2_HASH_ITERATIONS", "1")
            .env("V1V2_PASSWORDS", "none");
        Self { v1, v2, project }
    }

    /// The same V1 with another, empty V2.
    pub fn another_v2(self) -> (Self, Database) {
        let v2 = prepared::v2();
        let project = self.project.env("V2_DATABASE_URL", v2.url());
        (Self { v1: self.v1, v2, project }, self.v2)
    }

    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.project.run(arguments)
    }

    /// Runs `migrate --force` and expects its exit code.
    pub fn migrate(&self, more: &[&str], code: i32) -> Outcome {
        self.run(&[&["migrate", "--force"], more].concat()).expect(code)
    }

    /// What two equal runs have in common.
    pub fn result(&self) -> Digest {
        result_of(&self.v2)
    }

    /// V2's indexes and foreign keys, each with its definition and whether it is valid.
    pub fn structure(&self) -> Vec<Vec<Option<String>>> {
        structure_of(&self.v2)
    }
}

/// Indexes and foreign keys, each with its definition and whether it is valid.
pub fn structure_of(v2: &Database) -> Vec<Vec<Option<String>>> {
    v2.rows(
        // A session that has just ended may still be losing its temporary tables.
        "select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid \
         from pg_index join pg_class c on c.oid = indrelid \
         where c.relpersistence <> 't' and indrelid::regclass::text not like 'pg_%' \
         union all select 'constraint', conrelid::regclass::text || conname, pg_get_constraintdef(k.oid) || convalidated \
         from pg_constraint k join pg_class c on c.oid = conrelid where c.relpersistence <> 't' order by 1, 2",
    )
}

/// What two equal runs have in common: everything but the run's own times, numbers, ids and salts.
pub fn result_of(v2: &Database) -> Digest {
    let except = [
        "*.passwordHash",
        "*.assignedAt",
        "*.txid",
        "*.earlier",
        "*.run",
        "v1v2.entities.first_run",
        "v1v2.meta.value",
    ];
    let mut digest = v2.digest(&["public", "v1v2"], &except);
    for own in ["v1v2.runs", "v1v2.lock", "v1v2.dropped", "v1v2.meta", "v1v2.replaced"] {
        digest.remove(own);
    }
    // Reference data carries the time of its setup.
    digest.retain(|table, _| !REFERENCE.contains(&table.as_str()));
    digest
}

const REFERENCE: &[&str] = &[
    "public.UserType",
    "public.Role",
    "public.PermissionModule",
    "public.Permission",
    "public.RolePermission",
    "public.GradeSystem",
    "public.GradeLevel",
    "public.Curriculum",
    "public.ClassLevel",
    "public.SubjectCategory",
    "public.Subject",
    "v1v2.setup_objects",
];

//! The tables, and the migration of files of earlier versions.

use rusqlite::{Connection, TransactionBehavior};

/// The migration steps. `user_version` is the number of steps that a file has taken. A
/// released step is never changed.
const MIGRATIONS: [&str; 2] = [
    // Tables of the journal.
    "CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        identity BLOB NOT NULL,
        accepted INTEGER NOT NULL,
        only TEXT,
        kind TEXT NOT NULL,
        timestamp TEXT NOT NULL,
        call TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE observers (
        name TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        undone TEXT NOT NULL,
        kinds INTEGER NOT NULL,
        seen INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        observer TEXT NOT NULL,
        identity BLOB NOT NULL,
        accepted INTEGER NOT NULL,
        at INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        error TEXT NOT NULL,
        kind TEXT NOT NULL,
        timestamp TEXT NOT NULL,
        call TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX dead_observer ON dead (observer, id);
    CREATE TABLE sums (events_and_dead INTEGER NOT NULL) STRICT;
    INSERT INTO sums VALUES (0);",
    // Tables of call contexts and of plugins' values.
    "CREATE TABLE calls (
        key TEXT PRIMARY KEY,
        until INTEGER NOT NULL,
        document TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX calls_until ON calls (until);
    CREATE TABLE kv (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        until INTEGER,
        PRIMARY KEY (namespace, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX kv_until ON kv (until) WHERE until IS NOT NULL;",
];

/// The error of a migration.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// A newer version wrote the file, and this version might damage its data.
    #[error(
        "it was written by a newer Plugboard (schema {found}; this version supports {known}); start \
         the newer version, or use another data folder"
    )]
    Newer { found: usize, known: usize },
    /// An error of SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Migrates a file to the current version, in one transaction.
pub(super) fn migrate(db: &mut Connection) -> Result<(), SchemaError> {
    migrate_to(db, MIGRATIONS.len())
}

fn migrate_to(db: &mut Connection, version: usize) -> Result<(), SchemaError> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > MIGRATIONS.len() {
        return Err(SchemaError::Newer { found, known: MIGRATIONS.len() });
    }
    if found >= version {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in MIGRATIONS.iter().take(version).skip(found) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    if found > 0 {
        tracing::info!(from = found, to = version, "store migrated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_keeps_rows_of_older_schema() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate_to(&mut db, 1).unwrap();
        db.execute(
            "INSERT INTO events VALUES (7, x'00', 1, NULL, 'started', 't', '{}', '\"started\"')",
            [],
        )
        .unwrap();
        assert!(db.execute("DELETE FROM kv", []).is_err(), "not there yet");
        migrate(&mut db).unwrap();
        migrate(&mut db).unwrap();
        let seq: i64 = db.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).unwrap();
        assert_eq!(seq, 7);
        db.execute("DELETE FROM kv", []).unwrap();
    }

    #[test]
    fn newer_schema_is_rejected() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut db).unwrap_err().to_string();
        assert!(error.contains("newer Plugboard (schema 99"), "{error}");
    }
}

//! Plugins' values in SQL. The size of a value includes its key and an overhead, so that
//! many small values are not free.
//!
//! A reader reads values without waiting for the writer. The writer thread counts the quota;
//! expired values make room before a write is rejected.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::write_job::WriteContext;
use crate::{KvAnswer, KvCommand, KvError};

/// The approximate size of a row beside its key and value, in bytes.
const ROW_OVERHEAD: usize = 64;

/// The maximum number of rows that one transaction removes.
const MAX_ROWS_REMOVED: i64 = 1_000;

pub(super) fn get(
    db: &Connection,
    namespace: &str,
    key: &str,
    now: i64,
) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached(
        "SELECT value FROM kv WHERE namespace = ? AND key = ? AND (until IS NULL OR until > ?)",
    )?
    .query_row(params![namespace, key, now], |row| row.get(0))
    .optional()
}

pub(super) fn execute(
    work: &mut WriteContext<'_>,
    namespace: &Arc<str>,
    key: &str,
    command: KvCommand,
    max_bytes: usize,
    now: i64,
) -> rusqlite::Result<Result<KvAnswer, KvError>> {
    let mut kv_space = KvSpace { work, namespace, max_bytes, now };
    match command {
        KvCommand::Get => Ok(Ok(KvAnswer::Value(get(kv_space.work.db, namespace, key, now)?))),
        KvCommand::Set { value, ttl } => {
            let until = expires_at(now, ttl);
            Ok(kv_space.put(key, &value, until)?.map(|()| KvAnswer::Done))
        }
        KvCommand::Delete => Ok(Ok(KvAnswer::Flag(kv_space.delete(key)?))),
        KvCommand::Increment { by, ttl } => kv_space.increment(key, by, ttl),
        KvCommand::Swap { expected, value, ttl } => {
            let current = get(kv_space.work.db, namespace, key, now)?;
            if current != expected {
                return Ok(Ok(KvAnswer::Flag(false)));
            }
            Ok(kv_space.put(key, &value, expires_at(now, ttl))?.map(|()| KvAnswer::Flag(true)))
        }
    }
}

/// The values of one plugin.
struct KvSpace<'a, 'b> {
    work: &'a mut WriteContext<'b>,
    namespace: &'a Arc<str>,
    max_bytes: usize,
    now: i64,
}

impl KvSpace<'_, '_> {
    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        until: Option<i64>,
    ) -> rusqlite::Result<Result<(), KvError>> {
        let new = ROW_OVERHEAD + key.len() + value.len();
        let (mut old, mut total) = (self.size(key)?, self.total()?);
        if total - old + new > self.max_bytes {
            // Expired values do not count.
            remove_expired(self.work, Some(self.namespace), self.now)?;
            (old, total) = (self.size(key)?, self.total()?);
            if total - old + new > self.max_bytes {
                return Ok(Err(KvError::Quota(self.max_bytes)));
            }
        }
        self.work
            .db
            .prepare_cached(
                "INSERT INTO kv (namespace, key, value, until) VALUES (?, ?, ?, ?)
                 ON CONFLICT (namespace, key) DO UPDATE
                    SET value = excluded.value, until = excluded.until",
            )?
            .execute(params![self.namespace, key, value, until])?;
        self.work.state.kv_bytes.insert(Arc::clone(self.namespace), total - old + new);
        Ok(Ok(()))
    }

    fn delete(&mut self, key: &str) -> rusqlite::Result<bool> {
        let existed = get(self.work.db, self.namespace, key, self.now)?.is_some();
        let (old, total) = (self.size(key)?, self.total()?);
        self.work
            .db
            .prepare_cached("DELETE FROM kv WHERE namespace = ? AND key = ?")?
            .execute(params![self.namespace, key])?;
        self.work.state.kv_bytes.insert(Arc::clone(self.namespace), total - old);
        Ok(existed)
    }

    fn increment(
        &mut self,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
    ) -> rusqlite::Result<Result<KvAnswer, KvError>> {
        let current: Option<(Vec<u8>, Option<i64>)> = self
            .work
            .db
            .prepare_cached(
                "SELECT value, until FROM kv
                 WHERE namespace = ? AND key = ? AND (until IS NULL OR until > ?)",
            )?
            .query_row(params![self.namespace, key, self.now], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (number, until) = match current {
            None => (Some(0), expires_at(self.now, ttl)),
            Some((text, until)) => {
                (str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok()), until)
            }
        };
        let Some(sum) = number.and_then(|number| number.checked_add(by)) else {
            return Ok(Err(KvError::NotANumber));
        };
        let put = self.put(key, sum.to_string().as_bytes(), until)?;
        Ok(put.map(|()| KvAnswer::Number(sum)))
    }

    /// Returns the size of a value, expired or not; 0 if the key has no value.
    fn size(&self, key: &str) -> rusqlite::Result<usize> {
        let length: Option<usize> = self
            .work
            .db
            .prepare_cached("SELECT length(value) FROM kv WHERE namespace = ? AND key = ?")?
            .query_row(params![self.namespace, key], |row| row.get(0))
            .optional()?;
        Ok(length.map_or(0, |length| ROW_OVERHEAD + key.len() + length))
    }

    /// Returns the size of all values.
    fn total(&mut self) -> rusqlite::Result<usize> {
        if let Some(total) = self.work.state.kv_bytes.get(self.namespace) {
            return Ok(*total);
        }
        let total: usize = self
            .work
            .db
            .prepare_cached(
                "SELECT coalesce(sum(length(value) + length(CAST(key AS BLOB)) + ?), 0)
                 FROM kv WHERE namespace = ?",
            )?
            .query_row(params![ROW_OVERHEAD, self.namespace], |row| row.get(0))?;
        self.work.state.kv_bytes.insert(Arc::clone(self.namespace), total);
        Ok(total)
    }
}

/// Removes a value. Returns whether the key had one.
pub(super) fn remove(
    work: &mut WriteContext<'_>,
    namespace: &str,
    key: &str,
) -> rusqlite::Result<bool> {
    let removed: Option<usize> = work
        .db
        .prepare_cached("DELETE FROM kv WHERE namespace = ? AND key = ? RETURNING length(value)")?
        .query_row(params![namespace, key], |row| row.get(0))
        .optional()?;
    if let (Some(length), Some(total)) = (removed, work.state.kv_bytes.get_mut(namespace)) {
        *total = total.saturating_sub(ROW_OVERHEAD + key.len() + length);
    }
    Ok(removed.is_some())
}

/// Removes expired values of one plugin or of all, at most [`MAX_ROWS_REMOVED`].
pub(super) fn remove_expired(
    work: &mut WriteContext<'_>,
    namespace: Option<&str>,
    now: i64,
) -> rusqlite::Result<()> {
    let mut delete = work.db.prepare_cached(
        "DELETE FROM kv WHERE (namespace, key) IN
            (SELECT namespace, key FROM kv
             WHERE until <= ?1 AND (?2 IS NULL OR namespace = ?2) ORDER BY until LIMIT ?3)
         RETURNING namespace, length(value) + length(CAST(key AS BLOB))",
    )?;
    let mut removed_rows = delete.query(params![now, namespace, MAX_ROWS_REMOVED])?;
    while let Some(row) = removed_rows.next()? {
        let bytes = ROW_OVERHEAD + row.get::<_, usize>(1)?;
        if let Some(total) = work.state.kv_bytes.get_mut(row.get_ref(0)?.as_str()?) {
            *total = total.saturating_sub(bytes);
        }
    }
    Ok(())
}

fn expires_at(now: i64, ttl: Option<Duration>) -> Option<i64> {
    let ttl = ttl?;
    Some(now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)))
}

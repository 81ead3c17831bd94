//! What the plugin keeps: a store of its own, filled from a file, and what became of
//! it. The store is the one that serves, in a folder that is gone with the run, so
//! that its rules are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::staged::stage;
use crate::config::{Config, Durability, JournalConfig};
use crate::plugin::record::{HostCall, Record, What};
use crate::store::sqlite::Sqlite;
use crate::store::{KvAnswer, KvCommand, Store};

/// The values of one plugin for one run.
pub(super) struct Values {
    plugin: Arc<str>,
    store: Arc<dyn Store>,
    before: BTreeMap<String, Vec<u8>>,
    /// Keys that the plugin wrote to, or tried to.
    touched: BTreeSet<String>,
    _folder: TempDir,
}

/// What became of a value.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    pub(super) key: String,
    /// None: there was none.
    pub(super) before: Option<String>,
    /// None: there is none any more.
    pub(super) after: Option<String>,
}

/// The values of a file: text stands for itself, anything else for its JSON.
pub(super) fn read(file: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let values: BTreeMap<String, Value> = serde_json::from_slice(&text).with_context(|| {
        format!("{} is no JSON object with a value for each key", file.display())
    })?;
    let bytes = |value| match value {
        Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    };
    Ok(values.into_iter().map(|(key, value)| (key, bytes(value))).collect())
}

impl Values {
    /// A store with these values. Within a runtime only.
    pub(super) async fn start(
        config: &Config,
        plugin: &str,
        before: BTreeMap<String, Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the run's values")?;
        // It need not outlive the loss of power.
        let journal = JournalConfig { sync: Durability::Normal, ..config.journal.clone() };
        let store = Sqlite::start(folder.path(), journal, config.kv.max_total)?;
        let (store, plugin): (Arc<dyn Store>, Arc<str>) = (Arc::new(store), plugin.into());
        // Reading alone does not make the file.
        store.observers().await.context("cannot keep the run's values")?;
        let set = |(key, value): (&String, &Vec<u8>)| {
            let command = KvCommand::Set { value: value.clone(), ttl: None };
            store.kv(Arc::clone(&plugin), key.clone(), command)
        };
        try_join_all(before.iter().map(set)).await.context("cannot keep the values of --kv")?;
        Ok(Self { plugin, store, before, touched: BTreeSet::new(), _folder: folder })
    }

    /// The store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Remembers what a call of the plugin may have changed.
    pub(super) fn look_at(&mut self, record: &Record) {
        self.touched.extend(record.steps.iter().filter_map(|step| match &step.what {
            What::Asked(HostCall { function, subject, .. })
                if function.starts_with("kv.") && *function != "kv.get" =>
            {
                Some(subject.clone())
            }
            _ => None,
        }));
    }

    /// What is otherwise than before, and every value now.
    pub(super) async fn changes(&self) -> anyhow::Result<(Vec<Change>, BTreeMap<String, Vec<u8>>)> {
        let (mut changes, mut now) = (Vec::new(), self.before.clone());
        for key in &self.touched {
            let answer = self.store.kv(Arc::clone(&self.plugin), key.clone(), KvCommand::Get).await;
            let after = match answer.context("cannot look at what the plugin keeps")? {
                KvAnswer::Value(value) => value,
                _ => None,
            };
            let before = self.before.get(key);
            if before == after.as_ref() {
                continue;
            }
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            let (before, shown) = (before.map(text), after.as_ref().map(text));
            changes.push(Change { key: key.clone(), before, after: shown });
            match after {
                Some(value) => now.insert(key.clone(), value),
                None => now.remove(key),
            };
        }
        Ok((changes, now))
    }

    /// Ends the store.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

/// Writes values to a file that [`read`] reads; whole, as they may be of many runs.
pub(super) fn write(file: &Path, values: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let mut document = BTreeMap::new();
    for (key, bytes) in values {
        let Ok(text) = str::from_utf8(bytes) else {
            bail!("the value of {key:?} is no text, and {} can have no other", file.display());
        };
        // JSON as JSON, if reading it again gives the same bytes.
        let json = serde_json::from_str::<Value>(text).ok().filter(|json| {
            let again = json.to_string();
            !json.is_string() && again == text
        });
        document.insert(key, json.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    let text = serde_json::to_string_pretty(&document)? + "\n";
    // A link stays one.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let write = || io::Result::Ok(stage(&file, text.as_bytes(), None)?.persist(&file)?);
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let values = ["text", "7", " 7", "{\"a\":[1,null]}", "{ }", "\"quoted\"", "null", ""];
        let values: BTreeMap<String, Vec<u8>> =
            values.map(|value| (format!("of {value}"), value.as_bytes().to_vec())).into();
        write(&file, &values).unwrap();
        assert_eq!(read(&file).unwrap(), values);
        assert!(fs::read_to_string(&file).unwrap().contains("\"of 7\": 7"));
        let binary = BTreeMap::from([("b".to_owned(), vec![0xff])]);
        assert!(write(&file, &binary).unwrap_err().to_string().contains("no text"));
        fs::write(&file, "[1]").unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("no JSON object"));
    }
}

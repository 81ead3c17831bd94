//! Values of the plugin during a run: the initial values from a file, and the plugin's changes.
//!
//! They are in a store of the server, in a temporary folder, so the same rules apply.

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

use crate::cli::atomic_file::write_temporary;
use plugboard_config::{Config, Durability, JournalConfig};
use plugboard_runtime::plugin::recorder::{HostCall, InvocationRecord, StepKind};
use plugboard_store::sqlite::SqliteStore;
use plugboard_store::{KvAnswer, KvCommand, Store};

/// Values of one plugin during one run.
pub(super) struct KvState {
    plugin: Arc<str>,
    store: Arc<dyn Store>,
    initial: BTreeMap<String, Vec<u8>>,
    /// Keys that the plugin wrote or tried to write.
    written_keys: BTreeSet<String>,
    _folder: TempDir,
}

/// Change of a value during the run.
#[derive(Debug, Serialize)]
pub(super) struct KvChange {
    pub(super) key: String,
    /// None: the key did not exist.
    pub(super) before: Option<String>,
    /// None: the plugin removed the key.
    pub(super) after: Option<String>,
}

/// Reads the values of a file. A JSON string is the value itself; any other value is stored as
/// its JSON.
pub(super) fn read_values(file: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let values: BTreeMap<String, Value> = serde_json::from_slice(&text).with_context(|| {
        format!("{} is not a JSON object with a value for each key", file.display())
    })?;
    let bytes = |value| match value {
        Value::String(text) => text.into_bytes(),
        other => other.to_string().into_bytes(),
    };
    Ok(values.into_iter().map(|(key, value)| (key, bytes(value))).collect())
}

impl KvState {
    /// Creates a store with these values. Needs a runtime.
    pub(super) async fn start(
        config: &Config,
        plugin: &str,
        initial: BTreeMap<String, Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for the run's values")?;
        // The store is temporary and need not survive a power failure.
        let journal = JournalConfig { sync: Durability::Normal, ..config.journal.clone() };
        let store = SqliteStore::start(folder.path(), journal, config.kv.max_total)?;
        let (store, plugin): (Arc<dyn Store>, Arc<str>) = (Arc::new(store), plugin.into());
        // Creates the file; reading alone does not.
        store.consumers().await.context("cannot create a store for the run's values")?;
        let set_value = |(key, value): (&String, &Vec<u8>)| {
            let command = KvCommand::Set { value: value.clone(), ttl: None };
            store.kv(Arc::clone(&plugin), key.clone(), command)
        };
        try_join_all(initial.iter().map(set_value))
            .await
            .context("cannot store the values of --kv")?;
        Ok(Self { plugin, store, initial, written_keys: BTreeSet::new(), _folder: folder })
    }

    /// Returns the store for the plugin's loader.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Records the keys that an invocation may have changed.
    pub(super) fn record_writes(&mut self, recording: &InvocationRecord) {
        self.written_keys.extend(recording.steps.iter().filter_map(|step| match &step.kind {
            StepKind::HostCall(HostCall { function, subject, .. })
                if function.starts_with("kv.") && *function != "kv.get" =>
            {
                Some(subject.clone())
            }
            _ => None,
        }));
    }

    /// Returns the changes, and all current values.
    pub(super) async fn changes(
        &self,
    ) -> anyhow::Result<(Vec<KvChange>, BTreeMap<String, Vec<u8>>)> {
        let (mut changes, mut current) = (Vec::new(), self.initial.clone());
        for key in &self.written_keys {
            let answer = self.store.kv(Arc::clone(&self.plugin), key.clone(), KvCommand::Get).await;
            let after = match answer.context("cannot read the plugin's values")? {
                KvAnswer::Value(value) => value,
                _ => None,
            };
            let before = self.initial.get(key);
            if before == after.as_ref() {
                continue;
            }
            let to_text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            let (before, shown) = (before.map(to_text), after.as_ref().map(to_text));
            changes.push(KvChange { key: key.clone(), before, after: shown });
            match after {
                Some(value) => current.insert(key.clone(), value),
                None => current.remove(key),
            };
        }
        Ok((changes, current))
    }

    /// Closes the store and its file.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

/// Writes values to a file that [`read_values`] reads. The file is replaced atomically, because
/// it can have the values of many runs.
pub(super) fn write_values(file: &Path, values: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let mut document = BTreeMap::new();
    for (key, bytes) in values {
        let Ok(text) = str::from_utf8(bytes) else {
            bail!("the value of {key:?} is not UTF-8 and cannot be written to {}", file.display());
        };
        // JSON is written as JSON if reading it returns the same bytes.
        let json = serde_json::from_str::<Value>(text).ok().filter(|json| {
            let round_trip = json.to_string();
            !json.is_string() && round_trip == text
        });
        document.insert(key, json.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    let text = serde_json::to_string_pretty(&document)? + "\n";
    // A symbolic link is kept.
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let write = || io::Result::Ok(write_temporary(&file, text.as_bytes(), None)?.persist(&file)?);
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_values_read_back_identically() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let values = ["text", "7", " 7", "{\"a\":[1,null]}", "{ }", "\"quoted\"", "null", ""];
        let values: BTreeMap<String, Vec<u8>> =
            values.map(|value| (format!("of {value}"), value.as_bytes().to_vec())).into();
        write_values(&file, &values).unwrap();
        assert_eq!(read_values(&file).unwrap(), values);
        assert!(fs::read_to_string(&file).unwrap().contains("\"of 7\": 7"));
        let binary = BTreeMap::from([("b".to_owned(), vec![0xff])]);
        assert!(write_values(&file, &binary).unwrap_err().to_string().contains("not UTF-8"));
        fs::write(&file, "[1]").unwrap();
        assert!(read_values(&file).unwrap_err().to_string().contains("not a JSON object"));
    }
}

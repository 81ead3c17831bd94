//! The list of configuration keys with their environment variables, read from the schema
//! of [`ConfigDocument`], so that a new field of a section needs no entry elsewhere.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::ConfigDocument;
use crate::schema::generate_schema;

/// The prefix of the environment variable of every key.
pub(crate) const VARIABLE_PREFIX: &str = "PLUGBOARD_";

/// Every configuration key, in alphabetical order.
pub static KEYS: LazyLock<Vec<ConfigKey>> = LazyLock::new(|| {
    let mut keys = Vec::new();
    collect_keys(&generate_schema::<ConfigDocument>(), "", &mut keys);
    keys
});

/// A configuration key.
#[derive(Debug)]
pub struct ConfigKey {
    /// The name with its table: `limits.max_body`.
    pub path: String,
    /// The environment variable: `PLUGBOARD_LIMITS_MAX_BODY`.
    pub variable: String,
}

impl ConfigKey {
    fn new(path: String) -> Self {
        let variable = format!("{VARIABLE_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase());
        Self { path, variable }
    }
}

/// Adds the properties of `table`. `prefix` is empty or ends with a dot.
fn collect_keys(table: &Value, prefix: &str, keys: &mut Vec<ConfigKey>) {
    for (name, property) in properties(table).into_iter().flatten() {
        let path = format!("{prefix}{name}");
        match properties(property) {
            Some(_) => collect_keys(property, &format!("{path}."), keys),
            None => keys.push(ConfigKey::new(path)),
        }
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_those_of_the_document_and_its_tables() {
        let paths: Vec<_> = KEYS.iter().map(|key| key.path.as_str()).collect();
        for expected in ["listen", "allowed_sts_hosts", "limits.max_body", "blackbox.headers"] {
            assert!(paths.contains(&expected), "{expected}: {paths:?}");
        }
        assert!(!paths.contains(&"limits"), "a table is no key: {paths:?}");
        assert!(paths.len() > 60, "{paths:?}");
        let variables: HashSet<_> = KEYS.iter().map(|key| &key.variable).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains(&"PLUGBOARD_LIMITS_MAX_BODY".to_owned()));
    }
}

//! Settings of a plugin: the file `NAME.toml` beside `NAME.wasm`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use globset::{Glob, GlobSet};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use plugboard_config::toml_error::{self, TomlError};
use plugboard_core::call::Call;
use plugboard_core::event::{EventKind, EventKinds};
use plugboard_core::platforms::Platform;
use plugboard_core::units;
use plugboard_egress::HttpGrants;

/// The operator's settings of one plugin. Every key is optional.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Loads the plugin.
    pub enabled: bool,
    /// Platforms whose calls and events the plugin receives: `avr`, `dsai`, `blackbox`.
    /// Empty: all.
    pub platforms: Vec<Platform>,
    /// Consequence of a failure of the plugin for the call.
    pub on_failure: OnFailure,
    /// Calls for which the plugin runs. All given fields must match; a field that the call
    /// lacks does not match. Each field has one pattern, or a list of which one must match:
    /// `*` is any text, `?` one byte, `[0-9]` one of a set, `{a,b}` either.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Values that the plugin reads with `config::get`. Numbers and booleans are passed as
    /// text, arrays and tables as JSON.
    #[serde(deserialize_with = "config_values")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub config: BTreeMap<String, String>,
    /// Limits of the plugin. The server's `[plugin_limits]` apply to omitted keys.
    pub limits: Limits,
    /// Events that the observer receives.
    pub events: Events,
    /// Tools that the plugin answers.
    pub tools: Tools,
    /// Capabilities that the plugin may use.
    pub grants: Grants,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            platforms: Vec::new(),
            on_failure: OnFailure::default(),
            matches: Match::default(),
            config: BTreeMap::new(),
            limits: Limits::default(),
            events: Events::default(),
            tools: Tools::default(),
            grants: Grants::default(),
        }
    }
}

impl Settings {
    /// Reads the text of a settings file.
    ///
    /// # Errors
    ///
    /// Fails if the text is not TOML or has an invalid key or value; names the line.
    pub fn parse(text: &str, file: &Path) -> Result<Self, TomlError> {
        toml_error::parse(text, file)
    }

    /// Returns whether the plugin runs for a call.
    pub fn accepts_call(&self, call: &Call) -> bool {
        (self.platforms.is_empty() || self.platforms.contains(&call.platform))
            && self.matches.is_match(call)
    }
}

/// The consequence of a plugin's failure for the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The next plugin of the chain decides, as after a pass.
    #[default]
    Pass,
    /// The rest of the chain is skipped, and the call gets the fallback.
    Stop,
}

/// Limits of the plugin. The server's `[plugin_limits]` apply to omitted keys.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Time limit (wall clock) of one decision or transfer.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Option<Duration>,
    /// Time limit of one event.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "units::DurationText")]
    pub event_timeout: Option<Duration>,
    /// Time limit of one tool call. Keep it below half of the platform's limit, so that
    /// another plugin with the tool has time to answer after a failure.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "units::DurationText")]
    pub tool_timeout: Option<Duration>,
    /// Linear memory of one instance, at most the server's `engine.max_memory`.
    #[serde(deserialize_with = "some_size")]
    #[schemars(with = "units::SizeText")]
    pub memory: Option<usize>,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration::deserialize(deserializer).map(Some)
}

fn some_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    units::size::deserialize(deserializer).map(Some)
}

/// The events that an observer receives.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Kinds of events. None: all.
    kinds: Option<Vec<EventKind>>,
}

impl Events {
    /// The kinds of events; all, unless the settings name some.
    pub fn kinds(&self) -> EventKinds {
        match &self.kinds {
            Some(kinds) => kinds.iter().copied().collect(),
            None => EventKinds::all(),
        }
    }
}

/// The tools that a plugin answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// Names of the tools. None: the names that the plugin itself returns.
    pub names: Option<Vec<String>>,
}

/// The capabilities that a plugin may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Key-value store, whose values outlive a call.
    pub kv: bool,
    /// Counters and histograms of the plugin in `GET /metrics`.
    pub metrics: bool,
    /// HTTP requests to these hosts: `crm.example.com:443`, `*.example.com`,
    /// `10.0.0.0/8:8080`.
    #[schemars(with = "Vec<String>")]
    pub http: HttpGrants,
}

/// The calls for which a plugin runs, checked before any WebAssembly runs. All given fields
/// must match; a field that the call lacks does not match.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Number of the caller.
    from: Option<Globs>,
    /// Called number.
    to: Option<Globs>,
    /// Voice agent of the platform.
    agent: Option<Globs>,
    /// Further fields of the call, by name.
    metadata: BTreeMap<String, Globs>,
}

impl Match {
    /// Returns the fields that have patterns, with their patterns.
    pub fn fields(&self) -> impl Iterator<Item = (CallField<'_>, &Globs)> {
        let fixed = [("to", &self.to), ("from", &self.from), ("agent", &self.agent)];
        let fixed = fixed
            .into_iter()
            .filter_map(|(name, globs)| Some((CallField::Standard(name), globs.as_ref()?)));
        fixed.chain(
            self.metadata.iter().map(|(name, globs)| (CallField::Metadata(name.into()), globs)),
        )
    }

    fn is_match(&self, call: &Call) -> bool {
        self.fields()
            .all(|(field, globs)| field.value_in(call).is_some_and(|value| globs.is_match(&value)))
    }
}

/// Field of a call that a match can test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallField<'a> {
    /// Field that every platform has.
    Standard(&'static str),
    /// Further field of the call, by name.
    Metadata(Cow<'a, str>),
}

impl CallField<'_> {
    /// Converts to an owned field.
    pub fn into_owned(self) -> CallField<'static> {
        match self {
            Self::Standard(name) => CallField::Standard(name),
            Self::Metadata(name) => CallField::Metadata(Cow::Owned(name.into_owned())),
        }
    }

    /// Returns the value of the field in a call, if the call has the field.
    pub fn value_in<'a>(&self, call: &'a Call) -> Option<Cow<'a, str>> {
        match self {
            Self::Standard(name) => call.field(name),
            Self::Metadata(name) => call.metadata(name),
        }
    }
}

/// One pattern or several, of which one must match: `*` is any text, `?` one
/// byte, `[0-9]` one of a set, `{a,b}` either.
#[derive(Debug)]
pub struct Globs {
    /// Patterns without a wildcard, sorted: these decide for most calls.
    literals: Vec<String>,
    patterns: Vec<Glob>,
    set: GlobSet,
}

impl Globs {
    /// Returns the patterns in their original order.
    pub fn patterns(&self) -> &[Glob] {
        &self.patterns
    }

    fn is_match(&self, value: &str) -> bool {
        self.literals.binary_search_by(|text| text.as_str().cmp(value)).is_ok()
            || (self.literals.len() < self.patterns.len() && self.set.is_match(value))
    }
}

/// Returns the start of a pattern, up to the first special character.
pub fn literal_prefix(pattern: &Glob) -> &str {
    let special = ['*', '?', '[', ']', '{', '}', '\\', '!'];
    pattern.glob().split(special).next().unwrap_or_default()
}

impl JsonSchema for Globs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Globs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "string" },
            "minItems": 1,
        })
    }
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a match is a pattern, or a list of patterns, in quotes")]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        let patterns = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(pattern) => vec![pattern],
            OneOrMany::Many(patterns) => patterns,
        };
        if patterns.is_empty() {
            return Err(de::Error::custom(
                "an empty list matches no call; leave the key out to match every call",
            ));
        }
        let glob = |pattern: &String| {
            Glob::new(pattern).map_err(|error| {
                de::Error::custom(format!(
                    "{pattern:?} is not a pattern: {}; `*`, `?`, `[0-9]` and `{{a,b}}` are special",
                    error.kind()
                ))
            })
        };
        let patterns: Vec<Glob> = patterns.iter().map(glob).collect::<Result<_, _>>()?;
        let set = GlobSet::new(&patterns).map_err(de::Error::custom)?;
        let is_literal = |pattern: &&Glob| literal_prefix(pattern) == pattern.glob();
        let literals = patterns.iter().filter(is_literal).map(|pattern| pattern.glob().to_owned());
        let mut literals: Vec<String> = literals.collect();
        literals.sort_unstable();
        Ok(Self { literals, patterns, set })
    }
}

/// Numbers and booleans as text, arrays and tables as JSON.
fn config_values<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let table = BTreeMap::<String, toml::Value>::deserialize(deserializer)?;
    let text = |value| match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Datetime(time) => Ok(time.to_string()),
        other => serde_json::to_string(&other).map_err(de::Error::custom),
    };
    table.into_iter().map(|(key, value)| Ok((key, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_core::testing::call;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("10-vip.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn documented_example_is_parsed() {
        let settings = parse(
            r#"
            enabled = true
            platforms = ["avr"]
            on_failure = "stop"
            [match]
            to = ["5001", "60*"]
            [config]
            vip = "2000,2001"
            weight = 3
            on = true
            list = [{ url = "ws://a", weight = 1 }]
            [limits]
            timeout = "100ms"
            memory = "16MiB"
            "#,
        )
        .unwrap();
        assert_eq!(settings.on_failure, OnFailure::Stop);
        assert_eq!(settings.limits.timeout, Some(Duration::from_millis(100)));
        assert_eq!(settings.limits.memory, Some(16 << 20));
        assert_eq!(settings.config["vip"], "2000,2001");
        assert_eq!(settings.config["weight"], "3");
        assert_eq!(settings.config["on"], "true");
        assert_eq!(settings.config["list"], r#"[{"url":"ws://a","weight":1}]"#);
    }

    #[test]
    fn settings_accept_call_when_all_fields_match() {
        let settings =
            parse("[match]\nto = ['5001', '60*']\nfrom = '+39*'\nmetadata.channel = 'PJSIP/*'\n")
                .unwrap();
        let channel = r#"{"channel":"PJSIP/2000-0001"}"#;
        assert!(settings.accepts_call(&call("+39021", "5001", channel)));
        assert!(settings.accepts_call(&call("+39021", "6077", channel)));
        assert!(!settings.accepts_call(&call("+39021", "5002", channel)));
        assert!(!settings.accepts_call(&call("2000", "5001", channel)));
        assert!(!settings.accepts_call(&call("+39021", "5001", r#"{"channel":"SIP/1"}"#)));
        assert!(!settings.accepts_call(&call("+39021", "5001", "{}")));
        assert!(!parse("[match]\nagent = '*'").unwrap().accepts_call(&call("1", "2", "{}")));
    }

    #[test]
    fn settings_reject_calls_of_other_platforms() {
        assert!(parse("platforms = ['avr', 'dsai']").unwrap().accepts_call(&call("1", "2", "{}")));
        assert!(!parse("platforms = ['blackbox']").unwrap().accepts_call(&call("1", "2", "{}")));
    }

    #[test]
    fn parse_errors_name_line_and_suggestion() {
        for (text, expected) in [
            ("\nenabeld = true", "10-vip.toml:2: unknown field `enabeld`"),
            ("enabeld = true", "did you mean `enabled`?"),
            ("[limits]\ntimeot = '1s'", "did you mean `timeout`?"),
            ("[grant]\nkv = true", "did you mean `grants`?"),
            ("[grants]\nmetric = true", "did you mean `metrics`?"),
            ("[events]\nkinds = ['start']", "did you mean `started`?"),
            ("[match]\nto = ['60[']", "10-vip.toml:2: \"60[\" is not a pattern"),
            ("[match]\nto = []", "10-vip.toml:2: an empty list matches no call"),
            ("[match]\nto = 5001", "10-vip.toml:2: a match is a pattern"),
            ("[limits]\ntimeout = '250'", "10-vip.toml:2: \"250\" is not a duration"),
            ("[limits]\nmemory = '1 parsec'", "10-vip.toml:2: \"1 parsec\" is not a size"),
            ("on_failure = 'pas'", "did you mean `pass`?"),
            ("platforms = ['aver']", "did you mean `avr`?"),
            ("enabled = \n", "10-vip.toml:1: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

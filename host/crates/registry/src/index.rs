//! The index of a chain: finds the plugins that may match a call, without checking the others.
//!
//! The index uses one field of each plugin's `match`: the field with the narrowest patterns. A
//! plugin is a candidate if the call's value of that field equals a pattern or starts with the
//! literal prefix of one. Both are hash lookups. Their cost depends on the length of the value
//! and not on the number of patterns, so plugins that do not match cost nothing.
//!
//! The chain then checks all settings of the candidates. A plugin without a `match`, or with a
//! pattern that begins with a wildcard in every field, is a candidate for every call.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use globset::Glob;

use plugboard_core::call::Call;
use plugboard_core::platforms::{self, Platform};
use plugboard_runtime::plugin::Plugin;
use plugboard_runtime::plugin::settings::{CallField, Settings, literal_prefix};

/// The index of one chain. Positions are those in the chain.
#[derive(Default)]
pub struct ChainIndex {
    /// The indexes of all platforms. There are few, so a list is sufficient.
    platforms: Vec<(Platform, PlatformIndex)>,
}

/// The candidates for calls of one platform.
#[derive(Default)]
struct PlatformIndex {
    /// Plugins that are candidates for every call.
    always: Vec<u32>,
    by_field: Vec<(CallField<'static>, FieldIndex)>,
}

/// The patterns on one field.
#[derive(Default)]
struct FieldIndex {
    exact: HashMap<Box<str>, Vec<u32>>,
    /// Plugins by literal prefix, grouped by its length in bytes, so that each length needs one
    /// lookup.
    prefixes: BTreeMap<usize, HashMap<Box<str>, Vec<u32>>>,
}

impl ChainIndex {
    /// Creates the index of a chain.
    pub fn new(chain: &[Arc<Plugin>]) -> Self {
        Self::from_settings(chain.iter().map(|plugin| plugin.settings()))
    }

    fn from_settings<'a>(chain: impl Iterator<Item = &'a Settings> + Clone) -> Self {
        let platform_index =
            |platform: &Platform| (*platform, PlatformIndex::new(*platform, chain.clone()));
        Self { platforms: platforms::all().iter().map(platform_index).collect() }
    }

    /// Returns the positions of the plugins that may match the call, in order, each once.
    pub fn candidates(&self, call: &Call) -> Vec<u32> {
        let entry = self.platforms.iter().find(|(platform, _)| *platform == call.platform);
        let Some((_, index)) = entry else { return Vec::new() };
        let mut positions = index.always.clone();
        for (field, field_index) in &index.by_field {
            if let Some(value) = field.value_in(call) {
                field_index.add_matches(&value, &mut positions);
            }
        }
        if !index.by_field.is_empty() {
            positions.sort_unstable();
            positions.dedup();
        }
        positions
    }
}

impl PlatformIndex {
    fn new<'a>(platform: Platform, chain: impl Iterator<Item = &'a Settings>) -> Self {
        let mut always = Vec::new();
        let mut by_field = BTreeMap::<CallField<'_>, FieldIndex>::new();
        for (position, settings) in (0u32..).zip(chain) {
            if !settings.platforms.is_empty() && !settings.platforms.contains(&platform) {
                continue;
            }
            let narrowest =
                settings.matches.fields().min_by_key(|(_, globs)| breadth(globs.patterns()));
            match narrowest {
                Some((field, globs)) if breadth(globs.patterns()) < Breadth::Any => {
                    let field_index = by_field.entry(field).or_default();
                    globs.patterns().iter().for_each(|pattern| field_index.add(pattern, position));
                }
                _ => always.push(position),
            }
        }
        let by_field = by_field
            .into_iter()
            .map(|(field, field_index)| (field.into_owned(), field_index))
            .collect();
        Self { always, by_field }
    }
}

impl FieldIndex {
    fn add(&mut self, pattern: &Glob, position: u32) {
        let positions = match literal_prefix(pattern) {
            text if text == pattern.glob() => self.exact.entry(text.into()),
            prefix => self.prefixes.entry(prefix.len()).or_default().entry(prefix.into()),
        };
        positions.or_default().push(position);
    }

    fn add_matches(&self, value: &str, positions: &mut Vec<u32>) {
        let exact = self.exact.get(value).into_iter();
        let prefixes = self
            .prefixes
            .range(..=value.len())
            .filter_map(|(length, prefixes)| prefixes.get(value.get(..*length)?));
        positions.extend(exact.chain(prefixes).flatten());
    }
}

/// The approximate number of values that a pattern matches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breadth {
    /// The pattern matches certain texts only.
    Exact,
    /// The pattern matches texts with a certain prefix.
    Prefix,
    /// The pattern has no literal prefix.
    Any,
}

/// Returns the breadth of the widest pattern.
fn breadth(patterns: &[Glob]) -> Breadth {
    let breadth = |pattern: &Glob| match literal_prefix(pattern) {
        text if text == pattern.glob() => Breadth::Exact,
        "" => Breadth::Any,
        _ => Breadth::Prefix,
    };
    patterns.iter().map(breadth).max().unwrap_or(Breadth::Any)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use plugboard_core::testing::call;

    fn settings(texts: &[&str]) -> Vec<Settings> {
        texts.iter().map(|text| Settings::parse(text, Path::new("x.toml")).unwrap()).collect()
    }

    #[test]
    fn candidates_come_in_chain_order() {
        let settings = settings(&[
            "[match]\nto = '60*'",
            "",
            "[match]\nto = '*'\nfrom = '2000'",
            "platforms = ['blackbox']",
            "[match]\nto = ['5001', '5*', '5??1']",
            "[match]\nmetadata.channel = 'PJSIP/*'",
            "[match]\nto = ['7001', '*9']",
        ]);
        let index = ChainIndex::from_settings(settings.iter());
        let places = |from, to, metadata| index.candidates(&call(from, to, metadata));
        assert_eq!(places("1", "2", "{}"), [1, 6]);
        assert_eq!(places("2000", "6000", "{}"), [0, 1, 2, 6]);
        assert_eq!(places("1", "5001", r#"{"channel":"PJSIP/1"}"#), [1, 4, 5, 6]);
        // A metadata field with the name of a standard field is another field.
        assert_eq!(places("1", "2", r#"{"to":"5001"}"#), [1, 6]);
        // A prefix never ends inside a character.
        assert_eq!(places("1", "é", "{}"), [1, 6]);
    }

    #[test]
    fn every_accepting_plugin_is_candidate() {
        let settings = settings(&[
            "[match]\nto = '{50,60}*'\nfrom = '*'",
            "[match]\nto = '[56]001'",
            "[match]\nto = ['5?01', '6001', 'é*', '']",
            "[match]\nfrom = '+39*'",
            "[match]\nfrom = ['+3902?', '20{00,01}', '2\\\\*']",
            "[match]\nagent = 'a'",
            "[match]\nto = '*1'\nmetadata.x = '1'",
            "platforms = ['avr']\n[match]\nto = '5001'",
        ]);
        let index = ChainIndex::from_settings(settings.iter());
        let mut accepted = 0;
        for from in ["", "2000", "+39021", "2*"] {
            for to in ["", "5001", "6001", "5002", "50/01", "é1"] {
                for metadata in ["{}", r#"{"x":1}"#, r#"{"x":"2"}"#] {
                    let call = call(from, to, metadata);
                    let candidates = index.candidates(&call);
                    for (place, settings) in (0..).zip(&settings) {
                        let accepts = settings.accepts_call(&call);
                        accepted += u32::from(accepts);
                        let is_candidate = candidates.contains(&place);
                        assert!(is_candidate || !accepts, "{place}: {from} {to} {metadata}");
                    }
                }
            }
        }
        assert!(accepted > 50, "{accepted}");
    }
}

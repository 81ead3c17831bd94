//! Which plugins of a generation a call may concern, found without looking at
//! those that it does not.
//!
//! Of each plugin's `match`, the field that tells most is its gate: the patterns
//! of all gates on one field are matched together, in time that depends on the
//! text and not on their number. What passes its gate is judged by all of its
//! settings then.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{Candidate, Glob, GlobSet, GlobSetBuilder};

use crate::event::{Call, Platform};
use crate::plugin::Plugin;
use crate::plugin::settings::{Field, Settings};

/// The index of one chain. Places are places in the chain.
#[derive(Default)]
pub struct Index {
    platforms: [Gates; Platform::ALL.len()],
}

/// The plugins that one platform's calls may concern.
#[derive(Default)]
struct Gates {
    /// Those without a `match`.
    open: Vec<u32>,
    gates: Vec<Gate>,
}

/// The gates on one field.
struct Gate {
    field: OwnedField,
    patterns: GlobSet,
    /// By pattern: whose it is.
    owners: Vec<u32>,
}

enum OwnedField {
    Fixed(&'static str),
    Metadata(String),
}

impl Index {
    /// The index of a chain.
    ///
    /// # Errors
    ///
    /// When the patterns of all plugins together are too large to be compiled.
    pub fn new(chain: &[Arc<Plugin>]) -> Result<Self, globset::Error> {
        Self::of(chain.iter().map(|plugin| plugin.settings()))
    }

    fn of<'a>(chain: impl Iterator<Item = &'a Settings> + Clone) -> Result<Self, globset::Error> {
        let mut index = Self::default();
        for (platform, gates) in Platform::ALL.into_iter().zip(&mut index.platforms) {
            *gates = Gates::new(platform, chain.clone())?;
        }
        Ok(index)
    }

    /// The places of the plugins that the call may concern, in order, each once.
    pub fn candidates(&self, call: &Call) -> Vec<u32> {
        let Some(gates) = self.platforms.get(call.platform as usize) else { return Vec::new() };
        let mut places = gates.open.clone();
        let mut hits = Vec::new();
        for gate in &gates.gates {
            let Some(value) = gate.field.get().of(call) else { continue };
            gate.patterns.matches_candidate_into(&Candidate::new(&*value), &mut hits);
            places.extend(hits.iter().filter_map(|pattern| gate.owners.get(*pattern)));
        }
        if !gates.gates.is_empty() {
            places.sort_unstable();
            places.dedup();
        }
        places
    }
}

impl Gates {
    fn new<'a>(
        platform: Platform,
        chain: impl Iterator<Item = &'a Settings>,
    ) -> Result<Self, globset::Error> {
        let mut open = Vec::new();
        let mut fields = BTreeMap::<Field<'_>, (GlobSetBuilder, Vec<u32>)>::new();
        for (place, settings) in (0u32..).zip(chain) {
            if !settings.platforms.is_empty() && !settings.platforms.contains(&platform) {
                continue;
            }
            let gate = settings.matches.fields().min_by_key(|(_, globs)| breadth(globs.patterns()));
            let Some((field, globs)) = gate else {
                open.push(place);
                continue;
            };
            let (patterns, owners) =
                fields.entry(field).or_insert_with(|| (GlobSetBuilder::new(), Vec::new()));
            for pattern in globs.patterns() {
                patterns.add(pattern.clone());
                owners.push(place);
            }
        }
        let gate = |(field, (patterns, owners)): (Field<'_>, (GlobSetBuilder, Vec<u32>))| {
            let field = match field {
                Field::Fixed(name) => OwnedField::Fixed(name),
                Field::Metadata(name) => OwnedField::Metadata(name.to_owned()),
            };
            Ok(Gate { field, patterns: patterns.build()?, owners })
        };
        Ok(Self { open, gates: fields.into_iter().map(gate).collect::<Result<_, _>>()? })
    }
}

impl OwnedField {
    fn get(&self) -> Field<'_> {
        match self {
            Self::Fixed(name) => Field::Fixed(name),
            Self::Metadata(name) => Field::Metadata(name),
        }
    }
}

/// How much patterns let through, roughly: the widest of them counts.
fn breadth(patterns: &[Glob]) -> u32 {
    let breadth = |pattern: &Glob| match pattern.glob().find(['*', '?', '[', '{', '\\']) {
        None => 0,
        Some(0) => 2,
        Some(_) => 1,
    };
    patterns.iter().map(breadth).max().unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::tests::call;

    fn index(settings: &[&str]) -> Index {
        let settings: Vec<Settings> = settings
            .iter()
            .map(|text| Settings::parse(text, Path::new("x.toml")).unwrap())
            .collect();
        Index::of(settings.iter()).unwrap()
    }

    #[test]
    fn candidates_are_found_by_their_narrowest_field_in_order() {
        let index = index(&[
            "[match]\nto = '60*'",
            "",
            "[match]\nto = '*'\nfrom = '2000'",
            "platforms = ['blackbox']",
            "[match]\nto = ['5001', '5*', '?001']",
            "[match]\nmetadata.channel = 'PJSIP/*'",
        ]);
        let places = |from, to, metadata| index.candidates(&call(from, to, metadata));
        assert_eq!(places("1", "2", "{}"), [1]);
        assert_eq!(places("2000", "6000", "{}"), [0, 1, 2]);
        assert_eq!(places("1", "5001", r#"{"channel":"PJSIP/1"}"#), [1, 4, 5]);
        // A metadata field of the name of a fixed one is another field.
        assert_eq!(places("1", "2", r#"{"to":"5001"}"#), [1]);
    }

    #[test]
    fn whoever_accepts_a_call_is_a_candidate() {
        let texts = [
            "[match]\nto = '{50,60}*'\nfrom = '*'",
            "[match]\nto = '[56]001'",
            "[match]\nfrom = '+39*'",
            "[match]\nagent = 'a'",
            "[match]\nto = '*1'\nmetadata.x = '1'",
            "platforms = ['avr']\n[match]\nto = '5001'",
        ];
        let index = index(&texts);
        let settings = texts.map(|text| Settings::parse(text, Path::new("x.toml")).unwrap());
        for from in ["", "2000", "+39021"] {
            for to in ["", "5001", "6001", "5002", "50/01"] {
                for metadata in ["{}", r#"{"x":1}"#, r#"{"x":"2"}"#] {
                    let call = call(from, to, metadata);
                    let candidates = index.candidates(&call);
                    for (place, settings) in (0..).zip(&settings) {
                        let found = candidates.contains(&place);
                        assert!(
                            found || !settings.accept(&call),
                            "{place}: {from} {to} {metadata}"
                        );
                    }
                }
            }
        }
    }
}

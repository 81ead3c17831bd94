//! Which plugins of a generation a call may concern, found without looking at
//! those that it does not.
//!
//! Of each plugin's `match`, the field that tells most is its gate: a call comes
//! through by having the text of one of the field's patterns, or the text that it
//! begins with. Both are looked up, in time that depends on the call's text and
//! not on how many patterns there are. What comes through is judged by all of the
//! plugin's settings then; so are, for each call, plugins without a `match`, or of
//! which every field has a pattern that begins with a wildcard.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use globset::Glob;

use crate::event::{Call, Platform};
use crate::platform::PLATFORMS;
use crate::plugin::Plugin;
use crate::plugin::settings::{Field, Settings, literal};

/// The index of one chain. Places are places in the chain.
#[derive(Default)]
pub struct Index {
    /// A handful.
    platforms: Vec<(Platform, Gates)>,
}

/// The plugins that one platform's calls may concern.
#[derive(Default)]
struct Gates {
    /// Those that every call comes through to.
    open: Vec<u32>,
    gates: Vec<(Field<'static>, Gate)>,
}

/// The gates on one field.
#[derive(Default)]
struct Gate {
    exact: HashMap<Box<str>, Vec<u32>>,
    /// By length in bytes, so that each length is looked up once.
    prefixes: BTreeMap<usize, HashMap<Box<str>, Vec<u32>>>,
}

impl Index {
    /// The index of a chain.
    pub fn new(chain: &[Arc<Plugin>]) -> Self {
        Self::of(chain.iter().map(|plugin| plugin.settings()))
    }

    fn of<'a>(chain: impl Iterator<Item = &'a Settings> + Clone) -> Self {
        let gates = |platform: &Platform| (*platform, Gates::new(*platform, chain.clone()));
        Self { platforms: PLATFORMS.iter().map(gates).collect() }
    }

    /// The places of the plugins that the call may concern, in order, each once.
    pub fn candidates(&self, call: &Call) -> Vec<u32> {
        let gates = self.platforms.iter().find(|(platform, _)| *platform == call.platform);
        let Some((_, gates)) = gates else { return Vec::new() };
        let mut places = gates.open.clone();
        for (field, gate) in &gates.gates {
            if let Some(value) = field.of(call) {
                gate.let_through(&value, &mut places);
            }
        }
        if !gates.gates.is_empty() {
            places.sort_unstable();
            places.dedup();
        }
        places
    }
}

impl Gates {
    fn new<'a>(platform: Platform, chain: impl Iterator<Item = &'a Settings>) -> Self {
        let mut open = Vec::new();
        let mut gates = BTreeMap::<Field<'_>, Gate>::new();
        for (place, settings) in (0u32..).zip(chain) {
            if !settings.platforms.is_empty() && !settings.platforms.contains(&platform) {
                continue;
            }
            let narrowest =
                settings.matches.fields().min_by_key(|(_, globs)| breadth(globs.patterns()));
            match narrowest {
                Some((field, globs)) if breadth(globs.patterns()) < Breadth::Any => {
                    let gate = gates.entry(field).or_default();
                    globs.patterns().iter().for_each(|pattern| gate.add(pattern, place));
                }
                _ => open.push(place),
            }
        }
        let gates = gates.into_iter().map(|(field, gate)| (field.into_owned(), gate)).collect();
        Self { open, gates }
    }
}

impl Gate {
    fn add(&mut self, pattern: &Glob, place: u32) {
        let texts = match literal(pattern) {
            text if text == pattern.glob() => self.exact.entry(text.into()),
            prefix => self.prefixes.entry(prefix.len()).or_default().entry(prefix.into()),
        };
        texts.or_default().push(place);
    }

    fn let_through(&self, value: &str, places: &mut Vec<u32>) {
        let exact = self.exact.get(value).into_iter();
        let prefixes = self
            .prefixes
            .range(..=value.len())
            .filter_map(|(length, prefixes)| prefixes.get(value.get(..*length)?));
        places.extend(exact.chain(prefixes).flatten());
    }
}

/// How much patterns let through, roughly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breadth {
    /// Texts.
    Exact,
    /// All that begins with certain texts.
    Prefix,
    /// Anything, as far as can be told by how texts begin.
    Any,
}

/// The breadth of the widest pattern.
fn breadth(patterns: &[Glob]) -> Breadth {
    let breadth = |pattern: &Glob| match literal(pattern) {
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
    use crate::event::tests::call;

    fn settings(texts: &[&str]) -> Vec<Settings> {
        texts.iter().map(|text| Settings::parse(text, Path::new("x.toml")).unwrap()).collect()
    }

    #[test]
    fn candidates_are_found_by_their_narrowest_field_in_order() {
        let settings = settings(&[
            "[match]\nto = '60*'",
            "",
            "[match]\nto = '*'\nfrom = '2000'",
            "platforms = ['blackbox']",
            "[match]\nto = ['5001', '5*', '5??1']",
            "[match]\nmetadata.channel = 'PJSIP/*'",
            "[match]\nto = ['7001', '*9']",
        ]);
        let index = Index::of(settings.iter());
        let places = |from, to, metadata| index.candidates(&call(from, to, metadata));
        assert_eq!(places("1", "2", "{}"), [1, 6]);
        assert_eq!(places("2000", "6000", "{}"), [0, 1, 2, 6]);
        assert_eq!(places("1", "5001", r#"{"channel":"PJSIP/1"}"#), [1, 4, 5, 6]);
        // A metadata field of the name of a fixed one is another field.
        assert_eq!(places("1", "2", r#"{"to":"5001"}"#), [1, 6]);
        // Half a character is no prefix.
        assert_eq!(places("1", "é", "{}"), [1, 6]);
    }

    #[test]
    fn whoever_accepts_a_call_is_a_candidate() {
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
        let index = Index::of(settings.iter());
        let mut accepted = 0;
        for from in ["", "2000", "+39021", "2*"] {
            for to in ["", "5001", "6001", "5002", "50/01", "é1"] {
                for metadata in ["{}", r#"{"x":1}"#, r#"{"x":"2"}"#] {
                    let call = call(from, to, metadata);
                    let candidates = index.candidates(&call);
                    for (place, settings) in (0..).zip(&settings) {
                        let accepts = settings.accept(&call);
                        accepted += u32::from(accepts);
                        let found = candidates.contains(&place);
                        assert!(found || !accepts, "{place}: {from} {to} {metadata}");
                    }
                }
            }
        }
        assert!(accepted > 50, "{accepted}");
    }
}

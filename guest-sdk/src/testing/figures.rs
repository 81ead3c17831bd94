//! The metrics that a plugin recorded, for assertions in tests.

use std::collections::BTreeMap;

use crate::metrics::Error;

/// Name and labels of a series. The labels are sorted by name.
type Series = (String, Vec<(String, String)>);

#[derive(Debug)]
pub(crate) struct Figures {
    counters: BTreeMap<Series, u64>,
    observed: BTreeMap<Series, Vec<f64>>,
    granted: bool,
}

impl Default for Figures {
    fn default() -> Self {
        Self { counters: BTreeMap::new(), observed: BTreeMap::new(), granted: true }
    }
}

impl Figures {
    pub(super) fn refuse(&mut self) {
        self.granted = false;
    }

    pub(super) fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.counters.get(&series(name, labels)).copied().unwrap_or_default()
    }

    pub(super) fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.observed.get(&series(name, labels)).cloned().unwrap_or_default()
    }

    pub(crate) fn count(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        by: u64,
    ) -> Result<(), Error> {
        self.admit(name, labels)?;
        if self.observed.keys().any(|(other, _)| other == name) {
            return Err(Error::Invalid(format!("`{name}` is a histogram")));
        }
        let sum = self.counters.entry(series(name, labels)).or_default();
        *sum = sum.saturating_add(by);
        Ok(())
    }

    pub(crate) fn observe(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), Error> {
        self.admit(name, labels)?;
        if self.counters.keys().any(|(other, _)| other == name) {
            return Err(Error::Invalid(format!("`{name}` is a counter")));
        }
        self.observed.entry(series(name, labels)).or_default().push(value);
        Ok(())
    }

    fn admit(&self, name: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        if !self.granted {
            return Err(Error::NotGranted);
        }
        let mut names = [name].into_iter().chain(labels.iter().map(|(label, _)| *label));
        match names.find(|name| !is_name(name)) {
            Some(name) => Err(Error::Invalid(format!("`{name}` is not a valid name"))),
            None => Ok(()),
        }
    }
}

fn series(name: &str, labels: &[(&str, &str)]) -> Series {
    let mut labels: Vec<_> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.sort();
    (name.to_owned(), labels)
}

/// Returns whether the text matches `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c == '_' || c.is_ascii_alphanumeric();
    text.starts_with(|c: char| fits(c) && !c.is_ascii_digit()) && text.chars().all(fits)
}

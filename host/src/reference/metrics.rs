//! What Prometheus is told, and that alerts and dashboard ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use expect_test::expect_file;

use super::{MADE, head, holds, row};
use crate::metrics::sample;

/// Labels whose values are not ours to list, or are listed elsewhere.
const OPEN: [&str; 4] = ["plugin", "status", "error", "capability"];

/// Labels that Prometheus itself gives.
const PROMETHEUS: [&str; 3] = ["job", "instance", "le"];

/// A family of metrics.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// The names under which its rows stand, with what they are labelled by.
    rows: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

#[test]
fn the_metrics_are_described() {
    let families = families();
    let mut text = format!(
        "{MADE}\n\n# Metrics\n\n\
         `GET /metrics` of the admin listener tells these, as OpenMetrics text. A histogram has \
         rows that end in\n`_bucket`, `_sum` and `_count`. [Monitoring](../operations/monitoring.md) \
         tells which to watch.\n\n\
         Counters start from zero with the process. Labels are names of plugins, words of \
         Plugboard, and status\ncodes: nothing that a caller can make up. The labels `error` of \
         plugins are the labels of [errors](errors.md).\n\n\
         Plugins with the grant `metrics` add figures of their own, as \
         `plugboard_guest_PLUGIN_NAME`.\n\n"
    );
    text += &head(&["metric", "type", "labels", "meaning"]);
    for (name, family) in &families {
        let shown = match family.kind.as_str() {
            "counter" => format!("`{name}_total`"),
            _ => format!("`{name}`"),
        };
        let labels: Vec<String> =
            family.rows.values().next().into_iter().flatten().filter_map(label).collect();
        text += &row(&[&shown, &family.kind, &labels.join(", "), &family.help]);
    }
    holds(&expect_file!["../../../docs/reference/metrics.md"], &text);
}

/// A label with its values. The bounds of a histogram's buckets are its own business.
fn label((name, values): (&String, &BTreeSet<String>)) -> Option<String> {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    match name.as_str() {
        "le" => None,
        open if OPEN.contains(&open) => Some(format!("`{open}`")),
        name => Some(format!("`{name}` ({})", values.join(", "))),
    }
}

/// What is rendered, by family.
fn families() -> BTreeMap<String, Family> {
    let text = sample::text();
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().help =
                format!("{}.", help.trim_end_matches('.'));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            current = name.to_owned();
        } else if !line.starts_with('#') {
            let (row, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = row.trim_end_matches('}').split_once('{').unwrap_or((row, ""));
            let rows = &mut families.get_mut(&current).unwrap().rows;
            let known = rows.entry(name.to_owned()).or_default();
            for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
                let (label, value) = pair.split_once('=').unwrap();
                let values = known.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    families
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let families = families();
    let rows: BTreeMap<&str, BTreeSet<&str>> = families
        .values()
        .flat_map(|family| &family.rows)
        .map(|(name, labels)| (name.as_str(), labels.keys().map(String::as_str).collect()))
        .collect();
    let mut asked = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
    for file in ["alerts.yml", "grafana.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let text = text.replace("\\\"", "\"");
        for (at, _) in text.match_indices("plugboard_") {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let (name, rest) = text[at..].split_at(text[at..].find(end).unwrap());
            let labels = rows.get(name).unwrap_or_else(|| panic!("{file}: there is no {name}"));
            asked.insert(name.to_owned());
            let Some((selector, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            else {
                continue;
            };
            for matcher in selector.split(',').filter(|matcher| !matcher.trim().is_empty()) {
                let label = matcher.trim().split(['=', '!']).next().unwrap();
                let known = labels.contains(label) || PROMETHEUS.contains(&label);
                assert!(known, "{file}: {name} has no label {label}");
            }
        }
        for (at, found) in text.match_indices("by (") {
            let list = text[at + found.len()..].split(')').next().unwrap();
            for label in list.split(',').map(str::trim) {
                let known = PROMETHEUS.contains(&label)
                    || rows.values().any(|labels| labels.contains(label));
                assert!(known, "{file}: there is no label {label}");
            }
        }
    }
    assert!(asked.len() > 20, "only {asked:?}");
}

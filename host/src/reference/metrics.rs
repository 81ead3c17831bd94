//! Page of metrics, and a check that alerts and dashboard use only existing metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use expect_test::expect_file;

use super::{GENERATED_NOTICE, assert_page, table_header, table_row};
use plugboard_server::metrics::sample;

/// Labels whose values are open-ended, or are listed elsewhere.
const OPEN_LABELS: [&str; 6] = ["plugin", "status", "error", "capability", "version", "commit"];

/// Labels that Prometheus itself adds.
const PROMETHEUS_LABELS: [&str; 3] = ["job", "instance", "le"];

/// A family of metrics.
#[derive(Default)]
struct MetricFamily {
    kind: String,
    help: String,
    /// Names of its series, each with its labels and their values.
    series: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

#[test]
fn metrics_page_is_current() {
    let families = parse_families();
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# Metrics\n\n\
         `GET /metrics` on the admin listener returns these metrics as OpenMetrics text. The \
         series of a histogram end\nin `_bucket`, `_sum` and `_count`. \
         [Monitoring](../operations/monitoring.md) names those to watch.\n\n\
         Counters start from zero with the process. Label values are plugin names, fixed words \
         and status codes; callers\ncannot create series. The values of the label `error` are the \
         labels of [errors](errors.md).\n\n\
         Plugins with the grant `metrics` add their own metrics, named \
         `plugboard_guest_PLUGIN_NAME`.\n\n"
    );
    text += &table_header(&["metric", "type", "labels", "meaning"]);
    for (name, family) in &families {
        let shown = match family.kind.as_str() {
            "counter" => format!("`{name}_total`"),
            "info" => format!("`{name}_info`"),
            _ => format!("`{name}`"),
        };
        let labels: Vec<String> = family
            .series
            .values()
            .next()
            .into_iter()
            .flatten()
            .filter_map(describe_label)
            .collect();
        text += &table_row(&[&shown, &family.kind, &labels.join(", "), &family.help]);
    }
    assert_page(&expect_file!["../../../docs/reference/metrics.md"], &text);
}

/// Returns a label with its values. The bucket bounds of histograms are omitted.
fn describe_label((name, values): (&String, &BTreeSet<String>)) -> Option<String> {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    match name.as_str() {
        "le" => None,
        open if OPEN_LABELS.contains(&open) => Some(format!("`{open}`")),
        name => Some(format!("`{name}` ({})", values.join(", "))),
    }
}

/// Parses the rendered sample into families.
fn parse_families() -> BTreeMap<String, MetricFamily> {
    let text = sample::render_sample().unwrap();
    let mut families = BTreeMap::<String, MetricFamily>::new();
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
            let series = &mut families.get_mut(&current).unwrap().series;
            let labels_of_series = series.entry(name.to_owned()).or_default();
            for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
                let (label, value) = pair.split_once('=').unwrap();
                let values = labels_of_series.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    families
}

#[test]
fn alerts_and_dashboard_reference_existing_metrics() {
    let families = parse_families();
    let rows: BTreeMap<&str, BTreeSet<&str>> = families
        .values()
        .flat_map(|family| &family.series)
        .map(|(name, labels)| (name.as_str(), labels.keys().map(String::as_str).collect()))
        .collect();
    let mut referenced = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
    for file in ["alerts.yml", "grafana.json"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let text = text.replace("\\\"", "\"");
        for (start, _) in text.match_indices("plugboard_") {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let (name, rest) = text[start..].split_at(text[start..].find(end).unwrap());
            let labels = rows.get(name).unwrap_or_else(|| panic!("{file}: there is no {name}"));
            referenced.insert(name.to_owned());
            let Some((selector, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
            else {
                continue;
            };
            for matcher in selector.split(',').filter(|matcher| !matcher.trim().is_empty()) {
                let label = matcher.trim().split(['=', '!']).next().unwrap();
                let known = labels.contains(label) || PROMETHEUS_LABELS.contains(&label);
                assert!(known, "{file}: {name} has no label {label}");
            }
        }
        for (start, found) in text.match_indices("by (") {
            let list = text[start + found.len()..].split(')').next().unwrap();
            for label in list.split(',').map(str::trim) {
                let known = PROMETHEUS_LABELS.contains(&label)
                    || rows.values().any(|labels| labels.contains(label));
                assert!(known, "{file}: there is no label {label}");
            }
        }
    }
    assert!(referenced.len() > 20, "only {referenced:?}");
}

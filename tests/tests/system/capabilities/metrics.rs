//! Custom metrics of plugins.

use std::collections::{HashMap, HashSet};

use tests::{PluginFolder, ServerBuilder};

use super::{ALL, assert_results, run_script, with_reaches};

/// Row of the metrics page: name, labels and value.
type Row = (String, Vec<(String, String)>, String);

/// Parses the part of OpenMetrics that the server writes, strictly. Returns type and rows
/// of each family.
fn parse(text: &str) -> HashMap<String, (String, Vec<Row>)> {
    let mut families: HashMap<String, (String, Vec<Row>)> = HashMap::new();
    let mut current = String::new();
    let mut described = HashSet::new();
    let (body, end) = text.split_at(text.len() - "# EOF\n".len());
    assert_eq!(end, "# EOF\n");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').unwrap();
            assert!(described.insert(name.to_owned()), "{line} twice");
            name.clone_into(&mut current);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            let family = (kind.to_owned(), Vec::new());
            assert!(families.insert(name.to_owned(), family).is_none(), "{line} twice");
        } else {
            let row = parse_row(line).unwrap_or_else(|| panic!("not a row: {line}"));
            let (kind, rows) = families.get_mut(&current).unwrap();
            let rest = row.0.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
            let endings: &[&str] = match &**kind {
                "counter" => &["_total"],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(endings.contains(&rest), "{line} in a {kind}");
            rows.push(row);
        }
    }
    let all: Vec<_> = families.values().flat_map(|(_, rows)| rows).collect();
    let distinct: HashSet<_> = all.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(distinct.len(), all.len(), "duplicate row in:\n{text}");
    families
}

fn parse_row(line: &str) -> Option<Row> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = parse_quoted(after)?;
            labels.push((label.to_owned(), value));
            match after.split_at_checked(1)? {
                (",", after) => rest = after,
                ("}", after) => {
                    rest = after;
                    break;
                }
                _ => return None,
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    value.parse::<f64>().ok().filter(|value| !value.is_nan())?;
    Some((name.to_owned(), labels, value.to_owned()))
}

/// Returns a text up to its closing quote, without escapes, and the rest.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('"' | '\\') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn plugin_metrics_are_exported_beside_server_metrics() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let folder = with_reaches(folder, "60.b \"ü", "b", ALL);
    let server = ServerBuilder::new(folder.path()).start();
    parse(&server.metrics_text().await);
    let nasty = "metrics.count calls who=a\"b\\c\\n}#_EOF 2";
    assert_results(
        &server,
        "a",
        &[
            ("metrics.count calls - 1", "ok"),
            (nasty, "ok"),
            (nasty, "ok"),
            ("metrics.count calls who= 0", "ok"),
            ("metrics.observe seconds kind=x 0.25", "ok"),
            ("metrics.observe seconds kind=x 7200", "ok"),
            ("metrics.observe seconds kind=x -1", "ok"),
            // The server has its own metric of this name.
            ("metrics.count generation - 5", "ok"),
            ("metrics.observe seconds kind=x NaN", "error invalid"),
            ("metrics.observe seconds kind=x inf", "error invalid"),
            ("metrics.count seconds - 1", "error invalid"),
            ("metrics.observe calls - 1", "error invalid"),
            ("metrics.count  - 1", "error invalid"),
            ("metrics.count 1a - 1", "error invalid"),
            ("metrics.count a-b - 1", "error invalid"),
            ("metrics.count ü - 1", "error invalid"),
            ("metrics.count a{b=\"c\"} - 1", "error invalid"),
            ("metrics.count c a-b=1 1", "error invalid"),
            ("metrics.count c plugin=50-other 1", "error invalid"),
            ("metrics.count c le=1 1", "error invalid"),
            ("metrics.count c\\n# - 1", "error invalid"),
        ],
    )
    .await;
    assert_results(&server, "b", &[("metrics.count calls - 9", "ok")]).await;
    let families = parse(&server.metrics_text().await);
    let (kind, rows) = &families["plugboard_guest_50_a_calls"];
    assert_eq!(kind, "counter");
    for (label, value) in [(None, "1"), (Some("a\"b\\c\n}#_EOF"), "4"), (Some(""), "0")] {
        let mut expected = labels(&[("plugin", "50-a")]);
        expected.extend(label.map(|label| ("who".to_owned(), label.to_owned())));
        let row = rows.iter().find(|(_, labels, _)| *labels == expected);
        assert_eq!(row.unwrap().2, value);
    }
    assert_eq!(rows.len(), 3);
    let (kind, rows) = &families["plugboard_guest_50_a_seconds"];
    assert_eq!(kind, "histogram");
    let value = |ending: &str, le: Option<&str>| {
        let mut expected: Vec<_> =
            le.map(|le| ("le".to_owned(), le.to_owned())).into_iter().collect();
        expected.extend(labels(&[("plugin", "50-a"), ("kind", "x")]));
        let name = format!("plugboard_guest_50_a_seconds{ending}");
        let row = rows.iter().find(|(found, labels, _)| *found == name && *labels == expected);
        row.unwrap_or_else(|| panic!("{rows:?}")).2.parse::<f64>().unwrap()
    };
    assert_eq!((value("_sum", None), value("_count", None)), (7_199.25, 3.0));
    assert_eq!((value("_bucket", Some("0.1")), value("_bucket", Some("0.5"))), (1.0, 2.0));
    assert_eq!((value("_bucket", Some("3600.0")), value("_bucket", Some("+Inf"))), (2.0, 3.0));
    let (_, rows) = &families["plugboard_guest_60_b____calls"];
    assert_eq!(rows[0].1, labels(&[("plugin", "60.b \"ü")]));
    assert_eq!((rows.len(), &*rows[0].2), (1, "9"));
    assert_eq!(families["plugboard_guest_50_a_generation"].1[0].2, "5");
    assert!(!families.contains_key("plugboard_guest_50_a_c"));
    // Counters continue across plugin versions.
    folder.replace_settings("50-a", &format!("# new\nmatch.to = 'a'\n{ALL}"));
    server.reload().await;
    assert_results(&server, "a", &[("metrics.count calls - 1", "ok")]).await;
    let series = "plugboard_guest_50_a_calls_total{plugin=\"50-a\"}";
    assert_eq!(server.metric_value(series).await, Some(2));
}

#[tokio::test]
async fn plugin_metrics_are_limited_per_plugin() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let folder = with_reaches(folder, "60-b", "b", ALL);
    let server = ServerBuilder::new(folder.path()).start();
    let script: Vec<String> =
        (0..250).map(|nth| format!("metrics.count many nth={nth} 1")).collect();
    let results = run_script(&server, "a", &script.join("\n")).await;
    let rejected = results.iter().position(|result| result != "ok").unwrap();
    assert_eq!(rejected, 200);
    assert!(results[rejected..].iter().all(|result| result == "error too-many"), "{results:?}");
    let (long, longer) = ("x".repeat(64), "x".repeat(65));
    assert_results(
        &server,
        "a",
        &[
            ("metrics.count many nth=7 1", "ok"),
            ("metrics.count many nth=300 1", "error too-many"),
            ("metrics.observe more - 1", "error too-many"),
        ],
    )
    .await;
    assert_results(
        &server,
        "b",
        &[
            (&format!("metrics.count {long} - 1"), "ok"),
            (&format!("metrics.count {longer} - 1"), "error invalid"),
            (&format!("metrics.count c long={long} 1"), "ok"),
            (&format!("metrics.count c long={longer} 1"), "error invalid"),
            // Sums saturate and do not overflow.
            ("metrics.count huge - 18446744073709551615", "ok"),
            ("metrics.count huge - 1", "ok"),
            ("metrics.observe vast - 1.7e308", "ok"),
            ("metrics.observe vast - 1.7e308", "ok"),
        ],
    )
    .await;
    let families = parse(&server.metrics_text().await);
    assert_eq!(families["plugboard_guest_50_a_many"].1.len(), 200);
    assert_eq!(families["plugboard_guest_60_b_huge"].1[0].2, u64::MAX.to_string());
    let series = "plugboard_guest_50_a_many_total{plugin=\"50-a\",nth=\"7\"}";
    assert_eq!(server.metric_value(series).await, Some(2));
}

/// Prometheus rejects the whole page when a row has two names.
#[tokio::test]
async fn reserved_label_names_are_rejected() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let server = ServerBuilder::new(folder.path()).start();
    assert_results(
        &server,
        "a",
        &[
            ("metrics.count c __name__=x 1", "error invalid"),
            ("metrics.observe h __name__=x 1", "error invalid"),
            ("metrics.count c __address__=x 1", "error invalid"),
        ],
    )
    .await;
}

#[tokio::test]
async fn plugins_with_same_metric_name_keep_separate_rows() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let folder = with_reaches(folder, "50-a-b", "b", ALL);
    let server = ServerBuilder::new(folder.path()).start();
    assert_results(&server, "b", &[("metrics.count calls - 7", "ok")]).await;
    assert_results(&server, "a", &[("metrics.count b_calls - 1", "ok")]).await;
    let families = parse(&server.metrics_text().await);
    let mut rows: Vec<_> = families["plugboard_guest_50_a_b_calls"].1.iter().collect();
    rows.sort();
    let found: Vec<_> = rows.iter().map(|(_, labels, value)| (&*labels[0].1, &**value)).collect();
    assert_eq!(found, [("50-a", "1"), ("50-a-b", "7")]);
}

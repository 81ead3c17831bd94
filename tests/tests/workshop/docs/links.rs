//! Links between the documents lead to existing pages and headings.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::page::{Page, pages, root};

#[test]
fn every_link_target_exists() {
    let mut pages = pages();
    let path = root().join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap();
    pages.push(Page { path, name: "ARCHITECTURE.md".to_owned(), text });
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in &pages {
        for (line, text) in page.prose() {
            for target in targets(text) {
                followed += 1;
                if !exists(&page.path, target) {
                    broken.push(format!("{}:{line}: {target}", page.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(followed > 80, "only {followed} links");
}

#[test]
fn every_page_is_reachable_from_readme() {
    let pages = pages();
    let mut found = BTreeSet::from([root().join("README.md")]);
    let mut previous = 0;
    while found.len() > previous {
        previous = found.len();
        let linked = pages.iter().filter(|page| found.contains(&page.path)).flat_map(|page| {
            let targets = page.prose().into_iter().flat_map(|(_, text)| targets(text));
            let file = |target: &str| file(&page.path, target).canonicalize().ok();
            targets.filter_map(file).collect::<Vec<_>>()
        });
        let linked: Vec<_> = linked.collect();
        found.extend(linked);
    }
    let unreachable: Vec<&str> = pages
        .iter()
        .filter(|page| !found.contains(&page.path.canonicalize().unwrap()))
        .filter(|page| !found.contains(&page.path))
        .map(|page| page.name.as_str())
        .collect();
    assert!(unreachable.is_empty(), "no link leads to {unreachable:?}");
}

/// Returns the link targets in a line, except those on other sites.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://"))
}

/// Returns the path of the file to which a link on this page leads.
fn file(page: &Path, target: &str) -> std::path::PathBuf {
    match target.split('#').next() {
        Some("") | None => page.to_owned(),
        Some(path) => page.parent().unwrap().join(path),
    }
}

fn exists(page: &Path, target: &str) -> bool {
    let file = file(page, target);
    match target.split_once('#') {
        Some((_, anchor)) => fs::read_to_string(file).is_ok_and(|text| has_anchor(&text, anchor)),
        None => file.exists(),
    }
}

/// Returns whether a page has a heading with this anchor, by GitHub's rules.
fn has_anchor(text: &str, anchor: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let anchor_text =
            heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchor_text.map(|c| if c == ' ' { '-' } else { c }).eq(anchor.chars())
    })
}

#[test]
fn anchors_match_headings() {
    let text = "# On the internet\n## [tls]\n## What's kept, and why\n";
    for anchor in ["on-the-internet", "tls", "whats-kept-and-why"] {
        assert!(has_anchor(text, anchor), "{anchor}");
    }
    assert!(!has_anchor(text, "internet"));
}

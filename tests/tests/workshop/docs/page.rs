//! Pages of the documents, and their fenced blocks.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the root folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Page of the documents.
pub struct Page {
    /// Path of the page's file.
    pub path: PathBuf,
    /// Path relative to the repository's root.
    pub name: String,
    /// Whole text of the page.
    pub text: String,
}

/// Fenced code block of a page.
pub struct Block {
    /// Language of the block, as the fence names it.
    pub language: String,
    /// Text before the block, from the previous block or heading.
    pub before: String,
    /// Content of the block, without the indentation of its fence.
    pub text: String,
    /// Number of the fence's line, counted from 1.
    pub line: usize,
}

/// Pages outside of `docs/` and `plugins/`.
const OTHER_PAGES: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/README.md",
];

/// Returns [`OTHER_PAGES`], all pages below `docs/`, and the READMEs of plugins.
pub fn pages() -> Vec<Page> {
    let root = root();
    let mut pages: Vec<Page> =
        OTHER_PAGES.into_iter().map(|name| page(&root, root.join(name))).collect();
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(page(&root, path));
            }
        }
    }
    // Packages installed below the plugins' folders are not pages.
    for entry in fs::read_dir(root.join("plugins")).unwrap() {
        let path = entry.unwrap().path().join("README.md");
        if path.exists() {
            pages.push(page(&root, path));
        }
    }
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(pages.len() > 15, "only {} pages", pages.len());
    pages
}

/// Returns the page with this path, relative to the repository's root.
pub fn page_named(name: &str) -> Page {
    page(&root(), root().join(name))
}

fn page(root: &Path, path: PathBuf) -> Page {
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let text = fs::read_to_string(&path).unwrap();
    Page { path, name, text }
}

impl Page {
    /// Returns the fenced blocks of the page, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::<Block>::new();
        let (mut before, mut open) = (String::new(), None::<(usize, Block)>);
        for (line, text) in (1..).zip(self.text.lines()) {
            let indent = text.len() - text.trim_start().len();
            let fence = text.trim_start().strip_prefix("```");
            open = match (open, fence) {
                (Some((_, block)), Some(_)) => {
                    blocks.push(block);
                    None
                }
                (Some((indent, mut block)), None) => {
                    block.text += text.get(indent..).unwrap_or_default();
                    block.text.push('\n');
                    Some((indent, block))
                }
                (None, Some(language)) => {
                    let (language, before) = (language.to_owned(), std::mem::take(&mut before));
                    Some((indent, Block { language, before, text: String::new(), line }))
                }
                (None, None) => {
                    if text.starts_with('#') {
                        before.clear();
                    } else {
                        before += text;
                        before.push('\n');
                    }
                    None
                }
            };
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks
    }

    /// Returns the lines outside of blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_code = false;
        let outside = |(_, text): &(usize, &str)| {
            let is_fence = text.trim_start().starts_with("```");
            is_code ^= is_fence;
            !is_code && !is_fence
        };
        (1..).zip(self.text.lines()).filter(outside).collect()
    }
}

impl Block {
    /// Returns the commands of a `console` block without their prompts. Each is one or more
    /// lines.
    pub fn console_commands(&self) -> Vec<String> {
        let mut commands = Vec::<String>::new();
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push(format!("{command}\n")),
                (None, Some(command)) => *command += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        commands
    }
}

//! A page, and the blocks in it.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A page of the documents.
pub struct Page {
    /// Its file.
    pub path: PathBuf,
    /// From the repository's root.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// Its language.
    pub language: String,
    /// The words between the block before, or the heading, and this one.
    pub before: String,
    /// What it has, without the indentation of its fence.
    pub text: String,
    /// The line of its fence, counted from 1.
    pub line: usize,
}

/// README, everything under `docs/`, and what plugins say of themselves.
pub fn pages() -> Vec<Page> {
    let root = root();
    let mut pages = vec![page(&root, root.join("README.md"))];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(page(&root, path));
            }
        }
    }
    // Not what an author installed beside them.
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

fn page(root: &Path, path: PathBuf) -> Page {
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let text = fs::read_to_string(&path).unwrap();
    Page { path, name, text }
}

impl Page {
    /// The blocks, in their order.
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

    /// The lines that are in no block, with their numbers.
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

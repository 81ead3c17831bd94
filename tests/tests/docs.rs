//! The documents are true: what they say to type works, what they say to write is
//! taken, and where they lead there is something. `docs/README.md` tells the rules.

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/files.rs"]
mod files;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/page.rs"]
mod page;

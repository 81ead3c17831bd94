//! Checks of the documents: their commands work, their configuration files are valid, and
//! their links have targets. `docs/README.md` has the rules.

mod architecture;
mod commands;
mod containerfile;
mod files;
mod links;
mod messages;
mod page;

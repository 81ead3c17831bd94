//! Checks of the documents: their commands work, their configuration files are valid, and
//! their links have targets. `docs/README.md` has the rules.

mod answers;
mod architecture;
mod commands;
mod containerfile;
mod fakes;
mod files;
mod links;
mod machine;
mod messages;
mod not_run;
mod page;
mod sandbox;
mod steps;

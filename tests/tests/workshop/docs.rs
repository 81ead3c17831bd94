//! The documents are true: what they say to type works, what they say to write is
//! taken, and where they lead there is something. `docs/README.md` tells the rules.

mod architecture;
mod commands;
mod files;
mod links;
mod page;

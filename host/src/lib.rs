//! Plugboard: a webhook target for voice platforms that decides where each
//! phone call goes by running the operator's routing logic as sandboxed
//! WebAssembly components. `ARCHITECTURE.md` at the root tells how it hangs
//! together.

pub mod cache;
pub mod capability;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod decision;
pub mod deliveries;
pub mod dispatch;
pub mod engine;
pub mod erasure;
pub mod event;
pub mod journal;
pub mod live;
pub mod logging;
pub mod metrics;
pub mod midcall;
pub mod nesting;
pub mod platform;
pub mod plugin;
#[cfg(test)]
mod reference;
pub mod registry;
pub mod reload;
pub mod router;
pub mod server;
pub mod store;
pub mod sts_url;
mod tls;
mod toml_text;
pub mod traces;
mod units;

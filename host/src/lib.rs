//! Plugboard: a webhook target for voice platforms that decides where each
//! phone call goes by running the operator's routing logic as sandboxed
//! WebAssembly components. `ARCHITECTURE.md` at the root tells how it hangs
//! together.

mod cache;
mod call;
mod call_selector;
mod capability;
pub mod cli;
pub mod config;
mod credentials;
mod decision;
mod dispatch;
mod engine;
mod erasure;
mod event;
mod event_id;
mod idempotency;
mod journal;
mod json_depth;
mod live;
mod logging;
mod metrics;
mod mid_call;
mod outcome;
pub mod platform;
mod platforms;
mod plugin;
#[cfg(test)]
mod reference;
mod registry;
mod reload;
pub mod router;
mod secret;
mod server;
mod span;
mod store;
mod sts_url;
mod text;
mod tls;
mod toml_error;
mod traces;
mod units;
mod vary;
mod verdict;

//! Routing: decides calls, and answers tools and transfers during calls.
//!
//! [`router`] and [`mid_call`] walk a chain of plugins (`chain`). [`cache`] and the tool
//! cache are vary caches (`vary`). [`idempotency`] answers repeated deliveries.

#![forbid(unsafe_code)]

pub mod cache;
mod chain;
pub mod idempotency;
pub mod mid_call;
pub mod router;
mod vary;

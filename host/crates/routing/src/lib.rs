//! Decides calls and answers tools and transfers: the chain, its caches, and idempotency.

#![forbid(unsafe_code)]

pub mod cache;
pub mod idempotency;
pub mod mid_call;
pub mod router;

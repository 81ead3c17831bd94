//! Events: the journal that accepts them and the dispatcher that delivers them.

#![forbid(unsafe_code)]

pub mod dispatch;
pub mod journal;

//! The platform-neutral model: calls, events, decisions and their parts. It does no I/O and
//! depends on no other crate of the workspace.

#![forbid(unsafe_code)]

pub mod call;
pub mod call_id;
pub mod call_selector;
pub mod decision;
pub mod event;
pub mod event_id;
pub mod json_depth;
pub mod outcome;
pub mod platforms;
pub mod secret;
pub mod span;
pub mod sts_url;
#[doc(hidden)]
pub mod testing;
pub mod text;
pub mod units;
pub mod verdict;

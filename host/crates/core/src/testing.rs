//! Values for unit tests of this workspace.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::call::Call;
use crate::platforms::AVR;

/// Returns an AVR call with these numbers; `metadata` is a JSON object.
///
/// # Panics
///
/// Panics if `metadata` is not a JSON object.
#[expect(clippy::expect_used, reason = "for tests alone")]
pub fn call(from: &str, to: &str, metadata: &str) -> Call {
    let metadata: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(metadata).expect("metadata is a JSON object");
    Call {
        id: "935652e3-7c59-4edc-b17f-9646a9c2a265".into(),
        platform: AVR,
        agent: None,
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        metadata: metadata.into_iter().collect(),
    }
}

//! `DELETE /calls/{id}`: erases a call; with `?platform=NAME`, only the call of that
//! platform. Plugins' values belong to no platform, and are erased either way.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;

use super::super::app_state::AppState;
use super::super::error::{ErrorResponse, json_response};
use super::query::query_pairs;
use crate::erasure;
use plugboard_core::call_selector::CallSelector;
use plugboard_platform::BadRequest;

pub(super) async fn erase(
    State(app): State<Arc<AppState>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, ErrorResponse> {
    let bad_request = |message: String| ErrorResponse::from(BadRequest { message });
    let Path(id) = id.map_err(|_| bad_request("path: the call's id is no UTF-8".to_owned()))?;
    let mut platform = None;
    for (name, value) in query_pairs(query.as_deref()) {
        match &*name {
            "platform" => platform = Some(value.into_owned()),
            _ => return Err(bad_request("query: expected `platform`".to_owned())),
        }
    }
    let call = CallSelector::new(&id, platform.as_deref());
    let call = call.map_err(|error| bad_request(error.to_string()))?;
    let erased = erasure::erase_call(app.services.clone(), call).await;
    Ok(json_response(&erased.map_err(|error| ErrorResponse::from_erasure_error(&error))?))
}

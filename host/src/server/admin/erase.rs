//! `DELETE /calls/{id}`: erases everything that is stored about a call; with
//! `?platform=NAME`, of that platform's call of this name. (Plugins' values carry no
//! platform, and go either way.)

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;

use super::super::App;
use super::super::error::{HttpError, json};
use crate::erasure::{self, Knowers};
use crate::platform::BadRequest;
use crate::store::erase::CallName;

pub(super) async fn erase(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, HttpError> {
    let bad_request = |message: String| HttpError::from(BadRequest { message });
    let Path(id) = id.map_err(|_| bad_request("path: the call's id is no UTF-8".to_owned()))?;
    let mut platform = None;
    for (name, value) in super::pairs(query.as_deref()) {
        match &*name {
            "platform" => platform = Some(value.into_owned()),
            _ => return Err(bad_request("query: expected `platform`".to_owned())),
        }
    }
    let call = CallName::new(&id, platform.as_deref());
    let call = call.map_err(|error| bad_request(error.to_string()))?;
    let knowers = Knowers {
        journal: Arc::clone(&app.journal),
        dispatcher: Arc::clone(&app.dispatcher),
        store: Arc::clone(&app.store),
        deliveries: app.deliveries.clone(),
        midcall: Arc::clone(&app.midcall),
        live: app.live.clone(),
        registry: Arc::clone(&app.registry),
    };
    let erased = erasure::erase(knowers, call).await;
    Ok(json(&erased.map_err(|error| HttpError::not_erased(&error))?))
}

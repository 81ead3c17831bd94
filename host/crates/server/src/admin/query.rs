//! The query of a request.

/// Decodes the names and values of a query.
pub(super) fn query_pairs(query: Option<&str>) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

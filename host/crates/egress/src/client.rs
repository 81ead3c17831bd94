//! HTTP client of one version of a plugin: enforces its grants and limits.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time;
use tracing::Span;

use super::resolver::{self, Resolver};
use super::spans;
use super::target::Target;
use super::{
    HttpError, HttpGrants, HttpLimits, HttpMock, HttpRequest, HttpResponse, MAX_REDIRECTS, message,
};
use plugboard_core::span::in_span;
use plugboard_core::text::sanitize;
use plugboard_tls::client_roots::{self as tls, MissingRootCertificates};

/// The `user-agent` of requests for which the plugin sets none.
const USER_AGENT: &str = concat!("plugboard/", env!("CARGO_PKG_VERSION"));

/// Number of idle connections kept for each host.
const IDLE_CONNECTIONS: usize = 2;

/// Lifetime of an idle connection; shorter than that of most servers.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Longest quotation from libraries and servers in an error message, in bytes.
const MAX_ERROR_LENGTH: usize = 300;

/// The HTTP client of one version of a plugin.
pub struct HttpClient {
    transport: Transport,
    grants: HttpGrants,
    limits: HttpLimits,
    permits: Semaphore,
}

/// The destination of requests that grants and limits allow.
enum Transport {
    /// Sends requests to the hosts of their URLs.
    Network(NetworkClient),
    /// Answers requests with prepared responses.
    Mock(Arc<HttpMock>),
}

struct NetworkClient {
    client: Client,
    no_roots: Option<MissingRootCertificates>,
}

/// The HTTP client could not be created.
#[derive(Debug, Error)]
#[error("cannot create the HTTP client")]
pub struct HttpClientError(#[from] reqwest::Error);

impl HttpClient {
    /// Creates a client for the hosts that the grants allow. Reads the machine's root
    /// certificates, which takes milliseconds; without any, only plain http works.
    ///
    /// # Errors
    ///
    /// When the HTTP library cannot be configured as required.
    pub fn new(grants: HttpGrants, limits: HttpLimits) -> Result<Self, HttpClientError> {
        Self::with_builder(grants, limits, Client::builder)
    }

    /// Creates a client from a builder with other root certificates.
    pub(super) fn with_builder(
        grants: HttpGrants,
        limits: HttpLimits,
        builder: impl Fn() -> ClientBuilder,
    ) -> Result<Self, HttpClientError> {
        let slots = limits.max_concurrency();
        let (client, no_roots) = tls::build_client(|| {
            let redirect_grants = grants.clone();
            builder()
                .dns_resolver(Resolver::new(grants.clone(), slots))
                .redirect(Policy::custom(move |attempt| redirect_action(&redirect_grants, attempt)))
                // A proxy would resolve the names itself, without the address policy.
                .no_proxy()
                .referer(false)
                .retry(reqwest::retry::never())
                .http1_only()
                .user_agent(USER_AGENT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .pool_idle_timeout(IDLE_TIME)
        })?;
        Ok(Self::with_transport(
            Transport::Network(NetworkClient { client, no_roots }),
            grants,
            limits,
        ))
    }

    /// Creates a client without network access: a mock answers the requests that grants and
    /// limits allow.
    pub fn with_mock(grants: HttpGrants, limits: HttpLimits, mock: Arc<HttpMock>) -> Self {
        Self::with_transport(Transport::Mock(mock), grants, limits)
    }

    fn with_transport(wire: Transport, grants: HttpGrants, limits: HttpLimits) -> Self {
        let slots = Semaphore::new(limits.max_concurrency());
        Self { transport: wire, grants, limits, permits: slots }
    }

    /// Returns the reason and the remedy if https cannot work on this machine, for the log
    /// when the plugin is loaded.
    pub fn missing_roots_advice(&self) -> Option<String> {
        match &self.transport {
            Transport::Network(network) => {
                network.no_roots.as_ref().map(MissingRootCertificates::advice)
            }
            Transport::Mock(_) => None,
        }
    }

    /// Sends a request and waits for the whole response, at most for `remaining`. Dropping
    /// the future cancels the request.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]. If the first URL is refused, nothing was sent; if a redirect is
    /// refused, nothing was sent to its target.
    pub async fn send(
        &self,
        request: HttpRequest,
        remaining: Duration,
    ) -> Result<HttpResponse, HttpError> {
        let span = spans::http_span();
        let exchange = self.send_in_span(request, remaining, &span);
        let result = in_span(span.clone(), HttpError::label, exchange).await;
        if let Ok(response) = &result {
            spans::record_response(&span, response.status);
        }
        result
    }

    async fn send_in_span(
        &self,
        request: HttpRequest,
        remaining: Duration,
        span: &Span,
    ) -> Result<HttpResponse, HttpError> {
        let timeout = request.timeout.unwrap_or(remaining).min(remaining).min(self.limits.timeout);
        let (target, request) = message::validate_request(request, self.limits.max_request_size)?;
        self.grants.check_target(&target)?;
        spans::record_request(span, request.method().as_str(), &target.host, target.port);
        let _permit = self.permits.try_acquire().map_err(|_| HttpError::TooManyRequests)?;
        if timeout.is_zero() {
            return Err(HttpError::Timeout);
        }
        let network = match &self.transport {
            Transport::Network(network) => network,
            Transport::Mock(script) => {
                return script.respond(request.method().as_str(), request.url().as_str());
            }
        };
        let exchange = resolver::with_target(target, self.exchange(network, request));
        time::timeout(timeout, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(
        &self,
        network: &NetworkClient,
        request: reqwest::Request,
    ) -> Result<HttpResponse, HttpError> {
        let to_http_error = |error| network.describe_error(error);
        let mut response = network.client.execute(request).await.map_err(to_http_error)?;
        let mut headers = Vec::with_capacity(response.headers().len());
        let mut remaining = self.limits.max_response_size;
        for (name, value) in response.headers() {
            let size = message::header_size(name.as_str().len(), value.len());
            remaining = remaining.checked_sub(size).ok_or_else(|| self.too_large())?;
            headers.push((
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ));
        }
        if response.content_length().is_some_and(|length| length > remaining as u64) {
            return Err(self.too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(to_http_error)? {
            remaining = remaining.checked_sub(chunk.len()).ok_or_else(|| self.too_large())?;
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status: response.status().as_u16(), headers, body })
    }

    fn too_large(&self) -> HttpError {
        HttpError::TooLarge(format!(
            "the response has more than {} bytes",
            self.limits.max_response_size
        ))
    }
}

impl NetworkClient {
    /// Returns this crate's error if the chain of causes has one, else the root cause of the
    /// library's error. The library's own message may contain the URL.
    fn describe_error(&self, error: reqwest::Error) -> HttpError {
        if error.is_builder() {
            return HttpError::InvalidRequest("HTTP cannot carry this URL".to_owned());
        }
        let mut reason = None;
        let mut cause: Option<&dyn Error> = Some(&error);
        while let Some(error) = cause {
            if let Some(http_error) = error.downcast_ref::<HttpError>() {
                return http_error.clone();
            }
            if !error.is::<reqwest::Error>() {
                reason = Some(error.to_string());
            }
            cause = error.source();
        }
        let reason = reason.unwrap_or_else(|| error.without_url().to_string());
        let reason = sanitize(&reason, MAX_ERROR_LENGTH);
        match (resolver::current_target(), &self.no_roots) {
            (Some(target), Some(no_roots)) if target.tls && reason.contains("certificate") => {
                HttpError::Failed(format!("{target}: {reason}; {}", no_roots.advice()))
            }
            (Some(target), _) => HttpError::Failed(format!("{target}: {reason}")),
            (None, _) => HttpError::Failed(reason),
        }
    }
}

/// Checks the target of a redirect like the URL of a request.
fn redirect_action(grants: &HttpGrants, attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        let text = format!("more than {MAX_REDIRECTS} redirects");
        return attempt.error(HttpError::Failed(text));
    }
    match check_redirect(grants, &attempt) {
        Ok(target) => {
            resolver::set_target(target);
            attempt.follow()
        }
        Err(error) => attempt.error(error),
    }
}

fn check_redirect(grants: &HttpGrants, attempt: &Attempt<'_>) -> Result<Target, HttpError> {
    let target = Target::from_url(attempt.url())
        .map_err(|problem| HttpError::NotGranted(format!("redirect: {problem}")))?;
    let was_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_tls && !target.tls {
        return Err(HttpError::NotGranted(format!("redirect from https to http ({target})")));
    }
    grants.check_target(&target)?;
    Ok(target)
}

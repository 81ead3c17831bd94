//! Sends requests within the grants and the limits of one plugin.

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
use super::target::Target;
use super::{HttpError, HttpGrants, HttpLimits, MAX_REDIRECTS, Request, Response, Script, message};
use crate::capability::log::quote;
use crate::tls::{self, NoRoots};
use crate::traces::spans;

/// What a request says it is from, if the guest does not say.
const USER_AGENT: &str = concat!("plugboard/", env!("CARGO_PKG_VERSION"));

/// Connections that wait for the next request, for each host.
const IDLE_CONNECTIONS: usize = 2;

/// How long they wait; shorter than servers usually do.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// As much as a message has of the words of libraries and other sides, in bytes.
const MAX_REASON: usize = 300;

/// What one version of a plugin sends its requests with.
pub struct HttpClient {
    wire: Wire,
    grants: HttpGrants,
    limits: HttpLimits,
    slots: Semaphore,
}

/// Where requests go that are within the grants and the limits.
enum Wire {
    /// Where their URLs lead.
    Network(Network),
    /// Nowhere.
    Script(Arc<Script>),
}

struct Network {
    client: Client,
    no_roots: Option<NoRoots>,
}

/// The client cannot be made.
#[derive(Debug, Error)]
#[error("cannot make an HTTP client")]
pub struct ClientError(#[from] reqwest::Error);

impl HttpClient {
    /// A client that goes where the grants allow. Reads the machine's root
    /// certificates, which takes milliseconds; without any, only plain http works.
    ///
    /// # Errors
    ///
    /// When the HTTP library cannot be set up as this host needs it.
    pub fn new(grants: HttpGrants, limits: HttpLimits) -> Result<Self, ClientError> {
        Self::with(grants, limits, Client::builder)
    }

    /// With a builder that has other roots.
    pub(super) fn with(
        grants: HttpGrants,
        limits: HttpLimits,
        builder: impl Fn() -> ClientBuilder,
    ) -> Result<Self, ClientError> {
        let slots = limits.slots();
        let (client, no_roots) = tls::client(|| {
            let judge = grants.clone();
            builder()
                .dns_resolver(Resolver::new(grants.clone(), slots))
                .redirect(Policy::custom(move |attempt| follow(&judge, attempt)))
                // A proxy would look the names up by itself.
                .no_proxy()
                .referer(false)
                .retry(reqwest::retry::never())
                .http1_only()
                .user_agent(USER_AGENT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .pool_idle_timeout(IDLE_TIME)
        })?;
        Ok(Self::over(Wire::Network(Network { client, no_roots }), grants, limits))
    }

    /// A client that sends nothing: a script answers what the grants and the limits
    /// allow.
    pub fn scripted(grants: HttpGrants, limits: HttpLimits, script: Arc<Script>) -> Self {
        Self::over(Wire::Script(script), grants, limits)
    }

    fn over(wire: Wire, grants: HttpGrants, limits: HttpLimits) -> Self {
        let slots = Semaphore::new(limits.slots());
        Self { wire, grants, limits, slots }
    }

    /// Why https cannot work here, if it cannot, and what to do: for the log when
    /// the plugin is loaded.
    pub fn advice(&self) -> Option<String> {
        match &self.wire {
            Wire::Network(network) => network.no_roots.as_ref().map(NoRoots::advice),
            Wire::Script(_) => None,
        }
    }

    /// Sends a request and waits for the whole response, `left` at most. Dropping
    /// the future gives it up.
    ///
    /// # Errors
    ///
    /// See [`HttpError`]. After a refusal of the first URL, nothing was sent; after
    /// a refusal of a redirect, nothing was sent to where it leads.
    pub async fn send(&self, request: Request, left: Duration) -> Result<Response, HttpError> {
        let span = spans::http();
        let sent = self.sent(request, left, &span);
        let result = spans::within(span.clone(), HttpError::label, sent).await;
        if let Ok(response) = &result {
            spans::responded(&span, response.status);
        }
        result
    }

    async fn sent(
        &self,
        request: Request,
        left: Duration,
        span: &Span,
    ) -> Result<Response, HttpError> {
        let time = request.timeout.unwrap_or(left).min(left).min(self.limits.timeout);
        let (target, request) = message::checked(request, self.limits.request)?;
        self.grants.admit(&target)?;
        spans::requested(span, request.method().as_str(), &target.host, target.port);
        let _slot = self.slots.try_acquire().map_err(|_| HttpError::TooMany)?;
        if time.is_zero() {
            return Err(HttpError::Timeout);
        }
        let network = match &self.wire {
            Wire::Network(network) => network,
            Wire::Script(script) => {
                return script.answer(request.method().as_str(), request.url().as_str());
            }
        };
        let exchange = resolver::travel(target, self.exchange(network, request));
        time::timeout(time, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(
        &self,
        network: &Network,
        request: reqwest::Request,
    ) -> Result<Response, HttpError> {
        let fail = |error| network.explain(error);
        let mut response = network.client.execute(request).await.map_err(fail)?;
        let mut headers = Vec::with_capacity(response.headers().len());
        let mut room = self.limits.response;
        for (name, value) in response.headers() {
            let size = message::header_size(name.as_str().len(), value.len());
            room = room.checked_sub(size).ok_or_else(|| self.too_large())?;
            headers.push((
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ));
        }
        if response.content_length().is_some_and(|announced| announced > room as u64) {
            return Err(self.too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            room = room.checked_sub(chunk.len()).ok_or_else(|| self.too_large())?;
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: response.status().as_u16(), headers, body })
    }

    fn too_large(&self) -> HttpError {
        HttpError::TooLarge(format!("a response of more than {} bytes", self.limits.response))
    }
}

impl Network {
    /// Our own error, if it is one, or what is at the bottom of the library's. The
    /// library's own words may have the URL in them.
    fn explain(&self, error: reqwest::Error) -> HttpError {
        if error.is_builder() {
            return HttpError::InvalidRequest("the URL is none that HTTP can carry".to_owned());
        }
        let mut reason = None;
        let mut cause: Option<&dyn Error> = Some(&error);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref::<HttpError>() {
                return own.clone();
            }
            if !error.is::<reqwest::Error>() {
                reason = Some(error.to_string());
            }
            cause = error.source();
        }
        let reason = reason.unwrap_or_else(|| error.without_url().to_string());
        let reason = quote(&reason, MAX_REASON);
        match (resolver::hop(), &self.no_roots) {
            (Some(hop), Some(no_roots)) if hop.tls && reason.contains("certificate") => {
                HttpError::Failed(format!("{hop}: {reason}; {}", no_roots.advice()))
            }
            (Some(hop), _) => HttpError::Failed(format!("{hop}: {reason}")),
            (None, _) => HttpError::Failed(reason),
        }
    }
}

/// Judges a redirect as if the guest had asked for it.
fn follow(grants: &HttpGrants, attempt: Attempt<'_>) -> Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        let text = format!("more than {MAX_REDIRECTS} redirects");
        return attempt.error(HttpError::Failed(text));
    }
    match judge(grants, &attempt) {
        Ok(target) => {
            resolver::turn_to(target);
            attempt.follow()
        }
        Err(error) => attempt.error(error),
    }
}

fn judge(grants: &HttpGrants, attempt: &Attempt<'_>) -> Result<Target, HttpError> {
    let target = Target::of(attempt.url())
        .map_err(|problem| HttpError::NotGranted(format!("a redirect: {problem}")))?;
    let was_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_tls && !target.tls {
        return Err(HttpError::NotGranted(format!("a redirect from https to http, to {target}")));
    }
    grants.admit(&target)?;
    Ok(target)
}

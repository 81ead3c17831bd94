//! The HTTP client that posts batches of spans to the collector.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use tokio::runtime::{self, Runtime};

use super::queue::SpanQueue;
use plugboard_config::TracesConfig;
use plugboard_tls::client_roots::{self, MissingRootCertificates};

/// Time limit for one batch, retries included.
pub(super) const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests with reqwest, on a runtime of its own, and keeps the reason of the last
/// failure. `opentelemetry-otlp` reduces every transport error to "network error", and
/// the SDK's export thread has no runtime, which reqwest needs.
pub(super) struct CollectorClient {
    client: Client,
    /// The reason why https cannot work. `None`: it works, or the endpoint is plain HTTP.
    missing_roots: Option<MissingRootCertificates>,
    /// The runtime with one thread, which also drives idle connections between two batches.
    runtime: Runtime,
    queue: Arc<SpanQueue>,
}

impl CollectorClient {
    /// Starts the client's thread.
    ///
    /// # Errors
    ///
    /// Fails if the thread or the client cannot be created.
    pub(super) fn new(config: &TracesConfig, queue: Arc<SpanQueue>) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for header in &config.headers {
            let mut value: HeaderValue = header.value().expose().parse()?;
            value.set_sensitive(true);
            headers.append(header.name(), value);
        }
        let (client, missing_roots) = client_roots::build_client(|| {
            Client::builder()
                .default_headers(headers.clone())
                // The client follows no redirects, because the headers are secrets of this
                // collector.
                .redirect(Policy::none())
                .timeout(EXPORT_TIMEOUT)
        })?;
        let missing_roots = missing_roots.filter(|_| config.otlp_endpoint.scheme() == "https");
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .context("cannot start a thread that sends traces")?;
        Ok(Self { client, missing_roots, runtime, queue })
    }

    /// Describes an error without the URL.
    fn reason(&self, error: &reqwest::Error) -> String {
        match &self.missing_roots {
            _ if error.is_timeout() => "it did not answer in time".to_owned(),
            Some(missing_roots) => missing_roots.advice(),
            None => client_roots::root_cause(error),
        }
    }
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The output omits the headers, which are secrets.
        f.write_str("CollectorClient")
    }
}

impl HttpClient for CollectorClient {
    // This is the signature that `async_trait` generates for the trait.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            // The SDK calls this on its export thread, which may block.
            let result = self.runtime.block_on(self.client.send_bytes(request));
            let error = result.as_ref().err().and_then(|error| error.downcast_ref());
            self.queue.set_reason(error.map(|error| self.reason(error)));
            result
        })
    }
}

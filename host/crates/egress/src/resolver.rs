//! Name resolution with SSRF protection: returns only addresses that the grants allow.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::target::Target;
use super::{HttpError, HttpGrants};

tokio::task_local! {
    /// Target of the current hop. reqwest passes only the name to a resolver, but grants also
    /// apply to the port. It calls the resolver in the poll of the request, so the request
    /// can pass its target in a task-local variable.
    static CURRENT_TARGET: RefCell<Target>;
}

/// Runs one exchange that starts at `target`.
pub async fn with_target<T>(target: Target, exchange: impl Future<Output = T>) -> T {
    CURRENT_TARGET.scope(RefCell::new(target), exchange).await
}

/// Sets the target of a redirect.
pub fn set_target(target: Target) {
    // Fails only outside an exchange, where no name is resolved.
    let _ = CURRENT_TARGET.try_with(|current| *current.borrow_mut() = target);
}

/// Returns the target of the current hop.
pub fn current_target() -> Option<Target> {
    CURRENT_TARGET.try_with(|current| current.borrow().clone()).ok()
}

/// The DNS resolver of one plugin.
pub struct Resolver {
    grants: HttpGrants,
    lookup_permits: Arc<Semaphore>,
}

impl Resolver {
    /// Creates a resolver with at most `lookups` concurrent lookups. A lookup cannot be
    /// cancelled: without a limit, a plugin with short timeouts could occupy all threads
    /// with names whose DNS servers do not answer.
    pub fn new(grants: HttpGrants, lookups: usize) -> Self {
        Self { grants, lookup_permits: Arc::new(Semaphore::new(lookups)) }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        // Read before the future runs, because another task may poll the future.
        let target = current_target().filter(|target| target.matches_name(name.as_str()));
        let (grants, lookups) = (self.grants.clone(), Arc::clone(&self.lookup_permits));
        Box::pin(async move {
            // A mismatch of the checked and the resolved name is a bug of the host, and must
            // fail.
            let target = target.ok_or_else(|| {
                HttpError::NotGranted("the resolved name is not the host of the request".to_owned())
            })?;
            grants.check_target(&target)?;
            let addresses = resolve_host(name.as_str().to_owned(), &target, lookups).await?;
            let allowed = filter_addresses(&grants, &target, addresses)?;
            Ok(Box::new(allowed.into_iter()) as Box<_>)
        })
    }
}

async fn resolve_host(
    name: String,
    target: &Target,
    lookup_permits: Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, HttpError> {
    let to_failed = |error: &dyn std::fmt::Display| HttpError::Failed(format!("{target}: {error}"));
    let permit = lookup_permits.acquire_owned().await.map_err(|error| to_failed(&error))?;
    let port = target.port;
    // A separate task holds the permit until the lookup ends, even if the request is cancelled.
    let lookup = tokio::spawn(async move {
        let _permit = permit;
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect)
    });
    lookup.await.map_err(|error| to_failed(&error))?.map_err(|error| to_failed(&error))
}

/// Returns the addresses to which the request may connect.
fn filter_addresses(
    grants: &HttpGrants,
    target: &Target,
    addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, HttpError> {
    let mut rejection = None;
    let mut allowed = Vec::with_capacity(addresses.len());
    for address in addresses {
        match grants.check_address(target, address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => rejection = rejection.or(Some(error)),
        }
    }
    if allowed.is_empty() {
        let no_address = || HttpError::Failed(format!("{target}: the name has no address"));
        return Err(rejection.unwrap_or_else(no_address));
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn grants(entries: &[&str]) -> HttpGrants {
        HttpGrants::try_from(entries.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn target(url: &str) -> Target {
        Target::from_url(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn only_allowed_addresses_are_kept() {
        let (grants, target) = (grants(&["crm.example"]), target("http://crm.example/"));
        let [bad, good, worse] =
            ["10.0.0.1:80", "8.8.8.8:80", "[::1]:80"].map(|text| text.parse().unwrap());
        assert_eq!(filter_addresses(&grants, &target, vec![bad, good, worse]), Ok(vec![good]));
        let error = filter_addresses(&grants, &target, vec![bad, worse]).unwrap_err();
        assert!(matches!(&error, HttpError::AddressRefused(text) if text.contains("10.0.0.1")));
        assert_eq!(filter_addresses(&grants, &target, Vec::new()).unwrap_err().label(), "failed");
    }

    #[tokio::test]
    async fn resolver_rejects_names_other_than_current_target() {
        let resolver = Resolver::new(grants(&["localhost", "127.0.0.0/8", "[::1]"]), 1);
        let resolve = |name: &str| resolver.resolve(name.parse().unwrap());
        let Err(error) = resolve("localhost").await else { panic!("no hop") };
        assert!(error.downcast_ref::<HttpError>().unwrap().is_refusal());
        with_target(target("http://localhost/"), async {
            assert!(resolve("LOCALHOST").await.is_ok());
            // This name would resolve without the check.
            assert!(resolve("127.0.0.1").await.is_err());
            set_target(target("http://localhost:81/"));
            assert!(resolve("localhost").await.is_err());
            set_target(target("https://localhost/"));
            assert!(resolve("localhost").await.is_ok());
        })
        .await;
    }
}

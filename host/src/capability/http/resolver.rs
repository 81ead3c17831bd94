//! Looks names up, and keeps of their addresses those that may be connected to.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::target::Target;
use super::{HttpError, HttpGrants};

tokio::task_local! {
    /// The hop that is on the way. reqwest asks a resolver for a name, without the
    /// port that a grant is about; it asks while it is polled by the request that
    /// needs the answer, so the request can say here what it is about to do.
    static HOP: RefCell<Target>;
}

/// Runs one exchange that starts at `target`.
pub async fn travel<T>(target: Target, exchange: impl Future<Output = T>) -> T {
    HOP.scope(RefCell::new(target), exchange).await
}

/// Goes on to another target, where a redirect leads.
pub fn turn_to(target: Target) {
    // Without an exchange there is no hop, and nothing can be looked up.
    let _ = HOP.try_with(|hop| *hop.borrow_mut() = target);
}

/// Where the exchange is now.
pub fn hop() -> Option<Target> {
    HOP.try_with(|hop| hop.borrow().clone()).ok()
}

/// The lookups of one plugin.
pub struct Resolver {
    grants: HttpGrants,
    lookups: Arc<Semaphore>,
}

impl Resolver {
    /// At most so many lookups at once. They cannot be cancelled: without a bound,
    /// a plugin with short timeouts could fill all threads with names that nobody
    /// answers for.
    pub fn new(grants: HttpGrants, lookups: usize) -> Self {
        Self { grants, lookups: Arc::new(Semaphore::new(lookups)) }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        // Now, and not in the future, which may be polled by another task.
        let hop = hop().filter(|target| target.is_named(name.as_str()));
        let (grants, lookups) = (self.grants.clone(), Arc::clone(&self.lookups));
        Box::pin(async move {
            // The policy judged another URL than the one that is fetched: cannot
            // be, and must not.
            let target = hop.ok_or_else(|| {
                HttpError::NotGranted("a name that the request does not have".to_owned())
            })?;
            grants.admit(&target)?;
            let found = look_up(name.as_str().to_owned(), &target, lookups).await?;
            let kept = keep(&grants, &target, found)?;
            Ok(Box::new(kept.into_iter()) as Box<_>)
        })
    }
}

async fn look_up(
    name: String,
    target: &Target,
    lookups: Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, HttpError> {
    let fail = |error: &dyn std::fmt::Display| HttpError::Failed(format!("{target}: {error}"));
    let permit = lookups.acquire_owned().await.map_err(|error| fail(&error))?;
    let port = target.port;
    // In a task of its own, that ends when the lookup does and not when the caller
    // has gone.
    let lookup = tokio::spawn(async move {
        let _permit = permit;
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect)
    });
    lookup.await.map_err(|error| fail(&error))?.map_err(|error| fail(&error))
}

/// The addresses that may be connected to.
fn keep(
    grants: &HttpGrants,
    target: &Target,
    found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, HttpError> {
    let mut refusal = None;
    let mut kept = Vec::with_capacity(found.len());
    for address in found {
        match grants.admit_address(target, address.ip()) {
            Ok(()) => kept.push(address),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    if kept.is_empty() {
        let none = || HttpError::Failed(format!("{target}: the name has no address"));
        return Err(refusal.unwrap_or_else(none));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn grants(entries: &[&str]) -> HttpGrants {
        HttpGrants::try_from(entries.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn target(url: &str) -> Target {
        Target::of(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn of_good_and_bad_addresses_the_good_ones_are_kept() {
        let (grants, target) = (grants(&["crm.example"]), target("http://crm.example/"));
        let [bad, good, worse] =
            ["10.0.0.1:80", "8.8.8.8:80", "[::1]:80"].map(|text| text.parse().unwrap());
        assert_eq!(keep(&grants, &target, vec![bad, good, worse]), Ok(vec![good]));
        let error = keep(&grants, &target, vec![bad, worse]).unwrap_err();
        assert!(matches!(&error, HttpError::AddressRefused(text) if text.contains("10.0.0.1")));
        assert_eq!(keep(&grants, &target, Vec::new()).unwrap_err().label(), "failed");
    }

    #[tokio::test]
    async fn only_the_name_of_the_hop_is_looked_up() {
        let resolver = Resolver::new(grants(&["localhost", "127.0.0.0/8", "[::1]"]), 1);
        let look_up = |name: &str| resolver.resolve(name.parse().unwrap());
        let Err(error) = look_up("localhost").await else { panic!("no hop") };
        assert!(error.downcast_ref::<HttpError>().unwrap().is_refusal());
        travel(target("http://localhost/"), async {
            assert!(look_up("LOCALHOST").await.is_ok());
            // Which it would have an address for.
            assert!(look_up("127.0.0.1").await.is_err());
            turn_to(target("http://localhost:81/"));
            assert!(look_up("localhost").await.is_err());
            turn_to(target("https://localhost/"));
            assert!(look_up("localhost").await.is_ok());
        })
        .await;
    }
}

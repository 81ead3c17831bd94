//! The rate limiter: a token bucket per sender. Full buckets are removed, and their number is
//! bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

use plugboard_config::RateLimit;

/// Maximum number of buckets in memory, each of some hundred bytes. Beyond it, the least used
/// senders are not limited.
const MAX_SENDERS: u64 = 65_536;

/// Length of the IPv6 prefix that identifies a sender, in bits. The sender chooses the other
/// bits (RFC 4291, 2.5.4).
const IPV6_PREFIX_BITS: u32 = 64;

/// The token buckets of all senders.
pub(super) struct SenderRateLimiter<C: Clock = DefaultClock> {
    quota: Quota,
    clock: C,
    senders: Cache<IpAddr, Arc<TokenBucket<C>>>,
}

type TokenBucket<C> =
    RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl<C: Clock + Clone + Send + Sync + 'static> SenderRateLimiter<C>
where
    C::Instant: Send + Sync,
{
    /// Creates a limiter with this rate.
    pub(super) fn new(rate: RateLimit, clock: C) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        // Time after which a bucket is full again.
        let refill_seconds = f64::from(rate.burst.get()) / f64::from(rate.per_second.get());
        let idle_timeout = Duration::from_secs_f64(refill_seconds) + Duration::from_secs(1);
        let senders = Cache::builder().max_capacity(MAX_SENDERS).time_to_idle(idle_timeout).build();
        Self { quota, clock, senders }
    }

    /// Takes one token of the sender.
    ///
    /// # Errors
    ///
    /// Returns the time until the next token if the bucket is empty.
    pub(super) fn check(&self, sender: IpAddr) -> Result<(), Duration> {
        let new_bucket =
            || Arc::new(RateLimiter::direct_with_clock(self.quota, self.clock.clone()));
        let bucket = self.senders.get_with(rate_limit_key(sender), new_bucket);
        bucket.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Returns the address that identifies the sender.
fn rate_limit_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << (128 - IPV6_PREFIX_BITS));
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate_limiter(
        per_second: u32,
        burst: u32,
    ) -> (SenderRateLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let nonzero = |number| NonZeroU32::new(number).unwrap();
        let clock = FakeRelativeClock::default();
        let rate = RateLimit { per_second: nonzero(per_second), burst: nonzero(burst) };
        (SenderRateLimiter::new(rate, clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limiter_allows_burst_then_rate() {
        let (limiter, clock) = rate_limiter(10, 3);
        let one = ip("203.0.113.1");
        let admitted = |limiter: &SenderRateLimiter<_>| {
            (0..100).take_while(|_| limiter.check(one).is_ok()).count()
        };
        assert_eq!(admitted(&limiter), 3);
        let wait = limiter.check(one).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
        // Each sender has its own bucket.
        assert!(limiter.check(ip("203.0.113.2")).is_ok());
        clock.advance(Duration::from_millis(100));
        assert_eq!(admitted(&limiter), 1);
        clock.advance(Duration::from_secs(60));
        assert_eq!(admitted(&limiter), 3);
    }

    #[test]
    fn ipv6_addresses_of_one_prefix_share_bucket() {
        let (limiter, _) = rate_limiter(1, 1);
        assert!(limiter.check(ip("2001:db8:0:1::1")).is_ok());
        assert!(limiter.check(ip("2001:db8:0:1:ffff::2")).is_err());
        assert!(limiter.check(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn number_of_buckets_is_bounded() {
        let (limiter, _) = rate_limiter(1, 1);
        for sender in 0..u32::try_from(MAX_SENDERS).unwrap() * 2 {
            assert!(limiter.check(IpAddr::from(sender.to_be_bytes())).is_ok());
        }
        limiter.senders.run_pending_tasks();
        assert!(limiter.senders.entry_count() <= MAX_SENDERS, "{}", limiter.senders.entry_count());
    }

    #[test]
    fn idle_buckets_are_removed() {
        let (limiter, _) = rate_limiter(1_000, 1);
        assert!(limiter.check(ip("203.0.113.1")).is_ok());
        limiter.senders.run_pending_tasks();
        assert_eq!(limiter.senders.entry_count(), 1);
        let idle = limiter.senders.policy().time_to_idle().unwrap();
        assert!(idle < Duration::from_secs(2), "{idle:?}");
        std::thread::sleep(idle);
        limiter.senders.run_pending_tasks();
        assert_eq!(limiter.senders.entry_count(), 0);
    }
}

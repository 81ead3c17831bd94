//! Splits calls between speech-to-speech services by weight. The same call id always
//! gets the same service.

use plugboard_sdk::prelude::*;
use serde::Deserialize;

/// One service of `[config] targets`.
#[derive(Deserialize)]
struct Target {
    sts_url: String,
    weight: u32,
}

struct AbSplit;

impl Router for AbSplit {
    fn decide(call: &Call) -> Result<Decision> {
        let targets: Vec<Target> = config::table("targets")?.unwrap_or_default();
        let total = targets.iter().map(|target| u64::from(target.weight)).sum::<u64>();
        if total == 0 {
            return Err(Error::new("[config] `targets` has no target with a weight"));
        }
        let mut point = hash(call.id()) % total;
        for target in targets {
            let weight = u64::from(target.weight);
            if point < weight {
                return Ok(route(target.sts_url));
            }
            point -= weight;
        }
        Ok(pass())
    }
}

/// Returns the FNV-1a hash, which is stable across versions. A final mix improves its low
/// bits, which are weak for ids that differ in few places.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

plugboard_sdk::export!(AbSplit: Router);

#[cfg(test)]
mod tests {
    use plugboard_sdk::testing::Host;

    use super::*;

    fn host(targets: &str) -> Host {
        Host::new().with_config("targets", targets)
    }

    const NINE_TO_ONE: &str =
        r#"[{"sts_url":"ws://a","weight":9},{"sts_url":"ws://b","weight":1}]"#;

    #[test]
    fn calls_are_split_by_weight() {
        let host = host(NINE_TO_ONE);
        let to_b = (0..10_000).filter(|id| {
            let decision = host.decide::<AbSplit>(&Call::new(format!("call-{id}"))).unwrap();
            decision.sts_url() == Some("ws://b")
        });
        let share = to_b.count();
        assert!((800..1_200).contains(&share), "{share} of 10000 went to b, expected about 1000");
    }

    #[test]
    fn same_call_id_gets_same_service() {
        let call = Call::new("935652e3-7c59-4edc-b17f-9646a9c2a265");
        let decide = || host(NINE_TO_ONE).decide::<AbSplit>(&call).unwrap();
        assert_eq!(decide(), decide());
    }

    #[test]
    fn missing_weights_are_named_in_error() {
        for targets in ["[]", r#"[{"sts_url":"ws://a","weight":0}]"#] {
            let error = host(targets).decide::<AbSplit>(&Call::new("1")).unwrap_err();
            assert!(error.to_string().contains("targets"), "{error}");
        }
    }
}

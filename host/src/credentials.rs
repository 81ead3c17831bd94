//! What a platform shows to be let in: headers with a fixed value, and a signature
//! over the body as it was sent. Any number of each, in any combination, and more
//! than one value at a time, so that they can be changed without a gap.

use axum::http::{HeaderMap, HeaderName};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, de};
use sha2::Sha256;
use thiserror::Error;

use crate::config::Secret;

/// What stands before the digits of a signature, or does not.
const SCHEME: &[u8] = b"sha256=";

/// The word for the signature in `require`.
const SIGNATURE: &str = "signature";

/// Who is let in.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    headers: Vec<Header>,
    signature: Option<Signature>,
    /// One of these sets must be shown, all of it. None: nobody is asked.
    accepted: Vec<Vec<Proof>>,
}

/// The sender did not show what it has to.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unauthorized(pub &'static str);

/// A header that was configured, with every value that is good.
#[derive(Clone, Debug)]
struct Header {
    name: HeaderName,
    values: Vec<Secret>,
}

#[derive(Clone, Debug)]
struct Signature {
    header: HeaderName,
    secrets: Vec<Secret>,
}

/// Something that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The header in this place.
    Header(usize),
    Signature,
}

/// `Name: value`, as it is configured.
#[derive(Clone, Debug)]
pub struct HeaderSecret {
    name: HeaderName,
    value: Secret,
}

impl HeaderSecret {
    /// Its name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// What it says.
    pub fn value(&self) -> &Secret {
        &self.value
    }
}

impl<'de> Deserialize<'de> for HeaderSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The message must not repeat what it was given.
        let wrong = || {
            de::Error::custom(
                "a header is text such as \"Authorization: Bearer SECRET\": a name, a colon, and a \
                 value of printable ASCII",
            )
        };
        let text = String::deserialize(deserializer).map_err(|_| wrong())?;
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let value = Secret::with_spaces(value.trim()).ok_or_else(wrong)?;
        Ok(Self { name, value })
    }
}

impl Credentials {
    /// Those that are configured. `require` has sets of what must be shown together,
    /// each written as `signature + x-api-key`, of which one must be shown; when it is
    /// empty, everything that is configured must be.
    ///
    /// # Errors
    ///
    /// When `require` names what is not configured; says so.
    pub fn new(
        headers: Vec<HeaderSecret>,
        signature: Option<(HeaderName, Vec<Secret>)>,
        require: &[String],
    ) -> Result<Self, String> {
        let mut known: Vec<Header> = Vec::new();
        for HeaderSecret { name, value } in headers {
            match known.iter_mut().find(|header| header.name == name) {
                Some(header) => header.values.push(value),
                None => known.push(Header { name, values: vec![value] }),
            }
        }
        let signature = signature.map(|(header, secrets)| Signature { header, secrets });
        let mut it = Self { headers: known, signature, accepted: Vec::new() };
        let all: Vec<Proof> = (0..it.headers.len())
            .map(Proof::Header)
            .chain(it.signature.as_ref().map(|_| Proof::Signature))
            .collect();
        it.accepted = match (require.is_empty(), all.is_empty()) {
            (true, true) => Vec::new(),
            (true, false) => vec![all],
            (false, _) => require.iter().map(|set| it.set(set)).collect::<Result<_, _>>()?,
        };
        Ok(it)
    }

    fn set(&self, text: &str) -> Result<Vec<Proof>, String> {
        text.split('+').map(|word| self.proof(word.trim())).collect()
    }

    fn proof(&self, word: &str) -> Result<Proof, String> {
        let names = || self.headers.iter().map(|header| header.name.as_str());
        if word.eq_ignore_ascii_case(SIGNATURE) && self.signature.is_some() {
            return Ok(Proof::Signature);
        }
        let place = names().position(|name| name.eq_ignore_ascii_case(word));
        place.map(Proof::Header).ok_or_else(|| {
            let signature = self.signature.as_ref().map(|_| SIGNATURE);
            let known: Vec<&str> = names().chain(signature).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            format!("{word:?} is not configured; there is {known}")
        })
    }

    /// Whether nobody is asked for anything.
    pub fn is_open(&self) -> bool {
        self.accepted.is_empty()
    }

    /// Judges by the head of a request alone: whether a body could be such that the
    /// sender is let in.
    ///
    /// # Errors
    ///
    /// When none could.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        // The signature is as good as it can be until there is a body.
        self.judge(headers, |_| true)
    }

    /// Judges a whole request.
    ///
    /// # Errors
    ///
    /// When the sender is not let in.
    pub fn authenticate(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unauthorized> {
        self.judge(headers, |signature| {
            self.signature.as_ref().is_some_and(|it| it.is_right(signature, body))
        })
    }

    /// Whatever is shown must be right, also where something else would have done.
    fn judge(
        &self,
        headers: &HeaderMap,
        is_signature: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Unauthorized> {
        if self.is_open() {
            return Ok(());
        }
        let mut shown = Vec::with_capacity(self.headers.len() + 1);
        for (place, header) in self.headers.iter().enumerate() {
            let is_right = |value: &[u8]| {
                // All of them, so that the time does not tell which one it is.
                header.values.iter().fold(false, |found, good| found | good.is(value))
            };
            if shows(headers, &header.name, is_right)
                .map_err(|Wrong| Unauthorized("a secret header is wrong"))?
            {
                shown.push(Proof::Header(place));
            }
        }
        if let Some(signature) = &self.signature
            && shows(headers, &signature.header, is_signature)
                .map_err(|Wrong| Unauthorized("the signature is wrong"))?
        {
            shown.push(Proof::Signature);
        }
        if self.accepted.iter().any(|set| set.iter().all(|proof| shown.contains(proof))) {
            return Ok(());
        }
        let missing = |proof| {
            !shown.contains(&proof) && self.accepted.iter().flatten().any(|it| *it == proof)
        };
        Err(Unauthorized(if missing(Proof::Signature) && self.accepted.len() == 1 {
            "the signature is missing"
        } else {
            "a secret header or signature is missing"
        }))
    }
}

/// What was shown is not what it should be.
struct Wrong;

/// Whether a header is there. An empty one is as good as none.
fn shows(
    headers: &HeaderMap,
    name: &HeaderName,
    is_right: impl Fn(&[u8]) -> bool,
) -> Result<bool, Wrong> {
    let mut values = headers.get_all(name).iter().filter(|value| !value.is_empty()).peekable();
    let is_there = values.peek().is_some();
    if values.all(|value| is_right(value.as_bytes())) { Ok(is_there) } else { Err(Wrong) }
}

impl Signature {
    /// HMAC-SHA256 over the body in hexadecimal digits of either case, with or without
    /// `sha256=` before it. Compared in constant time.
    fn is_right(&self, shown: &[u8], body: &[u8]) -> bool {
        let digits = match shown.split_at_checked(SCHEME.len()) {
            Some((scheme, digits)) if scheme.eq_ignore_ascii_case(SCHEME) => digits,
            _ => shown,
        };
        let mut tag = [0; 32];
        if hex::decode_to_slice(digits, &mut tag).is_err() {
            return false;
        }
        self.secrets.iter().fold(false, |found, secret| found | is_tag(&tag, secret, body))
    }
}

fn is_tag(tag: &[u8; 32], secret: &Secret, body: &[u8]) -> bool {
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(tag).is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    // Made with: printf '%s' BODY | openssl dgst -sha256 -hmac SECRET
    const BODY: &[u8] = br#"{"type":"StartWebHookPayload","callId":"call_abc123def456"}"#;
    const NEW: &str = "0180f080bcf492d7e340cf2bfcf5825231646ea63fcd486ce22f0884f65f3f93";
    const OLD: &str = "ab9e367f726cfdfd3edf1fb9c49461066dd40ba48f1dee69e593b91891eae191";

    fn credentials(headers: &[&str], signed: bool, require: &[&str]) -> Credentials {
        let headers = headers.iter().map(|text| serde_json::from_value((*text).into()).unwrap());
        let secret = |text: &str| Secret::with_spaces(text).unwrap();
        let header = HeaderName::from_static("x-blackbox-signature");
        let signature = signed.then(|| (header, vec![secret("new-s3cret"), secret("old-s3cret")]));
        let require: Vec<String> = require.iter().map(ToString::to_string).collect();
        Credentials::new(headers.collect(), signature, &require).unwrap()
    }

    fn shown(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn lets_in(it: &Credentials, pairs: &[(&'static str, &str)], body: &[u8]) -> bool {
        let headers = shown(pairs);
        let whole = it.authenticate(&headers, body).is_ok();
        // Whoever is let in is admitted.
        assert!(!whole || it.admit(&headers).is_ok());
        whole
    }

    #[test]
    fn signatures_are_those_that_openssl_makes() {
        let it = credentials(&[], true, &[]);
        let sign = |text: &str| lets_in(&it, &[("x-blackbox-signature", text)], BODY);
        for tag in [NEW, OLD] {
            assert!(sign(tag));
            assert!(sign(&format!("sha256={tag}")));
            assert!(sign(&format!("SHA256={}", tag.to_uppercase())));
            assert!(sign(&tag.to_uppercase()));
            assert!(!sign(&tag[..62]));
            assert!(!sign(&tag[..63]));
            assert!(!sign(&format!("{tag}00")));
            assert!(!sign(&format!("sha1={tag}")));
            assert!(!sign(&format!(" {}", tag.replace('a', "b"))));
        }
        assert!(!sign("sha256="));
        assert!(!lets_in(&it, &[], BODY));
        assert!(!lets_in(&it, &[("x-blackbox-signature", "")], BODY));
        let mut changed = BODY.to_vec();
        changed.push(b' ');
        assert!(!lets_in(&it, &[("x-blackbox-signature", NEW)], &changed));
        // Twice, and one of them wrong.
        let mut twice = shown(&[("x-blackbox-signature", NEW)]);
        twice.append("x-blackbox-signature", HeaderValue::from_static("00"));
        assert!(it.authenticate(&twice, BODY).is_err());
    }

    #[test]
    fn a_header_may_have_several_good_values() {
        let it = credentials(&["Authorization: Bearer a b", "authorization: Bearer c"], false, &[]);
        let auth = |value: &str| lets_in(&it, &[("authorization", value)], BODY);
        assert!(auth("Bearer a b") && auth("Bearer c"));
        assert!(!auth("Bearer a") && !auth("bearer c") && !auth(""));
        assert!(!lets_in(&it, &[], BODY));
    }

    #[test]
    fn any_combination_can_be_asked_for() {
        let headers = ["Authorization: Bearer a", "X-API-Key: k"];
        let (a, k, s) =
            (("authorization", "Bearer a"), ("x-api-key", "k"), ("x-blackbox-signature", NEW));
        let all = credentials(&headers, true, &[]);
        assert!(lets_in(&all, &[a, k, s], BODY));
        for two in [[a, k], [a, s], [k, s]] {
            assert!(!lets_in(&all, &two, BODY));
        }
        let either = credentials(&headers, true, &["signature", "authorization+X-API-Key"]);
        assert!(lets_in(&either, &[s], BODY) && lets_in(&either, &[a, k], BODY));
        assert!(!lets_in(&either, &[a], BODY) && !lets_in(&either, &[], BODY));
        // What is shown must be right, whether it is needed or not.
        assert!(!lets_in(&either, &[s, ("x-api-key", "wrong")], BODY));
        assert!(!lets_in(&either, &[a, k, ("x-blackbox-signature", "00")], BODY));
        assert!(lets_in(&credentials(&[], false, &[]), &[], BODY));
    }

    #[test]
    fn the_head_alone_keeps_out_who_cannot_come_in() {
        let it = credentials(&["X-API-Key: k"], true, &[]);
        assert!(it.admit(&shown(&[("x-api-key", "k")])).is_err());
        assert!(it.admit(&shown(&[("x-api-key", "l"), ("x-blackbox-signature", NEW)])).is_err());
        assert!(it.admit(&shown(&[("x-api-key", "k"), ("x-blackbox-signature", "?")])).is_ok());
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let it = Credentials::new(Vec::new(), None, &["signature".to_owned()]);
        assert_eq!(it.unwrap_err(), "\"signature\" is not configured; there is nothing");
        for text in ["no colon s3cret", "a b: s3cret", "name:", "name: s3crét"] {
            let error =
                serde_json::from_value::<HeaderSecret>(text.into()).unwrap_err().to_string();
            assert!(error.contains("Authorization: Bearer"), "{error}");
            assert!(!error.contains("s3c"), "{error}");
        }
        let it = format!("{:?}", credentials(&["X-API-Key: s3cret"], true, &[]));
        assert!(!it.contains("s3cret"), "{it}");
    }
}

//! Credentials of a platform: headers with a fixed value, and a signature over the raw body.
//! Any number of each can be required, in any combination. Each can have several valid
//! values, so that secrets can be rotated without downtime.

use axum::http::{HeaderMap, HeaderName};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, de};
use sha2::Sha256;
use thiserror::Error;

use plugboard_core::secret::Secret;

/// The optional prefix of a signature.
const SIGNATURE_PREFIX: &[u8] = b"sha256=";

/// The name of the signature in `require`.
const SIGNATURE: &str = "signature";

/// The credentials that a request must present.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    headers: Vec<HeaderRule>,
    signature: Option<SignatureRule>,
    /// A request must present all proofs of one of these sets. Empty: no authentication.
    accepted_sets: Vec<Vec<Proof>>,
}

/// A request whose credentials are missing or wrong, with the reason.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Unauthorized(pub &'static str);

/// A secret header, with every valid value.
#[derive(Clone, Debug)]
struct HeaderRule {
    name: HeaderName,
    values: Vec<Secret>,
}

#[derive(Clone, Debug)]
struct SignatureRule {
    header: HeaderName,
    secrets: Vec<Secret>,
}

/// A part of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The header with this index in [`Credentials::headers`].
    Header(usize),
    Signature,
}

/// A configured header, `Name: value`.
#[derive(Clone, Debug)]
pub struct HeaderSecret {
    name: HeaderName,
    value: Secret,
}

impl HeaderSecret {
    /// Returns the header's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Returns the header's value.
    pub fn value(&self) -> &Secret {
        &self.value
    }
}

impl<'de> Deserialize<'de> for HeaderSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The message must not repeat the value, which may be a secret.
        let invalid = || {
            de::Error::custom(
                "a header is text such as \"Authorization: Bearer SECRET\": a name, a colon, and a \
                 value of printable ASCII",
            )
        };
        let text = String::deserialize(deserializer).map_err(|_| invalid())?;
        let (name, value) = text.split_once(':').ok_or_else(invalid)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| invalid())?;
        let value = Secret::from_header_value(value.trim()).ok_or_else(invalid)?;
        Ok(Self { name, value })
    }
}

impl Credentials {
    /// Creates the credentials. `require` lists alternative sets of proofs, each written as
    /// `signature + x-api-key`. If it is empty, everything that is configured is required.
    ///
    /// # Errors
    ///
    /// Fails if `require` names a header or signature that is not configured.
    pub fn new(
        headers: Vec<HeaderSecret>,
        signature: Option<(HeaderName, Vec<Secret>)>,
        require: &[String],
    ) -> Result<Self, String> {
        let mut grouped: Vec<HeaderRule> = Vec::new();
        for HeaderSecret { name, value } in headers {
            match grouped.iter_mut().find(|header| header.name == name) {
                Some(header) => header.values.push(value),
                None => grouped.push(HeaderRule { name, values: vec![value] }),
            }
        }
        let signature = signature.map(|(header, secrets)| SignatureRule { header, secrets });
        let mut credentials = Self { headers: grouped, signature, accepted_sets: Vec::new() };
        let all: Vec<Proof> = (0..credentials.headers.len())
            .map(Proof::Header)
            .chain(credentials.signature.as_ref().map(|_| Proof::Signature))
            .collect();
        credentials.accepted_sets = match (require.is_empty(), all.is_empty()) {
            (true, true) => Vec::new(),
            (true, false) => vec![all],
            (false, _) => {
                require.iter().map(|set| credentials.parse_set(set)).collect::<Result<_, _>>()?
            }
        };
        Ok(credentials)
    }

    fn parse_set(&self, text: &str) -> Result<Vec<Proof>, String> {
        text.split('+').map(|word| self.parse_proof(word.trim())).collect()
    }

    fn parse_proof(&self, word: &str) -> Result<Proof, String> {
        let names = || self.headers.iter().map(|header| header.name.as_str());
        if word.eq_ignore_ascii_case(SIGNATURE) && self.signature.is_some() {
            return Ok(Proof::Signature);
        }
        let index = names().position(|name| name.eq_ignore_ascii_case(word));
        index.map(Proof::Header).ok_or_else(|| {
            let signature = self.signature.as_ref().map(|_| SIGNATURE);
            let known: Vec<&str> = names().chain(signature).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            format!("{word:?} is not configured; configured: {known}")
        })
    }

    /// Returns true if no credentials are required.
    pub fn is_unauthenticated(&self) -> bool {
        self.accepted_sets.is_empty()
    }

    /// Checks a request before its body is read: the signature must be present, and
    /// everything else must be right.
    ///
    /// # Errors
    ///
    /// Fails if the request is rejected whatever its body is.
    pub fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        // The signature can only be verified with the body.
        self.verify(headers, |_| true)
    }

    /// Checks a whole request.
    ///
    /// # Errors
    ///
    /// Fails if required credentials are missing, or presented ones are wrong.
    pub fn authenticate(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unauthorized> {
        self.verify(headers, |signature| {
            self.signature.as_ref().is_some_and(|check| check.verify(signature, body))
        })
    }

    /// Checks all presented proofs, also those that are not required, and that a required
    /// set is complete.
    fn verify(
        &self,
        headers: &HeaderMap,
        is_valid_signature: impl Fn(&[u8]) -> bool,
    ) -> Result<(), Unauthorized> {
        if self.is_unauthenticated() {
            return Ok(());
        }
        let mut presented = Vec::with_capacity(self.headers.len() + 1);
        for (index, header) in self.headers.iter().enumerate() {
            let is_valid = |value: &[u8]| {
                // Compares with all values, so that the time does not reveal which one matches.
                header.values.iter().fold(false, |matched, secret| matched | secret.matches(value))
            };
            if check_header(headers, &header.name, is_valid)
                .map_err(|InvalidCredential| Unauthorized("a secret header is wrong"))?
            {
                presented.push(Proof::Header(index));
            }
        }
        if let Some(signature) = &self.signature
            && check_header(headers, &signature.header, is_valid_signature)
                .map_err(|InvalidCredential| Unauthorized("the signature is wrong"))?
        {
            presented.push(Proof::Signature);
        }
        if self.accepted_sets.iter().any(|set| set.iter().all(|proof| presented.contains(proof))) {
            return Ok(());
        }
        let is_missing = |proof| {
            !presented.contains(&proof)
                && self.accepted_sets.iter().flatten().any(|accepted| *accepted == proof)
        };
        Err(Unauthorized(if is_missing(Proof::Signature) && self.accepted_sets.len() == 1 {
            "the signature is missing"
        } else {
            "a secret header or signature is missing"
        }))
    }
}

/// A presented proof is wrong.
struct InvalidCredential;

/// Returns true if the header is present with valid values; an empty value counts as
/// missing.
fn check_header(
    headers: &HeaderMap,
    name: &HeaderName,
    is_valid: impl Fn(&[u8]) -> bool,
) -> Result<bool, InvalidCredential> {
    let mut values = headers.get_all(name).iter().filter(|value| !value.is_empty()).peekable();
    let is_present = values.peek().is_some();
    if values.all(|value| is_valid(value.as_bytes())) {
        Ok(is_present)
    } else {
        Err(InvalidCredential)
    }
}

impl SignatureRule {
    /// Verifies an HMAC-SHA256 over the body: hexadecimal digits of either case, with an
    /// optional prefix `sha256=`. Compares in constant time.
    fn verify(&self, presented: &[u8], body: &[u8]) -> bool {
        let digits = match presented.split_at_checked(SIGNATURE_PREFIX.len()) {
            Some((scheme, digits)) if scheme.eq_ignore_ascii_case(SIGNATURE_PREFIX) => digits,
            _ => presented,
        };
        let mut tag = [0; 32];
        if hex::decode_to_slice(digits, &mut tag).is_err() {
            return false;
        }
        self.secrets.iter().fold(false, |matched, secret| matched | verify_tag(&tag, secret, body))
    }
}

fn verify_tag(tag: &[u8; 32], secret: &Secret, body: &[u8]) -> bool {
    // A key may have any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
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
        let secret = |text: &str| Secret::from_header_value(text).unwrap();
        let header = HeaderName::from_static("x-blackbox-signature");
        let signature = signed.then(|| (header, vec![secret("new-s3cret"), secret("old-s3cret")]));
        let require: Vec<String> = require.iter().map(ToString::to_string).collect();
        Credentials::new(headers.collect(), signature, &require).unwrap()
    }

    fn header_map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn accepts(credentials: &Credentials, pairs: &[(&'static str, &str)], body: &[u8]) -> bool {
        let headers = header_map(pairs);
        let is_authenticated = credentials.authenticate(&headers, body).is_ok();
        // A sender that authenticates also passes the check of its headers.
        assert!(!is_authenticated || credentials.check_headers(&headers).is_ok());
        is_authenticated
    }

    #[test]
    fn signatures_match_openssl() {
        let credentials = credentials(&[], true, &[]);
        let accepts_signature =
            |text: &str| accepts(&credentials, &[("x-blackbox-signature", text)], BODY);
        for tag in [NEW, OLD] {
            assert!(accepts_signature(tag));
            assert!(accepts_signature(&format!("sha256={tag}")));
            assert!(accepts_signature(&format!("SHA256={}", tag.to_uppercase())));
            assert!(accepts_signature(&tag.to_uppercase()));
            assert!(!accepts_signature(&tag[..62]));
            assert!(!accepts_signature(&tag[..63]));
            assert!(!accepts_signature(&format!("{tag}00")));
            assert!(!accepts_signature(&format!("sha1={tag}")));
            assert!(!accepts_signature(&format!(" {}", tag.replace('a', "b"))));
        }
        assert!(!accepts_signature("sha256="));
        assert!(!accepts(&credentials, &[], BODY));
        assert!(!accepts(&credentials, &[("x-blackbox-signature", "")], BODY));
        let mut changed = BODY.to_vec();
        changed.push(b' ');
        assert!(!accepts(&credentials, &[("x-blackbox-signature", NEW)], &changed));
        // Twice, and one of them wrong.
        let mut twice = header_map(&[("x-blackbox-signature", NEW)]);
        twice.append("x-blackbox-signature", HeaderValue::from_static("00"));
        assert!(credentials.authenticate(&twice, BODY).is_err());
    }

    #[test]
    fn header_accepts_several_values() {
        let credentials =
            credentials(&["Authorization: Bearer a b", "authorization: Bearer c"], false, &[]);
        let auth = |value: &str| accepts(&credentials, &[("authorization", value)], BODY);
        assert!(auth("Bearer a b") && auth("Bearer c"));
        assert!(!auth("Bearer a") && !auth("bearer c") && !auth(""));
        assert!(!accepts(&credentials, &[], BODY));
    }

    #[test]
    fn required_combinations_are_enforced() {
        let headers = ["Authorization: Bearer a", "X-API-Key: k"];
        let (a, k, s) =
            (("authorization", "Bearer a"), ("x-api-key", "k"), ("x-blackbox-signature", NEW));
        let all = credentials(&headers, true, &[]);
        assert!(accepts(&all, &[a, k, s], BODY));
        for two in [[a, k], [a, s], [k, s]] {
            assert!(!accepts(&all, &two, BODY));
        }
        let either = credentials(&headers, true, &["signature", "authorization+X-API-Key"]);
        assert!(accepts(&either, &[s], BODY) && accepts(&either, &[a, k], BODY));
        assert!(!accepts(&either, &[a], BODY) && !accepts(&either, &[], BODY));
        // Sent credentials must be valid, even if they are not required.
        assert!(!accepts(&either, &[s, ("x-api-key", "wrong")], BODY));
        assert!(!accepts(&either, &[a, k, ("x-blackbox-signature", "00")], BODY));
        assert!(accepts(&credentials(&[], false, &[]), &[], BODY));
    }

    #[test]
    fn header_check_rejects_missing_and_wrong_values() {
        let credentials = credentials(&["X-API-Key: k"], true, &[]);
        assert!(credentials.check_headers(&header_map(&[("x-api-key", "k")])).is_err());
        assert!(
            credentials
                .check_headers(&header_map(&[("x-api-key", "l"), ("x-blackbox-signature", NEW)]))
                .is_err()
        );
        assert!(
            credentials
                .check_headers(&header_map(&[("x-api-key", "k"), ("x-blackbox-signature", "?")]))
                .is_ok()
        );
    }

    #[test]
    fn errors_name_mistake_but_no_secret() {
        let result = Credentials::new(Vec::new(), None, &["signature".to_owned()]);
        assert_eq!(result.unwrap_err(), "\"signature\" is not configured; configured: nothing");
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

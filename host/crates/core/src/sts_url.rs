//! URL templates of speech-to-speech services, filled for each call.
//!
//! A template is RFC 6570 level 1 (simple expansion only). It is compiled once, and filled with
//! percent-encoded values, in which only unreserved characters stay. Two more rules keep a
//! caller from changing the shape of the URL. No expression may precede the path, because an
//! unreserved `.` is enough to name another host. No filled path may have a `.` or `..`
//! segment, because every URL parser resolves it, even when it is percent-encoded.
//!
//! No crate compiles such a template, checks these two rules, and accepts metadata names with a
//! hyphen.

use std::borrow::Cow;
use std::ops::Range;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use url::Url;

use crate::call::Call;

/// Everything but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Largest length of a URL, in bytes. AVR's STS services are Node servers, which take 16 KiB
/// for the whole head of a request.
const MAX_LENGTH: usize = 8 * 1024;

/// The reason why a URL or template is rejected.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StsUrlError {
    /// The template or the filled URL is longer than 8 KiB.
    #[error("the URL is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// The text has a character that is not valid in a URL or template.
    #[error("{0:?} must be percent-encoded in a URL")]
    InvalidCharacter(char),
    /// The text has an unpaired brace, or an empty or invalid name in braces.
    #[error(
        "`{{{0}` is not an expression; expected a call field such as {{id}} (RFC 6570, level 1)"
    )]
    InvalidExpression(String),
    /// The template has an expression in scheme, user, host or port.
    #[error("{{{0}}} stands before the path; only path and query may depend on the call")]
    BeforePath(String),
    /// The text is not a URL.
    #[error("it is not a URL: {0}")]
    Unparsable(url::ParseError),
    /// The URL has no host between `://` and the path.
    #[error("it has no host after ://")]
    NoHost,
    /// The URL has another scheme than ws, wss, http and https.
    #[error("its scheme is {0:?}; expected ws, wss, http or https, followed by ://")]
    UnsupportedScheme(String),
    /// The URL has a fragment, which is never sent to a server.
    #[error("it has a fragment (#), which no server would see")]
    Fragment,
    /// The host of the URL is not in the operator's `allowed_sts_hosts`.
    #[error("its host {0:?} is not among allowed_sts_hosts")]
    HostNotAllowed(String),
    /// The call lacks a field that the template names.
    #[error("it names {{{0}}}, which this call does not have")]
    MissingField(String),
    /// The filled path has a segment that a URL parser would resolve.
    #[error("filled for this call, its path has a `.` or `..` segment")]
    DotSegment,
}

/// The hosts that a URL may name.
#[derive(Clone, Debug, Default)]
pub struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// Creates the list from host names and addresses (an IPv6 address in brackets).
    /// `*.example.com` allows every name below `example.com`. An empty list allows every
    /// host.
    pub fn new(hosts: impl IntoIterator<Item = String>) -> Self {
        Self(hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect())
    }

    fn check(&self, host: &str) -> Result<(), StsUrlError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let host = host.to_ascii_lowercase();
        let allowed = self.0.iter().any(|allowed| match allowed.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == *allowed,
        });
        if allowed { Ok(()) } else { Err(StsUrlError::HostNotAllowed(host)) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Literal(Range<usize>),
    Field(Range<usize>),
}

/// A validated template. The filled URL of any call has the shape that the template's author
/// intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsUrl {
    template: String,
    parts: Vec<TemplatePart>,
}

impl StsUrl {
    /// Compiles and validates a template.
    ///
    /// # Errors
    ///
    /// Fails if the text is not a template, is not a URL, or names a host that is not allowed.
    pub fn parse(template: impl Into<String>, allowed: &AllowedHosts) -> Result<Self, StsUrlError> {
        let template = template.into();
        if template.len() > MAX_LENGTH {
            return Err(StsUrlError::TooLong);
        }
        let mut parts = compile(&template)?;
        // The template stays in memory for a long time.
        parts.shrink_to_fit();
        let url = Self { template, parts };
        url.validate(allowed)?;
        Ok(url)
    }

    fn validate(&self, allowed: &AllowedHosts) -> Result<(), StsUrlError> {
        let head = match self.parts.first() {
            Some(TemplatePart::Literal(range)) => self.text(range),
            _ => "",
        };
        // Checked on the text, because a URL parser is too lenient.
        let (scheme, rest) = head.split_once("://").unwrap_or((head, ""));
        if !["ws", "wss", "http", "https"].iter().any(|valid| scheme.eq_ignore_ascii_case(valid)) {
            return Err(StsUrlError::UnsupportedScheme(scheme.chars().take(16).collect()));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.len() == rest.len()
            && let Some(TemplatePart::Field(name)) = self.parts.get(1)
        {
            return Err(StsUrlError::BeforePath(self.text(name).to_owned()));
        }
        // A URL parser would take the first segment of the path for the host.
        if authority.is_empty() {
            return Err(StsUrlError::NoHost);
        }
        if let Some(host) = plain_host(authority) {
            return allowed.check(host);
        }
        // Fields cannot change the shape, so any plain text can stand for them.
        let shape: String = self
            .parts
            .iter()
            .map(|part| match part {
                TemplatePart::Literal(range) => self.text(range),
                TemplatePart::Field(_) => "x",
            })
            .collect();
        let url = Url::parse(&shape).map_err(StsUrlError::Unparsable)?;
        allowed.check(url.host_str().unwrap_or_default())
    }

    /// Returns the text of the template.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// Returns the approximate size of its heap data, in bytes.
    pub fn size(&self) -> usize {
        self.template.capacity() + self.parts.capacity() * size_of::<TemplatePart>()
    }

    /// Fills the template for one call. A fixed field that the call lacks is empty.
    ///
    /// # Errors
    ///
    /// Fails if the call lacks a metadata field that the template names. Also fails if the
    /// values make the URL too long or put a dot segment into the path.
    pub fn fill(&self, call: &Call) -> Result<String, StsUrlError> {
        let mut url = String::with_capacity(self.template.len() + 64);
        for part in &self.parts {
            match part {
                TemplatePart::Literal(range) => url.push_str(self.text(range)),
                TemplatePart::Field(range) => {
                    let name = self.text(range);
                    let value = match call.field(name) {
                        Some(value) => value,
                        None if Call::FIXED_FIELDS.contains(&name) => Cow::Borrowed(""),
                        None => return Err(StsUrlError::MissingField(name.to_owned())),
                    };
                    // Checked before the copy: a value can be as long as a body.
                    if url.len() + value.len() > MAX_LENGTH {
                        return Err(StsUrlError::TooLong);
                    }
                    url.extend(utf8_percent_encode(&value, RESERVED));
                }
            }
        }
        if url.len() > MAX_LENGTH {
            return Err(StsUrlError::TooLong);
        }
        let path = url.split('?').next().unwrap_or_default();
        if path.split('/').skip(3).any(is_dot_segment) {
            return Err(StsUrlError::DotSegment);
        }
        Ok(url)
    }

    /// Returns true if the template names no metadata field, so that a missing field cannot
    /// make filling fail.
    pub fn uses_only_fixed_fields(&self) -> bool {
        self.parts.iter().all(|part| match part {
            TemplatePart::Literal(_) => true,
            TemplatePart::Field(range) => Call::FIXED_FIELDS.contains(&self.text(range)),
        })
    }

    /// Returns the text of a range that [`compile`] found in this template.
    fn text(&self, range: &Range<usize>) -> &str {
        self.template.get(range.clone()).unwrap_or_default()
    }
}

fn compile(template: &str) -> Result<Vec<TemplatePart>, StsUrlError> {
    let mut parts = Vec::new();
    let mut start = 0;
    while let Some(rest) = template.get(start..).filter(|rest| !rest.is_empty()) {
        let end = start + rest.find('{').unwrap_or(rest.len());
        check_literal(template.get(start..end).unwrap_or_default())?;
        if end > start {
            parts.push(TemplatePart::Literal(start..end));
        }
        let Some(tail) = template.get(end + 1..) else { break };
        let expression = || StsUrlError::InvalidExpression(tail.chars().take(32).collect());
        let length = tail.find('}').ok_or_else(expression)?;
        let name = end + 1..end + 1 + length;
        let text = template.get(name.clone()).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(is_name_byte) {
            return Err(expression());
        }
        start = name.end + 1;
        parts.push(TemplatePart::Field(name));
    }
    Ok(parts)
}

fn check_literal(literal: &str) -> Result<(), StsUrlError> {
    let is_allowed_byte = |byte: u8| {
        byte.is_ascii_graphic()
            && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|' | b'}' | b'#')
    };
    if literal.bytes().all(is_allowed_byte) {
        return Ok(());
    }
    Err(match literal.chars().find(|c| !u8::try_from(*c).is_ok_and(is_allowed_byte)) {
        Some('#') | None => StsUrlError::Fragment,
        Some(c) => StsUrlError::InvalidCharacter(c),
    })
}

/// Returns the host of an authority that every URL parser reads alike: a name of letters,
/// digits, `-`, `_` and `.`, with an optional port. This avoids the general parser in the usual
/// case; a test compares the two.
fn plain_host(authority: &str) -> Option<&str> {
    let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
    let is_plain_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    // Excludes labels in punycode, and names that may be an IPv4 address in another form.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_plain = last.starts_with(|c: char| c.is_ascii_alphabetic())
        && host.bytes().all(is_plain_byte)
        && !host
            .split('.')
            .any(|label| label.get(..4).is_some_and(|l| l.eq_ignore_ascii_case("xn--")));
    let is_port_valid = !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok();
    (is_plain && is_port_valid).then_some(host)
}

/// Returns true for the characters of RFC 6570's varname, and for the hyphen, which is
/// frequent in metadata names.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn is_dot_segment(segment: &str) -> bool {
    // The longest is `%2e%2e`; the first byte excludes most segments.
    segment.len() <= 6
        && segment.starts_with(['.', '%'])
        && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::call;

    fn parse(template: &str) -> Result<StsUrl, StsUrlError> {
        StsUrl::parse(template, &AllowedHosts::default())
    }

    #[test]
    fn fill_encodes_all_reserved_characters() {
        let url = parse("ws://sts:6030/{to}?uuid={id}&who={from}&c={channel}&a={agent}").unwrap();
        let call = call("x&a=b/?#\r\n%00 é+~-._", "5001", r#"{"channel":"PJSIP/2"}"#);
        assert_eq!(
            url.fill(&call).unwrap(),
            "ws://sts:6030/5001?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265\
             &who=x%26a%3Db%2F%3F%23%0D%0A%2500%20%C3%A9%2B~-._&c=PJSIP%2F2&a="
        );
    }

    #[test]
    fn url_without_fields_is_unchanged() {
        for plain in ["ws://avr-sts-openai:6030", "WSS://h:1/a?b=c", "http://[::1]:80/x"] {
            assert_eq!(parse(plain).unwrap().fill(&call("", "", "{}")).unwrap(), plain);
        }
    }

    #[test]
    fn invalid_urls_are_rejected() {
        let error = |template: &str| parse(template).unwrap_err();
        assert_eq!(error("ftp://h/"), StsUrlError::UnsupportedScheme("ftp".into()));
        assert_eq!(error("ws:h"), StsUrlError::UnsupportedScheme("ws:h".into()));
        assert_eq!(
            error("javascript:alert(1)"),
            StsUrlError::UnsupportedScheme("javascript:alert".into())
        );
        assert_eq!(error("not a url"), StsUrlError::InvalidCharacter(' '));
        assert_eq!(error("ws://h/\n"), StsUrlError::InvalidCharacter('\n'));
        assert_eq!(error("ws://h\\@evil/"), StsUrlError::InvalidCharacter('\\'));
        assert_eq!(error("ws://h/#x"), StsUrlError::Fragment);
        assert_eq!(error("ws://"), StsUrlError::NoHost);
        assert_eq!(error("ws:///h"), StsUrlError::NoHost);
        assert!(matches!(error("ws://h:99999/"), StsUrlError::Unparsable(_)));
        assert!(matches!(error("ws://h/{id"), StsUrlError::InvalidExpression(_)));
        assert!(matches!(error("ws://h/{}"), StsUrlError::InvalidExpression(_)));
        assert!(matches!(error("ws://h/{+id}"), StsUrlError::InvalidExpression(_)));
        assert_eq!(error("ws://h/}"), StsUrlError::InvalidCharacter('}'));
        assert_eq!(error(&format!("ws://h/{}", "x".repeat(9000))), StsUrlError::TooLong);
    }

    #[test]
    fn plain_host_agrees_with_url_parser() {
        for authority in
            ["sts", "avr-sts-openai:6030", "a.b.c:1", "A_b", "a..b", "a.", "h:65535", "h:00080"]
        {
            let host = plain_host(authority).expect(authority);
            let url = Url::parse(&format!("ws://{authority}/x?y")).expect(authority);
            assert_eq!(url.host_str(), Some(&*host.to_ascii_lowercase()), "{authority}");
        }
        for authority in [
            "", ":1", "1.2.3.4", "0x7f.1", "a.1", "1", "[::1]", "u@h", "u:p@h", "h:", "h:99999",
            "h:+1", "%65vil", "xn--a", "a.XN--b", "é", "a b", "h:1:2", ".", "a.0x1.",
        ] {
            assert_eq!(plain_host(authority), None, "{authority}");
        }
    }

    #[test]
    fn caller_cannot_name_the_host() {
        for template in ["ws:///{from}", "http:////{to}/", "ws://?{from}"] {
            assert_eq!(parse(template), Err(StsUrlError::NoHost), "{template}");
        }
        for template in
            ["{from}", "ws://{from}/", "ws://{from}", "ws://sts.{to}:1/", "ws://h:{to}?a"]
        {
            assert!(
                matches!(
                    parse(template),
                    Err(StsUrlError::BeforePath(_) | StsUrlError::UnsupportedScheme(_))
                ),
                "{template}"
            );
        }
    }

    #[test]
    fn caller_cannot_insert_dot_segments() {
        let url = parse("ws://h/a/{from}/b").unwrap();
        for climb in [".", ".."] {
            assert_eq!(url.fill(&call(climb, "", "{}")), Err(StsUrlError::DotSegment));
        }
        assert_eq!(
            parse("ws://h/%2E{from}").unwrap().fill(&call(".", "", "{}")),
            Err(StsUrlError::DotSegment)
        );
        assert!(url.fill(&call("...", "", "{}")).is_ok());
        assert!(url.fill(&call("../..", "", "{}")).is_ok());
        assert!(parse("ws://h?p=/{from}").unwrap().fill(&call("..", "", "{}")).is_ok());
    }

    #[test]
    fn missing_field_is_named_in_error() {
        let url = parse("ws://h/?x={nope}").unwrap();
        assert_eq!(url.fill(&call("", "", "{}")), Err(StsUrlError::MissingField("nope".into())));
        assert!(!url.uses_only_fixed_fields());
    }

    #[test]
    fn hosts_can_be_restricted() {
        let allowed = AllowedHosts::new(["STS-a".into(), "*.example.com".into()]);
        for good in ["ws://sts-A:1/", "wss://eu.example.com"] {
            assert!(StsUrl::parse(good, &allowed).is_ok(), "{good}");
        }
        for bad in [
            "ws://sts-b/",
            "ws://example.com",
            "ws://sts-a.evil/",
            "ws://sts-a@evil/",
            "ws://.example.com@h",
        ] {
            assert!(
                matches!(StsUrl::parse(bad, &allowed), Err(StsUrlError::HostNotAllowed(_))),
                "{bad}"
            );
        }
    }
}

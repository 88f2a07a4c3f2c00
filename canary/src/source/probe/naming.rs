//! How an answer names its release and its pod: in a header, or in its body.

use std::{borrow::Cow, cell::OnceCell, fmt, str::FromStr};

use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderName};
use regex_lite::Regex;
use serde_json::Value;

use super::client::MAX_KEPT;
use crate::{foreign, source::Attribution};
use canary_judge::Release;

/// What the pods are called together that are neither stable's nor the canary's.
const OTHER_PODS: &str = "other pods";
/// The longest part of a pattern, a pointer or a name of an encoding that a message shows, in bytes.
const SHOWN: usize = 80;

/// How an answer names its release and its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// Where it names its release.
    pub release: ReleaseFrom,
    /// Where it names its pod.
    pub pod: NameFrom,
    /// The names of the stable release.
    pub stable: Vec<NamePattern>,
    /// The names of the canary.
    pub canary: Vec<NamePattern>,
}

/// Where an answer names its release: `pod`, or what [`NameFrom`] has.
#[derive(Clone, Debug, PartialEq)]
pub enum ReleaseFrom {
    /// The name of its pod tells the release.
    Pod,
    /// It has a name for the release.
    Answer(NameFrom),
}

/// Where an answer has a name: `header:NAME` or `NAME`, `body:POINTER`, or `body~PATTERN`.
#[derive(Clone, Debug, PartialEq)]
pub enum NameFrom {
    /// In a header.
    Header(HeaderName),
    /// In a body of JSON, at this JSON pointer (RFC 6901).
    Json(String),
    /// In a body of text, as the group of a pattern.
    Text(BodyPattern),
}

/// A regular expression with one group.
#[derive(Clone, Debug)]
pub struct BodyPattern(Regex);

/// A pattern of names, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

/// The body of an answer, as far as it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It is complete.
    Whole(&'a [u8]),
    /// It is complete, but too long to be kept.
    TooLong,
    /// It broke off, or was too slow, or far too long.
    Incomplete,
}

/// Why an answer has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoName {
    /// There is nothing where it should be.
    Missing,
    /// The pod has no name that could tell the release.
    Pod,
    /// The body is not complete.
    Incomplete,
    /// The body is too long.
    TooLong,
    /// The body is compressed in this way.
    Compressed(String),
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not JSON.
    NotJson,
    /// At the pointer is this kind of value.
    NotAName(&'static str),
}

impl fmt::Display for NoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Pod => f.write_str("the pod has no name"),
            Self::Incomplete => f.write_str("the body is not complete"),
            Self::TooLong => {
                write!(f, "the body has more than {} KiB, and such a body is not read", MAX_KEPT >> 10)
            }
            Self::Compressed(how) => write!(f, "the body is compressed ({how}), and such a body is not read"),
            Self::NotUtf8 => f.write_str("the body is not UTF-8"),
            Self::NotJson => f.write_str("the body is not JSON"),
            Self::NotAName(what) => write!(f, "there is {what}, and not a name"),
        }
    }
}

impl Default for Naming {
    /// The headers and values of appinfo.
    fn default() -> Self {
        let side = |release: Release| vec![NamePattern(release.to_string())];
        Self {
            release: ReleaseFrom::Answer(NameFrom::Header(HeaderName::from_static("x-release"))),
            pod: NameFrom::Header(HeaderName::from_static("x-served-by")),
            stable: side(Release::Stable),
            canary: side(Release::Canary),
        }
    }
}

impl Naming {
    /// Checks that the releases can be distinguished.
    ///
    /// # Errors
    /// If they cannot be: the cause, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.stable.iter().any(|pattern| self.canary.contains(pattern)) {
            let flags = "--stable-value and --canary-value (or --stable-pods and --canary-pods)";
            return Err(format!("{flags} have the same value: the releases cannot be distinguished"));
        }
        let usual = Self::default();
        if self.release == ReleaseFrom::Pod && (self.stable == usual.stable || self.canary == usual.canary) {
            return Err(
                "--release-from pod needs --stable-value and --canary-value: patterns of the pods' names, \
                 such as shop-primary-* and shop-*"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The flags that say the same, with their values.
    pub(in crate::source) fn terms(&self) -> [(&'static str, String); 4] {
        let patterns = |patterns: &[NamePattern]| {
            patterns.iter().map(|NamePattern(pattern)| pattern.as_str()).collect::<Vec<_>>().join(" ")
        };
        let release = match &self.release {
            ReleaseFrom::Pod => "pod".to_owned(),
            ReleaseFrom::Answer(from) => from.to_string(),
        };
        [
            ("--release-from", release),
            ("--pod-from", self.pod.to_string()),
            ("--stable-value", patterns(&self.stable)),
            ("--canary-value", patterns(&self.canary)),
        ]
    }

    /// The attribution of an answer that has this name for its release.
    pub(super) fn attribution(&self, name: &str) -> Attribution {
        let exactness = |patterns: &[NamePattern]| {
            patterns.iter().filter(|it| it.matches(name)).map(NamePattern::exactness).max()
        };
        let (stable, canary) = (exactness(&self.stable), exactness(&self.canary));
        match (&self.release, stable.max(canary)) {
            (_, Some(_)) if stable > canary => Attribution::Release(Release::Stable),
            (_, Some(_)) => Attribution::Release(Release::Canary),
            (ReleaseFrom::Pod, None) => Attribution::Other(OTHER_PODS.to_owned()),
            // with other values for the sides, "stable" and "canary" are names of third releases
            (ReleaseFrom::Answer(from), None)
                if Release::BOTH.into_iter().any(|it| name == it.to_string()) =>
            {
                Attribution::Other(format!("{from}={name}"))
            }
            (ReleaseFrom::Answer(_), None) => Attribution::Other(name.to_owned()),
        }
    }

    /// Whether the release may come from appinfo's body if the header is missing. This is only true for appinfo's
    /// header: the body of another service has an unknown format.
    pub(super) fn release_may_be_in_body(&self) -> bool {
        self.release == Self::default().release
    }

    /// The same for the pod.
    pub(super) fn pod_may_be_in_body(&self) -> bool {
        self.pod == Self::default().pod
    }
}

impl NamePattern {
    /// Whether it is the pattern of this name.
    fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let mut parts: Vec<_> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }

    /// The more characters are given, the more exact it is. Of two with the same number, the one without `*` is.
    fn exactness(&self) -> (usize, bool) {
        (self.0.chars().filter(|it| *it != '*').count(), !self.0.contains('*'))
    }
}

impl FromStr for NamePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Err("must not be empty: want a name, in which * stands for any text")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl FromStr for ReleaseFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "pod" { Ok(Self::Pod) } else { text.parse().map(Self::Answer) }
    }
}

impl FromStr for NameFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(pattern) = text.strip_prefix("body~") {
            return pattern.parse().map(Self::Text);
        }
        if let Some(pointer) = text.strip_prefix("body:") {
            return is_pointer(pointer).map(|()| Self::Json(pointer.to_owned()));
        }
        let name = text.strip_prefix("header:").unwrap_or(text);
        HeaderName::from_bytes(name.as_bytes()).map(Self::Header).map_err(|_| {
            r"want the name of a header, body:/version (a JSON pointer), or body~Version: (\S+) (a pattern)".to_owned()
        })
    }
}

/// Checks the syntax of a JSON pointer.
fn is_pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(format!("a JSON pointer begins with a slash: body:/{}", foreign::bounded(text, SHOWN)));
    }
    if text.split('~').skip(1).any(|after| !after.starts_with(['0', '1'])) {
        return Err("in a JSON pointer, ~ is written as ~0, and / in a key as ~1".to_owned());
    }
    Ok(())
}

impl fmt::Display for NameFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => name.fmt(f),
            Self::Json(pointer) => write!(f, "body:{}", foreign::bounded(pointer, SHOWN)),
            Self::Text(pattern) => write!(f, "body~{}", foreign::bounded(pattern.0.as_str(), SHOWN)),
        }
    }
}

impl FromStr for BodyPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let regex = Regex::new(text).map_err(|error| format!("not a regular expression: {error}"))?;
        match regex.captures_len() - 1 {
            1 => Ok(Self(regex)),
            0 => Err(r"the name must be in a group, in parentheses: body~Version: (\S+)".to_owned()),
            several => Err(format!("there are {several} groups: want one; (?:...) groups without a name")),
        }
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl NameFrom {
    /// The name in an answer. An empty name counts as missing.
    pub(super) fn read(&self, content: &Content<'_>) -> Result<String, NoName> {
        let name = match self {
            Self::Header(name) => content.header(name).ok_or(NoName::Missing)?,
            Self::Json(pointer) => {
                text_of(content.json()?.pointer(pointer).ok_or(NoName::Missing)?).map_err(NoName::NotAName)?
            }
            Self::Text(BodyPattern(regex)) => {
                let found = regex.captures(content.text()?).and_then(|it| it.get(1));
                Cow::Borrowed(found.ok_or(NoName::Missing)?.as_str())
            }
        };
        if name.is_empty() { Err(NoName::Missing) } else { Ok(name.into_owned()) }
    }
}

/// The text of a value that is a name; otherwise what it is. A number with a fraction is none, because 1.1 and 1.10 are
/// the same number.
pub(super) fn text_of(value: &Value) -> Result<Cow<'_, str>, &'static str> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Number(number) if number.is_f64() => Err("a number with a fraction, or a very large one"),
        Value::Number(_) | Value::Bool(_) => Ok(Cow::Owned(value.to_string())),
        Value::Null => Err("null"),
        Value::Array(_) => Err("a list"),
        Value::Object(_) => Err("an object"),
    }
}

/// What an answer holds.
pub(super) struct Content<'a> {
    pub(super) headers: &'a HeaderMap,
    body: Body<'a>,
    json: OnceCell<Option<Value>>,
}

impl<'a> Content<'a> {
    pub(super) fn new(headers: &'a HeaderMap, body: Body<'a>) -> Self {
        Self { headers, body, json: OnceCell::new() }
    }

    fn header(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        Some(String::from_utf8_lossy(self.headers.get(name)?.as_bytes()))
    }

    fn bytes(&self) -> Result<&'a [u8], NoName> {
        if let Some(how) = self.header(&CONTENT_ENCODING).filter(|how| !how.eq_ignore_ascii_case("identity"))
        {
            return Err(NoName::Compressed(foreign::bounded(&how, SHOWN)));
        }
        match self.body {
            Body::Whole(bytes) => Ok(bytes),
            Body::TooLong => Err(NoName::TooLong),
            Body::Incomplete => Err(NoName::Incomplete),
        }
    }

    /// The body as text.
    pub(super) fn text(&self) -> Result<&'a str, NoName> {
        std::str::from_utf8(self.bytes()?).map_err(|_| NoName::NotUtf8)
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<&Value, NoName> {
        let text = self.text()?;
        self.json.get_or_init(|| serde_json::from_str(text).ok()).as_ref().ok_or(NoName::NotJson)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<NamePattern> {
        texts.iter().map(|text| text.parse().expect("a pattern")).collect()
    }

    fn other(name: &str) -> Attribution {
        Attribution::Other(name.to_owned())
    }

    #[test]
    fn a_third_release_is_neither_stable_nor_canary() {
        let naming =
            Naming { stable: patterns(&["v1"]), canary: patterns(&["v2", "v3-*"]), ..Naming::default() };
        for (name, expected) in [
            ("v1", Attribution::Release(Release::Stable)),
            ("v2", Attribution::Release(Release::Canary)),
            ("v3-rc1", Attribution::Release(Release::Canary)),
            ("v3", other("v3")),
            ("canary", other("x-release=canary")),
        ] {
            assert_eq!(naming.attribution(name), expected);
        }
        let release = "body:/a/b".parse().expect("a pointer");
        assert_eq!(Naming { release, ..naming }.attribution("stable"), other("body:/a/b=stable"));
    }

    #[test]
    fn the_names_of_pods_can_tell_the_release() {
        let naming = Naming {
            release: ReleaseFrom::Pod,
            stable: patterns(&["appinfo-primary-*"]),
            canary: patterns(&["appinfo-*"]),
            ..Naming::default()
        };
        assert_eq!(
            naming.attribution("appinfo-primary-567b989978-vvzlg"),
            Attribution::Release(Release::Stable)
        );
        assert_eq!(naming.attribution("appinfo-c66665c44-x2z4v"), Attribution::Release(Release::Canary));
        assert_eq!(naming.attribution("other-c66665c44-x2z4v"), other("other pods"));
    }

    #[test]
    fn in_a_pattern_a_star_stands_for_any_text() {
        for (text, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*-b", "a-b", true),
            ("*-b", "a-bc", false),
            ("a*c*e", "abcde", true),
            ("a*c*e", "acd", false),
            ("a**b", "ab", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(patterns(&[text])[0].matches(name), expected, "{text} {name}");
        }
        assert!("".parse::<NamePattern>().is_err());
    }

    #[test]
    fn of_two_patterns_the_more_exact_one_counts() {
        let naming =
            Naming { stable: patterns(&["1.0*"]), canary: patterns(&["1.*", "1.0"]), ..Naming::default() };
        for (name, release) in
            [("1.0.7", Release::Stable), ("1.1", Release::Canary), ("1.0", Release::Canary)]
        {
            assert_eq!(naming.attribution(name), Attribution::Release(release), "{name}");
        }
    }

    /// The name in an answer with this encoding and body, or why there is none.
    fn named(from: &str, encoding: Option<&'static str>, body: Body<'_>) -> Result<String, NoName> {
        let mut headers = HeaderMap::new();
        headers.insert("x-version", HeaderValue::from_static("v1"));
        headers.insert("x-empty", HeaderValue::from_static(""));
        headers.extend(encoding.map(|how| (CONTENT_ENCODING, HeaderValue::from_static(how))));
        from.parse::<NameFrom>().expect("a place").read(&Content::new(&headers, body))
    }

    #[test]
    fn names_are_found_in_headers_and_bodies() {
        let json = r#"{"version":"1.10","build":42,"canary":true,"a":{"b/c":["x","y"]},"Version: ":"~"}"#;
        for (from, body, name) in [
            ("X-Version", "", "v1"),
            ("header:x-version", "", "v1"),
            ("body:/version", json, "1.10"),
            ("body:/build", json, "42"),
            ("body:/canary", json, "true"),
            ("body:/a/b~1c/1", json, "y"),
            ("body:", "\"blue\"", "blue"),
            (r"body~Version: (\S+)", "Hello, world!\nVersion: 1.0.0\nHostname: a\n", "1.0.0"),
            (r"body~(?m)^Hostname: (\S+)$", "Hello, world!\nVersion: 1.0.0\nHostname: a\n", "a"),
        ] {
            assert_eq!(named(from, None, Body::Whole(body.as_bytes())), Ok(name.to_owned()), "{from}");
        }
        let encoded = named("body:", Some("identity"), Body::Whole(b"\"blue\""));
        assert_eq!(encoded, Ok("blue".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_names_nothing_and_says_why() {
        let deep = "[".repeat(60_000);
        for (from, body, why) in [
            ("x-other", &b""[..], NoName::Missing),
            ("x-empty", b"", NoName::Missing),
            ("body:/version", b"{}", NoName::Missing),
            ("body:/version", b"{\"version\":\"\"}", NoName::Missing),
            ("body:/version", b"{\"version\":null}", NoName::NotAName("null")),
            ("body:/version", b"{\"version\":[1]}", NoName::NotAName("a list")),
            ("body:/version", b"{\"version\":{}}", NoName::NotAName("an object")),
            (
                "body:/version",
                b"{\"version\":1.10}",
                NoName::NotAName("a number with a fraction, or a very large one"),
            ),
            ("body:/version", b"{\"version\":\"1", NoName::NotJson),
            ("body:/version", b"", NoName::NotJson),
            ("body:/version", deep.as_bytes(), NoName::NotJson),
            ("body:/version", b"{\"version\":\"\xff\"}", NoName::NotUtf8),
            (r"body~Version: (\S+)", b"Version: \xff", NoName::NotUtf8),
            (r"body~Version: (\S+)", b"no version", NoName::Missing),
            (r"body~Version: (\S+)?", b"Version: ", NoName::Missing),
        ] {
            assert_eq!(named(from, None, Body::Whole(body)), Err(why), "{from}");
        }
        for from in ["body:", "body~(.)"] {
            let gzip = named(from, Some("gzip"), Body::Whole(b"\"blue\""));
            assert_eq!(gzip, Err(NoName::Compressed("gzip".to_owned())));
            assert_eq!(named(from, None, Body::TooLong), Err(NoName::TooLong));
            assert_eq!(named(from, None, Body::Incomplete), Err(NoName::Incomplete));
        }
        for body in [Body::TooLong, Body::Incomplete] {
            assert_eq!(named("x-version", None, body), Ok("v1".to_owned()), "the body does not matter");
        }
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_with_an_example() {
        for (text, told) in [
            ("a b", "want the name of a header, body:/version"),
            ("", "want the name of a header"),
            ("json:/version", "want the name of a header"),
            ("body:version", "begins with a slash: body:/version"),
            ("body:/a~b", "~ is written as ~0"),
            ("body~Version", r"in a group, in parentheses: body~Version: (\S+)"),
            ("body~(a)(b)", "there are 2 groups"),
            ("body~(a", "not a regular expression"),
        ] {
            let error = text.parse::<ReleaseFrom>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!("pod".parse(), Ok(ReleaseFrom::Pod));
        let header = NameFrom::Header(HeaderName::from_static("pod"));
        assert_eq!("header:pod".parse(), Ok(ReleaseFrom::Answer(header.clone())));
        assert_eq!("pod".parse(), Ok(header), "--pod-from pod");
    }
}

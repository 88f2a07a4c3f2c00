//! What the answers hold that name no release: a sample of them, for a message that says which flag to try.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
};

use hyper::StatusCode;
use regex_lite::RegexBuilder;
use serde_json::Value;

use super::naming::{Content, NoName, text_of};
use crate::foreign::{ERROR, bounded, is_safe};

/// The most headers, and the most keys of a body, that are shown.
const MOST_NAMES: usize = 8;
/// The longest name of a header or key that is shown, and the longest beginning of a text, in bytes.
const LONGEST: usize = 40;
/// Keys and headers with one of these words may name a release. The first one fits best.
const WORDS: [&str; 10] =
    ["release", "version", "track", "canary", "revision", "commit", "build", "image", "color", "colour"];
/// Beginnings of headers that each answer has. They are not shown.
const USUAL: [&str; 5] = ["connection", "content-", "date", "keep-alive", "transfer-encoding"];
/// Names with these words are about something else.
const NO_RELEASE: [&str; 5] = ["aspnet", "mvc", "protocol", "tls", "tracking"];

/// The first good answer without a release, or the first one at all if none was good.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<Option<Sample>>);

/// An answer without a release.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    is_good: bool,
    /// Why its release could not be read, if it is not simply missing.
    pub(super) why: Option<String>,
    /// What it holds, in words.
    pub(super) holds: String,
    /// What `--release-from` could be.
    pub(super) release_from: Option<String>,
}

impl Samples {
    /// Looks at an answer without a release.
    pub(super) fn see(&self, status: StatusCode, content: &Content<'_>, why: &NoName) {
        let mut sample = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_better = sample.as_ref().is_none_or(|known| status.is_success() && !known.is_good);
        if is_better {
            *sample = Some(Sample::of(status, content, why));
        }
    }

    /// The sample, if there was such an answer.
    pub(super) fn get(&self) -> Option<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sample {
    fn of(status: StatusCode, content: &Content<'_>, why: &NoName) -> Self {
        let headers: Vec<_> = content.headers.keys().map(hyper::header::HeaderName::as_str).collect();
        let telling = headers.iter().filter(|name| !USUAL.iter().any(|usual| name.starts_with(usual)));
        let others = list(telling.map(|name| Cow::Borrowed(*name)));
        let others = if others.is_empty() { others } else { format!(", and the headers {others}") };
        let (body, in_body) = describe(content);
        let plain = headers.iter().filter(|name| is_plain(name));
        let in_header = best(plain.map(|name| ((*name).to_owned(), format!("header:{name}"))));
        Self {
            is_good: status.is_success(),
            why: (!matches!(why, NoName::Missing | NoName::Pod)).then(|| why.to_string()),
            holds: bounded(&format!("{body}{others}"), ERROR),
            release_from: in_header.or(in_body),
        }
    }
}

/// The body in words, and where in it a release may be named.
fn describe(content: &Content<'_>) -> (String, Option<String>) {
    match content.json() {
        Ok(Value::Object(keys)) => {
            let plain = keys.iter().filter(|(key, _)| is_plain(key));
            let level = plain.flat_map(|(key, value)| match value {
                Value::Object(inner) => {
                    let plain = inner.iter().filter(|(next, _)| is_plain(next));
                    plain.map(|(next, value)| (format!("{key}/{next}"), value)).collect()
                }
                value => vec![(key.clone(), value)],
            });
            let names = level.filter(|(_, value)| text_of(value).is_ok_and(|it| !it.is_empty()));
            let in_body = best(names.map(|(key, _)| (key.clone(), format!("body:/{key}"))));
            let keys = list(keys.keys().map(|key| Cow::Owned(format!("/{}", bounded(key, LONGEST)))));
            (
                if keys.is_empty() {
                    "an empty object of JSON".to_owned()
                } else {
                    format!("JSON with {keys}")
                },
                in_body,
            )
        }
        Ok(Value::String(text)) => {
            (format!("the JSON string \"{}\"", bounded(text, LONGEST)), Some("body:".to_owned()))
        }
        Ok(Value::Array(_)) => ("a list of JSON".to_owned(), None),
        Ok(other) => (format!("the JSON value {}", bounded(&other.to_string(), LONGEST)), None),
        Err(NoName::NotJson) => match content.text() {
            Ok("") | Err(_) => ("no body".to_owned(), None),
            Ok(text) => {
                (format!("a text that begins with \"{}\"", bounded(text.trim(), LONGEST)), in_text(text))
            }
        },
        Err(why) => (format!("a body that cannot be read ({why})"), None),
    }
}

/// A pattern for a line such as `Version: 1.0.0`.
fn in_text(text: &str) -> Option<String> {
    let words = WORDS.join("|");
    let pattern = format!(r"^[ \t]*([A-Za-z][\w -]{{0,30}})?\b({words})\b([:=] ?)[\w.+-]");
    let line = RegexBuilder::new(&pattern).case_insensitive(true).multi_line(true).build().ok()?;
    let found = line.captures(text)?;
    let part = |number| found.get(number).map_or("", |it| it.as_str());
    Some(format!(r"body~{}{}{}(\S+)", part(1), part(2), part(3)))
}

/// The place whose name has the best word.
fn best(places: impl Iterator<Item = (String, String)>) -> Option<String> {
    let places = places.filter_map(|(name, place)| {
        let name = name.to_ascii_lowercase();
        if NO_RELEASE.iter().any(|word| name.contains(word)) {
            return None;
        }
        Some((WORDS.iter().position(|word| name.contains(word))?, place))
    });
    places.min_by_key(|(rank, _)| *rank).map(|(_, place)| place)
}

/// Whether a name of strangers can stand in a command line, and in a JSON pointer, as it is.
fn is_plain(key: &str) -> bool {
    key.len() <= LONGEST && key.chars().all(|it| it.is_ascii_alphanumeric() || "_-.".contains(it))
}

/// The first names, in words.
fn list<'a>(names: impl Iterator<Item = Cow<'a, str>>) -> String {
    let names: Vec<_> = names.map(|name| bounded(&name, LONGEST)).collect();
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// A place as an argument in a shell.
pub(super) fn argument(text: &str) -> String {
    let is_bare = |it: char| it.is_ascii_alphanumeric() || "_-./:".contains(it);
    debug_assert!(text.chars().all(is_safe), "it is made of safe names");
    if text.chars().all(is_bare) { text.to_owned() } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderMap;

    use super::{super::Body, *};

    fn sample(headers: &[(&'static str, &str)], body: &[u8]) -> Sample {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        Sample::of(StatusCode::OK, &Content::new(&headers, Body::Whole(body)), &NoName::Missing)
    }

    #[test]
    fn a_sample_says_what_an_answer_holds_and_what_to_try() {
        for (headers, body, holds, release_from) in [
            (
                &[("date", "x")][..],
                "{\"commit\":\"c\",\"version\":\"6.0.0\"}",
                "JSON with /commit, /version",
                "body:/version",
            ),
            (
                &[],
                "{\"meta\":{\"git_revision\":\"c\"},\"n\":1}",
                "JSON with /meta, /n",
                "body:/meta/git_revision",
            ),
            (&[("x-app-version", "1")], "[]", "a list of JSON", "header:x-app-version"),
            (
                &[("x-aspnet-version", "1"), ("x-tracking-id", "1")],
                "\"blue\"",
                "the JSON string \"blue\"",
                "body:",
            ),
            (
                &[],
                "Hello, world!\nVersion: 1.0.0\nHostname: a\n",
                "a text that begins with \"Hello, world!\\nVersion: 1.0.0",
                r"body~Version: (\S+)",
            ),
            (&[], "App version=2\n", "a text that begins with \"App version=2\"", r"body~App version=(\S+)"),
            (&[], "<html>", "a text that begins with \"<html>\"", ""),
            (&[], "", "no body", ""),
            (
                &[("content-encoding", "gzip")],
                "x",
                "a body that cannot be read (the body is compressed (gzip)",
                "",
            ),
        ] {
            let sample = sample(headers, body.as_bytes());
            assert!(sample.holds.starts_with(holds), "{}", sample.holds);
            assert_eq!(sample.release_from.as_deref().unwrap_or_default(), release_from, "{body}");
            if let Some(from) = sample.release_from {
                let from: super::super::ReleaseFrom = from.parse().expect("a place");
                let named = match from {
                    super::super::ReleaseFrom::Answer(from) if !body.starts_with('[') => {
                        from.read(&Content::new(&HeaderMap::new(), Body::Whole(body.as_bytes())))
                    }
                    _ => continue,
                };
                assert!(named.is_ok(), "what is to be tried works: {named:?}");
            }
        }
    }

    #[test]
    fn what_strangers_send_is_bounded_and_safe() {
        let keys: Vec<_> =
            (0..500).map(|n| format!("\"version\\u001b[2J';rm{n}{}\":1", "k".repeat(100))).collect();
        let texts =
            ["\u{1b}]0;version: x\u{7}".repeat(500), format!("version': $(x)\u{1b}{}", "y".repeat(5000))];
        for body in texts.into_iter().chain([format!("{{{}}}", keys.join(","))]) {
            let sample = sample(&[], body.as_bytes());
            assert!(sample.holds.len() < 500 && sample.holds.chars().all(is_safe), "{}", sample.holds);
            assert_eq!(sample.release_from, None, "no command with what strangers have written");
        }
        // a token may have such characters: RFC 9110, section 5.6.2
        let header = sample(&[("x-version`reboot`'$&|", "1")], b"{\"a/version\":\"1\",\"v~ersion\":\"1\"}");
        assert_eq!(header.release_from, None, "{}", header.holds);
    }

    #[test]
    fn the_first_good_answer_is_kept() {
        let samples = Samples::default();
        let headers = HeaderMap::new();
        for (status, body) in [(500, "bad"), (500, "worse"), (200, "good"), (200, "better"), (500, "bad")] {
            let content = Content::new(&headers, Body::Whole(body.as_bytes()));
            samples.see(StatusCode::from_u16(status).expect("a status"), &content, &NoName::Missing);
        }
        assert!(samples.get().expect("a sample").holds.contains("\"good\""));
    }
}

//! How text of users and of other programs is shown: without secrets, without control characters, and not too long.

use crate::foreign;

/// The most names that are listed.
const MOST_NAMES: usize = 10;
/// Replaces a secret.
const HIDDEN: &str = "***";

/// A URL as a user wrote it, even if it is invalid: without user name, password, and the values of its query.
pub(crate) fn url(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + 3),
        None => ("", text),
    };
    // a password may hold any character, also those that end an authority
    match rest.rsplit_once('@') {
        Some((_, rest)) => format!("{scheme}{HIDDEN}@{}", path_and_query(rest)),
        None => format!("{scheme}{}", path_and_query(rest)),
    }
}

/// The same for the part of a valid URL that begins with its path.
pub(super) fn path_and_query(text: &str) -> String {
    if let Some((before, _)) = text.split_once('#') {
        return format!("{}#{HIDDEN}", path_and_query(before));
    }
    let Some((path, query)) = text.split_once('?') else { return text.to_owned() };
    let hidden = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) => format!("{key}={HIDDEN}"),
        None if pair.is_empty() => String::new(),
        None => HIDDEN.to_owned(),
    });
    format!("{path}?{}", hidden.collect::<Vec<_>>().join("&"))
}

/// The names that there are, for a message that one does not exist. There is at least one.
pub(super) fn there_is<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = match names.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let word = if names.len() == 1 { "is" } else { "are" };
    let names: Vec<_> = names.take(MOST_NAMES).map(|name| foreign::bounded(name, foreign::NAME)).collect();
    format!("; there {word} {}{more}", names.join(", "))
}

/// A text of another program.
pub(super) fn text(text: &str) -> String {
    foreign::bounded(text, foreign::ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_listed_safe_and_bounded() {
        let listed = |names: &[&str]| there_is(names.iter().copied());
        assert_eq!(listed(&["a"]), "; there is a");
        assert_eq!(listed(&["a\u{1b}[2J", "b"]), "; there are a\\u{1b}[2J, b");
        assert_eq!(listed(&["x"; 12]), "; there are x, x, x, x, x, x, x, x, x, x, and 2 more");
        assert!(listed(&["x".repeat(10_000).as_str(); 500]).len() < 3000);
    }

    #[test]
    fn a_url_is_shown_without_secrets() {
        for (text, shown) in [
            ("http://user:S3CRET@host:80/path", "http://***@host:80/path"),
            ("https://S3CRET@host", "https://***@host"),
            ("user:S3CRET@host", "***@host"),
            ("http://user:S3/C?R#E@T@host/path", "http://***@host/path"),
            ("http://host/path?token=S3CRET&S3CRET&x=", "http://host/path?token=***&***&x=***"),
            ("http://host/#S3CRET", "http://host/#***"),
            ("http://host?a=S3CRET#S3CRET", "http://host?a=***#***"),
            ("http://127.0.0.1:8080/v1/appinfo", "http://127.0.0.1:8080/v1/appinfo"),
            ("", ""),
        ] {
            assert_eq!(url(text), shown, "{text}");
        }
    }
}

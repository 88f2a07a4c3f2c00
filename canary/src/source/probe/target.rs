//! The URL that requests go to.

use std::{fmt, net::SocketAddr, str::FromStr};

use hyper::{Uri, header::HeaderValue, http::uri::PathAndQuery};

use crate::source::{http::Origin, shown};

/// The path if the URL has none.
const DEFAULT_PATH: &str = "/v1/appinfo";

/// The URL that requests go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) origin: Origin,
    pub(super) path: Uri,
    /// The path without a default: `/` if the URL has none.
    written: Uri,
}

impl FromStr for Target {
    type Err = &'static str;

    /// Parses `http://HOST[:PORT][/PATH][?QUERY]`, or the same with `https://`. `http://` may be missing. The
    /// default path is `/v1/appinfo`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "want http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080";
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().map_err(|_| WANTED)?;
        let origin = Origin::of(&uri).map_err(|error| {
            error.text(
                WANTED,
                "canary does not send a name and password in the URL: use --header 'Authorization: ...' instead",
            )
        })?;
        let path = match uri.path_and_query() {
            Some(path) if path.path() != "/" => Uri::from(path.clone()),
            path => match path.and_then(PathAndQuery::query) {
                Some(query) => format!("{DEFAULT_PATH}?{query}").parse().map_err(|_| WANTED)?,
                None => Uri::from_static(DEFAULT_PATH),
            },
        };
        let written = uri.path_and_query().cloned().map_or(Uri::from_static("/"), Uri::from);
        Ok(Self { origin, path, written })
    }
}

impl Target {
    /// `path` at the server with this address.
    pub(crate) fn at(address: SocketAddr, path: &'static str) -> Self {
        let authority = HeaderValue::from_str(&address.to_string());
        let origin = Origin {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
            authority: authority.unwrap_or(HeaderValue::from_static("")), // an address is always a valid header value
        };
        Self { origin, path: Uri::from_static(path), written: Uri::from_static(path) }
    }

    /// The same without the default path: the path is as it was written, and `/` if there was none.
    pub(super) fn without_default(mut self) -> Self {
        self.path = self.written.clone();
        self
    }

    /// Whether the URL was written with a path or a query.
    pub(super) fn names_a_path(&self) -> bool {
        self.written != "/"
    }

    /// The URL without its path.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether the URL has this host and port.
    pub(super) fn is_at(&self, host: &str, port: u16) -> bool {
        self.origin.host.eq_ignore_ascii_case(host) && self.origin.port == port
    }
}

impl fmt::Display for Target {
    /// The URL, without the values of its query: these may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, shown::path_and_query(&self.path.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn scheme_port_and_path_are_optional() {
        for (text, shown, host, port) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/appinfo", "127.0.0.1", 8080),
            ("10.0.0.7:30753", "http://10.0.0.7:30753/v1/appinfo", "10.0.0.7", 30753),
            ("http://appinfo.example/", "http://appinfo.example/v1/appinfo", "appinfo.example", 80),
            ("https://appinfo.example", "https://appinfo.example/v1/appinfo", "appinfo.example", 443),
            ("https://a:8443/b", "https://a:8443/b", "a", 8443),
            ("http://a:81?x=1", "http://a:81/v1/appinfo?x=***", "a", 81),
            ("a/?x=1&y=%20", "http://a/v1/appinfo?x=***&y=***", "a", 80),
            (
                "http://[::1]:8080/prefix/v1/appinfo?a=b",
                "http://[::1]:8080/prefix/v1/appinfo?a=***",
                "::1",
                8080,
            ),
        ] {
            let target = target(text);
            let origin = &target.origin;
            assert_eq!((target.to_string().as_str(), origin.host.as_str(), origin.port), (shown, host, port));
        }
    }

    #[test]
    fn without_the_default_the_path_is_as_it_was_written() {
        for (text, shown) in [
            ("http://shop", "http://shop/"),
            ("shop:80/", "http://shop:80/"),
            ("http://shop?x=1", "http://shop/?x=***"),
            ("https://shop/a?x=1", "https://shop/a?x=***"),
        ] {
            assert_eq!(target(text).without_default().to_string(), shown);
        }
    }

    #[test]
    fn an_invalid_url_is_refused() {
        for text in ["", "http://", "ftp://a", "http://a:0", "http://a:99999", "http://u:p@a", "http://a b"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_can_be_made_from_a_socket_address() {
        assert_eq!(
            Target::at(SocketAddr::from(([127, 0, 0, 1], 81)), "/readyz"),
            target("http://127.0.0.1:81/readyz")
        );
        let loopback = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 81));
        assert_eq!(Target::at(loopback, "/readyz"), target("http://[::1]:81/readyz"));
    }
}

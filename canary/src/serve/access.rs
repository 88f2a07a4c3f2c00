//! Which requests are allowed.
//!
//! Another web site can make a browser send requests here. It cannot read the answers, unless its own name
//! resolves to this machine after it was loaded (DNS rebinding). Then the header `host` has that name. It can
//! also send simple requests without reading the answers. These have its origin, or no JSON.

use std::{
    fmt, fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    str::FromStr,
};

use appinfo::server;
use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri, Version,
        header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN},
        uri::Authority,
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::foreign;

/// What the flags allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Host names that clients may use, besides `localhost` and IP addresses.
    pub hosts: Vec<HostName>,
    /// Whether other machines may reset a trial.
    pub reset: bool,
    /// With this token, they may as well, and a hook ends a rollout at once.
    pub token: Option<Token>,
}

/// A secret that callers show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Reads the token in this file. White space around it does not count.
    ///
    /// # Errors
    /// If the file cannot be read, or has no token.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |cause: &dyn fmt::Display| format!("--token-file {}: {cause}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        match text.trim() {
            "" => Err(named(&"it is empty")),
            token => Ok(Self(token.to_owned())),
        }
    }

    /// Compares all bytes, so that the time does not tell how many are right.
    fn is(&self, shown: &str) -> bool {
        let differ = |differ, (one, other): (u8, u8)| differ | (one ^ other);
        self.0.len() == shown.len() && self.0.bytes().zip(shown.bytes()).fold(0, differ) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(_)")
    }
}

/// A name that the header `host` may have, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "want a name alone, as in judge.example.com, with neither http:// nor a port";
        let name = text.parse::<Authority>().ok().filter(|it| it.host() == text && !text.starts_with('['));
        name.map(|name| Self(name.host().to_ascii_lowercase())).ok_or(wanted)
    }
}

/// The refusal of a request: a status, and a sentence that is sent as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
}

impl Refusal {
    /// The sentence may quote the request, so it is made safe and bounded.
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: foreign::bounded(&error.into(), foreign::ERROR) }
    }

    fn other_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "the request comes from a page of another origin")
    }
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, json(&ErrorBody { error: self.error })).into_response()
    }
}

/// One line of JSON.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Access {
    /// Refuses a request for another host.
    pub(super) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let named = host(headers)?;
        for authority in [Some(&named), uri.authority()].into_iter().flatten() {
            let host = authority.host();
            let name = host.to_ascii_lowercase();
            if !is_address(host) && name != "localhost" && !self.hosts.iter().any(|allowed| allowed.0 == name)
            {
                return Err(Refusal::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    format!(
                        "the host {host:?} is not allowed: ask by IP address, or start with --allow-host {host}"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses a request that another web site may have sent.
    pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) if is_json(headers) => Ok(()),
            (None, _) => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "want a body of JSON and content-type: application/json",
            )),
            (Some(origin), None) if is_own(origin.as_bytes(), &host(headers)?) => Ok(()),
            _ => Err(Refusal::other_origin()),
        }
    }

    /// Refuses a request that a browser sends for another web site, according to the browser
    /// (<https://www.w3.org/TR/fetch-metadata/>). Such a site cannot read the answer, but it could begin trials
    /// and use up the places of viewers.
    pub(super) fn check_site(headers: &HeaderMap) -> Result<(), Refusal> {
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => Err(Refusal::other_origin()),
        }
    }

    /// Refuses a reset from another machine, unless the flags allow it, or the caller shows the token.
    pub(super) fn check_reset(&self, remote: Option<SocketAddr>, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.has_token(headers, None)? || self.reset || is_this_machine(remote) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a trial is reset from this machine alone, unless canary serve is started with --allow-reset or the \
             request has the token of --token-file: each reset is another chance to err",
        ))
    }

    /// Whether the caller shows the token, as `authorization: Bearer TOKEN` or in the body.
    ///
    /// # Errors
    /// If it shows another one.
    pub(super) fn has_token(&self, headers: &HeaderMap, in_body: Option<&str>) -> Result<bool, Refusal> {
        let Some(token) = &self.token else { return Ok(false) };
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let in_header = header.map(|value| {
            value
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map_or("", |it| it.1)
        });
        match in_header.or(in_body) {
            None => Ok(false),
            Some(shown) if token.is(shown.trim()) => Ok(true),
            Some(_) => Err(Refusal::new(StatusCode::UNAUTHORIZED, "this is not the token of --token-file")),
        }
    }

    /// Refuses a step of a rehearsal from another machine: a class may watch, and the teacher takes the steps.
    pub(super) fn check_step(remote: Option<SocketAddr>) -> Result<(), Refusal> {
        if is_this_machine(remote) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::FORBIDDEN, "only the machine that runs the rehearsal takes its steps"))
    }
}

/// The caller's address, for messages.
pub(super) fn caller(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(|| "an unknown address".to_owned(), |remote| remote.to_string())
}

fn is_this_machine(remote: Option<SocketAddr>) -> bool {
    remote.is_some_and(|remote| remote.ip().is_loopback())
}

fn host(headers: &HeaderMap) -> Result<Authority, Refusal> {
    let refused = |error: String| Refusal::new(StatusCode::BAD_REQUEST, error);
    let host = server::host(Version::HTTP_11, headers).map_err(|error| refused(error.to_string()))?;
    host.filter(|host| authority(host.as_str().as_bytes()).is_some())
        .ok_or_else(|| refused("the Host header has no host".to_owned()))
}

/// A host, and a port from 0 to 65535 if there is one. `Authority` also takes other ports, and text after a bracket.
fn authority(text: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(text).ok()?;
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host)?;
    let has_port = rest.strip_prefix(':').is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok());
    let is_host = !host.is_empty() && (!host.contains(['[', ']']) || is_address(host));
    (is_host && (rest.is_empty() || has_port)).then_some(authority)
}

/// An IPv4 address, or an IPv6 address in brackets.
fn is_address(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    in_brackets.map_or(host.parse::<Ipv4Addr>().is_ok(), |address| address.parse::<Ipv6Addr>().is_ok())
}

/// Whether the origin is the host that the request went to. Browsers leave out the default port of the scheme, and a
/// proxy in front may not.
fn is_own(origin: &[u8], host: &Authority) -> bool {
    let text = str::from_utf8(origin).unwrap_or_default();
    let schemes = [("http://", 80), ("https://", 443)];
    schemes.into_iter().any(|(scheme, default)| {
        let origin = text.strip_prefix(scheme).and_then(|rest| authority(rest.as_bytes()));
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        origin.is_some_and(|origin| {
            origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
        })
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, header::HOST};

    use super::*;

    fn headers(of: &[(HeaderName, &str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header"))).collect()
    }

    fn status(checked: Result<(), Refusal>) -> u16 {
        checked.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn the_host_is_an_address_localhost_or_allowed() {
        let hosts = vec!["Judge.example.com".parse().expect("a name")];
        let access = Access { hosts, ..Access::default() };
        for (host, expected) in [
            ("127.0.0.1:8090", 200),
            ("10.1.2.3", 200),
            ("[::1]:8090", 200),
            ("LOCALHOST:1", 200),
            ("judge.example.COM:8090", 200),
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("localhost.evil.example", 421),
            ("localhost@evil.example", 400),
            ("", 400),
            ("a b", 400),
            ("localhost:99999", 400),
            ("localhost:x", 400),
            ("[::1]evil", 400),
            ("[::1]:8090:1", 400),
            ("[evil]", 400),
            ("[127.0.0.1]", 400),
            (":80", 400),
            ("127.0.0.1:", 200),
            ("localhost:65535", 200),
        ] {
            let headers = headers(&[(HOST, host)]);
            assert_eq!(status(access.check_host(&Uri::from_static("/"), &headers)), expected, "{host}");
        }
        let uri = Uri::from_static;
        assert_eq!(status(access.check_host(&uri("/"), &HeaderMap::new())), 400);
        let own = headers(&[(HOST, "127.0.0.1")]);
        assert_eq!(status(access.check_host(&uri("http://evil.example/"), &own)), 421, "whatever host says");
        let two = headers(&[(HOST, "127.0.0.1"), (HOST, "evil.example")]);
        assert_eq!(status(access.check_host(&uri("/"), &two)), 400);
    }

    #[test]
    fn a_change_needs_the_same_origin_or_none_and_json() {
        for (origin, kind, expected) in [
            (Some("http://127.0.0.1:8090"), "text/plain", 200),
            (Some("https://127.0.0.1:8090"), "text/plain", 200),
            (None, "application/json", 200),
            (None, "Application/JSON; charset=utf-8", 200),
            (None, "text/plain", 415),
            (None, "application/json-patch+json", 415),
            (Some("http://127.0.0.1:8091"), "application/json", 403),
            (Some("http://evil.example"), "application/json", 403),
            (Some("null"), "application/json", 403),
        ] {
            let mut headers = headers(&[(HOST, "127.0.0.1:8090"), (CONTENT_TYPE, kind)]);
            headers.extend(origin.map(|origin| (ORIGIN, origin.parse().expect("a header"))));
            assert_eq!(status(Access::check_origin(&headers)), expected, "{origin:?}, {kind}");
        }
        let host = headers(&[(HOST, "127.0.0.1:8090")]);
        assert_eq!(status(Access::check_origin(&host)), 415, "no body at all");
        for (origin, host, expected) in [
            ("https://judge.example", "judge.example:443", 200),
            ("https://judge.example:443", "judge.example", 200),
            ("http://judge.example", "judge.example:80", 200),
            ("http://JUDGE.example:80", "judge.example", 200),
            ("http://judge.example", "judge.example:443", 403),
            ("http://judge.example:81", "judge.example", 403),
            ("http://[::1]", "[::1]:80", 200),
            ("http://[::1]evil", "[::1]", 403),
            ("http://localhost:99999", "localhost", 403),
        ] {
            let headers = headers(&[(HOST, host), (ORIGIN, origin)]);
            assert_eq!(status(Access::check_origin(&headers)), expected, "{origin} {host}");
        }
    }

    #[test]
    fn a_reset_comes_from_this_machine_or_is_allowed() {
        let remote = |text: &str| Some(text.parse().expect("an address"));
        let (strict, open) = (Access::default(), Access { reset: true, ..Access::default() });
        let none = HeaderMap::new();
        assert_eq!(status(strict.check_reset(remote("127.0.0.1:1"), &none)), 200);
        assert_eq!(status(strict.check_reset(remote("[::1]:1"), &none)), 200);
        assert_eq!(status(strict.check_reset(remote("10.0.0.1:1"), &none)), 403);
        assert_eq!(status(strict.check_reset(None, &none)), 403);
        assert_eq!(status(open.check_reset(remote("10.0.0.1:1"), &none)), 200);
    }

    #[test]
    fn a_token_in_the_header_or_in_the_body_opens_and_a_wrong_one_is_refused() {
        let access = Access { token: Some(Token("secret".to_owned())), ..Access::default() };
        let remote = Some("10.0.0.1:1".parse().expect("an address"));
        for (value, expected) in [
            ("Bearer secret", 200),
            ("bearer  secret", 200),
            ("Bearer secre", 401),
            ("secret", 401),
            ("Basic secret", 401),
        ] {
            assert_eq!(
                status(access.check_reset(remote, &headers(&[(AUTHORIZATION, value)]))),
                expected,
                "{value}"
            );
        }
        let none = HeaderMap::new();
        assert_eq!(access.has_token(&none, Some("secret\n")), Ok(true));
        assert_eq!(access.has_token(&none, None), Ok(false));
        assert_eq!(status(access.has_token(&none, Some("other")).map(drop)), 401);
        assert_eq!(
            Access::default().has_token(&none, Some("other")),
            Ok(false),
            "there is none to compare with"
        );
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn a_step_comes_from_this_machine_whatever_is_allowed() {
        for (remote, expected) in
            [(Some("127.0.0.1:1"), 200), (Some("[::1]:1"), 200), (Some("10.0.0.1:1"), 403), (None, 403)]
        {
            let remote = remote.map(|remote| remote.parse().expect("an address"));
            assert_eq!(status(Access::check_step(remote)), expected, "{remote:?}");
        }
    }

    #[test]
    fn an_allowed_host_is_a_name_alone() {
        assert!("judge.example.com".parse::<HostName>().is_ok());
        for bad in ["", "http://a", "a:80", "[::1]", "a/b", "a b", "u@a"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}

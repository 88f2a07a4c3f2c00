//! The header `Host`. Every HTTP/1.1 request must have exactly one.

use std::{net::Ipv6Addr, str};

use axum::http::{Request, Version, header::HOST};

/// Why the `Host` of a request is refused (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HostError {
    #[error("no Host header: HTTP/1.1 needs one")]
    Missing,
    #[error("more than one Host header")]
    Repeated,
    #[error("the Host header is not a valid host with an optional port")]
    Invalid,
}

/// Checks the header `Host` of a request. HTTP/1.0 requires none, but one that is there must be valid.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), HostError> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(()),
        (None, _) => Err(HostError::Missing),
        (Some(_), Some(_)) => Err(HostError::Repeated),
        (Some(host), None) if is_host_and_port(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(HostError::Invalid),
    }
}

/// `uri-host [ ":" port ]`; each part may be empty (RFC 9110, section 7.2; RFC 3986, section 3.2.2).
fn is_host_and_port(value: &[u8]) -> bool {
    let host_end = match value {
        [b'[', ..] => value.iter().position(|&byte| byte == b']').map_or(0, |bracket| bracket + 1),
        _ => value.iter().position(|&byte| byte == b':').unwrap_or(value.len()),
    };
    let (host, port) = value.split_at(host_end);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port
        && match host {
            [b'[', address @ .., b']'] => is_ipv6(address) || is_future_address(address),
            _ => is_name(host),
        }
}

fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// `IPvFuture`: a `v`, a version in hexadecimal digits, a dot, and the address.
fn is_future_address(text: &[u8]) -> bool {
    let Some(dot) = text.iter().position(|&byte| byte == b'.') else { return false };
    let (version, address) = (&text[..dot], &text[dot + 1..]);
    matches!(version, [b'v' | b'V', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit))
        && !address.is_empty()
        && address.iter().all(|&byte| is_name_byte(byte) || byte == b':')
}

/// `reg-name`; an IPv4 address matches it, too.
fn is_name(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

/// RFC 3986's `unreserved` and `sub-delims`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for host in [
            "",
            ":",
            ":80",
            "x",
            "x:",
            "x:8080",
            "a-b.example.com",
            "my_host",
            "example.com.:80",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:",
            "[v1.fe:x]:80",
            "a%20b",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host_and_port(host.as_bytes()), "{host:?}");
        }
    }

    #[test]
    fn other_values_are_invalid() {
        for host in [
            "a b",
            "a b/c",
            "a/b",
            "http://x",
            "u@x",
            "x:80:80",
            "x:http",
            "x:-1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[x]",
            "[]",
            "[fe80::1%25eth0]",
            "[v.x]",
            "[v1.]",
            "[v1]",
            "a%2",
            "a%zz",
            "a,b c",
            "a\"b",
            "a\\b",
            "a?b",
            "a#b",
            "<x>",
            "b\u{fc}cher.example",
        ] {
            assert!(!is_host_and_port(host.as_bytes()), "{host:?}");
        }
    }
}

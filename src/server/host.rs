//! The header `Host`. Every HTTP/1.1 request must have exactly one.

use axum::http::{HeaderMap, Version, header::HOST, uri::Authority};

/// Why the `Host` of a request is refused (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// An HTTP/1.1 request has none.
    #[error("no Host header: HTTP/1.1 needs one")]
    Missing,
    /// There are several.
    #[error("more than one Host header")]
    Repeated,
    /// It is something else.
    #[error("the Host header is not a valid host with an optional port")]
    Invalid,
}

/// The header `Host` of a request; none if it is empty. HTTP/1.0 requires none, but one that is there must be valid.
///
/// # Errors
/// If HTTP forbids to answer such a request.
pub fn host(version: Version, headers: &HeaderMap) -> Result<Option<Authority>, HostError> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(None),
        (None, _) => Err(HostError::Missing),
        (Some(_), Some(_)) => Err(HostError::Repeated),
        (Some(host), None) if host.is_empty() => Ok(None),
        (Some(host), None) => authority(host.as_bytes()).map(Some).ok_or(HostError::Invalid),
    }
}

/// A host and a port without a user. A port may be empty: RFC 3986, section 3.2.3.
fn authority(text: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(text).ok()?;
    let port = authority.as_str().strip_prefix(authority.host())?; // fails if there is a user
    let is_port = port.is_empty() || port == ":" || authority.port_u16().is_some();
    is_port.then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let valid = ["x", "x:", "x:8080", "a-b.example.com", "my_host", "example.com.:80", "127.0.0.1:80"];
        for host in
            valid.into_iter().chain(["[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:", "xn--bcher-kva.example"])
        {
            assert!(authority(host.as_bytes()).is_some(), "{host:?}");
        }
        let invalid =
            ["a b", "a b/c", "a/b", "http://x", "u@x", "u:p@x", "x:80:80", "x:http", "x:-1", "x:65536"];
        for host in
            invalid.into_iter().chain(["::1", "[::1", "[::1]x", "a\"b", "a\\b", "a?b", "a#b", "<x>", "ü"])
        {
            assert!(authority(host.as_bytes()).is_none(), "{host:?}");
        }
    }
}

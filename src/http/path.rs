//! Paths that differ only in their percent-encoding.

use axum::{
    Router,
    extract::Request,
    http::{Uri, uri::PathAndQuery},
};
use tower::ServiceExt;

/// Extends `routes`, whose paths need no percent-encoding, to every spelling of those paths. This costs time only
/// for a request that no route matches as it is spelled.
pub(super) fn with_any_spelling(routes: Router) -> Router {
    let exact = routes.clone();
    routes.fallback(async move |mut request: Request| {
        if let Some(normalized) = normalized(request.uri()) {
            *request.uri_mut() = normalized;
        }
        exact.oneshot(request).await
    })
}

/// Decodes the unreserved characters of a URI's path; none if the path has no such character encoded. The result is
/// equivalent (RFC 3986, section 6.2.2.2). `%2F` stays encoded: a slash within a segment does not separate segments.
fn normalized(uri: &Uri) -> Option<Uri> {
    let path = decode_unreserved(uri.path())?;
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// Decodes the unreserved characters of a path; none if it has no such character encoded.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut pieces = path.split('%');
    let mut decoded = pieces.next()?.to_owned();
    for piece in pieces {
        let code = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(character) = code.map(char::from).filter(|character| is_unreserved(*character)) {
            decoded.push(character);
            decoded.push_str(&piece[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(piece);
        }
    }
    (decoded.len() < path.len()).then_some(decoded)
}

/// RFC 3986, section 2.3.
fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_are_decoded_and_only_once() {
        for (path, decoded) in [
            ("/v1/%61ppinfo", Some("/v1/appinfo")),
            ("/%76%31/appinf%6F", Some("/v1/appinfo")),
            ("/%6a%6A%7e%7E%2d%2D%2e%5f", Some("/jj~~--._")),
            ("/%25%36%31", Some("/%2561")),
            ("/v1%2Fappinfo%2f", None),
            ("/%20%00%ff%3F%23", None),
            ("/%", None),
            ("/%6", None),
            ("/%+1%-1%6g%é", None),
            ("/%%61", Some("/%a")),
            ("/v1/appinfo", None),
            ("", None),
        ] {
            assert_eq!(decode_unreserved(path).as_deref(), decoded, "{path}");
        }
    }

    #[test]
    fn a_query_stays_as_it_is() {
        let uri = Uri::from_static("http://x/%61?%61=%62");
        assert_eq!(normalized(&uri), Some(Uri::from_static("http://x/a?%61=%62")));
    }
}

//! The service that is asked: where it is, what a request to it carries, and how its answers say who gave them.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{
    Target,
    addresses::{Addresses, Resolve},
    tls::{self, Trust},
};
use crate::release::{Attribution, Release};

/// What HTTP/1.1 needs itself to tell where a message ends, and what becomes of the connection (RFC 9112).
const NOT_TO_BE_SET: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How an answer says who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The header that names the release.
    pub release_header: HeaderName,
    /// The header that names the pod.
    pub pod_header: HeaderName,
    /// What the first says of the stable release,
    pub stable: String,
    /// and what of the canary.
    pub canary: String,
}

impl Default for Naming {
    /// As appinfo does it.
    fn default() -> Self {
        Self {
            release_header: HeaderName::from_static("x-release"),
            pod_header: HeaderName::from_static("x-served-by"),
            stable: Release::Stable.to_string(),
            canary: Release::Canary.to_string(),
        }
    }
}

impl Naming {
    /// Who an answer is attributed to that names this release, or none.
    pub(super) fn attribution(&self, release: Option<&str>) -> Attribution {
        match release {
            Some(name) if name == self.stable => Attribution::Release(Release::Stable),
            Some(name) if name == self.canary => Attribution::Release(Release::Canary),
            // a third release that has the name of a side must not be taken for it
            Some(name) if Release::BOTH.into_iter().any(|side| name == side.to_string()) => {
                Attribution::Other(format!("{}={name}", self.release_header))
            }
            other => Attribution::of_answer(other),
        }
    }

    /// Whether an answer's body may name the release, where no header does. appinfo's does; what the body of another
    /// service means is not known.
    pub(super) fn release_may_be_in_body(&self) -> bool {
        self.release_header == Self::default().release_header
    }

    /// The same of the pod.
    pub(super) fn pod_may_be_in_body(&self) -> bool {
        self.pod_header == Self::default().pod_header
    }
}

/// What else there is to say of a service than its address.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Headers of each request, as `Name: value`.
    pub headers: Vec<String>,
    /// How its answers say who gave them.
    pub naming: Naming,
    /// Its addresses, where the system's resolver is not to be asked.
    pub resolve: Vec<Resolve>,
    /// Whose certificate it may have.
    pub trust: Trust,
}

/// The service that is asked.
pub struct Service {
    pub(super) target: Target,
    pub(super) naming: Naming,
    pub(super) headers: HeaderMap,
    pub(super) addresses: Addresses,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Service {
    /// Puts it together.
    ///
    /// # Errors
    /// If an option cannot be used: what is wrong with it, in words that tell no header's value.
    pub fn new(target: Target, options: Options) -> Result<Self, String> {
        let Options { headers, naming, resolve, trust } = options;
        if naming.stable == naming.canary {
            return Err(
                "--stable-value and --canary-value are the same: nothing would tell the releases apart"
                    .into(),
            );
        }
        if naming.stable.is_empty() || naming.canary.is_empty() {
            return Err("--stable-value and --canary-value must say something".into());
        }
        if let Some(other) = resolve.iter().find(|it| !target.is_at(&it.host, it.port)) {
            let (host, port) = (&other.host, other.port);
            return Err(format!("--resolve is for {host}:{port}, and {target} is asked"));
        }
        let tls = if target.tls {
            let name = ServerName::try_from(target.host.clone());
            let name = name.map_err(|_| format!("no certificate can be for the name {:?}", target.host))?;
            Some((tls::connector(&trust)?, name))
        } else {
            None
        };
        Ok(Self { tls, ..Self::with(target, naming, request_headers(&headers)?, &resolve) })
    }

    /// A service that is asked without TLS, as appinfo is.
    pub(crate) fn plain(target: Target) -> Self {
        Self::with(target, Naming::default(), HeaderMap::new(), &[])
    }

    fn with(target: Target, naming: Naming, mut headers: HeaderMap, resolve: &[Resolve]) -> Self {
        let agent = HeaderValue::from_static(concat!("canary/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        headers.entry(header::HOST).or_insert_with(|| target.authority.clone());
        let addresses = Addresses::new(&target.host, target.port, resolve);
        Self { target, naming, headers, addresses, tls: None }
    }
}

/// Reads headers. A value may be a secret, so no error tells it.
fn request_headers(texts: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (number, text) in (1..).zip(texts) {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("--header number {number} has no colon: want 'Name: value'"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            format!("--header number {number}: what stands before the colon is no header's name")
        })?;
        if NOT_TO_BE_SET.contains(&name) {
            return Err(format!("--header {name}: canary sets this header itself, to keep requests apart"));
        }
        let mut value = HeaderValue::from_str(value.trim_matches([' ', '\t']))
            .map_err(|_| format!("--header {name}: the value has characters that no header may have"))?;
        value.set_sensitive(true);
        if name == header::HOST && headers.contains_key(&name) {
            return Err("--header host is there twice: a request has one".to_owned());
        }
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_release_is_not_taken_for_one_of_the_sides() {
        let naming = Naming { stable: "v1".to_owned(), canary: "v2".to_owned(), ..Naming::default() };
        assert_eq!(naming.attribution(Some("v1")), Attribution::Release(Release::Stable));
        assert_eq!(naming.attribution(Some("v2")), Attribution::Release(Release::Canary));
        assert_eq!(naming.attribution(Some("v3")), Attribution::Other("v3".to_owned()));
        assert_eq!(naming.attribution(Some("canary")), Attribution::Other("x-release=canary".to_owned()));
        assert_eq!(naming.attribution(None), Attribution::Unnamed);
    }

    #[test]
    fn a_headers_value_is_in_no_error() {
        for bad in ["secret", "se cret: secret", "a: sec\nret", "Content-Length: secret", "Connection:secret"]
        {
            let error = request_headers(&[bad.to_owned()]).expect_err(bad);
            assert!(!error.contains("secret") && !error.contains("ret"), "{error}");
        }
        let headers = request_headers(&["Authorization: Bearer secret".to_owned()]).expect("a header");
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn headers_repeat_but_for_the_host() {
        let all = ["A: 1", "a:2", "Host: a.example", "empty:"].map(str::to_owned);
        let headers = request_headers(&all).expect("headers");
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (&headers["host"], &headers["empty"]),
            (&HeaderValue::from_static("a.example"), &HeaderValue::from_static(""))
        );
        assert!(request_headers(&["host: a", "Host: b"].map(str::to_owned)).is_err());
    }
}

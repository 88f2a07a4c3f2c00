//! The service that requests go to: its address, the headers of a request, and how its answers name release and
//! pod.

use hyper::header::{HOST, HeaderMap, HeaderName, USER_AGENT};

use super::{
    Target,
    addresses::{Addresses, Resolve},
    tls::{self, Trust},
};
use crate::source::{
    Attribution,
    http::{self, Tls},
};
use canary_judge::Release;

/// How an answer names its release and its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The header that names the release.
    pub release_header: HeaderName,
    /// The header that names the pod.
    pub pod_header: HeaderName,
    /// The value of the release header for the stable release.
    pub stable: String,
    /// The value of the release header for the canary.
    pub canary: String,
}

impl Default for Naming {
    /// The headers and values of appinfo.
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
    /// The attribution of an answer that names `release`; `None` if it names no release.
    pub(super) fn attribution(&self, release: Option<&str>) -> Attribution {
        match release {
            Some(name) if name == self.stable => Attribution::Release(Release::Stable),
            Some(name) if name == self.canary => Attribution::Release(Release::Canary),
            // with other values for the sides, "stable" and "canary" are names of third releases
            Some(name) if Release::BOTH.into_iter().any(|side| name == side.to_string()) => {
                Attribution::Other(format!("{}={name}", self.release_header))
            }
            other => Attribution::of_answer(other),
        }
    }

    /// Whether the release may come from the body if the header is missing. This is only true for appinfo's
    /// header: the body of another service has an unknown format.
    pub(super) fn release_may_be_in_body(&self) -> bool {
        self.release_header == Self::default().release_header
    }

    /// The same for the pod.
    pub(super) fn pod_may_be_in_body(&self) -> bool {
        self.pod_header == Self::default().pod_header
    }
}

/// The options of a service, besides its URL.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Headers of each request, as `Name: value`.
    pub headers: Vec<String>,
    /// How its answers name release and pod.
    pub naming: Naming,
    /// Its addresses, if the system's resolver should not be used.
    pub resolve: Vec<Resolve>,
    /// Which certificates are accepted.
    pub trust: Trust,
}

/// The service that requests go to.
pub struct Service {
    pub(super) target: Target,
    pub(super) naming: Naming,
    pub(super) headers: HeaderMap,
    pub(super) addresses: Addresses,
    pub(super) tls: Option<Tls>,
}

impl Service {
    /// A service at `target`.
    ///
    /// # Errors
    /// If an option is invalid. The message never contains the value of a header, which may be a secret.
    pub fn new(target: Target, options: Options) -> Result<Self, String> {
        let Options { headers, naming, resolve, trust } = options;
        if naming.stable == naming.canary {
            return Err(
                "--stable-value and --canary-value are the same: the releases cannot be distinguished".into(),
            );
        }
        if naming.stable.is_empty() || naming.canary.is_empty() {
            return Err("--stable-value and --canary-value must not be empty".into());
        }
        if let Some(other) = resolve.iter().find(|it| !target.is_at(&it.host, it.port)) {
            let (host, port) = (&other.host, other.port);
            return Err(format!("--resolve is for {host}:{port}, but requests go to {target}"));
        }
        let tls = target.origin.tls(|| tls::connector(&trust))?;
        Ok(Self { tls, ..Self::with(target, naming, http::headers("--header", &headers)?, &resolve) })
    }

    /// A service without TLS, such as appinfo.
    pub(crate) fn plain(target: Target) -> Self {
        Self::with(target, Naming::default(), HeaderMap::new(), &[])
    }

    fn with(target: Target, naming: Naming, mut headers: HeaderMap, resolve: &[Resolve]) -> Self {
        let origin = &target.origin;
        headers.entry(USER_AGENT).or_insert(http::AGENT);
        headers.entry(HOST).or_insert_with(|| origin.authority.clone());
        let addresses = Addresses::new(&origin.host, origin.port, resolve);
        Self { target, naming, headers, addresses, tls: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_release_is_neither_stable_nor_canary() {
        let naming = Naming { stable: "v1".to_owned(), canary: "v2".to_owned(), ..Naming::default() };
        assert_eq!(naming.attribution(Some("v1")), Attribution::Release(Release::Stable));
        assert_eq!(naming.attribution(Some("v2")), Attribution::Release(Release::Canary));
        assert_eq!(naming.attribution(Some("v3")), Attribution::Other("v3".to_owned()));
        assert_eq!(naming.attribution(Some("canary")), Attribution::Other("x-release=canary".to_owned()));
        assert_eq!(naming.attribution(None), Attribution::Unnamed);
    }
}

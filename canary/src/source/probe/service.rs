//! The service that requests go to: its address, the headers of a request, and how its answers name release and
//! pod.

use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, HeaderName, USER_AGENT};

use super::{
    Target,
    addresses::{Addresses, Resolve},
    tls::{self, Trust},
};
use crate::{
    foreign::OtherReleases,
    source::{
        Attribution,
        http::{self, Tls},
    },
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
    /// The names of both releases' pods, if they tell the release instead of the header.
    pub pods: Option<PodsOfReleases>,
}

/// The names of both releases' pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsOfReleases {
    /// Of the stable release.
    pub stable: PodPattern,
    /// Of the canary.
    pub canary: PodPattern,
}

/// A pattern of pods' names, in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPattern(String);

impl FromStr for PodPattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Err("want the name of a pod, in which * stands for any text")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl PodPattern {
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

    /// The more characters are given, the more exact it is.
    fn exactness(&self) -> usize {
        self.0.chars().filter(|it| *it != '*').count()
    }
}

impl PodsOfReleases {
    /// The release of a pod. If both patterns match, it is the one of the more exact pattern.
    fn release(&self, pod: &str) -> Option<Release> {
        match (self.stable.matches(pod), self.canary.matches(pod)) {
            (false, false) => None,
            (true, false) => Some(Release::Stable),
            (true, true) if self.stable.exactness() > self.canary.exactness() => Some(Release::Stable),
            (_, true) => Some(Release::Canary),
        }
    }
}

impl Default for Naming {
    /// The headers and values of appinfo.
    fn default() -> Self {
        Self {
            release_header: HeaderName::from_static("x-release"),
            pod_header: HeaderName::from_static("x-served-by"),
            stable: Release::Stable.to_string(),
            canary: Release::Canary.to_string(),
            pods: None,
        }
    }
}

impl Naming {
    /// The attribution of an answer that names this release and this pod; `None` if it names none.
    pub(super) fn attribution(&self, release: Option<&str>, pod: Option<&str>) -> Attribution {
        if let Some(pods) = &self.pods {
            let Some(pod) = pod else { return Attribution::Unnamed };
            let release = pods.release(pod).map(Attribution::Release);
            return release.unwrap_or_else(|| Attribution::Other("other pods".to_owned()));
        }
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
    pub(super) other_releases: OtherReleases,
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
        if naming.pods.as_ref().is_some_and(|pods| pods.stable == pods.canary) {
            return Err(
                "--stable-pods and --canary-pods are the same: the releases cannot be distinguished".into()
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
        Self { target, naming, headers, addresses, tls: None, other_releases: OtherReleases::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_release_is_neither_stable_nor_canary() {
        let naming = Naming { stable: "v1".to_owned(), canary: "v2".to_owned(), ..Naming::default() };
        assert_eq!(naming.attribution(Some("v1"), None), Attribution::Release(Release::Stable));
        assert_eq!(naming.attribution(Some("v2"), None), Attribution::Release(Release::Canary));
        assert_eq!(naming.attribution(Some("v3"), None), Attribution::Other("v3".to_owned()));
        assert_eq!(
            naming.attribution(Some("canary"), None),
            Attribution::Other("x-release=canary".to_owned())
        );
        assert_eq!(naming.attribution(None, None), Attribution::Unnamed);
    }

    #[test]
    fn the_names_of_pods_can_tell_the_release() {
        let pattern = |text: &str| text.parse::<PodPattern>().expect("a pattern");
        let pods = PodsOfReleases { stable: pattern("appinfo-primary-*"), canary: pattern("appinfo-*") };
        let naming = Naming { pods: Some(pods), ..Naming::default() };
        let of = |pod| naming.attribution(Some("canary"), pod);
        assert_eq!(of(Some("appinfo-primary-567b989978-vvzlg")), Attribution::Release(Release::Stable));
        assert_eq!(of(Some("appinfo-c66665c44-x2z4v")), Attribution::Release(Release::Canary));
        assert_eq!(of(Some("other-c66665c44-x2z4v")), Attribution::Other("other pods".to_owned()));
        assert_eq!(of(None), Attribution::Unnamed, "such as a proxy's answer");
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
            assert_eq!(pattern(text).matches(name), expected, "{text} {name}");
        }
        assert!("".parse::<PodPattern>().is_err());
    }
}

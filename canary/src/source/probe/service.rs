//! The service that requests go to: its address, the headers of a request, and how its answers are read.

use std::fmt;

use hyper::{
    Uri,
    header::{HOST, HeaderMap, USER_AGENT},
};

use super::{
    Naming, Target,
    addresses::{Addresses, Resolve},
    sample::Samples,
    tls::{self, Trust},
};
use crate::{
    foreign::OtherReleases,
    source::{
        LastFailure,
        http::{self, Tls},
        shown,
        strata::{Paths, WeightedPath},
    },
};

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
    /// The paths of the requests, instead of that of the URL.
    pub paths: Vec<WeightedPath>,
}

/// The service that requests go to.
pub struct Service {
    pub(super) target: Target,
    /// What is asked there.
    pub(super) paths: Paths<Uri>,
    pub(super) naming: Naming,
    pub(super) headers: HeaderMap,
    pub(super) addresses: Addresses,
    pub(super) tls: Option<Tls>,
    pub(super) other_releases: OtherReleases,
    /// What answers hold that name no release.
    pub(super) unnamed: Samples,
    pub(super) failures: LastFailure,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Service {
    /// A service at `target`.
    ///
    /// # Errors
    /// If an option is invalid. The message never contains the value of a header, which may be a secret.
    pub fn new(target: Target, options: Options) -> Result<Self, String> {
        let Options { headers, naming, resolve, trust, paths } = options;
        naming.check()?;
        if let Some(other) = resolve.iter().find(|it| !target.is_at(&it.host, it.port)) {
            let (host, port) = (&other.host, other.port);
            return Err(format!("--resolve is for {host}:{port}, but requests go to {target}"));
        }
        let tls = target.origin.tls(|| tls::connector(&trust))?;
        let uri = |path: &str| {
            path.parse().map_err(|_| format!("--path {} is no path", shown::path_and_query(path)))
        };
        let paths = Paths::of(&paths, uri)?;
        if paths.is_some() && target.names_a_path() {
            return Err("--path cannot be used with a path in the URL".to_owned());
        }
        let paths = paths.unwrap_or_else(|| Paths::one(target.path.clone()));
        Ok(Self { paths, tls, ..Self::with(target, naming, http::headers("--header", &headers)?, &resolve) })
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
        Self {
            paths: Paths::one(target.path.clone()),
            target,
            naming,
            headers,
            addresses,
            tls: None,
            other_releases: OtherReleases::default(),
            unnamed: Samples::default(),
            failures: LastFailure::default(),
        }
    }
}

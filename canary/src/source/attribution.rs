//! The release that a request is attributed to.

use std::fmt;

use canary_judge::Release;
use serde::{Deserialize, Serialize};

/// The release that a request is attributed to, if any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Attribution {
    /// One of the two sides.
    Release(Release),
    /// A release with another name.
    Other(String),
    /// An answer that names no release, such as a proxy's 502.
    Unnamed,
    /// There was no answer.
    NoAnswer,
}

impl Attribution {
    /// The attribution of an answer that names `release`; `None` if it names no release.
    pub fn of_answer(release: Option<&str>) -> Self {
        match release {
            Some("stable") => Self::Release(Release::Stable),
            Some("canary") => Self::Release(Release::Canary),
            Some(other) => Self::Other(other.to_owned()),
            None => Self::Unnamed,
        }
    }

    /// Stable or canary; `None` for anything else.
    pub fn release(&self) -> Option<Release> {
        match self {
            Self::Release(release) => Some(*release),
            Self::Other(_) | Self::Unnamed | Self::NoAnswer => None,
        }
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(release) => release.fmt(f),
            Self::Other(name) => f.pad(name),
            Self::Unnamed => f.pad("unnamed"),
            Self::NoAnswer => f.pad("no answer"),
        }
    }
}

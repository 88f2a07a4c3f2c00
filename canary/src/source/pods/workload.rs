//! What the user names: workloads, a Service, and label selectors.

use std::{collections::BTreeMap, fmt, str::FromStr};

use canary_judge::Release;

use crate::source::probe::Target;

/// The labels of a pod.
pub(super) type Labels = BTreeMap<String, String>;

/// Where requests go: a URL, or the pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `http://HOST:PORT`.
    Url(Box<Target>),
    /// `KIND/NAME`, such as `deployment/shop`.
    Workload(Workload),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind =
            text.split_once('/').filter(|_| !text.contains("://")).and_then(|(kind, _)| Kind::of(kind));
        match kind {
            Some(_) => text.parse().map(Self::Workload),
            None => text.parse().map(|target| Self::Url(Box::new(target))).map_err(str::to_owned),
        }
    }
}

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    /// Of Argo Rollouts: both releases are pods of one object.
    Rollout,
    /// The canary is a part of its pods.
    Service,
}

impl Kind {
    /// The kind with this name, as kubectl knows it.
    fn of(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "deployment" | "deployments" | "deploy" => Self::Deployment,
            "statefulset" | "statefulsets" | "sts" => Self::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Self::DaemonSet,
            "replicaset" | "replicasets" | "rs" => Self::ReplicaSet,
            "rollout" | "rollouts" | "ro" => Self::Rollout,
            "service" | "services" | "svc" => Self::Service,
            _ => return None,
        })
    }

    /// The name in a manifest.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Rollout => "Rollout",
            Self::Service => "Service",
        }
    }

    /// The API group; empty for the core group.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::Rollout => "argoproj.io",
            Self::Service => "",
            _ => "apps",
        }
    }

    /// The name in paths and roles.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::ReplicaSet => "replicasets",
            Self::Rollout => "rollouts",
            Self::Service => "services",
        }
    }

    /// The path of all objects of this kind in a namespace.
    pub(super) fn path(self, namespace: &str) -> String {
        let root = if self == Self::Service { "api" } else { "apis" };
        format!("/{root}/{}/namespaces/{namespace}/{}", self.version(), self.resource())
    }

    /// The group and the version of its API.
    fn version(self) -> &'static str {
        match self {
            Self::Rollout => "argoproj.io/v1alpha1",
            Self::Service => "v1",
            _ => "apps/v1",
        }
    }

    /// That a cluster does not know this kind.
    pub(super) fn unknown(self) -> String {
        let hint = if self == Self::Rollout { ": is Argo Rollouts installed there?" } else { "" };
        format!("the cluster does not know the kind {} of {}{hint}", self.name(), self.version())
    }
}

/// A workload, as `deployment/shop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl Workload {
    /// Its path in the API.
    pub(super) fn path(&self, namespace: &str) -> String {
        format!("{}/{}", self.kind.path(namespace), self.name)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "want deployment/NAME, statefulset/NAME, daemonset/NAME, replicaset/NAME, rollout/NAME \
                              or service/NAME";
        let (kind, name) = text.split_once('/').ok_or(WANTED)?;
        let kind = Kind::of(kind).ok_or(WANTED)?;
        if !is_name(name) {
            return Err(format!(
                "{name:?} is not the name of a {}; a URL begins with http:// or https://",
                kind.name()
            ));
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name().to_ascii_lowercase(), self.name)
    }
}

/// Whether this may be the name of an object in Kubernetes (a DNS subdomain, RFC 1123). Such a name needs no escape in a
/// path.
pub(super) fn is_name(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 253
        && text.as_bytes().first().is_some_and(is_alphanumeric)
        && text.as_bytes().last().is_some_and(is_alphanumeric)
        && text.bytes().all(|byte| is_alphanumeric(&byte) || matches!(byte, b'-' | b'.'))
}

/// How a requirement compares a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    Missing,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::Missing => value.is_none(),
        }
    }
}

/// A label selector, as kubectl's `-l` takes it. All requirements must hold; there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// Whether pods with these labels are selected.
    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|one| one.matches(labels))
    }

    /// The selector with these values, and these expressions: key, operator, values. `None` if an operator is unknown, or
    /// if it would select all pods.
    pub(super) fn of(
        labels: impl IntoIterator<Item = (String, String)>,
        expressions: impl IntoIterator<Item = (String, String, Vec<String>)>,
    ) -> Option<Self> {
        let equal = labels
            .into_iter()
            .map(|(key, value)| Some(Requirement { key, operator: Operator::In, values: vec![value] }));
        let others = expressions.into_iter().map(|(key, operator, values)| {
            let operator = match operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::Missing,
                _ => return None,
            };
            Some(Requirement { key, operator, values })
        });
        let all: Vec<_> = equal.chain(others).collect::<Option<_>>()?;
        (!all.is_empty()).then_some(Self(all))
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("{text:?} is not a label selector: want LABEL=VALUE, as in track=canary");
        let is_key = |key: &str| {
            !key.is_empty() && key.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_./".contains(&it))
        };
        let is_value =
            |value: &str| value.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
        let one = |part: &str| {
            let part = part.trim();
            let set = |operator, word: &str| {
                let (key, rest) = part.split_once(word)?;
                let values = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
                Some((key, operator, values.split(',').collect::<Vec<_>>()))
            };
            let pair =
                |operator, sign: &str| part.split_once(sign).map(|(key, value)| (key, operator, vec![value]));
            let (key, operator, values) = set(Operator::NotIn, " notin ")
                .or_else(|| set(Operator::In, " in "))
                .or_else(|| pair(Operator::NotIn, "!="))
                .or_else(|| pair(Operator::In, "=="))
                .or_else(|| pair(Operator::In, "="))
                .or_else(|| part.strip_prefix('!').map(|key| (key, Operator::Missing, Vec::new())))
                .unwrap_or((part, Operator::Exists, Vec::new()));
            let key = key.trim().to_owned();
            let values: Vec<_> = values.into_iter().map(|value| value.trim().to_owned()).collect();
            let is_valid = is_key(&key) && values.iter().all(|value| is_value(value));
            is_valid.then_some(Requirement { key, operator, values })
        };
        let parts = outside_parentheses(text).into_iter().map(one).collect::<Option<Vec<_>>>();
        parts.map(Self).ok_or_else(wanted)
    }
}

/// The parts between the commas that are in no parentheses.
fn outside_parentheses(text: &str) -> Vec<&str> {
    let mut inside = false;
    let is_comma = |character: char| {
        inside = (inside || character == '(') && character != ')';
        character == ',' && !inside
    };
    text.split(is_comma).collect()
}

impl fmt::Display for Selector {
    /// In the form that the API takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Requirement { key, operator, values }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match (operator, values.as_slice()) {
                (Operator::In, [value]) => write!(f, "{comma}{key}={value}")?,
                (Operator::In, values) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                (Operator::NotIn, values) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
                (Operator::Exists, _) => write!(f, "{comma}{key}")?,
                (Operator::Missing, _) => write!(f, "{comma}!{key}")?,
            }
        }
        Ok(())
    }
}

/// Which of the listed pods belong to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Those that this workload owns.
    Owned(Workload, Release),
    /// Those of a Rollout with the hash of stable and of the canary. Both are the same where there is no canary.
    Hashes { rollout: String, stable: String, canary: String },
    /// The selected ones are the canary, and the others are stable.
    Selected(Selector),
}

/// The label with the hash of a Deployment's template.
const DEPLOYMENT_HASH: &str = "pod-template-hash";
/// The same for a Rollout.
const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";

impl Rule {
    /// The release of a pod with these labels and this owner (its kind and name).
    pub(super) fn release(&self, labels: &Labels, owner: Option<(&str, &str)>) -> Option<Release> {
        // selectors of two Deployments may overlap, so the owner decides
        let is_of = |name: &str, hash: &str| owner == Some(("ReplicaSet", &format!("{name}-{hash}")));
        match self {
            Self::Owned(workload, release) => {
                let is_its = match workload.kind {
                    Kind::Deployment => {
                        labels.get(DEPLOYMENT_HASH).is_some_and(|hash| is_of(&workload.name, hash))
                    }
                    kind => owner == Some((kind.name(), &workload.name)),
                };
                is_its.then_some(*release)
            }
            Self::Hashes { rollout, stable, canary } => {
                let hash = labels.get(ROLLOUT_HASH).filter(|hash| is_of(rollout, hash))?;
                if hash == stable {
                    return Some(Release::Stable);
                }
                (hash == canary).then_some(Release::Canary)
            }
            Self::Selected(canary) if canary.matches(labels) => Some(Release::Canary),
            Self::Selected(_) => Some(Release::Stable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        text.split(' ').filter_map(pair).collect()
    }

    #[test]
    fn a_place_is_a_workload_if_it_begins_with_a_kind_and_else_a_url() {
        for (text, shown) in [
            ("deployment/shop", "deployment/shop"),
            ("deploy/shop", "deployment/shop"),
            ("Deployments/shop.v2", "deployment/shop.v2"),
            ("sts/db", "statefulset/db"),
            ("ds/agent", "daemonset/agent"),
            ("rs/shop-5d8", "replicaset/shop-5d8"),
            ("rollout/shop", "rollout/shop"),
            ("svc/shop", "service/shop"),
        ] {
            let place: Place = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(matches!(&place, Place::Workload(it) if it.to_string() == shown), "{text}: {place:?}");
        }
        for text in
            ["http://deployment/shop", "shop.example/deployment/x", "127.0.0.1:8080", "deployment:80/shop"]
        {
            assert!(matches!(text.parse(), Ok(Place::Url(_))), "{text}");
        }
        for text in
            ["deployment/", "deployment/Shop", "deployment/a/b", "svc/a?b", "deploy/../secrets", "ds/-a"]
        {
            let error = text.parse::<Place>().expect_err(text);
            assert!(error.contains("a URL begins with http://"), "{error}");
        }
        assert!("shop".parse::<Workload>().is_err() && "pod/shop".parse::<Workload>().is_err());
    }

    #[test]
    fn a_selector_selects_as_kubectl_does_and_is_written_as_the_api_takes_it() {
        for (text, written, yes, no) in [
            ("track=canary", "track=canary", "track=canary a=b", "track=stable"),
            ("track==canary,a=b", "track=canary,a=b", "track=canary a=b", "track=canary"),
            ("track!=canary", "track notin (canary)", "a=b", "track=canary"),
            ("v in (2, 3),a", "v in (2,3),a", "v=3 a=", "v=3"),
            ("v notin (1,2)", "v notin (1,2)", "v=3", "v=2"),
            ("!old", "!old", "a=b", "old=yes"),
            ("app.kubernetes.io/name=a", "app.kubernetes.io/name=a", "app.kubernetes.io/name=a", "a=a"),
        ] {
            let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(selector.to_string(), written);
            assert!(selector.matches(&labels(yes)) && !selector.matches(&labels(no)), "{text}");
        }
        for bad in ["", "=a", "release=\"canary\"", "a=b&c", "a in b", "a,,b", "a in (b"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        let none = Selector::of([], []);
        assert_eq!(none, None, "a selector of nothing would select all pods of the namespace");
    }

    #[test]
    fn the_owner_tells_the_release_where_selectors_overlap() {
        let pod = labels("app=shop pod-template-hash=5d8");
        let of = |name: &str| Rule::Owned(name.parse().expect("a workload"), Release::Canary);
        let owner = Some(("ReplicaSet", "shop-canary-5d8"));
        assert_eq!(of("deployment/shop-canary").release(&pod, owner), Some(Release::Canary));
        assert_eq!(of("deployment/shop").release(&pod, owner), None);
        assert_eq!(of("deployment/shop-canary").release(&pod, None), None);
        assert_eq!(of("rs/shop-canary-5d8").release(&pod, owner), Some(Release::Canary));
        assert_eq!(of("sts/db").release(&pod, Some(("StatefulSet", "db"))), Some(Release::Canary));

        let rule = |stable: &str, canary: &str| Rule::Hashes {
            rollout: "shop".to_owned(),
            stable: stable.to_owned(),
            canary: canary.to_owned(),
        };
        let pod = labels("rollouts-pod-template-hash=b2");
        let owner = Some(("ReplicaSet", "shop-b2"));
        assert_eq!(rule("a1", "b2").release(&pod, owner), Some(Release::Canary));
        assert_eq!(rule("b2", "b2").release(&pod, owner), Some(Release::Stable), "there is no canary");
        assert_eq!(rule("a1", "c3").release(&pod, owner), None, "an older release");
        let selected = Rule::Selected("track=canary".parse().expect("a selector"));
        assert_eq!(selected.release(&labels("track=canary"), None), Some(Release::Canary));
        assert_eq!(selected.release(&labels("a=b"), None), Some(Release::Stable));
    }
}

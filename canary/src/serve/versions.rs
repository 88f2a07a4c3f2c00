//! Versions of the canary.
//!
//! Kubernetes gives all pods of one pod template the same hash. It is the label `pod-template-hash`, and part
//! of the pod's name, between the Deployment's name and the pod's random suffix, as in
//! `appinfo-canary-c66665c44-x2z4v`. The answers of a broken canary have no labels, so the name is used.
//!
//! Only such a hash tells a version. Other names (an address, a container's id, a `StatefulSet`'s pod) tell none, unless
//! the labels of the same pod or workload have told it before.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use serde::{Deserialize, Serialize};

use crate::{
    foreign::HASH_LABELS,
    foreign::{LABEL, bounded},
};
use appinfo::app_info::AppInfo;

/// The letters of hashes and random suffixes:
const SAFE_CHARACTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
/// The lengths of hashes. Shorter ones are rare: one in 5,000.
const HASH_LENGTHS: RangeInclusive<usize> = 6..=10;
/// The length of the random suffix of a pod's name.
const SUFFIX: usize = 5;
/// The maximum length of a generated pod name. Kubernetes cuts the part before the random suffix to fit.
const LONGEST_NAME: usize = 63;
/// The maximum number of known versions. Their names come from the service, and must not fill the memory.
const MOST_VERSIONS: usize = 256;

/// A version of the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Version(u64);

/// The versions that have answered, oldest first.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Versions {
    known: VecDeque<Known>,
    count: u64,
    /// Pods whose names tell no version, but whose labels have told one: by workload, or else by name.
    unhashed: BTreeMap<String, Version>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Known {
    version: Version,
    id: String,
    /// The hash in its pods' labels; `None` before there was one.
    label: Option<String>,
    /// The common prefix of its pods' names, which ends with a hash.
    prefix: Option<String>,
}

/// The version information of an answer.
#[derive(Clone, Copy, Debug)]
struct Marks<'a> {
    label: Option<&'a str>,
    name: Option<PodName<'a>>,
}

impl Versions {
    /// The version of this pod of the canary, if it can be determined. A new version is remembered.
    pub(super) fn of(&mut self, pod: Option<&str>, info: Option<&AppInfo>) -> Option<Version> {
        let label = info.and_then(|info| hash_label(&info.labels));
        self.of_marks(Marks { label, name: pod.map(PodName::parse) })
    }

    /// The version of this hash, which is remembered; `None` if the hash is empty.
    pub(super) fn of_hash(&mut self, hash: &str) -> Option<Version> {
        let hash = bounded(hash, LABEL);
        let label = Some(hash.as_str()).filter(|hash| !hash.is_empty());
        self.of_marks(Marks { label, name: None })
    }

    fn of_marks(&mut self, marks: Marks) -> Option<Version> {
        let unhashed = marks.name.filter(|name| name.hash.is_none());
        let version = match self.find(marks) {
            Some(known) => {
                known.learn(marks);
                Some(known.version)
            }
            None => self.add(marks),
        };
        let (Some(name), Some(version)) = (unhashed, version) else {
            return version.or_else(|| self.unhashed.get(unhashed?.prefix).copied());
        };
        if self.unhashed.get(name.prefix) != Some(&version) {
            if self.unhashed.len() >= MOST_VERSIONS {
                self.unhashed.pop_first();
            }
            self.unhashed.insert(name.prefix.to_owned(), version);
        }
        Some(version)
    }

    fn find(&mut self, Marks { label, name }: Marks) -> Option<&mut Known> {
        let name = name.filter(|name| name.hash.is_some());
        let prefix = name.map(|name| name.prefix);
        let by_prefix = |known: &Known| prefix.is_some() && known.prefix.as_deref() == prefix;
        let by_label = |known: &Known| known.label.is_some() && known.label.as_deref() == label;
        let position =
            match label {
                // a version with this prefix may have answered before, without labels
                Some(_) => self.known.iter().rposition(by_label).or_else(|| {
                    self.known.iter().rposition(|known| known.label.is_none() && by_prefix(known))
                }),
                None => self.known.iter().rposition(by_prefix).or_else(|| {
                    let hash = name.and_then(|name| name.hash);
                    self.known.iter().rposition(|known| hash.is_some() && known.label.as_deref() == hash)
                }),
            };
        position.and_then(|position| self.known.get_mut(position))
    }

    fn add(&mut self, marks: Marks) -> Option<Version> {
        let id = marks.id()?.to_owned();
        if self.known.len() == MOST_VERSIONS {
            self.known.pop_front();
        }
        let version = Version(self.count);
        self.count += 1;
        let mut known = Known { version, id, label: None, prefix: None };
        known.learn(marks);
        self.known.push_back(known);
        Some(version)
    }

    /// The version with this hash, or else with this prefix of pod names.
    pub(super) fn named(&self, id: &str) -> Option<Version> {
        let names = |known: &&Known| {
            known.id == id || known.label.as_deref() == Some(id) || known.prefix.as_deref() == Some(id)
        };
        self.known.iter().rev().find(names).map(|known| known.version)
    }

    /// Its name: the hash.
    pub(super) fn id(&self, version: Version) -> Option<&str> {
        self.known.iter().find(|known| known.version == version).map(|known| known.id.as_str())
    }
}

impl Known {
    fn learn(&mut self, Marks { label, name }: Marks) {
        if let Some(label) = label.filter(|_| self.label.is_none()) {
            self.label = Some(label.to_owned());
        }
        let name = name.filter(|name| name.hash.is_some() && self.prefix.as_deref() != Some(name.prefix));
        if let Some(name) = name {
            self.prefix = Some(name.prefix.to_owned());
        }
    }
}

impl<'a> Marks<'a> {
    fn id(self) -> Option<&'a str> {
        self.label.or_else(|| self.name?.hash)
    }
}

/// Whether a text looks like the hash of a pod template. Kubernetes writes a number of up to ten digits with these
/// characters (`SafeEncodeString` in k8s.io/apimachinery), so it has up to ten of them. A number of a build looks
/// like one only if it is as long as a hash, and has only the digits that hashes have.
pub(super) fn looks_like_a_hash(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number_of_hash = || text.len() >= 9 && text.bytes().all(|byte| byte >= b'4');
    is_random(text) && HASH_LENGTHS.contains(&text.len()) && (!is_number || is_number_of_hash())
}

/// The name of the workload of a pod: its name without Kubernetes' suffix or number, if it has one.
pub(super) fn workload(pod: &str) -> Option<&str> {
    Some(PodName::parse(pod).prefix).filter(|prefix| !prefix.is_empty() && *prefix != pod)
}

fn hash_label(labels: &BTreeMap<String, String>) -> Option<&str> {
    let mut hashes = HASH_LABELS.iter().filter_map(|key| labels.get(*key));
    hashes.find(|hash| !hash.is_empty()).map(String::as_str)
}

/// The version information in a pod's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PodName<'a> {
    /// The common prefix of a template's pods: the name without its random suffix or number.
    prefix: &'a str,
    /// The template's hash, if the name has one.
    hash: Option<&'a str>,
}

impl<'a> PodName<'a> {
    fn parse(name: &'a str) -> Self {
        match name.rsplit_once('-') {
            Some((prefix, suffix)) if is_random(suffix) && suffix.len() == SUFFIX => {
                let hash = prefix.rsplit_once('-').map(|(_, hash)| hash);
                Self {
                    prefix,
                    hash: hash.filter(|hash| is_random(hash) && HASH_LENGTHS.contains(&hash.len())),
                }
            }
            Some((prefix, number))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Self { prefix, hash: None }
            }
            _ => Self { prefix: without_cut_suffix(name).unwrap_or(name), hash: None },
        }
    }
}

/// A long name is cut, including the hyphen, and the suffix follows directly.
fn without_cut_suffix(name: &str) -> Option<&str> {
    let (prefix, suffix) = name.split_at_checked(name.len().checked_sub(SUFFIX)?)?;
    (name.len() == LONGEST_NAME && is_random(suffix)).then_some(prefix)
}

fn is_random(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|it| SAFE_CHARACTERS.contains(it))
}

#[cfg(test)]
mod tests {
    use appinfo::labels::Labels;

    use super::*;

    fn of(versions: &mut Versions, pod: &str, labels: Option<&str>) -> Version {
        let info = labels.map(|labels| AppInfo::new("", "", &Labels::parse(labels.as_bytes())));
        versions.of(Some(pod), info.as_ref()).expect("a version")
    }

    #[test]
    fn a_name_is_split_as_kubernetes_puts_it_together() {
        let long = "a-service-whose-name-is-as-long-as-a-name-may-be-567b98997x2z4v";
        assert_eq!(long.len(), LONGEST_NAME);
        for (name, prefix, hash) in [
            ("appinfo-canary-c66665c44-x2z4v", "appinfo-canary-c66665c44", Some("c66665c44")),
            ("appinfo-canary-x2z4v", "appinfo-canary", None),
            ("appinfo-canary-fixed", "appinfo-canary-fixed", None),
            ("web-12", "web", None),
            ("web", "web", None),
            ("", "", None),
            (long, &long[..58], None),
        ] {
            assert_eq!(PodName::parse(name), PodName { prefix, hash }, "{name}");
        }
    }

    #[test]
    fn pods_of_one_template_are_one_version_whether_they_tell_labels_or_not() {
        let mut versions = Versions::default();
        let broken = of(&mut versions, "appinfo-canary-c66665c44-x2z4v", None);
        assert_eq!(of(&mut versions, "appinfo-canary-c66665c44-bbbbb", None), broken);
        let label = Some("pod-template-hash=c66665c44");
        assert_eq!(of(&mut versions, "appinfo-canary-c66665c44-x2z4v", label), broken);
        assert_eq!(versions.id(broken), Some("c66665c44"));
        assert_eq!(versions.named("c66665c44"), Some(broken));
        assert_eq!(versions.named("appinfo-canary-c66665c44"), Some(broken));

        let fixed =
            of(&mut versions, "appinfo-canary-744f96dc75-x2z4v", Some("pod-template-hash=744f96dc75"));
        assert_ne!(fixed, broken);
        assert_eq!(of(&mut versions, "appinfo-canary-744f96dc75-ccccc", None), fixed);
    }

    #[test]
    fn a_label_that_is_not_in_the_name_is_learnt() {
        let mut versions = Versions::default();
        let one = of(&mut versions, "appinfo-567b989978-vvzlg", None);
        assert_eq!(of(&mut versions, "appinfo-567b989978-vvzlg", Some("pod-template-hash=1236545534")), one);
        assert_eq!(versions.named("1236545534"), Some(one));
    }

    #[test]
    fn pods_that_are_numbered_are_told_apart_by_label() {
        let mut versions = Versions::default();
        let one = of(&mut versions, "web-0", Some("controller-revision-hash=web-1"));
        let two = of(&mut versions, "web-0", Some("controller-revision-hash=web-2"));
        assert_ne!(one, two);
        assert_eq!(of(&mut versions, "web-1", None), two, "of the newest that has such names");
        assert_eq!(of(&mut versions, "web-1", Some("controller-revision-hash=web-1")), one);
    }

    #[test]
    fn names_that_kubernetes_has_not_made_tell_no_version() {
        let mut versions = Versions::default();
        for name in [
            "3f4e9c8ab1d2",
            "10.0.0.5:8080",
            "ip-10-0-0-5",
            "cache-lhr6316-LHR",
            "550e8400-e29b-41d4-a716-446655440000",
            "appinfo-canary",
            "appinfo-canary-x2z4v",
            "web-0",
            "",
        ] {
            assert_eq!(versions.of(Some(name), None), None, "{name}");
        }
        let one = of(&mut versions, "10.0.0.5:8080", Some("pod-template-hash=c66665c44"));
        assert_eq!(of(&mut versions, "10.0.0.5:8080", None), one, "its labels have told it before");
        assert_eq!(versions.of(Some("10.0.0.6:8080"), None), None);
    }

    #[test]
    fn a_hash_is_told_from_the_name_of_a_build() {
        for hash in ["c66665c44", "744f96dc75", "567b989978", "6669b9d759", "dcf8f8cb5", "5555555555"] {
            assert!(looks_like_a_hash(hash), "{hash}");
        }
        for name in ["build-7", "20261129", "456789", "1236545534", "canary", "v2", "c66665c44-x2z4v", ""] {
            assert!(!looks_like_a_hash(name), "{name}");
        }
    }

    #[test]
    fn an_argo_hash_comes_before_any_other() {
        let mut versions = Versions::default();
        let labels = Some("pod-template-hash=a\nrollouts-pod-template-hash=b");
        let one = of(&mut versions, "appinfo-b-x2z4v", labels);
        assert_eq!(versions.id(one), Some("b"));
    }

    #[test]
    fn an_answer_that_tells_neither_pod_nor_labels_is_of_no_known_version() {
        assert_eq!(Versions::default().of(None, None), None);
    }

    #[test]
    fn old_versions_are_forgotten_before_they_fill_the_memory() {
        let mut versions = Versions::default();
        for number in 0..=MOST_VERSIONS {
            let hash = format!("pod-template-hash=version{number}");
            of(&mut versions, &format!("10.0.0.{number}:80"), Some(&hash));
        }
        assert_eq!((versions.known.len(), versions.unhashed.len()), (MOST_VERSIONS, MOST_VERSIONS));
        assert_eq!(versions.named("version0"), None);
    }
}

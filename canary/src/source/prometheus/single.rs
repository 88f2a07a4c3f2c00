//! Whether counters are those of single pods. If a gateway counts the requests of all pods, nothing tells the pods.

use std::collections::HashMap;

use super::{
    counters::Quantity,
    round::{Found, safe, target},
};
use crate::foreign::{LABEL, bounded};
use canary_judge::Release;

/// The samples of a pod's series at one target.
struct Pod<'a> {
    release: Release,
    label: Option<&'a String>,
    first: f64,
    last: f64,
}

/// Why they are not, if they are not: a series does not tell its target, or a target has those of several pods at once. (One
/// after the other may have the same address.)
pub(super) fn why_not(found: &[Found]) -> Option<String> {
    let mut targets: HashMap<String, Vec<Pod<'_>>> = HashMap::new();
    let of_requests = found.iter().filter(|(kind, ..)| kind.quantity == Quantity::Requests);
    for (release, series) in of_requests.flat_map(|(kind, _, all)| all.iter().map(|one| (kind.release, one)))
    {
        let Some(target) = target(&series.labels) else {
            return Some(format!("no label instance tells which pod counts {}", safe(&series.labels)));
        };
        let (Some((first, _)), Some((last, _))) = (series.samples.first(), series.samples.last()) else {
            continue;
        };
        let label = series.labels.get("pod");
        let pods = targets.entry(target).or_default();
        let of_other = |pod: &&Pod<'_>| (pod.release, pod.label) != (release, label);
        let at_once = |pod: &&Pod<'_>| pod.first.max(*first) < pod.last.min(*last);
        if let Some(other) = pods.iter().filter(of_other).find(at_once) {
            let instance = bounded(series.labels.get("instance").map_or("", String::as_str), LABEL);
            return Some(if other.release == release {
                format!("{instance} counts the requests of several pods")
            } else {
                format!("{instance} counts the requests of both releases, as a gateway does")
            });
        }
        match pods.iter_mut().find(|pod| (pod.release, pod.label) == (release, label)) {
            Some(pod) => (pod.first, pod.last) = (pod.first.min(*first), pod.last.max(*last)),
            None => pods.push(Pod { release, label, first: *first, last: *last }),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::source::prometheus::{counters::Kind, samples::RawSeries};

    const STABLE: Kind = Kind { release: Release::Stable, quantity: Quantity::Requests };
    const CANARY: Kind = Kind { release: Release::Canary, quantity: Quantity::Requests };

    fn found(kind: Kind, labels: &[(&str, &str)], last: f64) -> Found {
        let labels: BTreeMap<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        (kind, String::new(), vec![RawSeries { labels, samples: vec![(last - 10.0, 1.0), (last, 2.0)] }])
    }

    #[test]
    fn each_target_is_a_pod() {
        let (one, two) = ([("instance", "a:80"), ("job", "pods")], [("instance", "b:80"), ("job", "pods")]);
        let status = [("instance", "a:80"), ("job", "pods"), ("status", "500")];
        let all = [found(STABLE, &one, 100.0), found(STABLE, &status, 100.0), found(CANARY, &two, 105.0)];
        assert_eq!(why_not(&all), None);
    }

    #[test]
    fn counters_of_a_gateway_and_of_recording_rules_do_not_tell_the_pods() {
        let of_both = [("instance", "gateway:80"), ("job", "gateways")];
        let all = [found(STABLE, &of_both, 100.0), found(CANARY, &of_both, 100.0)];
        let why = why_not(&all).expect("one counts both");
        assert_eq!(why, "gateway:80 counts the requests of both releases, as a gateway does");

        let pods = ["one", "two"].map(|pod| [("instance", "exporter:80"), ("pod", pod)]);
        let why = why_not(&pods.map(|labels| found(STABLE, &labels, 100.0))).expect("one counts two pods");
        assert_eq!(why, "exporter:80 counts the requests of several pods");

        let why = why_not(&[found(CANARY, &[("release", "canary")], 100.0)]).expect("nothing tells the pod");
        assert_eq!(why, "no label instance tells which pod counts {release=\"canary\"}");
    }

    #[test]
    fn a_pod_may_get_the_address_of_one_that_has_ended() {
        let address = [("instance", "a:80"), ("job", "pods")];
        for (old, new) in [(STABLE, CANARY), (CANARY, STABLE)] {
            assert_eq!(why_not(&[found(old, &address, 60.0), found(new, &address, 100.0)]), None);
            assert_eq!(why_not(&[found(old, &address, 100.0), found(new, &address, 60.0)]), None);
            // a scrape may come between two queries
            assert!(why_not(&[found(old, &address, 100.0), found(new, &address, 105.0)]).is_some());
        }
    }
}

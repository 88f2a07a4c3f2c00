//! What the pods were asked for: for the verdict, and for a message if the first answers show a mistake in the flags.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use super::objects::Endpoint;
use crate::{
    foreign,
    source::{
        Asked, Observation, Response,
        probe::{EXAMINED, all_have},
        shown,
    },
};

/// The most places that are named.
const MOST_PLACES: usize = 8;

/// Where pods were asked. All requests of a run share it.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    places: BTreeSet<Place>,
    /// Whether there are more.
    more: bool,
    /// The other ports of a pod that was asked, in words; empty if there is none.
    other_ports: String,
}

/// A place that was asked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    port: u16,
    tls: bool,
    /// Without secrets, and not too long.
    path: String,
    is_of_probe: bool,
}

impl Place {
    fn of(endpoint: &Endpoint, path: &str) -> Self {
        let path = foreign::bounded(&shown::path_and_query(path), foreign::STRATUM);
        let Endpoint { port, tls, path_is_of_probe, .. } = *endpoint;
        Self { port, tls, path, is_of_probe: path_is_of_probe }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, tls, path, .. } = self;
        write!(f, "port {port}{}, path {path}", if *tls { " by HTTPS" } else { "" })
    }
}

impl Places {
    /// Notes that a pod was asked there for this path.
    pub(super) fn see(&self, endpoint: &Endpoint, path: &str) {
        let place = Place::of(endpoint, path);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.places.len() == MOST_PLACES && !known.places.contains(&place) {
            known.more = true;
            return;
        }
        known.places.insert(place);
        if known.other_ports.is_empty() {
            known.other_ports.clone_from(&endpoint.other_ports);
        }
    }

    /// What was asked; `None` if nothing was.
    pub(super) fn asked(&self) -> Option<Asked> {
        const ADVICE: &str = "That does not show whether users get answers: ask what they ask, with --path, and with \
                              --port if it is at another port";
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { places, more, .. } = &*known;
        if places.is_empty() {
            return None;
        }
        let only_probe = !more && places.iter().all(|place| place.is_of_probe);
        let of_probe = |place: &Place| if place.is_of_probe { " (of the readiness probe)" } else { "" };
        let text = if only_probe {
            format!("Only the path of the readiness probe was asked ({}). {ADVICE}.", known.listed(|_| ""))
        } else if places.iter().any(|place| place.is_of_probe) {
            let listed = known.listed(of_probe);
            format!("Asked: {listed}. The path of the readiness probe is among them. {ADVICE}.")
        } else {
            format!("Asked: {}.", known.listed(|_| ""))
        };
        Some(Asked { only_probe, text })
    }

    /// What to try if all answers have this status; `None` if the status shows no mistake in the flags.
    fn advice(&self, status: u16) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = known.listed(|_| "");
        let others = match known.other_ports.as_str() {
            "" => "the containers name no other port".to_owned(),
            others => format!("the containers also have the {others}"),
        };
        Some(match status {
            400 if known.places.iter().all(|place| !place.tls) => {
                format!(
                    "is it a port for HTTPS ({asked})? Only a readiness probe with the scheme HTTPS says so"
                )
            }
            401 | 403 => "do the pods want a --header?".to_owned(),
            404 | 405 => {
                format!("is that the right place ({asked})? --path and --port set another; {others}")
            }
            300..400 => {
                format!(
                    "redirects are not followed. Is that the right place ({asked})? --path and --port set another; {others}"
                )
            }
            _ => return None,
        })
    }
}

impl Known {
    fn listed(&self, mark: impl Fn(&Place) -> &'static str) -> String {
        let mut all: Vec<_> = self.places.iter().map(|place| format!("{place}{}", mark(place))).collect();
        if self.more {
            all.push("and others".to_owned());
        }
        all.join("; ")
    }
}

/// The first answers, as far as they may show a mistake in the flags.
#[derive(Debug, Default)]
pub(super) struct FirstAnswers {
    seen: u64,
    /// The status of all answers so far, if they have the same.
    status: Option<u16>,
}

impl FirstAnswers {
    /// Examines a result. After enough answers, returns the mistake that they show, if any.
    pub(super) fn examine(&mut self, observation: &Observation, places: &Places) -> Option<String> {
        let Response::Answer(answer) = &observation.response else { return None };
        self.status = answer.status.filter(|_| self.seen == 0 || self.status == answer.status);
        self.seen += 1;
        let status = self.status.filter(|status| self.seen == EXAMINED && !(200..300).contains(status))?;
        let advice = places.advice(status)?;
        Some(shown::text(&format!("{EXAMINED} answers, {}: {advice}", all_have(status))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use canary_judge::{Outcome, Release};

    use super::*;
    use crate::source::{Answer, Attribution};

    fn endpoint(port: u16, path_is_of_probe: bool) -> Endpoint {
        let mut endpoint = Endpoint::default();
        endpoint.port = port;
        endpoint.path_is_of_probe = path_is_of_probe;
        "port 8080 (http)".clone_into(&mut endpoint.other_ports);
        endpoint
    }

    fn text(places: &Places) -> String {
        places.asked().expect("something was asked").text
    }

    #[test]
    fn what_was_asked_is_named_and_that_it_was_only_the_readiness_probe() {
        let places = Places::default();
        assert_eq!(places.asked(), None);
        places.see(&endpoint(8081, true), "/readyz");
        let advice = "That does not show whether users get answers: ask what they ask, with --path, and with --port if it is \
                      at another port.";
        let only =
            format!("Only the path of the readiness probe was asked (port 8081, path /readyz). {advice}");
        assert_eq!(places.asked(), Some(Asked { only_probe: true, text: only }));
        places.see(&endpoint(8080, false), "/");
        assert_eq!(
            text(&places),
            format!(
                "Asked: port 8080, path /; port 8081, path /readyz (of the readiness probe). The path of the readiness probe \
                 is among them. {advice}"
            )
        );
        assert!(places.asked().is_some_and(|asked| !asked.only_probe));

        let places = Places::default();
        let mut by_https = endpoint(8443, false);
        by_https.tls = true;
        places.see(&by_https, "/cart?token=S3CRET");
        let asked =
            Asked { only_probe: false, text: "Asked: port 8443 by HTTPS, path /cart?token=***.".to_owned() };
        assert_eq!(places.asked(), Some(asked));
        for number in 0..1000 {
            places.see(&endpoint(8080, false), &format!("/{number}{}", "x".repeat(1000)));
        }
        let text = text(&places);
        assert!(text.len() < 2000 && text.ends_with("; and others."), "{text}");
    }

    #[test]
    fn twenty_answers_with_the_same_status_of_failure_show_a_mistake_and_name_the_other_ports() {
        let told = |statuses: &dyn Fn(u64) -> u16| {
            let (mut first, places) = (FirstAnswers::default(), Places::default());
            let mut all = (0..60).filter_map(|number| {
                places.see(&endpoint(8081, false), "/v1/appinfo");
                let response = Response::Answer(Answer {
                    attribution: Attribution::Release(Release::BOTH[usize::from(number % 2 == 0)]),
                    outcome: Outcome::Failure,
                    status: Some(statuses(number)),
                    latency: None,
                    pod: None,
                    info: None,
                });
                let sent = Instant::now();
                let observation = Observation { number, sent, started: None, stratum: None, response };
                Some((number, first.examine(&observation, &places)?))
            });
            let (told, more) = (all.next(), all.next());
            assert_eq!(more, None, "it is told once");
            told
        };
        let wrong = "20 answers, all have the status 404 Not Found: is that the right place (port 8081, path /v1/appinfo)? \
                     --path and --port set another; the containers also have the port 8080 (http)";
        assert_eq!(told(&|_| 404), Some((19, wrong.to_owned())));
        assert!(told(&|_| 301).is_some_and(|(_, text)| text.contains("redirects are not followed")));
        assert!(told(&|_| 400).is_some_and(|(_, text)| text.contains("a port for HTTPS (port 8081")));
        assert!(told(&|_| 403).is_some_and(|(_, text)| text.ends_with("do the pods want a --header?")));
        assert_eq!(told(&|_| 500), None, "that is no mistake in the flags");
        assert_eq!(told(&|_| 200), None);
        assert_eq!(told(&|number| if number == 7 { 200 } else { 404 }), None);
    }
}

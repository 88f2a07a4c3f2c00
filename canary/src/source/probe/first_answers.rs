//! Notices whether the first answers show a mistake in the flags.

use hyper::StatusCode;

use super::Service;
use crate::source::{Attribution, Observation, Response};

/// The number of answers that are examined.
const EXAMINED: u64 = 20;

/// The first answers of a service.
#[derive(Debug)]
pub(super) struct FirstAnswers {
    url: String,
    tls: bool,
    release_header: String,
    seen: u64,
    named: bool,
    /// The status of all answers so far, if they have the same.
    status: Option<u16>,
}

impl FirstAnswers {
    pub(super) fn of(service: &Service) -> Self {
        Self {
            url: service.target.to_string(),
            tls: service.tls.is_some(),
            release_header: service.naming.release_header.to_string(),
            seen: 0,
            named: false,
            status: None,
        }
    }

    /// Examines a result. After enough answers, returns the mistake that they show, if any.
    pub(super) fn examine(&mut self, observation: &Observation) -> Option<String> {
        let Response::Answer(answer) = &observation.response else { return None };
        if self.seen == EXAMINED {
            return None;
        }
        self.status = answer.status.filter(|_| self.seen == 0 || self.status == answer.status);
        self.named |= answer.attribution != Attribution::Unnamed;
        self.seen += 1;
        if self.seen == EXAMINED { self.mistake() } else { None }
    }

    fn mistake(&self) -> Option<String> {
        let Self { url, release_header, seen, .. } = self;
        let failed = self.status.filter(|status| !(200..300).contains(status));
        let hint = match failed {
            Some(400) if !self.tls => format!("is {url} a port for https://?"),
            Some(401 | 403) => "does the service want a --header, such as Authorization?".to_owned(),
            Some(404 | 405) => format!("is {url} the right path?"),
            Some(300..400) => format!("redirects are not followed: is {url} the right URL?"),
            _ if !self.named => format!("see --release-header and {url}"),
            _ => return None,
        };
        let status = failed.map(|status| {
            let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            format!("all have the status {status} {}", reason.unwrap_or_default()).trim_end().to_owned()
        });
        let unnamed = (!self.named).then(|| format!("none has {release_header}"));
        let facts: Vec<_> = status.into_iter().chain(unnamed).collect();
        Some(format!("{seen} answers, {}: {hint}", facts.join(", and ")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use canary_judge::Outcome;

    use super::*;
    use crate::source::{Answer, probe::Options};

    /// The hints on answers with these statuses, of which one of `named` names a release.
    fn hints(url: &str, statuses: &[u16], named: impl Fn(usize) -> bool) -> Vec<String> {
        let service = Service::new(url.parse().expect("a URL"), Options::default()).expect("a service");
        let mut first = FirstAnswers::of(&service);
        let answers = statuses.iter().enumerate().map(|(number, &status)| Answer {
            attribution: Attribution::of_answer(named(number).then_some("stable")),
            outcome: Outcome::Success,
            status: Some(status),
            latency: None,
            pod: None,
            info: None,
        });
        let observed = answers.map(|answer| Observation {
            number: 0,
            sent: Instant::now(),
            response: Response::Answer(answer),
        });
        observed.filter_map(|observation| first.examine(&observation)).collect()
    }

    #[test]
    fn a_mistake_is_told_once_after_20_answers() {
        let url = "http://shop:8080";
        for (statuses, named, told) in [
            (
                &[200; 50][..],
                false,
                "20 answers, none has x-release: see --release-header and http://shop:8080/v1/appinfo",
            ),
            (
                &[404; 50],
                false,
                "20 answers, all have the status 404 Not Found, and none has x-release: is \
                 http://shop:8080/v1/appinfo the right path?",
            ),
            (
                &[404; 20],
                true,
                "20 answers, all have the status 404 Not Found: is http://shop:8080/v1/appinfo the right path?",
            ),
            (
                &[400; 20],
                false,
                "20 answers, all have the status 400 Bad Request, and none has x-release: is \
                 http://shop:8080/v1/appinfo a port for https://?",
            ),
            (
                &[502; 20],
                false,
                "20 answers, all have the status 502 Bad Gateway, and none has x-release: see --release-header and \
                 http://shop:8080/v1/appinfo",
            ),
        ] {
            assert_eq!(hints(url, statuses, |_| named), [told]);
        }
    }

    #[test]
    fn answers_that_fit_give_no_hint() {
        let url = "http://shop:8080";
        assert!(hints(url, &[200; 50], |number| number == 19).is_empty(), "one names a release");
        assert!(hints(url, &[200; 19], |_| false).is_empty(), "too few answers");
        assert!(hints(url, &[500; 50], |_| true).is_empty(), "a broken service");
        let mixed: Vec<_> = (0..50).map(|number| if number % 2 == 0 { 404 } else { 200 }).collect();
        assert!(hints(url, &mixed, |_| true).is_empty(), "some are good");
    }
}

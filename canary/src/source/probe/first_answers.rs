//! Notices whether the answers show a mistake in the flags: after the first ones, and at the end.

use std::{collections::BTreeSet, sync::Arc};

use canary_judge::Release;
use hyper::StatusCode;

use super::{
    NameFrom, ReleaseFrom, Service,
    sample::{Sample, argument},
};
use crate::{
    foreign::bounded,
    source::{Attribution, Observation, Response},
};

/// The number of answers after which a mistake is told.
pub(in crate::source) const EXAMINED: u64 = 20;
/// The most names of other releases that a message has.
const MOST_OTHERS: usize = 3;
/// The longest name of one that a message has, in bytes.
const LONGEST: usize = 63;

/// The answers of a service so far.
#[derive(Debug)]
pub(super) struct FirstAnswers {
    service: Arc<Service>,
    seen: u64,
    /// How many of them named no release.
    unnamed: u64,
    /// The sides that were named.
    sides: BTreeSet<Release>,
    /// Names of releases that are none of the sides. If pods tell the release, these are names of pods.
    others: BTreeSet<String>,
    /// The status of all answers so far, if they have the same.
    status: Option<u16>,
}

impl FirstAnswers {
    pub(super) fn of(service: &Arc<Service>) -> Self {
        Self {
            service: Arc::clone(service),
            seen: 0,
            unnamed: 0,
            sides: BTreeSet::new(),
            others: BTreeSet::new(),
            status: None,
        }
    }

    /// Examines a result. After enough answers, returns the mistake that they show, if any.
    pub(super) fn examine(&mut self, observation: &Observation) -> Option<String> {
        let Response::Answer(answer) = &observation.response else { return None };
        self.status = answer.status.filter(|_| self.seen == 0 || self.status == answer.status);
        self.seen += 1;
        match &answer.attribution {
            Attribution::Release(release) => {
                self.sides.insert(*release);
            }
            Attribution::Other(_) if self.others.len() > MOST_OTHERS => {} // more are not told
            Attribution::Other(name) => {
                let by_pods = self.service.naming.release == ReleaseFrom::Pod;
                let name = if by_pods { answer.pod.as_deref().unwrap_or(name) } else { name };
                self.others.insert(bounded(name, LONGEST));
            }
            Attribution::Unnamed => self.unnamed += 1,
            Attribution::NoAnswer => {}
        }
        if self.seen == EXAMINED { self.mistake(self.sides.is_empty()) } else { None }
    }

    /// The mistake that all answers so far show, if any.
    pub(super) fn hint(&self) -> Option<String> {
        self.mistake(self.sides.len() < Release::BOTH.len())
    }

    /// `others_matter` if a release that is none of the sides may be a side with another name.
    fn mistake(&self, others_matter: bool) -> Option<String> {
        let Self { service, seen, .. } = self;
        let url = &service.target;
        let failed = self.status.filter(|status| !(200..300).contains(status));
        let is_named = !self.sides.is_empty() || !self.others.is_empty();
        let hint = match failed {
            Some(400) if service.tls.is_none() => format!(": is {url} a port for https://?"),
            Some(401 | 403) => ": does the service want a --header, such as Authorization?".to_owned(),
            Some(404 | 405) => format!(": is {url} the right path?"),
            Some(300..400) => format!(": redirects are not followed: is {url} the right URL?"),
            _ if *seen == 0 => return None,
            _ if !is_named => self.what_answers_hold(),
            _ if others_matter && !self.others.is_empty() => self.which_is_which(),
            _ => return self.unreadable(),
        };
        let status = failed.map(all_have);
        let unnamed = (!is_named).then(|| match &service.naming.release {
            ReleaseFrom::Pod => none_has(&service.naming.pod),
            ReleaseFrom::Answer(from) => none_has(from),
        });
        let facts: Vec<_> = status.into_iter().chain(unnamed).collect();
        let facts = if facts.is_empty() { String::new() } else { format!(", {}", facts.join(", and ")) };
        Some(format!("{seen} answers{facts}{hint}"))
    }

    /// That some answers cannot be read, if other ones name a release.
    fn unreadable(&self) -> Option<String> {
        let why = self.service.unnamed.get()?.why?;
        Some(format!("{} of {} answers name no release: {why}", self.unnamed, self.seen))
    }

    /// What an answer without a release holds, and what to try.
    fn what_answers_hold(&self) -> String {
        let url = &self.service.target;
        let Some(Sample { why, holds, release_from, .. }) = self.service.unnamed.get() else {
            return format!(": see --release-from and {url}");
        };
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let used = match &self.service.naming.release {
            ReleaseFrom::Pod => String::new(),
            ReleaseFrom::Answer(from) => from.to_string(),
        };
        let what_to_do = match release_from.filter(|from| *from != used) {
            Some(from) => format!(
                "try this URL with --release-from {}, and its values by --stable-value and --canary-value",
                argument(&from)
            ),
            None => "if a part of it tells the release, name it by --release-from".to_owned(),
        };
        format!("{why}. An answer of {url} has {holds}: {what_to_do}")
    }

    /// The names of releases that are none of the sides, and what to do about them.
    fn which_is_which(&self) -> String {
        let more = if self.others.len() > MOST_OTHERS { ", ..." } else { "" };
        let others: Vec<_> = self.others.iter().take(MOST_OTHERS).map(String::as_str).collect();
        let others = format!("{}{more}", others.join(", "));
        match (self.sides.contains(&Release::Stable), self.sides.contains(&Release::Canary)) {
            (true, false) => {
                format!(", and some name {others}: if that is the canary, say so by --canary-value")
            }
            (false, true) => format!(", and some name {others}: if that is stable, say so by --stable-value"),
            _ => format!(" name {others}: say which is which by --stable-value and --canary-value"),
        }
    }
}

/// That all answers have this status.
pub(in crate::source) fn all_have(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("all have the status {status} {}", reason.unwrap_or_default()).trim_end().to_owned()
}

/// That no answer has a name in this place.
fn none_has(from: &NameFrom) -> String {
    match from {
        NameFrom::Header(name) => format!("none has {name}"),
        from => format!("none has a name at {from}"),
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
        let mut first = FirstAnswers::of(&Arc::new(service));
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
            started: None,
            stratum: None,
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
                "20 answers, none has x-release: see --release-from and http://shop:8080/v1/appinfo",
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
                "20 answers, all have the status 502 Bad Gateway, and none has x-release: see --release-from and \
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

    #[test]
    fn names_that_fit_no_side_are_told() {
        let observed = |release: &str, number| Observation {
            number,
            sent: Instant::now(),
            started: None,
            stratum: None,
            response: Response::Answer(Answer {
                attribution: Attribution::of_answer(Some(release)),
                outcome: Outcome::Success,
                status: Some(200),
                latency: None,
                pod: None,
                info: None,
            }),
        };
        let after = |releases: &[&str]| {
            let service =
                Service::new("shop".parse().expect("a URL"), Options::default()).expect("a service");
            let mut first = FirstAnswers::of(&Arc::new(service));
            let releases = (0..30).zip(releases.iter().cycle());
            let told: Vec<_> =
                releases.filter_map(|(number, release)| first.examine(&observed(release, number))).collect();
            (told, first.hint())
        };
        let which = "name 1, 2: say which is which by --stable-value and --canary-value";
        assert_eq!(
            after(&["1", "2"]),
            (vec![format!("20 answers {which}")], Some(format!("30 answers {which}")))
        );
        let hint = "30 answers, and some name 2: if that is the canary, say so by --canary-value";
        assert_eq!(after(&["stable", "2"]), (vec![], Some(hint.to_owned())), "the canary may come");
        let hint = "30 answers, and some name 1: if that is stable, say so by --stable-value";
        assert_eq!(after(&["1", "canary"]), (vec![], Some(hint.to_owned())));
        assert_eq!(after(&["stable", "canary", "3"]), (vec![], None), "a third release");
        let many = after(&["1", "2", "3", "4", "5"]).1.expect("a hint");
        assert!(many.starts_with("30 answers name 1, 2, 3, ...: say"), "{many}");
    }
}

//! The strata into which requests are divided, such as paths: their names, their totals, and the batch of each that is open.

use std::{cmp::Reverse, mem};

use serde::{Deserialize, Serialize};

use crate::{Batch, Counts, Outcome, Release, batch::BatchLength, scrapes::Window};

/// The most strata that have a name. All that come later are one stratum together.
const MOST: usize = 64;

/// A batch has about this many answers of the release that answers less. A stratum has only a part of the requests, so its
/// batches are short: those of all strata together show a canary that always fails.
const ANSWERS: f64 = 2.0;

/// The strata, in the order in which they appeared.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Strata {
    strata: Vec<Stratum>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Stratum {
    /// `None` for the stratum of all requests that name none, or one that comes after [`MOST`] others.
    pub(crate) name: Option<String>,
    /// What is judged of it.
    pub(crate) judged: Batch,
    /// What waits for the open batch of all strata together.
    waiting: Batch,
    /// Its own open batch.
    open: Batch,
    length: BatchLength,
    /// The number of requests in the open batch so far, and the number at which it is complete.
    requests: (u64, u64),
    /// Whether there was an incident of the whole service during the open batch.
    has_incident: bool,
}

/// A batch of a stratum that is complete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Complete {
    pub(crate) stratum: usize,
    pub(crate) batch: Batch,
    /// Whether there was an incident of the whole service during it.
    pub(crate) has_incident: bool,
}

impl Stratum {
    fn new(name: Option<&str>) -> Self {
        let length = BatchLength::UNKNOWN;
        Self {
            name: name.map(str::to_owned),
            judged: Batch::default(),
            waiting: Batch::default(),
            open: Batch::default(),
            length,
            requests: (0, length.requests_with(ANSWERS)),
            has_incident: false,
        }
    }

    /// What was counted of it.
    pub(crate) fn counted(&self) -> Batch {
        let mut all = self.judged;
        all += self.waiting;
        all
    }

    /// Ends the open batch. Its next one has a length that depends on sizes only.
    fn end_batch(&mut self) -> (Batch, bool) {
        let batch = mem::take(&mut self.open);
        self.length.update(&batch);
        self.requests = (0, self.length.requests_with(ANSWERS));
        (batch, mem::take(&mut self.has_incident))
    }
}

impl Strata {
    /// The place of a stratum, which is new if it has not appeared before.
    pub(crate) fn place(&mut self, name: Option<&str>) -> usize {
        let place_of = |name: Option<&str>| self.strata.iter().position(|one| one.name.as_deref() == name);
        if let Some(place) = place_of(name) {
            return place;
        }
        let named = self.strata.iter().filter(|one| one.name.is_some()).count();
        let name = name.filter(|_| named < MOST);
        place_of(name).unwrap_or_else(|| {
            self.strata.push(Stratum::new(name));
            self.strata.len() - 1
        })
    }

    /// The strata.
    pub(crate) fn all(&self) -> &[Stratum] {
        &self.strata
    }

    /// The number of strata.
    pub(crate) fn known(&self) -> usize {
        self.strata.len()
    }

    /// Adds the next request of a stratum. Returns the batch that it completes.
    pub(crate) fn record(
        &mut self,
        place: usize,
        release: Option<Release>,
        outcome: Outcome,
    ) -> Option<Complete> {
        let stratum = &mut self.strata[place];
        stratum.waiting.record(release, outcome);
        stratum.open.record(release, outcome);
        stratum.requests.0 += 1;
        (stratum.requests.0 >= stratum.requests.1).then(|| self.end_batch_of(place))
    }

    /// Adds counts of the same time, as a batch of its own.
    pub(crate) fn add(&mut self, place: usize, batch: Batch) {
        let stratum = &mut self.strata[place];
        stratum.waiting += batch;
        stratum.open += batch;
    }

    /// Whether something of this stratum is in the open batch of all strata together.
    pub(crate) fn waits(&self, place: usize) -> bool {
        self.strata[place].waiting != Batch::default()
    }

    /// The parts of a window by their places. What is in no stratum is in that without a name. If a window has more new strata
    /// than there are names left, those with the most requests get them.
    fn parts(&mut self, window: &Window) -> Vec<(usize, Counts)> {
        let mut named: Vec<_> = window.strata.iter().filter(|(_, counts)| counts.requests > 0).collect();
        named.sort_by_key(|(_, counts)| Reverse(counts.requests)); // by sizes only, which say nothing of failures
        let sum = named.iter().try_fold(Counts::default(), |sum, (_, counts)| sum.checked_add(*counts));
        let is_sound = |counts: Counts| counts.slow <= counts.failures && counts.failures <= counts.requests;
        let sum = sum.filter(|sum| sum.is_part_of(window.counts) && is_sound(window.counts - *sum));
        let sum = sum.filter(|_| named.iter().all(|(_, counts)| is_sound(*counts)));
        let Some(sum) = sum else { return vec![(self.place(None), window.counts)] };
        let mut parts: Vec<(usize, Counts)> = Vec::new();
        let mut add = |place: usize, counts: Counts| match parts.iter_mut().find(|part| part.0 == place) {
            Some(part) => part.1 += counts,
            None => parts.push((place, counts)),
        };
        for (name, counts) in named {
            add(self.place(Some(name)), *counts);
        }
        let rest = window.counts - sum;
        if rest.requests > 0 {
            add(self.place(None), rest);
        }
        parts
    }

    /// Adds a window, which is judged at once. Returns its parts by their places.
    pub(crate) fn judge_window(&mut self, window: &Window) -> Vec<(usize, Counts)> {
        let parts = self.parts(window);
        for (place, counts) in &parts {
            self.strata[*place].judged.add(window.release, *counts);
        }
        parts
    }

    /// The open batch of all strata together has ended, and there is an incident at its end or not.
    pub(crate) fn end_batch_of_all(&mut self, is_incident: bool) {
        for stratum in &mut self.strata {
            stratum.judged += mem::take(&mut stratum.waiting);
            stratum.has_incident |= is_incident;
        }
    }

    /// Ends the open batch of a stratum.
    pub(crate) fn end_batch_of(&mut self, place: usize) -> Complete {
        let (batch, has_incident) = self.strata[place].end_batch();
        Complete { stratum: place, batch, has_incident }
    }

    /// Ends the open batches of all strata.
    pub(crate) fn end_batches(&mut self) -> Vec<Complete> {
        (0..self.strata.len()).map(|place| self.end_batch_of(place)).collect()
    }

    /// Whether they can be those of a judge that has judged so much, with so much in its open batch.
    pub(crate) fn are_sound(&self, judged: Batch, open: Batch) -> bool {
        let mut sums = [Batch::default(); 2];
        for stratum in &self.strata {
            for (sum, part) in sums.iter_mut().zip([stratum.judged, stratum.waiting]) {
                let Some(more) = sum.checked_add(part) else { return false };
                *sum = more;
            }
        }
        let opens_are_sound = self.strata.iter().all(|stratum| {
            let all = stratum.judged.checked_add(stratum.waiting);
            all.is_some_and(|all| stratum.open.is_part_of(all))
        });
        sums == [judged, open] && opens_are_sound
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::counts;

    fn window(counts: Counts, strata: Vec<(Arc<str>, Counts)>) -> Window {
        let (release, pod, latencies) = (Release::Canary, "one".into(), Vec::new());
        Window {
            release,
            pod,
            since: 0.0,
            until: 15.0,
            counts,
            restarted: false,
            is_warm_up: false,
            strata,
            latencies,
        }
    }

    #[test]
    fn of_many_strata_that_appear_at_once_the_greatest_get_the_names() {
        let strata =
            (0..200_u64).map(|number| (format!("/{number:03}").into(), counts(0, 1 + number))).collect();
        let requests = (1..=200).sum();
        let window = window(counts(0, requests), strata);
        let mut strata = Strata::default();
        let parts = strata.judge_window(&window);
        assert_eq!(parts.iter().map(|(_, counts)| counts.requests).sum::<u64>(), requests);
        let names: Vec<_> = strata.all().iter().map(|one| one.name.as_deref()).collect();
        assert_eq!((names.len(), names[0], names[63], names[64]), (65, Some("/199"), Some("/136"), None));
    }

    #[test]
    fn at_most_64_strata_have_a_name_and_the_rest_is_one() {
        let mut strata = Strata::default();
        let places: Vec<_> = (0..200).map(|number| strata.place(Some(&format!("/{number}")))).collect();
        assert_eq!(places[..65], (0..65).collect::<Vec<_>>());
        assert!(places[65..].iter().all(|place| *place == 64));
        assert_eq!((strata.known(), strata.place(None), strata.place(Some("/7"))), (65, 64, 7));
        assert_eq!(strata.all()[64].name, None);
        let mut strata = Strata::default();
        assert_eq!((strata.place(None), strata.place(Some("/")), strata.place(None)), (0, 1, 0));
    }

    #[test]
    fn the_parts_of_a_window_are_all_of_it_or_nothing_is_divided() {
        let window = |strata: &[(&str, Counts)]| {
            let strata = strata.iter().map(|(name, counts)| ((*name).into(), *counts));
            window(counts(3, 30), strata.collect())
        };
        let mut strata = Strata::default();
        let two = [("/a", counts(1, 10)), ("/b", counts(0, 15)), ("/c", counts(0, 0)), ("/a", counts(0, 1))];
        assert_eq!(
            strata.parts(&window(&two)),
            [(0, counts(0, 15)), (1, counts(1, 11)), (2, counts(2, 4))],
            "the rest has no name"
        );
        let too_much = [&[("/a", counts(0, 31))][..], &[("/a", counts(4, 10))], &[("/a", counts(0, 28))]];
        for bad in too_much {
            assert_eq!(strata.parts(&window(bad)), [(2, counts(3, 30))], "{bad:?}");
        }
    }

    #[test]
    fn a_batch_has_contiguous_requests_of_one_stratum() {
        let mut strata = Strata::default();
        let places = [Some("/a"), Some("/b")].map(|name| strata.place(name));
        let mut complete = Vec::new();
        for number in 0..16 {
            let release = if number % 8 < 6 { Release::Stable } else { Release::Canary };
            for place in places {
                complete.extend(strata.record(place, Some(release), Outcome::Success));
            }
        }
        let batch = Batch { stable: counts(0, 6), canary: counts(0, 2), unattributed: 0 };
        let of = |stratum| Complete { stratum, batch, has_incident: false };
        assert_eq!(complete, [of(0), of(1), of(0), of(1)]);
        strata.record(1, None, Outcome::Failure);
        strata.end_batch_of_all(true);
        let open = strata.end_batches();
        assert_eq!(open[1].batch, Batch { unattributed: 1, ..Batch::default() });
        assert!(open.iter().all(|one| one.has_incident));
        assert_eq!(strata.all()[1].judged.total().requests, 17);
    }
}

//! The judge's promises, tested by simulation. Each run looks at the verdict after every request, and
//! the verdict at any time counts. Seeds are fixed. `cargo test -p canary-judge --test guarantees -- --nocapture`
//! prints the measured figures, and `SIMULATION_RUNS=10000` sets more runs. `docs/verdict.md` has the figures.

use std::{
    env,
    f64::consts::PI,
    hint::black_box,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use canary_judge::{
    ConfidenceSequence, Counts, Decision, Fraction, Judge, Outcome, Reason, Release, Request, Settings,
    Verdict,
};
use fastrand::Rng;

const ALPHA: f64 = 0.05;
/// A measured error must lie this many standard errors below α. If the true error were α, such a low result
/// would have a probability of 2.3 %. With 10,000 runs, every error here lies more than five below.
const STANDARD_ERRORS: f64 = 2.0;
const SHARES: [f64; 3] = [1.0 / 4.0, 1.0 / 10.0, 1.0 / 20.0];

/// The number of runs of each simulation: small enough for `cargo test`, unless `SIMULATION_RUNS` sets it.
fn runs() -> u32 {
    let runs = env::var("SIMULATION_RUNS").unwrap_or_else(|_| "2000".to_owned());
    let runs = runs.parse::<NonZeroU32>().unwrap_or_else(|error| panic!("SIMULATION_RUNS={runs}: {error}"));
    runs.get()
}

/// A random number generator for each run, with its own seed.
fn generators() -> impl Iterator<Item = Rng> {
    (0..runs()).map(|seed| Rng::with_seed(seed.into()))
}

/// The share of runs in which each of these events happened.
fn shares_of_runs<const N: usize>(mut happened: impl FnMut(&mut Rng) -> [bool; N]) -> [f64; N] {
    let mut counts = [0.0; N];
    for mut rng in generators() {
        for (count, happened) in counts.iter_mut().zip(happened(&mut rng)) {
            *count += f64::from(u8::from(happened));
        }
    }
    counts.map(|count| count / f64::from(runs()))
}

/// Prints a measured error, and fails unless it is below α by [`STANDARD_ERRORS`].
#[track_caller]
fn assert_at_most_alpha(what: &str, measured: f64) {
    let standard_error = (ALPHA * (1.0 - ALPHA) / f64::from(runs())).sqrt();
    println!("{what}: {:.2} %", 100.0 * measured);
    assert!(measured + STANDARD_ERRORS * standard_error <= ALPHA, "{what}: {measured}");
}

/// The canary's share of the requests and the failure rates, at one moment.
#[derive(Clone, Copy)]
struct Moment {
    share: f64,
    stable: f64,
    canary: f64,
}

impl Moment {
    fn new(share: f64, stable: f64, canary: f64) -> Self {
        Self { share, stable, canary }
    }

    fn both(share: f64, rate: f64) -> Self {
        Self::new(share, rate, rate)
    }

    /// A failure of something that both releases need, for this share of their requests.
    fn with_incident(self, happens: bool, part: f64) -> Self {
        let rate = |own: f64| if happens { 1.0 - (1.0 - own) * (1.0 - part) } else { own };
        Self { stable: rate(self.stable), canary: rate(self.canary), ..self }
    }

    /// A random release, as a Service chooses a pod, and whether its answer failed.
    fn outcome(self, rng: &mut Rng) -> (Release, Outcome) {
        let (release, rate) = if rng.f64() < self.share {
            (Release::Canary, self.canary)
        } else {
            (Release::Stable, self.stable)
        };
        (release, outcome(rng.f64() < rate))
    }
}

fn outcome(failed: bool) -> Outcome {
    if failed { Outcome::Failure } else { Outcome::Success }
}

/// A scenario: the moment of each request, by the canary's usual share and the request's number.
type Course = fn(f64, u64) -> Moment;

fn is_roll_back(judge: &Judge) -> bool {
    matches!(judge.decided(), Some(Decision::RollBack { .. }))
}

fn is_promotion(judge: &Judge) -> bool {
    matches!(judge.decided(), Some(Decision::Promote { .. }))
}

/// Whether a judge that is looked at after every request ever rolls back, and ever promotes.
fn ever(settings: Settings, requests: u64, rng: &mut Rng, course: impl Fn(u64) -> Moment) -> [bool; 2] {
    let mut judge = Judge::new(settings);
    let mut promoted = false;
    for number in 0..requests {
        let (release, outcome) = course(number).outcome(rng);
        judge.observe(Request::new(Some(release), outcome));
        promoted |= is_promotion(&judge);
    }
    judge.end();
    [is_roll_back(&judge), promoted || is_promotion(&judge)]
}

fn assert_no_false_roll_backs(scenarios: &[(&str, Course)]) {
    for (name, course) in scenarios {
        for share in SHARES {
            let [rolled_back, _] =
                shares_of_runs(|rng| ever(Settings::default(), 5_000, rng, |number| course(share, number)));
            assert_at_most_alpha(&format!("share {share}, {name}: rolled back"), rolled_back);
        }
    }
}

#[test]
fn a_canary_no_worse_than_stable_is_rolled_back_in_at_most_alpha_of_runs() {
    assert_no_false_roll_backs(&[
        ("both at 0.1 %", |share, _| Moment::both(share, 0.001)),
        ("both at 1 %", |share, _| Moment::both(share, 0.01)),
        ("both at 2 %", |share, _| Moment::both(share, 0.02)),
        ("both at 5 %", |share, _| Moment::both(share, 0.05)),
        ("both at 20 %", |share, _| Moment::both(share, 0.2)),
        ("both at 50 %", |share, _| Moment::both(share, 0.5)),
        ("stable at 2 %, canary at 1 %", |share, _| Moment::new(share, 0.02, 0.01)),
        ("stable at 50 %, canary at 45 %", |share, _| Moment::new(share, 0.5, 0.45)),
    ]);
}

/// Both releases fail one request in a thousand, except during an incident.
fn good(share: f64) -> Moment {
    Moment::both(share, 0.001)
}

#[test]
fn an_incident_that_hits_both_releases_rolls_the_canary_back_in_at_most_alpha_of_runs() {
    assert_no_false_roll_backs(&[
        ("all of requests 600 to 900 fail", |share, number| {
            good(share).with_incident((600..900).contains(&number), 1.0)
        }),
        ("all of requests 600 to 1600 fail", |share, number| {
            good(share).with_incident((600..1600).contains(&number), 1.0)
        }),
        ("a fifth of requests 600 to 900 fails", |share, number| {
            good(share).with_incident((600..900).contains(&number), 0.2)
        }),
        ("a fifth of requests 600 to 1600 fails", |share, number| {
            good(share).with_incident((600..1600).contains(&number), 0.2)
        }),
        ("the first 100 requests fail", |share, number| good(share).with_incident(number < 100, 1.0)),
        ("a fifth of the first 100 requests fails", |share, number| {
            good(share).with_incident(number < 100, 0.2)
        }),
        ("10 of every 250 requests fail together", |share, number| {
            good(share).with_incident(number % 250 < 10, 1.0)
        }),
        ("3 of every 50 requests fail together", |share, number| {
            good(share).with_incident(number % 50 < 3, 1.0)
        }),
        ("stable at 2 %, canary at 1 %, all of requests 600 to 900 fail", |share, number| {
            Moment::new(share, 0.02, 0.01).with_incident((600..900).contains(&number), 1.0)
        }),
        ("the rate rises from 0 to 20 %", |share, number| Moment::both(share, 0.2 * number as f64 / 5_000.0)),
        ("the rate rises to 20 % and falls again, every 500 requests", |share, number| {
            Moment::both(share, 0.1 - 0.1 * (number as f64 / 250.0 * PI).cos())
        }),
        ("the canary's share and the rate rise together", |share, number| {
            let part = number as f64 / 5_000.0;
            Moment::both(share + part / 2.0, 0.1 * part)
        }),
    ]);
}

fn assert_no_wrong_promotions(scenarios: &[(&str, f64, Course)]) {
    for (name, limit, course) in scenarios {
        let settings = Settings { max_failure_rate: Fraction::new(*limit).unwrap(), ..Settings::default() };
        // about 1,250 answers of the canary at each share: below 345 there is no promotion by the limit
        for (share, requests) in SHARES.into_iter().zip([5_000, 12_500, 25_000]) {
            let [_, promoted] =
                shares_of_runs(|rng| ever(settings, requests, rng, |number| course(share, number)));
            assert_at_most_alpha(&format!("share {share}, {name}: promoted"), promoted);
        }
    }
}

#[test]
fn a_canary_above_limit_and_ratio_is_promoted_in_at_most_alpha_of_runs() {
    assert_no_wrong_promotions(&[
        ("stable at 0.1 %, canary at 1.01 %", 0.01, |share, _| Moment::new(share, 0.001, 0.010_1)),
        ("stable at 0.1 %, canary at 10.1 %, limit 10 %", 0.1, |share, _| Moment::new(share, 0.001, 0.101)),
        ("stable at 0.95 %, canary at 1.95 %", 0.01, |share, _| Moment::new(share, 0.0095, 0.0195)),
        ("stable at 1 %, canary at 2 %", 0.01, |share, _| Moment::new(share, 0.01, 0.02)),
        ("stable at 2 %, canary at 4 %", 0.01, |share, _| Moment::new(share, 0.02, 0.04)),
    ]);
}

/// The canary fails 30 times as often as stable, except during an incident.
fn bad(share: f64) -> Moment {
    Moment::new(share, 0.001, 0.03)
}

#[test]
fn an_incident_that_hits_both_releases_promotes_a_bad_canary_in_at_most_alpha_of_runs() {
    assert_no_wrong_promotions(&[
        ("canary at 3 %, all of requests 600 to 900 fail", 0.01, |share, number| {
            bad(share).with_incident((600..900).contains(&number), 1.0)
        }),
        ("canary at 3 %, a fifth of requests 600 to 1600 fails", 0.01, |share, number| {
            bad(share).with_incident((600..1600).contains(&number), 0.2)
        }),
        ("canary at 3 %, 5 % of requests 600 to 1600 fail", 0.01, |share, number| {
            bad(share).with_incident((600..1600).contains(&number), 0.05)
        }),
        ("canary at 3 %, all of the first 300 requests fail", 0.01, |share, number| {
            bad(share).with_incident(number < 300, 1.0)
        }),
        ("canary at 3 %, half of the first 1000 requests fails", 0.01, |share, number| {
            bad(share).with_incident(number < 1000, 0.5)
        }),
        ("canary at 3 %, 10 of every 250 requests fail together", 0.01, |share, number| {
            bad(share).with_incident(number % 250 < 10, 1.0)
        }),
        ("canary at 3 %, 5 of every 500 requests fail together", 0.01, |share, number| {
            bad(share).with_incident(number % 500 < 5, 1.0)
        }),
        ("canary at 3 %, half of 20 of every 250 requests fail together", 0.01, |share, number| {
            bad(share).with_incident(number % 250 < 20, 0.5)
        }),
        ("canary at 15 %, limit 10 %, half of the first 1000 requests fails", 0.1, |share, number| {
            Moment::new(share, 0.01, 0.15).with_incident(number < 1000, 0.5)
        }),
    ]);
}

/// Requests a second in the courses below. The canary gets a quarter of them.
const A_SECOND: u64 = 40;

/// Whether a request is sent in the first `length` seconds of each `every` seconds, of which the first begins at `since`.
fn is_within(number: u64, since: u64, length: u64, every: u64) -> bool {
    let (number, since) = (number, since * A_SECOND);
    number >= since && (number - since) % (every * A_SECOND) < length * A_SECOND
}

/// Incidents of both releases: their length, every how many seconds there is one, and the part of requests that fail.
const RECURRING: [(u64, u64, f64); 6] =
    [(5, 30, 1.0), (30, 600, 1.0), (5, 30, 0.3), (30, 600, 0.3), (60, 300, 0.1), (60, 300, 0.03)];

/// The first decision of a judge that is looked at after every request: whether it is a roll-back, a promotion by the
/// limit, or one by the ratio.
fn first(requests: u64, rng: &mut Rng, course: impl Fn(u64) -> Moment) -> [bool; 3] {
    let mut judge = Judge::new(Settings::default());
    let decided = (0..requests).find_map(|number| {
        let (release, outcome) = course(number).outcome(rng);
        judge.observe(Request::new(Some(release), outcome));
        judge.decided()
    });
    let is_promoted = |wanted| matches!(decided, Some(Decision::Promote { reason, .. }) if reason == wanted);
    let is_rolled_back = matches!(decided, Some(Decision::RollBack { .. }));
    [is_rolled_back, is_promoted(Reason::Limit), is_promoted(Reason::Ratio)]
}

/// What a promotion by the limit leaves out never depends on the canary's own answers.
#[test]
fn incidents_that_recur_promote_a_canary_above_the_limit_outside_of_them_in_at_most_alpha_of_runs() {
    for (stable, canary) in [(0.001, 0.0101), (0.005, 0.0101), (0.005, 0.0105), (0.005, 0.02)] {
        for (length, every, part) in RECURRING {
            let [_, by_limit, by_ratio] = shares_of_runs(|rng| {
                let phase = rng.u64(..every);
                first(30_000, rng, |number| {
                    let happens = is_within(number + every * A_SECOND, phase, length, every);
                    Moment::new(0.25, stable, canary).with_incident(happens, part)
                })
            });
            let what =
                format!("stable at {stable}, canary at {canary}, {part} fails for {length} s in {every} s");
            assert_at_most_alpha(&format!("{what}: promoted by the limit"), by_limit);
            // stable at 0.5 % and canary at 1.01 % are alike while a part fails, so the ratio is no error then
            println!("{what}: promoted by the ratio: {:.2} %", 100.0 * by_ratio);
        }
    }
}

/// Its failures are placed where an incident could hide them.
#[test]
fn a_canary_with_episodes_of_its_own_is_not_promoted_by_incidents() {
    // the episodes' length, every how many seconds, and how long after the beginning of an incident, where they go together
    for (name, length, every, after) in [
        ("2 s in 20 s, at any time", 2, 20, None),
        ("20 s in 200 s, at any time", 20, 200, None),
        ("in the second before each incident", 1, 30, Some(29)),
        ("in the second after each incident", 1, 30, Some(5)),
        ("in the 3 s after each incident", 3, 30, Some(5)),
        ("in each incident and the 2 s after it", 7, 30, Some(0)),
    ] {
        let [rolled_back, by_limit, by_ratio] = shares_of_runs(|rng| {
            let (phase, own) = (rng.u64(..30), rng.u64(..every));
            let own = after.map_or(own, |after| phase + after);
            // an episode is seen at the beginning: before that, the canary is good
            first(30_000, rng, |number| {
                let fails =
                    is_within(number + 2 * every * A_SECOND, own, length, every) || number < 2 * A_SECOND;
                let canary = if fails { 0.5 } else { 0.001 };
                Moment::new(0.25, 0.001, canary).with_incident(
                    number > 5 * A_SECOND && is_within(number + 60 * A_SECOND, phase, 5, 30),
                    1.0,
                )
            })
        });
        println!("episodes {name}: rolled back {:.2} %", 100.0 * rolled_back);
        assert_at_most_alpha(&format!("episodes {name}: promoted"), by_limit + by_ratio);
    }
}

/// The seconds after an incident until an event in half of the runs, and in 95 % of them.
#[test]
fn after_an_incident_a_hold_ends_and_a_good_canary_is_promoted() {
    for (a_second, length, part, most) in [
        (40, 30, 1.0, 90),
        (10, 30, 1.0, 300),
        (40, 30, 0.5, 90),
        (40, 30, 0.2, 150),
        (40, 30, 0.05, 300),
        (40, 600, 1.0, 90),
    ] {
        let (begin, end): (u64, u64) = (10 * a_second, (10 + length) * a_second);
        let (mut held, mut holds, mut promoted) = (0, Vec::new(), Vec::new());
        for mut rng in generators() {
            let mut judge = Judge::new(Settings::default());
            let mut hold_ended = end;
            let promotion = (0..end + 100_000).find(|number| {
                let moment = good(0.25).with_incident((begin..end).contains(number), part);
                let (release, outcome) = moment.outcome(&mut rng);
                judge.observe(Request::new(Some(release), outcome));
                // a verdict is dear, so it is asked for ten times or fewer after a hold
                let asks = *number >= end && number % 10 == 0 && *number <= hold_ended + 100;
                let holds = asks && judge.verdict().decision == Decision::Hold;
                hold_ended = if holds { *number } else { hold_ended };
                held += u32::from(holds && *number < end + 10);
                is_promotion(&judge)
            });
            holds.push(hold_ended.saturating_sub(end) / a_second);
            promoted.push(promotion.unwrap_or(end + 100_000).saturating_sub(end) / a_second);
        }
        let (holds, promoted) = (Requests::of(holds), Requests::of(promoted));
        println!(
            "{part} of {a_second} requests a second fail for {length} s: held at its end in {held} of {} runs; the \
             hold ends after so many seconds: {holds:?}, and the promotion comes after {promoted:?}",
            runs()
        );
        assert!(promoted.median <= most && holds.in_95_percent <= 60, "{promoted:?} {holds:?}");
    }
}

/// An outage of both releases at exactly equal rates: nine requests of ten go to stable, in a fixed order.
#[test]
fn an_outage_at_exactly_equal_rates_is_no_reason_to_roll_back() {
    let mut judge = Judge::new(Settings::default());
    for (rounds, failed) in [(60, false), (3, true)] {
        for number in 0..rounds * 10 {
            let release = if number % 10 == 9 { Release::Canary } else { Release::Stable };
            judge.observe(Request::new(Some(release), outcome(failed)));
            assert!(!is_roll_back(&judge), "{}", judge.verdict());
        }
    }
    judge.end();
    assert_eq!(judge.decided(), None, "{}", judge.verdict());
    assert!(judge.verdict().p_value > 0.5, "{}", judge.verdict().p_value);
}

/// The result of a request, and how many requests are sent before it is known.
#[derive(Clone, Copy)]
enum Ending {
    Answer(Release, Outcome, usize),
    /// A time-out, which names no release.
    Hang(usize),
}

/// A service with slow answers: the canary's share is 1/4, and 300 requests a second are sent.
struct Delays {
    name: &'static str,
    stable: f64,
    canary: f64,
    limit: f64,
    /// The share of the canary's requests that hang until a time-out of 2 s.
    hangs: f64,
    /// How many requests are sent before a failure of stable, and one of the canary, is known.
    failures_take: [usize; 2],
}

impl Delays {
    fn ending(&self, rng: &mut Rng) -> Ending {
        let (release, outcome) = Moment::new(1.0 / 4.0, self.stable, self.canary).outcome(rng);
        let [stable, canary] = self.failures_take;
        match release {
            Release::Canary if rng.f64() < self.hangs => Ending::Hang(600),
            _ if !outcome.failed() => Ending::Answer(release, outcome, 0),
            Release::Canary => Ending::Answer(release, outcome, canary),
            Release::Stable => Ending::Answer(release, outcome, stable),
        }
    }

    /// Whether a judge ever rolls back and ever promotes, and whether its final verdict is that of a judge with
    /// the outcomes in the order of sending.
    fn ever(&self, rng: &mut Rng) -> [bool; 3] {
        let max_failure_rate = Fraction::new(self.limit).unwrap();
        let settings = Settings { max_failure_rate, ..Settings::default() };
        let (mut in_order, mut as_they_end) = (Judge::new(settings), Judge::new(settings));
        let mut requests: Vec<_> = (0..3_000)
            .map(|number| {
                let (takes, release, outcome) = match self.ending(rng) {
                    Ending::Hang(takes) => (takes, None, Outcome::Failure),
                    Ending::Answer(release, outcome, takes) => (takes, Some(release), outcome),
                };
                in_order.observe(Request::new(release, outcome));
                (number + takes, number, Request::new(release, outcome))
            })
            .collect();
        requests.sort_by_key(|(end, ..)| *end);
        let mut promoted = false;
        for (_, number, request) in requests {
            as_they_end.observe_numbered(u64::try_from(number).unwrap(), Some(request));
            promoted |= is_promotion(&as_they_end);
        }
        as_they_end.end();
        in_order.end();
        promoted |= is_promotion(&as_they_end);
        [is_roll_back(&as_they_end), promoted, as_they_end.verdict() == in_order.verdict()]
    }
}

#[test]
fn outcomes_count_in_the_order_of_sending_however_late_they_come() {
    let hanging = |name, limit, hangs| Delays {
        name,
        stable: 0.001,
        canary: 0.001,
        limit,
        hangs,
        failures_take: [0, 0],
    };
    for delays in [
        Delays { failures_take: [570, 0], ..hanging("stable's failures come 1.9 s late", 0.01, 0.0) },
        Delays {
            stable: 0.05,
            canary: 0.05,
            failures_take: [570, 0],
            ..hanging("both at 5 %, stable's failures come 1.9 s late", 0.01, 0.0)
        },
        Delays {
            canary: 0.3,
            failures_take: [570, 570],
            ..hanging("canary at 30 %, failures come 1.9 s late", 0.01, 0.0)
        },
        hanging("half of the canary's requests hang", 0.01, 0.5),
        hanging("30 % of the canary's requests hang", 0.01, 0.3),
        hanging("a fifth of the canary's requests hangs", 0.01, 0.2),
        hanging("a fifth of the canary's requests hangs, limit 10 %", 0.1, 0.2),
    ] {
        let [rolled_back, promoted, as_in_order] = shares_of_runs(|rng| delays.ever(rng));
        assert!(as_in_order >= 1.0, "{}", delays.name);
        if delays.canary <= delays.stable {
            assert_at_most_alpha(&format!("{}: rolled back", delays.name), rolled_back);
        }
        let canary = 1.0 - (1.0 - delays.canary) * (1.0 - delays.hangs);
        if canary > delays.limit && canary > 2.0 * delays.stable {
            assert_at_most_alpha(&format!("{}: promoted", delays.name), promoted);
        }
    }
}

/// The pods of a service, each with its failure rate. A request goes to any of them.
struct Service {
    pods: Vec<(Release, String, f64)>,
}

impl Service {
    fn new(stable: &[f64], canary: &[f64]) -> Self {
        let of = |release: Release, rates: &[f64]| {
            let pod = |(index, rate): (usize, &f64)| (release, format!("{release}-{index}"), *rate);
            rates.iter().enumerate().map(pod).collect::<Vec<_>>()
        };
        Self { pods: [of(Release::Stable, stable), of(Release::Canary, canary)].concat() }
    }

    fn observe(&self, judge: &mut Judge, names: bool, rng: &mut Rng) {
        let (release, name, rate) = &self.pods[rng.usize(..self.pods.len())];
        let request = Request::new(Some(*release), outcome(rng.f64() < *rate));
        judge.observe(request.with_pod(names.then_some(name)));
    }

    fn verdict(&self, requests: u64, names: bool, rng: &mut Rng) -> Verdict {
        let mut judge = Judge::new(Settings::default());
        (0..requests).for_each(|_| self.observe(&mut judge, names, rng));
        judge.end();
        judge.verdict()
    }
}

#[test]
fn a_pod_like_the_others_of_its_release_is_named_in_at_most_alpha_of_runs() {
    for rate in [0.01, 0.05, 0.2] {
        let service = Service::new(&[rate; 12], &[rate; 4]);
        let [stable, canary] = shares_of_runs(|rng| {
            let failing = service.verdict(5_000, true, rng).failing_pods;
            [!failing.stable.is_empty(), !failing.canary.is_empty()]
        });
        assert_at_most_alpha(&format!("16 pods at {rate}: a stable one named"), stable);
        assert_at_most_alpha(&format!("16 pods at {rate}: a canary one named"), canary);
    }
}

#[test]
fn one_failing_pod_of_four_is_named() {
    let service = Service::new(&[0.001; 12], &[0.001, 0.2, 0.001, 0.001]);
    let [named, others] = shares_of_runs(|rng| {
        let canary = service.verdict(2_000, true, rng).failing_pods.canary;
        [canary.iter().any(|pod| pod.pod == "canary-1"), canary.iter().any(|pod| pod.pod != "canary-1")]
    });
    println!("one of four canary pods at 20 %: named in {named}, another one in {others} of runs");
    assert!(named >= 0.95, "{named}");
    assert_at_most_alpha("one of four canary pods at 20 %: another one named", others);
}

/// Clients that always reach the same pod. Requests of some clients fail on every pod. So pods differ, but not
/// because of their release.
fn pinned_clients(stable: usize, canary: usize, rng: &mut Rng) -> Service {
    let mut clients = vec![[0_u32; 2]; stable + canary]; // by pod: all, and those whose requests fail
    for client in 0..60 {
        let [all, failing] = rng.choice(&mut clients).unwrap();
        *all += 1;
        *failing += u32::from(client < 12);
    }
    let rate = |[all, failing]: &[u32; 2]| 0.001 + 0.5 * f64::from(*failing) / f64::from((*all).max(1));
    let rates: Vec<_> = clients.iter().map(rate).collect();
    Service::new(&rates[..stable], &rates[stable..])
}

#[test]
fn names_of_pods_guard_against_a_roll_back_where_clients_are_pinned_to_pods() {
    for (stable, canary, most) in [(3, 1, 2.0 / 3.0), (12, 4, 1.0 / 4.0)] {
        let [without, with] = [false, true].map(|names| {
            let [rolled_back] = shares_of_runs(|rng| {
                let verdict = pinned_clients(stable, canary, rng).verdict(5_000, names, rng);
                [matches!(verdict.decision, Decision::RollBack { .. })]
            });
            rolled_back
        });
        println!(
            "clients pinned to {stable} + {canary} pods: rolled back in {without} of runs without names of pods, \
             in {with} with them"
        );
        assert!(with <= most * without, "{with}, {without}");
    }
}

/// Whether a judge with these outcomes, one after the other, rolls back.
fn is_rolled_back(mut next: impl FnMut(u64) -> (Option<Release>, Outcome)) -> [bool; 1] {
    let mut judge = Judge::new(Settings::default());
    for number in 0..5_000 {
        let (release, outcome) = next(number);
        judge.observe(Request::new(release, outcome));
    }
    judge.end();
    [is_roll_back(&judge)]
}

/// Pods take turns, and the canary is each 4th, 10th or 20th of them.
fn in_turn(number: u64, pods: u64) -> Release {
    if number.is_multiple_of(pods) { Release::Canary } else { Release::Stable }
}

#[test]
fn bursts_where_pods_take_turns_roll_the_canary_back_in_at_most_alpha_of_runs() {
    for pods in [4, 10, 20] {
        for burst in [3, 10, 100] {
            let [rolled_back] = shares_of_runs(|rng| {
                let mut left = 0_u64;
                is_rolled_back(|number| {
                    left = if rng.u64(..25 * burst) == 0 { burst } else { left.saturating_sub(1) };
                    (Some(in_turn(number, pods)), outcome(left > 0 || rng.f64() < 0.001))
                })
            });
            assert_at_most_alpha(
                &format!("{pods} pods in turn, bursts of {burst}: rolled back"),
                rolled_back,
            );
        }
    }
}

/// The judge really needs the assumptions in `docs/verdict.md`.
#[test]
fn routing_or_names_that_go_with_outcomes_break_the_promise() {
    let [in_step] = shares_of_runs(|rng| {
        let phase = rng.u64(..20);
        is_rolled_back(|number| (Some(in_turn(number, 4)), outcome((number + phase) % 20 == 0)))
    });
    let [reacts] = shares_of_runs(|rng| {
        let mut last = (Some(Release::Canary), Outcome::Success);
        is_rolled_back(|_| {
            let after_failure = if last.1.failed() { 0.3 } else { 0.02 };
            let away = last == (Some(Release::Stable), Outcome::Failure);
            let release = if away || rng.f64() < 0.1 { Release::Canary } else { Release::Stable };
            last = (Some(release), outcome(rng.f64() < after_failure));
            last
        })
    });
    let [at_once] = shares_of_runs(|rng| {
        let from = 600 + rng.u64(..100);
        is_rolled_back(|number| {
            let share = if number < from { 1.0 / 20.0 } else { 1.0 / 2.0 };
            let moment = good(share).with_incident((from..from + 300).contains(&number), 1.0);
            let (release, outcome) = moment.outcome(rng);
            (Some(release), outcome)
        })
    });
    let [unnamed] = shares_of_runs(|rng| {
        is_rolled_back(|_| {
            let (release, outcome) = Moment::both(0.25, 0.05).outcome(rng);
            let named = release == Release::Canary || !outcome.failed();
            (named.then_some(release), outcome)
        })
    });
    for (what, rolled_back) in [
        ("pods in turn, and every 20th request fails", in_step),
        ("after a failure of stable the canary is next, and failures come in pairs", reacts),
        ("the canary's share jumps from 1/20 to 1/2 with the request at which an outage begins", at_once),
        ("both at 5 %, and only the canary's failures name their release", unnamed),
    ] {
        println!("{what}: rolled back {:.2} %", 100.0 * rolled_back);
        assert!(rolled_back > ALPHA, "{what}: {rolled_back}");
    }
}

/// The number of requests until an event in half of the runs, and in 95 % of them.
#[derive(Debug)]
struct Requests {
    median: u64,
    in_95_percent: u64,
}

/// A run without a result ends after this many requests.
const AT_MOST: u64 = 500_000;

impl Requests {
    fn of(mut requests: Vec<u64>) -> Self {
        requests.sort_unstable();
        Self { median: requests[requests.len() / 2], in_95_percent: requests[requests.len() * 95 / 100] }
    }
}

fn requests_until(came_about: impl Fn(&mut Rng) -> u64) -> Requests {
    Requests::of(generators().map(|mut rng| came_about(&mut rng)).collect())
}

fn requests_until_roll_back(moment: Moment) -> Requests {
    requests_until(|rng| {
        let mut judge = Judge::new(Settings::default());
        let rolled_back = |_: &u64| {
            let (release, outcome) = moment.outcome(rng);
            judge.observe(Request::new(Some(release), outcome));
            is_roll_back(&judge)
        };
        (1..AT_MOST).find(rolled_back).unwrap_or(AT_MOST)
    })
}

/// The average number of requests of an oracle that knows both rates: each answer of the canary counts their
/// Kullback-Leibler divergence.
fn oracle(Moment { share, stable, canary }: Moment) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    -ALPHA.ln() / (part(canary, stable) + part(1.0 - canary, 1.0 - stable)) / share
}

#[test]
fn a_worse_canary_is_found_soon() {
    for share in [1.0 / 4.0, 1.0 / 20.0] {
        for (stable, canary, most) in
            [(0.001, 0.05, 4.5), (0.01, 0.1, 2.5), (0.01, 0.02, 3.0), (0.001, 1.0, 12.0)]
        {
            let moment = Moment::new(share, stable, canary);
            let (Requests { median, in_95_percent }, oracle) =
                (requests_until_roll_back(moment), oracle(moment));
            let efficiency = median as f64 / oracle;
            println!(
                "share {share}, stable at {stable}, canary at {canary}: rolled back after {median} requests in half \
                 of runs, {in_95_percent} in 95 %; an oracle needs {oracle:.0}: {efficiency:.2} times as many"
            );
            assert!(efficiency <= most, "{efficiency} for {stable}, {canary} at {share}");
        }
    }
    for (canary, most) in [(0.5, 40), (0.05, 300), (0.01, 2_500), (0.005, 10_000)] {
        let Requests { median, in_95_percent } = requests_until_roll_back(Moment::new(0.25, 0.001, canary));
        println!(
            "share 0.25, stable at 0.001, canary at {canary}: rolled back after {median} requests in half of runs, \
             {in_95_percent} in 95 %"
        );
        assert!(median <= most, "{median} for {canary}");
    }
}

/// The number of answers of the canary, and of both releases, until a promotion; [`AT_MOST`] without a
/// promotion.
fn answers_until_promotion(moment: Moment, rng: &mut Rng) -> (u64, u64) {
    let mut judge = Judge::new(Settings::default());
    for number in 1..AT_MOST {
        let (release, outcome) = moment.outcome(rng);
        judge.observe(Request::new(Some(release), outcome));
        match judge.decided() {
            Some(Decision::Promote { clear_after, .. }) => return (clear_after.canary.requests, number),
            Some(_) => break,
            None => {}
        }
    }
    (AT_MOST, AT_MOST)
}

#[test]
fn a_good_canary_is_promoted_soon() {
    for (stable, canary, most) in [
        (0.001, 0.0, 346),
        (0.001, 0.001, 500),
        (0.003, 0.003, 1_200),
        (0.02, 0.01, 3_000),
        (0.02, 0.02, 5_000),
        (0.05, 0.05, 2_000),
    ] {
        let moment = Moment::new(0.25, stable, canary);
        let (answers, of_both) =
            generators().map(|mut rng| answers_until_promotion(moment, &mut rng)).unzip();
        let (answers, of_both) = (Requests::of(answers), Requests::of(of_both));
        println!(
            "stable at {stable}, canary at {canary}: promoted after so many of its answers: {answers:?}, \
             of both releases: {of_both:?}"
        );
        assert!(answers.median <= most, "{answers:?} at {stable}, {canary}");
    }
}

#[test]
fn names_of_pods_do_not_delay_a_roll_back_much() {
    let service = Service::new(&[0.01; 3], &[0.1]);
    let [without, with] = [false, true].map(|names| {
        requests_until(|rng| {
            let mut judge = Judge::new(Settings::default());
            let rolled_back = |_: &u64| {
                service.observe(&mut judge, names, rng);
                is_roll_back(&judge)
            };
            (1..AT_MOST).find(rolled_back).unwrap_or(AT_MOST)
        })
    });
    println!("stable at 1 %, canary at 10 %: without names of pods {without:?}, with them {with:?}");
    assert!(with.median <= without.median * 5 / 4, "{with:?}, {without:?}");
}

/// The simulation detects an invalid test: the z-test of two proportions keeps its level only for one look.
#[test]
fn a_test_for_one_look_would_break_the_level() {
    let [called] = shares_of_runs(|rng| {
        let (mut stable, mut canary) = ((0.0, 0.0), (0.0, 0.0));
        let called = (0..5_000).any(|_| {
            let (release, outcome) = Moment::both(0.25, 0.05).outcome(rng);
            let seen = if release == Release::Stable { &mut stable } else { &mut canary };
            seen.0 += f64::from(u8::from(outcome.failed()));
            seen.1 += 1.0;
            let pooled: f64 = (stable.0 + canary.0) / (stable.1 + canary.1);
            let deviation = (pooled * (1.0 - pooled) * (1.0 / stable.1 + 1.0 / canary.1)).sqrt();
            canary.0 / canary.1 - stable.0 / stable.1 > 1.645 * deviation
        });
        [called]
    });
    println!("the z-test, looked at after every answer: called different in {called} of runs");
    assert!(called > 2.0 * ALPHA, "{called}");
}

/// The probability that one of the intervals after each of `answers` answers misses the true rate. It is
/// computed exactly, from the probabilities of all numbers of failures for which no interval has missed it so
/// far.
fn probability_to_miss(rate: f64, answers: u64) -> f64 {
    let sequence = ConfidenceSequence::new(ALPHA);
    let holds = |failures, requests| {
        let interval = sequence.interval(Counts { requests, failures, slow: 0 });
        interval.lower <= rate && rate <= interval.upper
    };
    // With one more answer, the smallest and the largest number of failures grow by at most one.
    let (mut fewest, mut most) = (0_u64, 0_u64);
    let mut probabilities = vec![1.0];
    let mut missed = 0.0;
    for requests in 1..=answers {
        let mut after = vec![0.0; probabilities.len() + 1];
        for (index, probability) in probabilities.iter().enumerate() {
            after[index] += probability * (1.0 - rate);
            after[index + 1] += probability * rate;
        }
        if most < requests && holds(most + 1, requests) {
            most += 1;
        } else {
            missed += after.pop().unwrap_or_default();
        }
        if !holds(fewest, requests) {
            missed += after.remove(0);
            fewest += 1;
        }
        assert!(holds(fewest, requests) && holds(most, requests), "{fewest}, {most} of {requests}");
        probabilities = after;
    }
    missed
}

#[test]
fn the_interval_misses_the_truth_with_probability_at_most_alpha() {
    for rate in [0.001, 0.01, 0.05, 0.2, 0.5] {
        let missed = probability_to_miss(rate, 20_000);
        println!("interval at {rate}: misses the truth within 20,000 answers with probability {missed:.4}");
        assert!(0.0 < missed && missed <= ALPHA, "{missed} at {rate}");
    }
}

/// How long this takes.
fn time_of(what: impl FnOnce()) -> Duration {
    let start = Instant::now();
    what();
    start.elapsed()
}

#[test]
fn an_outcome_and_a_look_cost_the_same_after_ten_million_answers_as_after_ten() {
    let mut rng = Rng::with_seed(1);
    let mut observe = |judge: &mut Judge| {
        let (release, outcome) = Moment::both(0.25, 0.01).outcome(&mut rng);
        judge.observe(Request::new(Some(release), outcome));
    };
    let judges = [10, 10_000_000].map(|answers| {
        let mut judge = Judge::new(Settings::default());
        (0..answers).for_each(|_| observe(&mut judge));
        judge
    });
    // the shortest of several times, and both in turn, because other programs may make some of them longer
    let mut shortest = [(Duration::MAX, Duration::MAX); 2];
    for _ in 0..30 {
        for (judge, (look, outcome)) in judges.iter().zip(&mut shortest) {
            let looks = time_of(|| (0..100).for_each(|_| drop(black_box(judge.verdict()))));
            let mut judge = judge.clone();
            let outcomes = time_of(|| (0..10_000).for_each(|_| observe(&mut judge)));
            (*look, *outcome) = ((*look).min(looks / 100), (*outcome).min(outcomes / 10_000));
        }
    }
    let [early, late] = shortest;
    println!("a look and an outcome cost {early:?} after 10 answers, {late:?} after 10,000,000");
    assert!(
        late.0 <= 10 * early.0 && late.1 <= 10 * early.1.max(Duration::from_nanos(10)),
        "{early:?}, {late:?}"
    );
}

//! A mystery: whether and how the canary is bad is hidden until the class has decided. The riddle follows from a seed.
//!
//! Its faults are in the pods, in front of the service, because labels would give them away. The canary has as many pods as
//! stable, and requests have several paths, whatever the truth is.

use std::{
    convert::Infallible,
    fmt, io,
    ops::Range,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, Uri, header::CONTENT_LENGTH},
    middleware::{self, Next},
    response::Response,
};
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use super::{
    cluster::{CANARY_MYSTERY, Cluster, STABLE},
    page::showing_notes,
    steps::REPLICAS,
};
use crate::{
    messages::message,
    serve::{Rehearsal, Serve},
    view::page::{Canary, Conditions, Progress},
};
use canary_judge::{Counts, Release};

/// The paths of the requests.
pub(super) const PATHS: [&str; 3] = ["/cart", "/search", "/account"];
/// An answer that takes longer counts as a failure. It is long, so that a busy laptop does not make good ones late.
pub(super) const MAX_LATENCY: Duration = Duration::from_secs(1);
/// The delay of an answer of a slow canary.
const LATE: Duration = Duration::from_millis(1300);
/// How long a canary that fails only later is good.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// The time of an incident.
const INCIDENT: Range<Duration> = Duration::from_secs(10)..Duration::from_secs(40);
/// The body of a failure, as that of a broken pod: the same for all kinds.
const FAILURE: &str = "{\"error\":\"something went wrong\"}\n";

/// How the canary is. The percentages are of the requests that are affected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Truth {
    Well,
    Fails { percent: f64 },
    Slow { percent: f64 },
    OnePath { path: usize, percent: f64 },
    OnePod { pod: usize, percent: f64 },
    Later { percent: f64 },
    Incident { percent: f64 },
}

impl Truth {
    fn of(seed: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(seed.into());
        let (kind, part) = (random.u8(..8), random.f64());
        // small ones as often as large ones
        let percent = |from: f64, to: f64| (from * (to / from).powf(part) * 10.0).round() / 10.0;
        match kind {
            0 => Self::Fails { percent: percent(0.5, 20.0) },
            1 => Self::Slow { percent: percent(2.0, 20.0) },
            2 => Self::OnePath { path: random.usize(..PATHS.len()), percent: percent(5.0, 50.0) },
            3 => Self::OnePod { pod: random.usize(..REPLICAS), percent: percent(5.0, 50.0) },
            4 => Self::Later { percent: percent(5.0, 20.0) },
            5 => Self::Incident { percent: percent(10.0, 40.0) },
            _ => Self::Well,
        }
    }
}

/// What is told in the end.
impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (late, most) = (LATE.as_secs_f64(), MAX_LATENCY.as_secs_f64());
        match *self {
            Self::Well => write!(f, "the canary is as good as stable. It never fails."),
            Self::Fails { percent } => write!(f, "the canary fails {percent} % of its requests."),
            Self::Slow { percent } => {
                write!(f, "{percent} % of its answers take {late} s longer. Over {most} s is a failure.")
            }
            Self::OnePath { path, percent } => {
                write!(f, "the canary fails {percent} % of the requests for {}, and no others.", PATHS[path])
            }
            Self::OnePod { percent, .. } => {
                write!(f, "one of the canary's {REPLICAS} pods fails {percent} % of its requests.")
            }
            Self::Later { percent } => {
                let seconds = GOOD_FOR.as_secs();
                write!(f, "the canary fails {percent} % of its requests, but only after {seconds} s.")
            }
            Self::Incident { percent } => {
                let Range { start, end } = INCIDENT;
                let (start, end) = (start.as_secs(), end.as_secs());
                write!(f, "it is good. An incident made both fail {percent} %, from second {start} to {end}.")
            }
        }
    }
}

/// A riddle, and when it began.
#[derive(Debug)]
pub(super) struct Riddle {
    seed: u32,
    truth: Truth,
    began: OnceLock<Instant>,
}

/// What happens to a request, with these probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Effect {
    fails: f64,
    late: f64,
}

impl Riddle {
    pub(super) fn of(seed: u32) -> Self {
        Self { seed, truth: Truth::of(seed), began: OnceLock::new() }
    }

    /// The one that is played after it: that of the next seed. So the same first seed is the same series.
    fn following(&self) -> Self {
        Self::of(self.seed.wrapping_add(1))
    }

    /// The command that plays it again.
    fn command(&self) -> String {
        format!("canary rehearse --mystery {}", self.seed)
    }

    /// Tells how to play it again.
    pub(super) fn tell(&self) {
        message(format_args!("to play the same mystery again: {}", self.command()));
    }

    /// What happens to a request for this path at this pod, after this time.
    fn effect(&self, (release, pod): (Release, usize), path: &str, after: Duration) -> Effect {
        let is_canary = release == Release::Canary;
        let percent = match self.truth {
            Truth::Incident { percent } if INCIDENT.contains(&after) => percent,
            Truth::Fails { percent } if is_canary => percent,
            Truth::OnePath { path: bad, percent } if is_canary && path == PATHS[bad] => percent,
            Truth::OnePod { pod: bad, percent } if is_canary && pod == bad => percent,
            Truth::Later { percent } if is_canary && after >= GOOD_FOR => percent,
            Truth::Slow { percent } if is_canary => {
                return Effect { late: percent / 100.0, ..Effect::default() };
            }
            _ => 0.0,
        };
        Effect { fails: percent / 100.0, ..Effect::default() }
    }
}

/// A pod in a mystery.
#[derive(Clone, Debug)]
pub(super) struct Player {
    pub(super) riddle: Arc<Riddle>,
    pub(super) release: Release,
    /// Its number among the pods of its release.
    pub(super) pod: usize,
}

impl Player {
    /// The service of the pod, at all paths, and with what the riddle does to requests.
    pub(super) fn in_front_of(self, service: Router) -> Router {
        Router::new().fallback_service(service).layer(middleware::from_fn_with_state(self, play))
    }
}

async fn play(State(player): State<Player>, mut request: Request, next: Next) -> Response {
    let after = player.riddle.began.get().map(Instant::elapsed);
    let Some(path) = PATHS.into_iter().find(|path| *path == request.uri().path()) else {
        return next.run(request).await;
    };
    *request.uri_mut() = Uri::from_static("/v1/appinfo");
    let effect = after.map(|after| player.riddle.effect((player.release, player.pod), path, after));
    let Effect { fails, late } = effect.unwrap_or_default();
    if fastrand::f64() < late {
        sleep(LATE).await;
    }
    let mut answer = next.run(request).await; // for its headers, too, which name the release
    if fastrand::f64() < fails {
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer.headers_mut().remove(CONTENT_LENGTH);
        *answer.body_mut() = Body::from(FAILURE);
    }
    answer
}

/// A step of a mystery.
#[derive(Clone, Copy, Debug)]
enum Step {
    Deploy,
    Decide,
    AskTheJudge,
    TellTheTruth,
}

impl Step {
    const ALL: [Self; 4] = [Self::Deploy, Self::Decide, Self::AskTheJudge, Self::TellTheTruth];

    fn title(self) -> &'static str {
        match self {
            Self::Deploy => "Deploy the mystery",
            Self::Decide => "Decide",
            Self::AskTheJudge => "Ask the judge",
            Self::TellTheTruth => "Tell the truth",
        }
    }

    /// What the button for the step after it says.
    fn next(self) -> &'static str {
        match self {
            Self::Deploy => Self::Decide.title(),
            Self::Decide => Self::AskTheJudge.title(),
            Self::AskTheJudge => Self::TellTheTruth.title(),
            Self::TellTheTruth => "Another mystery",
        }
    }

    fn text(self, riddle: &Riddle, [stable, canary]: [Counts; 2]) -> String {
        match self {
            Self::Deploy => {
                "Is the canary good, or bad in some way? Watch its answers, and decide.".to_owned()
            }
            Self::Decide => format!(
                "The bill: by now the canary has failed {} of {} requests, and stable {} of {}.",
                canary.failures, canary.requests, stable.failures, stable.requests
            ),
            Self::AskTheJudge => {
                "It has judged the same requests. What does it say, and since when?".to_owned()
            }
            Self::TellTheTruth => format!("The truth: {}", riddle.truth),
        }
    }
}

/// The progress before the first step of a mystery.
pub(super) fn before_the_first_step(riddle: &Riddle, progress: Progress) -> Progress {
    Progress {
        of: Step::ALL.len(),
        title: "A mystery",
        commands: vec![riddle.command()],
        text: "Three pods of stable, and three of a canary. You decide about it before the judge speaks."
            .to_owned(),
        next: Some(Step::Deploy.title()),
        conditions: Conditions { canary: Canary::Mystery, ..progress.conditions },
        ..progress
    }
}

/// Takes each step when a viewer requests it, of one mystery after another. Returns only on an error.
pub(super) async fn take_steps(
    first: Arc<Riddle>,
    cluster: &mut Cluster,
    mut notes: UnboundedReceiver<String>,
    rehearsal: &Rehearsal,
    serve: &Serve,
) -> io::Result<Infallible> {
    let (mut riddle, mut before) = (first, 0);
    riddle.tell(); // before a class sees it
    loop {
        for (step, number) in Step::ALL.into_iter().zip(before + 1..) {
            rehearsal.until_wanted(number).await;
            let text = step.text(&riddle, serve.answers());
            if matches!(step, Step::Deploy) {
                rehearsal.hide_judge(); // before it is told
            }
            rehearsal.show(|progress| {
                (progress.number, progress.of, progress.before) = (number, before + Step::ALL.len(), before);
                (progress.title, progress.next) = (step.title(), Some(step.next()));
                (progress.commands, progress.text) = (vec![riddle.command()], text);
                (progress.note, progress.under_way) = (String::new(), true);
                progress.paused = matches!(step, Step::Deploy);
            });
            serve.pause(rehearsal, false);
            if number > Step::ALL.len() && matches!(step, Step::Deploy) {
                riddle.tell();
            }
            match step {
                Step::Deploy => {
                    let beginning = begin(&riddle, cluster, rehearsal, serve);
                    showing_notes(beginning, &mut notes, rehearsal).await?;
                }
                Step::Decide => {}
                Step::AskTheJudge | Step::TellTheTruth => rehearsal.set_curtain(false),
            }
            rehearsal.show(|progress| (progress.under_way, progress.paused) = (false, false));
        }
        (riddle, before) = (Arc::new(riddle.following()), before + Step::ALL.len());
    }
}

/// Begins a mystery and its vote. Of the one before, nothing is left.
async fn begin(
    riddle: &Arc<Riddle>,
    cluster: &mut Cluster,
    rehearsal: &Rehearsal,
    serve: &Serve,
) -> io::Result<()> {
    cluster.delete_all().await?;
    serve.forget();
    rehearsal.begin_round();
    cluster.riddle = Some(Arc::clone(riddle));
    deploy(cluster).await?;
    let _ = riddle.began.set(Instant::now()); // it begins once
    Ok(())
}

async fn deploy(cluster: &mut Cluster) -> io::Result<()> {
    cluster.scale(STABLE, REPLICAS).await?;
    cluster.scale(CANARY_MYSTERY, REPLICAS).await
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashSet},
        iter,
        mem::discriminant,
        net::Ipv4Addr,
    };

    use canary_judge::Outcome;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        rehearse::{Faults, page::service_of},
        source::{
            Answer, Attribution, Response,
            probe::{Client, Limits},
        },
    };

    #[test]
    fn the_same_seed_is_the_same_riddle_and_all_kinds_occur() {
        for (seed, truth) in
            [(1, Truth::Incident { percent: 21.0 }), (2, Truth::OnePath { path: 2, percent: 40.9 })]
        {
            assert_eq!(Truth::of(seed), truth, "a riddle that somebody has written down stays the same");
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/teaching.md");
        let page = std::fs::read_to_string(page).expect("the page with the seeds for teachers");
        let riddles = page.lines().filter_map(|line| {
            let mut columns = line.strip_prefix("| ")?.split(" | ");
            Some((columns.next()?.parse::<u32>().ok()?, columns.next()?))
        });
        let told: Vec<_> = riddles.map(|(seed, truth)| (Truth::of(seed), truth)).collect();
        assert_eq!(told.len(), 8, "{told:?}");
        for (truth, text) in told {
            assert_eq!(truth.to_string(), text);
        }
        let truths: Vec<_> = (0..1000).map(Truth::of).collect();
        let kinds: Vec<_> = truths.iter().map(discriminant).collect();
        for kind in &kinds[..100] {
            let times = kinds.iter().filter(|other| *other == kind).count();
            assert!((80..400).contains(&times), "{kind:?} {times} times of 1000");
        }
        assert_eq!(kinds[..100].iter().collect::<HashSet<_>>().len(), 7);
        for truth in truths {
            let (percent, bounds) = match truth {
                Truth::Well => continue,
                Truth::Fails { percent } => (percent, 0.5..=20.0),
                Truth::Slow { percent } => (percent, 2.0..=20.0),
                Truth::OnePath { percent, .. } | Truth::OnePod { percent, .. } => (percent, 5.0..=50.0),
                Truth::Later { percent } => (percent, 5.0..=20.0),
                Truth::Incident { percent } => (percent, 10.0..=40.0),
            };
            assert!(bounds.contains(&percent), "{truth:?}");
            let told = Step::TellTheTruth.text(&riddle(truth), <[Counts; 2]>::default());
            assert!(told.len() <= 110 && told.contains(&format!(" {percent} %")), "one line: {told}");
        }
    }

    #[test]
    fn the_next_mystery_is_that_of_the_next_seed_so_a_series_is_the_same_again() {
        let series = |first| {
            let all = iter::successors(Some(Riddle::of(first)), |riddle| Some(riddle.following()));
            all.map(|riddle| (riddle.seed, riddle.truth)).take(8).collect::<Vec<_>>()
        };
        let expected: Vec<_> = (7..15).map(|seed| (seed, Truth::of(seed))).collect();
        assert_eq!(series(7), expected);
        let kinds: HashSet<_> = expected.iter().map(|(_, truth)| discriminant(truth)).collect();
        assert!(kinds.len() >= 4, "neighbours differ: {expected:?}");
        assert_eq!(series(u32::MAX)[1], (0, Truth::of(0)), "the last one is followed by the first");
        assert!(Riddle::of(7).following().began.get().is_none());
    }

    #[test]
    fn only_an_incident_meets_stable_and_what_comes_later_is_not_there_before() {
        let seconds = Duration::from_secs;
        let all = (0..200).map(Truth::of);
        for truth in all {
            for (after, path, pod) in [(seconds(0), 0, 0), (seconds(20), 1, 1), (seconds(90), 2, 2)] {
                let effect = riddle(truth).effect((Release::Stable, pod), PATHS[path], after);
                let hit = matches!(truth, Truth::Incident { .. }) && after == seconds(20);
                assert_eq!(effect != Effect::default(), hit, "{truth:?} {after:?}");
            }
        }
        let fails = |truth, seconds| {
            riddle(truth).effect((Release::Canary, 0), PATHS[0], Duration::from_secs(seconds))
                != Effect::default()
        };
        let (later, incident) = (Truth::Later { percent: 50.0 }, Truth::Incident { percent: 50.0 });
        assert_eq!([0, 59, 60, 600].map(|after| fails(later, after)), [false, false, true, true]);
        assert_eq!([0, 9, 10, 39, 40].map(|after| fails(incident, after)), [false, false, true, true, false]);
    }

    fn riddle(truth: Truth) -> Riddle {
        Riddle { seed: 0, truth, began: OnceLock::new() }
    }

    /// A request through the Service: its path, and its answer.
    type Seen = (String, Answer);

    /// What clients see from this time on after the riddle has begun: as many requests as it takes until `enough`.
    async fn seen(truth: Truth, after: Duration, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let (mut cluster, _notes) =
            Cluster::new(listener, Faults { percent: 0.0, delay_ms: 0.0 }).expect("a directory");
        let riddle = Arc::new(riddle(truth));
        cluster.riddle = Some(Arc::clone(&riddle));
        deploy(&mut cluster).await.expect("six pods");
        let began = Instant::now().checked_sub(after).expect("this machine runs for some minutes");
        riddle.began.set(began).expect("only once");
        let mut client = Client::new(Arc::new(service_of(&cluster).expect("valid paths")));
        let mut seen = Vec::new();
        while !enough(&seen) {
            let observation = client.observe(0, Limits::timeout(Duration::from_secs(60))).await;
            let path = observation.stratum.expect("several paths").to_string();
            let Response::Answer(answer) = observation.response else { panic!("{:?}", observation.response) };
            seen.push((path, answer));
        }
        seen
    }

    fn is_of(release: Release) -> impl Fn(&&Seen) -> bool {
        move |(_, answer)| answer.attribution == Attribution::Release(release)
    }

    fn has_failed((_, answer): &Seen) -> bool {
        answer.outcome == Outcome::Failure
    }

    fn failures(seen: &[Seen], release: Release) -> usize {
        seen.iter().filter(is_of(release)).filter(|one| has_failed(one)).count()
    }

    #[tokio::test]
    async fn a_good_canary_never_fails_and_a_failing_one_fails_its_share() {
        let good = seen(Truth::Well, Duration::ZERO, |seen| seen.len() == 300).await;
        assert_eq!(good.iter().filter(|one| has_failed(one)).count(), 0);
        let pods: BTreeSet<_> = good.iter().map(|(_, answer)| answer.pod.clone()).collect();
        let paths: BTreeSet<_> = good.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!((pods.len(), paths), (6, PATHS.into()), "as in every mystery");
        let of_canary = good.iter().filter(is_of(Release::Canary)).count();
        assert!((90..=210).contains(&of_canary), "{of_canary} of 300: seven deviations");

        let failing = seen(Truth::Fails { percent: 5.0 }, Duration::ZERO, |seen| seen.len() == 1200).await;
        let failed = failures(&failing, Release::Canary);
        assert!(
            (1..=90).contains(&failed),
            "{failed} of about 600, of which 30 are expected: ten deviations"
        );
        assert_eq!(failures(&failing, Release::Stable), 0);
        let mut others = failing.iter().filter(|one| has_failed(one)).map(|(_, answer)| answer.status);
        assert!(others.all(|status| status == Some(500)));
    }

    #[tokio::test]
    async fn one_path_or_one_pod_fails_and_no_other() {
        let enough = |seen: &[Seen]| seen.len() >= 400;
        let path = seen(Truth::OnePath { path: 1, percent: 50.0 }, Duration::ZERO, enough).await;
        let failed: BTreeSet<_> =
            path.iter().filter(|one| has_failed(one)).map(|(path, _)| path.as_str()).collect();
        assert_eq!(failed, [PATHS[1]].into());
        assert_eq!(failures(&path, Release::Stable), 0);
        let pod = seen(Truth::OnePod { pod: 2, percent: 50.0 }, Duration::ZERO, enough).await;
        let failed: BTreeSet<_> =
            pod.iter().filter(|one| has_failed(one)).map(|(_, answer)| answer.pod.clone()).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failures(&pod, Release::Stable), 0);
    }

    #[tokio::test]
    async fn a_slow_canary_is_late_and_nothing_else() {
        let is_late =
            |one: &&Seen| is_of(Release::Canary)(one) && one.1.latency.is_some_and(|latency| latency >= LATE);
        let enough = |seen: &[Seen]| seen.iter().any(|one| is_late(&one)) || seen.len() == 200;
        let seen = seen(Truth::Slow { percent: 50.0 }, Duration::ZERO, enough).await;
        assert!(seen.iter().any(|one| is_late(&one)));
        assert_eq!(
            seen.iter().filter(|one| has_failed(one)).count(),
            0,
            "without a limit, its answers are good"
        );
        assert!(LATE > MAX_LATENCY);
    }

    #[tokio::test]
    async fn some_canaries_fail_only_later_and_an_incident_hits_both() {
        let later = Truth::Later { percent: 50.0 };
        let before = seen(later, Duration::ZERO, |seen| seen.len() == 30).await;
        assert_eq!(before.iter().filter(|one| has_failed(one)).count(), 0);
        let after = seen(later, GOOD_FOR, |seen| seen.len() == 200).await;
        assert!(failures(&after, Release::Canary) > 0);
        assert_eq!(failures(&after, Release::Stable), 0);
        let both = |seen: &[Seen]| {
            [Release::Stable, Release::Canary].into_iter().all(|release| failures(seen, release) > 0)
        };
        let enough = |seen: &[Seen]| both(seen) || seen.len() == 1000;
        let during = seen(Truth::Incident { percent: 50.0 }, INCIDENT.start, enough).await;
        assert!(both(&during));
        let over = seen(Truth::Incident { percent: 50.0 }, INCIDENT.end, |seen| seen.len() == 100).await;
        assert_eq!(over.iter().filter(|one| has_failed(one)).count(), 0);
    }
}

//! `--state FILE`: the trials survive a restart.
//!
//! The file has one line of JSON, the head, and then the trials in a binary form (postcard), in which every `f64` is exact.
//! It is written whole into a file beside it, which then takes its name, so there is always a whole file. A file that
//! cannot be used is renamed, never deleted.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt;
use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    Serve,
    trials::{Gap, Trials},
};
use crate::{foreign, messages::message, moment, trial::Trial};

/// The version of the form. Another form has another version.
const VERSION: u64 = 2;
/// A longer file is neither written nor read: a judge in a container of 128 MiB would end while it reads it, at each
/// start. With the worst service of the tests, it has 780 KiB.
const LONGEST: u64 = 32 << 20;
/// The maximum length of the head.
const LONGEST_HEAD: usize = 64 << 10;
/// The maximum length of the value of a term in it, in bytes. There are fewer than 30, and each is escaped once.
const LONGEST_TERM: usize = 500;
/// The most links that lead to a file which does not exist yet.
const MOST_LINKS: u32 = 40;
/// The minimum time between two writes.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// So many files of the same second are set aside.
const MOST_ASIDE: u32 = 1000;

/// The first line of the file.
#[derive(Debug, Deserialize, Serialize)]
struct Head {
    canary_state: u64,
    /// When it was written, in UTC, for people.
    written: String,
    /// What is watched, and the terms on which it is judged, in the words of the flags: a long value is cut.
    #[serde(default)] // files of before have another form
    terms: Shown,
    /// The SHA-256 of all of it.
    of_sha256: String,
    /// The length of what follows, and its SHA-256.
    bytes: usize,
    sha256: String,
}

/// Only this is sure to be in the head of a newer file.
#[derive(Debug, Deserialize)]
struct AnyHead {
    canary_state: u64,
}

/// What follows, after the time when it was written.
#[derive(Debug, Deserialize)]
struct Body {
    counting_since: SystemTime,
    trials: Trials,
}

/// All of it, to write it.
#[derive(Debug, Serialize)]
struct BodyRef<'a> {
    written: SystemTime,
    counting_since: SystemTime,
    trials: &'a Trials,
}

/// What is watched, and the terms on which it is judged. Evidence goes on only on the same.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// All of it, in any form.
    pub exact: String,
    /// For people: flags and their values.
    pub shown: Shown,
}

/// Flags and their values.
type Shown = Vec<(Cow<'static, str>, String)>;

/// The terms that differ, as `"--alpha 0.05, now 0.01"`.
fn differing(theirs: &Shown, ours: &Shown) -> String {
    let value = |terms: &Shown, name: &str| {
        let found = terms.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| foreign::bounded(value, LONGEST_TERM))
    };
    let mut names: Vec<_> = theirs.iter().chain(ours).map(|(name, _)| name).collect();
    let mut known = BTreeSet::new();
    names.retain(|name| known.insert(*name));
    let changes = names.into_iter().filter_map(|name| {
        let (theirs, ours) = (value(theirs, name), value(ours, name));
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let name = foreign::bounded(name, foreign::LABEL);
        (theirs != ours).then(|| format!("{name} {}, now {}", text(theirs), text(ours)))
    });
    changes.collect::<Vec<_>>().join("; ")
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is damaged ({0})")]
    Damaged(&'static str),
    #[error("it is of a newer canary (version {0} of the form, and this canary knows {VERSION})")]
    Newer(u64),
    #[error("it is of an older canary (version {0} of the form, and this canary has {VERSION})")]
    Older(u64),
    #[error("it is of a trial on other terms, and evidence holds only on its own: {0}")]
    OtherTerms(String),
}

/// The two parts of the file: the head, and what follows.
fn encode(
    trials: &Trials,
    counting_since: SystemTime,
    of: &Terms,
    clocks: (Instant, SystemTime),
) -> io::Result<[Vec<u8>; 2]> {
    let body = BodyRef { written: clocks.1, counting_since, trials };
    let body = moment::by(clocks, || postcard::to_stdvec(&body)).map_err(io::Error::other)?;
    let head = Head {
        canary_state: VERSION,
        written: humantime::format_rfc3339_seconds(clocks.1).to_string(),
        terms: of
            .shown
            .iter()
            .map(|(name, value)| (name.clone(), foreign::bounded(value, LONGEST_TERM)))
            .collect(),
        of_sha256: checksum(of.exact.as_bytes()),
        bytes: body.len(),
        sha256: checksum(&body),
    };
    let mut head = serde_json::to_vec(&head).map_err(io::Error::other)?;
    head.push(b'\n');
    if (head.len() + body.len()) as u64 > LONGEST {
        let text =
            format!("the trials have {} MiB, and the file may have {}", body.len() >> 20, LONGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok([head, body])
}

/// The trials in these bytes, and since when they count.
///
/// # Errors
/// If they cannot be used.
pub(super) fn decode(
    bytes: &[u8],
    of: &Terms,
    like: &Trial,
    clocks: (Instant, SystemTime),
) -> Result<(Trials, SystemTime, Gap), Unusable> {
    let end = bytes.iter().take(LONGEST_HEAD).position(|byte| *byte == b'\n');
    let (head, body) =
        bytes.split_at(end.ok_or(Unusable::Damaged("it does not begin like a file of --state"))?);
    let any: AnyHead = serde_json::from_slice(head)
        .map_err(|_| Unusable::Damaged("it does not begin like a file of --state"))?;
    if any.canary_state > VERSION {
        return Err(Unusable::Newer(any.canary_state));
    }
    if any.canary_state < VERSION {
        return Err(Unusable::Older(any.canary_state));
    }
    let head: Head =
        serde_json::from_slice(head).map_err(|_| Unusable::Damaged("its first line is not complete"))?;
    let body = body.get(1..).unwrap_or_default();
    if body.len() != head.bytes {
        return Err(Unusable::Damaged("a part of it is missing, or there is too much"));
    }
    if checksum(body) != head.sha256 {
        return Err(Unusable::Damaged("it has changed since canary wrote it"));
    }
    if head.of_sha256 != checksum(of.exact.as_bytes()) {
        let differing = match &head.terms[..] {
            [] => String::new(), // a file of before
            _ => differing(&head.terms, &of.shown),
        };
        let untold = || "it does not say which ones".to_owned();
        return Err(Unusable::OtherTerms(Some(differing).filter(|it| !it.is_empty()).unwrap_or_else(untold)));
    }
    trials_of(body, like, clocks).ok_or(Unusable::Damaged("its trials cannot be read"))
}

fn trials_of(body: &[u8], like: &Trial, clocks: (Instant, SystemTime)) -> Option<(Trials, SystemTime, Gap)> {
    let (written, body) = postcard::take_from_bytes::<SystemTime>(body).ok()?;
    // if the clock was set back, moments are as old as they were when the file was written
    let (instant, now) = clocks;
    let known = (instant, written.max(now));
    let (body, rest) = moment::by(known, || postcard::take_from_bytes::<Body>(body)).ok()?;
    let counting_since = moved(body.counting_since, known.1, now)?;
    let gap = Gap::new(written, now);
    let trials = body.trials.resume(counting_since, gap, like)?;
    rest.is_empty().then_some((trials, counting_since, gap))
}

/// A time of a clock that showed `from`, by the clock that shows `to` at the same moment.
fn moved(time: SystemTime, from: SystemTime, to: SystemTime) -> Option<SystemTime> {
    match to.duration_since(from) {
        Ok(ahead) => time.checked_add(ahead),
        Err(behind) => time.checked_sub(behind.duration()),
    }
}

fn checksum(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

/// The file, which no other process uses.
#[derive(Debug)]
pub struct StateFile {
    /// Without links, so that the file is replaced, and not a link to it.
    path: PathBuf,
    of: Terms,
    /// Locked while it is open.
    _lock: File,
}

impl StateFile {
    /// The file at this path. `of` says what is watched, and on which terms it is judged.
    ///
    /// # Errors
    /// If another process uses it, if it is no file, or if its directory cannot be written.
    pub fn new(path: &Path, of: Terms) -> io::Result<Self> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot use --state {}: {error}", path.display()))
        };
        let real = real(path).map_err(failed)?;
        if fs::metadata(&real).is_ok_and(|found| !found.is_file()) {
            return Err(failed(io::Error::other("it exists, and it is not a regular file")));
        }
        let lock = File::options().create(true).append(true).open(beside(&real, "lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => failed(io::Error::other("another canary uses it")),
            error => failed(error.into()),
        })?;
        Ok(Self { path: real, of, _lock: lock })
    }

    /// The trials of the file, if it has any that can go on. A file that cannot be used is set aside.
    ///
    /// # Errors
    /// If it cannot be read or renamed.
    pub(super) fn read(&self, like: &Trial, clocks: (Instant, SystemTime)) -> io::Result<Option<Trials>> {
        let path = self.path.display();
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot use --state {path}: {error}"));
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        let is_short = u64::try_from(bytes.len()).is_ok_and(|length| length <= LONGEST);
        let decoded = if is_short {
            decode(&bytes, &self.of, like, clocks)
        } else {
            Err(Unusable::Damaged("it is too long"))
        };
        match decoded {
            Ok((trials, _, gap)) => {
                message(format_args!("the trials of {path} go on. {gap}"));
                Ok(Some(trials))
            }
            Err(error) => {
                let aside = self.set_aside(clocks.1).map_err(failed)?;
                message(format_args!(
                    "the trials of {path} do not go on: {error}. It is now {}, and all trials begin anew",
                    aside.display()
                ));
                Ok(None)
            }
        }
    }

    /// Renames the file, to a name that is free.
    fn set_aside(&self, now: SystemTime) -> io::Result<PathBuf> {
        let time = humantime::format_rfc3339_seconds(now).to_string().replace(':', "");
        let names = (0..MOST_ASIDE).map(|number| match number {
            0 => format!("{time}.aside"),
            _ => format!("{time}-{number}.aside"),
        });
        let mut free = names.map(|name| beside(&self.path, &name)).filter(|path| !path.exists());
        let aside = free.next().ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Replaces the file by these parts, whole or not at all.
    fn write(&self, parts: &[Vec<u8>]) -> io::Result<()> {
        let new = beside(&self.path, "new");
        let mut file = File::create(&new)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn save(&self, serve: &Serve) -> io::Result<()> {
        let parts = {
            let trials = serve.trials();
            let clocks = (Instant::now(), SystemTime::now());
            // the clock may have been set since the start
            let since = serve.counting_since(&trials);
            let since = moved(since, serve.started.time_of(clocks.0), clocks.1).unwrap_or(since);
            encode(&trials, since, &self.of, clocks)?
        };
        self.write(&parts)
    }
}

/// The path without links. The file may not exist yet.
fn real(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let Ok(leads_to) = fs::read_link(&path) else {
            let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
            return Ok(fs::canonicalize(folder)?.join(name));
        };
        path = folder.join(leads_to);
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// A file beside this one: `FILE.name`.
fn beside(path: &Path, name: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".");
    beside.push(name);
    beside.into()
}

/// Writes the file while the server runs.
#[derive(Debug)]
pub(super) struct Saver {
    file: Arc<StateFile>,
    under_way: Option<JoinHandle<io::Result<()>>>,
    last: Instant,
    /// The number of changes at the last write.
    changes: Option<u64>,
    fails: bool,
}

impl Saver {
    pub(super) fn new(file: StateFile, now: Instant) -> Self {
        Self { file: Arc::new(file), under_way: None, last: now, changes: None, fails: false }
    }

    /// Begins to write the file, if there is a change and the last write was some time ago. Call it often.
    pub(super) fn tick(&mut self, serve: &Arc<Serve>, now: Instant) {
        if let Some(task) = &mut self.under_way {
            let Some(done) = task.now_or_never() else { return };
            self.under_way = None;
            self.done(done.map_err(io::Error::other).and_then(|done| done), serve);
        }
        let changes = serve.trials().changes();
        if now.saturating_duration_since(self.last) < WRITTEN_EVERY || self.changes == Some(changes) {
            return;
        }
        (self.last, self.changes) = (now, Some(changes));
        let (file, serve) = (Arc::clone(&self.file), Arc::clone(serve));
        self.under_way = Some(spawn_blocking(move || file.save(&serve)));
    }

    /// Writes the file a last time.
    pub(super) async fn end(&mut self, serve: &Arc<Serve>) {
        if let Some(task) = self.under_way.take() {
            let _ = task.await; // the next write has all of it
        }
        let (file, shared) = (Arc::clone(&self.file), Arc::clone(serve));
        let done = spawn_blocking(move || file.save(&shared)).await;
        self.done(done.map_err(io::Error::other).and_then(|done| done), serve);
    }

    /// Takes in the result of a write. Only the first failure and the first success after one are told.
    fn done(&mut self, done: io::Result<()>, serve: &Serve) {
        serve.metrics.state_was_written(done.is_ok());
        let path = self.file.path.display();
        match done {
            Ok(()) if self.fails => message(format_args!("--state {path} is written again")),
            Ok(()) => {}
            Err(error) => {
                self.changes = None; // try again, even without a change
                if !self.fails {
                    message(format_args!("cannot write --state {path}: {error}. The trials go on in memory"));
                }
                self.fails = true;
                return;
            }
        }
        self.fails = false;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{
        source::{Answer, Attribution, Observation, Response, Seen},
        trial::Coverage,
    };
    use canary_judge::{Outcome, Release, Settings};
    use proptest::prelude::*;

    fn of(exact: &str) -> Terms {
        Terms { exact: exact.to_owned(), shown: vec![("--alpha".into(), exact.to_owned())] }
    }

    fn trial(now: Instant) -> Trial {
        Trial::new(Settings::default(), None, Coverage::Sample, now)
    }

    fn trials(requests: u64, now: Instant) -> Trials {
        let mut trials = Trials::new(trial(now));
        for number in 0..requests {
            let is_canary = number.is_multiple_of(4);
            let (release, hash) =
                if is_canary { (Release::Canary, "c66665c44") } else { (Release::Stable, "567b989978") };
            let answer = Answer {
                attribution: Attribution::Release(release),
                outcome: if number.is_multiple_of(8) { Outcome::Failure } else { Outcome::Success },
                status: Some(200),
                latency: Some(Duration::from_micros(number)),
                pod: Some(format!("appinfo-{hash}-x2z4v")),
                info: None,
            };
            let observation = Observation {
                number,
                sent: now,
                started: None,
                stratum: None,
                response: Response::Answer(answer),
            };
            trials.observe(&Seen::Request(observation), now);
        }
        trials
    }

    fn bytes(trials: &Trials, clocks: (Instant, SystemTime)) -> Vec<u8> {
        encode(trials, clocks.1, &of("a service"), clocks).expect("it can be written").concat()
    }

    #[test]
    fn terms_of_any_length_are_the_same_terms_or_others() {
        let clocks = (Instant::now(), SystemTime::now());
        let value = "\u{1}\"\\".repeat(50_000);
        let shown = (0..30).map(|number| (format!("--flag-{number}").into(), value.clone())).collect();
        let terms = Terms { exact: value, shown };
        let file =
            encode(&trials(10, clocks.0), clocks.1, &terms, clocks).expect("it can be written").concat();
        assert!(decode(&file, &terms, &trial(clocks.0), clocks).is_ok());
        let other = Terms { exact: terms.exact.clone() + "x", ..terms };
        let other = decode(&file, &other, &trial(clocks.0), clocks).map(|_| ()).expect_err("other terms");
        assert!(other.to_string().ends_with("its own: it does not say which ones"), "{other}");
    }

    #[test]
    fn of_other_terms_only_those_that_differ_are_told() {
        let terms = |shown: &[(&'static str, &str)]| Terms {
            exact: format!("{shown:?}"),
            shown: shown.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect(),
        };
        let clocks = (Instant::now(), SystemTime::now());
        let before = terms(&[("--alpha", "0.05"), ("--max-ratio", "2"), ("--warm-up", "5s")]);
        let after = terms(&[("--alpha", "0.01"), ("--max-ratio", "2"), ("--release-from", "x")]);
        let file =
            encode(&trials(10, clocks.0), clocks.1, &before, clocks).expect("it can be written").concat();
        let error = decode(&file, &after, &trial(clocks.0), clocks).map(|_| ()).expect_err("other terms");
        assert_eq!(
            error.to_string(),
            "it is of a trial on other terms, and evidence holds only on its own: --alpha 0.05, now 0.01; \
             --warm-up 5s, now none; --release-from none, now x"
        );
    }

    #[test]
    fn a_path_with_links_is_that_of_the_file_even_before_it_exists() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("it exists");
        fs::create_dir(folder.join("data")).expect("a folder");
        let link = |to: &str, name: &str| symlink(to, folder.join(name)).expect("a link");
        link("data/state", "one");
        link("one", "two");
        link("data", "also-data");
        link("loop", "loop");
        let file = folder.join("data/state");
        let check = || {
            for name in ["one", "two", "data/state", "also-data/state", "data/../one"] {
                assert_eq!(real(&folder.join(name)).expect(name), file, "{name}");
            }
        };
        check();
        fs::write(&file, "").expect("a file");
        check();
        assert!(real(&folder.join("loop")).is_err() && real(&folder.join("none/state")).is_err());
        let here = std::env::current_dir().and_then(|here| here.canonicalize()).expect("a folder");
        assert_eq!(real(Path::new("no-such-state")).expect("a name"), here.join("no-such-state"));
    }

    #[test]
    fn the_evidence_is_read_as_it_was_written() {
        let clocks = (Instant::now(), SystemTime::now());
        let before = trials(4001, clocks.0);
        let (after, _, _) =
            decode(&bytes(&before, clocks), &of("a service"), &trial(clocks.0), clocks).expect("a good file");
        let verdict = |trials: &Trials| trials.current(clocks.0).one.trial().verdict(clocks.0);
        let (before, after) = (verdict(&before), verdict(&after));
        assert_eq!(before.decision, after.decision);
        assert!(after.ln_e_value >= before.ln_e_value && before.ln_e_value > 3.0, "the open batch is judged");
        let total = |verdict: &canary_judge::Verdict| {
            verdict.canary.counts.requests + verdict.stable.counts.requests + verdict.waiting.total().requests
        };
        assert_eq!(total(&before), total(&after));
    }

    #[test]
    fn over_a_clock_that_was_set_back_ages_stay_and_no_time_ends_before_it_begins() {
        const HOUR: Duration = Duration::from_secs(3600);
        let began = Instant::now();
        let (now, time) = (began + Duration::from_secs(600), SystemTime::now()); // a trial of ten minutes
        let before = trials(4001, began);
        let file = encode(&before, time - Duration::from_secs(700), &of("a service"), (now, time));
        let file = file.expect("it can be written").concat();
        let total = |trials: &Trials| {
            let verdict = trials.current(now).one.trial().verdict(now);
            verdict.canary.counts.requests + verdict.stable.counts.requests + verdict.waiting.total().requests
        };
        for (set_back, is_told) in [
            (Duration::from_millis(300), None),
            (Duration::from_secs(90), Some("1m 30s")),
            (HOUR, Some("1h")),
            (HOUR * 24 * 365 * 40, Some("39years ")),
        ] {
            let clocks = (now, time - set_back);
            let (after, since, gap) =
                decode(&file, &of("a service"), &trial(now), clocks).expect("a good file");
            assert_eq!(total(&after), total(&before), "{set_back:?}");
            let age = now.duration_since(after.current(now).one.trial().tally().began());
            assert!(
                age.abs_diff(Duration::from_secs(600)) < Duration::from_millis(1),
                "{set_back:?}: {age:?}"
            );
            let age = clocks.1.duration_since(since).expect("counting began before now");
            assert_eq!(age, Duration::from_secs(700), "{set_back:?}");
            let [from, until] = gap.ends();
            assert_eq!(from, until, "{set_back:?}");
            match is_told {
                Some(by) => {
                    let told = format!("the clock was set back by at least {by}");
                    assert!(gap.to_string().contains(&told), "{gap}");
                }
                None => assert!(
                    gap.to_string().starts_with("Nothing was seen for less than a second, at "),
                    "{gap}"
                ),
            }
        }
        // set forward, or just later
        let clocks = (now, time + HOUR);
        let (_, since, gap) = decode(&file, &of("a service"), &trial(now), clocks).expect("a good file");
        assert_eq!(clocks.1.duration_since(since).ok(), Some(HOUR + Duration::from_secs(700)));
        assert!(
            gap.to_string().starts_with("Nothing was seen between ") && gap.set_back().is_none(),
            "{gap}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_a_changed_file_is_never_taken(
            changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
            cut in any::<prop::sample::Index>(),
            junk in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let clocks = (Instant::now(), SystemTime::now());
            let (like, good) = (trial(clocks.0), bytes(&trials(200, clocks.0), clocks));
            let of = of("a service");
            prop_assert!(decode(&good[..cut.index(good.len())], &of, &like, clocks).is_err());
            prop_assert!(decode(&junk, &of, &like, clocks).is_err());
            let head = good.iter().position(|byte| *byte == b'\n').expect("a head");
            let mut body = good[head + 1..].to_vec();
            for (place, change) in changes {
                let place = place.index(body.len());
                body[place] = body[place].wrapping_add(change);
            }
            if body != good[head + 1..] {
                prop_assert!(decode(&[&good[..=head], &body].concat(), &of, &like, clocks).is_err());
            }
            let _ = postcard::from_bytes::<Body>(&body); // as if the checksum were right
            let _ = postcard::from_bytes::<Body>(&junk);
        }
    }
}

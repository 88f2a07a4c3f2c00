//! The progress of `canary judge` in a terminal: one line on standard error, which rewrites itself.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use ratatui::crossterm::terminal::size;

use super::nearness::Nearness;
use canary_judge::{Release, Verdict};

use crate::trial::tally::Tally;

/// The longest bar, in columns.
const LONGEST_BAR: usize = 30;
/// The shortest bar that is drawn.
const SHORTEST_BAR: usize = 6;
/// The width if the terminal reports none.
const DEFAULT_WIDTH: u16 = 80;

/// The limits of a judgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    /// Of `--for`.
    pub(crate) time: Duration,
    /// Of `--count`.
    pub(crate) count: Option<u64>,
}

/// The line. Dropping it clears it.
#[derive(Debug)]
pub(crate) struct Progress {
    until: Until,
    is_shown: bool,
}

impl Progress {
    /// A line on standard error; `None` if this is not a terminal that can rewrite a line.
    pub(crate) fn in_terminal(until: Until) -> Option<Self> {
        let can_rewrite = env::var_os("TERM").is_some_and(|kind| !kind.is_empty() && kind != "dumb");
        (io::stderr().is_terminal() && can_rewrite).then_some(Self { until, is_shown: false })
    }

    /// Writes the line anew.
    pub(crate) fn draw(&mut self, tally: &Tally, verdict: &Verdict, elapsed: Duration) {
        let width =
            size().map_or(DEFAULT_WIDTH, |(columns, _)| if columns > 0 { columns } else { DEFAULT_WIDTH });
        // the last column stays empty, because some terminals begin a new line there
        let line = line(tally, verdict, elapsed, self.until, usize::from(width).saturating_sub(1));
        let _ = write!(io::stderr(), "\r{line}\x1b[K"); // an error changes nothing else, as with messages
        self.is_shown = true;
    }

    /// Clears the line, so that something else can be written there.
    pub(crate) fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            self.is_shown = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line: a bar, the time left, the counts, and how near each decision is. What does not fit is left out.
fn line(tally: &Tally, verdict: &Verdict, elapsed: Duration, until: Until, width: usize) -> String {
    let left = until.time.saturating_sub(elapsed).as_secs();
    let left = format!("{}:{:02} left", left / 60, left % 60);
    let failed = |release| {
        let counts = tally.of_release(release);
        format!("{release} failed {} of {}", counts.failures, counts.requests)
    };
    let (stable, canary) = (failed(Release::Stable), failed(Release::Canary));
    let Nearness { promotion, roll_back } = Nearness::of(verdict);
    let nearness = format!("promote {promotion} %, roll back {roll_back} %");
    let parts = [
        vec![&left, &canary, &stable, &nearness],
        vec![&left, &canary, &nearness],
        vec![&canary, &nearness],
        vec![&nearness],
    ];
    let texts = parts.map(|parts| parts.into_iter().map(String::as_str).collect::<Vec<_>>().join("  "));
    let text = texts.into_iter().find(|text| text.len() <= width).unwrap_or_default();
    let room = width.saturating_sub(text.len() + 4).min(LONGEST_BAR);
    if room < SHORTEST_BAR {
        return text;
    }
    let of_count = until.count.map_or(0.0, |count| tally.total().requests as f64 / count as f64);
    let done = (elapsed.as_secs_f64() / until.time.as_secs_f64()).max(of_count).clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the room")]
    let full = (done * room as f64) as usize;
    format!("[{}{}]  {text}", "#".repeat(full), "-".repeat(room - full))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use canary_judge::{Batch, Counts, Judge, Settings};

    fn line_of(width: usize, count: Option<u64>) -> String {
        let counts = |failures, requests| Counts { requests, failures, slow: 0 };
        let batch = Batch { stable: counts(0, 516), canary: counts(0, 172), unattributed: 0 };
        let (mut judge, mut tally) = (Judge::new(Settings::default()), Tally::new(Instant::now()));
        judge.observe_batch(batch);
        tally.observe_batch(&batch);
        let until = Until { time: Duration::from_secs(300), count };
        line(&tally, &judge.verdict(), Duration::from_secs(75), until, width)
    }

    #[test]
    fn the_line_has_a_bar_the_time_left_the_counts_and_the_evidence() {
        let text = "3:45 left  canary failed 0 of 172  stable failed 0 of 516  promote 49 %, roll back 0 %";
        assert_eq!(line_of(120, None), format!("[#######-----------------------]  {text}"));
        assert_eq!(line_of(120, Some(1376)), format!("[###############---------------]  {text}"));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        for width in 0..200 {
            assert!(line_of(width, None).len() <= width, "{width}");
        }
        assert_eq!(
            line_of(79, None),
            "[###----------]  3:45 left  canary failed 0 of 172  promote 49 %, roll back 0 %"
        );
        assert_eq!(line_of(39, None), "[##------]  promote 49 %, roll back 0 %");
        assert_eq!(line_of(30, None), "promote 49 %, roll back 0 %");
    }
}

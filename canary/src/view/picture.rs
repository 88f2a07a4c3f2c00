//! The picture: the traffic and failures of each release, the pods, the last answers, and the verdict.

mod charts;
mod palette;
mod pods;
mod traffic;

use std::time::{Duration, Instant};

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::Widget,
};

pub use self::palette::Palette;
use self::traffic::attributions;
use crate::{
    source::Attribution,
    trial::{
        Trial,
        tally::{Recent, Tally},
    },
    view::history::History,
};
use canary_judge::{Latency, Percentiles, Release};

/// From this height on, there are empty lines between the parts.
const ROOMY: u16 = 20;

/// The picture, as a widget.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// The first line: the URL that requests go to.
    pub title: &'a str,
    /// The trial to show.
    pub trial: &'a Trial,
    /// Whether requests are paused.
    pub paused: bool,
    /// The time of drawing.
    pub now: Instant,
    /// The line that explains the keys; empty if they are explained elsewhere.
    pub keys: &'a str,
    /// The styles.
    pub palette: Palette,
    /// The last seconds.
    pub history: &'a History,
}

/// The maximum number of rows of the verdict.
const MAX_VERDICT_ROWS: u16 = 7;
/// In fewer columns than this, the verdict gets two rows before the pods get any: one row would say too little.
const NARROW: u16 = 60;
/// The verdict is cut so that at least this many pods are visible.
const MIN_PODS: u16 = 3;

/// The rows of each part, in the order from top to bottom.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    head: u16,
    traffic: u16,
    pods: u16,
    charts: u16,
    latencies: u16,
    /// With its legend.
    strip: u16,
    verdict: u16,
    keys: u16,
    /// The empty lines between parts.
    gap: u16,
}

/// How many rows each part could use.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    attributions: u16,
    pods: u16,
    latencies: u16,
    verdict: u16,
    keys: u16,
    has_charts: bool,
}

impl Rows {
    /// Distributes the rows of an area. What matters most gets its rows first, so that nothing else pushes it out.
    fn of(area: Rect, wanted: Wanted) -> Self {
        let mut left = area.height;
        let mut take = |rows: u16| {
            let taken = rows.min(left);
            left -= taken;
            taken
        };
        let mut rows = Self { head: take(1), verdict: take(1), keys: take(wanted.keys), ..Self::default() };
        rows.traffic = take(wanted.attributions);
        rows.traffic += take(1); // its header
        let verdict = wanted.verdict.min(MAX_VERDICT_ROWS);
        if area.width < NARROW {
            rows.verdict += take(verdict.min(2).saturating_sub(rows.verdict));
        }
        rows.pods = take(1 + wanted.pods.min(MIN_PODS));
        rows.strip = take(2);
        if rows.strip == 1 {
            (rows.strip, rows.pods) = (0, rows.pods + 1); // a legend alone tells nothing
        }
        rows.verdict += take(verdict.saturating_sub(rows.verdict));
        let gaps = if area.height >= ROOMY { take(3) } else { 0 };
        rows.gap = gaps / 3;
        rows.pods += gaps % 3; // too few for all gaps
        rows.strip += take((area.height / 10).clamp(1, 4) - 1);
        rows.pods += take(wanted.pods.saturating_sub(MIN_PODS));
        rows.latencies = take(wanted.latencies);
        if wanted.has_charts && area.width >= charts::LEAST_COLUMNS && left > charts::LEAST_ROWS {
            rows.charts = (left - 1).min(charts::MOST_ROWS);
            left -= rows.charts + 1; // and an empty line
        }
        rows.pods += left;
        rows
    }
}

impl Widget for Picture<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let tally = self.trial.tally();
        let verdict = self.trial.verdict(self.now);
        let price = self.trial.price(self.now).filter(|price| price.failed_requests > 0.0);
        let price = price.map(|price| format!(" {}", verdict.price_sentence(&price))).unwrap_or_default();
        let attributions = attributions(tally);
        let latencies = verdict.latency.as_ref().map(latencies).filter(|text| fits(text, area.width));
        let verdict = wrapped(&format!("{verdict}{price}"), area.width);
        let count = |number: usize| u16::try_from(number).unwrap_or(u16::MAX / 2);
        let rows = Rows::of(
            area,
            Wanted {
                attributions: count(attributions.len()),
                pods: count(tally.pods().iter().filter(|(_, pod)| !pod.gone_for_long).count()),
                latencies: u16::from(latencies.is_some()),
                verdict: count(verdict.len()),
                keys: u16::from(!self.keys.is_empty()),
                has_charts: !self.history.samples().is_empty(),
            },
        );
        let charts_gap = u16::from(rows.charts > 0);
        let [head, traffic, latencies_row, _, pods, _, charts, _, strip, _, judged, keys] = Layout::vertical(
            [
                rows.head,
                rows.traffic,
                rows.latencies,
                rows.gap,
                rows.pods,
                charts_gap,
                rows.charts,
                rows.gap,
                rows.strip,
                rows.gap,
                rows.verdict,
                rows.keys,
            ]
            .map(Constraint::Length),
        )
        .areas(area);

        self.head(head.width).render(head, buffer);
        self.traffic(tally, &attributions, traffic).render(traffic, buffer);
        Line::from(latencies.unwrap_or_default()).render(latencies_row, buffer);
        self.pods(tally, pods).render(pods, buffer);
        if rows.charts > 0 {
            self.charts(charts, buffer);
        }
        let [strip_head, strip] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(strip);
        let latency = latency(tally);
        let [legend, latency_area] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(count(latency.width()))])
                .spacing(1)
                .areas(strip_head);
        Line::from(legend_of(&attributions)).bold().render(legend, buffer);
        latency.render(latency_area, buffer);
        self.strip(tally, strip, buffer);
        for (line, row) in cut(verdict, rows.verdict).into_iter().zip(judged.rows()) {
            Line::from(line).bold().render(row, buffer);
        }
        Line::from(self.keys).dim().render(keys, buffer);
    }
}

impl Picture<'_> {
    /// The title, and the requests so far. In a narrow area, the title is cut.
    fn head(&self, width: u16) -> Line<'_> {
        let tally = self.trial.tally();
        let time = self.now.saturating_duration_since(tally.began()).as_secs();
        let requests = tally.total().requests;
        let so_far = format!("  {requests} requests in {}:{:02}", time / 60, time % 60);
        let paused = if self.paused { "  PAUSED" } else { "" };
        let room = usize::from(width).saturating_sub(so_far.len() + paused.len());
        let title = pods::ending(self.title, room);
        let mut line = Line::from(vec![Span::from(title).bold(), Span::from(so_far)]);
        line.push_span(Span::from(paused).add_modifier(Modifier::BOLD | Modifier::REVERSED));
        line
    }

    /// One cell for each of the last requests, oldest first.
    fn strip(&self, tally: &Tally, area: Rect, buffer: &mut Buffer) {
        let recent = tally.recent();
        let room = usize::from(area.width) * usize::from(area.height);
        let shown = recent.iter().skip(recent.len().saturating_sub(room));
        for (one, position) in shown.zip(area.positions()) {
            buffer[position].set_char(letter(one)).set_style(self.style_of(one));
        }
    }

    fn style_of(&self, one: &Recent) -> Style {
        let style = self.palette.attribution(&one.attribution);
        if one.failed { style.add_modifier(Modifier::REVERSED | Modifier::BOLD) } else { style }
    }
}

fn letter(one: &Recent) -> char {
    match &one.attribution {
        _ if !one.answered => '!',
        _ if one.failed => 'X',
        Attribution::Release(Release::Stable) => 's',
        Attribution::Release(Release::Canary) => 'c',
        Attribution::Other(_) => 'o',
        Attribution::Unnamed | Attribution::NoAnswer => 'u',
    }
}

/// The meaning of the letters in the strip. Rare letters are explained only if they occur.
fn legend_of(attributions: &[Attribution]) -> String {
    let mut legend = "last answers: s stable, c canary".to_owned();
    if attributions.iter().any(|attribution| matches!(attribution, Attribution::Other(_))) {
        legend += ", o other";
    }
    if attributions.contains(&Attribution::Unnamed) {
        legend += ", u unnamed";
    }
    legend + ", X failed, ! none"
}

fn latency(tally: &Tally) -> Line<'static> {
    let recent = tally.recent_latencies();
    let [median, tail] = [50, 99].map(|percent| latency_or_none(recent.percentile(percent)));
    Line::from(format!("p50 {median}  p99 {tail}"))
}

fn latency_or_none(latency: Option<Duration>) -> String {
    latency.map_or_else(|| "-".to_owned(), milliseconds)
}

fn fits(text: &str, width: u16) -> bool {
    text.chars().count() <= usize::from(width)
}

/// The distribution of both releases' latencies since the trial began.
fn latencies(Latency { canary, stable, .. }: &Latency) -> String {
    let of = |Percentiles { p50_ms, p90_ms, p99_ms, .. }: &Percentiles| {
        let shown = [p50_ms, p90_ms, p99_ms].map(|time| time.map_or_else(|| "-".to_owned(), tenths));
        shown.join(" / ")
    };
    format!("p50 / p90 / p99 in ms: stable {}, canary {}", of(stable), of(canary))
}

fn milliseconds(time: Duration) -> String {
    format!("{} ms", tenths(time.as_secs_f64() * 1e3))
}

/// A number that is never rounded to 0.
fn tenths(number: f64) -> String {
    if number < 0.05 { "<0.1".to_owned() } else { format!("{number:.1}") }
}

/// The first `most` lines. If there are more, the last one ends with an ellipsis.
fn cut(mut lines: Vec<String>, most: u16) -> Vec<String> {
    if lines.len() > usize::from(most) {
        lines.truncate(usize::from(most));
        if let Some(last) = lines.last_mut() {
            last.pop();
            last.push('…');
        }
    }
    lines
}

/// The text in lines of at most `width` characters, broken between words. A longer word has a line of its own.
pub(crate) fn wrapped(text: &str, width: u16) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut() {
            if line.is_empty() {
                line.push_str(word);
            } else if line.chars().count() + 1 + word.chars().count() <= usize::from(width) {
                line.push(' ');
                line.push_str(word);
            } else {
                lines.push(word.to_owned());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use appinfo::{app_info::AppInfo, labels::Labels};
    use ratatui::style::Color;

    use super::*;
    use crate::{
        source::{Answer, Cause, NoAnswer, Observation, Response},
        trial::Coverage,
    };
    use canary_judge::{Budget, Fraction, Outcome, Settings, Traffic};

    const COLOUR: Palette = Palette { colour: true };
    const PLAIN: Palette = Palette { colour: false };

    fn trial(responses: impl IntoIterator<Item = Response>) -> Trial {
        let budget = Budget {
            traffic: Traffic::new(10.0).expect("traffic"),
            slo: Fraction::new(0.999).expect("a fraction"),
        };
        let mut trial = Trial::new(Settings::default(), Some(budget), Coverage::Sample, Instant::now());
        for (number, response) in (0..).zip(responses) {
            trial.observe(&Observation {
                number,
                sent: Instant::now(),
                started: None,
                stratum: None,
                response,
            });
        }
        trial
    }

    fn answer(pod: &str, release: &str, status: u16) -> Response {
        let info = AppInfo::new(pod, "space", &Labels::parse(format!("release={release}\na=1").as_bytes()));
        Response::Answer(Answer {
            attribution: Attribution::of_answer(Some(release).filter(|release| !release.is_empty())),
            outcome: if status == 200 { Outcome::Success } else { Outcome::Failure },
            status: Some(status),
            latency: Some(Duration::from_millis(2)),
            pod: Some(pod.to_owned()),
            info: (status == 200).then_some(info),
        })
    }

    /// A trial whose answers all took so long.
    fn answered(latency: Duration) -> Trial {
        trial((0..100).map(|_| match answer("appinfo-567b989978-2x7kq", "stable", 200) {
            Response::Answer(answer) => Response::Answer(Answer { latency: Some(latency), ..answer }),
            other => other,
        }))
    }

    fn no_answer() -> Response {
        Response::NoAnswer(NoAnswer {
            attribution: Attribution::NoAnswer,
            cause: Cause::TimedOut,
            detail: "no answer within 2s".to_owned(),
            pod: None,
            info: None,
        })
    }

    fn drawn(trial: &Trial, width: u16, height: u16, palette: Palette) -> Buffer {
        drawn_after(0, trial, width, height, palette)
    }

    /// The picture with a history of this many seconds.
    fn drawn_after(seconds: u64, trial: &Trial, width: u16, height: u16, palette: Palette) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let now = trial.tally().began() + Duration::from_secs(3);
        let mut history = History::default();
        for second in 0..seconds {
            history.observe(trial, trial.tally().began() + Duration::from_secs(second));
        }
        let picture = Picture {
            title: "http://a",
            trial,
            paused: false,
            now,
            keys: "q quit",
            palette,
            history: &history,
        };
        picture.render(area, &mut buffer);
        buffer
    }

    fn row(buffer: &Buffer, y: u16) -> String {
        (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        (0..buffer.area.height).map(|y| row(buffer, y)).collect()
    }

    /// The first row of the strip: the row after its legend.
    fn strip(buffer: &Buffer) -> u16 {
        let legend = rows(buffer).iter().position(|row| row.starts_with("last answers")).expect("a legend");
        u16::try_from(legend).expect("small") + 1
    }

    #[test]
    fn each_request_is_a_letter_and_failures_are_reversed_with_and_without_colour() {
        let trial = trial([
            answer("one", "stable", 200),
            answer("two", "canary", 200),
            answer("two", "canary", 500),
            answer("six", "green", 200),
            answer("", "", 200),
            no_answer(),
        ]);
        for palette in [COLOUR, PLAIN] {
            let buffer = drawn(&trial, 80, 24, palette);
            let y = strip(&buffer);
            assert_eq!(row(&buffer, y).trim_end(), "scXou!");
            let reversed = |x| buffer[(x, y)].modifier.contains(Modifier::REVERSED);
            assert_eq!([0, 1, 2, 3, 4, 5].map(reversed), [false, false, true, false, false, true]);
        }
    }

    #[test]
    fn releases_have_different_colours_if_colours_are_allowed() {
        let trial = trial([answer("one", "stable", 200), answer("two", "canary", 500), no_answer()]);
        let buffer = drawn(&trial, 80, 24, COLOUR);
        let y = strip(&buffer);
        assert_ne!(buffer[(0, y)].fg, buffer[(1, y)].fg);
        let plain = drawn(&trial, 80, 24, PLAIN);
        assert!(plain.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
        assert_eq!(rows(&plain), rows(&buffer), "the text is the same without colours");
    }

    #[test]
    fn bars_show_the_share_and_ticks_the_share_expected_from_the_pods() {
        let four = [("one", "stable"), ("two", "stable"), ("three", "stable"), ("four", "canary")];
        let even = trial(four.iter().cycle().take(200).map(|(pod, release)| answer(pod, release, 200)));
        let buffer = drawn(&even, 80, 24, PLAIN);
        let [stable, canary] = [2, 3].map(|y| row(&buffer, y));
        assert!(stable.contains("75.0 %  75.0 %      150        0   0.0 %"), "{stable}");
        assert!(canary.contains("25.0 %  25.0 %       50        0   0.0 %"), "{canary}");
        let bar = |row: &str| row.chars().filter(|it| "█▌│".contains(*it)).count();
        assert_eq!(bar(&stable), 3 * bar(&canary), "{stable}\n{canary}");
    }

    #[test]
    fn a_share_that_is_given_has_the_mark_and_says_so() {
        let four = [("one", "stable"), ("two", "stable"), ("three", "green"), ("four", "canary")];
        let even = trial(four.iter().cycle().take(200).map(|(pod, release)| answer(pod, release, 200)));
        let buffer = drawn(&even.with_given_share("0.5%".parse().ok()), 80, 24, PLAIN);
        let [head, stable, canary, other] = [1, 2, 3, 4].map(|y| row(&buffer, y));
        assert!(head.contains("│ given: 0.5 %") && head.contains("share   given  success"), "{head}");
        assert!(stable.contains("50.0 %  99.5 %"), "{stable}");
        assert!(canary.contains("25.0 %   0.5 %"), "{canary}");
        assert!(other.contains("25.0 %       -"), "{other}");
        let tick = |row: &str| row.chars().position(|it| it == '│');
        assert_eq!(
            (tick(&canary), tick(&stable)),
            (Some(10), Some(10 + 27)),
            "at its first cell, and at its last"
        );
    }

    #[test]
    fn requests_without_an_answer_have_a_row_with_the_causes() {
        let trial = trial([answer("one", "stable", 200), no_answer(), no_answer()]);
        let buffer = drawn(&trial, 80, 24, PLAIN);
        let no_answer = rows(&buffer).into_iter().find(|row| row.starts_with("no answer")).expect("a row");
        assert!(no_answer.contains("2 timed out") && no_answer.contains("66.7 %"), "{no_answer}");
    }

    #[test]
    fn the_picture_can_be_drawn_in_any_size() {
        let many = (0..400).map(|number| answer(&format!("pod-{}", number % 37), "stable", 200));
        let trial = trial(many.chain([answer("six", "canary", 500), no_answer()]));
        for width in [0, 1, 2, 9, 10, 20, 40, 60, 79, 120, 250] {
            for height in [0, 1, 2, 3, 5, 8, 12, 16, 19, 20, 60] {
                drawn(&trial, width, height, COLOUR);
                drawn_after(9, &trial, width, height, COLOUR);
            }
        }
        let rows = rows(&drawn(&trial, 80, 24, COLOUR));
        assert!(rows.iter().any(|row| row.starts_with("and ") && row.contains(" more")), "{rows:#?}");
    }

    #[test]
    fn a_long_verdict_is_cut_to_keep_the_pods_visible() {
        let trial = trial((0..8).flat_map(|_| [answer("one", "stable", 200), answer("two", "canary", 200)]));
        let all = rows(&drawn(&trial, 80, 24, PLAIN));
        assert!(!all.iter().any(|row| row.contains('…')), "{all:#?}");
        let few = rows(&drawn(&trial, 80, 12, PLAIN));
        assert!(["one", "two"].iter().all(|pod| few.iter().any(|row| row.starts_with(pod))), "{few:#?}");
        assert!(few.iter().any(|row| row.trim_end().ends_with('…')), "{few:#?}");
    }

    /// Three stable pods and a canary that fails, with names as in Kubernetes.
    fn rollout() -> Trial {
        let pods = [
            ("appinfo-567b989978-2x7kq", "stable", 200),
            ("appinfo-567b989978-9vb4z", "stable", 200),
            ("appinfo-567b989978-vvzlg", "stable", 200),
            ("appinfo-canary-broken-c66665c44-d54zt", "canary", 500),
        ];
        trial(pods.iter().cycle().take(400).map(|(pod, release, status)| answer(pod, release, *status)))
    }

    #[test]
    fn a_small_terminal_shows_all_names_all_failures_and_the_verdict() {
        let all = rows(&drawn(&rollout(), 40, 12, PLAIN));
        let starts = |name: &str| all.iter().find(|row| row.starts_with(name)).map(String::as_str);
        let head = all[1].as_str();
        assert!(head.contains("success") && head.contains("failure") && head.contains("failing"), "{all:#?}");
        assert!(starts("stable").is_some_and(|row| row.contains("300") && row.contains("0.0 %")), "{all:#?}");
        assert!(
            starts("canary").is_some_and(|row| row.contains("100") && row.contains("100.0 %")),
            "{all:#?}"
        );
        assert!(starts("no answer").is_some() && starts("Roll back: ").is_some(), "{all:#?}");
        let of_canary = all.iter().find(|row| row.contains("66665c44-d54zt")).expect("its pod");
        assert!(of_canary.starts_with('…') && of_canary.contains("canary"), "{all:#?}");
        assert!(starts("q quit").is_some(), "{all:#?}");
        assert!(all[0].contains("400 requests in 0:03"), "{all:#?}");
    }

    #[test]
    fn the_verdict_and_the_releases_stay_however_few_rows_there_are() {
        for height in 6..24 {
            for width in [40, 80, 120] {
                let all = rows(&drawn(&rollout(), width, height, PLAIN));
                let has = |start: &str| all.iter().any(|row| row.starts_with(start));
                assert!(has("Roll back: ") && has("q quit"), "{width}x{height}: {all:#?}");
                assert!(has("stable") && has("canary") && has("no answer"), "{width}x{height}: {all:#?}");
            }
        }
    }

    #[test]
    fn the_pods_of_the_canary_come_first() {
        let many = (0..400).map(|number| answer(&format!("pod-{}", number % 37), "stable", 200));
        let trial = trial(many.chain([answer("the-canary", "canary", 500)]));
        let all = rows(&drawn(&trial, 80, 16, PLAIN));
        let pods = all.iter().position(|row| row.starts_with("pods: ")).expect("the pods");
        assert!(all[pods + 1].starts_with("the-canary"), "{all:#?}");
        assert!(all.iter().any(|row| row.starts_with("and ") && row.contains(" more")), "{all:#?}");
    }

    #[test]
    fn a_large_terminal_shows_the_course_of_the_evidence_and_of_the_latencies() {
        let all = rows(&drawn_after(50, &rollout(), 120, 40, PLAIN));
        let head = all.iter().find(|row| row.starts_with("towards a promotion: ")).expect("charts");
        assert!(
            head.contains("towards a roll-back: 100 %") && head.contains("p99: 2.0 ms, at most 2.0 ms"),
            "{head}"
        );
        assert!(all.iter().filter(|row| row.contains("██████████")).count() >= 8, "{all:#?}");
        let empty = all.iter().filter(|row| row.trim().is_empty()).count();
        assert!(empty <= 10, "{empty} empty rows: {all:#?}");
        assert!(!rows(&drawn_after(50, &rollout(), 79, 40, PLAIN)).iter().any(|row| row.contains("towards")));
    }

    #[test]
    fn a_latency_is_never_shown_as_0_and_one_that_is_not_known_is_not_shown() {
        let fast = answered(Duration::from_micros(310));
        let all = rows(&drawn_after(50, &fast, 120, 40, PLAIN));
        assert!(all.iter().any(|row| row.contains("p99: 0.3 ms, at most 0.3 ms")), "{all:#?}");
        for latency in [Duration::from_micros(12), Duration::ZERO] {
            let all = rows(&drawn_after(50, &answered(latency), 120, 40, PLAIN));
            assert!(all.iter().any(|row| row.contains("p50 <0.1 ms  p99 <0.1 ms")), "{all:#?}");
            let line = "p50 / p90 / p99 in ms: stable <0.1 / <0.1 / <0.1, canary - / - / -";
            assert!(all.iter().any(|row| row.starts_with(line)), "{all:#?}");
        }
        let none = rows(&drawn_after(50, &trial([]), 120, 40, PLAIN));
        assert!(none.iter().any(|row| row.contains("p99: -, at most -")), "{none:#?}");
    }

    #[test]
    fn the_distribution_of_both_latencies_has_a_line_if_there_is_room() {
        let all = rows(&drawn(&rollout(), 80, 24, PLAIN));
        let line = all.iter().position(|row| row.starts_with("p50 / p90 / p99")).expect("a line");
        assert!(
            all[line].starts_with("p50 / p90 / p99 in ms: stable 2.0 / 2.0 / 2.0, canary - / - / -"),
            "only good answers count: {}",
            all[line]
        );
        assert!(all[line - 1].starts_with("no answer"), "{all:#?}");
        assert!(!rows(&drawn(&rollout(), 40, 24, PLAIN)).iter().any(|row| row.contains("p90")));
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("overlong one", 3), ["overlong", "one"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}

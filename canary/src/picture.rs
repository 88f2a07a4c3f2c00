//! The live picture: who gets the traffic, what fails, which pods answer, the last answers, the verdict.

use std::{
    env,
    time::{Duration, Instant},
};

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Row, Table, Widget},
};

use crate::{
    tally::{Outcomes, Pod, Recent, Source, Tally},
    trial::Trial,
};

/// How long a changed label stands out.
const STANDS_OUT: Duration = Duration::from_secs(15);
/// From this height on, empty lines set the parts apart.
const ROOMY: u16 = 20;

/// Which styles are used. Nothing is told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    /// Whether there are colours.
    pub colour: bool,
}

impl Palette {
    /// Colours, unless the variable `NO_COLOR` is set to something (<https://no-color.org>).
    pub fn from_environment() -> Self {
        Self { colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn source(self, source: &Source) -> Style {
        self.fg(match source {
            Source::Stable => Color::Cyan,
            Source::Canary => Color::Yellow,
            Source::Other(_) => Color::Magenta,
            Source::Unnamed | Source::Nobody => Color::Red,
        })
    }

    fn failure(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn changed(self) -> Style {
        self.fg(Color::Green).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    }
}

/// What there is to see, as a widget.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// What it is about; the address that is asked.
    pub title: &'a str,
    /// What has been seen.
    pub trial: &'a Trial,
    /// Whether no requests are sent at the moment.
    pub paused: bool,
    /// When it is drawn.
    pub now: Instant,
    /// The keys, in words; nothing where they are told elsewhere.
    pub keys: &'a str,
    /// How it is drawn.
    pub palette: Palette,
}

impl Widget for Picture<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let tally = self.trial.tally();
        let price = self.trial.price(self.now).filter(|price| price.failed_requests > 0.0);
        let price = price.map(|price| format!(" {price}")).unwrap_or_default();
        let verdict = wrapped(&format!("{}{price}", self.trial.verdict()), area.width);
        let gap = u16::from(area.height >= ROOMY);
        let strip_height = (area.height / 10).clamp(1, 4);
        let length = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
        let sources = sources(tally);
        let [head, traffic, _, pods, _, strip_head, strip, _, judged, keys] = Layout::vertical([
            Constraint::Length(1),
            length(1 + sources.len()),
            Constraint::Length(gap),
            Constraint::Fill(1),
            Constraint::Length(gap),
            Constraint::Length(1),
            Constraint::Length(strip_height),
            Constraint::Length(gap),
            length(verdict.len().min(6)),
            Constraint::Length(u16::from(!self.keys.is_empty())),
        ])
        .areas(area);

        self.head().render(head, buffer);
        self.traffic(tally, &sources, traffic.width).render(traffic, buffer);
        self.pods(tally, pods).render(pods, buffer);
        let latency = latency(tally);
        let [legend, latency_area] =
            Layout::horizontal([Constraint::Fill(1), length(latency.width())]).spacing(1).areas(strip_head);
        Line::from(legend_of(&sources)).bold().render(legend, buffer);
        latency.render(latency_area, buffer);
        self.strip(tally, strip, buffer);
        for (line, row) in verdict.into_iter().zip(judged.rows()) {
            Line::from(line).bold().render(row, buffer);
        }
        Line::from(self.keys).dim().render(keys, buffer);
    }
}

impl Picture<'_> {
    fn head(&self) -> Line<'_> {
        let tally = self.trial.tally();
        let time = self.now.saturating_duration_since(tally.began()).as_secs();
        let requests = tally.total().total();
        let mut line = Line::from(vec![
            Span::from(self.title).bold(),
            Span::from(format!("  {requests} requests in {}:{:02}", time / 60, time % 60)),
        ]);
        if self.paused {
            line.push_span(Span::from("  PAUSED").add_modifier(Modifier::BOLD | Modifier::REVERSED));
        }
        line
    }

    fn traffic(&self, tally: &Tally, sources: &[Source], width: u16) -> Table<'_> {
        const NUMBERS: [u16; 5] = [7, 7, 8, 8, 7];
        let name_width =
            sources.iter().map(|source| source.to_string().len()).max().unwrap_or(0).clamp(9, 20);
        let name_width = u16::try_from(name_width).unwrap_or(20);
        let bar_width = width.saturating_sub(name_width + NUMBERS.iter().sum::<u16>() + 6);
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        let rows = sources.iter().map(|source| {
            let (counts, style) = (tally.of(source), self.palette.source(source));
            let share = tally.recent_share(source);
            let expected = tally.pods().expected_share(source).filter(|_| *source != Source::Nobody);
            let failure = right(counts.failure.to_string());
            let failing = right(failing(counts));
            let bad = if counts.failure > 0 { self.palette.failure() } else { Style::new() };
            let success = if *source == Source::Nobody { String::new() } else { counts.success.to_string() };
            let bar = match source {
                Source::Nobody => self.troubles(tally),
                _ => self.bar(share, expected, bar_width).style(style),
            };
            Row::new([
                Cell::from(source.to_string()).style(style),
                Cell::from(bar),
                right(percent(share)),
                right(percent(expected.filter(|_| *source != Source::Unnamed))),
                right(success),
                failure.style(bad),
                failing.style(bad),
            ])
        });
        let header = ["", "│ as the pods would give", "share", "by pods", "success", "failure", "failing"];
        let header = header
            .into_iter()
            .enumerate()
            .map(|(column, text)| if column < 2 { Cell::from(text) } else { right(text.to_owned()) });
        let [share, by_pods, success, failure, failing] = NUMBERS.map(Constraint::Length);
        let columns = [
            Constraint::Length(name_width),
            Constraint::Length(bar_width),
            share,
            by_pods,
            success,
            failure,
            failing,
        ];
        Table::new(rows, columns).header(Row::new(header).bold()).column_spacing(1)
    }

    /// A bar as long as the share, with a tick where the expected share would end it.
    fn bar(&self, share: Option<f64>, expected: Option<f64>, width: u16) -> Line<'static> {
        let cells = |part: f64| (part * f64::from(width)).clamp(0.0, f64::from(width));
        let full = share.map_or(0.0, cells);
        let tick = expected.filter(|part| *part > 0.0).map(|part| cells(part).ceil() - 1.0);
        let cell = |column: u16| {
            let left = f64::from(column);
            if tick == Some(left) {
                Span::from("│").style(if self.palette.colour {
                    Style::new().fg(Color::Reset)
                } else {
                    Style::new()
                })
            } else if left + 0.75 <= full {
                Span::from("█")
            } else if left + 0.25 <= full {
                Span::from("▌")
            } else {
                Span::from(" ")
            }
        };
        (0..width).map(cell).collect()
    }

    /// Why there was no answer.
    fn troubles(&self, tally: &Tally) -> Line<'static> {
        let mut troubles: Vec<_> =
            tally.causes().iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        if tally.unsent() > 0 {
            troubles.insert(0, format!("{} more never left this machine", tally.unsent()));
        }
        Line::from(troubles.join(", ")).style(self.palette.failure())
    }

    fn pods(&self, tally: &Tally, area: Rect) -> Table<'_> {
        let mut pods: Vec<_> = tally.pods().iter().collect();
        pods.sort_by_key(|(name, pod)| (!pod.present, pod.release.clone(), *name));
        let room = usize::from(area.height.saturating_sub(1));
        let hidden = if pods.len() > room { pods.len() - room.saturating_sub(1) } else { 0 };
        let shown = &pods[..pods.len() - hidden];
        let name_width = shown.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).clamp(12, 40);
        let mut rows: Vec<_> = shown.iter().map(|(name, pod)| self.pod(name, pod)).collect();
        if hidden > 0 {
            rows.push(Row::new([format!("and {hidden} more")]));
        }
        let columns = [
            Constraint::Length(u16::try_from(name_width).unwrap_or(40)),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Fill(1),
        ];
        let here = tally.pods().present();
        let header = Row::new([
            format!("pods: {here}"),
            "release".into(),
            "success".into(),
            "failure".into(),
            "namespace, labels".into(),
        ]);
        Table::new(rows, columns).header(header.bold()).column_spacing(1)
    }

    fn pod(&self, name: &str, pod: &Pod) -> Row<'static> {
        let changed: Vec<_> = pod.changed_within(STANDS_OUT, self.now).collect();
        let mut told: Vec<Span<'static>> = Vec::new();
        if !pod.present {
            told.push("gone".bold());
        }
        for label in &changed {
            let text = match pod.labels.get(*label) {
                Some(value) => format!("*{label}={value}"),
                None if *label == "release" => format!("*release={}", pod.release),
                None => format!("*{label} is gone"),
            };
            told.push(Span::from(text).style(self.palette.changed()));
        }
        if !pod.namespace.is_empty() {
            told.push(Span::from(pod.namespace.clone()).bold());
        }
        let rest = pod.labels.iter().filter(|(label, _)| !changed.contains(&label.as_str()));
        told.extend(rest.map(|(label, value)| Span::from(format!("{label}={value}")).dim()));
        let told: Line<'_> = told.into_iter().flat_map(|span| [span, Span::from(" ")]).collect();
        let failed = if pod.counts.failure > 0 { self.palette.failure() } else { Style::new() };
        let number = |count: u64| Line::from(count.to_string()).right_aligned();
        let row = Row::new([
            Cell::from(name.to_owned()),
            Cell::from(pod.release.to_string()).style(self.palette.source(&pod.release)),
            Cell::from(number(pod.counts.success)),
            Cell::from(number(pod.counts.failure)).style(failed),
            Cell::from(told),
        ]);
        if pod.present { row } else { row.dim() }
    }

    /// One cell for each of the last requests, the newest last.
    fn strip(&self, tally: &Tally, area: Rect, buffer: &mut Buffer) {
        let recent = tally.recent();
        let room = usize::from(area.width) * usize::from(area.height);
        let shown = recent.iter().skip(recent.len().saturating_sub(room));
        for (one, position) in shown.zip(area.positions()) {
            buffer[position].set_char(letter(one)).set_style(self.look(one));
        }
    }

    fn look(&self, one: &Recent) -> Style {
        let style = self.palette.source(&one.source);
        if one.failed { style.add_modifier(Modifier::REVERSED | Modifier::BOLD) } else { style }
    }
}

/// Stable, canary and no answer always; others when seen.
fn sources(tally: &Tally) -> Vec<Source> {
    let mut sources: Vec<_> = tally.counts().keys().cloned().collect();
    sources.extend([Source::Stable, Source::Canary, Source::Nobody]);
    sources.sort();
    sources.dedup();
    sources
}

fn letter(one: &Recent) -> char {
    match &one.source {
        Source::Nobody => '!',
        _ if one.failed => 'X',
        Source::Stable => 's',
        Source::Canary => 'c',
        Source::Other(_) => 'o',
        Source::Unnamed => 'u',
    }
}

/// What the letters of the strip mean, as far as they may occur.
fn legend_of(sources: &[Source]) -> String {
    let mut legend = "last answers: s stable, c canary".to_owned();
    if sources.iter().any(|source| matches!(source, Source::Other(_))) {
        legend += ", o other";
    }
    if sources.contains(&Source::Unnamed) {
        legend += ", u unnamed";
    }
    legend + ", X failed, ! none"
}

fn latency(tally: &Tally) -> Line<'static> {
    let recent = tally.recent_latencies();
    let [median, tail] =
        [50, 99].map(|percent| recent.percentile(percent).map_or_else(|| "-".to_owned(), milliseconds));
    Line::from(format!("p50 {median}  p99 {tail}"))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn failing(counts: Outcomes) -> String {
    percent((counts.total() > 0).then(|| counts.failure as f64 / counts.total() as f64))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The text in lines of at most that many characters, broken between words where that can be.
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

    use super::*;
    use crate::{
        judge::{Budget, Fraction, Settings, Traffic},
        sample::{Answer, Cause, NoAnswer, Observation, Outcome},
    };

    const COLOUR: Palette = Palette { colour: true };
    const PLAIN: Palette = Palette { colour: false };

    fn trial(outcomes: impl IntoIterator<Item = Outcome>) -> Trial {
        let budget = Budget {
            traffic: Traffic::new(10.0).expect("traffic"),
            slo: Fraction::new(0.999).expect("a fraction"),
        };
        let mut trial = Trial::new(Settings::default(), budget, Instant::now());
        for outcome in outcomes {
            trial.observe(&Observation { at: Instant::now(), latency: Duration::from_millis(2), outcome });
        }
        trial
    }

    fn answer(pod: &str, release: &str, status: u16) -> Outcome {
        let info = AppInfo::new(pod, "space", &Labels::parse(format!("release={release}\na=1").as_bytes()));
        Outcome::Answer(Answer {
            status,
            release: Some(release.to_owned()).filter(|release| !release.is_empty()),
            served_by: Some(pod.to_owned()),
            info: (status == 200).then_some(info),
            broke_off: None,
        })
    }

    fn no_answer() -> Outcome {
        Outcome::NoAnswer(NoAnswer { cause: Cause::TimedOut, detail: "no answer within 2s".to_owned() })
    }

    fn drawn(trial: &Trial, width: u16, height: u16, palette: Palette) -> Buffer {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let now = trial.tally().began() + Duration::from_secs(3);
        let picture = Picture { title: "http://a", trial, paused: false, now, keys: "q quit", palette };
        picture.render(area, &mut buffer);
        buffer
    }

    fn row(buffer: &Buffer, y: u16) -> String {
        (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        (0..buffer.area.height).map(|y| row(buffer, y)).collect()
    }

    /// Where the strip is: the row after its legend.
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
    fn releases_differ_in_colour_unless_there_is_none() {
        let trial = trial([answer("one", "stable", 200), answer("two", "canary", 500), no_answer()]);
        let buffer = drawn(&trial, 80, 24, COLOUR);
        let y = strip(&buffer);
        assert_ne!(buffer[(0, y)].fg, buffer[(1, y)].fg);
        let plain = drawn(&trial, 80, 24, PLAIN);
        assert!(plain.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
        assert_eq!(rows(&plain), rows(&buffer), "nothing is told by colour alone");
    }

    #[test]
    fn bars_show_the_share_and_ticks_the_share_that_the_pods_would_give() {
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
    fn what_had_no_answer_stands_apart_with_its_causes() {
        let trial = trial([answer("one", "stable", 200), no_answer(), no_answer()]);
        let buffer = drawn(&trial, 80, 24, PLAIN);
        let nobody = rows(&buffer).into_iter().find(|row| row.starts_with("no answer")).expect("a row");
        assert!(nobody.contains("2 timed out") && nobody.contains("66.7 %"), "{nobody}");
    }

    #[test]
    fn any_size_will_do() {
        let many = (0..400).map(|number| answer(&format!("pod-{}", number % 37), "stable", 200));
        let trial = trial(many.chain([answer("six", "canary", 500), no_answer()]));
        for width in [0, 1, 2, 9, 10, 20, 40, 60, 79, 120, 250] {
            for height in [0, 1, 2, 3, 5, 8, 12, 16, 19, 20, 60] {
                drawn(&trial, width, height, COLOUR);
            }
        }
        let rows = rows(&drawn(&trial, 80, 24, COLOUR));
        assert!(rows.iter().any(|row| row.starts_with("and ") && row.contains(" more")), "{rows:#?}");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("overlong one", 3), ["overlong", "one"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}

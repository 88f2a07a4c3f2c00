//! The table of the traffic and the failures of each release.

use ratatui::{
    layout::Constraint,
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Row, Table},
};

use super::Picture;
use crate::{
    foreign::{ERROR, bounded},
    source::Attribution,
    tally::Tally,
};
use canary_judge::{Counts, Release};

impl Picture<'_> {
    /// A row for each attribution: its share as a bar and in numbers, and its failures.
    pub(super) fn traffic(&self, tally: &Tally, attributions: &[Attribution], width: u16) -> Table<'_> {
        const NUMBERS: [u16; 5] = [7, 7, 8, 8, 7];
        let name_length = attributions.iter().map(|it| it.to_string().len()).max().unwrap_or(0);
        let name_width = u16::try_from(name_length.clamp(9, 20)).unwrap_or(20);
        let bar_width = width.saturating_sub(name_width + NUMBERS.iter().sum::<u16>() + 6);
        let (mark, given_by) = match self.trial.given_share() {
            Some(share) => (format!("│ given by --share: {}", canary_judge::percent(share.get())), "given"),
            None => ("│ expected from the pods".to_owned(), "by pods"),
        };
        let numbers = ["share", given_by, "success", "failure", "failing"];
        let numbers = numbers.map(|text| right(text.to_owned()));
        let header = [Cell::default(), Cell::from(mark)].into_iter().chain(numbers);
        let rows = attributions.iter().map(|attribution| self.traffic_of(attribution, tally, bar_width));
        let [share, by, success, failure, failing] = NUMBERS.map(Constraint::Length);
        let columns = [
            Constraint::Length(name_width),
            Constraint::Length(bar_width),
            share,
            by,
            success,
            failure,
            failing,
        ];
        Table::new(rows, columns).header(Row::new(header).bold()).column_spacing(1)
    }

    fn traffic_of(&self, attribution: &Attribution, tally: &Tally, bar_width: u16) -> Row<'static> {
        let style = self.palette.attribution(attribution);
        let counts = match attribution {
            // all of them, including those attributed to a release by their address
            Attribution::NoAnswer => Counts::all_failed(tally.unanswered()),
            _ => tally.of(attribution),
        };
        let share = tally.recent_share(attribution);
        let expected = self.trial.expected_share(attribution, tally.pods());
        let (bar, success) = match attribution {
            Attribution::NoAnswer => (self.causes(tally), String::new()),
            _ => (self.bar(share, expected, bar_width).style(style), counts.successes().to_string()),
        };
        // requests without a release do not come from known pods
        let by = expected.filter(|_| !matches!(attribution, Attribution::NoAnswer | Attribution::Unnamed));
        let bad = if counts.failures > 0 { self.palette.failure() } else { Style::new() };
        Row::new([
            Cell::from(attribution.to_string()).style(style),
            Cell::from(bar),
            right(percent(share)),
            right(percent(by)),
            right(success),
            right(counts.failures.to_string()).style(bad),
            right(percent(counts.rate())).style(bad),
        ])
    }

    /// A bar with the length of the share, and a tick at the expected share.
    fn bar(&self, share: Option<f64>, expected: Option<f64>, width: u16) -> Line<'static> {
        let cells = |part: f64| (part * f64::from(width)).clamp(0.0, f64::from(width));
        // a share above 0 is always visible
        let full = share.filter(|share| *share > 0.0).map_or(0.0, |share| cells(share).max(0.25));
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

    /// The causes of missing answers.
    fn causes(&self, tally: &Tally) -> Line<'static> {
        let mut causes: Vec<_> =
            tally.causes().iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        if tally.unsent() > 0 {
            causes.insert(0, format!("{} more could not be sent", tally.unsent()));
        }
        if causes.is_empty() {
            causes.extend(tally.last_trouble().map(|why| bounded(why, ERROR))); // with counters, single requests are not known
        }
        Line::from(causes.join(", ")).style(self.palette.failure())
    }
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

/// Stable, canary and no answer are always listed, others only after a request.
pub(super) fn attributions(tally: &Tally) -> Vec<Attribution> {
    let mut attributions: Vec<_> = tally.counts().keys().cloned().collect();
    attributions.extend([
        Attribution::Release(Release::Stable),
        Attribution::Release(Release::Canary),
        Attribution::NoAnswer,
    ]);
    attributions.sort();
    attributions.dedup();
    attributions
}

/// A share in per cent with one decimal. Only 0 is shown as 0.0 %, and only 1 as 100.0 %.
fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share > 0.0 && share < 0.0005 => "<0.1 %".to_owned(),
        Some(share) if (0.9995..1.0).contains(&share) => ">99.9 %".to_owned(),
        Some(share) => format!("{:.1} %", share * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::share;

    #[test]
    fn only_0_is_shown_as_0_per_cent_and_only_1_as_100() {
        for (part, whole, shown) in [
            (0, 3127, "0.0 %"),
            (1, 3127, "<0.1 %"),
            (1, 2000, "0.1 %"),
            (1, 2001, "<0.1 %"),
            (1, 3, "33.3 %"),
            (1999, 2000, ">99.9 %"),
            (1998, 2000, "99.9 %"),
            (9997, 10_000, ">99.9 %"),
            (2000, 2000, "100.0 %"),
        ] {
            assert_eq!(percent(share(part, whole)), shown, "{part} of {whole}");
        }
        assert_eq!(percent(None), "-");
    }
}

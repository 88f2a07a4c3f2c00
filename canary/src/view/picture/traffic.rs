//! The table of the traffic and the failures of each release.

use ratatui::{
    layout::{Constraint, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Row, Table},
};

use super::Picture;
use crate::{
    foreign::{ERROR, bounded},
    source::Attribution,
    trial::tally::Tally,
};
use canary_judge::{Counts, Release};

/// In fewer columns than this, the expected share is not shown.
const NARROW: u16 = 62;
/// A shorter bar tells nothing.
const SHORTEST_BAR: u16 = 6;
/// In fewer columns than this, no share is shown.
const NARROWEST: u16 = 50;

impl Picture<'_> {
    /// A row for each attribution: its share as a bar and in numbers, and its failures.
    ///
    /// A narrow area has fewer columns, so that the names, the failures and the rates always fit. A low one has no
    /// header.
    pub(super) fn traffic(&self, tally: &Tally, attributions: &[Attribution], area: Rect) -> Table<'_> {
        const NUMBERS: [u16; 5] = [7, 7, 8, 8, 7];
        let is_shown = match area.width {
            ..NARROWEST => [false, false, true, true, true],
            NARROWEST..NARROW => [true, false, true, true, true],
            NARROW.. => [true; 5],
        };
        let name_length = attributions.iter().map(|it| it.to_string().len()).max().unwrap_or(0);
        let name_width = u16::try_from(name_length.clamp(9, 20)).unwrap_or(20);
        let numbers: Vec<u16> =
            NUMBERS.into_iter().zip(is_shown).filter_map(|(it, shown)| shown.then_some(it)).collect();
        let numbers_width = numbers.iter().map(|width| width + 1).sum::<u16>();
        let bar_width = area.width.saturating_sub(name_width + numbers_width + 1);
        let (mark, given_by) = match self.trial.given_share() {
            Some(share) => (format!("│ given: {}", canary_judge::percent(share.get())), "given"),
            None => ("│ expected from the pods".to_owned(), "by pods"),
        };
        let titles = ["share", given_by, "success", "failure", "failing"].map(|text| right(text.to_owned()));
        // without room for a bar, there is no column for it either
        let bar = Some(bar_width).filter(|width| *width >= SHORTEST_BAR);
        let row = |name: Cell<'static>, mark: Cell<'static>, cells: [Cell<'static>; 5]| {
            let cells = cells.into_iter().zip(is_shown).filter_map(|(cell, shown)| shown.then_some(cell));
            Row::new([name].into_iter().chain(bar.map(|_| mark)).chain(cells))
        };
        let rows = attributions.iter().map(|attribution| {
            let (name, bar, cells) = self.traffic_of(attribution, tally, bar_width);
            row(name, bar, cells)
        });
        let columns = [name_width].into_iter().chain(bar).chain(numbers).map(Constraint::Length);
        let table = Table::new(rows, columns).column_spacing(1);
        if usize::from(area.height) > attributions.len() {
            table.header(row(Cell::default(), Cell::from(mark), titles).bold())
        } else {
            table
        }
    }

    /// The cells of a row: the name, the bar, and the numbers.
    fn traffic_of(
        &self,
        attribution: &Attribution,
        tally: &Tally,
        bar_width: u16,
    ) -> (Cell<'static>, Cell<'static>, [Cell<'static>; 5]) {
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
        let numbers = [
            right(percent(share)),
            right(percent(by)),
            right(success),
            right(counts.failures.to_string()).style(bad),
            right(percent(counts.rate())).style(bad),
        ];
        (Cell::from(attribution.to_string()).style(style), Cell::from(bar), numbers)
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
        if let Some(shortage) = tally.last_shortage() {
            let why = bounded(shortage, ERROR);
            causes.insert(0, format!("{} more could not be sent ({why})", tally.unsent()));
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
    use crate::trial::tally::share;

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

//! The course of the trial: the evidence for each decision, and the latencies.

use std::time::Duration;

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Style, Stylize},
    text::Line,
    widgets::{Sparkline, Widget},
};

use super::{Picture, latency_or_none};
use crate::view::history::Sample;
use canary_judge::Release;

use crate::source::Attribution;

/// The fewest rows of charts: a title, and a sparkline that shows more than on or off.
pub(super) const LEAST_ROWS: u16 = 5;
/// The most rows.
pub(super) const MOST_ROWS: u16 = 16;
/// The fewest columns for three charts side by side.
pub(super) const LEAST_COLUMNS: u16 = 80;

impl Picture<'_> {
    /// Three charts, side by side, of as many seconds as there are columns.
    pub(super) fn charts(&self, area: Rect, buffer: &mut Buffer) {
        let [promotion, roll_back, latency] =
            Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas(area);
        let values = |value: fn(&Sample) -> u64| -> Vec<u64> {
            let samples = self.history.samples();
            let room = usize::from(latency.width.min(promotion.width));
            samples.iter().skip(samples.len().saturating_sub(room)).map(value).collect()
        };
        let style = |release| self.palette.attribution(&Attribution::Release(release));
        for (title, values, style, area) in [
            (
                "towards a promotion",
                values(|sample| sample.nearness.promotion.into()),
                style(Release::Stable),
                promotion,
            ),
            (
                "towards a roll-back",
                values(|sample| sample.nearness.roll_back.into()),
                self.palette.failure(),
                roll_back,
            ),
        ] {
            let title = format!("{title}: {} %", values.last().copied().unwrap_or_default());
            chart(&title, &values, 100, style, area, buffer);
        }
        let values = values(|sample| microseconds(sample.latency.unwrap_or_default()));
        let greatest = values.iter().max().copied().unwrap_or_default();
        // no latency is known in a second without an answer, or where counters are read
        let last = self.history.samples().back().and_then(|sample| sample.latency);
        let most = Some(Duration::from_micros(greatest)).filter(|most| !most.is_zero());
        let [last, most] = [last, most].map(latency_or_none);
        let title = format!("p99: {last}, at most {most}");
        chart(&title, &values, greatest.max(1), style(Release::Canary), latency, buffer);
    }
}

/// A title, and a sparkline of values up to `most`.
fn chart(title: &str, values: &[u64], most: u64, style: Style, area: Rect, buffer: &mut Buffer) {
    let [head, chart] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    Line::from(title).bold().render(head, buffer);
    Sparkline::default().data(values).max(most).style(style).render(chart, buffer);
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

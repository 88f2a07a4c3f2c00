//! The table of the pods.

use std::time::Duration;

use ratatui::{
    layout::{Constraint, Rect},
    style::{Style, Stylize},
    text::{Line, Span},
    widgets::{Cell, Row, Table},
};

use super::Picture;
use crate::trial::tally::{SeenPod, Tally};
use canary_judge::Release;

/// How long a changed label is highlighted.
const HIGHLIGHT: Duration = Duration::from_secs(15);

/// In fewer columns than this, names are cut so that the numbers fit.
const NARROW: u16 = 60;

impl Picture<'_> {
    /// A row for each pod, present pods first, and the canary's before the others, so that they are the last to be left
    /// out. In a narrow area, only the end of a name is shown, and no labels. Labels that have changed recently are
    /// highlighted.
    pub(super) fn pods(&self, tally: &Tally, area: Rect) -> Table<'_> {
        let mut pods: Vec<_> = tally.pods().iter().filter(|(_, pod)| !pod.gone_for_long).collect();
        pods.sort_by_key(|(name, pod)| {
            let is_canary = pod.release.release() == Some(Release::Canary);
            (!pod.present, !is_canary, pod.release.clone(), *name)
        });
        let room = usize::from(area.height.saturating_sub(1));
        let hidden = if pods.len() > room { pods.len() - room.saturating_sub(1) } else { 0 };
        let shown = &pods[..pods.len() - hidden];
        let most = if area.width < NARROW { area.width.saturating_sub(3 * 8).max(1) } else { 40 };
        let name_width = shown
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0)
            .max(12)
            .min(usize::from(most));
        let mut rows: Vec<_> =
            shown.iter().map(|(name, pod)| self.pod(&ending(name, name_width), pod)).collect();
        if hidden > 0 {
            rows.push(Row::new([format!("and {hidden} more")]));
        }
        let mut columns = vec![
            Constraint::Length(u16::try_from(name_width).unwrap_or(40)),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(7),
        ];
        if area.width >= NARROW {
            columns.push(Constraint::Fill(1)); // the labels
        }
        let present = tally.pods().present();
        let header = Row::new([
            format!("pods: {present}"),
            "release".into(),
            "success".into(),
            "failure".into(),
            "namespace, labels".into(),
        ]);
        Table::new(rows, columns).header(header.bold()).column_spacing(1)
    }

    fn pod(&self, name: &str, pod: &SeenPod) -> Row<'static> {
        let changed: Vec<_> = pod.changed_within(HIGHLIGHT, self.now).collect();
        let mut details: Vec<Span<'static>> = Vec::new();
        if !pod.present {
            details.push("gone".bold());
        }
        for label in &changed {
            let text = match pod.labels.get(*label) {
                Some(value) => format!("*{label}={value}"),
                None if *label == "release" => format!("*release={}", pod.release),
                None => format!("*{label} is gone"),
            };
            details.push(Span::from(text).style(self.palette.changed()));
        }
        if !pod.namespace.is_empty() {
            details.push(Span::from(pod.namespace.clone()).bold());
        }
        let rest = pod.labels.iter().filter(|(label, _)| !changed.contains(&label.as_str()));
        details.extend(rest.map(|(label, value)| Span::from(format!("{label}={value}")).dim()));
        let details: Line<'_> = details.into_iter().flat_map(|span| [span, Span::from(" ")]).collect();
        let failed = if pod.counts.failures > 0 { self.palette.failure() } else { Style::new() };
        let number = |count: u64| Line::from(count.to_string()).right_aligned();
        let row = Row::new([
            Cell::from(name.to_owned()),
            Cell::from(pod.release.to_string()).style(self.palette.attribution(&pod.release)),
            Cell::from(number(pod.counts.successes())),
            Cell::from(number(pod.counts.failures)).style(failed),
            Cell::from(details),
        ]);
        if pod.present { row } else { row.dim() }
    }
}

/// The last `width` characters of a name: pods of a Deployment differ at the end. An ellipsis marks a cut.
pub(super) fn ending(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width || width == 0 {
        return name.chars().take(width).collect();
    }
    let end = name.chars().skip(length - width.saturating_sub(1));
    ['…'].into_iter().chain(end).collect()
}

//! How a trial is shown: a module for each view. A view reads the trial and decides nothing.
//!
//! - [`picture`]: one drawing of it, as a widget. [`terminal`]: where it is drawn, and the keys pressed there.
//!   `live` draws it again and again, while requests go on, with the `history` of the last seconds.
//! - `progress`: the line of `canary judge` in a terminal. `nearness`: how near each decision is.
//! - [`report`]: lines of JSON.
//! - `page`: what a browser shows. `qr_code`: an address for the cameras of phones.

pub mod history;
pub(crate) mod live;
pub(crate) mod nearness;
pub(crate) mod page;
pub mod picture;
pub(crate) mod progress;
pub(crate) mod qr_code;
pub mod report;
pub mod terminal;

use canary_judge::{Decision, Verdict};

/// The word for a decision in JSON.
pub(crate) fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Promote { .. } => "promote",
        Decision::RollBack { .. } => "roll_back",
        Decision::NotYet => "not_yet",
        Decision::Hold => "hold",
    }
}

/// A verdict in words, and what else there is to know.
pub(crate) fn sentence(verdict: &Verdict, note: Option<&str>) -> String {
    note.map_or_else(|| verdict.to_string(), |note| format!("{verdict} {note}"))
}

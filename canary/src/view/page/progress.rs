//! The progress of a rehearsal, as the page shows it.

use serde::Serialize;

/// The progress of a rehearsal.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Progress {
    /// The current or last step, from 1; 0 before the first.
    pub(crate) number: usize,
    /// The number of steps.
    pub(crate) of: usize,
    /// How many of them belong to earlier mysteries. The page shows the others alone.
    pub(crate) before: usize,
    pub(crate) title: &'static str,
    /// The commands that do the same on a cluster.
    pub(crate) commands: Vec<String>,
    /// A text about what there is to see.
    pub(crate) text: String,
    /// The last event of the step.
    pub(crate) note: String,
    /// What a person has changed in this step, so that a new trial began, in words; empty if nothing.
    pub(crate) began: String,
    /// The conditions now.
    pub(crate) conditions: Conditions,
    /// The conditions of the step, before a person changed them.
    #[serde(skip)]
    pub(crate) of_step: Conditions,
    /// The title of the next step; `None` after the last.
    pub(crate) next: Option<&'static str>,
    pub(crate) under_way: bool,
    /// Whether a person has paused the requests.
    pub(crate) held: bool,
    /// Whether the judge is hidden from all viewers.
    pub(crate) curtain: bool,
    /// The vote of the class, if there is one.
    pub(crate) vote: Option<Vote>,
    /// No requests are sent, because nothing is deployed yet.
    #[serde(skip)]
    pub(crate) paused: bool,
}

/// What a person can change in a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Conditions {
    /// The canary that they are about.
    pub(crate) canary: Canary,
    /// The canary's share of the requests by its weight, in per cent; `None` if the pods or the evidence decide it.
    pub(crate) share: Option<f64>,
    /// The canary's requests that fail, in per cent.
    pub(crate) fails: f64,
    /// The delay of the canary's answers, in milliseconds.
    pub(crate) delay_ms: f64,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Whether requests to both sides fail.
    pub(crate) incident: bool,
}

/// The canary of a rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Canary {
    None,
    /// It fails every request, whatever the conditions are.
    Broken,
    Fixed,
    /// Of a mystery, in which nobody changes anything.
    Mystery,
}

/// The vote of the class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Vote {
    /// Where phones vote, as in `http://192.168.1.20:8091`.
    pub(crate) url: String,
    /// The round; `None` if none has begun in this step.
    pub(crate) round: Option<Round>,
}

/// The votes of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Round {
    pub(crate) number: u32,
    /// Whether votes are still counted: until the judge is shown.
    pub(crate) open: bool,
    pub(crate) promote: usize,
    pub(crate) wait: usize,
    pub(crate) roll_back: usize,
}

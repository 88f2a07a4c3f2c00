//! The flag that reads collected outcomes.

use std::path::PathBuf;

use clap::{Args, Id};

use crate::source::{
    flags::SourceFlags,
    opened::{OTHER, ids},
};

/// The flags of all other sources. `--by` is for lines, too.
fn of_other_sources() -> Vec<Id> {
    ids::<SourceFlags>().into_iter().filter(|id| *id != "by").collect()
}

/// Where collected outcomes are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct LinesFlags {
    /// Judge collected outcomes instead of sending requests: a file, or - for standard input, with one line of JSON for
    /// each request, in the order of sending, oldest first, such as {"release":"canary","failed":false}
    #[arg(long, value_name = "FILE", group = OTHER, conflicts_with_all = of_other_sources())]
    pub input: Option<PathBuf>,
}

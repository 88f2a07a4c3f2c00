//! The flag that reads collected outcomes.

use std::path::PathBuf;

use clap::Args;

use crate::source::{
    flags::SourceFlags,
    opened::{OTHER, ids},
};

/// Where collected outcomes are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Requests")]
pub struct LinesFlags {
    /// Judge collected outcomes instead of sending requests: a file, or - for standard input, with one line of JSON for
    /// each request, in the order of sending, such as {"release":"canary","failed":false}
    #[arg(long, value_name = "FILE", group = OTHER, conflicts_with_all = ids::<SourceFlags>())]
    pub input: Option<PathBuf>,
}

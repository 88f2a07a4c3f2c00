//! The program's exit codes.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what it should. `judge`: promote the canary.
    Done,
    /// `judge`: roll the canary back.
    RollBack,
    /// `rehearse --script`: the result of a step differs from the README.
    NotShown,
    /// `judge`: there are too few answers for a decision.
    NotYet,
    /// The command line or the input is invalid.
    Usage,
    /// No request was answered.
    NoAnswer,
    /// `judge`: no answer named the stable release, or no answer named the canary.
    ReleaseNeverSeen,
    /// This machine failed: no terminal, no free port, a file that cannot be written.
    Failed,
    /// `judge`: both releases fail more than the limit, with no clear difference between them.
    Hold,
    /// The reader of the output has closed it.
    OutputClosed,
    /// The signal of that number ended it.
    Signal(u8),
}

impl Exit {
    /// The number, as documented in `--help`.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::RollBack | Self::NotShown => 1,
            Self::NotYet => 2,
            Self::Usage => 3,
            Self::NoAnswer => 4,
            Self::ReleaseNeverSeen => 5,
            Self::Failed => 6,
            Self::Hold => 7,
            Self::OutputClosed => Self::Signal(13).code(), // the same as for SIGPIPE
            Self::Signal(number) => number.saturating_add(128), // the convention of shells
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

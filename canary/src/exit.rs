//! What the program's exit code tells.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As it should; of `judge`: promote the canary.
    Done,
    /// `judge`: roll the canary back.
    RollBack,
    /// `rehearse --script`: a step did not show what the README says.
    NotShown,
    /// `judge`: not enough has been seen yet.
    NotYet,
    /// The command line cannot be used.
    Usage,
    /// No request was answered.
    NoAnswer,
    /// `judge`: no answer named the stable release, or none the canary.
    ReleaseNeverSeen,
    /// This machine did not do its part: no terminal, no port, a file that cannot be written.
    Failed,
    /// `judge`: both releases fail more than the limit, and nothing tells them apart.
    Hold,
    /// The reader of the output has closed it.
    OutputClosed,
    /// A signal of that number ended it.
    Signal(u8),
}

impl Exit {
    /// The number, as `--help` tells them.
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
            Self::OutputClosed => Self::Signal(13).code(), // as SIGPIPE would have it
            Self::Signal(number) => number.saturating_add(128), // as a shell tells of it
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

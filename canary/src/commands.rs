//! The commands: from flags to an exit code.

pub mod judge;
pub mod rehearse;
pub mod serve;
pub mod watch;

use crate::{exit::Exit, messages::message};

/// Reports a mistake in the command line.
fn unusable(error: String) -> Exit {
    message(error);
    Exit::Usage
}

//! The commands: from flags to an exit code.

pub mod judge;
pub mod rehearse;
pub mod serve;
pub mod watch;

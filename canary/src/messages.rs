//! Messages to the user, on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::foreign::safe;

/// Writes a message, in one line. What others have sent may be part of it, so it is made safe for a terminal.
///
/// If standard error cannot be written, the message is dropped and the program goes on; its
/// exit code still has the result. (`eprintln!` would panic.)
pub fn message(text: impl Display) {
    let _ = writeln!(io::stderr(), "canary: {}", safe(&text.to_string()));
}

//! Messages to the user, on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a message. If standard error cannot be written, the message is dropped and the program goes on; its
/// exit code still has the result. (`eprintln!` would panic.)
pub fn message(text: impl Display) {
    let _ = writeln!(io::stderr(), "canary: {text}");
}

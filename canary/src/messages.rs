//! Messages to the person at the keyboard, on standard error.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a message. It is advice: where standard error cannot be written, the program goes on, and its exit code
/// says what there is to say. (`eprintln!` would panic.)
pub fn message(text: impl Display) {
    let _ = writeln!(io::stderr(), "canary: {text}");
}

//! Standard output. Its errors name it, so that a message says what could not be written.

use std::io::{self, Stdout, Write};

/// Standard output.
#[derive(Debug)]
pub struct Output(Stdout);

/// Standard output.
pub fn output() -> Output {
    Output(io::stdout())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| unwritable(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| unwritable(&error))
    }
}

/// The error of a write to standard output, with its name.
pub fn unwritable(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write standard output: {error}"))
}

//! `--record` of a server that runs for long: the record has a bounded size.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::Instant,
};

use crate::{
    source::{
        Seen,
        lines::{End, Recorder},
    },
    trial::Trial,
};

/// The maximum size of a record: a million requests or so.
pub const LONGEST: u64 = 256 << 20;

/// A record in a file, until it is full.
#[derive(Debug)]
pub struct Record {
    recorder: Option<Recorder<Bounded<BufWriter<File>>>>,
}

/// Writes whole lines, and refuses those that do not fit any more.
#[derive(Debug)]
struct Bounded<W> {
    output: W,
    /// The line that is not complete yet.
    line: Vec<u8>,
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            let length = u64::try_from(self.line.len()).unwrap_or(u64::MAX);
            let left = self.left.checked_sub(length);
            self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it is full"))?;
            self.output.write_all(&self.line)?;
            self.line.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Record {
    /// A record in a new file of at most `longest` bytes. It begins with the settings of `trial`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn new(path: &Path, longest: u64, trial: &Trial) -> io::Result<Self> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write --record {}: {error}", path.display()))
        };
        let output = BufWriter::new(File::create(path).map_err(failed)?);
        let recorder =
            trial.record_to(Bounded { output, line: Vec::new(), left: longest }).map_err(failed)?;
        Ok(Self { recorder: Some(recorder) })
    }

    /// Writes an outcome. Returns a message if the record ends here, because it is full or cannot be written. The
    /// server goes on without it.
    pub(super) fn observe(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        let error = self.recorder.as_mut()?.observe(seen, now).err()?;
        let mut recorder = self.recorder.take()?;
        let _ = recorder.flush(); // it ends in any case
        Some(format!("the record of --record ends here: {error}"))
    }

    /// Writes out what is in the buffer.
    pub(super) fn flush(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            let _ = recorder.flush(); // the next line reports an error
        }
    }

    /// Ends the record.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(mut recorder) = self.recorder.take() {
            let _ = recorder.end(End::Stopped, now); // the server has ended
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        source::{Answer, Attribution, Observation, Response},
        trial::Coverage,
    };
    use canary_judge::{Outcome, Release, Settings};

    #[test]
    fn a_record_that_is_full_ends_with_a_whole_line_and_a_message() {
        const LONGEST: u64 = 10_000;
        let file = tempfile::NamedTempFile::new().expect("a file");
        let now = Instant::now();
        let trial = Trial::new(Settings::default(), None, Coverage::All, now);
        let mut record = Record::new(file.path(), LONGEST, &trial).expect("a record");
        let (attribution, outcome) = (Attribution::Release(Release::Stable), Outcome::Success);
        let response = Response::Answer(Answer {
            attribution,
            outcome,
            status: None,
            latency: None,
            pod: None,
            info: None,
        });
        let messages: Vec<_> = (0..1000)
            .filter_map(|number| {
                let observation =
                    Observation { number, sent: now, stratum: None, response: response.clone() };
                record.observe(&Seen::Request(observation), now)
            })
            .collect();
        assert_eq!(messages, ["the record of --record ends here: it is full"]);
        let text = fs::read_to_string(file.path()).expect("a record");
        let length = u64::try_from(text.len()).expect("small");
        assert!((LONGEST / 2..=LONGEST).contains(&length), "{length}");
        assert!(text.lines().count() > 50 && text.ends_with("}\n"), "whole lines");
    }
}

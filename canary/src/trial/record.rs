//! `--record`: what a trial counts, in a file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::Trial;
use crate::source::{
    Seen,
    lines::{BEGINNING, End, Recorder, begins_a_record},
};

/// A record in a file, until the file cannot be written any more, or is full. The trial goes on without it.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    recorder: Option<Recorder<Bounded<BufWriter<File>>>>,
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file has something else, and it is not replaced.
    #[error(
        "--record {}: this file is not a record, so it is not replaced: remove it, or choose another name",
        .0.display()
    )]
    NotARecord(PathBuf),
    /// Another process writes to it.
    #[error("--record {}: another canary writes this file", .0.display())]
    InUse(PathBuf),
    /// It cannot be written.
    #[error("cannot write --record {}: {error}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
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
    /// A record in this file, of at most `longest` bytes. It begins with the settings of `trial`. A file that exists is
    /// replaced only if it is empty, or a record that no other process writes.
    ///
    /// # Errors
    /// If the file must not be replaced, or cannot be written.
    pub fn new(path: &Path, longest: u64, trial: &Trial) -> Result<Self, RecordError> {
        let path = path.to_owned();
        let begin = || {
            let Some(file) = open(&path)? else { return Ok(None) };
            let output = Bounded { output: BufWriter::new(file), line: Vec::new(), left: longest };
            let mut recorder = trial.record_to(output)?;
            recorder.flush()?; // so that a full disk is told at once
            Ok(Some(recorder))
        };
        match begin() {
            Ok(Some(recorder)) => Ok(Self { path, recorder: Some(recorder) }),
            Ok(None) => Err(RecordError::NotARecord(path)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::WOULDBLOCK) => {
                Err(RecordError::InUse(path))
            }
            Err(error) => Err(RecordError::Unwritable { path, error }),
        }
    }

    /// Writes an outcome. Returns a message if the record ends here.
    pub fn observe(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        let done = self.recorder.as_mut()?.observe(seen, now);
        self.ends_by(done)
    }

    /// Writes out what is in the buffer. Returns a message if the record ends here.
    pub fn flush(&mut self) -> Option<String> {
        let done = self.recorder.as_mut()?.flush();
        self.ends_by(done)
    }

    /// Ends the record, as the trial has ended. Returns a message if that cannot be written.
    pub fn end(&mut self, end: End, now: Instant) -> Option<String> {
        let done = self.recorder.as_mut()?.end(end, now);
        let told = self.ends_by(done);
        self.recorder = None;
        told
    }

    fn ends_by(&mut self, done: io::Result<()>) -> Option<String> {
        let error = done.err()?;
        if let Some(mut recorder) = self.recorder.take() {
            let _ = recorder.flush(); // it ends in any case
        }
        let path = self.path.display();
        Some(format!("the record in {path} ends here: {error}. The trial goes on without it"))
    }
}

/// Opens the file, and locks and empties it. `None` if it has something else than a record.
fn open(path: &Path) -> io::Result<Option<File>> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return File::options().write(true).open(path).map(Some); // a pipe, or a device
    }
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    // any other error is that of a file system without locks
    if let Err(Errno::WOULDBLOCK) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        return Err(Errno::WOULDBLOCK.into());
    }
    let mut beginning = Vec::new();
    Read::take(&mut file, BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    if !begins_a_record(&beginning) {
        return Ok(None);
    }
    file.set_len(0)?;
    file.rewind()?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
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
                let observation = Observation {
                    number,
                    sent: now,
                    started: None,
                    stratum: None,
                    response: response.clone(),
                };
                record.observe(&Seen::Request(observation), now)
            })
            .collect();
        let path = file.path().display();
        let told = format!("the record in {path} ends here: it is full. The trial goes on without it");
        assert_eq!(messages, [told]);
        let text = fs::read_to_string(file.path()).expect("a record");
        let length = u64::try_from(text.len()).expect("small");
        assert!((LONGEST / 2..=LONGEST).contains(&length), "{length}");
        assert!(text.lines().count() > 50 && text.ends_with("}\n"), "whole lines");
    }

    #[test]
    fn only_an_empty_file_or_a_record_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("record");
        let trial = Trial::new(Settings::default(), None, Coverage::All, Instant::now());
        let begin = || Record::new(&path, u64::MAX, &trial);
        let first = begin().expect("a new file");
        assert!(matches!(begin(), Err(RecordError::InUse(_))), "another one writes it");
        drop(first);
        let whole = fs::read(&path).expect("a record");
        assert!(whole.starts_with(BEGINNING.as_bytes()) && whole.ends_with(b"}\n"), "its settings are there");
        for old in [&b""[..], b"{\"cana", &whole[..40], &whole, &[&whole[..], &whole[..]].concat()] {
            fs::write(&path, old).expect("a file");
            drop(begin().expect("it is replaced"));
            assert_eq!(fs::read(&path).expect("a record"), whole);
        }
        for other in
            ["[package]\n", "\n", "{\"release\":\"canary\",\"failed\":true}\n", "{\"canary_state\":2}\n"]
        {
            fs::write(&path, other).expect("a file");
            let refused = begin().map(|_| ()).expect_err(other);
            assert!(matches!(refused, RecordError::NotARecord(_)), "{refused}");
            assert!(refused.to_string().contains(path.to_str().expect("UTF-8")), "{refused}");
            assert_eq!(fs::read_to_string(&path).expect("a file"), other, "it is as it was");
        }
    }
}

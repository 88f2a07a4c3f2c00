//! Shortages of this machine: open files, ports, memory for sockets. They tell nothing about a service.

use std::{fs, io, os::unix::net::UnixStream};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

/// The causes that are a shortage.
const SHORTAGES: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS];
/// How the limit is called in messages.
const OF_PROCESS: &str = "the limit of this process";
/// The same of all processes.
const OF_MACHINE: &str = "the limit of this machine";
/// More pairs of files than the asynchronous runtime opens at its start.
const PAIRS_OF_RUNTIME: usize = 4;
/// With fewer files left, a try that needs some of them has probably failed because of that.
const FEW_FILES: u64 = 8;

/// The shortage in words, with the limit if it is known; `None` if the error has another cause.
pub fn shortage(error: &io::Error) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    SHORTAGES.contains(&errno).then(|| with_limit(&error.to_string(), errno))
}

/// The same of an error of which only the text is left, with what was tried, such as `cannot open FILE: Too many open
/// files`.
pub fn shortage_in(text: &str) -> Option<String> {
    let is_told = |errno: &&Errno| text.contains(&io::Error::from(**errno).to_string());
    SHORTAGES.iter().find(is_told).map(|errno| with_limit(text, *errno))
}

/// That there is almost no file left which this process may open; `None` if there are enough, or if that is not known.
/// For a try that has failed without a cause.
pub fn almost_out_of_files() -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current?;
    match fs::read_dir("/dev/fd") {
        Ok(open) => {
            let open = u64::try_from(open.count()).unwrap_or(u64::MAX);
            if open.saturating_add(FEW_FILES) > limit { shortage(&Errno::MFILE.into()) } else { None }
        }
        Err(error) => shortage(&error),
    }
}

/// Whether as many files can be opened as the asynchronous runtime needs. It would panic.
///
/// # Errors
/// If they cannot.
pub fn has_room_for_runtime() -> io::Result<()> {
    (0..PAIRS_OF_RUNTIME).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// That no further file can be opened now; `None` if one can.
pub fn out_of_files_now() -> Option<String> {
    rustix::io::dup(io::stderr()).err().and_then(|errno| shortage(&errno.into()))
}

/// The limit of open files, in words.
pub fn limit_of_files() -> String {
    let limit = getrlimit(Resource::Nofile).current.map(|limit| format!(" is {limit}"));
    format!("{OF_PROCESS}{} (ulimit -n)", limit.unwrap_or_default())
}

fn with_limit(text: &str, errno: Errno) -> String {
    match errno {
        _ if text.contains(OF_PROCESS) || text.contains(OF_MACHINE) => text.to_owned(), // it is there already
        Errno::MFILE => format!("{text}: {}", limit_of_files()),
        Errno::NFILE => format!("{text}: {OF_MACHINE} (sysctl fs.file-max)"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_named_with_its_limit_once_also_where_only_the_text_is_left() {
        let error = io::Error::from(Errno::MFILE);
        let told = shortage(&error).expect("a shortage");
        assert!(told.starts_with(&format!("{error}: the limit of this process is ")), "{told}");
        assert!(told.ends_with(" (ulimit -n)"), "{told}");
        let wrapped = io::Error::new(error.kind(), format!("cannot open it: {error}"));
        assert_eq!(shortage(&wrapped), None, "its number is lost");
        assert_eq!(shortage_in(&wrapped.to_string()), Some(format!("cannot open it: {told}")));
        assert_eq!(shortage_in(&told), Some(told), "not twice");
        let machine = shortage_in(&format!("a: {}", io::Error::from(Errno::NFILE))).expect("a shortage");
        assert!(machine.ends_with(": the limit of this machine (sysctl fs.file-max)"), "{machine}");
        for other in [Errno::NOENT, Errno::CONNREFUSED, Errno::ACCESS] {
            assert_eq!(shortage_in(&io::Error::from(other).to_string()), None, "{other}");
        }
        assert_eq!(out_of_files_now(), None, "this process has some left");
    }
}

//! Shortages of this machine: open files, ports, memory for sockets. They tell nothing about a service.

use std::io;

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

/// The shortage in words, with the limit if it is known; `None` if the error has another cause.
pub fn shortage(error: &io::Error) -> Option<String> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => {
            let limit = getrlimit(Resource::Nofile).current.map(|limit| format!(" is {limit}"));
            Some(format!("{error}: the limit of this process{} (ulimit -n)", limit.unwrap_or_default()))
        }
        Errno::NFILE => Some(format!("{error}: the limit of this machine (sysctl fs.file-max)")),
        Errno::ADDRNOTAVAIL | Errno::NOBUFS => Some(error.to_string()),
        _ => None,
    }
}

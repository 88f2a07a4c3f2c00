//! A real nginx, for example from Debian's package.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use testkit::{eventually, free_port};

/// An nginx with one process. It ends when it is dropped.
pub struct Nginx {
    process: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// An nginx with what `http` says for its address. None, and a message, where it is not installed.
    pub fn start(http: impl FnOnce(SocketAddr) -> String) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let address = free_port();
        let (place, http) = (directory.path().display(), http(address));
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log;\nevents {{}}\n\
             http {{\n  access_log off;\n  client_body_temp_path {place};\n  proxy_temp_path {place};\n  \
             fastcgi_temp_path {place};\n  uwsgi_temp_path {place};\n  scgi_temp_path {place};\n{http}\n}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).expect("written");
        let nginx = ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-c").arg(&file).stderr(Stdio::null());
            command.spawn().ok()
        });
        let Some(process) = nginx else {
            eprintln!("SKIPPED: nginx is not installed");
            return None;
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(Self { process, address, _directory: directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! An HTTP client that sends raw bytes and receives whole answers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// The maximum time for reading or writing.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn says_close(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A client's connection.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))?;
        self.answer()
    }

    /// Reads one answer. Its head must have a content-length if there is a body.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = head.parse(&self.unread).map_err(io::Error::other)? {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let headers: Vec<_> = head
                    .headers
                    .iter()
                    .map(|header| (header.name.to_lowercase(), text(header.value)))
                    .collect();
                let answer = Answer { status: head.code.unwrap_or(0), headers, body: String::new() };
                let body =
                    answer.header("content-length").map_or(0, |length| length.parse().expect("a length"));
                while self.unread.len() < length + body {
                    self.read_more()?;
                }
                let rest = self.unread.split_off(length + body);
                let body = text(&self.unread[length..]);
                self.unread = rest;
                return Ok(Answer { body, ..answer });
            }
            self.read_more()?;
        }
    }

    /// Waits until the server closes the connection. Returns all bytes that were still unread.
    pub fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        while self.read_more().map_or_else(
            |error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) },
            |()| Ok(true),
        )? {}
        Ok(std::mem::take(&mut self.unread))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.unread.extend_from_slice(&chunk[..length]);
                Ok(())
            }
        }
    }
}

/// Sends one request on a new connection.
pub fn get(from: SocketAddr, path: &str) -> io::Result<Answer> {
    Client::connect(from)?.get(path)
}

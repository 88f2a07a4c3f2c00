//! An HTTP client that sends raw bytes and receives whole answers.

use std::{
    io::{self, Read, Write},
    mem,
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::PATIENCE;

/// The maximum number of headers of an answer.
const HEADERS: usize = 32;

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The answer at the beginning of `bytes`, still without its body, and the length of its head. `None` if the head
    /// is not complete.
    fn head(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let headers = head.headers.iter().map(|header| (header.name.to_lowercase(), text(header.value)));
        let answer =
            Self { status: head.code.unwrap_or_default(), headers: headers.collect(), body: String::new() };
        Ok(Some((answer, length)))
    }

    /// The value of a header. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server closes the connection after this answer.
    pub fn says_close(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Connects, with [`PATIENCE`] for reading and writing.
///
/// # Errors
/// If there is no connection.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// If there is no connection.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: connect(to)?, unread: Vec::new() })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// If the server has closed the connection, or does not read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request, and reads its answer.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Self::answer`].
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))?;
        self.answer()
    }

    /// Reads one answer. Its head must have a content-length if there is a body.
    ///
    /// # Errors
    /// If the connection ends before the answer is complete, or if the answer is not HTTP or is chunked.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = Answer::head(&self.unread)? {
                if answer.header("transfer-encoding").is_some() {
                    return Err(io::Error::other(format!("without a content-length: {answer:?}")));
                }
                let body = answer.header("content-length").map_or(Ok(0), str::parse);
                let body: usize = body.map_err(io::Error::other)?;
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
    ///
    /// # Errors
    /// If the server does not close the connection, or resets it.
    pub fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        while self.read_more().map_or_else(
            |error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(error) },
            |()| Ok(true),
        )? {}
        Ok(mem::take(&mut self.unread))
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
///
/// # Errors
/// Those of [`Client`].
pub fn get(from: SocketAddr, path: &str) -> io::Result<Answer> {
    Client::connect(from)?.get(path)
}

/// Sends these bytes on a new connection, and waits until the server closes it. Its body is what comes after the head.
///
/// # Errors
/// Those of [`Client`].
pub fn send(to: SocketAddr, request: impl AsRef<[u8]>) -> io::Result<Answer> {
    let mut client = Client::connect(to)?;
    client.send(request)?;
    let bytes = client.until_closed()?;
    let (answer, length) = Answer::head(&bytes)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Answer { body: text(&bytes[length..]), ..answer })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server that sends these bytes to one client, one by one, and closes.
    fn server(bytes: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client.set_nodelay(true).expect("a socket");
            bytes.bytes().for_each(|byte| client.write_all(&[byte]).expect("it reads"));
        });
        address
    }

    #[test]
    fn answers_are_read_whole_and_one_by_one() {
        let both = "HTTP/1.1 200 OK\r\nX-A: 1\r\ncontent-length: 3\r\n\r\none\
            HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 3\r\n\r\ntwo";
        let mut client = Client::connect(server(both)).expect("a connection");
        let (one, two) = (client.answer().expect("one"), client.answer().expect("two"));
        assert_eq!((one.status, one.header("x-a"), one.body.as_str()), (200, Some("1"), "one"));
        assert_eq!((two.status, two.says_close(), two.body.as_str()), (404, true, "two"));
        assert_eq!(client.answer().expect_err("no more").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn half_an_answer_and_a_chunked_one_are_errors() {
        for bytes in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\none",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
        ] {
            let mut client = Client::connect(server(bytes)).expect("a connection");
            assert!(client.answer().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn without_a_length_the_body_ends_where_the_server_closes() {
        let answer = send(server("HTTP/1.0 200 OK\r\n\r\nall of it"), "").expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "all of it"));
    }
}

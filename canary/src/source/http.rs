//! HTTP/1.1 over TCP or TLS, for probes and for queries. It follows no redirect and uses no proxy.

use std::{error, fmt, io, iter::successors, time::Duration};

use http_body_util::Empty;
use hyper::{
    Uri,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    Cause,
    probe::{addresses::NoAddress, tls},
    shortage::{out_of_files_now, shortage},
};

/// The maximum size of an answer's head, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The value of the header `user-agent`.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("canary/", env!("CARGO_PKG_VERSION")));

/// Headers that users cannot set: they control message framing and connections in HTTP/1.1 (RFC 9112).
const RESERVED_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A connection that requests can be sent on.
pub(super) type Connection = SendRequest<Empty<Bytes>>;

/// The TLS connector, and the name that the server's certificate must have.
pub(super) type Tls = (TlsConnector, ServerName<'static>);

/// A server: the scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Whether to use TLS.
    pub(super) tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For the header `host`.
    pub(super) authority: HeaderValue,
}

/// Why a URL names no server that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlError {
    /// It is not `http://HOST:PORT` or `https://HOST:PORT`.
    Form,
    /// It has a user name.
    Credentials,
    /// Its port is out of range.
    Port,
}

impl UrlError {
    /// The error in words, with what to do about a user name.
    pub(super) fn text(self, form: &'static str, credentials: &'static str) -> &'static str {
        match self {
            Self::Form => form,
            Self::Credentials => credentials,
            Self::Port => "the port is not a number from 1 to 65535",
        }
    }
}

impl Origin {
    /// The server that a URL names.
    pub(super) fn of(uri: &Uri) -> Result<Self, UrlError> {
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlError::Form),
        };
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or(UrlError::Form)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if tls => 443,
            Some("") => 80,
            _ => authority.port_u16().filter(|port| *port != 0).ok_or(UrlError::Port)?,
        };
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| UrlError::Form)?,
        })
    }

    /// What TLS needs; `None` for plain HTTP.
    pub(super) fn tls(
        &self,
        connector: impl FnOnce() -> Result<TlsConnector, String>,
    ) -> Result<Option<Tls>, String> {
        if !self.tls {
            return Ok(None);
        }
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| format!("a certificate cannot have the name {:?}", self.host))?;
        Ok(Some((connector()?, name)))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", String::from_utf8_lossy(self.authority.as_bytes()))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// The name does not resolve.
    Name(io::Error),
    /// There is no TCP connection.
    Connect(io::Error),
    /// There is no TLS connection.
    Tls(io::Error),
    /// The connection broke off.
    Http(hyper::Error),
    /// The request timed out.
    Late,
}

impl Lost {
    /// The shortage of this machine, in words. It does not tell about the service.
    pub(super) fn shortage(&self) -> Option<String> {
        match self {
            Self::Connect(error) => shortage(error),
            // without a file for its configuration or its socket, a resolver says that the name does not exist
            Self::Name(error) => shortage(error).or_else(out_of_files_now),
            Self::Tls(_) | Self::Http(_) | Self::Late => None,
        }
    }

    /// The kind of cause.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Name(_) => Cause::UnknownName,
            Self::Connect(error) if Errno::from_io_error(error) == Some(Errno::CONNREFUSED) => Cause::Refused,
            Self::Connect(_) => Cause::Unreachable,
            Self::Tls(error) => tls::error_in(error).map_or(Cause::BrokeOff, tls::cause_of),
            // with TLS 1.3, a server refuses a client after the client's handshake
            Self::Http(error) => tls::error_in(error).map_or(Cause::BrokeOff, tls::cause_of),
            Self::Late => Cause::TimedOut,
        }
    }

    /// The cause in words. The time limit is for [`Lost::Late`].
    pub(super) fn detail(&self, limit: Duration) -> String {
        match self {
            Self::Name(error) | Self::Connect(error) => error.to_string(),
            Self::Tls(error) => tls::error_in(error).map_or_else(|| format!("TLS: {error}"), tls::explain),
            Self::Http(error) => tls::error_in(error).map_or_else(|| with_causes(error), tls::explain),
            Self::Late => format!("no answer within {}", humantime::format_duration(limit)),
        }
    }
}

impl From<NoAddress> for Lost {
    fn from(why: NoAddress) -> Self {
        match why {
            NoAddress::UnknownName(error) => Self::Name(error),
            NoAddress::Unreachable(error) => Self::Connect(error),
        }
    }
}

/// The message of an error, and the messages of its causes: hyper's messages do not include them.
fn with_causes(error: &dyn error::Error) -> String {
    let mut causes: Vec<_> =
        successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}

/// Starts HTTP/1.1 on a TCP connection, with TLS if wanted.
pub(super) async fn start(stream: TcpStream, tls: Option<&Tls>) -> Result<Connection, Lost> {
    let _ = stream.set_nodelay(true); // on an error, requests are only slower
    match tls {
        Some((connector, name)) => {
            handshake(connector.connect(name.clone(), stream).await.map_err(Lost::Tls)?).await
        }
        None => handshake(stream).await,
    }
}

/// Starts HTTP/1.1 on a connection.
pub(super) async fn handshake<S>(stream: S) -> Result<Connection, Lost>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = http1::Builder::new().max_buf_size(MAX_HEAD).clone();
    let (sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(Lost::Http)?;
    tokio::spawn(connection); // its errors reach the request, too
    Ok(sender)
}

/// Parses the headers of a flag, each as `Name: value`. A value may be a secret, so error messages never contain it.
pub(super) fn headers(flag: &str, texts: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (number, text) in (1..).zip(texts) {
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| format!("{flag} number {number} has no colon: want 'Name: value'"))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            format!("{flag} number {number}: the text before the colon is not a valid header name")
        })?;
        if RESERVED_HEADERS.contains(&name) {
            return Err(format!("{flag} {name}: canary sets this header itself"));
        }
        let mut value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(|_| {
            format!("{flag} {name}: the value has characters that are not allowed in a header")
        })?;
        value.set_sensitive(true);
        if name == header::HOST && headers.contains_key(&name) {
            return Err(format!("{flag} host is given twice, but a request has only one"));
        }
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_do_not_contain_the_value_of_a_header() {
        for bad in ["secret", "se cret: secret", "a: sec\nret", "Content-Length: secret", "Connection:secret"]
        {
            let error = headers("--header", &[bad.to_owned()]).expect_err(bad);
            assert!(!error.contains("secret") && !error.contains("ret"), "{error}");
        }
        let headers = headers("--header", &["Authorization: Bearer secret".to_owned()]).expect("a header");
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn all_headers_except_host_may_repeat() {
        let all = ["A: 1", "a:2", "Host: a.example", "empty:"].map(str::to_owned);
        let parsed = headers("--header", &all).expect("headers");
        assert_eq!(parsed.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (&parsed["host"], &parsed["empty"]),
            (&HeaderValue::from_static("a.example"), &HeaderValue::from_static(""))
        );
        assert!(headers("--header", &["host: a", "Host: b"].map(str::to_owned)).is_err());
    }
}

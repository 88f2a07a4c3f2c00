//! The socket that hyper reads and writes.

use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::progress::{Progress, Wait, lock};

/// The traits that a connection's socket must implement.
pub(in crate::server) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A socket that updates the [`Progress`] of its connection.
pub(super) struct Wire<'a, S> {
    pub(super) stream: S,
    /// Bytes from the socket that hyper must read before any others.
    pub(super) unread: Bytes,
    pub(super) progress: &'a Mutex<Progress>,
}

impl<S: Stream> Wire<'_, S> {
    /// Waits for the first byte of the next request. Returns false if the client closes the connection.
    pub(super) async fn idle(&mut self) -> io::Result<bool> {
        lock(self.progress).blocked = Some(Wait::Idle);
        let mut first = [0];
        let length = self.stream.read(&mut first).await?;
        lock(self.progress).blocked = None;
        self.unread = [&self.unread, &first[..length]].concat().into();
        Ok(length > 0)
    }

    fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        lock(self.progress).blocked = written.is_pending().then_some(Wait::Write);
        written
    }
}

impl<S: Stream> AsyncRead for Wire<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = buf.remaining().min(self.unread.len());
            buf.put_slice(&self.unread.split_to(length));
        }
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            lock(self.progress).read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Wire<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes the sending side, then reads while the client may still be sending a head or a body. Closing the
    /// socket with unread bytes would reset the connection, and the client might lose the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let client_sends = {
            let mut progress = lock(self.progress);
            let client_sends = progress.client_sends();
            progress.blocked = client_sends.then_some(Wait::Linger);
            client_sends
        };
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if !client_sends {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut scratch = [0; 4096];
            let mut unwanted = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut unwanted))?;
            if unwanted.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

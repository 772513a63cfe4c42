//! One HTTP/1.1 connection: requests one after the other, responses within bounds.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::connection_failure;
use super::network::ByteStream;
use crate::exchange::FailureCause;
use crate::findings::ConnectionFailure;
use crate::tls::{ClientRequest, TlsDefect, alert_in, closed_by_server, defect_of};

/// A stream with a limited amount of input, because a server may send informational responses without end. Hyper reads until the
/// stream is pending, and no timer fires during one poll. The stream is therefore pending once every [`BETWEEN_PAUSES`] bytes, so that
/// the deadline holds.
struct LimitedStream {
    stream: Box<dyn ByteStream>,
    left: usize,
    /// The input since the last pause, in bytes.
    since_pause: usize,
}

/// The input after which a stream pauses, in bytes. A registry's response to a validation is shorter.
const BETWEEN_PAUSES: usize = 32 * 1024;

/// The input limit of one connection over all responses, in bytes. A validation reads far less.
const LARGEST_INPUT: usize = 2 * 1024 * 1024;

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        if self.since_pause >= BETWEEN_PAUSES {
            self.since_pause = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.left = self.left.saturating_sub(read);
        self.since_pause += read;
        outcome
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The size limit of all headers of a response, in bytes.
const LARGEST_HEAD: usize = 64 * 1024;
/// More header lines than fit in [`LARGEST_HEAD`], because Go's clients limit only their size.
const MOST_HEADERS: usize = 4 * 1024;
/// The part of a body that is read, in bytes.
const LARGEST_BODY: usize = 128 * 1024;

/// A connection that requests can be sent over.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    end: End,
    /// Whether a request was answered before: the server may have closed the connection since.
    pub(super) used: bool,
    client: ClientRequest,
}

/// Whether and how a connection ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    NotYet,
    Ended,
    /// The server sent data before a request.
    Unasked,
}

/// A response, with its body truncated at the limit.
pub(super) struct Received {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// The connection broke within the body.
    pub(super) is_broken: bool,
}

/// Why there is no response.
pub(super) enum Broken {
    /// The server refuses the client certificate, or misses one.
    Tls(TlsDefect),
    /// The connection was closed or reset before an answer began.
    Dropped(ConnectionFailure),
    /// Anything else.
    Other(FailureCause),
}

impl Connection {
    /// Over a stream, on which the server did or did not ask for a client certificate.
    pub(super) async fn over(stream: Box<dyn ByteStream>, client: ClientRequest) -> hyper::Result<Self> {
        // The buffer alone is no bound: a read may take it beyond. What RFC 9112 lets a user agent read (section 5.2: a header
        // over several lines), and Go's clients do read, is read.
        let (sender, driver) = http1::Builder::new()
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .max_buf_size(LARGEST_HEAD)
            .max_header_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .handshake(TokioIo::new(LimitedStream { stream, left: LARGEST_INPUT, since_pause: 0 }))
            .await?;
        Ok(Self { sender, driver: Box::pin(driver), end: End::NotYet, used: false, client })
    }

    /// Whether another request can be sent: checks whether the server has closed the connection.
    pub(super) fn is_open(&mut self) -> bool {
        if self.end == End::NotYet && (&mut self.driver).now_or_never().is_some() {
            self.end = End::Ended;
        }
        self.end == End::NotYet && !self.sender.is_closed()
    }

    /// Sends a request and reads the response to its end or to the limit, after which the connection can't be
    /// used again.
    pub(super) async fn send(&mut self, request: http::Request<Full<Bytes>>) -> Result<Received, Broken> {
        let response = self.sender.send_request(request);
        let response = drive(&mut self.driver, &mut self.end, response).await;
        let (head, body) = response.map_err(|error| self.broken(&error))?.into_parts();
        let (body, is_broken) = self.read(body).await?;
        self.used = true;
        Ok(Received { status: head.status.as_u16(), headers: head.headers, body, is_broken })
    }

    /// The body, and whether the connection broke before its end. Status and headers are complete in either case.
    async fn read(&mut self, mut body: Incoming) -> Result<(Vec<u8>, bool), Broken> {
        let mut bytes = Vec::new();
        while let Some(frame) = drive(&mut self.driver, &mut self.end, body.frame()).await {
            let frame = match frame.map_err(|error| self.broken(&error)) {
                Ok(frame) => frame,
                Err(Broken::Dropped(_)) => return Ok((bytes, true)),
                Err(broken) => return Err(broken),
            };
            let Some(chunk) = frame.data_ref() else { continue };
            let room = LARGEST_BODY - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                self.end = End::Ended;
                break;
            }
        }
        Ok((bytes, false))
    }

    fn broken(&mut self, error: &hyper::Error) -> Broken {
        let unasked = self.end == End::Unasked || cause_of(error).is_some_and(is_unasked);
        self.end = End::Ended;
        if let Some(alert) = alert_in(error) {
            return Broken::Tls(defect_of(alert, self.client));
        }
        let exhausted = io_error_in(error).is_some_and(|error| error.kind() == io::ErrorKind::QuotaExceeded);
        // Data between two responses is not the response to the next request, which is sent again (RFC 9112, section 9.2).
        if unasked && self.used {
            return Broken::Dropped(ConnectionFailure::Closed);
        }
        if unasked || exhausted || error.is_parse() || error.is_user() {
            return Broken::Other(FailureCause::NotHttp);
        }
        let failure = io_error_in(error).map_or(ConnectionFailure::Closed, connection_failure);
        match (self.used, self.client) {
            (false, ClientRequest::Asked(_)) => Broken::Tls(closed_by_server(self.client)),
            _ => Broken::Dropped(failure),
        }
    }
}

fn io_error_in(error: &hyper::Error) -> Option<&io::Error> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// Why hyper gave up a request: the source of its cancellation error.
fn cause_of(error: &hyper::Error) -> Option<&hyper::Error> {
    std::error::Error::source(error).filter(|_| error.is_canceled())?.downcast_ref()
}

/// Whether the server sent data before a request. Hyper has no error kind for it, so this excludes all others.
fn is_unasked(error: &hyper::Error) -> bool {
    let others = [
        error.is_closed(),
        error.is_canceled(),
        error.is_incomplete_message(),
        error.is_body_write_aborted(),
        error.is_timeout(),
    ];
    !others.contains(&true) && io_error_in(error).is_none()
}

/// Waits for `work`, and keeps the connection going meanwhile: there is no task of its own that would outlive
/// it.
async fn drive<T>(
    driver: &mut Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    end: &mut End,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if *end == End::NotYet
            && let Poll::Ready(outcome) = driver.as_mut().poll(context)
        {
            *end = if outcome.is_err_and(|error| is_unasked(&error)) { End::Unasked } else { End::Ended };
        }
        work.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads until the stream has nothing at the moment. Returns the number of bytes.
    fn read_at_once(stream: &mut LimitedStream) -> usize {
        let mut buffer = [0; 8 * 1024];
        let reads = std::iter::from_fn(|| stream.read(&mut buffer).now_or_never());
        reads.map_while(Result::ok).sum()
    }

    #[test]
    fn endless_input_pauses_and_ends() {
        let endless = tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink());
        let mut stream =
            LimitedStream { stream: Box::new(endless), left: 4 * BETWEEN_PAUSES, since_pause: 0 };
        for _ in 0..4 {
            assert_eq!(read_at_once(&mut stream), BETWEEN_PAUSES);
        }
        let mut byte = [0];
        let end = stream.read(&mut byte).now_or_never();
        assert_eq!(end.unwrap().unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    }
}

//! The little of HTTP/1.1 that the servers in memory speak: requests one after the other, each with a complete answer.

use std::{fmt::Write as _, io};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// A request, as far as the servers look at it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The path and query.
    pub path: String,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

impl HttpRequest {
    /// Returns the user and the password, if it shows them.
    pub fn login(&self) -> Option<(String, String)> {
        let shown = self.authorization.as_deref()?.strip_prefix("Basic ")?;
        let text = String::from_utf8(BASE64_STANDARD.decode(shown).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }
}

/// Reads a request; `None` at the end of the stream.
pub async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
) -> io::Result<Option<HttpRequest>> {
    let Some(first) = line(stream).await? else { return Ok(None) };
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let mut request = HttpRequest {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        authorization: None,
    };
    let mut length = 0;
    while let Some(header) = line(stream).await?.filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse().unwrap_or_default(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(request))
}

/// Reads a line without its end; `None` at the end of the stream.
async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// Returns a response as bytes.
pub fn response(status: u16, headers: &[(&'static str, String)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
    text.into_bytes()
}

/// Returns a text in base64.
pub fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_requests_one_after_the_other() {
        let text = "GET /v2/ HTTP/1.1\r\nHost: r\r\nAuthorization: Basic eA==\r\n\r\n\
                    POST /token HTTP/1.1\r\nContent-Length: 3\r\n\r\na=bGET /v2/x HTTP/1.1\r\n\r\n";
        let mut stream = BufReader::new(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(request) = read_request(&mut stream).await.unwrap() {
            seen.push((request.method, request.path, request.authorization));
        }
        let shown = |text: &str| Some(text.to_owned());
        assert_eq!(
            seen,
            [
                ("GET".to_owned(), "/v2/".to_owned(), shown("Basic eA==")),
                ("POST".to_owned(), "/token".to_owned(), None),
                ("GET".to_owned(), "/v2/x".to_owned(), None),
            ]
        );
    }
}

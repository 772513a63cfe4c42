//! How long a client may take to send a request's body.

use std::{error::Error, iter::successors, time::Duration};

use axum::{
    BoxError,
    body::{Body, HttpBody as _},
};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, error::Elapsed, timeout_at};

/// How long a body may take, from when it is first read.
pub const LONGEST: Duration = Duration::from_secs(30);

/// A body that fails if it doesn't arrive in time: a client that sends it byte by byte would hold its handler forever.
pub fn within(body: Body, longest: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let start = (body.into_data_stream(), None);
    Body::from_stream(stream::unfold(start, move |(mut chunks, deadline)| async move {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + longest);
        let chunk: Result<_, BoxError> = match timeout_at(deadline, chunks.next()).await {
            Ok(chunk) => chunk?.map_err(Into::into),
            Err(late) => Err(late.into()),
        };
        Some((chunk, (chunks, Some(deadline))))
    }))
}

/// Returns whether reading a body failed because it didn't arrive in time.
pub fn is_late(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |error| (*error).source());
    causes.any(<dyn Error>::is::<Elapsed>)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn body_must_arrive_in_time() {
        let never = stream::pending::<Result<String, Infallible>>();
        let begun = stream::iter([Ok("begun".to_owned())]).chain(never);
        let error = to_bytes(within(Body::from_stream(begun), Duration::ZERO), 100).await.unwrap_err();
        assert!(is_late(&error), "{error}");
        let error = to_bytes(within(Body::from("large"), LONGEST), 1).await.unwrap_err();
        assert!(!is_late(&error), "{error}");
        for whole in ["", "whole"] {
            assert_eq!(to_bytes(within(Body::from(whole), LONGEST), 100).await.unwrap(), whole);
        }
    }
}

//! The stream of a watch.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tower::BoxError;

use super::{
    ApiLink,
    connection::{AnswerBody, reset},
};

/// A watch that is open.
struct OpenWatch<B> {
    body: Pin<Box<B>>,
    link: Arc<ApiLink>,
    /// How often the watches had been cut when it was opened.
    cuts: u64,
}

impl ApiLink {
    /// Returns the stream of a watch that was opened after so many cuts.
    pub(super) fn watched<B>(self: &Arc<Self>, body: B, cuts: u64) -> AnswerBody
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let watch = OpenWatch { body: Box::pin(body), link: self.clone(), cuts };
        let frames = stream::unfold(Some(watch), async |watch| {
            let mut watch = watch?;
            match watch.next().await? {
                Ok(frame) => Some((Ok(frame), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        });
        StreamBody::new(Box::pin(frames) as Pin<Box<dyn futures::Stream<Item = _> + Send>>).boxed_unsync()
    }
}

impl<B> OpenWatch<B>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    /// Returns what arrives next; an error once the watch is cut. What was sent before and has not arrived is lost then.
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let link = self.link.clone();
        let arrives = async {
            let frame = self.body.frame().await.map(|frame| frame.map_err(Into::into));
            tokio::time::sleep(link.latency()).await;
            link.until(|state| !state.faults.blackholed && !state.faults.frozen).await;
            frame
        };
        tokio::select! {
            biased;
            () = link.until(|state| state.cuts > self.cuts) => Some(Err(reset())),
            frame = arrives => frame,
        }
    }
}

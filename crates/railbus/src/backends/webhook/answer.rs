//! What a sender is told.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use std::time::Duration;

/// An answer: nothing in it is of the request, of a handler or of this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `ok` and the like, or what is wrong.
    pub(super) says: &'static str,
    pub(super) retry_after: Option<Duration>,
}

/// How soon a sender may come again whose event is being worked on, or who comes at a bad time.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// How soon, where a program stops and another one may take its place.
pub(super) const LATER: Duration = Duration::from_secs(5);

impl Answer {
    pub(super) const OK: Self = Self::said(StatusCode::OK, "ok");
    pub(super) const ACCEPTED: Self = Self::said(StatusCode::ACCEPTED, "accepted");
    pub(super) const FAILED: Self =
        Self::said(StatusCode::INTERNAL_SERVER_ERROR, "the event could not be handled");
    pub(super) const RUNNING: Self =
        Self::said(StatusCode::CONFLICT, "an event of this id is being handled").after(SOON);
    pub(super) const PRESSED: Self =
        Self::said(StatusCode::TOO_MANY_REQUESTS, "there are too many requests").after(SOON);
    pub(super) const STOPPING: Self =
        Self::said(StatusCode::SERVICE_UNAVAILABLE, "the receiver is stopping").after(LATER);
    pub(super) const NOT_STARTED: Self =
        Self::said(StatusCode::SERVICE_UNAVAILABLE, "nobody handles events yet").after(SOON);
    pub(super) const SLOW: Self =
        Self::said(StatusCode::SERVICE_UNAVAILABLE, "the event is still being handled")
            .after(LATER);
    pub(super) const NOT_HERE: Self =
        Self::said(StatusCode::NOT_FOUND, "there is nothing at this path");
    pub(super) const METHOD: Self = Self::said(StatusCode::METHOD_NOT_ALLOWED, "events are posted");
    pub(super) const TOO_LARGE: Self =
        Self::said(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    pub(super) const UNFINISHED: Self =
        Self::said(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    pub(super) const COMPRESSED: Self =
        Self::said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bodies must not be compressed");
    pub(super) const MEDIA_TYPE: Self =
        Self::said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be application/json");

    pub(super) const fn said(status: StatusCode, says: &'static str) -> Self {
        Self { status, says, retry_after: None }
    }

    pub(super) const fn bad(says: &'static str) -> Self {
        Self::said(StatusCode::BAD_REQUEST, says)
    }

    pub(super) const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says that the event must come again, not before the wait.
    pub(super) fn again(wait: Duration) -> Self {
        Self::said(StatusCode::SERVICE_UNAVAILABLE, "the event could not be handled yet")
            .after(wait.max(SOON))
    }

    pub(super) fn response(self) -> Response<Full<Bytes>> {
        let key = if self.status.is_success() { "status" } else { "error" };
        let body = format!("{{\"{key}\":\"{}\"}}", self.says);
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes back in the second before is too early.
            headers.insert(
                header::RETRY_AFTER,
                wait.as_millis()
                    .div_ceil(1000)
                    .try_into()
                    .map_or(HeaderValue::from_static("3600"), |seconds: u64| {
                        HeaderValue::from(seconds)
                    }),
            );
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

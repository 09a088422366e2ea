//! The way of a request: what is looked at first costs least.

use super::{
    answer::{Answer, LATER},
    body,
    desk::{Came, Desk},
    reading::check_head,
    settings::{Limits, Naming, Settings},
    signature::Signature,
};
use crate::clock::Timestamp;
use bytes::Bytes;
use futures_util::future::join_all;
use hyper::{Method, Request, StatusCode, body::Body};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};

/// Where requests come in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) desk: Desk,
    pub(super) path: String,
    signature: Option<Signature>,
    naming: Naming,
    pub(super) limits: Limits,
    room: Arc<Semaphore>,
    /// What a sender is told of an event that came through.
    done: Answer,
}

impl Door {
    pub(super) fn new(settings: &Settings, done: Answer) -> Self {
        let limits = settings.limits.clone();
        Self {
            desk: Desk::new(&limits),
            path: settings.path.clone(),
            signature: settings.signature.clone(),
            naming: settings.naming.clone(),
            room: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            limits,
            done,
        }
    }

    /// Answers a request that came to the path.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
    {
        let answer = self.pass(request).await.unwrap_or_else(|refusal| refusal);
        if !answer.status.is_success() && answer.status != StatusCode::TOO_MANY_REQUESTS {
            let status = answer.status.as_u16();
            tracing::info!(status, reason = answer.says, "a webhook was answered with an error");
        }
        answer
    }

    async fn pass<B>(&self, request: Request<B>) -> Result<Answer, Answer>
    where
        B: Body<Data = Bytes>,
    {
        if request.method() != Method::POST {
            return Err(Answer::METHOD);
        }
        self.desk.is_open()?;
        check_head(request.headers())?;
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Answer::PRESSED)?;
        let (head, body) = request.into_parts();
        let body = body::read(&head.headers, body, &self.limits).await?;
        if let Some(signature) = &self.signature {
            let denied = |why| Answer::said(StatusCode::UNAUTHORIZED, why);
            signature.check(&head.headers, &body, Timestamp::now()).map_err(denied)?;
        }
        let brought = self.naming.read(&head.headers, &body)?;
        let waiting = self.desk.take(brought, room)?;
        // The sender is told so; the handlers go on, and what they come to is kept.
        let came = timeout(self.limits.answer_within, join_all(waiting)).await;
        let came = came.map_err(|_| Answer::SLOW)?;
        Ok(self.told(came.into_iter().map(|came| came.unwrap_or(Came::Back))))
    }

    /// Tells of all events of a request together: the worst that came of one.
    fn told(&self, all: impl Iterator<Item = Came>) -> Answer {
        let (mut failed, mut wait): (bool, Option<Duration>) = (false, None);
        for came in all {
            match came {
                Came::Done => {}
                Came::Failed => failed = true,
                Came::Again(delay) => wait = wait.max(Some(delay)),
                Came::Back => wait = wait.max(Some(LATER)),
            }
        }
        match (wait, failed) {
            (Some(_), _) if self.desk.is_closed() => Answer::STOPPING,
            (Some(wait), _) => Answer::again(wait),
            (None, true) => Answer::FAILED,
            (None, false) => self.done,
        }
    }
}

//! Reading a body, of a size and within a time.

use super::{answer::Answer, settings::Limits};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{HeaderMap, body::Body, header};
use std::pin::pin;
use tokio::time::timeout;

/// How much is set aside for a body before it is there.
const AHEAD: u64 = 64 * 1024;

/// Reads a body whole. What is too large is refused as soon as that is known, however it is sent.
pub(super) async fn read<B>(headers: &HeaderMap, body: B, limits: &Limits) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes>,
{
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let said: Option<u64> = said.and_then(|text| text.parse().ok());
    let most = limits.body;
    if said.is_some_and(|said| said > most as u64) {
        return Err(Answer::TOO_LARGE);
    }
    let whole = whole(body, said.unwrap_or(0).min(AHEAD), most);
    timeout(limits.body_time, whole).await.unwrap_or(Err(Answer::UNFINISHED))
}

async fn whole<B>(body: B, ahead: u64, most: usize) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut first: Option<Bytes> = None;
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Answer::bad("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = first.as_ref().map_or(read.len(), Bytes::len);
        if data.len() > most - so_far {
            return Err(Answer::TOO_LARGE);
        }
        // Most bodies come in one piece, and are not copied.
        match (first.take(), read.is_empty()) {
            (None, true) => first = Some(data),
            (None, false) => read.extend_from_slice(&data),
            (Some(before), _) => {
                read.reserve(usize::try_from(ahead).unwrap_or(0).max(before.len() + data.len()));
                read.extend_from_slice(&before);
                read.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| read.freeze()))
}

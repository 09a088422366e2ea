//! What an answer that is an error means.

use crate::error::{Error, ErrorKind};
use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use std::{error::Error as StdError, io};

/// Whether asking again may help, and whether anything may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Too much was asked: nothing was done.
    Throttled,
    /// Nobody was there to be asked: nothing was done.
    Unsent,
    /// Nobody knows what was done.
    Unknown,
    /// It is as it is.
    Final,
}

/// An error, and what may be done about it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) error: Error,
}

const THROTTLES: [&str; 8] = [
    "RequestThrottled",
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "KmsThrottled",
    "SlowDown",
    "ServiceUnavailable",
];

const UNKNOWN_KEYS: [&str; 8] = [
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "InvalidSecurity",
    "MissingAuthenticationToken",
];

const EXPIRED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired"];

const DENIED: [&str; 5] =
    ["AccessDenied", "AccessDeniedException", "AuthFailure", "OptInRequired", "KmsAccessDenied"];

const GONE: [&str; 3] =
    ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"];

const STALE: [&str; 3] =
    ["ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"];

/// Says what an error of the SDK means.
pub(super) fn fault<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(said) => {
            let status = said.raw().status().as_u16();
            let code = said.err().code().unwrap_or_default().to_owned();
            let message = said.err().message().unwrap_or_default().to_owned();
            answered(operation, status, &code, &message)
        }
        SdkError::ResponseError(said) => {
            let status = said.raw().status().as_u16();
            let class =
                if [429, 503].contains(&status) { Class::Throttled } else { Class::Unknown };
            let why = "what answered is not SQS, or not itself";
            let found = Error::new(ErrorKind::Unavailable, operation, why)
                .with("status", status)
                .hint("look at endpoint_url, and at what stands between here and there");
            Fault { class, error: found.because(error) }
        }
        SdkError::TimeoutError(_) => late(operation, error),
        _ => unsent(operation, error),
    }
}

/// Says what the service's own words mean.
pub(super) fn answered(operation: &'static str, status: u16, code: &str, message: &str) -> Fault {
    let bare = code.rsplit('#').next().unwrap_or_default();
    let is = |codes: &[&str]| codes.contains(&bare);
    let told = |kind, why: &str, hint: &str| {
        let error = Error::new(kind, operation, why.to_owned()).hint(hint.to_owned());
        let error = if bare.is_empty() { error } else { error.with("code", bare) };
        if message.is_empty() { error } else { error.with("answer", message) }
    };
    let final_ = |error| Fault { class: Class::Final, error };
    if is(&THROTTLES) || [429, 503].contains(&status) {
        let error = told(
            ErrorKind::Unavailable,
            "SQS throttles",
            "publish and fetch less at once, or ask for a higher quota",
        );
        return Fault { class: Class::Throttled, error };
    }
    if bare.is_empty() && ![401, 403].contains(&status) {
        let hint = "look at endpoint_url, and at what stands between here and there";
        let why = "what answered is not SQS, or not itself";
        return unknown(told(ErrorKind::Unavailable, why, hint).with("status", status));
    }
    if is(&GONE) {
        let hint = "look at account, name and region of the queue, or make it: create = true does";
        return final_(told(ErrorKind::NotFound, "there is no such queue", hint));
    }
    if is(&STALE) {
        return final_(told(ErrorKind::Stale, "the event is another's by now, or settled", ""));
    }
    if message.contains("valid region") || bare == "InvalidAddress" {
        let hint = "set region_name to the region in which the queue is";
        return final_(told(ErrorKind::Config, "the region is wrong", hint));
    }
    if is(&UNKNOWN_KEYS) {
        let hint =
            "look at the credentials: the key's id, its secret, and the clock of this machine";
        return final_(told(ErrorKind::Denied, "SQS does not know these credentials", hint));
    }
    if is(&EXPIRED) {
        return final_(told(ErrorKind::Denied, "the credentials have expired", "get new ones"));
    }
    if is(&DENIED) || status == 401 || (status == 403 && bare != "OverLimit") {
        let hint = "give this user sqs:SendMessage, sqs:ReceiveMessage, sqs:DeleteMessage and \
                    sqs:ChangeMessageVisibility on the queue";
        return final_(told(ErrorKind::Denied, "SQS does not allow it", hint));
    }
    match bare {
        "OverLimit" => {
            let hint = "settle what is held: a queue lets so many events be held at a time";
            Fault {
                class: Class::Final,
                error: told(ErrorKind::Overloaded, "too many events are held", hint),
            }
        }
        "BatchRequestTooLong" => final_(told(ErrorKind::TooLarge, "the request is too large", "")),
        "InvalidMessageContents" => {
            final_(told(ErrorKind::InvalidEvent, "SQS takes no such characters", ""))
        }
        "InternalError" | "InternalFailure" | "InternalServerError" => {
            unknown(told(ErrorKind::Unavailable, "SQS failed", ""))
        }
        _ if status >= 500 => {
            unknown(told(ErrorKind::Unavailable, "SQS failed", "").with("status", status))
        }
        _ => final_(told(ErrorKind::Config, "SQS refuses it", "")),
    }
}

fn unknown(error: Error) -> Fault {
    Fault { class: Class::Unknown, error }
}

/// Says that nobody answered in time.
pub(super) fn late(operation: &'static str, why: impl Into<crate::error::BoxError>) -> Fault {
    let error = Error::new(ErrorKind::Unavailable, operation, "SQS did not answer in time");
    unknown(error.hint("nobody knows whether it was done").because(why))
}

/// Says what is wrong with the way, or with what was to be sent.
fn unsent<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> Fault
where
    E: StdError + Send + Sync + 'static,
{
    let chain = chain(&error);
    let has = |part: &str| chain.iter().any(|text| text.contains(part));
    let final_ = |kind, why: &'static str, hint: &'static str| Fault {
        class: Class::Final,
        error: Error::new(kind, operation, why).hint(hint),
    };
    let found = if has("certificate") || has("TLS") || has("tls") || has("InvalidContentType") {
        let hint =
            "look at the scheme of endpoint_url and at the certificate's names and authority";
        final_(ErrorKind::Denied, "there is no safe way to the service", hint)
    } else if has("credential") {
        no_credentials(operation)
    } else if has("dns error") {
        Fault {
            class: Class::Unsent,
            ..final_(
                ErrorKind::Unavailable,
                "the host is not known",
                "look at region_name and endpoint_url",
            )
        }
    } else if is_refused(&error) || matches!(&error, SdkError::DispatchFailure(e) if e.is_timeout())
    {
        Fault {
            class: Class::Unsent,
            ..final_(
                ErrorKind::Unavailable,
                "nobody answers there",
                "look at endpoint_url, and whether the service is up",
            )
        }
    } else if matches!(error, SdkError::ConstructionFailure(_)) {
        final_(
            ErrorKind::Config,
            "the request can't be made",
            "look at endpoint_url and region_name",
        )
    } else {
        unknown(Error::new(ErrorKind::Unavailable, operation, "the connection broke"))
    };
    Fault { error: found.error.because(error), ..found }
}

/// Says that the chain found no credentials.
pub(super) fn no_credentials(operation: &'static str) -> Fault {
    let hint =
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or give the machine a role";
    Fault {
        class: Class::Final,
        error: Error::new(ErrorKind::Denied, operation, "no credentials were found").hint(hint),
    }
}

fn chain(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts
}

fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let kinds = [
                io::ErrorKind::ConnectionRefused,
                io::ErrorKind::HostUnreachable,
                io::ErrorKind::NetworkUnreachable,
            ];
            if kinds.contains(&io.kind()) {
                return true;
            }
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_kind() {
        for (status, code, message, kind, class) in [
            (400, "RequestThrottled", "", ErrorKind::Unavailable, Class::Throttled),
            (503, "", "", ErrorKind::Unavailable, Class::Throttled),
            (500, "InternalError", "", ErrorKind::Unavailable, Class::Unknown),
            (502, "", "", ErrorKind::Unavailable, Class::Unknown),
            (200, "", "", ErrorKind::Unavailable, Class::Unknown),
            (404, "", "", ErrorKind::Unavailable, Class::Unknown),
            (403, "", "", ErrorKind::Denied, Class::Final),
            (400, "com.amazonaws.sqs#QueueDoesNotExist", "", ErrorKind::NotFound, Class::Final),
            (403, "InvalidClientTokenId", "", ErrorKind::Denied, Class::Final),
            (
                403,
                "SignatureDoesNotMatch",
                "Credential should be scoped to a valid region",
                ErrorKind::Config,
                Class::Final,
            ),
            (404, "InvalidAddress", "", ErrorKind::Config, Class::Final),
            (403, "ExpiredToken", "", ErrorKind::Denied, Class::Final),
            (400, "AccessDenied", "", ErrorKind::Denied, Class::Final),
            (400, "ReceiptHandleIsInvalid", "", ErrorKind::Stale, Class::Final),
            (403, "OverLimit", "", ErrorKind::Overloaded, Class::Final),
            (400, "BatchRequestTooLong", "", ErrorKind::TooLarge, Class::Final),
            (400, "SomethingElse", "", ErrorKind::Config, Class::Final),
        ] {
            let fault = answered("publish", status, code, message);
            assert_eq!((fault.error.kind(), fault.class), (kind, class), "{status} {code}");
        }
    }
}

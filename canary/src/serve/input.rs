//! What clients send: the name of a trial, and bodies of JSON.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, Uri},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::access::{Access, Refusal};

/// The longest body of a request, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// The time limit of a request's body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// The longest name of a trial, in bytes. A namespace, a name and a checksum are shorter.
const LONGEST_NAME: usize = 400;

/// The value of `?trial=`, if there is one.
pub(super) fn named_trial(uri: &Uri) -> Result<Option<String>, Refusal> {
    let query = uri.query().unwrap_or_default();
    let mut names = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "trial");
    match (names.next(), names.next()) {
        (None, _) => Ok(None),
        (Some((_, name)), None) => trial_name(name.into_owned()).map(Some),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "trial occurs twice: want one name")),
    }
}

/// Checks a trial's name that a client has chosen.
pub(super) fn trial_name(name: String) -> Result<String, Refusal> {
    let cause = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("has {} bytes: want at most {LONGEST_NAME}", name.len())
    } else if name.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(name);
    };
    Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the trial's name {cause}")))
}

/// Reads the body of a request that changes something. Without a body, it is `{}`.
pub(super) async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    Access::check_origin(headers)?;
    let body = read(body).await?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let Ok(read) = timeout(BODY_LIMIT, Limited::new(body, MOST_BYTES).collect()).await else {
        return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body takes too long"));
    };
    read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let error = format!("the body is longer than {MOST_BYTES} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the body: {error}"))
        }
    })
}

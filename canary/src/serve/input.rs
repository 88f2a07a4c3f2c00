//! What clients send: the name of a trial, and bodies of JSON.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, Uri},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{
    access::{Access, Refusal},
    trials::Wanted,
};
use crate::foreign::is_safe;

/// The longest body of a request, in bytes.
const MOST_BYTES: usize = 64 << 10;
/// The time limit of a request's body.
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// The longest name of a trial, in bytes. A namespace, a name and a checksum are shorter.
const LONGEST_NAME: usize = 400;

/// The trial that `?trial=` or `?version=` names, or the current one.
pub(super) fn wanted_trial(uri: &Uri) -> Result<Wanted, Refusal> {
    let query = uri.query().unwrap_or_default();
    let mut names =
        form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "trial" || key == "version");
    match (names.next(), names.next()) {
        (None, _) => Ok(Wanted::Current),
        (Some((key, name)), None) => {
            let name = trial_name(name.into_owned())?;
            Ok(if key == "trial" { Wanted::Named(name) } else { Wanted::Version(name) })
        }
        (Some((one, _)), Some((other, _))) if one == other => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, format!("{one} occurs twice: want one name")))
        }
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "want a trial or a version, not both")),
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
    } else if !name.chars().all(is_safe) {
        "has invisible characters".to_owned()
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
    // serde would also take a list of the values
    if text.trim_ascii_start().first() == Some(&b'[') {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the body: want an object, not a list"));
    }
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

//! Answers that say why there is no other one.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::service::ServiceError;

/// The content type of all answers.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Why a request is not answered with an [`AppInfo`](crate::app_info::AppInfo).
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not found")]
    NotFound,
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A fault set by the label with this key. It has the same message as version 2's failure.
    #[error("{}", ServiceError::Broken)]
    Injected(&'static str),
}

/// The cause of a server error, for the log: an extension of the answer.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Service(ServiceError::Labels(_) | ServiceError::Broken)
            | Self::Json(_)
            | Self::Injected(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = (self.status(), self.to_string());
        let body = json_line(&BTreeMap::from([("error", &error)])).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, JSON)], body).into_response();
        if status.is_server_error() {
            let cause = match self {
                Self::Injected(label) => format!("{error}: the label {label} makes requests fail"),
                _ => error,
            };
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}

/// One line of JSON that ends with a newline.
pub(super) fn json_line(value: &impl Serialize) -> Result<Bytes, Failure> {
    Ok((serde_json::to_string(value)? + "\n").into())
}

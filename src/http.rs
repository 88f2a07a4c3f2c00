//! The public router: `/v1/appinfo`, errors as JSON, request log and metrics.

pub mod admin;
mod metrics;

pub use metrics::Metrics;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, HeaderMap},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use crate::{
    app_info::AppInfo,
    labels::{Labels, LabelsError},
    service::{AppInfoService, Pod, ServiceError},
};

/// The pod that answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// The release it belongs to: its label `release`.
const RELEASE: HeaderName = HeaderName::from_static("x-release");

/// What every handler answers from.
struct App {
    pod: Arc<Pod>,
    service: Box<dyn AppInfoService>,
    metrics: Arc<Metrics>,
}

/// The public port's routes, answering as `pod` with what `service` says of it.
///
/// The log tells a client's address where requests carry [`ConnectInfo`].
pub fn router(pod: Arc<Pod>, service: Box<dyn AppInfoService>, metrics: Arc<Metrics>) -> Router {
    let app = Arc::new(App { pod, service, metrics });
    Router::new()
        .route("/v1/appinfo", get(app_info))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

async fn app_info(State(app): State<Arc<App>>) -> Response {
    app.answer(|labels| Ok(app.service.get_app_info(&app.pod, labels)?))
}

async fn not_found(State(app): State<Arc<App>>) -> Response {
    app.answer(|_| Err(Failure::NotFound))
}

async fn method_not_allowed(State(app): State<Arc<App>>) -> Response {
    app.answer(|_| Err(Failure::MethodNotAllowed))
}

impl App {
    /// Makes body and headers of one answer from one reading of the label file.
    fn answer(&self, body: impl FnOnce(Result<Labels, LabelsError>) -> Result<AppInfo, Failure>) -> Response {
        let labels = self.pod.label_file.read();
        let mut headers = HeaderMap::new();
        tell(&mut headers, SERVED_BY, &self.pod.name);
        if let Ok(labels) = &labels {
            tell(&mut headers, RELEASE, labels.get("release").unwrap_or_default());
        }
        match body(labels) {
            Ok(info) => (headers, Json(&info)).into_response(),
            Err(failure) => (headers, failure).into_response(),
        }
    }
}

/// Adds the header, unless its value is empty or none that HTTP allows.
fn tell(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// A request that gets no [`AppInfo`].
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not found")]
    NotFound,
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Service(ServiceError::Labels(_) | ServiceError::Broken) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        let error = self.to_string();
        let mut response = (self.status(), Json(&Body { error: error.clone() })).into_response();
        response.extensions_mut().insert(Cause(error));
        response
    }
}

/// Why an answer is an error, for the log.
#[derive(Clone)]
struct Cause(String);

/// One line of JSON, ended by a newline.
struct Json<'a, T>(&'a T);

impl<T: Serialize> IntoResponse for Json<'_, T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(self.0) {
            Ok(line) => ([(CONTENT_TYPE, "application/json; charset=utf-8")], line + "\n").into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// Counts each request, and writes a line: at level info, a failure of ours at error with its cause.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let _in_flight = app.metrics.begin();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let remote =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| tracing::field::display(info.0));
    let response = next.run(request).await;

    let status = response.status();
    let time = start.elapsed();
    app.metrics.observe(&method, route.as_ref().map(MatchedPath::as_str), status, time);
    let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let pod = app.pod.name.as_str();
    if status.is_server_error() {
        let error = response.extensions().get::<Cause>().map(|cause| cause.0.as_str());
        tracing::error!(%method, path, status = status.as_u16(), microseconds, remote, pod, error, "request");
    } else {
        tracing::info!(%method, path, status = status.as_u16(), microseconds, remote, pod, "request");
    }
    response
}

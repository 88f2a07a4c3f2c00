//! The public router: `/v1/appinfo`, errors as JSON, faults on demand, request log and metrics.

pub mod admin;
pub mod faults;
mod metrics;
mod path;

pub use metrics::Metrics;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, ready},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
    response::Response,
    routing::get,
};
use serde::Serialize;
use tower::{Layer, ServiceExt, service_fn};

use self::faults::{Dial, FAULT_PERCENT, Failed, FaultLayer};
use crate::{
    app_info::AppInfo,
    labels::{Labels, LabelsError},
    service::{AppInfoService, Pod, ServiceError},
};

/// The pod that answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// The pod's release: its label `release`.
const RELEASE: HeaderName = HeaderName::from_static("x-release");
/// The content type of all answers.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

const APP_INFO: &str = "/v1/appinfo";

/// The state that all handlers share.
struct App {
    pod: Arc<Pod>,
    served_by: Option<HeaderValue>,
    service: Box<dyn AppInfoService>,
    metrics: Arc<Metrics>,
    cache: Mutex<Option<Cached>>,
}

/// Computed from labels, and valid for as long as the labels stay the same.
struct Cached {
    labels: Arc<Labels>,
    /// The service's answer.
    answer: Arc<Answer>,
    /// The faults that the labels set.
    dial: Dial,
}

/// The public port's routes. `service` describes `pod`.
///
/// The log shows the client's address if requests carry [`ConnectInfo`].
pub fn router(pod: Arc<Pod>, service: Box<dyn AppInfoService>, metrics: Arc<Metrics>) -> Router {
    let served_by = header(&pod.name);
    let app = Arc::new(App { pod, served_by, service, metrics, cache: Mutex::default() });
    let routes = Router::new()
        .route(APP_INFO, get(app_info))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app);
    path::with_any_spelling(routes)
}

fn app_info(State(app): State<Arc<App>>, request: Request) -> impl Future<Output = Response> {
    let (request, _body) = request.into_parts(); // outside the future, so that the future does not store the body
    async move { app.respond(&request, Some(APP_INFO), |labels| app.app_info(labels)).await }
}

async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    app.respond(&request, None, |labels| ready(app.refuse(labels, Failure::NotFound))).await
}

async fn method_not_allowed(State(app): State<Arc<App>>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    app.respond(&request, Some(APP_INFO), |labels| ready(app.refuse(labels, Failure::MethodNotAllowed))).await
}

/// A header's value; none if it is empty or not allowed by HTTP.
fn header(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok().filter(|value| !value.is_empty())
}

/// One reading of the label file.
type Reading = Result<Arc<Labels>, LabelsError>;

impl App {
    /// Answers a request from one reading of the label file, counts it, and logs it. A server error is logged with
    /// its cause at level error, any other answer at level info.
    async fn respond<F: Future<Output = Arc<Answer>>>(
        &self,
        request: &Parts,
        route: Option<&str>,
        answer: impl FnOnce(Reading) -> F,
    ) -> Response {
        let start = Instant::now();
        let _in_flight = self.metrics.begin();
        let answer = answer(self.pod.label_file.read()).await;
        let response = answer.to_response();

        let (status, time) = (answer.status, start.elapsed());
        self.metrics.observe(&request.method, route, status, time);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (method, path, pod) = (&request.method, request.uri.path(), self.pod.name.as_str());
        let remote = request.extensions.get::<ConnectInfo<SocketAddr>>();
        let remote = remote.map(|remote| tracing::field::display(remote.0));
        match &answer.error {
            Some(error) if status.is_server_error() => {
                tracing::error!(%method, path, status = status.as_u16(), microseconds, remote, pod, error, "request");
            }
            _ => {
                tracing::info!(%method, path, status = status.as_u16(), microseconds, remote, pod, "request");
            }
        }
        response
    }

    /// The service's answer, or the failure or delay that the labels set.
    async fn app_info(&self, labels: Reading) -> Arc<Answer> {
        let labels = match labels {
            Ok(labels) => labels,
            Err(error) => return self.answer(None, self.service.get_app_info(&self.pod, Err(error))),
        };
        let (answer, dial) = self.answer_and_dial(&labels);
        if dial.is_off() {
            return answer; // the usual case skips the cost of the layer
        }
        let service = service_fn(|_| ready(Ok::<_, Infallible>(answer.clone())));
        let answer = FaultLayer.layer(service).oneshot((dial, labels)).await;
        answer.unwrap_or_else(|Failed(labels)| self.refuse(Ok(labels), Failure::Injected))
    }

    /// The answer and the dial for these labels, from the cache if the labels are unchanged.
    fn answer_and_dial(&self, labels: &Arc<Labels>) -> (Arc<Answer>, Dial) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cache {
            Some(cached) if Arc::ptr_eq(&cached.labels, labels) => (Arc::clone(&cached.answer), cached.dial),
            before => {
                let dial = Dial::new(labels, before.as_ref().map(|cached| &*cached.labels));
                let answer = self.answer(Some(labels), self.service.get_app_info(&self.pod, Ok(labels)));
                *cache = Some(Cached { labels: Arc::clone(labels), answer: Arc::clone(&answer), dial });
                (answer, dial)
            }
        }
    }

    fn refuse(&self, labels: Reading, failure: Failure) -> Arc<Answer> {
        self.answer(labels.ok().as_deref(), Err(failure))
    }

    fn answer(&self, labels: Option<&Labels>, info: Result<AppInfo, impl Into<Failure>>) -> Arc<Answer> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(pod) = &self.served_by {
            headers.insert(SERVED_BY, pod.clone());
        }
        if let Some(release) = labels.and_then(|labels| header(labels.get("release")?)) {
            headers.insert(RELEASE, release);
        }
        let info = info.map_err(Into::into).and_then(|info| json_line(&info));
        let (status, body, error) = match info {
            Ok(line) => (StatusCode::OK, line, None),
            Err(failure) => {
                let error = failure.to_string();
                let line = json_line(&BTreeMap::from([("error", &error)])).unwrap_or_default();
                let cause = match failure {
                    Failure::Injected => {
                        format!("{error}: the label {} makes requests fail", FAULT_PERCENT.label)
                    }
                    _ => error,
                };
                (failure.status(), line, Some(cause))
            }
        };
        headers.insert(CONTENT_LENGTH, body.len().into());
        Arc::new(Answer { status, headers, body: body.into(), error })
    }
}

/// An answer, ready to be sent any number of times.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// Why the request failed, for the log.
    error: Option<String>,
}

impl Answer {
    fn to_response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// One line of JSON that ends with a newline.
fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(value)? + "\n")
}

/// Why a request is not answered with an [`AppInfo`].
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not found")]
    NotFound,
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A fault set by labels. It has the same message as version 2's failure.
    #[error("{}", ServiceError::Broken)]
    Injected,
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Service(ServiceError::Labels(_) | ServiceError::Broken)
            | Self::Json(_)
            | Self::Injected => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

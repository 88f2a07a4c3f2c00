//! The public router: `/v1/appinfo`, errors as JSON, faults on demand, request log and metrics.

pub mod admin;
mod failure;
pub mod faults;
mod metrics;

pub use metrics::Metrics;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, header::CONTENT_TYPE},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
};
use tracing::{error, info};

use self::{
    failure::{Cause, Failure, JSON, json_line},
    faults::Faults,
};
use crate::{
    labels::{Labels, LabelsError},
    service::{AppInfoService, Pod},
};

/// The pod that answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// The pod's release: its label `release`.
const RELEASE: HeaderName = HeaderName::from_static("x-release");

const APP_INFO: &str = "/v1/appinfo";

/// One reading of the label file. Body and headers of an answer come from the same one.
type Reading = Result<Arc<Labels>, LabelsError>;

/// The state that all requests share.
struct App {
    pod: Arc<Pod>,
    served_by: Option<HeaderValue>,
    service: Box<dyn AppInfoService>,
    metrics: Arc<Metrics>,
    faults: Faults,
    /// The service's answer for these labels, valid for as long as they stay the same.
    cache: Mutex<Option<(Arc<Labels>, Bytes)>>,
}

/// The public port's routes. `service` describes `pod`.
///
/// The log shows the client's address if requests carry [`ConnectInfo`].
pub fn router(pod: Arc<Pod>, service: Box<dyn AppInfoService>, metrics: Arc<Metrics>) -> Router {
    let served_by = header(&pod.name);
    let (faults, cache) = (Faults::default(), Mutex::default());
    let app = Arc::new(App { pod, served_by, service, metrics, faults, cache });
    Router::new()
        .route(APP_INFO, get(app_info))
        .fallback(async || Failure::NotFound)
        .method_not_allowed_fallback(async || Failure::MethodNotAllowed)
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

/// Reads the label file for a request, and gives the answer its headers. Counts the answer and logs it: a server error
/// with its cause at level error, any other answer at level info.
async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let _in_flight = app.metrics.begin();
    let reading = app.pod.label_file.read();
    let release = reading.as_ref().ok().and_then(|labels| header(labels.get("release")?));
    request.extensions_mut().insert(reading);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|remote| remote.0);

    let mut response = next.run(request).await;
    for (name, value) in [(SERVED_BY, app.served_by.clone()), (RELEASE, release)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }

    let (path, status, time) = (uri.path(), response.status(), start.elapsed());
    app.metrics.observe(&method, (path == APP_INFO).then_some(APP_INFO), status, time);
    let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (status, pod, remote) = (status.as_u16(), app.pod.name.as_str(), remote.map(tracing::field::display));
    if let Some(Cause(error)) = response.extensions().get() {
        error!(%method, path, status, microseconds, remote, pod, error, "request");
    } else {
        info!(%method, path, status, microseconds, remote, pod, "request");
    }
    response
}

async fn app_info(
    State(app): State<Arc<App>>,
    Extension(reading): Extension<Reading>,
) -> Result<Response, Failure> {
    let mut response = Response::new(Body::from(app.faults.inject(&reading, || app.json(&reading)).await?));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

impl App {
    /// The service's answer, from the cache if the labels are unchanged.
    fn json(&self, reading: &Reading) -> Result<Bytes, Failure> {
        let labels = match reading {
            Ok(labels) => labels,
            Err(error) => return json_line(&self.service.get_app_info(&self.pod, Err(error.clone()))?),
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cache {
            Some((cached, json)) if Arc::ptr_eq(cached, labels) => Ok(json.clone()),
            _ => {
                let json = json_line(&self.service.get_app_info(&self.pod, Ok(labels))?)?;
                *cache = Some((Arc::clone(labels), json.clone()));
                Ok(json)
            }
        }
    }
}

/// A header's value; none if it is empty or not allowed by HTTP.
fn header(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(value).ok().filter(|value| !value.is_empty())
}

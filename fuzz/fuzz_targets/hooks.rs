//! Any bytes can be the body of a hook or of a reset. Each has one short, known answer, and the number of trials is
//! bounded. The first byte selects the path.
#![no_main]

use std::{sync::LazyLock, time::Instant};

use axum::{body::Body, http::Request};
use canary::{
    foreign,
    serve::fuzzing::Server,
    trial::{Coverage, Trial},
};
use canary_judge::Settings;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

const PATHS: [&str; 8] = [
    "/v1/reset",
    "/flagger/rollback",
    "/flagger/step",
    "/flagger/promote",
    "/flagger/rollout",
    "/flagger/confirm-rollout",
    "/flagger/pre-rollout",
    "/flagger/post-rollout",
];
/// No answer is longer, in bytes. JSON may write each byte of a bounded text as two.
const LONGEST_ANSWER: usize = 4 * foreign::ERROR;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
/// The same one for all inputs, so that trials come together.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let trial = Trial::new(Settings::default(), None, Coverage::Sample, Instant::now());
    Server::new(trial).expect("a server")
});

fuzz_target!(|input: &[u8]| {
    let Some((path, body)) = input.split_first() else { return };
    let path = PATHS[usize::from(*path) % PATHS.len()];
    let request = Request::post(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Body::from(body.to_vec()))
        .expect("a request");
    let (status, answer) = RUNTIME.block_on(async {
        let answer = SERVER.answer(request).await;
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.expect("a body").to_bytes())
    });
    let text = std::str::from_utf8(&answer).expect("text");
    assert!(matches!(status, 200 | 400 | 403 | 404 | 413), "{status} {text}");
    assert!(text.len() <= LONGEST_ANSWER, "{} bytes: {text}", text.len());
    assert!(text.ends_with('\n') && text.trim_end().chars().all(foreign::is_safe), "{text:?}");
    if path == "/v1/reset" || status == 400 || status == 413 {
        serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    } else {
        assert!(matches!(status, 200 | 403), "{status} {text}");
    }
    assert!(SERVER.trials() <= canary::serve::trials::MOST_TRIALS);
});

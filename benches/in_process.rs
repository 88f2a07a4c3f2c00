//! The cost of each part without a socket: parser, label file, service, router. For comparison, the cost of copying
//! the answer.

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use appinfo::{
    app_info::AppInfo,
    http::{self, Metrics},
    labels::{LabelFile, Labels},
    service::{AppInfoBaseline, AppInfoService, Pod},
};
use axum::{Router, body::Body, extract::Request};
use divan::Bencher;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

const LABELS: [usize; 4] = [3, 30, 300, 1000];

/// The directory of the label files.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a directory"));

fn main() {
    divan::main();
    let _ = fs::remove_dir_all(DIRECTORY.path()); // statics are never dropped
}

/// The text of a label file.
fn text(labels: usize) -> String {
    let names = (2..labels).map(|number| format!("\nlabel-{number}.example.com/name=\"value-{number}\""));
    std::iter::once("app=\"appinfo\"\nrelease=\"stable\"".to_owned()).chain(names).collect()
}

fn label_file(labels: usize) -> PathBuf {
    let path = DIRECTORY.path().join(format!("labels-{labels}"));
    fs::write(&path, text(labels)).expect("a label file");
    path
}

fn pod(labels: usize) -> Pod {
    Pod {
        name: "appinfo-567b989978-vvzlg".to_owned(),
        namespace: "default".to_owned(),
        label_file: LabelFile::new(label_file(labels)),
    }
}

#[divan::bench(args = LABELS)]
fn parse(bencher: Bencher, labels: usize) {
    let text = text(labels);
    bencher.bench(|| Labels::parse(black_box(text.as_bytes())));
}

#[divan::bench(args = LABELS)]
fn read_unchanged(bencher: Bencher, labels: usize) {
    let pod = pod(labels);
    bencher.bench(|| pod.label_file.read());
}

/// This includes the start of the watch, but not its end.
#[divan::bench(args = LABELS)]
fn read_for_the_first_time(bencher: Bencher, labels: usize) {
    let path = label_file(labels);
    bencher.with_inputs(|| LabelFile::new(&path)).bench_refs(|file| file.read());
}

#[divan::bench(args = LABELS)]
fn service(bencher: Bencher, labels: usize) {
    let (pod, labels) = (pod(labels), Labels::parse(text(labels).as_bytes()));
    bencher.bench(|| AppInfoBaseline.get_app_info(&pod, Ok(black_box(&labels))));
}

#[divan::bench(args = LABELS)]
fn json(bencher: Bencher, labels: usize) {
    let info = AppInfo::new("appinfo-567b989978-vvzlg", "", &Labels::parse(text(labels).as_bytes()));
    bencher.bench(|| serde_json::to_string(black_box(&info)));
}

#[divan::bench(args = LABELS)]
fn copy_the_answer(bencher: Bencher, labels: usize) {
    let info = AppInfo::new("appinfo-567b989978-vvzlg", "", &Labels::parse(text(labels).as_bytes()));
    let answer = serde_json::to_vec(&info).expect("JSON");
    bencher.bench(|| black_box(&answer).clone());
}

fn router(labels: usize) -> (Runtime, Router) {
    let metrics = Arc::new(Metrics::new("baseline").expect("metrics"));
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    (runtime, http::router(Arc::new(pod(labels)), Box::new(AppInfoBaseline), metrics))
}

fn answer(bencher: Bencher, labels: usize, path: &'static str) {
    let (runtime, mut router) = router(labels);
    let request = || Request::builder().uri(path).body(Body::empty()).expect("a request");
    bencher.with_inputs(request).bench_local_values(|request| {
        runtime.block_on(async { ServiceExt::<Request>::ready(&mut router).await?.call(request).await })
    });
}

#[divan::bench(args = LABELS)]
fn router_answer(bencher: Bencher, labels: usize) {
    answer(bencher, labels, "/v1/appinfo");
}

#[divan::bench]
fn router_not_found(bencher: Bencher) {
    answer(bencher, 3, "/nothing");
}

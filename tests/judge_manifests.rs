//! The manifests of the judge, read and compared: no cluster, no engine.

mod common;

use std::fs;

use common::manifests::{
    Document, bytes, container, deployments, documents, exclude_each_other, labels_of, only_container, pod,
    pod_labels, refused_by_restricted_profile, selector, selects, services,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Container, PodSpec, PodTemplateSpec, Service},
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use serde_yaml_ng::Value;

const FOLDER: &str = "deployment/judge";

fn serve() -> Deployment {
    deployments(&documents(FOLDER)).remove(0)
}

fn service(folder: &str) -> Service {
    services(&documents(folder)).remove(0)
}

fn job() -> PodTemplateSpec {
    let documents = documents(FOLDER);
    let job: Job = documents.iter().find(|document| document.kind == "Job").expect("a Job").typed();
    let spec = job.spec.expect("a spec");
    assert_eq!(spec.backoff_limit, Some(0), "each retry would be another chance to err");
    let pod = spec.template.spec.as_ref().expect("a pod");
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    spec.template
}

/// What every container of the tool needs.
fn check_pod(pod: &PodSpec) -> &Container {
    assert_eq!(refused_by_restricted_profile(pod), [""; 0]);
    assert_eq!(pod.automount_service_account_token, Some(false), "it never talks to the API server");
    let container = only_container(pod);
    let context = container.security_context.as_ref().expect("a context");
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(container.command, None, "the image's own entry point");
    let dockerfile = fs::read_to_string("canary/Dockerfile").expect("the Dockerfile");
    let image = container.image.as_deref().expect("an image");
    assert_eq!(image, "runyonsolutions/canary:1");
    assert!(dockerfile.contains("image.version=\"1\""));
    let resources = container.resources.as_ref().expect("resources");
    let (requests, limits) = (resources.requests.as_ref().expect("requests"), resources.limits.as_ref());
    let limits = limits.expect("limits");
    assert!((16 << 20..=128 << 20).contains(&bytes(&limits["memory"])));
    assert!(bytes(&requests["memory"]) <= bytes(&limits["memory"]));
    assert_eq!(limits["cpu"], Quantity("500m".to_owned()));
    container
}

fn arguments(container: &Container) -> &[String] {
    container.args.as_deref().expect("arguments")
}

/// The values of a flag that is given as `--flag=value`.
fn values<'a>(container: &'a Container, flag: &str) -> Vec<&'a str> {
    arguments(container).iter().filter_map(|it| it.strip_prefix(flag)?.strip_prefix('=')).collect()
}

#[test]
fn the_judge_is_a_job_a_deployment_and_its_service_in_no_namespace() {
    let documents = documents(FOLDER);
    let kinds: Vec<_> = documents.iter().map(|d| (d.api_version.as_str(), d.kind.as_str())).collect();
    assert_eq!(kinds, [("batch/v1", "Job"), ("apps/v1", "Deployment"), ("v1", "Service")]);
    for document in &documents {
        let object: Value = document.typed();
        let metadata = &object["metadata"];
        assert_eq!((&metadata["name"], &metadata["labels"]["app"]), (&"judge".into(), &"judge".into()));
        assert_eq!(metadata["namespace"], Value::Null);
    }
}

#[test]
fn the_judges_service_reaches_the_server_and_not_the_job() {
    let (deployment, service) = (serve(), service(FOLDER));
    let spec = service.spec.as_ref().expect("a spec");
    for selector in [selector(&deployment), spec.selector.as_ref().expect("a selector")] {
        assert!(selects(selector, pod_labels(&deployment)));
        assert!(!selects(selector, labels_of(&job())), "the Job's pods are not the server's");
    }
    let [port] = spec.ports.as_deref().expect("ports") else { panic!("one port") };
    let [own] = container(&deployment).ports.as_deref().expect("ports") else { panic!("one port") };
    assert_eq!(port.target_port, own.name.clone().map(IntOrString::String));
    assert_eq!((port.port, own.container_port), (8090, 8090));
    assert_eq!(values(container(&deployment), "--listen"), [":8090"], "of every address of the pod");
    assert_eq!(deployment.spec.as_ref().expect("a spec").replicas, Some(1), "one pod, one verdict");
}

#[test]
fn the_judges_pods_are_none_of_appinfos() {
    let appinfo = service("deployment").spec.and_then(|spec| spec.selector).expect("a selector");
    let (deployment, job) = (serve(), job());
    for labels in [pod_labels(&deployment), labels_of(&job)] {
        assert!(!selects(&appinfo, labels), "traffic of appinfo must not reach the judge");
        for other in deployments(&documents("deployment")) {
            assert!(exclude_each_other(selector(&other), labels));
        }
    }
}

#[test]
fn the_judges_pods_keep_to_the_restricted_profile_and_are_small() {
    let (deployment, job) = (serve(), job());
    check_pod(job.spec.as_ref().expect("a pod"));
    let container = check_pod(pod(&deployment));
    let grace = pod(&deployment).termination_grace_period_seconds;
    assert!(grace.is_some_and(|seconds| seconds > 25), "it covers the drain");
    for (probe, path) in [(&container.readiness_probe, "/readyz"), (&container.liveness_probe, "/healthz")] {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).expect("a probe by HTTP");
        assert_eq!((get.path.as_deref(), &get.port), (Some(path), &IntOrString::String("http".to_owned())));
    }
}

#[test]
fn the_judge_asks_appinfos_service_with_and_without_dns() {
    let appinfo = service("deployment");
    let name = appinfo.metadata.name.as_deref().expect("a name");
    let port = appinfo.spec.as_ref().and_then(|spec| spec.ports.as_ref()).expect("ports")[0].port;
    // Kubernetes makes the variable's name from the Service's:
    // https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    let variable = format!("{}_SERVICE_HOST", name.to_uppercase().replace('-', "_"));
    let (deployment, job) = (serve(), job());
    for (command, pod) in [("serve", pod(&deployment)), ("judge", job.spec.as_ref().expect("a pod"))] {
        assert_eq!(pod.enable_service_links, Some(true), "they set the variable");
        let container = only_container(pod);
        assert_eq!(arguments(container)[..2], [command.to_owned(), format!("http://{name}:{port}")]);
        assert_eq!(values(container, "--resolve"), [format!("{name}:{port}:$({variable})")]);
    }
}

#[test]
fn the_judge_may_be_asked_by_each_name_that_its_service_has() {
    let (deployment, service) = (serve(), service(FOLDER));
    let container = container(&deployment);
    let [variable] = container.env.as_deref().expect("variables") else { panic!("one variable") };
    let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    assert_eq!(source.map(|field| field.field_path.as_str()), Some("metadata.namespace"));
    let name = service.metadata.name.expect("a name");
    let within = format!("{name}.$({})", variable.name);
    let names = [&name, &within, &format!("{within}.svc"), &format!("{within}.svc.cluster.local")];
    assert_eq!(values(container, "--allow-host"), names);
}

#[test]
fn the_kustomization_holds_the_judge_and_its_image() {
    let text = fs::read_to_string(format!("{FOLDER}/Kustomization")).expect("the kustomization");
    let kustomization: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    let resources = kustomization["resources"].as_sequence().expect("a list");
    let mut files: Vec<_> =
        resources.iter().map(|file| format!("{FOLDER}/{}", file.as_str().expect("a name"))).collect();
    files.sort();
    let mut in_the_folder: Vec<_> =
        documents(FOLDER).iter().map(|document: &Document| document.file.clone()).collect();
    in_the_folder.dedup();
    assert_eq!(files, in_the_folder);
    let image = kustomization["images"][0]["name"].as_str().expect("an image");
    assert_eq!(container(&serve()).image.as_deref(), Some(format!("{image}:1").as_str()));
}

//! Tests of the manifests of the judge, and of those for Argo Rollouts and Flagger. They need no cluster.

mod common;

use std::{fs, process::Command};

use common::manifests::{
    Document, bytes, container, deployments, documents, exclude_each_other, labels_of, only_container, pod,
    pod_labels, refused_by_restricted_profile, selector, selects, services,
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::{Job, JobSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec, Service},
        networking::v1::NetworkPolicy,
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
    serde::de::DeserializeOwned,
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

/// Checks what the pods of all manifests of the tool have in common. Returns the container.
fn check_pod(pod: &PodSpec) -> &Container {
    assert_eq!(pod.automount_service_account_token, Some(false), "it never talks to the API server");
    check_container(pod)
}

/// The same, whether or not the pod talks to the API server.
fn check_container(pod: &PodSpec) -> &Container {
    assert_eq!(refused_by_restricted_profile(pod), [""; 0]);
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

/// The values of all arguments `--flag=value`.
fn values<'a>(container: &'a Container, flag: &str) -> Vec<&'a str> {
    arguments(container).iter().filter_map(|it| it.strip_prefix(flag)?.strip_prefix('=')).collect()
}

#[test]
fn the_judges_manifests_are_a_job_a_deployment_and_a_service_without_a_namespace() {
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
fn appinfos_service_and_deployments_do_not_select_the_judges_pods() {
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
fn the_judges_pods_follow_the_restricted_profile_and_have_small_limits() {
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
fn the_judge_needs_no_dns_to_reach_appinfos_service() {
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
fn the_judge_allows_every_host_name_of_its_service() {
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
fn the_kustomization_has_all_manifests_of_the_judge_and_its_image() {
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

#[test]
fn the_readmes_commands_build_the_judge_and_replace_the_images_names() {
    let readme = fs::read_to_string("README.md").expect("the README");
    assert!(readme.contains("\ndocker build -t $JUDGE_IMAGE:1 -f canary/Dockerfile .\n"));
    let (_, commands) = readme.split_once("$ mkdir -p $MANIFESTS/judge\n$ ").expect("the commands");
    let (replace, _) = commands.split_once("\n```\n").expect("their end");
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().to_str().expect("UTF-8");
    fs::create_dir(folder.path().join("judge")).expect("a folder");
    let output = Command::new("sh")
        .args(["-c", replace])
        .env("IMAGE", "registry.example.com/a")
        .env("JUDGE_IMAGE", "registry.example.com/b")
        .env("MANIFESTS", manifests)
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{output:?}");
    let images = |folder: &str| -> Vec<_> {
        let deployments = deployments(&documents(folder));
        deployments.iter().map(|it| container(it).image.clone().expect("an image")).collect()
    };
    let own = [1, 2, 3].map(|version| format!("registry.example.com/a:{version}"));
    assert_eq!(images(manifests), own);
    assert_eq!(images(&format!("{manifests}/judge")), ["registry.example.com/b:1"]);
    let job = fs::read_to_string(folder.path().join("judge/job.yaml")).expect("the Job");
    assert!(job.contains("image: registry.example.com/b:1\n"), "{job}");
}

#[test]
fn the_judge_of_pods_may_do_what_it_needs_and_no_more() {
    let all = documents("deployment/judge-pods");
    let kinds: Vec<_> = all.iter().map(|document| document.kind.as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "Role", "RoleBinding", "Job"]);
    let (role, binding): (Role, RoleBinding) = (all[1].typed(), all[2].typed());
    let rules = role.rules.expect("rules");
    let rules: Vec<_> = rules.iter().map(|rule| (rule.resources.clone(), rule.verbs.clone())).collect();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let reads = |resource: &str, verbs: &[&str]| (Some(texts(&[resource])), texts(verbs));
    assert_eq!(rules, [reads("pods", &["list", "watch"]), reads("deployments", &["get"])]);
    assert_eq!(binding.role_ref.name, role.metadata.name.expect("a name"));
    let job: Job = all[3].typed();
    let spec = job.spec.expect("a spec");
    assert_eq!(spec.backoff_limit, Some(0), "each retry would be another chance to err");
    let template = spec.template;
    let pod = template.spec.as_ref().expect("a pod");
    let [subject] = binding.subjects.as_deref().expect("subjects") else { panic!("one subject") };
    assert_eq!((&subject.namespace, pod.service_account_name.as_ref()), (&None, Some(&subject.name)));
    let container = check_container(pod);
    let there = deployments(&documents("deployment"));
    let there: Vec<_> = there.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
    assert_eq!(arguments(container)[0], "judge");
    for argument in &arguments(container)[1..3] {
        let name = argument.strip_prefix("deployment/").expect("a Deployment");
        assert!(there.contains(&name), "{name}");
    }
}

/// A document of a type that is not Kubernetes' own.
fn custom(folder: &str, kind: &str, name: &str) -> Value {
    let documents = documents(folder);
    let mut values = documents.iter().filter(|document| document.kind == kind).map(Document::typed::<Value>);
    values.find(|value| value["metadata"]["name"] == name).expect("the document")
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A part of such a document as one of Kubernetes' own types. Fails if the type does not have one of the fields.
fn typed<T: DeserializeOwned>(value: &Value) -> T {
    let mut unknown = Vec::new();
    let typed = serde_ignored::deserialize(value.clone(), |path| unknown.push(path.to_string()));
    assert_eq!(unknown, [""; 0], "fields that are unknown");
    typed.expect("of that type")
}

/// The judge's URL in the cluster, if the judge is in this namespace.
fn judge_in(namespace: &str) -> String {
    let service = service(FOLDER);
    let port = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).expect("ports")[0].port;
    format!("http://{}.{namespace}.svc:{port}/", service.metadata.name.expect("a name"))
}

#[test]
fn argos_template_asks_the_judges_service_and_has_consistent_limits() {
    let template = custom("deployment/argo-rollouts", "AnalysisTemplate", "judge");
    let metrics = list(&template["spec"]["metrics"]);
    let names: Vec<_> = metrics.iter().map(|metric| text(&metric["name"])).collect();
    assert_eq!(names, ["verdict", "hold"]);
    for metric in metrics {
        let url = text(&metric["provider"]["web"]["url"]);
        assert_eq!(url, judge_in("{{args.namespace}}") + "v1/verdict?version={{args.canary-hash}}");
        assert_eq!(metric["consecutiveSuccessLimit"], 1);
        assert!(
            metric["consecutiveErrorLimit"].as_u64() >= Some(100),
            "for a judge that is away for a while"
        );
    }
    let [verdict, hold] = metrics else { panic!("two metrics") };
    let count = verdict["count"].as_u64().expect("a number");
    assert!(
        verdict["inconclusiveLimit"].as_u64() >= Some(count),
        "otherwise waiting ends the analysis early"
    );
    assert_eq!(verdict["failureLimit"], 0, "one roll_back aborts");
    assert_eq!((&hold["failureLimit"], &hold["inconclusiveLimit"]), (&(-1).into(), &0.into()), "hold pauses");
}

#[test]
fn argos_rollout_has_appinfos_pods_and_gives_the_template_its_arguments() {
    let rollout = custom("deployment/argo-rollouts", "Rollout", "appinfo");
    let spec = &rollout["spec"];
    let template: PodTemplateSpec = typed(&spec["template"]);
    let appinfo = deployments(&documents("deployment")).remove(0);
    assert_eq!(template.spec.as_ref(), Some(pod(&appinfo)), "the same pods");
    let selector = typed(&spec["selector"]["matchLabels"]);
    assert!(selects(&selector, labels_of(&template)));
    assert!(!labels_of(&template).contains_key("release"), "it changes when a canary is promoted");
    let canary = &spec["strategy"]["canary"];
    for side in ["stable", "canary"] {
        assert_eq!(canary[format!("{side}Metadata")]["labels"]["release"], side);
    }
    let service = service("deployment").spec.and_then(|spec| spec.selector).expect("a selector");
    assert!(selects(&service, labels_of(&template)));

    let analysis = &list(&canary["steps"])[1]["analysis"];
    let named = text(&list(&analysis["templates"])[0]["templateName"]);
    let template = custom("deployment/argo-rollouts", "AnalysisTemplate", named);
    let names_of =
        |arguments: &Value| list(arguments).iter().map(|it| text(&it["name"]).to_owned()).collect::<Vec<_>>();
    assert_eq!(names_of(&analysis["args"]), names_of(&template["spec"]["args"]));
}

#[test]
fn argos_job_equals_the_judges_job() {
    let template = custom("deployment/argo-rollouts", "AnalysisTemplate", "judge-job");
    let job = &list(&template["spec"]["metrics"])[0]["provider"]["job"]["spec"];
    let job: JobSpec = typed(job);
    assert_eq!(job.backoff_limit, Some(0), "each retry would be another chance to err");
    let mut pod = job.template.spec.expect("a pod");
    let mut own = self::job().spec.expect("a pod");
    for pod in [&mut pod, &mut own] {
        check_pod(pod);
        let arguments = pod.containers[0].args.as_mut().expect("arguments");
        arguments.retain(|argument| !argument.starts_with("--for="));
    }
    assert_eq!(pod, own);
}

#[test]
fn flaggers_canary_asks_the_judges_service() {
    let canary = custom("deployment/flagger", "Canary", "appinfo");
    let analysis = &canary["spec"]["analysis"];
    assert_eq!(analysis["threshold"], 1, "one no is enough");
    let kinds: Vec<_> = list(&analysis["webhooks"]).iter().map(|hook| text(&hook["type"])).collect();
    let wanted =
        ["confirm-rollout", "rollout", "confirm-traffic-increase", "confirm-promotion", "post-rollout"];
    assert_eq!(kinds, wanted, "a hook `rollback` would hide the reason");
    let step = list(&analysis["webhooks"]).iter().find(|hook| hook["type"] == wanted[2]).expect("a hook");
    let weights: Vec<_> =
        list(&analysis["stepWeights"]).iter().map(|weight| weight.as_u64().expect("a number")).collect();
    let told: Vec<_> =
        text(&step["metadata"]["step"]).split(',').map(|it| it.parse::<u64>().expect("a number")).collect();
    assert_eq!(told, weights, "the hook is told the weights");
    assert_eq!(weights.last().copied(), analysis["maxWeight"].as_u64());
    let rollout = list(&analysis["webhooks"]).iter().find(|hook| hook["type"] == "rollout").expect("a hook");
    assert_eq!(rollout["retries"], 8, "the judge may be away for a while");
    for hook in list(&analysis["webhooks"]) {
        let url = text(&hook["url"]);
        assert!(url.starts_with(&(judge_in("default") + "flagger/")), "{url}");
    }
    let gateway = &list(&canary["spec"]["service"]["gatewayRefs"])[0]["name"];
    custom("deployment/flagger", "Gateway", text(gateway));
}

#[test]
fn flaggers_judge_differs_from_the_other_only_in_its_requests() {
    let of_folder = |folder| -> Vec<Deployment> { deployments(&documents(folder)) };
    let judge =
        |folder| of_folder(folder).into_iter().find(|it| it.metadata.name.as_deref() == Some("judge"));
    let mut own = judge("deployment/flagger").expect("a judge");
    let mut other = judge(FOLDER).expect("a judge");
    let container = check_pod(pod(&own)).clone();
    let hosts = &custom("deployment/flagger", "Canary", "appinfo")["spec"]["service"]["hosts"];
    assert_eq!(values(&container, "--header"), [format!("Host: {}", text(&list(hosts)[0]))]);
    let variables: Vec<_> = container.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
    assert_eq!(arguments(&container)[..2], ["serve".to_owned(), format!("http://$({})", variables[0])]);
    // Flagger appends `-primary` to the name of its copy
    let name = of_folder("deployment/flagger")[0].metadata.name.clone().expect("a name");
    assert_eq!(values(&container, "--canary-pods"), [format!("{name}-*")]);
    assert_eq!(values(&container, "--stable-pods"), [format!("{name}-primary-*")]);

    for deployment in [&mut own, &mut other] {
        let pod = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a pod");
        pod.enable_service_links = None;
        let container = &mut pod.containers[0];
        container.env.as_mut().expect("variables").retain(|variable| variable.name == "MY_POD_NAMESPACE");
        let arguments = container.args.as_mut().expect("arguments");
        arguments.retain(|it| it.starts_with("--listen") || it.starts_with("--allow-host"));
    }
    assert_eq!(own, other);
    assert_eq!(service("deployment/flagger"), service(FOLDER));
}

#[test]
fn flaggers_deployment_has_appinfos_pods_and_a_selector_that_flagger_can_change() {
    let own = deployments(&documents("deployment/flagger")).remove(0);
    let appinfo = deployments(&documents("deployment")).remove(0);
    assert_eq!(pod(&own), pod(&appinfo), "the same pods");
    assert_eq!(selector(&own), pod_labels(&own));
    let labels: Vec<_> = selector(&own).keys().collect();
    assert_eq!(labels, ["app"], "the first of the labels that Flagger changes without a flag");
}

#[test]
fn the_network_policies_select_the_pods_and_name_their_ports() {
    let documents = documents("deployment/network-policy");
    let policies: Vec<NetworkPolicy> = documents.iter().map(Document::typed).collect();
    let names: Vec<_> =
        policies.iter().map(|policy| policy.metadata.name.as_deref().expect("a name")).collect();
    assert_eq!(names, ["appinfo", "judge", "prometheus"]);
    let folders = ["deployment", FOLDER, "deployment/monitoring"];
    for ((policy, folder), ports) in policies.iter().zip(folders).zip([2, 1, 1]) {
        let spec = policy.spec.as_ref().expect("a spec");
        let rules = spec.ingress.as_deref().expect("rules");
        let allowed: Vec<_> =
            rules.iter().flat_map(|rule| rule.ports.iter().flatten()).map(|port| port.port.clone()).collect();
        assert_eq!(allowed.len(), ports, "{folder}");
        for deployment in deployments(&self::documents(folder)) {
            let labels = pod_labels(&deployment);
            let selector = spec.pod_selector.as_ref().expect("a selector");
            let by_label = selector.match_labels.as_ref().is_none_or(|wanted| selects(wanted, labels));
            let by_expression = selector.match_expressions.iter().flatten().all(|it| {
                it.operator == "In"
                    && it.values.iter().flatten().any(|value| labels.get(&it.key) == Some(value))
            });
            assert!(by_label && by_expression, "{folder}: {labels:?}");
            let own = container(&deployment).ports.as_deref().expect("ports");
            for port in &allowed {
                let Some(IntOrString::String(name)) = port else { panic!("{folder}: a port without a name") };
                assert!(own.iter().any(|port| port.name.as_ref() == Some(name)), "{folder}: {name}");
            }
        }
    }
}

#[test]
fn no_command_on_a_page_creates_the_network_policies_with_something_else() {
    for page in
        ["README.md", "docs/serve.md", "docs/flagger.md", "docs/argo-rollouts.md", "docs/monitoring.md"]
    {
        let text = fs::read_to_string(page).expect("a page");
        for command in text.lines().filter(|line| line.contains("kubectl") && line.contains("network-policy"))
        {
            assert!(
                command.starts_with("$ kubectl create -f deployment/network-policy/"),
                "{page}: {command}"
            );
        }
        assert!(!text.contains("--recursive") && !text.contains(" -R"), "{page}");
    }
    let kustomizations = ["deployment/Kustomization", "deployment/judge/Kustomization"];
    for file in kustomizations {
        assert!(!fs::read_to_string(file).expect("a file").contains("network-policy"), "{file}");
    }
}

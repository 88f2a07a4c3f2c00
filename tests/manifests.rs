//! The manifests and Dockerfiles, read and compared: no cluster, no engine.

mod common;
#[path = "manifests/gateway.rs"]
mod gateway;

use std::{collections::BTreeMap, env, fs, os::unix::fs::PermissionsExt, process::Command};

use appinfo::config::Config;
use clap::{CommandFactory, Parser};
use common::{
    KIB_PER_CONNECTION,
    manifests::{
        Document, Labels, bytes, container, deployments, documents, exclude_each_other, name, pod,
        pod_labels, refused_by_restricted_profile, selector, selects, services,
    },
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Capabilities, ConfigMap, HostPathVolumeSource, PodSpec, Service, ServiceAccount, Volume},
        rbac::v1::{Role, RoleBinding},
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
    serde::de::DeserializeOwned,
};
use serde_yaml_ng::{Mapping, Value};

fn all() -> Vec<Deployment> {
    deployments(&documents("deployment"))
}

fn readme() -> String {
    fs::read_to_string("README.md").expect("the README")
}

#[test]
fn the_folder_holds_what_the_walkthrough_creates() {
    let mut files: Vec<_> = fs::read_dir("deployment")
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.contains('.'))
        .collect();
    files.sort();
    assert_eq!(files, ["appinfo-service.yaml", "appinfo.yaml", "canary-broken.yaml", "canary-fixed.yaml"]);
    let kinds: Vec<_> =
        documents("deployment").iter().map(|d| (d.api_version.clone(), d.kind.clone())).collect();
    let expected =
        [("v1", "Service"), ("apps/v1", "Deployment"), ("apps/v1", "Deployment"), ("apps/v1", "Deployment")];
    assert_eq!(kinds, expected.map(|(version, kind)| (version.to_owned(), kind.to_owned())));
}

#[test]
fn names_are_those_people_use() {
    let deployments = all();
    let names: Vec<_> = deployments.iter().map(name).collect();
    assert_eq!(names, ["appinfo", "appinfo-canary-broken", "appinfo-canary-fixed"]);
    let readme = readme();
    let repository =
        readme.lines().find_map(|line| line.strip_prefix("IMAGE=${IMAGE:-")).expect("the variable");
    let repository = repository.trim_end_matches('}');
    for (deployment, version) in deployments.iter().zip(1..) {
        let container = container(deployment);
        assert_eq!(container.image.as_deref(), Some(format!("{repository}:{version}").as_str()));
        let build = format!("docker build -t $IMAGE:{version} -f Dockerfile.v{version} .\n");
        assert!(readme.contains(&build), "the README does not say {build}");
        let promotion = format!("kubectl set image deployment/appinfo {}=$IMAGE:3\n", container.name);
        assert!(readme.contains(&promotion), "the README does not say {promotion}");
    }
    for document in documents("deployment") {
        let command = format!("kubectl create -f {}\n", document.file.replace("deployment/", "$MANIFESTS/"));
        assert!(readme.contains(&command), "the README does not say {command}");
    }
}

#[test]
fn the_kustomization_holds_all_manifests_and_replaces_their_image() {
    let text = fs::read_to_string("deployment/Kustomization").expect("the kustomization");
    let kustomization: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    let strings = |list: &Value| -> Vec<_> {
        list.as_sequence().expect("a list").iter().map(|item| item.as_str().map(ToOwned::to_owned)).collect()
    };
    let mut files = strings(&kustomization["resources"]);
    files.sort();
    let documents = documents("deployment");
    let in_the_folder: Vec<_> = documents
        .iter()
        .map(|document| document.file.strip_prefix("deployment/").map(ToOwned::to_owned))
        .collect();
    assert_eq!(files, in_the_folder);
    let image = kustomization["images"][0]["name"].as_str().expect("an image");
    for deployment in all() {
        let replaced = container(&deployment).image.as_deref().and_then(|full| full.strip_prefix(image));
        assert!(replaced.is_some_and(|tag| tag.starts_with(':')), "{} has another image", name(&deployment));
    }
}

#[test]
fn no_two_deployments_select_the_same_pod() {
    let deployments = all();
    for one in &deployments {
        assert!(selects(selector(one), pod_labels(one)), "{} does not select its own pods", name(one));
        for other in deployments.iter().filter(|other| name(other) != name(one)) {
            assert!(exclude_each_other(selector(one), selector(other)), "{} and {}", name(one), name(other));
        }
    }
    let labels =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let original: Labels = labels(&[("app", "appinfo")]);
    assert!(!exclude_each_other(&original, &original), "the original's selectors would be found out");
}

/// docs/baseline.md: fresh pods of stable's version, which the Service selects, too.
#[test]
fn the_baseline_is_stable_under_another_name() {
    let read = |file: &str| fs::read_to_string(file).expect("a manifest");
    let without_the_first_line = |text: String| text.split_once('\n').expect("lines").1.to_owned();
    let stable = without_the_first_line(read("deployment/appinfo.yaml"));
    let expected = stable
        .replacen("  name: appinfo\n", "  name: appinfo-baseline\n", 1)
        .replace("release: stable", "release: baseline");
    let baseline = without_the_first_line(read("deployment/baseline/appinfo-baseline.yaml"));
    assert_eq!(baseline, expected);
    for baseline in deployments(&documents("deployment/baseline")) {
        for other in all() {
            assert!(exclude_each_other(selector(&baseline), selector(&other)), "{}", name(&other));
        }
    }
}

#[test]
fn the_service_reaches_every_deployment() {
    let services: Vec<Service> = services(&documents("deployment"));
    let [service] = services.as_slice() else { panic!("one Service") };
    assert_eq!(service.metadata.name.as_deref(), Some("appinfo"));
    let spec = service.spec.as_ref().expect("a spec");
    assert_eq!(spec.type_.as_deref(), Some("NodePort"));
    let [port] = spec.ports.as_deref().expect("ports") else {
        panic!("one port: the admin port is none of it")
    };
    assert_eq!(port.port, 8080);
    let Some(IntOrString::String(target)) = &port.target_port else { panic!("a named port") };
    for deployment in all() {
        assert!(
            selects(spec.selector.as_ref().expect("a selector"), pod_labels(&deployment)),
            "{}",
            name(&deployment)
        );
        let ports = container(&deployment).ports.as_ref().expect("ports");
        let target =
            ports.iter().find(|port| port.name.as_ref() == Some(target)).expect("the port of that name");
        assert_eq!(target.container_port, 8080);
    }
}

#[test]
fn the_restricted_profile_refuses_nothing() {
    for deployment in all() {
        assert_eq!(refused_by_restricted_profile(pod(&deployment)), [""; 0], "{}", name(&deployment));
    }
}

#[test]
fn the_restricted_profile_would_refuse_a_change_for_the_worse() {
    let good = pod(&all()[0]).clone();
    let worse: [fn(&mut PodSpec); 9] = [
        |pod| pod.security_context = None,
        |pod| pod.host_network = Some(true),
        |pod| pod.containers[0].security_context = None,
        |pod| {
            let host = HostPathVolumeSource { path: "/".to_owned(), type_: None };
            let volume = Volume { name: "host".to_owned(), host_path: Some(host), ..Volume::default() };
            pod.volumes.get_or_insert_default().push(volume);
        },
        |pod| pod.containers[0].security_context.get_or_insert_default().privileged = Some(true),
        |pod| pod.containers[0].security_context.get_or_insert_default().run_as_user = Some(0),
        |pod| pod.containers[0].security_context.get_or_insert_default().run_as_non_root = Some(false),
        |pod| {
            let add = Some(vec!["SYS_ADMIN".to_owned()]);
            let capabilities = Capabilities { add, drop: Some(vec!["ALL".to_owned()]) };
            pod.containers[0].security_context.get_or_insert_default().capabilities = Some(capabilities);
        },
        |pod| pod.containers[0].ports.get_or_insert_default()[0].host_port = Some(80),
    ];
    for (index, worsen) in worse.iter().enumerate() {
        let mut pod = good.clone();
        worsen(&mut pod);
        assert!(!refused_by_restricted_profile(&pod).is_empty(), "change {index} is not noticed");
    }
}

/// Calls `look` for each mapping of a document, with the keys that lead to it.
fn for_each_mapping(value: &Value, keys: &mut Vec<String>, look: &mut impl FnMut(&[String], &Mapping)) {
    match value {
        Value::Mapping(mapping) => {
            look(keys, mapping);
            for (key, value) in mapping {
                keys.push(key.as_str().unwrap_or_default().to_owned());
                for_each_mapping(value, keys, look);
                keys.pop();
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| for_each_mapping(item, keys, look)),
        _ => {}
    }
}

/// The defaults that `kubectl apply` takes for a change if the manifest leaves them out, because a list or a union
/// around them is replaced as a whole.
fn left_out_defaults(documents: &[Document]) -> Vec<String> {
    let mut left_out = Vec::new();
    for document in documents {
        let mut look = |keys: &[String], mapping: &Mapping| {
            let within = |key: &str| keys.iter().any(|one| one == key);
            let last = keys.last().map_or("", String::as_str);
            let wanted = match last {
                // Argo Rollouts' arguments of an analysis do not have it
                "fieldRef" if !within("analysis") => Some("apiVersion"),
                "strategy" if mapping.contains_key("rollingUpdate") => Some("type"),
                "ports" => Some("protocol"),
                "listeners" => Some("allowedRoutes"),
                "parentRefs" | "gatewayRefs" | "backendRefs" => Some("group"),
                "rules" if document.kind == "HTTPRoute" => Some("matches"),
                _ => None,
            };
            if let Some(wanted) = wanted.filter(|wanted| !mapping.contains_key(wanted)) {
                left_out.push(format!("{}: {}.{wanted}", document.file, keys.join(".")));
            }
        };
        for_each_mapping(&document.typed(), &mut Vec::new(), &mut look);
    }
    left_out
}

#[test]
fn no_manifest_leaves_out_a_default_that_a_second_apply_would_take_for_a_change() {
    let folders = [
        "",
        "/argo-rollouts",
        "/baseline",
        "/flagger",
        "/gateway",
        "/judge",
        "/judge-pods",
        "/mirror",
        "/monitoring",
        "/network-policy",
    ];
    let mut found: Vec<_> = fs::read_dir("deployment")
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .map(|path| path.to_str().expect("UTF-8").to_owned())
        .collect();
    found.sort();
    let folders = folders.map(|folder| format!("deployment{folder}"));
    assert_eq!(found, folders[1..]);
    for folder in folders {
        assert_eq!(left_out_defaults(&documents(&folder)), [""; 0]);
    }
    let changed = fs::read_to_string("deployment/appinfo.yaml")
        .expect("a manifest")
        .replace("    type: RollingUpdate\n", "")
        .replacen("                  apiVersion: v1\n", "", 1);
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("changed.yaml"), changed).expect("written");
    let noticed = left_out_defaults(&documents(folder.path().to_str().expect("UTF-8")));
    assert_eq!(noticed.len(), 2, "{noticed:?}");
}

#[test]
fn a_misspelt_field_is_noticed() {
    let misspelt = fs::read_to_string("deployment/appinfo.yaml")
        .expect("a manifest")
        .replace("mountPath:", "mountpath:");
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("misspelt.yaml"), misspelt).expect("written");
    let documents = documents(folder.path().to_str().expect("UTF-8"));
    let noticed = std::panic::catch_unwind(|| Document::typed::<Deployment>(&documents[0]));
    assert!(noticed.is_err());
}

#[test]
fn pods_are_small_quick_and_lose_no_request() {
    let defaults = Config::parse_from(["appinfo"]);
    for deployment in all() {
        let (spec, pod, container) =
            (deployment.spec.as_ref().expect("a spec"), pod(&deployment), container(&deployment));
        assert_eq!(pod.automount_service_account_token, Some(false));
        let context = container.security_context.as_ref().expect("a context");
        assert_eq!(context.read_only_root_filesystem, Some(true));

        let rolling =
            spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref()).expect("a strategy");
        assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)));
        let grace = u64::try_from(pod.termination_grace_period_seconds.expect("a period")).expect("positive");
        assert!(grace > (defaults.drain_delay + defaults.drain_timeout).as_secs(), "it covers the drain");

        for (probe, path) in
            [(&container.readiness_probe, "/readyz"), (&container.liveness_probe, "/healthz")]
        {
            let probe = probe.as_ref().expect("a probe");
            let get = probe.http_get.as_ref().expect("by HTTP");
            assert_eq!(
                (get.path.as_deref(), &get.port),
                (Some(path), &IntOrString::String("admin".to_owned()))
            );
            assert!(probe.period_seconds.is_some_and(|seconds| seconds <= 5), "the lesson is quick");
        }
        let ports = container.ports.as_ref().expect("ports");
        let admin = ports.iter().find(|port| port.name.as_deref() == Some("admin")).expect("the admin port");
        assert_eq!(admin.container_port, 8081);

        let resources = container.resources.as_ref().expect("resources");
        let memory =
            |map: &Option<BTreeMap<String, Quantity>>| bytes(&map.as_ref().expect("resources")["memory"]);
        assert!(memory(&resources.requests) >= 8 << 20, "more than it takes at rest");
        let variables = container.env.as_ref().expect("variables");
        let connections =
            variables.iter().find(|v| v.name == "APPINFO_MAX_CONNECTIONS").and_then(|v| v.value.clone());
        let connections: u64 = connections.expect("a limit").parse().expect("a number");
        assert!(
            memory(&resources.limits) >= (8 << 20) + connections * (KIB_PER_CONNECTION << 10),
            "all connections fit"
        );
    }
}

#[test]
fn the_pod_is_told_who_it_is() {
    for deployment in all() {
        let container = container(&deployment);
        let variables = container.env.as_ref().expect("variables");
        for (variable, field) in
            [("MY_POD_NAME", "metadata.name"), ("MY_POD_NAMESPACE", "metadata.namespace")]
        {
            let source = variables.iter().find(|v| v.name == variable).and_then(|v| v.value_from.as_ref());
            let path =
                source.and_then(|source| source.field_ref.as_ref()).map(|field| field.field_path.as_str());
            assert_eq!(path, Some(field), "{variable}");
        }
        let [mount] = container.volume_mounts.as_deref().expect("mounts") else { panic!("one mount") };
        assert_eq!((mount.mount_path.as_str(), &mount.sub_path), ("/etc/podinfo", &None));
        let volumes = pod(&deployment).volumes.as_deref().expect("volumes");
        let volume =
            volumes.iter().find(|volume| volume.name == mount.name).expect("the volume of that name");
        let items = volume.downward_api.as_ref().and_then(|api| api.items.as_deref()).expect("items");
        let [item] = items else { panic!("one item") };
        assert_eq!(item.path, "labels");
        assert_eq!(item.field_ref.as_ref().map(|field| field.field_path.as_str()), Some("metadata.labels"));
        for version in 1..=3 {
            let dockerfile = fs::read_to_string(format!("Dockerfile.v{version}")).expect("a Dockerfile");
            assert!(
                dockerfile.contains("ln -s podinfo/labels /image/etc/labels"),
                "the link that leads there"
            );
        }
    }
}

#[test]
fn variables_of_ours_are_none_that_a_service_sets() {
    let command = Config::command();
    let ours: Vec<_> =
        command.get_arguments().filter_map(|arg| arg.get_env()).filter_map(|name| name.to_str()).collect();
    assert!(ours.len() > 5, "{ours:?}");
    for name in ours {
        assert!(!name.starts_with("APPINFO_PORT") && !name.starts_with("APPINFO_SERVICE"), "{name}");
    }
}

/// The only one of that kind in deployment/monitoring/.
fn monitoring<T: DeserializeOwned>(kind: &str) -> T {
    let documents = documents("deployment/monitoring");
    let [document] = documents.iter().filter(|document| document.kind == kind).collect::<Vec<_>>()[..] else {
        panic!("one {kind}")
    };
    document.typed()
}

#[test]
fn monitoring_is_six_objects_that_belong_to_no_namespace_and_are_none_of_appinfos() {
    let documents = documents("deployment/monitoring");
    let kinds: Vec<_> = documents.iter().map(|d| (d.api_version.as_str(), d.kind.as_str())).collect();
    let rbac = "rbac.authorization.k8s.io/v1";
    // in this order, so that a pod finds its service account and its configuration
    let expected = [
        ("v1", "ServiceAccount"),
        (rbac, "Role"),
        (rbac, "RoleBinding"),
        ("v1", "ConfigMap"),
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
    ];
    assert_eq!(kinds, expected);
    let appinfo: Service = services(&common::manifests::documents("deployment")).remove(0);
    let appinfo = appinfo.spec.and_then(|spec| spec.selector).expect("a selector");
    for document in &documents {
        let object: Value = document.typed();
        assert_eq!(object["metadata"]["name"], "prometheus", "{}", document.kind);
        assert_eq!(object["metadata"]["namespace"], Value::Null, "{}", document.kind);
        let labels: Labels = serde_yaml_ng::from_value(object["metadata"]["labels"].clone()).expect("labels");
        assert_eq!(labels, Labels::from([("app".to_owned(), "monitoring".to_owned())]), "{}", document.kind);
    }
    let (deployment, service): (Deployment, Service) = (monitoring("Deployment"), monitoring("Service"));
    assert!(selects(selector(&deployment), pod_labels(&deployment)));
    assert!(!selects(&appinfo, pod_labels(&deployment)), "traffic of appinfo must not reach Prometheus");
    for appinfos in all() {
        assert!(exclude_each_other(selector(&deployment), selector(&appinfos)), "{}", name(&appinfos));
    }
    let spec = service.spec.expect("a spec");
    assert!(selects(spec.selector.as_ref().expect("a selector"), pod_labels(&deployment)));
    let [port] = spec.ports.as_deref().expect("ports") else { panic!("one port") };
    assert_eq!((port.port, &port.target_port), (9090, &Some(IntOrString::String("http".to_owned()))));
}

#[test]
fn prometheus_may_look_at_the_pods_of_its_namespace_and_do_nothing_else() {
    let account: ServiceAccount = monitoring("ServiceAccount");
    let role: Role = monitoring("Role");
    let [allowed] = role.rules.as_deref().expect("rules") else { panic!("one rule") };
    assert_eq!(allowed.api_groups.as_deref(), Some(&[String::new()][..]));
    assert_eq!(allowed.resources.as_deref(), Some(&["pods".to_owned()][..]));
    assert_eq!(allowed.verbs, ["get", "list", "watch"]);
    assert_eq!((&allowed.resource_names, &allowed.non_resource_urls), (&None, &None));
    let binding: RoleBinding = monitoring("RoleBinding");
    assert_eq!((binding.role_ref.kind.as_str(), Some(binding.role_ref.name)), ("Role", role.metadata.name));
    let subjects = binding.subjects.expect("subjects");
    let [subject] = subjects.as_slice() else { panic!("one subject") };
    assert_eq!(
        (subject.kind.as_str(), Some(&subject.name)),
        ("ServiceAccount", account.metadata.name.as_ref())
    );
    assert_eq!(subject.namespace, None, "that of the binding, whichever it is created in");

    let deployment: Deployment = monitoring("Deployment");
    let pod = pod(&deployment);
    assert_eq!(pod.service_account_name, account.metadata.name);
    assert_eq!(pod.automount_service_account_token, Some(true));
    let config: ConfigMap = monitoring("ConfigMap");
    let config: Value =
        serde_yaml_ng::from_str(&config.data.expect("files")["prometheus.yml"]).expect("YAML");
    let discovery: Value =
        serde_yaml_ng::from_str("[{role: pod, namespaces: {own_namespace: true}}]").expect("YAML");
    assert_eq!(config["scrape_configs"][0]["kubernetes_sd_configs"], discovery);
}

#[test]
fn prometheus_is_small_keeps_to_the_restricted_profile_and_finds_its_configuration() {
    let deployment: Deployment = monitoring("Deployment");
    let (pod, container) = (pod(&deployment), container(&deployment));
    assert_eq!(refused_by_restricted_profile(pod), [""; 0]);
    let context = container.security_context.as_ref().expect("a context");
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let whole = pod.security_context.as_ref().expect("a context");
    assert_eq!((whole.run_as_user, whole.run_as_group), (Some(65534), Some(65534)));
    assert_eq!(container.command, None, "the image's own entry point");

    let image = container.image.as_deref().expect("an image");
    assert!(image.starts_with("prom/prometheus:v"), "{image} does not name a version");
    let mounts = container.volume_mounts.as_deref().expect("mounts");
    let volume = |path: &str| {
        let mount = mounts.iter().find(|mount| mount.mount_path == path).expect("a mount at that path");
        let volumes = pod.volumes.as_deref().expect("volumes");
        volumes.iter().find(|volume| volume.name == mount.name).expect("the volume of that name")
    };
    let argument = |flag: &str| {
        let arguments = container.args.as_deref().expect("arguments");
        let value = arguments.iter().find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='));
        value.expect("the flag")
    };
    let (folder, file) = argument("--config.file").rsplit_once('/').expect("a path");
    let config: ConfigMap = monitoring("ConfigMap");
    assert_eq!(volume(folder).config_map.as_ref().map(|map| &map.name), config.metadata.name.as_ref());
    let files = config.data.expect("files");
    assert_eq!(files.keys().collect::<Vec<_>>(), [file, "rules.yml"]);
    let data = volume(argument("--storage.tsdb.path")).empty_dir.as_ref().expect("an empty folder");
    assert_eq!(data.size_limit, Some(Quantity("1Gi".to_owned())));
    assert_eq!(argument("--storage.tsdb.retention.size"), "512MB", "less than the volume holds");

    for (probe, path) in [(&container.readiness_probe, "/-/ready"), (&container.liveness_probe, "/-/healthy")]
    {
        let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).expect("a probe by HTTP");
        assert_eq!((get.path.as_deref(), &get.port), (Some(path), &IntOrString::String("http".to_owned())));
    }
    let [port] = container.ports.as_deref().expect("ports") else { panic!("one port") };
    assert_eq!((port.name.as_deref(), port.container_port), (Some("http"), 9090));
    let resources = container.resources.as_ref().expect("resources");
    let limit = bytes(&resources.limits.as_ref().expect("limits")["memory"]);
    let request = bytes(&resources.requests.as_ref().expect("requests")["memory"]);
    // it takes some 50 MiB for the pods of the walkthrough
    assert!((64 << 20..=limit).contains(&request) && limit <= 512 << 20, "{request} to {limit}");
}

#[test]
fn every_image_is_built_from_all_members_of_the_workspace() {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("the members");
    let members: Vec<String> = serde_json::from_str(members).expect("a list in one line");
    assert!(members.len() >= 3, "{members:?}");
    let allowed = read(".dockerignore");
    for member in members {
        for part in ["Cargo.toml", "src"] {
            let line = format!("!{member}/{part}");
            assert!(allowed.lines().any(|other| other == line), "Docker does not get {member}/{part}");
        }
        for dockerfile in ["Dockerfile.v1", "Dockerfile.v2", "Dockerfile.v3", "canary/Dockerfile"] {
            let line = format!("COPY {member} {member}");
            assert!(read(dockerfile).lines().any(|other| other == line), "{dockerfile}: no {line}");
        }
    }
}

#[test]
fn the_dockerfiles_differ_in_feature_and_labels_alone() {
    let versions = [("baseline", 1), ("broken", 2), ("with-namespace", 3)];
    let same = versions.map(|(feature, version)| {
        let text = fs::read_to_string(format!("Dockerfile.v{version}")).expect("a Dockerfile");
        assert!(
            text.contains(&format!("--features {feature} ")),
            "version {version} is built with {feature}"
        );
        assert!(text.contains(&format!("image.version=\"{version}\"")), "and says {version}");
        let line = |line: &str| {
            let what_may_differ =
                ["org.opencontainers.image.description=", "org.opencontainers.image.version="];
            let label =
                what_may_differ.iter().find_map(|label| line.find(label).map(|at| &line[..at + label.len()]));
            label.map_or_else(|| line.replace(&format!("--features {feature}"), ""), ToOwned::to_owned)
        };
        text.lines().map(line).collect::<Vec<_>>()
    });
    assert_eq!(same[0], same[1]);
    assert_eq!(same[0], same[2]);
}

#[test]
fn the_address_of_a_node_is_one_and_fits_into_a_url() {
    let readme = readme();
    let (_, command) = readme.split_once("\n$ EXTERNAL_IP=$(kubectl get nodes ").expect("the command");
    let (command, _) = command.split_once(")\n").expect("its end");
    // kubectl prints the addresses that a jsonpath filter finds with a space between them and no newline
    let tools = tempfile::tempdir().expect("a folder");
    let kubectl = tools.path().join("kubectl");
    fs::write(&kubectl, "#!/bin/sh\nprintf %s \"$ADDRESSES\"\n").expect("written");
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).expect("it may run");
    let path = format!("{}:{}", tools.path().display(), env::var("PATH").expect("a path"));
    for (addresses, wanted) in [
        ("172.18.0.2", "172.18.0.2"),
        ("172.18.0.2 fc00:f853:ccd:e793::2", "172.18.0.2"),
        ("fc00:f853:ccd:e793::2 172.18.0.2", "[fc00:f853:ccd:e793::2]"),
        ("fc00:f853:ccd:e793::2", "[fc00:f853:ccd:e793::2]"),
    ] {
        let script = format!("EXTERNAL_IP=$(kubectl get nodes {command})\nprintf %s \"$EXTERNAL_IP\"");
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("PATH", &path)
            .env("ADDRESSES", addresses)
            .output()
            .expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted, "of {addresses}");
    }
}

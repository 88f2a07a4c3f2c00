//! The manifests as Kubernetes reads them: typed, and with nothing in them that it would not know.

use std::{collections::BTreeMap, fs, path::Path};

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, PodSpec, PodTemplateSpec, Service},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
    serde::de::DeserializeOwned,
};
use serde::Deserialize;
use serde_yaml_ng::Value;

pub type Labels = BTreeMap<String, String>;

/// A Gateway of `gateway.networking.k8s.io/v1`: what every implementation must know of it, as far as it is used here.
///
/// <https://gateway-api.sigs.k8s.io/reference/spec/#gateway>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub metadata: ObjectMeta,
    pub spec: GatewaySpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    pub gateway_class_name: String,
    pub listeners: Vec<Listener>,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    pub name: String,
    pub protocol: String,
    pub port: u16,
    pub allowed_routes: AllowedRoutes,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct AllowedRoutes {
    pub namespaces: RouteNamespaces,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct RouteNamespaces {
    pub from: String,
}

/// An `HTTPRoute` of `gateway.networking.k8s.io/v1`, in the same way.
///
/// <https://gateway-api.sigs.k8s.io/reference/spec/#httproute>
#[derive(Deserialize)]
pub struct HttpRoute {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    pub metadata: ObjectMeta,
    pub spec: HttpRouteSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    pub parent_refs: Vec<ParentReference>,
    pub rules: Vec<HttpRouteRule>,
}

/// A Gateway in the route's own namespace, with all its listeners.
#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct ParentReference {
    pub group: String,
    pub kind: String,
    pub name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    pub matches: Vec<HttpRouteMatch>,
    #[serde(default)]
    pub filters: Vec<HttpRouteFilter>,
    pub backend_refs: Vec<BackendRef>,
}

/// Of the kinds of filters, only this one is used.
#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilter {
    #[serde(rename = "type")]
    pub type_: String,
    pub request_mirror: RequestMirror,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    pub backend_ref: MirrorRef,
}

/// A Service in the route's own namespace, which has no weight: it gets a copy of each request.
#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct MirrorRef {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub port: u16,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct HttpRouteMatch {
    pub path: HttpPathMatch,
}

#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct HttpPathMatch {
    #[serde(rename = "type")]
    pub type_: String,
    pub value: String,
}

/// A Service in the route's own namespace. The schema wants its port, and a weight of 1,000,000 at most.
#[derive(Deserialize, Debug, PartialEq, Eq)]
pub struct BackendRef {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub port: u16,
    pub weight: u32,
}

/// A document of a file below `deployment/`.
pub struct Document {
    /// Where it is, for messages.
    pub file: String,
    pub api_version: String,
    pub kind: String,
    value: Value,
}

impl Document {
    /// Reads it as that type.
    ///
    /// Panics where it is none, and where it has a field that the type does not.
    pub fn typed<T: DeserializeOwned>(&self) -> T {
        let mut unknown = Vec::new();
        let typed = serde_ignored::deserialize(self.value.clone(), |path| unknown.push(path.to_string()));
        assert_eq!(unknown, [""; 0], "{}: fields that a {} does not have", self.file, self.kind);
        typed.unwrap_or_else(|error| panic!("{}: {error}", self.file))
    }
}

/// All documents of the `.yaml` files directly in a folder, as `kubectl create -f FOLDER` reads them.
pub fn documents(folder: &str) -> Vec<Document> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|e| ending == *e))
        })
        .collect();
    paths.sort();
    paths.iter().flat_map(|path| documents_of(path)).collect()
}

fn documents_of(path: &Path) -> Vec<Document> {
    let text = fs::read_to_string(path).expect("UTF-8");
    let document = |part: serde_yaml_ng::Deserializer<'_>| {
        let value = Value::deserialize(part).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let field = |name: &str| {
            value[name].as_str().unwrap_or_else(|| panic!("{}: no {name}", path.display())).to_owned()
        };
        Document {
            file: path.display().to_string(),
            api_version: field("apiVersion"),
            kind: field("kind"),
            value,
        }
    };
    serde_yaml_ng::Deserializer::from_str(&text).map(document).collect()
}

/// The Deployments among them.
pub fn deployments(documents: &[Document]) -> Vec<Deployment> {
    documents.iter().filter(|document| document.kind == "Deployment").map(Document::typed).collect()
}

/// The Services among them.
pub fn services(documents: &[Document]) -> Vec<Service> {
    documents.iter().filter(|document| document.kind == "Service").map(Document::typed).collect()
}

pub fn name(deployment: &Deployment) -> &str {
    deployment.metadata.name.as_deref().expect("a name")
}

pub fn template(deployment: &Deployment) -> &PodTemplateSpec {
    &deployment.spec.as_ref().expect("a spec").template
}

pub fn pod(deployment: &Deployment) -> &PodSpec {
    template(deployment).spec.as_ref().expect("a pod")
}

pub fn container(deployment: &Deployment) -> &Container {
    only_container(pod(deployment))
}

pub fn only_container(pod: &PodSpec) -> &Container {
    match pod.containers.as_slice() {
        [container] => container,
        other => panic!("{} containers", other.len()),
    }
}

pub fn pod_labels(deployment: &Deployment) -> &Labels {
    labels_of(template(deployment))
}

pub fn labels_of(template: &PodTemplateSpec) -> &Labels {
    template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref()).expect("labels")
}

pub fn selector(deployment: &Deployment) -> &Labels {
    let selector = &deployment.spec.as_ref().expect("a spec").selector;
    assert!(selector.match_expressions.is_none(), "this test compares labels");
    selector.match_labels.as_ref().expect("labels")
}

pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// No pod can have the labels of both.
pub fn exclude_each_other(one: &Labels, other: &Labels) -> bool {
    one.iter().any(|(key, value)| other.get(key).is_some_and(|other| other != value))
}

/// Bytes of a quantity such as `64Mi`.
pub fn bytes(quantity: &Quantity) -> u64 {
    let number = quantity.0.strip_suffix("Mi").expect("mebibytes");
    number.parse::<u64>().expect("a whole number") << 20
}

/// What the restricted Pod Security Standard refuses in a pod, each as a sentence.
///
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
pub fn refused_by_restricted_profile(pod: &PodSpec) -> Vec<String> {
    let mut refused = Vec::new();
    let mut refuse = |wrong: bool, what: String| {
        if wrong {
            refused.push(what);
        }
    };
    for (name, shared) in
        [("hostNetwork", pod.host_network), ("hostPID", pod.host_pid), ("hostIPC", pod.host_ipc)]
    {
        refuse(shared == Some(true), format!("{name} is true"));
    }
    let allowed_volumes = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "name",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in pod.volumes.iter().flatten() {
        let fields = serde_json::to_value(volume).expect("JSON");
        for source in fields.as_object().expect("an object").keys() {
            refuse(!allowed_volumes.contains(&source.as_str()), format!("volume {}: {source}", volume.name));
        }
    }
    let whole = pod.security_context.clone().unwrap_or_default();
    refuse(whole.sysctls.iter().flatten().next().is_some(), "sysctls".to_owned());
    let init = pod.init_containers.iter().flatten();
    for Container { name, ports, security_context, .. } in init.chain(&pod.containers) {
        let own = security_context.clone().unwrap_or_default();
        for port in ports.iter().flatten() {
            refuse(port.host_port.is_some_and(|port| port != 0), format!("{name}: hostPort"));
        }
        refuse(own.privileged == Some(true), format!("{name}: privileged"));
        refuse(
            own.allow_privilege_escalation != Some(false),
            format!("{name}: allowPrivilegeEscalation is not false"),
        );
        refuse(
            own.run_as_non_root.or(whole.run_as_non_root) != Some(true),
            format!("{name}: runAsNonRoot is not true"),
        );
        refuse(own.run_as_user.or(whole.run_as_user) == Some(0), format!("{name}: runAsUser is 0"));
        refuse(own.proc_mount.is_some_and(|mount| mount != "Default"), format!("{name}: procMount"));
        let capabilities = own.capabilities.unwrap_or_default();
        let dropped = capabilities.drop.unwrap_or_default();
        refuse(!dropped.iter().any(|name| name == "ALL"), format!("{name}: capabilities are not dropped"));
        let added = capabilities.add.unwrap_or_default();
        refuse(
            added.iter().any(|name| name != "NET_BIND_SERVICE"),
            format!("{name}: capabilities are added"),
        );
        let seccomp = own.seccomp_profile.or(whole.seccomp_profile.clone()).map(|profile| profile.type_);
        let confined = seccomp.as_deref().is_some_and(|kind| ["RuntimeDefault", "Localhost"].contains(&kind));
        refuse(!confined, format!("{name}: seccompProfile is neither RuntimeDefault nor Localhost"));
        for options in [&own.se_linux_options, &whole.se_linux_options].into_iter().flatten() {
            refuse(options.user.is_some() || options.role.is_some(), format!("{name}: SELinux user or role"));
        }
    }
    refused
}

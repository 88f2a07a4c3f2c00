//! The parts of Kubernetes' objects that are read, and what they say about a pod: where to ask it, and whether it is
//! ready.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Instant, SystemTime},
};

use serde::Deserialize;

use super::workload::{Labels, Selector};
use crate::{
    foreign,
    source::{shown, strata::is_path},
};

/// The usual name of the port that users ask.
const FOR_USERS: &str = "http";

/// A list of objects.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    #[serde(default)]
    pub(super) metadata: Metadata,
    pub(super) items: Option<Vec<T>>,
}

/// An object of which only the name is read.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    pub(super) metadata: Metadata,
}

/// An event of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) object: serde_json::Value,
}

/// What objects have in common.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    /// Of a list that has more pages.
    #[serde(rename = "continue")]
    pub(super) next: String,
    pub(super) labels: Option<Labels>,
    pub(super) deletion_timestamp: Option<String>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    name: String,
    controller: bool,
}

/// A workload or a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    selector: Option<serde_json::Value>,
    /// Of a Service.
    ports: Option<Vec<ServicePort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    port: u16,
    target_port: Option<PortName>,
}

/// Of a Rollout.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    #[serde(rename = "stableRS")]
    pub(super) stable_rs: String,
    pub(super) current_pod_hash: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LabelSelector {
    match_labels: Option<Labels>,
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Debug, Deserialize)]
struct Expression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl Object {
    /// Its selector of pods: of a Service a map of labels, of a workload a label selector.
    pub(super) fn selector(&self, is_service: bool) -> Option<Selector> {
        let selector = self.spec.selector.clone()?;
        if is_service {
            let labels: Labels = serde_json::from_value(selector).ok()?;
            return Selector::of(labels, []);
        }
        let LabelSelector { match_labels, match_expressions } = serde_json::from_value(selector).ok()?;
        let expressions = match_expressions.unwrap_or_default().into_iter();
        Selector::of(
            match_labels.unwrap_or_default(),
            expressions
                .map(|Expression { key, operator, values }| (key, operator, values.unwrap_or_default())),
        )
    }

    /// The port of the pods to which a Service sends, if it has only one port.
    pub(super) fn target_port(&self) -> Option<PortName> {
        match self.spec.ports.as_deref()? {
            [ServicePort { target_port: Some(target), .. }] => Some(target.clone()),
            [ServicePort { port, target_port: None }] => Some(PortName::Number(*port)),
            _ => None,
        }
    }
}

/// A port by its number or its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PortName {
    /// The number.
    Number(u16),
    /// The name in the pod's containers.
    Name(String),
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl std::str::FromStr for PortName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(0) => Err("a port is at least 1"),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if text.is_empty() || text.parse::<u64>().is_ok() => {
                Err("want a number from 1 to 65535, or the name of a port")
            }
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

/// A pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodSpec {
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    ports: Option<Vec<ContainerPort>>,
    readiness_probe: Option<ReadinessProbe>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: String,
    #[serde(rename = "containerPort")]
    number: u16,
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReadinessProbe {
    http_get: Option<HttpGet>,
}

#[derive(Clone, Debug, Deserialize)]
struct HttpGet {
    path: Option<String>,
    port: PortName,
    scheme: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(rename = "lastTransitionTime")]
    since: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    restart_count: u64,
    state: Option<BTreeMap<String, State>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    reason: String,
}

impl Metadata {
    /// The kind and the name of the object that controls it.
    pub(super) fn owner(&self) -> Option<(&str, &str)> {
        let owners = self.owner_references.as_deref()?;
        owners.iter().find(|owner| owner.controller).map(|owner| (owner.kind.as_str(), owner.name.as_str()))
    }
}

impl Pod {
    /// Whether a Service would send to it.
    pub(super) fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    fn ready(&self) -> Option<&Condition> {
        let conditions = self.status.conditions.as_deref().unwrap_or_default();
        conditions.iter().find(|one| one.kind == "Ready" && one.status == "True")
    }

    /// Since when it is ready, by the cluster's clock; `now` if it does not tell, or that is in the future.
    pub(super) fn ready_since(&self, now: Instant) -> Instant {
        let since =
            self.ready().and_then(|ready| humantime::parse_rfc3339_weak(ready.since.as_deref()?).ok());
        let age = since.and_then(|since| SystemTime::now().duration_since(since).ok()).unwrap_or_default();
        now.checked_sub(age).unwrap_or(now)
    }

    /// Whether its containers have ended for good, as after an eviction.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// How often its containers have restarted.
    pub(super) fn restarts(&self) -> u64 {
        self.status.container_statuses.iter().flatten().map(|one| one.restart_count).sum()
    }

    /// Why a container does not run, such as `CrashLoopBackOff`; empty if that is unknown.
    pub(super) fn reason(&self) -> &str {
        let containers = self.status.container_statuses.iter().flatten();
        let states = containers.flat_map(|one| one.state.iter().flat_map(BTreeMap::values));
        states.map(|state| state.reason.as_str()).find(|reason| !reason.is_empty()).unwrap_or_default()
    }

    /// Its address, once it has one.
    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        self.status.pod_ip.parse().ok()
    }

    fn ports(&self) -> impl Iterator<Item = &ContainerPort> {
        let is_tcp = |port: &&ContainerPort| port.protocol.as_deref().is_none_or(|it| it == "TCP");
        self.spec.containers.iter().flat_map(|one| one.ports.iter().flatten()).filter(is_tcp)
    }

    fn number(&self, port: &PortName) -> Option<u16> {
        match port {
            PortName::Number(number) => Some(*number),
            PortName::Name(name) => self.ports().find(|it| it.name == *name).map(|it| it.number),
        }
    }

    /// Where to ask it.
    ///
    /// # Errors
    /// If the flags must say: the cause, in words.
    pub(super) fn endpoint(&self, wanted: &Wanted) -> Result<Endpoint, String> {
        let probe =
            self.spec.containers.iter().find_map(|one| one.readiness_probe.as_ref()?.http_get.clone());
        let probe = probe.and_then(|probe| Some((self.number(&probe.port)?, probe)));
        let ports: Vec<_> = self.ports().collect();
        // who names a path asks what users ask, and a probe may have a port of its own
        let for_users = wanted.path.as_ref().and_then(|_| self.number(&PortName::Name(FOR_USERS.to_owned())));
        let (port, from) = if let Some(port) = &wanted.port {
            let found = self.number(port);
            let port = found.ok_or_else(|| format!("there is no port {port}; {}", listed(&ports)))?;
            (port, if wanted.is_of_service { From::Service } else { From::Flag })
        } else if let Some((port, _)) = &probe
            && for_users.is_none_or(|for_users| for_users == *port)
        {
            (*port, From::Probe)
        } else if let Some(port) = for_users {
            (port, From::Name)
        } else if let [only] = ports.as_slice() {
            (only.number, From::OnlyPort)
        } else {
            return Err(format!("there is no readiness probe by HTTP; {}: give --port", listed(&ports)));
        };
        let others: Vec<_> = ports.iter().copied().filter(|other| other.number != port).collect();
        let other_ports = if others.is_empty() { String::new() } else { named(&others) };
        let probe = probe.filter(|(of_probe, _)| *of_probe == port).map(|(_, probe)| probe);
        let of_probe = probe.as_ref().and_then(|probe| probe.path.clone()).filter(|path| !path.is_empty());
        let (path, path_is_of_probe) = match (&wanted.path, of_probe) {
            (Some(path), _) => (path.clone(), false),
            (None, Some(path)) => {
                // the kubelet puts the slash before it, too
                let path = if path.starts_with('/') { path } else { format!("/{path}") };
                if !is_path(&path) {
                    return Err(format!(
                        "the path of the readiness probe cannot be asked: {path:?}; give --path"
                    ));
                }
                (path, true)
            }
            (None, None) => ("/".to_owned(), false),
        };
        let tls = probe.and_then(|probe| probe.scheme).is_some_and(|scheme| scheme == "HTTPS");
        Ok(Endpoint { tls, port, path, from, path_is_of_probe, other_ports })
    }
}

fn listed(ports: &[&ContainerPort]) -> String {
    if ports.is_empty() {
        return "the containers name no ports".to_owned();
    }
    format!("the containers have the {}", named(ports))
}

/// These ports in words. There is at least one.
fn named(ports: &[&ContainerPort]) -> String {
    let shown = ports.iter().take(8).map(|port| match port.name.as_str() {
        "" => port.number.to_string(),
        name => format!("{} ({})", port.number, foreign::bounded(name, foreign::LABEL)),
    });
    let word = if ports.len() == 1 { "port" } else { "ports" };
    format!("{word} {}", shown.collect::<Vec<_>>().join(", "))
}

/// The port and the path that are given.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) port: Option<PortName>,
    /// Whether the port is the one to which the Service sends, and not of a flag.
    pub(super) is_of_service: bool,
    pub(super) path: Option<String>,
}

/// Where a pod is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) port: u16,
    /// The path, and a query if there is one.
    pub(super) path: String,
    from: From,
    pub(super) path_is_of_probe: bool,
    /// The other ports of the pod, in words; empty if there is none.
    pub(super) other_ports: String,
}

/// Where a port is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
enum From {
    #[cfg_attr(test, default)]
    Flag,
    Service,
    /// It is the one that is named [`FOR_USERS`].
    Name,
    Probe,
    OnlyPort,
}

impl Endpoint {
    /// What was chosen, and why.
    pub(super) fn described(&self) -> String {
        let Self { port, path, .. } = self;
        let path = foreign::bounded(&shown::path_and_query(path), foreign::STRATUM);
        let port = match self.from {
            From::Flag => format!("port {port}"),
            From::Service => format!("port {port}, to which the Service sends"),
            From::Name => format!("port {port}, named {FOR_USERS}"),
            From::Probe => format!("port {port} of the readiness probe"),
            From::OnlyPort => format!("port {port}, the only one of the containers"),
        };
        let tls = if self.tls { " by HTTPS" } else { "" };
        let hint = if self.path_is_of_probe {
            " of the readiness probe (--path asks what users ask, which tells more)"
        } else {
            ""
        };
        format!("{port}{tls}, path {path}{hint}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("a pod")
    }

    fn wanted(port: Option<&str>, path: Option<&str>) -> Wanted {
        Wanted {
            port: port.map(|port| port.parse().expect("a port")),
            is_of_service: false,
            path: path.map(str::to_owned),
        }
    }

    #[test]
    fn port_and_path_come_from_the_flags_or_the_readiness_probe_or_the_only_port() {
        let http = json!({"name": "http", "containerPort": 8080});
        let admin = json!({"name": "admin", "containerPort": 8081});
        let probe = json!({"httpGet": {"path": "/ready?full=1", "port": "admin", "scheme": "HTTP"}});
        let both = pod(&json!([{"ports": [http, admin], "readinessProbe": probe}]));
        let one = pod(&json!([{"ports": [http]}, {"ports": [{"containerPort": 53, "protocol": "UDP"}]}]));
        let two = pod(&json!([{"ports": [http]}, {"ports": [admin]}]));
        let none = pod(&json!([{}]));
        let at = |pod: &Pod, port, path| {
            pod.endpoint(&wanted(port, path)).map(|it| (it.port, it.path.clone(), it.described()))
        };
        let ok = |port: u16, path: &str, described: &str| Ok((port, path.to_owned(), described.to_owned()));
        let hint = "(--path asks what users ask, which tells more)";
        let of_probe =
            format!("port 8081 of the readiness probe, path /ready?full=*** of the readiness probe {hint}");
        assert_eq!(at(&both, None, None), ok(8081, "/ready?full=1", &of_probe));
        assert_eq!(at(&both, Some("http"), None), ok(8080, "/", "port 8080, path /"));
        assert_eq!(at(&both, None, Some("/x")), ok(8080, "/x", "port 8080, named http, path /x"));
        let of_users =
            pod(&json!([{"ports": [http, admin], "readinessProbe": {"httpGet": {"port": "http"}}}]));
        assert_eq!(
            at(&of_users, None, Some("/x")),
            ok(8080, "/x", "port 8080 of the readiness probe, path /x")
        );
        let unnamed = pod(&json!([{"ports": [{"containerPort": 80}, admin], "readinessProbe": probe}]));
        assert_eq!(
            at(&unnamed, None, Some("/x")),
            ok(8081, "/x", "port 8081 of the readiness probe, path /x")
        );
        assert_eq!(at(&two, None, Some("/x")), ok(8080, "/x", "port 8080, named http, path /x"));
        let others = |pod: &Pod, port| pod.endpoint(&wanted(port, None)).map(|it| it.other_ports);
        assert_eq!(others(&both, None), Ok("port 8080 (http)".to_owned()));
        assert_eq!(others(&two, Some("80")), Ok("ports 8080 (http), 8081 (admin)".to_owned()));
        assert_eq!(others(&none, Some("80")), Ok(String::new()));
        assert_eq!(at(&one, None, None), ok(8080, "/", "port 8080, the only one of the containers, path /"));
        assert_eq!(at(&none, Some("80"), Some("/a")), ok(80, "/a", "port 80, path /a"));
        let why = at(&two, None, None).expect_err("two ports");
        assert!(
            why.ends_with("the containers have the ports 8080 (http), 8081 (admin): give --port"),
            "{why}"
        );
        assert!(at(&none, None, None).expect_err("none").contains("name no ports: give --port"));
        assert!(at(&one, Some("web"), None).is_err(), "no port of that name");
    }

    #[test]
    fn a_service_with_one_port_tells_the_port_of_its_pods() {
        let service = |ports| {
            let object: Object =
                serde_json::from_value(json!({"spec": {"ports": ports}})).expect("a Service");
            object.target_port()
        };
        assert_eq!(service(json!([{"port": 80}])), Some(PortName::Number(80)));
        assert_eq!(service(json!([{"port": 80, "targetPort": 8080}])), Some(PortName::Number(8080)));
        assert_eq!(
            service(json!([{"port": 80, "targetPort": "http"}])),
            Some(PortName::Name("http".to_owned()))
        );
        assert_eq!(service(json!([{"port": 80}, {"port": 81}])), None);
    }
}

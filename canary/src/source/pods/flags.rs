//! The flags of pods as a source, and how it is opened.

use std::sync::{Arc, Mutex};

use canary_judge::Release;
use clap::{ArgMatches, Args, Command, parser::ValueSource};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use super::{
    Draw, Place, Pods, PortName, Workload,
    api::{Api, ApiError, Way, own_namespace},
    asked::{FirstAnswers, Places},
    keep::{Keeper, Listed, hashes},
    kubectl::{Context, Kubectl, Proxy},
    lock,
    objects::{List, Named, Object, Wanted},
    request::Asking,
    roster::Roster,
    send_requests,
    workload::{Kind, Rule, is_name},
};
use crate::{
    messages::message,
    source::{
        AnySource, LastFailure, http,
        opened::{Bounds, Opened, ids},
        probe::{Limits, Orders, PATIENCE, Pace, ProbeFlags, ServiceFlags, Trust},
        shown,
        strata::{Paths, WeightedPath},
    },
};

/// The most requests a second that go through the API server. It has other work.
const MOST_THROUGH_API: f64 = 50.0;
/// The canary's share if none is given: with a half, a verdict takes the fewest requests.
const HALF: f64 = 0.5;

/// Which pods to ask, and how to reach them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct PodsFlags {
    /// The canary's workload, such as deployment/shop-canary
    #[arg(value_name = "CANARY", help_heading = None::<&str>)]
    pub canary_workload: Option<Workload>,

    /// The namespace of the pods; the default is that of the context
    #[arg(short, long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,

    /// The port of the pods, by number or name. The default is that of the readiness probe, or the only one; with --path,
    /// the one that is named http, if there is one
    #[arg(long, value_name = "PORT")]
    pub port: Option<PortName>,

    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// The kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,

    /// Impersonate this user
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,

    /// Impersonate this group, with --as; may be repeated
    #[arg(long, value_name = "GROUP", requires = "as_user")]
    pub as_group: Vec<String>,
}

fn namespace(text: &str) -> Result<String, &'static str> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("want the name of a namespace") }
}

/// The mistake, if flags do not go together with the pods of workloads, or without them. A flag's default is no mistake.
pub(crate) fn conflict(command: &Command, matches: &ArgMatches) -> Option<String> {
    let place = matches.try_get_one::<Place>("target").ok()??;
    let is_given = |id: &str| {
        matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let shown = |id: &str| {
        let flag = command.get_arguments().find(|flag| flag.get_id() == id);
        flag.map_or_else(|| id.to_owned(), ToString::to_string)
    };
    let canary =
        is_given("canary_workload").then(|| matches.get_one::<Workload>("canary_workload")).flatten();
    let Place::Workload(stable) = place else {
        if is_given("canary") && !is_given("prometheus") {
            return Some("--canary goes with --prometheus, or with service/NAME".to_owned());
        }
        let given = ids::<PodsFlags>().into_iter().find(|id| is_given(id.as_str()));
        return given.map(|id| {
            format!(
                "'{}' goes with the pods of a workload, such as deployment/shop, and not with a URL",
                shown(id.as_str())
            )
        });
    };
    let tls = ["cacert", "insecure"].map(clap::Id::from);
    let of_others = ids::<ServiceFlags>().into_iter().filter(|id| *id != "headers").chain(tls);
    if let Some(id) = of_others.into_iter().find(|id| is_given(id.as_str())) {
        return Some(format!("'{}' cannot be used with the pods of {stable}", shown(id.as_str())));
    }
    match (stable.kind, canary) {
        (Kind::Service, None) if !is_given("canary") => Some(format!(
            "{stable} wants --canary LABEL=VALUE, which selects the canary's pods among those of the Service"
        )),
        (Kind::Service | Kind::Rollout, Some(canary)) => {
            Some(format!("{stable} has the pods of both releases, so {canary} cannot be used with it"))
        }
        (Kind::Service | Kind::Rollout, None) => None,
        (_, None) => Some(format!("{stable} wants the canary's workload after it, such as {stable}-canary")),
        (_, Some(canary)) if matches!(canary.kind, Kind::Service | Kind::Rollout) => {
            Some(format!("{canary} cannot be a canary beside {stable}: {canary} stands alone"))
        }
        (_, Some(canary)) if canary == stable => Some(format!("{stable} cannot be stable and the canary")),
        (_, Some(_)) if is_given("canary") => {
            Some(format!("--canary goes with service/NAME, and not with {stable}"))
        }
        (_, Some(_)) => None,
    }
}

impl PodsFlags {
    /// The kubectl flags that choose cluster and user.
    fn kubectl(&self) -> Kubectl {
        let Self { context, kubeconfig, as_user, as_group, .. } = self;
        let one = [("context", context), ("kubeconfig", kubeconfig), ("as", as_user)];
        let one = one.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
        let all = one.chain(as_group.iter().map(|group| ("as-group", group)));
        Kubectl(all.map(|(flag, value)| format!("--{flag}={value}")).collect())
    }

    /// The way from a pod of the cluster, unless something points to another cluster.
    fn in_cluster(&self) -> Result<Option<Way>, String> {
        if !self.kubectl().0.is_empty() || std::env::var_os("KUBECONFIG").is_some() {
            return Ok(None);
        }
        Way::in_cluster().transpose()
    }

    /// A sender of requests to these pods, which sends none yet. Call it within a tokio runtime.
    ///
    /// # Errors
    /// If the pods cannot be found: the cause, in words.
    pub(in crate::source) async fn open(
        &self,
        stable: &Workload,
        canary_labels: Option<super::Selector>,
        probe: &ProbeFlags,
        paths: &[WeightedPath],
        bounds: Bounds,
    ) -> Result<Opened, String> {
        let first_path = paths.first().map(|one| one.path.clone());
        let paths = Paths::of(paths, |path| Ok(path.to_owned()))?;
        let headers = http::headers("--header", &probe.service.headers)?;
        let in_cluster = self.in_cluster()?;
        if in_cluster.is_none() {
            check_way_through_api(probe.rate, &headers)?;
        }
        let kubectl = self.kubectl();
        let (own, server) = if in_cluster.is_some() {
            (own_namespace(), None)
        } else {
            let Context { namespace, server } = kubectl.context().await?;
            (Some(namespace), Some(server))
        };
        let namespace = self.namespace.clone().or(own);
        let namespace = namespace.ok_or("give --namespace: this pod's own one is unknown")?;
        let workloads: Vec<_> = [Some(stable), self.canary_workload.as_ref()].into_iter().flatten().collect();
        let rule = needed_rule(&workloads, in_cluster.is_some());
        let (way, proxy) = if let Some(way) = in_cluster {
            (way, None)
        } else {
            let proxy = Proxy::start(&kubectl, &namespace, &accepted(&namespace, &workloads)).await?;
            (Way::Proxy(proxy.socket()), Some(proxy))
        };
        let api = Arc::new(Api::new(way, &namespace));
        let finder = Finder { api: &api, namespace: &namespace, rule: &rule };
        let (lists, service_port) =
            finder.lists(stable, self.canary_workload.as_ref(), canary_labels).await?;
        let is_of_service = self.port.is_none() && service_port.is_some();
        let wanted = Wanted { port: self.port.clone().or(service_port), is_of_service, path: first_path };
        let roster = Arc::new(Mutex::new(Roster::new(&namespace, wanted)));
        let (sender, seen) = mpsc::channel(1024);
        let keeper = Keeper {
            api: Arc::clone(&api),
            namespace: namespace.clone(),
            rule: rule.clone(),
            roster: Arc::clone(&roster),
            seen: sender.downgrade(),
        };
        let mut versions = Vec::new();
        for (number, listed) in lists.iter().enumerate() {
            versions.push(keeper.list(number, listed).await.map_err(|error| error.text(&rule))?);
        }
        let names = names(stable, self.canary_workload.as_ref(), &lists);
        let described = described(&lock(&roster), &names, &namespace)?;
        match paths.as_ref().map_or(1, Paths::count) {
            1 => message(described),
            count => message(format_args!("{described}; each request has one of {count} paths")),
        }

        let mut tasks = JoinSet::new();
        keeper.tell_health().await;
        for (number, (listed, version)) in lists.into_iter().zip(versions).enumerate() {
            tasks.spawn(keeper.clone().keep(number, listed, version));
        }
        tasks.spawn(keeper.look(names.clone()));
        let limits = Limits { timeout: probe.timeout, max_latency: bounds.max_latency };
        let pace = Pace { rate: probe.rate, limits, time: bounds.time, count: bounds.count };
        let tls = TlsConnector::from(Arc::new(Trust::Anything.client_config()?));
        let failures = LastFailure::default();
        let places = Places::default();
        let asking = Arc::new(Asking { api, rule, headers, tls, limits, failures, places });
        let orders = watch::Sender::new(Orders::Pause);
        let share = bounds.share.map_or(HALF, canary_judge::Fraction::get);
        let draw = Draw { share, paths };
        tasks.spawn(send_requests(Arc::clone(&asking), roster, draw, pace, sender, orders.subscribe()));

        let pods = Pods {
            seen,
            orders,
            asking,
            _tasks: tasks,
            proxy,
            ended: false,
            first_answers: FirstAnswers::default(),
            mistake: None,
        };
        let title = names.join(" and ");
        let cluster = server.map(|server| format!(" of {}", shown::url(&server))).unwrap_or_default();
        Ok(Opened {
            place: format!("{namespace}{cluster}"),
            source: AnySource::new(pods),
            how: format!("the pods of {title} {} times a second", probe.rate),
            rate: Some(probe.rate),
            share: canary_judge::Fraction::new(share).ok(),
            patience: Some(PATIENCE.saturating_add(probe.timeout)),
            unseen: format!("no answer of the pods of {title} named the release"),
            no_answer: format!("no answer from the pods of {title}: "),
            no_trouble: "no request was sent",
            title,
        })
    }
}

/// Refuses what does not go through the API server.
fn check_way_through_api(rate: f64, headers: &HeaderMap) -> Result<(), String> {
    if rate > MOST_THROUGH_API {
        return Err(format!(
            "--rate {rate}: at most {MOST_THROUGH_API} requests a second go through the Kubernetes API server; canary in the \
             cluster may send more"
        ));
    }
    let is_taken = |name: &&HeaderName| {
        [AUTHORIZATION, HOST].contains(name) || name.as_str().starts_with("impersonate-")
    };
    headers.keys().find(is_taken).map_or(Ok(()), |name| {
        Err(format!(
            "--header {name}: the way to the pods through the Kubernetes API server needs this header itself"
        ))
    })
}

/// The names of both sides, stable first.
fn names(stable: &Workload, canary: Option<&Workload>, lists: &[Listed]) -> [String; 2] {
    match (canary, lists.first().map(|listed| &listed.rule)) {
        (Some(canary), _) => [stable.to_string(), canary.to_string()],
        (None, Some(Rule::Selected(labels))) => [stable.to_string(), format!("its pods with {labels}")],
        (None, _) => [stable.to_string(), "its canary".to_owned()],
    }
}

/// What was found, and where it is asked.
fn described(roster: &Roster, names: &[String; 2], namespace: &str) -> Result<String, String> {
    let mut sides = Vec::new();
    for (release, name) in Release::BOTH.into_iter().zip(names) {
        let count = roster.count(release);
        let pods = if count == 1 { "pod" } else { "pods" };
        sides.push(match roster.endpoint(release) {
            Some(Ok(endpoint)) => format!("{release} is {name} ({count} {pods}), {}", endpoint.described()),
            Some(Err(why)) => return Err(format!("{name}: {why}")),
            None => format!("{release} is {name} (no pod)"),
        });
    }
    Ok(format!(
        "in the namespace {namespace}, {}; the Service and the gateway are not on this way",
        sides.join("; ")
    ))
}

/// Finds the workloads.
struct Finder<'a> {
    api: &'a Api,
    namespace: &'a str,
    rule: &'a str,
}

impl Finder<'_> {
    /// The lists of pods, and the port to which a Service sends.
    async fn lists(
        &self,
        stable: &Workload,
        canary: Option<&Workload>,
        canary_labels: Option<super::Selector>,
    ) -> Result<(Vec<Listed>, Option<PortName>), String> {
        let object = self.object(stable).await?;
        let selector = |workload: &Workload, object: &Object| {
            let selector = object.selector(workload.kind == Kind::Service);
            selector.ok_or_else(|| format!("{workload} selects no pods"))
        };
        let (rule, rollout) = match (stable.kind, canary_labels) {
            (Kind::Service, Some(labels)) => (Rule::Selected(labels), None),
            (Kind::Rollout, _) => (hashes(stable, &object), Some(stable.clone())),
            _ => (Rule::Owned(stable.clone(), Release::Stable), None),
        };
        let mut lists = vec![Listed { selector: selector(stable, &object)?, rule, rollout }];
        if let Some(canary) = canary {
            let canary_object = self.object(canary).await?;
            overlap(stable, &object, canary)?;
            overlap(canary, &canary_object, stable)?;
            let rule = Rule::Owned(canary.clone(), Release::Canary);
            lists.push(Listed { selector: selector(canary, &canary_object)?, rule, rollout: None });
        }
        let port = (stable.kind == Kind::Service).then(|| object.target_port()).flatten();
        Ok((lists, port))
    }

    async fn object(&self, workload: &Workload) -> Result<Object, String> {
        match self.api.get(&workload.path(self.namespace)).await {
            Ok(object) => Ok(object),
            Err(error) if error.is_of_unknown_kind() => Err(workload.kind.unknown()),
            Err(ApiError::Refused(hyper::StatusCode::NOT_FOUND, why)) => {
                let there = self.others(workload.kind).await;
                Err(format!("there is no {workload} in the namespace {}: {why}{there}", self.namespace))
            }
            Err(error) => Err(error.text(self.rule)),
        }
    }

    /// The names that do exist, as far as the user may list them.
    async fn others(&self, kind: Kind) -> String {
        let Ok(list) = self.api.get::<List<Named>>(&kind.path(self.namespace)).await else {
            return String::new();
        };
        let items = list.items.unwrap_or_default();
        if items.is_empty() {
            return format!("; there is no {} at all", kind.name());
        }
        shown::there_is(items.iter().map(|item| item.metadata.name.as_str()))
    }
}

/// Refuses a workload that belongs to the other one: its pods would be of both releases.
fn overlap(workload: &Workload, object: &Object, other: &Workload) -> Result<(), String> {
    if object.metadata.owner() != Some((other.kind.name(), &other.name)) {
        return Ok(());
    }
    Err(format!(
        "{workload} belongs to {other}, so its pods would be of both releases: name two that are apart"
    ))
}

/// What a role must allow, as the rules of a Role in one line.
fn needed_rule(workloads: &[&Workload], in_cluster: bool) -> String {
    let mut rules = vec!["{apiGroups: [\"\"], resources: [pods], verbs: [list, watch]}".to_owned()];
    if !in_cluster {
        rules.push("{apiGroups: [\"\"], resources: [pods/proxy], verbs: [get]}".to_owned());
    }
    let mut kinds: Vec<_> = workloads.iter().map(|workload| workload.kind).collect();
    kinds.dedup();
    rules.extend(kinds.iter().map(|kind| {
        format!("{{apiGroups: [{:?}], resources: [{}], verbs: [get]}}", kind.group(), kind.resource())
    }));
    format!("rules: [{}]", rules.join(", "))
}

/// The paths that `kubectl proxy` lets pass, as regular expressions without a comma.
fn accepted(namespace: &str, workloads: &[&Workload]) -> Vec<String> {
    let literal = |text: &str| text.replace('.', r"\.");
    let namespace = literal(namespace);
    let pods = [
        format!("^/api/v1/namespaces/{namespace}/pods$"),
        format!("^/api/v1/namespaces/{namespace}/pods/[^/]+/proxy/"),
    ];
    let kinds = workloads
        .iter()
        .map(|workload| format!("^{}(/{})?$", workload.kind.path(&namespace), literal(&workload.name)));
    pods.into_iter().chain(kinds).collect()
}

//! Tests that the manifests of deployment/gateway/ fit together, and fit the Deployments.

use std::fs;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use crate::{
    all,
    common::manifests::{
        AllowedRoutes, BackendRef, Document, Gateway, HttpPathMatch, HttpRoute, HttpRouteMatch, Listener,
        MirrorRef, ParentReference, RouteNamespaces, documents, services,
    },
    container, monitoring, name, pod_labels, selects,
};

const FOLDER: &str = "deployment/gateway";

/// The only document of that kind.
fn one(kind: &str) -> Document {
    let mut documents = documents(FOLDER);
    documents.retain(|document| document.kind == kind);
    assert_eq!(documents.len(), 1, "one {kind}");
    documents.remove(0)
}

/// The names of the Deployments whose pods the Service selects.
fn selected(service: &Service) -> Vec<String> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).expect("a selector");
    let mut deployments = all();
    deployments.push(monitoring("Deployment"));
    deployments.retain(|deployment| selects(selector, pod_labels(deployment)));
    deployments.iter().map(|deployment| name(deployment).to_owned()).collect()
}

#[test]
fn the_manifests_have_the_standard_api_version_and_no_namespace() {
    let kinds: Vec<_> = documents(FOLDER).into_iter().map(|d| (d.api_version, d.kind)).collect();
    let standard = "gateway.networking.k8s.io/v1";
    let expected = [(standard, "Gateway"), (standard, "HTTPRoute"), ("v1", "Service"), ("v1", "Service")];
    assert_eq!(kinds, expected.map(|(version, kind)| (version.to_owned(), kind.to_owned())));
    let (gateway, route) = (one("Gateway").typed::<Gateway>(), one("HTTPRoute").typed::<HttpRoute>());
    let mut metadata = vec![gateway.metadata, route.metadata];
    metadata.extend(services(&documents(FOLDER)).into_iter().map(|service| service.metadata));
    let names: Vec<_> = metadata.iter().filter_map(|metadata| metadata.name.as_deref()).collect();
    assert_eq!(names, ["appinfo", "appinfo", "appinfo-stable", "appinfo-canary"]);
    assert!(metadata.iter().all(|metadata| metadata.namespace.is_none()));
}

#[test]
fn the_gateway_has_no_labels() {
    let gateway: Gateway = one("Gateway").typed();
    // Istio would copy them to the pods that it starts, and the Service `appinfo` would select these pods
    assert_eq!(gateway.metadata.labels, None);
}

#[test]
fn the_route_gives_the_canary_one_per_cent() {
    let (gateway, route) = (one("Gateway").typed::<Gateway>(), one("HTTPRoute").typed::<HttpRoute>());
    let parent = ParentReference {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "Gateway".to_owned(),
        name: gateway.metadata.name.expect("a name"),
    };
    assert_eq!(route.spec.parent_refs, [parent]);
    let [rule] = route.spec.rules.as_slice() else { panic!("one rule") };
    let every_path = HttpPathMatch { type_: "PathPrefix".to_owned(), value: "/".to_owned() };
    assert_eq!(rule.matches, [HttpRouteMatch { path: every_path }]);
    let backend = |name: &str, weight| BackendRef {
        group: String::new(),
        kind: "Service".to_owned(),
        name: name.to_owned(),
        port: 8080,
        weight,
    };
    // in this order, because commands of docs/gateway.md use the index of the second one
    assert_eq!(rule.backend_refs, [backend("appinfo-stable", 99), backend("appinfo-canary", 1)]);
    assert_eq!(rule.filters, []);
}

/// docs/mirror.md: the same route, but the canary gets copies and no share.
#[test]
fn the_mirroring_route_sends_the_canary_only_copies() {
    let mut documents = documents("deployment/mirror");
    assert_eq!(documents.len(), 1, "it uses the Gateway and the Services of {FOLDER}");
    let (route, other) = (documents.remove(0).typed::<HttpRoute>(), one("HTTPRoute").typed::<HttpRoute>());
    assert_eq!((route.metadata, route.spec.parent_refs), (other.metadata, other.spec.parent_refs));
    let ([rule], [other]) = (route.spec.rules.as_slice(), other.spec.rules.as_slice()) else {
        panic!("one rule")
    };
    let ([stable, canary], [backend]) = (other.backend_refs.as_slice(), rule.backend_refs.as_slice()) else {
        panic!("one backend of two")
    };
    assert_eq!(rule.matches, other.matches);
    assert_eq!((&backend.group, &backend.kind), (&stable.group, &stable.kind));
    assert_eq!((&backend.name, backend.port, backend.weight), (&stable.name, stable.port, 1));
    let [filter] = rule.filters.as_slice() else { panic!("one filter") };
    assert_eq!(filter.type_, "RequestMirror");
    let copies = MirrorRef {
        group: canary.group.clone(),
        kind: canary.kind.clone(),
        name: canary.name.clone(),
        port: canary.port,
    };
    assert_eq!(filter.request_mirror.backend_ref, copies);
}

#[test]
fn each_service_selects_only_the_pods_of_its_release() {
    let services = services(&documents(FOLDER));
    let route: HttpRoute = one("HTTPRoute").typed();
    let wanted = [vec!["appinfo"], vec!["appinfo-canary-broken", "appinfo-canary-fixed"]];
    for (backend, wanted) in route.spec.rules[0].backend_refs.iter().zip(wanted) {
        let service = services.iter().find(|service| service.metadata.name.as_ref() == Some(&backend.name));
        let service = service.expect("the Service of that name");
        assert_eq!(selected(service), wanted, "{}", backend.name);
        let spec = service.spec.as_ref().expect("a spec");
        assert_eq!(spec.type_, None, "reached only through the gateway");
        let [port] = spec.ports.as_deref().expect("ports") else { panic!("one port") };
        assert_eq!(port.port, i32::from(backend.port));
        let Some(IntOrString::String(target)) = &port.target_port else { panic!("a named port") };
        for deployment in all() {
            let ports = container(&deployment).ports.as_deref().expect("ports");
            let target = ports.iter().find(|port| port.name.as_ref() == Some(target)).expect("that port");
            assert_eq!(target.container_port, 8080, "{}", name(&deployment));
        }
    }
}

#[test]
fn only_one_line_names_the_class_and_only_one_the_port() {
    let gateway: Gateway = one("Gateway").typed();
    let class = gateway.spec.gateway_class_name;
    let listener = Listener {
        name: "http".to_owned(),
        protocol: "HTTP".to_owned(),
        port: 8000,
        allowed_routes: AllowedRoutes { namespaces: RouteNamespaces { from: "Same".to_owned() } },
    };
    assert_eq!(gateway.spec.listeners, [listener]);
    let chapter = fs::read_to_string("docs/gateway.md").expect("the chapter");
    let commands = chapter.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let commands = commands.collect::<Vec<_>>().join("\n");
    let files = ["gateway.yaml", "route.yaml", "services.yaml"]
        .map(|file| fs::read_to_string(format!("{FOLDER}/{file}")).expect("a manifest"));
    let texts = files.iter().chain([&commands]);
    for (word, line) in
        [(class.as_str(), format!("gatewayClassName: {class}")), ("8000", "port: 8000".to_owned())]
    {
        let lines: Vec<_> =
            texts.clone().flat_map(|text| text.lines()).filter(|text| text.contains(word)).collect();
        assert_eq!(lines.iter().map(|line| line.trim()).collect::<Vec<_>>(), [line]);
    }
}

#[test]
fn a_misspelt_field_of_the_route_is_noticed() {
    let route = fs::read_to_string(format!("{FOLDER}/route.yaml")).expect("the route");
    for (right, wrong) in [("weight: 99", "wieght: 99"), ("  rules:", "  hostNames: []\n  rules:")] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("route.yaml"), route.replace(right, wrong)).expect("written");
        let documents = documents(folder.path().to_str().expect("UTF-8"));
        let noticed = std::panic::catch_unwind(|| Document::typed::<HttpRoute>(&documents[0]));
        assert!(noticed.is_err(), "{wrong} is not noticed");
    }
}

//! What a change costs, and which namespaces it wakes.

use kube::Config;
use registry_api::{RegistrySpec, TenantRegistry};

use super::*;
use crate::{kubernetes::http2::Http2ClientPool, settings::TenantAccess, tenancy::access::Access};
use registry_verdict::object::RegistryObject;

/// An API server that knows the operator, and nothing else.
fn client() -> Client {
    Client::new(
        tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let answer = br#"{"metadata": {}, "status": {"userInfo": {"username": "operator"}}}"#;
            let body = http_body_util::Full::new(bytes::Bytes::from_static(answer));
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        }),
        "default",
    )
}

/// So many tenants, each with a namespace, and a registry there that asks for a pull Secret.
async fn with_tenants(count: usize) -> DeliveryController {
    let (client, metrics) = (client(), Metrics::new());
    let access = Arc::new(Access::new(client.clone(), TenantAccess::Bound, "registry-system").await.unwrap());
    let config = Config::new("http://127.0.0.1:1".parse().unwrap());
    let clients = Http2ClientPool::new(config, metrics.clone(), client.clone());
    let watches = Arc::new(WatchPool::new(clients, || 0.5));
    let (_, delivery) = PullSecrets::start(client, watches, access.clone(), metrics);
    let (changes, events) = (mpsc::channel(1).0, mpsc::channel(1).0);
    let mut controller = DeliveryController::new(&delivery, changes, events);
    controller.synced = true;
    for number in 0..count {
        access.labelled(namespace(number), format!("tenant-{number}").into());
        controller.namespace_changed(&namespace(number));
        controller.spec_changed(spec(number, 1));
        look(&mut controller, number);
    }
    controller
}

fn namespace(number: usize) -> Arc<str> {
    format!("ns-{number}").into()
}

fn spec(number: usize, generation: i64) -> PullSecretSpec {
    let spec = RegistrySpec {
        endpoint: "https://registry.example".to_owned(),
        availability: serde_json::from_value(serde_json::json!({"pullSecret": {"name": "pull"}})).unwrap(),
        ..RegistrySpec::default()
    };
    let mut registry = TenantRegistry::new("packs", spec);
    registry.metadata.namespace = Some(namespace(number).to_string());
    registry.metadata.uid = Some(format!("uid-{number}"));
    registry.metadata.generation = Some(generation);
    PullSecretSpec::of(&RegistryObject::of(registry))
}

fn look(controller: &mut DeliveryController, number: usize) {
    controller.step(&namespace(number));
    controller.namespaces.changed(&namespace(number), &controller.requests);
}

/// The time that a hundred changes of a registry, and of whose its namespace is, take.
fn time_of_changes(controller: &mut DeliveryController, generation: i64) -> Duration {
    let began = Instant::now();
    for number in 0..100 {
        controller.spec_changed(spec(number, generation));
        controller.namespace_changed(&namespace(number));
        look(controller, number);
    }
    let told = controller.namespaces.take_unreported();
    assert!(told.len() <= 100, "{} registries were touched", told.len());
    began.elapsed()
}

#[tokio::test]
async fn change_touches_only_affected_namespaces() {
    let (mut few, mut many) = (with_tenants(100).await, with_tenants(10_000).await);
    few.namespaces.take_unreported();
    many.namespaces.take_unreported();
    let least = |controller: &mut DeliveryController| {
        (2..12).map(|generation| time_of_changes(controller, generation)).min().unwrap_or_default()
    };
    let (with_few, with_many) = (least(&mut few), least(&mut many));
    assert!(with_many < with_few * 10, "{with_few:?} with 100 tenants, {with_many:?} with 10,000");
}

#[tokio::test]
async fn change_wakes_namespaces_of_its_tenant_only() {
    let mut controller = with_tenants(100).await;
    while let Some((name, _)) = controller.queue.next(Instant::now()) {
        controller.queue.done(&name, Instant::now(), None);
    }
    controller.spec_changed(spec(7, 2));
    assert_eq!(controller.queue.depth(), 1);
    assert_eq!(controller.queue.next(Instant::now()).map(|(name, _)| name), Some(namespace(7)));
}

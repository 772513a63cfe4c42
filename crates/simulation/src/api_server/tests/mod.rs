//! The server through `kube`, as the operator uses it. That it answers as the real one does is for `crates/testbed/tests/conformance`.

mod managers;
mod watches;
mod writes;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use super::{ApiServer, SUPERUSER};

pub(super) fn server() -> ApiServer {
    let server = ApiServer::new(|| Timestamp::UNIX_EPOCH);
    server.install_definitions().unwrap();
    server
}

pub(super) fn client(server: &ApiServer) -> Client {
    Client::new(server.connect(SUPERUSER), "default")
}

pub(super) fn registry(name: &str) -> Value {
    json!({
        "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "TenantRegistry",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"endpoint": "https://r.example"},
    })
}

pub(super) fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}})
}

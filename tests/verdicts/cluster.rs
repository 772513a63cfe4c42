//! The Secrets and ConfigMaps of a row, as the API server would serve them; there is no API server.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Request, Response};
use kube::{Client, client::Body};
use registry_operator::{
    controller::references::References, settings::TenantAccess, tenancy::access::Access,
};
use serde_json::{Value, json};

use crate::spec::{Object, Spec, TENANT_NAMESPACE};

/// What a row's references are read from; `fill` fills in hosts.
pub async fn references(spec: &Spec, fill: impl Fn(&str) -> String) -> References {
    let objects: Arc<[(String, Value)]> = spec.objects.iter().map(|object| served(object, &fill)).collect();
    let forbidden = spec.forbidden;
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(&objects, forbidden, request.uri().path());
        async move { Ok::<_, std::io::Error>(answer) }
    });
    let client = Client::new(service, "default");
    let access = Access::new(client.clone(), TenantAccess::Bound, "registry-system").await.unwrap();
    if spec.labelled {
        access.labelled(TENANT_NAMESPACE.into(), "team-a".into());
    }
    References::new(client, Arc::new(access))
}

fn served(object: &Object, fill: &impl Fn(&str) -> String) -> (String, Value) {
    let Object { plural, namespace, name, kind, entries, hosts } = object;
    let path = format!("/api/v1/namespaces/{namespace}/{plural}/{name}");
    let filled = |value: &Vec<u8>| match str::from_utf8(value) {
        Ok(text) => fill(text).into_bytes(),
        Err(_) => value.clone(),
    };
    let is_secret = *plural == "secrets";
    let data: serde_json::Map<String, Value> = entries
        .iter()
        .map(|(key, value)| (key.to_string(), filled(value)))
        .map(|(key, value)| match is_secret {
            true => (key, BASE64_STANDARD.encode(value).into()),
            false => (key, String::from_utf8(value).unwrap().into()),
        })
        .collect();
    let mut metadata = json!({"name": name, "namespace": namespace, "resourceVersion": "1"});
    if let Some(hosts) = hosts {
        metadata["annotations"] = json!({"registry.spectrocloud.com/hosts": fill(hosts)});
    }
    let mut body = json!({"apiVersion": "v1", "metadata": metadata, "data": data});
    body["kind"] = if is_secret { "Secret" } else { "ConfigMap" }.into();
    if is_secret {
        body["type"] = (*kind).into();
    }
    (path, body)
}

fn answer(objects: &[(String, Value)], forbidden: bool, path: &str) -> Response<Body> {
    if path.ends_with("/selfsubjectreviews") {
        let user = json!({"username": "system:serviceaccount:registry-system:registry-operator"});
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "status": {"userInfo": user}});
        return respond(201, &review);
    }
    if forbidden {
        return respond(403, &failure(403, "Forbidden"));
    }
    match objects.iter().find(|(known, _)| known == path) {
        Some((_, object)) => respond(200, object),
        None => respond(404, &failure(404, "NotFound")),
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

fn respond(status: u16, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}

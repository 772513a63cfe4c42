//! The chart's tenantPolicy: insecureSkipVerify, http:// and hosts. One test at a time, on
//! control planes that no other test uses.

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use registry_probe::{Endpoint, HostPattern};
use registry_testbed::{
    eventually, in_repository,
    manifests::{self, Placeholders},
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    call::{Call, a_tenant_registry, tenant_registries, tenant_registry},
    stage::{Cluster, SYSTEM_NAMESPACE},
};

on_each_kubernetes!(by enter_to_change_parameters:
    forbids_skipped_verification_and_http_by_default,
    policy_changes_take_effect_at_once,
    rejects_endpoint_that_is_not_allowed,
    stricter_policy_keeps_objects_editable,
    missing_policy_config_allows_only_deletion,
);

const NO_SKIPPING: &str = "spec.tls.insecureSkipVerify is not allowed for tenants; set spec.tls.ca instead, or \
    ask an administrator to allow it (tenantPolicy.insecureSkipVerify)";
const NO_PLAIN_HTTP: &str = "spec.endpoint with http:// is not allowed for tenants; use https://, or ask an \
    administrator to allow it (tenantPolicy.plainHTTP)";

/// One test at a time changes the parameters, of whichever control plane; and finds them as they are shipped.
static PARAMETERS: Mutex<()> = Mutex::const_new(());

struct Parameters<'a> {
    cluster: &'a Cluster,
    namespace: String,
    _alone: MutexGuard<'static, ()>,
}

fn config_map() -> String {
    format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/registry-operator-tenant-policy")
}

impl<'a> Parameters<'a> {
    async fn of(cluster: &'a Cluster) -> Result<Self> {
        let alone = PARAMETERS.lock().await;
        let namespace = cluster.tenant_namespace("team-a").await?;
        let ours = Self { cluster, namespace, _alone: alone };
        ours.are_shipped().await?;
        Ok(ours)
    }

    /// Applies them as they are shipped.
    async fn are_shipped(&self) -> Result<()> {
        let shipped = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
        let ours = shipped.into_iter().find(|object| object.name_any() == "registry-operator-tenant-policy");
        let ours = ours.context("install.yaml has no parameters")?;
        manifests::apply(&self.cluster.root.client(), vec![ours.clone()]).await?;
        self.are(&ours.data["data"]).await
    }

    /// Sets them, and waits until the API server has seen it: it names them in what it refuses. Host patterns tell.
    async fn set(&self, data: Value) -> Result<()> {
        self.cluster.administrator.may(&Call::merge(&config_map(), json!({"data": data}))).await?;
        self.are(&data).await
    }

    async fn are(&self, data: &Value) -> Result<()> {
        let probe = |spec: Value| {
            let mut object = a_tenant_registry("probe");
            for (key, value) in spec.as_object().into_iter().flatten() {
                object["spec"][key] = value.clone();
            }
            Call::create(&tenant_registries(&self.namespace), object).dry()
        };
        let looks = [
            ("plainHTTP", probe(json!({"endpoint": "http://probe.invalid"})), "http://"),
            ("insecureSkipVerify", probe(json!({"tls": {"insecureSkipVerify": true}})), "insecureSkipVerify"),
        ];
        let look = || async {
            for (key, call, about) in &looks {
                let refused =
                    self.cluster.root.send(call).await?.err().is_some_and(|(_, m)| m.contains(about));
                ensure!(
                    data.get(key).is_none_or(|value| (value != "true") == refused),
                    "{key} is not yet {data}"
                );
            }
            let other = probe(json!({"endpoint": "https://nowhere.invalid"}));
            let refusal = self.cluster.root.send(&other).await?.err().map(|(_, message)| message);
            let patterns =
                data["allowedEndpoints"].as_str().map(|patterns| patterns.trim().replace('\n', ", "));
            let shown = match (&patterns, &refusal) {
                (None, _) => true,
                (Some(patterns), None) => patterns == "*",
                (Some(patterns), Some(message)) => {
                    message.contains(&format!("allowed: {};", patterns.to_lowercase()))
                }
            };
            ensure!(shown, "{patterns:?} are not yet allowed: {refusal:?}");
            Ok(())
        };
        Ok(eventually("the API server has the parameters", look).await?)
    }

    /// Creates a TenantRegistry with that in its spec, without effect.
    fn create(&self, spec: &Value) -> Call {
        let mut object = a_tenant_registry("another");
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        Call::create(&tenant_registries(&self.namespace), object).dry()
    }
}

async fn forbids_skipped_verification_and_http_by_default(cluster: &Cluster) -> Result<()> {
    let parameters = Parameters::of(cluster).await?;
    let editor = cluster.user_with("edit", &parameters.namespace).await?;
    let path = tenant_registry(&parameters.namespace, "packs");
    editor.may(&Call::create(&tenant_registries(&parameters.namespace), a_tenant_registry("packs"))).await?;
    for (spec, sentence) in [
        (json!({"tls": {"insecureSkipVerify": true}}), NO_SKIPPING),
        (json!({"endpoint": "http://registry.invalid"}), NO_PLAIN_HTTP),
    ] {
        for user in [&editor, &cluster.administrator, &cluster.root] {
            user.may_not(&parameters.create(&spec), sentence).await?;
            user.may_not(&Call::merge(&path, json!({"spec": spec})), sentence).await?;
            let mut applied = a_tenant_registry("packs");
            for (key, value) in spec.as_object().into_iter().flatten() {
                applied["spec"][key] = value.clone();
            }
            user.may_not(&Call::apply(&path, applied), sentence).await?;
        }
    }
    editor.may(&parameters.create(&json!({"tls": {"insecureSkipVerify": false}}))).await?;
    editor.may(&parameters.create(&json!({"endpoint": "https://any.host.invalid:5000/x"}))).await?;
    Ok(())
}

async fn policy_changes_take_effect_at_once(cluster: &Cluster) -> Result<()> {
    let parameters = Parameters::of(cluster).await?;
    let (skip, http) =
        (json!({"tls": {"insecureSkipVerify": true}}), json!({"endpoint": "http://registry.invalid"}));
    parameters.set(json!({"insecureSkipVerify": "true", "plainHTTP": "false"})).await?;
    cluster.root.may(&parameters.create(&skip)).await?;
    cluster.root.may_not(&parameters.create(&http), NO_PLAIN_HTTP).await?;
    parameters.set(json!({"insecureSkipVerify": "false", "plainHTTP": "true"})).await?;
    cluster.root.may(&parameters.create(&http)).await?;
    cluster.root.may_not(&parameters.create(&skip), NO_SKIPPING).await?;
    // Only the exact value allows it.
    for word in ["yes", "True", "1", ""] {
        parameters.set(json!({"insecureSkipVerify": word, "plainHTTP": word})).await?;
        cluster.root.may_not(&parameters.create(&skip), NO_SKIPPING).await?;
        cluster.root.may_not(&parameters.create(&http), NO_PLAIN_HTTP).await?;
    }
    Ok(())
}

/// Endpoints, and whether they are among the patterns of the test.
const ENDPOINTS: &[(&str, Option<&str>)] = &[
    ("https://registry.example.com", None),
    ("https://registry.example.com:8443/path", None),
    ("https://REGISTRY.Example.COM", None),
    ("https://registry.example.com.", None),
    ("https://a.wild.example.com", None),
    ("https://a.b.wild.example.com:5000", None),
    ("https://ported.example.com:5000", None),
    ("https://secure.example.com", None),
    ("https://secure.example.com:443", None),
    ("http://clear.example.com", None),
    ("https://a.both.example.com:5000", None),
    ("https://[2001:db8::1]:5000", None),
    ("https://192.0.2.7", None),
    ("https://example.com", Some("example.com:443")),
    ("https://wild.example.com", Some("wild.example.com:443")),
    ("https://evil-wild.example.com", Some("evil-wild.example.com:443")),
    ("https://evilregistry.example.com", Some("evilregistry.example.com:443")),
    ("https://registry.example.com.evil.invalid", Some("registry.example.com.evil.invalid:443")),
    ("https://evil.invalid/registry.example.com", Some("evil.invalid:443")),
    ("https://evil.invalid:8443/a.wild.example.com", Some("evil.invalid:8443")),
    ("https://ported.example.com", Some("ported.example.com:443")),
    ("https://ported.example.com:50000", Some("ported.example.com:50000")),
    ("https://secure.example.com:8443", Some("secure.example.com:8443")),
    ("https://clear.example.com", Some("clear.example.com:443")),
    ("https://a.both.example.com", Some("a.both.example.com:443")),
    ("https://both.example.com:5000", Some("both.example.com:5000")),
    ("https://[2001:db8::2]:5000", Some("[2001:db8::2]:5000")),
    ("https://[2001:db8::1]", Some("[2001:db8::1]:443")),
    ("https://192.0.2.77", Some("192.0.2.77:443")),
];

const PATTERNS: &str = "registry.example.com\n*.wild.example.com\nPorted.example.com:5000\nsecure.example.com:443\n\
                        clear.example.com:80\n*.both.example.com:5000\n[2001:db8::1]:5000\n192.0.2.7\n";

async fn rejects_endpoint_that_is_not_allowed(cluster: &Cluster) -> Result<()> {
    let parameters = Parameters::of(cluster).await?;
    parameters.set(json!({"allowedEndpoints": PATTERNS, "plainHTTP": "true"})).await?;
    for (endpoint, refused) in ENDPOINTS {
        let create = parameters.create(&json!({"endpoint": endpoint}));
        match refused {
            None => drop(cluster.root.may(&create).await.with_context(|| *endpoint)?),
            Some(address) => {
                let sentence = format!(
                    "spec.endpoint ({address}) is not allowed for tenants; allowed: registry.example.com, \
                     *.wild.example.com, ported.example.com:5000, secure.example.com:443, \
                     clear.example.com:80, *.both.example.com:5000, [2001:db8::1]:5000, 192.0.2.7; an \
                     administrator can add it (tenantPolicy.allowedEndpoints)"
                );
                cluster.root.may_not(&create, &sentence).await.with_context(|| *endpoint)?;
            }
        }
    }
    operator_and_api_server_match_hosts_alike()?;
    for trick in [
        "https://registry.example.com@evil.invalid",
        "https://registry.example.com:443@evil.invalid",
        "https://evil.invalid?registry.example.com",
        "https://evil.invalid#.wild.example.com",
        "https://evil.invalid/.wild.example.com",
        "https://evil.invalid\\.wild.example.com",
        "https://evil.invalid%2f.wild.example.com",
        "https://registry.example.com..",
    ] {
        let (code, message) = cluster.root.refusal(&parameters.create(&json!({"endpoint": trick}))).await?;
        assert_eq!(code, 422, "{trick}: {message}");
    }
    Ok(())
}

/// The operator has the patterns for Secrets and AWS's tokens, by code of its own.
fn operator_and_api_server_match_hosts_alike() -> Result<()> {
    let patterns = HostPattern::list(PATTERNS)?;
    for (endpoint, refused) in ENDPOINTS {
        let endpoint = Endpoint::parse(endpoint)?;
        let covered = patterns.iter().any(|pattern| pattern.covers(endpoint.server()));
        assert_eq!(covered, refused.is_none(), "{endpoint}");
    }
    Ok(())
}

async fn stricter_policy_keeps_objects_editable(cluster: &Cluster) -> Result<()> {
    let parameters = Parameters::of(cluster).await?;
    parameters.set(json!({"insecureSkipVerify": "true"})).await?;
    let editor = cluster.user_with("edit", &parameters.namespace).await?;
    let path = tenant_registry(&parameters.namespace, "packs");
    let mut object = a_tenant_registry("packs");
    object["spec"]["tls"] = json!({"insecureSkipVerify": true});
    object["metadata"]["finalizers"] = json!(["example.com/mine"]);
    editor.may(&Call::create(&tenant_registries(&parameters.namespace), object)).await?;
    parameters.set(json!({"insecureSkipVerify": "false"})).await?;

    editor.may_not(&Call::merge(&path, json!({"spec": {"suspend": true}})), NO_SKIPPING).await?;
    editor.may(&Call::merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    let status = Call::merge(&format!("{path}/status"), json!({"status": {"observedGeneration": 1}}));
    cluster.stage.operator().await?.may(&status).await?;
    editor.may(&Call::delete(&path)).await?;
    editor.may(&Call::merge(&path, json!({"metadata": {"finalizers": null}}))).await?;
    cluster.is_gone(&path).await
}

async fn missing_policy_config_allows_only_deletion(cluster: &Cluster) -> Result<()> {
    let parameters = Parameters::of(cluster).await?;
    let path = tenant_registry(&parameters.namespace, "packs");
    let all = tenant_registries(&parameters.namespace);
    let mut object = a_tenant_registry("packs");
    object["metadata"]["finalizers"] = json!(["example.com/mine"]);
    cluster.root.may(&Call::create(&all, object)).await?;
    cluster.administrator.may(&Call::delete(&config_map())).await?;

    let create = Call::create(&all, a_tenant_registry("another")).dry();
    let look = || async {
        let (_, message) = cluster.root.send(&create).await?.err().context("it is still allowed")?;
        ensure!(message.contains("no params found"), "{message}");
        Ok(())
    };
    eventually("nothing new is allowed", look).await?;
    cluster.root.may(&Call::delete_by(&path, "Foreground")).await?;
    cluster
        .root
        .may(&Call::json_patch(&path, json!([{"op": "remove", "path": "/metadata/finalizers/0"}])))
        .await?;
    cluster.is_gone(&path).await?;

    parameters.are_shipped().await
}

//! The cluster's own addresses: until the operator knows them, it makes no connection for a tenant; if the API has no ranges of
//! Services, it discovers them or gets them from a flag.

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Kubernetes, Operator, eventually};
use serde_json::{Value, json};

use crate::{
    call::{
        Call, User, a_namespace, a_system_registry, a_tenant_registry, system_registries, system_registry,
        tenant_registries, tenant_registry,
    },
    stage::{SYSTEM_NAMESPACE, Stage},
};

const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/registry-operator";
/// In the testbed's range of Services, 10.0.0.0/24. Nobody is there.
const A_SERVICE: &str = "https://10.0.0.77";

struct ClusterView {
    stage: Stage,
    root: User,
}

impl ClusterView {
    async fn of(kubernetes: Kubernetes) -> Result<Self> {
        let stage = Stage::start(kubernetes).await?;
        let root = User::new("root", stage.control_plane().client().await?);
        root.may(&Call::create("/api/v1/namespaces", a_namespace("team-a", Some("team")))).await?;
        let mut registry = a_tenant_registry("inside");
        registry["spec"]["endpoint"] = json!(A_SERVICE);
        registry["spec"]["validation"] = json!({"timeout": "1s"});
        let create = Call::create(&tenant_registries("team-a"), registry);
        eventually("a tenant's registry is taken", || root.may(&create)).await?;
        Ok(Self { stage, root })
    }

    async fn operator(&self, arguments: &[&str]) -> Result<Operator> {
        let mut options = self.stage.operator_options().await?;
        for argument in arguments {
            options = options.arg(*argument);
        }
        Ok(Operator::start(options).await?)
    }

    /// The rules of a role without those on `resources`.
    async fn set_rules(&self, role: &str, rules: &Value, without: &[&str]) -> Result<()> {
        let mut kept = rules.as_array().cloned().unwrap_or_default();
        kept.retain(|rule| !without.iter().any(|resource| rule["resources"] == json!([resource])));
        self.root.may(&Call::merge(role, json!({"rules": kept}))).await?;
        Ok(())
    }

    /// Waits until the conditions read so: status and reason of each.
    async fn shows(&self, path: &str, expected: &[(&str, &str)]) -> Result<Vec<Value>> {
        let look = || async {
            let object = self.root.may(&Call::get(path)).await?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for (kind, reads) in expected {
                let found = conditions.iter().find(|condition| condition["type"] == *kind);
                let found = found.map(|c| format!("{}/{}", text(&c["status"]), text(&c["reason"])));
                ensure!(found.as_deref() == Some(reads), "{kind} is {found:?} of {conditions:?}");
            }
            Ok(conditions)
        };
        Ok(eventually(format!("{path} shows {expected:?}"), look).await?)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Whether the addresses of that kind are known, by the metric.
async fn known(operator: &Operator, kind: &str) -> Result<Option<f64>> {
    let name = format!("registry_operator_cluster_addresses_known{{kind=\"{kind}\"}} ");
    Ok(operator.metrics().await?.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()))
}

const HELD_BACK: [(&str, &str); 4] = [
    ("ResolvedRefs", "True/Resolved"),
    ("EndpointReachable", "Unknown/NotAttempted"),
    ("Ready", "Unknown/Progressing"),
    ("Reconciling", "True/Progressing"),
];
const DENIED: [(&str, &str); 2] =
    [("EndpointReachable", "False/EgressDenied"), ("Ready", "False/EgressDenied")];

#[tokio::test]
async fn tenants_wait_until_cluster_addresses_are_known() -> Result<()> {
    let sight = ClusterView::of(Kubernetes::Newest).await?;
    let rules = sight.root.may(&Call::get(ROLE)).await?["rules"].clone();
    sight.set_rules(ROLE, &rules, &["servicecidrs", "endpointslices"]).await?;
    let read = Call::get("/apis/networking.k8s.io/v1/servicecidrs");
    let account = sight.stage.operator().await?;
    eventually("the right is gone", || account.has_no_right_to(&read)).await?;

    let operator = sight.operator(&[]).await?;
    let path = tenant_registry("team-a", "inside");
    let message = |conditions: &[Value], kind: &str| {
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        found.map(|condition| text(&condition["message"]).to_owned()).unwrap_or_default()
    };
    let conditions = sight.shows(&path, &HELD_BACK).await.with_context(|| operator.log())?;
    let services = "Not attempted: the cluster's own addresses, which tenants may not reach, are unknown: the operator may not \
                    list servicecidrs.networking.k8s.io (403); an administrator restores the chart's ClusterRole registry-operator";
    for kind in ["EndpointReachable", "Ready"] {
        assert_eq!(message(&conditions, kind), services);
    }
    assert_eq!(
        (known(&operator, "services").await?, known(&operator, "api-servers").await?),
        (Some(0.0), Some(0.0))
    );
    // The system's registries are the administrators'.
    let mut system = a_system_registry("packs");
    system["spec"]["endpoint"] = json!("https://127.0.0.1:1");
    sight.root.may(&Call::create(&system_registries(), system)).await?;
    sight.shows(&system_registry("packs"), &[("EndpointReachable", "False/ConnectionRefused")]).await?;

    // Each of the two by itself: what was learnt of the one is kept while the other is missing.
    sight.set_rules(ROLE, &rules, &["endpointslices"]).await?;
    let one = || async {
        ensure!(known(&operator, "services").await? == Some(1.0), "not yet");
        Ok(())
    };
    eventually("the ranges of Services are known", one).await?;
    let told = || async {
        let conditions = sight.shows(&path, &HELD_BACK).await?;
        let message = message(&conditions, "EndpointReachable");
        ensure!(
            message.contains("get endpointslices.discovery.k8s.io default/kubernetes (403)"),
            "{message}"
        );
        Ok(())
    };
    eventually("what is still missing is told", told).await?;

    sight.set_rules(ROLE, &rules, &[]).await?;
    sight.shows(&path, &DENIED).await.with_context(|| operator.log())?;
    assert_eq!(known(&operator, "api-servers").await?, Some(1.0));
    Ok(())
}

#[tokio::test]
async fn learns_service_ranges_without_service_cidrs() -> Result<()> {
    let sight = ClusterView::of(Kubernetes::Oldest).await?;
    let path = tenant_registry("team-a", "inside");
    let operator = sight.operator(&[]).await?;
    sight.shows(&path, &DENIED).await.with_context(|| operator.log())?;
    assert_eq!(known(&operator, "services").await?, Some(1.0));
    let services =
        sight.root.may(&Call::get(&format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/services"))).await?;
    let is_made = |item: &Value| item["metadata"]["name"] == "registry-operator-service-range";
    ensure!(!services["items"].as_array().is_some_and(|items| items.iter().any(is_made)), "{services}");
    drop(operator);

    // By the right to try, it can be learnt; without it, and without the flag, that is said.
    let role = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/roles/registry-operator-system"
    );
    let rules = sight.root.may(&Call::get(&role)).await?["rules"].clone();
    sight.set_rules(&role, &rules, &["services"]).await?;
    let operator = sight.operator(&[]).await?;
    let look = || async {
        ensure!(
            known(&operator, "services").await? == Some(0.0),
            "{:?}",
            known(&operator, "services").await?
        );
        ensure!(
            operator.log().contains("set egress.serviceCIDRs in the chart, or --service-cidr"),
            "{}",
            operator.log()
        );
        Ok(())
    };
    eventually("the missing ranges are told", look).await?;
    drop(operator);

    let operator = sight.operator(&["--service-cidr=10.0.0.0/24"]).await?;
    sight.root.may(&Call::merge(&path, json!({"spec": {"endpoint": "https://10.0.0.78"}}))).await?;
    let denied = || async {
        let object = sight.root.may(&Call::get(&path)).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let endpoint = conditions.iter().find(|condition| condition["type"] == "EndpointReachable");
        let is_new = |c: &Value| c["reason"] == "EgressDenied" && text(&c["message"]).contains("10.0.0.78");
        ensure!(endpoint.is_some_and(is_new), "{endpoint:?}");
        Ok(())
    };
    eventually("the range that was given is denied", denied).await.with_context(|| operator.log())?;
    assert_eq!(known(&operator, "services").await?, Some(1.0));
    Ok(())
}

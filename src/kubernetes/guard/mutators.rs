//! Finds mutating webhooks and policies that match registries. They may rewrite an endpoint during an administrator's
//! own write, and the password is then sent there. No policy can prevent that, so the operator reports them.

use std::{collections::BTreeSet, fmt, time::Duration};

use http::Request;
use kube::Client;
use registry_api::GROUP;
use serde::Deserialize;
use tokio::time::timeout;

const ANSWER: Duration = Duration::from_secs(10);
/// Objects per page. Webhook configurations contain certificates, and policies contain expressions.
const PAGE: usize = 50;
/// Versions of the API of mutating policies. It is stable since Kubernetes 1.36, and must be enabled before.
const POLICY_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// Kind and name of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Mutators(BTreeSet<String>);

impl Mutators {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Mutators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<Mutator>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: String,
}

/// The parts of a webhook configuration or a policy that are needed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Mutator {
    metadata: Meta,
    webhooks: Vec<Webhook>,
    spec: MutatorSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Webhook {
    rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MutatorSpec {
    match_constraints: Constraints,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Constraints {
    resource_rules: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
}

impl Mutator {
    /// Ignores selectors and conditions, because they can be changed as easily as the rest.
    fn matches_registries(&self) -> bool {
        let rules = self.webhooks.iter().flat_map(|webhook| &webhook.rules);
        rules.chain(&self.spec.match_constraints.resource_rules).any(Rule::matches_registries)
    }
}

impl Rule {
    fn matches_registries(&self) -> bool {
        let writes = |operation: &String| ["*", "CREATE", "UPDATE"].contains(&operation.as_str());
        self.api_groups.iter().any(|group| group == "*" || group == GROUP)
            && self.operations.iter().any(writes)
            && self.resources.iter().any(|resource| is_a_registry(resource))
    }
}

/// Returns whether the pattern matches registries, or their status, which shows what is validated.
fn is_a_registry(pattern: &str) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, "*"));
    ["*", "systemregistries", "tenantregistries"].contains(&resource)
        && ["*", "status"].contains(&subresource)
}

/// Finds all of them.
pub(super) async fn find(client: &Client) -> Result<Mutators, kube::Error> {
    let mut found = BTreeSet::new();
    let webhooks = list(client, "v1", "mutatingwebhookconfigurations").await?.unwrap_or_default();
    found.extend(webhooks.into_iter().map(|name| format!("MutatingWebhookConfiguration {name}")));
    for version in POLICY_VERSIONS {
        if let Some(policies) = list(client, version, "mutatingadmissionpolicies").await? {
            found.extend(policies.into_iter().map(|name| format!("MutatingAdmissionPolicy {name}")));
            break;
        }
    }
    Ok(Mutators(found))
}

/// Returns the names of those that match registries; `None` if the API server doesn't serve that resource.
async fn list(client: &Client, version: &str, plural: &str) -> Result<Option<Vec<String>>, kube::Error> {
    let (mut names, mut next) = (Vec::new(), String::new());
    loop {
        let Some(page) = page(client, version, plural, &next).await? else { return Ok(None) };
        let matching = page.items.into_iter().filter(Mutator::matches_registries);
        names.extend(matching.map(|mutator| mutator.metadata.name));
        next = page.metadata.next;
        if next.is_empty() {
            return Ok(Some(names));
        }
    }
}

async fn page(client: &Client, version: &str, plural: &str, next: &str) -> Result<Option<List>, kube::Error> {
    let path = format!("/apis/admissionregistration.k8s.io/{version}/{plural}?limit={PAGE}&continue={next}");
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match timeout(ANSWER, client.request(request)).await {
        Ok(Ok(list)) => Ok(Some(list)),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn matches(object: Value) -> bool {
        serde_json::from_value::<Mutator>(object).unwrap().matches_registries()
    }

    #[test]
    fn matches_webhooks_that_write_registries() {
        let rule = |groups: &[&str], resources: &[&str], operations: &[&str]| {
            matches(json!({"webhooks": [{"rules": [
                {"apiGroups": groups, "resources": resources, "operations": operations, "apiVersions": ["*"]},
            ]}]}))
        };
        assert!(rule(&["*"], &["*"], &["*"]));
        assert!(rule(&[GROUP], &["systemregistries"], &["CREATE"]));
        assert!(rule(&["apps", GROUP], &["*/*"], &["UPDATE"]));
        assert!(rule(&[GROUP], &["tenantregistries/status"], &["UPDATE"]));
        assert!(!rule(&[GROUP], &["*/scale"], &["UPDATE"]));
        assert!(!rule(&[""], &["*"], &["*"]));
        assert!(!rule(&["*"], &["pods"], &["*"]));
        assert!(!rule(&["*"], &["*"], &["DELETE", "CONNECT"]));
        assert!(matches(json!({"spec": {"matchConstraints": {"resourceRules": [
            {"apiGroups": [GROUP], "resources": ["*"], "operations": ["*"]},
        ]}}})));
    }
}

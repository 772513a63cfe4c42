//! What is left of the operator in a cluster.

use anyhow::Result;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams},
    core::Resource as _,
    discovery::{ApiGroup, Discovery, verbs},
};

/// What the operator made itself, and Helm knows nothing of: its bindings in tenants' namespaces. Without the operator's account
/// and the role they bind nobody to nothing.
pub async fn remove_bindings(client: &Client) -> Result<()> {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=registry-operator");
    for binding in Api::<RoleBinding>::all(client.clone()).list(&ours).await? {
        let namespace = binding.namespace().unwrap_or_default();
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
        bindings.delete(&binding.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Every object that is the chart's or the operator's by its name or labels, as `Kind namespace/name`. Left out is what goes
/// by itself: Events, and the APIServices of definitions.
pub async fn of_the_operator(client: &Client) -> Result<Vec<String>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut found = Vec::new();
    for (resource, capabilities) in discovery.groups().flat_map(ApiGroup::recommended_resources) {
        if ["Event", "APIService"].contains(&resource.kind.as_str())
            || !capabilities.supports_operation(verbs::LIST)
        {
            continue;
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let objects = api.list(&ListParams::default()).await?;
        let own = objects.iter().filter(|object| is_the_operators(object));
        found.extend(own.map(|object| {
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            format!("{} {namespace}/{}", resource.kind, object.name_any())
        }));
    }
    found.sort();
    Ok(found)
}

fn is_the_operators(object: &DynamicObject) -> bool {
    let labelled = object.labels().values().any(|value| value == "registry-operator");
    let name = object.name_any();
    labelled || name.contains("registry-operator") || name.contains("registry.spectrocloud.com")
}

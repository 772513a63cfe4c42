//! What is left of the operator in a cluster.

use anyhow::Result;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams},
    core::Resource as _,
    discovery::{ApiGroup, Discovery, verbs},
};

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

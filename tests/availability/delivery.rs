//! From proven credentials to Secrets in tenants' namespaces, and everything that changes them.

use anyhow::{Context as _, Result};
use kube::ResourceExt;
use registry_api::{MANAGED_BY_LABEL, PULL_SECRET_MANAGER, REGISTRY_ANNOTATION, REGISTRY_UID_LABEL};
use serde_json::json;

use crate::{
    harness::{self, SYSTEM_NAMESPACE},
    objects::{Protected, apply, login, system_registry},
    secrets::{SOON, config_for, counts, delivered, offered},
};

#[tokio::test]
async fn a_system_registrys_proven_credentials_are_in_the_namespaces_of_the_tenants_that_it_names()
-> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let protected = Protected::start().await?;
    let name = cluster.unique("packs");
    let namespaces = [
        cluster.tenant_namespace("a", "a-1").await?,
        cluster.tenant_namespace("a", "a-2").await?,
        cluster.tenant_namespace("b", "b-1").await?,
    ];
    apply(&cluster, &login(SYSTEM_NAMESPACE, &name, "right")).await?;
    let tenants = [cluster.unique("a"), cluster.unique("b")];
    let spec = offered(&protected, &name, json!({"tenants": tenants, "pullSecret": {"name": "packs-pull"}}));
    apply(&cluster, &system_registry(&name, spec)).await?;

    let says = config_for(&protected.registry.host_port(), "right");
    for namespace in &namespaces {
        let secret = delivered(&cluster, namespace, "packs-pull", SOON, &says).await?;
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    }
    let registry = counts(&cluster.system(&name), (2, 3, Some(3))).await?;
    let secret = delivered(&cluster, &namespaces[0], "packs-pull", SOON, &says).await?;
    assert_eq!(secret.labels().get(MANAGED_BY_LABEL).map(String::as_str), Some("registry-operator"));
    assert_eq!(secret.labels().get(REGISTRY_UID_LABEL), registry.metadata.uid.as_ref());
    assert_eq!(secret.annotations().get(REGISTRY_ANNOTATION), Some(&format!("SystemRegistry/{name}")));
    let managers = secret.metadata.managed_fields.context("managed fields")?;
    assert!(
        managers.iter().all(|entry| entry.manager.as_deref() == Some(PULL_SECRET_MANAGER)),
        "{managers:?}"
    );
    Ok(())
}

//! Marks of the tools that would undo what is changed here. Pure.

use kube::core::ObjectMeta;
use registry_api::GROUP;

/// Which tool a registry is kept by, and where to change it; `None` if no mark proves one.
///
/// `app.kubernetes.io/instance` alone proves nothing: Argo CD sets it, and so do Helm charts and people.
pub fn managed_by(kind: &str, metadata: &ObjectMeta) -> Option<String> {
    flux(metadata).or_else(|| argo_cd(kind, metadata)).or_else(|| helm(metadata))
}

fn flux(metadata: &ObjectMeta) -> Option<String> {
    let labels = metadata.labels.as_ref()?;
    [("kustomize", "Kustomization"), ("helm", "HelmRelease")].iter().find_map(|(prefix, kind)| {
        let label = |name: &str| labels.get(&format!("{prefix}.toolkit.fluxcd.io/{name}"));
        let namespace = label("namespace").map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Some(format!("Managed by Flux, {kind} {namespace}{}: change it in Git", label("name")?))
    })
}

/// Argo CD's annotation is `APPLICATION:GROUP/KIND:NAMESPACE/NAME`. One that names another object was copied with it.
fn argo_cd(kind: &str, metadata: &ObjectMeta) -> Option<String> {
    let id = metadata.annotations.as_ref()?.get("argocd.argoproj.io/tracking-id")?;
    let (application, object) = id.split_once(':')?;
    let place = object.strip_prefix(&format!("{GROUP}/{kind}:"))?;
    let (namespace, name) = place.split_once('/')?;
    let own = metadata.namespace.as_deref().unwrap_or(namespace);
    let is_own = Some(name) == metadata.name.as_deref() && namespace == own;
    is_own.then(|| format!("Managed by Argo CD, application {application}: change it in Git"))
}

/// Helm's own rule of what belongs to a release.
fn helm(metadata: &ObjectMeta) -> Option<String> {
    let is_helms = metadata.labels.as_ref()?.get("app.kubernetes.io/managed-by")? == "Helm";
    let annotation = |name: &str| metadata.annotations.as_ref()?.get(&format!("meta.helm.sh/{name}"));
    let release = annotation("release-name")?;
    let namespace =
        annotation("release-namespace").map(|namespace| format!("{namespace}/")).unwrap_or_default();
    is_helms.then(|| format!("Managed by Helm, release {namespace}{release}: change its values"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kept_by(metadata: Value) -> Option<String> {
        managed_by("TenantRegistry", &serde_json::from_value(metadata).unwrap())
    }

    fn argo(id: &str) -> Option<String> {
        let annotations = json!({"argocd.argoproj.io/tracking-id": id});
        kept_by(json!({"name": "p", "namespace": "n", "annotations": annotations}))
    }

    #[test]
    fn marks_say_where_a_registry_lives() {
        for (metadata, place) in [
            (
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "infra", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}}),
                "Flux, Kustomization flux-system/infra: change it in Git",
            ),
            (json!({"labels": {"helm.toolkit.fluxcd.io/name": "infra"}}), "Flux, HelmRelease infra"),
            (
                json!({"labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "apps"}}),
                "Helm, release apps/r: change its values",
            ),
        ] {
            let found = kept_by(metadata).unwrap();
            assert!(found.contains(place), "{found}");
        }
        let found = argo("infra:registry.spectrocloud.com/TenantRegistry:n/p").unwrap();
        assert!(found.contains("Argo CD, application infra"), "{found}");
    }

    #[test]
    fn what_others_set_too_proves_nothing() {
        for metadata in [
            json!({}),
            json!({"labels": {"app.kubernetes.io/instance": "infra"}}),
            json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}),
            json!({"annotations": {"meta.helm.sh/release-name": "r"}}),
            json!({"labels": {"app.kubernetes.io/managed-by": "me"}, "annotations": {"meta.helm.sh/release-name": "r"}}),
        ] {
            assert_eq!(kept_by(metadata.clone()), None, "{metadata}");
        }
        for id in [
            "infra:registry.spectrocloud.com/TenantRegistry:n/other",
            "infra:registry.spectrocloud.com/TenantRegistry:other/p",
            "infra:registry.spectrocloud.com/SystemRegistry:n/p",
            "infra",
        ] {
            assert_eq!(argo(id), None, "{id}");
        }
    }
}

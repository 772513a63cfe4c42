//! Forms of installation: another release name, another namespace, kustomize, a mesh, OpenShift, tools that prune and
//! tools that compare. Helm's own life cycle is in `lifecycle`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use registry_testbed::{
    in_repository,
    manifests::{self, Placeholders},
    tools::Tool,
};
use serde_json::{Value, json};

use crate::programs::{CHART, NAMESPACE, TestCluster, run, template, text_of};

const ALL_VALUES: &str = "charts/registry-operator/ci/all-values.yaml";

async fn rendered(arguments: &[&str]) -> Result<Vec<DynamicObject>> {
    Ok(manifests::parse("the chart's render", &template(arguments).await?.ok()?)?)
}

fn name(object: &DynamicObject) -> String {
    format!("{} {}", manifests::kind(object), object.metadata.name.as_deref().unwrap_or_default())
}

fn find<'a>(objects: &'a [DynamicObject], wanted: &str) -> Result<&'a DynamicObject> {
    objects.iter().find(|object| name(object) == wanted).with_context(|| format!("no {wanted}"))
}

// ---- Another release, another namespace

async fn template_of(release: &str, namespace: &str, values: &str) -> Result<String> {
    let home = tempfile::tempdir()?;
    let arguments = ["template", release, CHART, "--namespace", namespace, "--values", values];
    run(Tool::Helm, &arguments, &[("HOME", home.path())], "").await?.ok()
}

#[tokio::test]
async fn release_name_changes_nothing() -> Result<()> {
    for values in [ALL_VALUES, "charts/registry-operator/values.yaml"] {
        let usual = template_of("registry-operator", NAMESPACE, values).await?;
        assert_eq!(template_of("platform", NAMESPACE, values).await?, usual, "{values}");
    }
    Ok(())
}

#[tokio::test]
async fn other_namespace_replaces_the_default() -> Result<()> {
    for values in [ALL_VALUES, "charts/registry-operator/values.yaml"] {
        let elsewhere = template_of("registry-operator", "elsewhere", values).await?;
        let others = elsewhere.replace("registry-system-admin", "").replace("registry-system-view", "");
        let others =
            others.replace("registry-operator-system", "").replace("registry-system-credentials", "");
        let traces: Vec<&str> = others.lines().filter(|line| line.contains(NAMESPACE)).collect();
        assert_eq!(traces, Vec::<&str>::new(), "{values}");
        assert!(elsewhere.contains("system:serviceaccount:elsewhere:registry-operator"));
    }
    Ok(())
}

// ---- kustomize

/// The objects of an overlay over config/install.yaml that says this besides.
async fn overlay(further: &str) -> Result<Vec<DynamicObject>> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("install.yaml"), text_of("config/install.yaml")?)?;
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [install.yaml]\n{further}\n"
    );
    std::fs::write(directory.path().join("kustomization.yaml"), kustomization)?;
    let path = directory.path().display().to_string();
    let built = run(Tool::Kubectl, &["kustomize", &path], &[("HOME", directory.path())], "").await?.ok()?;
    Ok(manifests::parse("the overlay", &built)?)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// kustomize renames what it knows, and nothing in expressions and arguments. What is left contradicts itself, so the operator can see
/// it at its start; docs/install.md says what to use instead.
#[tokio::test]
async fn kustomize_renaming_is_detectable() -> Result<()> {
    let objects = overlay("namespace: elsewhere\nnamePrefix: acme-").await?;
    let deployment = find(&objects, "Deployment acme-registry-operator")?;
    let pod = &deployment.data["spec"]["template"]["spec"];
    assert_eq!(deployment.metadata.namespace.as_deref(), Some("elsewhere"));
    assert_eq!(pod["serviceAccountName"], "acme-registry-operator");
    let arguments = texts(&pod["containers"][0]["args"]);
    assert!(arguments.contains(&"--system-namespace=registry-system"), "{arguments:?}");
    let page = text_of("docs/install.md")?;
    for word in ["`namePrefix`", "`namespace:`", "helm template", "--namespace"] {
        assert!(page.contains(word), "docs/install.md says nothing of {word}");
    }
    Ok(())
}

#[tokio::test]
async fn kustomize_transformers_keep_selectors() -> Result<()> {
    let objects = overlay(
        "labels: [{pairs: {team: platform}, includeSelectors: false, includeTemplates: true}]\n\
         commonAnnotations: {owner: platform}\nreplicas: [{name: registry-operator, count: 3}]\n\
         images: [{name: registry-operator, newName: registry.example.com/registry-operator}]",
    )
    .await?;
    let deployment = &find(&objects, "Deployment registry-operator")?.data["spec"];
    assert_eq!(deployment["replicas"], 3);
    let (selector, labels) =
        (&deployment["selector"]["matchLabels"], &deployment["template"]["metadata"]["labels"]);
    for (label, value) in selector.as_object().context("a selector")? {
        assert_eq!(&labels[label], value);
    }
    assert_eq!(labels["team"], "platform");
    for object in objects {
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations["owner"], "platform");
        assert_eq!(is_kept(&object), KEPT.contains(&&*name(&object)), "{}", name(&object));
    }
    Ok(())
}

// ---- Tools that remove what they no longer find

/// The objects with which registries or their protection would be deleted.
const KEPT: [&str; 7] = [
    "CustomResourceDefinition systemregistries.registry.spectrocloud.com",
    "CustomResourceDefinition tenantregistries.registry.spectrocloud.com",
    "Namespace registry-system",
    "ValidatingAdmissionPolicy definitions.registry.spectrocloud.com",
    "ValidatingAdmissionPolicy system-registries.registry.spectrocloud.com",
    "ValidatingAdmissionPolicyBinding definitions.registry.spectrocloud.com",
    "ValidatingAdmissionPolicyBinding system-registries.registry.spectrocloud.com",
];

/// By which tool, the annotation that keeps an object from it. Argo CD has one option for pruning and one for the deletion of the
/// Application.
const KEEPERS: [(&str, &str); 5] = [
    ("helm.sh/resource-policy", "keep"),
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("client.lifecycle.config.k8s.io/deletion", "detach"),
    ("fluxcd.controlplane.io/prune", "disabled"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

fn keepers_of(object: &DynamicObject) -> Vec<(&'static str, &'static str)> {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let carries = |(key, value): &(&str, &str)| annotations.get(*key).is_some_and(|held| held == value);
    KEEPERS.into_iter().filter(carries).collect()
}

fn is_kept(object: &DynamicObject) -> bool {
    keepers_of(object) == KEEPERS
}

#[tokio::test]
async fn only_crds_and_their_namespace_are_kept() -> Result<()> {
    let manifest = manifests::read_file(&in_repository("config/install.yaml"), &Placeholders::default())?;
    for objects in [manifest, rendered(&["--set", "namespace.create=true"]).await?] {
        let kept: BTreeSet<String> = objects.iter().filter(|object| is_kept(object)).map(name).collect();
        assert_eq!(kept, KEPT.map(str::to_owned).into());
        // An object with only some of the annotations would be an oversight.
        let half = objects.iter().find(|object| !is_kept(object) && !keepers_of(object).is_empty());
        assert_eq!(half.map(name), None);
    }
    Ok(())
}

/// CRDs that are installed without the chart are protected too; only Helm's annotation is added by the chart.
#[tokio::test]
async fn crds_have_keep_annotation_unless_disabled() -> Result<()> {
    let unkept = rendered(&["--set", "crds.keep=false"]).await?;
    let chart = rendered(&[]).await?;
    let crds = manifests::read_directory(&in_repository("crds"), &Placeholders::default())?;
    assert_eq!(crds.len(), 2);
    for crd in &crds {
        assert_eq!(keepers_of(crd), KEEPERS[1..]);
        assert_eq!(find(&chart, &name(crd))?.data, crd.data, "the chart installs what crds/ holds");
        let unkept = find(&unkept, &name(crd))?;
        assert_eq!((keepers_of(unkept), &unkept.data), (Vec::new(), &crd.data));
    }
    Ok(())
}

// ---- Tools that compare

/// What the cluster decides, by the object's kind: addresses, finalizers, and an alias that is deprecated.
const DECIDED_BY_THE_CLUSTER: [(&str, &str); 6] = [
    ("Service", "spec.clusterIP"),
    ("Service", "spec.clusterIPs"),
    ("Service", "spec.ipFamilies"),
    ("Service", "spec.ipFamilyPolicy"),
    ("Deployment", "spec.template.spec.serviceAccount"),
    ("Namespace", "spec"),
];

/// The fields of a stored object that differ from the applied ones.
fn differences(applied: &Value, live: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match (applied, live) {
        (Value::Object(applied), Value::Object(live)) => {
            for (key, live) in live {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match applied.get(key) {
                    Some(applied) => differences(applied, live, &path, found),
                    None => drop(found.insert(path, live.clone())),
                }
            }
        }
        (Value::Array(applied), Value::Array(live)) if applied.len() == live.len() => {
            for (index, (applied, live)) in applied.iter().zip(live).enumerate() {
                differences(applied, live, &format!("{path}[{index}]"), found);
            }
        }
        _ if applied == live => {}
        _ => drop(found.insert(path.to_owned(), live.clone())),
    }
}

fn unexpected(applied: &DynamicObject, live: &DynamicObject) -> Vec<String> {
    let mut found = BTreeMap::new();
    differences(&applied.data, &live.data, "", &mut found);
    let kind = manifests::kind(applied);
    let is_unexpected = |path: &str| {
        path != "status" && !path.starts_with("status.") && !DECIDED_BY_THE_CLUSTER.contains(&(kind, path))
    };
    let found = found.into_iter().filter(|(path, _)| is_unexpected(path));
    found.map(|(path, value)| format!("{}: {path} = {value}", name(applied))).collect()
}

#[tokio::test]
async fn manifests_spell_out_api_defaults() -> Result<()> {
    let place = TestCluster::start().await?;
    let client = place.control_plane.client().await?;
    let mut all = Vec::new();
    for values in [None, Some(ALL_VALUES)] {
        let arguments = ["--skip-tests", "--set", "namespace.create=true"];
        let values: Vec<&str> = values.into_iter().flat_map(|file| ["--values", file]).collect();
        let mut objects = rendered(&[&arguments[..], &values].concat()).await?;
        // The Prometheus Operator's own kinds are not served here.
        let is_served = |object: &DynamicObject| {
            let types = object.types.clone().unwrap_or_default();
            !types.api_version.starts_with("monitoring.coreos.com")
        };
        objects.retain(is_served);
        assert!(objects.len() > 20, "{}", objects.len());
        manifests::apply(&client, objects.clone()).await?;
        for object in &objects {
            let api = manifests::api_of(&client, object).await?;
            let live = api.get(object.metadata.name.as_deref().context("a name")?).await?;
            all.extend(unexpected(object, &live));
        }
    }
    ensure!(all.is_empty(), "write these in the chart's templates:\n{}", all.join("\n"));
    Ok(())
}

// ---- Meshes, OpenShift, nodes

#[tokio::test]
async fn helm_test_pod_gets_no_mesh_sidecar() -> Result<()> {
    let objects = rendered(&[]).await?;
    let pods: Vec<&DynamicObject> =
        objects.iter().filter(|object| manifests::kind(object) == "Pod").collect();
    ensure!(!pods.is_empty(), "helm test has a Pod");
    for pod in pods {
        let metadata = serde_json::to_value(&pod.metadata)?;
        for (field, key, value) in [
            ("labels", "sidecar.istio.io/inject", "false"),
            ("labels", "kuma.io/sidecar-injection", "disabled"),
            ("annotations", "sidecar.istio.io/inject", "false"),
            ("annotations", "linkerd.io/inject", "disabled"),
            ("annotations", "consul.hashicorp.com/connect-inject", "false"),
            ("annotations", "injector.nsm.nginx.com/auto-inject", "false"),
            ("annotations", "helm.sh/hook", "test"),
        ] {
            assert_eq!(metadata[field][key], value, "{}", name(pod));
        }
        assert_eq!(pod.data["spec"]["restartPolicy"], "Never");
    }
    // Users with native sidecars may remove or change these annotations.
    let into_the_mesh = [
        "--set-string",
        "helmTest.podLabels.sidecar\\.istio\\.io/inject=true",
        "--set",
        "helmTest.podAnnotations.sidecar\\.istio\\.io/inject=null",
    ];
    let objects = rendered(&into_the_mesh).await?;
    let metadata = serde_json::to_value(&find(&objects, "Pod registry-operator-test")?.metadata)?;
    assert_eq!(metadata["labels"]["sidecar.istio.io/inject"], "true");
    assert_eq!(metadata["annotations"]["sidecar.istio.io/inject"], Value::Null);
    Ok(())
}

/// OpenShift gives each namespace its own range of users, and refuses a Pod that asks for another (restricted-v2). The image names its
/// user by number, so that the kubelet sees by itself that it is not root.
#[tokio::test]
async fn pods_satisfy_openshift_restricted_v2() -> Result<()> {
    let console = "console.enabled=true,console.publicURL=https://r.example.com,console.tls.secretName=tls";
    let objects = rendered(&["--set", console]).await?;
    let deployment = &find(&objects, "Deployment registry-operator")?.data["spec"]["template"]["spec"];
    let console = &find(&objects, "Deployment registry-console")?.data["spec"]["template"]["spec"];
    let test = &find(&objects, "Pod registry-operator-test")?.data["spec"];
    for pod in [deployment, console, test] {
        let container = &pod["containers"][0]["securityContext"];
        for context in [&pod["securityContext"], container] {
            for field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"] {
                assert_eq!(context[field], Value::Null, "{field}");
            }
        }
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(container["allowPrivilegeEscalation"], false);
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[field], Value::Null, "{field}");
        }
        assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux", "a cluster may have Windows nodes too");
    }
    let dockerfile = text_of("Dockerfile")?;
    let user = dockerfile.lines().rev().find_map(|line| line.strip_prefix("USER ")).context("a USER")?;
    ensure!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "USER {user}");
    Ok(())
}

// ---- Read access

#[tokio::test]
async fn reader_groups_of_system_registries() -> Result<()> {
    let groups = "systemRegistries.readableByGroups={platform@example.com,system:serviceaccounts}";
    let nobody_else = "systemRegistries.readableByAll=false";
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &["system:authenticated"]),
        (&["--set", groups], &["system:authenticated", "platform@example.com", "system:serviceaccounts"]),
        (&["--set", nobody_else, "--set", groups], &["platform@example.com", "system:serviceaccounts"]),
        (&["--set", nobody_else], &[]),
    ];
    for (arguments, expected) in cases {
        let objects = rendered(arguments).await?;
        let binding = find(&objects, "ClusterRoleBinding registry-system-view").ok();
        let subjects = binding.map(|binding| binding.data["subjects"].clone()).unwrap_or_default();
        let subjects = subjects.as_array().cloned().unwrap_or_default();
        assert!(subjects.iter().all(|subject| subject["kind"] == "Group"), "{subjects:?}");
        let names: Vec<&str> = subjects.iter().filter_map(|subject| subject["name"].as_str()).collect();
        assert_eq!(names, expected);
        assert_eq!(binding.is_some(), !expected.is_empty(), "a binding of nobody is left out");
    }
    Ok(())
}

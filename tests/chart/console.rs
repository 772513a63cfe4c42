//! The web console in the cluster: what the chart renders for it, and what it refuses.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use registry_testbed::manifests;
use serde_json::{Value, json};

use crate::programs::{CHART, NAMESPACE, template, text_of};

/// The values that the console needs.
const CONSOLE: [&str; 2] = [
    "--set=console.enabled=true,console.publicURL=https://registries.example.com",
    "--set=console.tls.secretName=console-tls",
];

async fn rendered(values: &[&str]) -> Result<Vec<DynamicObject>> {
    Ok(manifests::parse("the chart's render", &template(values).await?.ok()?)?)
}

fn find<'a>(objects: &'a [DynamicObject], kind: &str, name: &str) -> Result<&'a DynamicObject> {
    let is = |object: &&DynamicObject| {
        manifests::kind(object) == kind && object.metadata.name.as_deref() == Some(name)
    };
    objects.iter().find(is).with_context(|| format!("no {kind} {name} is rendered"))
}

fn container<'a>(objects: &'a [DynamicObject], deployment: &str) -> Result<&'a Value> {
    let pod = &find(objects, "Deployment", deployment)?.data["spec"]["template"]["spec"];
    Ok(&pod["containers"][0])
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn nothing_of_the_console_unless_enabled() -> Result<()> {
    let off = template(&["--set=networkPolicy.enabled=true,serviceMonitor.enabled=true"]).await?.ok()?;
    for word in ["registry-console", "system-credentials"] {
        ensure!(!off.contains(word), "{word} is rendered");
        ensure!(!text_of("config/install.yaml")?.contains(word), "{word} is in config/install.yaml");
    }
    let objects = rendered(&CONSOLE).await?;
    let added: BTreeSet<String> = objects
        .iter()
        .map(|object| {
            format!("{} {}", manifests::kind(object), object.metadata.name.clone().unwrap_or_default())
        })
        .filter(|name| !off.contains(&format!("\n  name: {}\n", name.split(' ').nth(1).unwrap_or_default())))
        .collect();
    let expected = [
        "ClusterRole registry-console",
        "ClusterRoleBinding registry-console",
        "Deployment registry-console",
        "Role registry-console",
        "Role registry-system-credentials",
        "RoleBinding registry-console",
        "Service registry-console",
        "ServiceAccount registry-console",
        "ValidatingAdmissionPolicy system-credentials.registry.spectrocloud.com",
        "ValidatingAdmissionPolicyBinding system-credentials.registry.spectrocloud.com",
    ];
    assert_eq!(added, expected.map(str::to_owned).into());
    Ok(())
}

#[tokio::test]
async fn refuses_console_without_url_or_https() -> Result<()> {
    let enabled = "--set=console.enabled=true";
    let url = "--set=console.publicURL=https://registries.example.com";
    let (tls, proxy) = ("--set=console.tls.secretName=console-tls", "--set=console.behindTLSProxy=true");
    for (values, sentence) in [
        (&[enabled, tls][..], "console.enabled needs console.publicURL: set it to the URL that users open"),
        (&[enabled, url], "console.enabled needs HTTPS: set console.tls.secretName to a Secret of type"),
        (&[enabled, url, tls, proxy], "console.tls.secretName and console.behindTLSProxy are both set"),
        (&[enabled, "--set=console.publicURL=http://registries.example.com", proxy], "/console/publicURL"),
        (&[enabled, "--set=console.publicURL=https://r.example.com/path", proxy], "/console/publicURL"),
    ] {
        let complaint = template(values).await?.refused().context(sentence)?.replace("'/", "/");
        ensure!(complaint.contains(sentence), "{values:?}: {complaint}");
    }
    template(&[enabled, url, proxy]).await?.ok().map(drop)
}

/// The flags that say how registries are reached.
fn reach(container: &Value) -> BTreeSet<&str> {
    let of_reach = [
        "egress-",
        "service-cidr",
        "trusted-token-service",
        "proxy",
        "no-proxy",
        "ca-file",
        "system-namespace",
    ];
    let is_of_reach = |flag: &&str| of_reach.iter().any(|name| flag.starts_with(&format!("--{name}")));
    texts(&container["args"]).into_iter().filter(is_of_reach).collect()
}

#[tokio::test]
async fn console_reaches_registries_as_the_operator() -> Result<()> {
    for (values, count) in [("all", 11), ("minimal", 2)] {
        let objects = rendered(&["--values", &format!("{CHART}/ci/{values}-values.yaml")]).await?;
        let (operator, console) =
            (container(&objects, "registry-operator")?, container(&objects, "registry-console")?);
        assert_eq!(reach(console), reach(operator), "{values}");
        ensure!(reach(console).len() == count, "{values}: {:?}", reach(console));
        let mounts = |container: &Value| texts_of(&container["volumeMounts"], "mountPath");
        let ca = "/etc/registry-operator/ca".to_owned();
        assert_eq!(mounts(console).contains(&ca), mounts(operator).contains(&ca), "{values}");
    }
    let proxy = |variable: &str| json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "proxy-url"}}});
    let objects = rendered(&["--values", &format!("{CHART}/ci/minimal-values.yaml")]).await?;
    let console = &container(&objects, "registry-console")?["env"];
    assert_eq!(*console, json!([proxy("REGISTRY_CONSOLE_PROXY")]));
    Ok(())
}

fn texts_of(list: &Value, field: &str) -> BTreeSet<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item[field].as_str().map(str::to_owned)).collect()
}

/// What the console's account may do, as `verb resource name namespace`.
fn rights_of_console(objects: &[DynamicObject]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for binding in objects.iter().filter(|object| manifests::kind(object).ends_with("RoleBinding")) {
        let account = json!({"kind": "ServiceAccount", "name": "registry-console", "namespace": NAMESPACE});
        if !binding.data["subjects"].as_array().is_some_and(|subjects| subjects.contains(&account)) {
            continue;
        }
        let role = &binding.data["roleRef"];
        let (kind, name) = (role["kind"].as_str(), role["name"].as_str());
        let role = find(objects, kind.unwrap_or_default(), name.unwrap_or_default())?;
        assert_eq!(role.metadata.namespace, binding.metadata.namespace);
        for rule in role.data["rules"].as_array().context("rules")? {
            let namespace = role.metadata.namespace.as_deref().unwrap_or("*");
            let (resources, names) = (texts(&rule["resources"]), texts(&rule["resourceNames"]));
            let verbs = texts(&rule["verbs"]);
            found.insert(format!("{verbs:?} {resources:?} {names:?} in {namespace}"));
        }
    }
    Ok(found)
}

#[tokio::test]
async fn console_account_may_only_learn_cluster_addresses() -> Result<()> {
    let objects = rendered(&CONSOLE).await?;
    let expected =
        [r#"["get"] ["endpointslices"] ["kubernetes"] in default"#, r#"["list"] ["servicecidrs"] [] in *"#];
    assert_eq!(rights_of_console(&objects)?, expected.map(str::to_owned).into());
    let account = find(&objects, "ServiceAccount", "registry-console")?;
    assert_eq!(account.data["automountServiceAccountToken"], false, "only the console's Pod has its token");
    Ok(())
}

#[tokio::test]
async fn credentials_role_only_creates_and_is_unbound() -> Result<()> {
    let objects = rendered(&CONSOLE).await?;
    let role = find(&objects, "Role", "registry-system-credentials")?;
    assert_eq!(role.metadata.namespace.as_deref(), Some(NAMESPACE));
    assert_eq!(
        role.data["rules"],
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}])
    );
    let is_bound = |object: &DynamicObject| object.data["roleRef"]["name"] == "registry-system-credentials";
    ensure!(!objects.iter().any(is_bound), "the chart binds nobody to it");
    Ok(())
}

#[tokio::test]
async fn https_secret_is_mounted_and_reloadable() -> Result<()> {
    let objects = rendered(&CONSOLE).await?;
    let console = container(&objects, "registry-console")?;
    let args = texts(&console["args"]);
    for flag in [
        "--listen=:8443",
        "--public-url=https://registries.example.com",
        "--tls-cert=/etc/registry-console/tls/tls.crt",
        "--tls-key=/etc/registry-console/tls/tls.key",
    ] {
        ensure!(args.contains(&flag), "{flag}: {args:?}");
    }
    // With subPath, the kubelet wouldn't update the files.
    let mount = json!({"name": "tls", "mountPath": "/etc/registry-console/tls", "readOnly": true});
    assert_eq!(console["volumeMounts"], json!([mount]));
    let service = &find(&objects, "Service", "registry-console")?.data["spec"];
    assert_eq!(service["type"], "ClusterIP");
    assert_eq!(service["ports"][0]["port"], 443);

    let proxied =
        ["--set=console.enabled=true,console.behindTLSProxy=true,console.publicURL=https://r.example.com"];
    let objects = rendered(&proxied).await?;
    let console = container(&objects, "registry-console")?;
    let args = texts(&console["args"]);
    ensure!(
        args.contains(&"--behind-tls-proxy") && !args.iter().any(|arg| arg.starts_with("--tls-")),
        "{args:?}"
    );
    assert_eq!(console["volumeMounts"], Value::Null);
    assert_eq!(find(&objects, "Service", "registry-console")?.data["spec"]["ports"][0]["port"], 80);
    Ok(())
}

/// Sessions are in the memory of one Pod, and the operator's Service must not lead to it.
#[tokio::test]
async fn console_is_one_pod_outside_of_operator_selectors() -> Result<()> {
    let objects = rendered(&[&CONSOLE[..], &["--set=podDisruptionBudget.enabled=true"]].concat()).await?;
    let console = &find(&objects, "Deployment", "registry-console")?.data["spec"];
    assert_eq!(console["replicas"], 1);
    let labels = &console["template"]["metadata"]["labels"];
    let selects = |selector: &Value| {
        selector.as_object().is_some_and(|selector| selector.iter().all(|(key, value)| labels[key] == *value))
    };
    ensure!(selects(&console["selector"]["matchLabels"]));
    ensure!(selects(&find(&objects, "Service", "registry-console")?.data["spec"]["selector"]));
    let others = [
        &find(&objects, "Service", "registry-operator-metrics")?.data["spec"]["selector"],
        &find(&objects, "Deployment", "registry-operator")?.data["spec"]["selector"]["matchLabels"],
        &find(&objects, "PodDisruptionBudget", "registry-operator")?.data["spec"]["selector"]["matchLabels"],
    ];
    for other in others {
        ensure!(!selects(other), "{other} selects the console's Pod");
    }
    Ok(())
}

#[tokio::test]
async fn console_has_the_operators_monitor_and_network_policy() -> Result<()> {
    let objects = rendered(&["--values", &format!("{CHART}/ci/all-values.yaml")]).await?;
    let (operator, console) = (
        &find(&objects, "ServiceMonitor", "registry-operator")?.data["spec"],
        &find(&objects, "ServiceMonitor", "registry-console")?.data["spec"],
    );
    assert_eq!(console["endpoints"], operator["endpoints"]);
    let service = find(&objects, "Service", "registry-console")?;
    let labels = service.metadata.labels.clone().context("labels")?;
    let name = "app.kubernetes.io/name";
    assert_eq!(console["selector"]["matchLabels"], json!({name: labels[name]}));
    ensure!(operator["selector"]["matchLabels"][name] != labels[name].as_str(), "it would be scraped twice");

    let policy = |of: &str| Ok::<_, anyhow::Error>(&find(&objects, "NetworkPolicy", of)?.data["spec"]);
    let (operator, console) = (policy("registry-operator")?, policy("registry-console")?);
    assert_eq!(console["egress"], operator["egress"]);
    let ports: Vec<&str> = console["ingress"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["ports"][0]["port"].as_str())
        .collect();
    assert_eq!(ports, ["https", "metrics"]);
    let from = |namespace: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]);
    assert_eq!(console["ingress"][0]["from"], from("ingress"));
    assert_eq!(console["ingress"][1]["from"], from("monitoring"));

    let minimal = rendered(&["--values", &format!("{CHART}/ci/minimal-values.yaml")]).await?;
    find(&minimal, "PodMonitor", "registry-console").map(drop)
}

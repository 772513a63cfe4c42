//! Chart values: each is described, typed, used and tested; invalid ones are rejected by name before rendering.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use registry_testbed::{in_repository, tools::Tool};
use serde_json::Value;

use crate::programs::{CHART, run, template, text_of};

/// An invalid value, and what the error must name.
const WRONG: &[(&str, &str)] = &[
    ("nonsense=1", "nonsense"),
    ("image.repo=x", "repo"),
    ("namespace.create=maybe", "/namespace/create"),
    ("crds.enabled=maybe", "/crds/enabled"),
    ("crds.keep=1", "/crds/keep"),
    ("systemRegistries.readableByAll=all", "/systemRegistries/readableByAll"),
    ("systemRegistries.readableByGroups=team", "/systemRegistries/readableByGroups"),
    ("tenantPolicy.insecureSkipVerify=always", "/tenantPolicy/insecureSkipVerify"),
    ("tenantPolicy.plainHTTP=1", "/tenantPolicy/plainHTTP"),
    ("tenantPolicy.allowedEndpoints=registry.example.com", "/tenantPolicy/allowedEndpoints"),
    ("tenantPolicy.plainHttp=true", "plainHttp"),
    ("tenantPolicy.secretHosts=required", "/tenantPolicy/secretHosts"),
    ("tenantLabels.protected=perhaps", "/tenantLabels/protected"),
    ("tenantAccess=cluster", "/tenantAccess"),
    ("image.repository=", "/image/repository"),
    ("image.tag=1", "/image/tag"),
    ("image.digest=sha256:abc", "/image/digest"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("imagePullSecrets[0]=pull", "/imagePullSecrets/0"),
    ("replicas=two", "/replicas"),
    ("replicas=-1", "/replicas"),
    ("leaderElection=perhaps", "/leaderElection"),
    ("leaderElection=false", "leaderElection: false needs replicas: 1"),
    ("concurrency=0", "/concurrency"),
    ("log.format=xml", "/log/format"),
    ("log.level=", "/log/level"),
    ("egress.allow[0]=registry.example.com", "/egress/allow/0"),
    ("egress.deny[0]=10.0.0.0", "/egress/deny/0"),
    ("egress.serviceCIDRs[0]=10.96.0.0", "/egress/serviceCIDRs/0"),
    ("trustedTokenServices[0]=https://tokens.example.com", "/trustedTokenServices/0"),
    ("proxy.url=http://alice:secret@proxy.example.com:3128", "/proxy/url"),
    ("proxy.url=proxy.example.com:3128", "/proxy/url"),
    ("proxy.password=x", "password"),
    ("proxy.urlSecretRef=proxy", "/proxy/urlSecretRef"),
    ("caBundle.configMapRef.key=", "/caBundle/configMapRef/key"),
    ("hostAliases[0].ip=192.0.2.7", "/hostAliases/0"),
    ("extraVolumes[0].emptyDir=x", "/extraVolumes/0"),
    ("extraVolumeMounts[0].name=x", "/extraVolumeMounts/0"),
    ("extraArgs[0]=concurrency", "/extraArgs/0"),
    ("extraEnv[0].value=x", "/extraEnv/0"),
    ("serviceAccount.name=other", "name"),
    ("serviceAccount.annotations.a=1", "/serviceAccount/annotations/a"),
    ("commonLabels.a=true", "/commonLabels/a"),
    ("podLabels=a", "/podLabels"),
    ("podAnnotations.a=1", "/podAnnotations/a"),
    ("resources=much", "/resources"),
    ("nodeSelector.a=true", "/nodeSelector/a"),
    ("tolerations[0]=all", "/tolerations/0"),
    ("topologySpreadConstraints[0].maxSkew=1", "/topologySpreadConstraints/0"),
    ("priorityClassName=1", "/priorityClassName"),
    ("dnsPolicy=Cluster", "/dnsPolicy"),
    ("helmTest.podLabels.a=true", "/helmTest/podLabels"),
    ("helmTest.podAnnotations=none", "/helmTest/podAnnotations"),
    ("podDisruptionBudget.maxUnavailable=half", "/podDisruptionBudget/maxUnavailable"),
    ("networkPolicy.enabled=on-request", "/networkPolicy/enabled"),
    ("serviceMonitor.interval=often", "/serviceMonitor/interval"),
    ("prometheusRule.disabled[0]=RegistryNotreachable", "/prometheusRule/disabled/0"),
    ("dashboard.labels.a=1", "/dashboard/labels/a"),
    ("networkPolicy.consoleFrom=ingress", "/networkPolicy/consoleFrom"),
    ("console.enabled=yes-please", "/console/enabled"),
    ("console.publicUrl=https://r.example.com", "publicUrl"),
    ("console.publicURL=registries.example.com", "/console/publicURL"),
    ("console.tls.secretName=1", "/console/tls/secretName"),
    ("console.tls.secret=tls", "secret"),
    ("console.behindTLSProxy=maybe", "/console/behindTLSProxy"),
    ("console.image.digest=sha256:abc", "/console/image/digest"),
    ("console.resources=much", "/console/resources"),
    ("console.extraArgs[0]=listen", "/console/extraArgs/0"),
    ("console.extraEnv[0].value=x", "/console/extraEnv/0"),
    ("console.podLabels.a=1", "/console/podLabels/a"),
    ("console.podAnnotations=a", "/console/podAnnotations"),
    ("console.service.annotations.a=1", "/console/service/annotations/a"),
    ("console.replicas=2", "replicas"),
];

#[tokio::test]
async fn rejects_invalid_value_by_name() -> Result<()> {
    for (wrong, named) in WRONG {
        let complaint = template(&["--set", wrong]).await?.refused().context(wrong)?;
        assert!(
            complaint.replace("'/", "/").contains(named) || complaint.contains(named),
            "{wrong}: {complaint}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn rejects_two_scrape_methods() -> Result<()> {
    let both = ["--set", "serviceMonitor.enabled=true", "--set", "podMonitor.enabled=true"];
    let complaint = template(&both).await?.refused()?;
    assert!(complaint.contains("serviceMonitor.enabled and podMonitor.enabled: one of them"), "{complaint}");
    Ok(())
}

#[tokio::test]
async fn rejects_proxy_set_in_two_places() -> Result<()> {
    let both = ["--set", "proxy.url=http://proxy:3128", "--set", "proxy.urlSecretRef.name=proxy"];
    let complaint = template(&both).await?.refused()?;
    assert!(complaint.contains("proxy.url and proxy.urlSecretRef.name are both set"), "{complaint}");
    Ok(())
}

#[tokio::test]
async fn templates_use_every_value() -> Result<()> {
    let mut templates = String::new();
    for directory in ["templates", "templates/tests", "templates/policies", "templates/console"] {
        let path = in_repository(CHART).join(directory);
        let Ok(entries) = std::fs::read_dir(path) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                templates.push_str(&std::fs::read_to_string(path)?);
            }
        }
    }
    for path in leaves()? {
        let (group, last) =
            (path.split('.').next().unwrap_or_default(), path.rsplit('.').next().unwrap_or_default());
        // A template may go into a group first: `with .Values.image`, then `.tag`.
        let is_used = templates.contains(&format!(".Values.{path}"))
            || templates.contains(&format!(".Values.{group}")) && templates.contains(&format!(".{last}"));
        assert!(is_used || BY_OTHERS.contains(&group), "{path} is used by no template");
    }
    Ok(())
}

/// Read by the policies and roles, whose templates come with them.
const BY_OTHERS: [&str; 2] = ["tenantPolicy", "tenantAccess"];

#[tokio::test]
async fn test_values_differ_from_every_default() -> Result<()> {
    let defaults: Value = serde_saphyr::from_str(&text_of(&format!("{CHART}/values.yaml"))?)?;
    let all: Value = serde_saphyr::from_str(&text_of(&format!("{CHART}/ci/all-values.yaml"))?)?;
    let minimal: Value = serde_saphyr::from_str(&text_of(&format!("{CHART}/ci/minimal-values.yaml"))?)?;
    for path in leaves()? {
        let pointer = format!("/{}", path.replace('.', "/"));
        let tried = [&all, &minimal].into_iter().filter_map(|values| values.pointer(&pointer));
        let differs = tried.into_iter().any(|value| Some(value) != defaults.pointer(&pointer));
        // Switched on in every file but the one that leaves it out.
        assert!(differs, "{path} is never tried");
    }
    Ok(())
}

/// Every value that has a default, by its path.
fn leaves() -> Result<BTreeSet<String>> {
    let schema: Value = serde_json::from_str(&text_of(&format!("{CHART}/values.schema.json"))?)?;
    let mut found = BTreeSet::new();
    collect(&schema, "", &mut found);
    Ok(found)
}

fn collect(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value.get("default") {
            Some(_) => drop(found.insert(path)),
            None => collect(value, &path, found),
        }
    }
}

#[tokio::test]
async fn works_as_a_conditional_subchart() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let chart = parent.path().join("charts");
    std::fs::create_dir(&chart)?;
    std::os::unix::fs::symlink(in_repository(CHART).canonicalize()?, chart.join("registry-operator"))?;
    let meta = "apiVersion: v2\nname: platform\nversion: 1.0.0\ndependencies:\n  - name: registry-operator\n    \
                version: 0.x.x\n    condition: registry-operator.enabled\n";
    std::fs::write(parent.path().join("Chart.yaml"), meta)?;
    let path = parent.path().display().to_string();
    for (enabled, count) in [("true", 1), ("false", 0)] {
        let set = format!("registry-operator.enabled={enabled}");
        let arguments = [
            "template",
            "platform",
            &path,
            "--namespace",
            "registry-system",
            "--set",
            &set,
            "--set",
            "global.a=b",
        ];
        let render = run(Tool::Helm, &arguments, &[("HOME", parent.path())], "").await?.ok()?;
        assert_eq!(render.matches("\nkind: Deployment\n").count(), count);
    }
    Ok(())
}

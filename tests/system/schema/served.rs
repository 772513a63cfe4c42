//! How the kinds are served: names, columns and descriptions in kubectl; and that the files of this
//! repository match the types.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use registry_api::{GROUP, crd, spec::VERSION};
use registry_testbed::in_repository;
use serde_json::{Value, json};

use super::{ApiServer, BOTH, Kind, SystemKind, TenantKind, none_of, walk};
use crate::harness::OPERATOR;

#[tokio::test]
async fn kinds_have_short_names_and_category() -> Result<()> {
    let api = ApiServer::shared().await?;
    let found = api.get(&format!("/apis/{GROUP}/{VERSION}"), "application/json").await?;
    let resources = found["resources"].as_array().context("no list of resources")?;
    for (kind, singular, short, namespaced) in
        [(SystemKind, "systemregistry", "sysreg", false), (TenantKind, "tenantregistry", "tenreg", true)]
    {
        let resource = |name: &str| resources.iter().find(|resource| resource["name"] == name).cloned();
        let resource_found = resource(kind.plural()).context("not served")?;
        assert_eq!(resource_found["kind"], kind.name());
        assert_eq!(resource_found["singularName"], singular);
        assert_eq!(resource_found["shortNames"], json!([short]));
        assert_eq!(resource_found["categories"], json!(["registries"]));
        assert_eq!(resource_found["namespaced"], namespaced);
        ensure!(resource(&format!("{}/status", kind.plural())).is_some(), "no status subresource");
        ensure!(resource(&format!("{}/scale", kind.plural())).is_none(), "there is nothing to scale");
    }
    Ok(())
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// As `kubectl get` prints them, in capitals; with 1 those that only `-o wide` shows.
const COLUMNS: [(&str, u64); 10] = [
    ("NAME", 0),
    ("ENDPOINT", 0),
    ("READY", 0),
    ("CREDENTIALS", 0),
    ("REASON", 0),
    ("AGE", 0),
    ("CONTENT-PATH", 1),
    ("TYPE", 1),
    ("LAST-VALIDATED", 1),
    ("MESSAGE", 1),
];

#[tokio::test]
async fn kubectl_get_shows_documented_columns() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let table = api.get(&api.path(*kind), TABLE).await?;
        let definitions = table["columnDefinitions"].as_array().context("no table")?;
        let columns: Vec<(String, u64)> = definitions
            .iter()
            .map(|column| {
                (
                    column["name"].as_str().unwrap_or_default().to_uppercase(),
                    column["priority"].as_u64().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(columns, COLUMNS.map(|(name, priority)| (name.to_owned(), priority)));
    }
    Ok(())
}

#[tokio::test]
async fn columns_show_the_status() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let kept =
            api.keep(*kind, "spec: {suspend: true, baseContentPath: team/packs, contentType: Helm}").await?;
        let path = format!("{}/{}", api.path(*kind), kept.name);
        assert_eq!(
            cells(&api, &path).await?,
            ["https://registry.example.com", "", "", "", "team/packs", "Helm", "", ""]
        );
        let status = json!({"status": {
            "lastValidationTime": "2020-01-01T00:00:00Z",
            "conditions": [
                condition("CredentialsValidated", "False", "Rejected", "the registry refused them"),
                condition("Ready", "False", "Rejected", "the registry refused the credentials"),
            ],
        }});
        api.send("PATCH", &format!("{path}/status"), &status)
            .await?
            .map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        let shown = cells(&api, &path).await?;
        let (seen, last_validated) = ([&shown[..6], &shown[7..]].concat(), &shown[6]);
        let expected = [
            "https://registry.example.com",
            "False",
            "False",
            "Rejected",
            "team/packs",
            "Helm",
            "the registry refused the credentials",
        ];
        assert_eq!(seen, expected);
        ensure!(
            last_validated.ends_with('y') || last_validated.ends_with('d'),
            "an age is shown: {last_validated}"
        );
    }
    Ok(())
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2020-01-01T00:00:00Z"})
}

/// An object's row, without its name and age. What is not there is empty.
async fn cells(api: &ApiServer, path: &str) -> Result<Vec<String>> {
    let table = api.get(path, TABLE).await?;
    let cells = table.pointer("/rows/0/cells").and_then(Value::as_array).context("no row")?;
    let shown = cells.iter().map(|cell| cell.as_str().unwrap_or_default().to_owned()).enumerate();
    Ok(shown
        .filter(|(column, _)| !["NAME", "AGE"].contains(&COLUMNS[*column].0))
        .map(|(_, cell)| cell)
        .collect())
}

/// What `kubectl explain` reads.
async fn explained(api: &ApiServer, kind: Kind) -> Result<Value> {
    let openapi = api.get(&format!("/openapi/v3/apis/{GROUP}/{VERSION}"), "application/json").await?;
    let schemas = openapi.pointer("/components/schemas").and_then(Value::as_object).context("no schemas")?;
    let named = schemas.iter().find(|(name, _)| name.ends_with(&format!(".{}", kind.name())));
    Ok(named.with_context(|| format!("{} is not described", kind.name()))?.1.clone())
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let schema = explained(&api, *kind).await?;
        let (mut fields, mut silent) = (0, Vec::new());
        walk(&schema, "", &mut |path, schema| {
            fields += 1;
            let said = schema["description"].as_str().unwrap_or_default();
            let inherited = path.ends_with("[*]") || ["apiVersion", "kind", "metadata"].contains(&path);
            if !inherited && !said.trim_end().ends_with('.') {
                silent.push(format!("{} {path}: {said:?}", kind.name()));
            }
        });
        ensure!(fields > 50, "only {fields} fields of {} are described", kind.name());
        none_of(&silent)?;
    }
    Ok(())
}

#[test]
fn committed_crds_match_the_types() -> Result<()> {
    for (name, generated) in crd::files()? {
        for directory in ["crds", "charts/registry-operator/files/crds"] {
            let path = in_repository(directory).join(name);
            let committed = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            ensure!(committed == generated, "{} has drifted: run `make generate`", path.display());
        }
    }
    Ok(())
}

#[test]
fn printed_crds_match_the_chart() -> Result<()> {
    let printed = Command::new(OPERATOR).arg("crds").output()?;
    ensure!(printed.status.success(), "{printed:?}");
    let printed = definitions(&String::from_utf8(printed.stdout)?)?;
    let installed = definitions(&std::fs::read_to_string(in_repository("config/install.yaml"))?)?;
    for kind in BOTH {
        let generated = kind.definition()?["spec"].clone();
        let of = |all: &[Value]| {
            all.iter().find(|definition| definition["spec"]["names"]["kind"] == kind.name()).cloned()
        };
        for (source, definitions) in
            [("registry-operator crds", &printed), ("config/install.yaml", &installed)]
        {
            ensure!(definitions.len() == 2, "{source} has {} definitions", definitions.len());
            let found = of(definitions).with_context(|| format!("{source} has no {}", kind.name()))?;
            ensure!(
                found["spec"] == generated,
                "{source} has drifted in {}: run `make generate`",
                kind.name()
            );
        }
    }
    Ok(())
}

fn definitions(yaml: &str) -> Result<Vec<Value>> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    documents.retain(|document| document["kind"] == "CustomResourceDefinition");
    Ok(documents)
}

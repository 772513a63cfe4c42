//! The cost of the CEL rules: the API server limits it twice, when a CRD is applied (by estimate) and when it validates an
//! object (by count). It reports neither number unless a limit is exceeded, so the tests show that both are below it.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use registry_api::GROUP;
use serde_json::{Value, json};

use super::{ApiServer, BOTH, Kind, SystemKind, causes, manifest, none_of, walk};

fn definition_path(kind: Kind) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{GROUP}", kind.plural())
}

#[tokio::test]
async fn api_server_accepts_crds_without_warnings() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let served = api.get(&definition_path(*kind), "application/json").await?;
        let conditions = served.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let mut seen: Vec<String> = conditions
            .map(|condition| format!("{}={}", condition["type"], condition["status"]).replace('"', ""))
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            ["Established=True", "NamesAccepted=True"],
            "NonStructuralSchema and its like are absent"
        );
    }
    Ok(())
}

/// A rule over a text without bound is estimated at the size of the largest request.
#[test]
fn all_strings_and_lists_are_bounded() -> Result<()> {
    for kind in BOTH {
        let mut unbounded = Vec::new();
        walk(&kind.schema()?["properties"]["spec"], "spec", &mut |path, schema| {
            let bounded = match schema["type"].as_str() {
                Some("string") => schema.get("maxLength").is_some() || schema.get("enum").is_some(),
                Some("array") => schema.get("maxItems").is_some(),
                Some("object") => schema.get("additionalProperties").is_none(),
                _ => true,
            };
            if !bounded {
                unbounded.push(format!("{} {path}", kind.name()));
            }
        });
        none_of(&unbounded)?;
    }
    Ok(())
}

/// The estimates differ between versions of Kubernetes; ours must not stand at the edge of any.
#[tokio::test]
async fn cel_budget_allows_fourfold_bounds() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let mut definition = api.get(&definition_path(*kind), "application/json").await?;
        grow(&mut definition["spec"]["versions"], 4);
        let answer = api.send("PUT", &format!("{}?dryRun=All", definition_path(*kind)), &definition).await?;
        answer.map_err(|refusal| anyhow!("{:#?}", causes(&refusal)))?;
    }
    Ok(())
}

fn grow(schema: &mut Value, factor: u64) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_u64() {
                    Some(bound) if matches!(name.as_str(), "maxLength" | "maxItems") => {
                        *value = json!(bound * factor);
                    }
                    _ => grow(value, factor),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| grow(item, factor)),
        _ => {}
    }
}

/// Far more than it takes, on a machine that is busy with other tests; far less than a request may last.
const BOUNDED: Duration = Duration::from_secs(10);

fn joined(part: &str, by: &str, times: usize) -> String {
    vec![part; times].join(by)
}

/// A manifest in which everything is as long as it may be.
fn largest(kind: Kind) -> Result<Value> {
    let mut manifest = manifest(kind, "metadata: {name: largest}")?;
    let certificate = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        joined(&"A".repeat(64), "\n", 20)
    );
    let count = 131_072 / certificate.len();
    let padding = "#".repeat(131_072 - count * certificate.len());
    manifest["spec"] = json!({
        "endpoint": format!("https://{}.:65535/{}", joined("a", ".", 127), "b/".repeat(121)),
        "baseContentPath": joined("c", "/", 128),
        "auth": {"ecr": {
            "region": format!("{}-1", "a-".repeat(14) + "aa"),
            "sts": {
                "roleARN": format!("arn:aws:iam::123456789012:role/{}", "d/".repeat(240) + "d"),
                "externalID": "e".repeat(1224),
                "secretRef": {"name": joined("f", ".", 127)},
            },
        }},
        "tls": {"ca": {"inline": certificate.repeat(count) + &padding}, "clientCertificate": {"secretRef": {"name": joined("g", ".", 127)}}},
        "validation": {"interval": "1h1h1h1h1h1h1h1h", "timeout": "1s1s1s1s1s1s1s1s", "repository": joined("h", "/", 128)},
        "availability": {"pullSecret": {"name": joined("i", ".", 127)}},
    });
    if kind == SystemKind {
        let tenants: Vec<String> = (0..1000).map(|number| format!("{number:_<62}z")).collect();
        manifest["spec"]["availability"]["tenants"] = json!(tenants);
    }
    Ok(manifest)
}

#[tokio::test]
async fn accepts_largest_object_in_bounded_time() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let largest = largest(*kind)?;
        let start = Instant::now();
        api.submit(*kind, &largest).await?.map_err(|refusal| anyhow!("{:#?}", causes(&refusal)))?;
        ensure!(start.elapsed() < BOUNDED, "{} took {:?}", kind.name(), start.elapsed());
    }
    Ok(())
}

/// The same size, each value wrong only in its last character: what a matcher that goes back would take longest for.
#[tokio::test]
async fn rejects_largest_object_in_bounded_time() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let mut largest = largest(*kind)?;
        let expected = spoil(&mut largest["spec"], "spec");
        largest["spec"]["tls"]["ca"]["inline"] =
            json!(format!("-----BEGIN CERTIFICATE-----\n{}", "A".repeat(131_072 - 28)));
        let start = Instant::now();
        let refusal = api.submit(*kind, &largest).await?.err().ok_or_else(|| anyhow!("accepted"))?;
        ensure!(start.elapsed() < BOUNDED, "{} took {:?}", kind.name(), start.elapsed());
        let mut fields: Vec<String> = causes(&refusal).into_iter().map(|(field, _)| field).collect();
        fields.sort();
        assert_eq!(fields, expected, "{refusal:#?}");
    }
    Ok(())
}

/// Puts a space at the end of every text, and says where.
fn spoil(value: &mut Value, path: &str) -> Vec<String> {
    match value {
        Value::String(text) => {
            text.pop();
            text.push(' ');
            vec![path.to_owned()]
        }
        Value::Object(members) => {
            members.iter_mut().flat_map(|(name, value)| spoil(value, &format!("{path}.{name}"))).collect()
        }
        Value::Array(items) => {
            for item in items {
                spoil(item, path);
            }
            vec![path.to_owned()]
        }
        _ => Vec::new(),
    }
}

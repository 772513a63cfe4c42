//! The states of pages that the steps don't pass: each by axe-core, in both color schemes, wide and narrow. And the pictures of the docs.

use std::fmt::Debug;

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use registry_testbed::{eventually, tools};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::visitor::{Visitor, Way};
use crate::bed::{Cluster, PASSWORD, Protected, USER};

/// The largest that a picture may be, in bytes.
const LARGEST_PICTURE: usize = 60 * 1024;
/// The tallest that a picture may be, in pixels.
const TALLEST_PICTURE: u32 = 1000;

fn registry(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry, metadata: {{name: {name}}}, \
         spec: {{endpoint: 'https://registry.example.com', baseContentPath: team/packs{more}}}}}"
    )
}

/// Sets the status as the operator would: each layer with its status, reason and message.
pub async fn validated<K>(registries: &Api<K>, name: &str, layers: &[[&str; 4]]) -> Result<()>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned,
{
    let found = registries.get(name).await?;
    let generation = found.meta().generation;
    let now = found.meta().creation_timestamp.clone().context("no time")?.0;
    let condition = |[kind, status, reason, message]: &[&str; 4]| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
            "observedGeneration": generation,
        })
    };
    let conditions: Vec<Value> = layers.iter().map(condition).collect();
    let status =
        json!({"observedGeneration": generation, "lastValidationTime": now, "conditions": conditions});
    let patch = Patch::Merge(json!({"status": status}));
    registries.patch_status(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Everything is as it should be.
pub const FINE: [[&str; 4]; 5] = [
    ["ResolvedRefs", "True", "Resolved", "All references resolved"],
    ["EndpointReachable", "True", "Reachable", "The registry answers"],
    ["TLSVerified", "True", "Verified", "Certificate verified"],
    ["CredentialsValidated", "True", "Validated", "Credentials validated"],
    ["Ready", "True", "Available", "Credentials validated"],
];
const REFUSED: [[&str; 4]; 2] = [
    [
        "EndpointReachable",
        "False",
        "ConnectionRefused",
        "registry.example.com refused the connection; check spec.endpoint and that the registry is running",
    ],
    [
        "Ready",
        "False",
        "ConnectionRefused",
        "registry.example.com refused the connection; check spec.endpoint and that the registry is running",
    ],
];
const DOUBTFUL: [[&str; 4]; 1] = [["Ready", "Unknown", "Progressing", "Validation in progress"]];

async fn every_state(way: Way) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let [fine, refused, doubtful, kept] = ["fine", "refused", "doubtful", "kept"].map(Cluster::unique);
    for (name, more) in [(&fine, ""), (&refused, ""), (&doubtful, ""), (&kept, ", deletionProtection: true")]
    {
        cluster.apply(&registry(name, more)).await?;
    }
    validated(&cluster.system(), &fine, &FINE).await?;
    validated(&cluster.system(), &refused, &REFUSED).await?;
    validated(&cluster.system(), &doubtful, &DOUBTFUL).await?;
    let Some(stranger) = Visitor::outside(cluster.stranger().await?, way).await? else { return Ok(()) };
    stranger.open("/system").await?;
    stranger.sees("kubectl registry console").await?;
    stranger.approves("sign-in").await?;
    drop(stranger);
    let Some(visitor) = Visitor::arrive(cluster.console(None, &[]).await?, way).await? else { return Ok(()) };
    let pages = [
        (format!("/system/registries?filter={fine}"), "Available"),
        (format!("/system/registries?filter={refused}"), "ConnectionRefused"),
        (format!("/system/registries?filter={doubtful}"), "Progressing"),
        ("/system/registries?filter=nothing-has-this".to_owned(), "No registry matches"),
        (format!("/system/registries/{fine}"), "Certificate verified"),
        (format!("/system/registries/{refused}"), "refused the connection"),
        (format!("/system/registries/{kept}/delete"), "Deletion protection is on"),
        ("/tenants".to_owned(), "Tenants"),
        ("/nowhere".to_owned(), "Back to the first page"),
        ("/system/registries/no-such-registry".to_owned(), "Back to the first page"),
    ];
    for (path, words) in pages {
        visitor.open(&path).await?;
        visitor.sees(words).await?;
        visitor.approves(&path).await?;
    }
    visitor.open(&format!("/system/registries?filter={fine}")).await?;
    visitor.choose(&format!("Actions for {fine}")).await?;
    visitor.approves("open menu").await?;
    refusals(&visitor).await?;
    let Some(reader) = Visitor::arrive(cluster.console(Some("reader"), &[]).await?, way).await? else {
        return Ok(());
    };
    reader.open("/system/registries").await?;
    reader.sees("You may not create SystemRegistries").await?;
    reader.approves("disabled button").await
}

/// Refusals at the fields, and the question before an unvalidated registry is added.
async fn refusals(visitor: &Visitor) -> Result<()> {
    visitor.open("/system/add/basic").await?;
    visitor.fill("Name", "Not A Name").await?;
    visitor.fill("Endpoint", "https://user@registry.example").await?;
    visitor.fill("Password", PASSWORD).await?;
    visitor.choose("Validate").await?;
    visitor.sees("Username is required with a Password").await?;
    visitor.approves("refused form").await?;
    visitor.open("/system/add/basic").await?;
    visitor.fill("Name", "unvalidated").await?;
    visitor.fill("Endpoint", "https://127.0.0.1:1").await?;
    visitor.choose("Confirm").await?;
    visitor.sees("Not validated").await?;
    visitor.approves("question").await
}

#[tokio::test]
async fn every_state_is_accessible() -> Result<()> {
    Box::pin(every_state(Way::Mouse)).await
}

#[tokio::test]
async fn every_state_is_accessible_at_320_pixels() -> Result<()> {
    Box::pin(every_state(Way::Narrow)).await
}

#[tokio::test]
async fn table_fits_every_width() -> Result<()> {
    let (cluster, name) = (Cluster::shared().await?, Cluster::unique("fits"));
    cluster.apply(&registry(&name, ", auth: {basic: {secretRef: {name: login}}}")).await?;
    validated(&cluster.system(), &name, &REFUSED).await?;
    let console = cluster.console(None, &[]).await?;
    let Some(visitor) = Visitor::arrive(console, Way::Dark).await? else { return Ok(()) };
    visitor.open(&format!("/system/registries?filter={name}")).await?;
    visitor.sees("ConnectionRefused").await?;
    for width in (320..1700).step_by(60) {
        visitor.resize(width).await?;
        visitor.fits(&format!("{width} pixels")).await?;
    }
    Ok(())
}

/// Writes a picture of the page for the documentation.
async fn keep(visitor: &Visitor, name: &str, width: u32) -> Result<()> {
    visitor.resize(width).await?;
    let directory = tools::repository().join("docs/images/console");
    std::fs::create_dir_all(&directory)?;
    for quality in [85, 70, 55, 40] {
        let picture = BASE64_STANDARD.decode(visitor.picture(width, TALLEST_PICTURE, quality).await?)?;
        if picture.len() <= LARGEST_PICTURE {
            return Ok(std::fs::write(directory.join(format!("{name}.webp")), picture)?);
        }
    }
    anyhow::bail!("{name} is too large")
}

#[tokio::test]
#[ignore = "writes the pictures of the documentation: `make console-pictures`"]
async fn pictures() -> Result<()> {
    let (cluster, protected) = (Cluster::own().await?, Protected::start().await?);
    for (name, more, layers) in [
        ("charts", ", contentType: Helm, auth: {basic: {secretRef: {name: charts-login}}}", &FINE[..]),
        ("ecr-packs", ", auth: {ecr: {}}", &DOUBTFUL[..]),
        ("images", ", contentType: Zarf", &REFUSED[..]),
    ] {
        cluster.apply(&registry(name, more)).await?;
        validated(&cluster.system(), name, layers).await?;
    }
    let console = cluster.console(None, &[]).await?;
    let visitor = Visitor::arrive(console, Way::Mouse).await?.context("the pictures need a browser")?;
    visitor.open("/system/registries").await?;
    visitor.sees("charts").await?;
    keep(&visitor, "table", 1280).await?;
    visitor.scheme("dark").await?;
    keep(&visitor, "table-dark", 1280).await?;
    visitor.scheme("light").await?;
    keep(&visitor, "table-narrow", 360).await?;
    visitor.resize(1280).await?;
    visitor.open("/system/registries/charts").await?;
    visitor.sees("Certificate verified").await?;
    keep(&visitor, "detail", 1280).await?;
    visitor.open("/system/registries/charts/delete").await?;
    visitor.sees("What goes").await?;
    keep(&visitor, "delete", 1280).await?;
    visitor.open("/system/add/basic").await?;
    visitor.fill("Name", "packs").await?;
    visitor.fill("Endpoint", &protected.registry.host_port()).await?;
    visitor.fill("Base Content Path", "team/packs").await?;
    visitor.fill("Username", USER).await?;
    visitor.fill("Password", PASSWORD).await?;
    visitor.choose("Validate").await?;
    visitor.sees("UnknownIssuer").await?;
    keep(&visitor, "certificate", 1280).await?;
    visitor.upload("Upload file", "ca.crt", protected.ca.certificate_pem()).await?;
    visitor.choose("Validate").await?;
    visitor.sees("Credentials validated").await?;
    keep(&visitor, "validated", 1280).await?;
    visitor.open("/system/add/ecr").await?;
    visitor.choose("STS").await?;
    visitor.choose("Generate").await?;
    let generated = || async {
        let page = visitor.reads().await?;
        anyhow::ensure!(page.contains("sts:ExternalId"), "{page}");
        Ok(())
    };
    eventually("the trust policy has the External ID", generated).await?;
    keep(&visitor, "ecr", 1280).await
}

//! The page on which a person pastes a token, at the console in the cluster: by mouse, by keyboard, without JavaScript, on a narrow screen
//! and in the dark.

use anyhow::{Result, ensure};
use serde_json::json;

use super::visitor::{Visitor, Way};
use crate::{
    bed::Cluster,
    cluster_bed::{Account, ClusterConsole},
};

/// A page that only users see, and which they are led back to.
const PAGE: &str = "/system/registries?filter=nothing-has-this";
const WRONG: &str = "not-a-token-of-this-cluster";

async fn pastes(visitor: &Visitor, token: &str) -> Result<()> {
    visitor.fill("Token", token).await?;
    visitor.choose("Sign in").await
}

/// The token is neither in the address nor anywhere in the page.
async fn holds_nothing_of(visitor: &Visitor, token: &str) -> Result<()> {
    let script = r#"return [location.href, document.documentElement.outerHTML, document.getElementById("token")?.value ?? ""];"#;
    let held = visitor.chromium.run(script, json!([])).await?;
    let texts: Vec<_> = held.as_array().into_iter().flatten().filter_map(|text| text.as_str()).collect();
    ensure!(texts.len() == 3 && texts[2].is_empty(), "the field is not empty: {texts:?}");
    ensure!(texts.iter().all(|text| !text.contains(token)), "the token is there: {texts:?}");
    Ok(())
}

async fn signs_in(way: Way) -> Result<()> {
    let cluster = Cluster::shared().await?;
    let console = ClusterConsole::start(&cluster, &[]).await?;
    let admin = Account::administrator(&cluster).await?;
    let Some(visitor) = Visitor::at(&console.origin, way).await? else { return Ok(()) };
    visitor.open(PAGE).await?;
    visitor.sees("kubectl create token registry-console-user").await?;
    visitor.approves("page to sign in").await?;
    pastes(&visitor, WRONG).await?;
    visitor.sees("The API server refused the token (401)").await?;
    visitor.approves("refused token").await?;
    holds_nothing_of(&visitor, WRONG).await?;
    pastes(&visitor, &admin.token).await?;
    visitor.sees(&format!("Signed in as {}", admin.user())).await?;
    visitor.sees("No registry matches").await?;
    visitor.approves("page that was asked for").await?;
    holds_nothing_of(&visitor, &admin.token).await?;
    visitor.choose("Sign out").await?;
    visitor.sees("kubectl create token registry-console-user").await?;
    visitor.approves("page after signing out").await?;
    visitor.open(PAGE).await?;
    visitor.sees("kubectl create token registry-console-user").await?;
    ensure!(!visitor.reads().await?.contains("Signed in as"));
    Ok(())
}

#[tokio::test]
async fn token_is_pasted_by_mouse() -> Result<()> {
    signs_in(Way::Mouse).await
}

#[tokio::test]
async fn token_is_pasted_by_keyboard() -> Result<()> {
    signs_in(Way::Keyboard).await
}

#[tokio::test]
async fn token_is_pasted_without_javascript() -> Result<()> {
    signs_in(Way::WithoutScript).await
}

#[tokio::test]
async fn token_is_pasted_at_320_pixels() -> Result<()> {
    signs_in(Way::Narrow).await
}

#[tokio::test]
async fn token_is_pasted_in_the_dark() -> Result<()> {
    signs_in(Way::Dark).await
}

//! The reader of docs/ecr.md: moto emulates AWS, and its IAM enforces the policies that the page shows.

use anyhow::{Context as _, Result};
use registry_testbed::{Moto, RegistryAuth};
use serde_json::{Value, json};

use super::{
    page::{Purpose, blocks},
    reader::Reader,
};

const PAGE: &str = "docs/ecr.md";
const ACCOUNT: &str = "123456789012";

/// A reader with an operator that calls moto, and with moto's keys in place of the page's.
pub async fn reader() -> Result<Reader> {
    let moto = Moto::start().await?;
    let least = policy("ecr:GetAuthorizationToken")?;
    let assume = json!({"Version": "2012-10-17", "Statement": policy("sts:AssumeRole\", \"Resource")?});
    let user = moto.user("registry-operator", &both(&least, &assume).to_string()).await?;
    // moto's user is of the role's own account.
    let trust = policy("sts:ExternalId")?.to_string().replace("210987654321", ACCOUNT);
    moto.role("registry", &trust, &least.to_string()).await?;
    moto.checks_credentials().await?;

    // What moto gives as a token, the registry takes.
    let mut reader =
        Reader::sits_down_before(RegistryAuth::htpasswd("AWS", format!("{ACCOUNT}-auth-token"))).await?;
    reader.registry().push_artifact("team/packs/hello", "v1").await?;
    reader.finds_the_registry_at("https://123456789012.dkr.ecr.eu-central-1.amazonaws.com");
    reader.takes("AKIAIOSFODNN7EXAMPLE", &user.id);
    reader.takes("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", &user.secret);
    let variables = ["ECR", "STS"].into_iter().enumerate().map(|(number, api)| {
        let variable = format!("extraEnv[{number}]");
        format!("--set '{variable}.name=AWS_ENDPOINT_URL_{api},{variable}.value={}'", moto.url())
    });
    reader.installs(&variables.collect::<Vec<_>>().join(" ")).await?;
    reader.keeps(moto);
    Ok(reader)
}

/// The policy of the page in which that stands.
fn policy(with: &str) -> Result<Value> {
    let of_page = blocks(PAGE)?;
    let found = of_page.iter().find(|block| {
        block.purpose().is_ok_and(|purpose| purpose == Purpose::Json)
            && squeezed(&block.text).contains(&squeezed(with))
    });
    Ok(serde_json::from_str(&found.with_context(|| format!("{PAGE} shows no policy with {with}"))?.text)?)
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// One policy that allows what either allows.
fn both(one: &Value, other: &Value) -> Value {
    let statements = [one, other].map(|policy| match &policy["Statement"] {
        Value::Array(statements) => statements.clone(),
        statement => vec![statement.clone()],
    });
    json!({"Version": "2012-10-17", "Statement": statements.concat()})
}

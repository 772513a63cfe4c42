//! Who may do what at system scope: the roles, the policies and the pages say the same.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use registry_testbed::{in_repository, manifests};

use crate::programs::{CHART, template, text_of};

/// Everything that the chart renders, by its defaults and with every value away from them.
async fn rendered() -> Result<Vec<DynamicObject>> {
    Ok(renders().await?.concat())
}

/// The same, render by render.
async fn renders() -> Result<[Vec<DynamicObject>; 2]> {
    Ok([objects_with("values.yaml").await?, objects_with("ci/all-values.yaml").await?])
}

async fn objects_with(values: &str) -> Result<Vec<DynamicObject>> {
    let render = template(&["--values", &format!("{CHART}/{values}")]).await?.ok()?;
    Ok(manifests::parse(values, &render)?)
}

fn policies<'a>(objects: &'a [DynamicObject], name: &str) -> Vec<&'a DynamicObject> {
    let name = format!("{name}.registry.spectrocloud.com");
    let is_policy = |object: &&DynamicObject| {
        manifests::kind(object) == "ValidatingAdmissionPolicy" && object.metadata.name.as_ref() == Some(&name)
    };
    objects.iter().filter(is_policy).collect()
}

/// The paths behind `.Values.` in a template.
fn values_of(template: &str) -> BTreeSet<String> {
    let is_of_path = |c: &char| c.is_ascii_alphanumeric() || *c == '.';
    template.split(".Values.").skip(1).map(|rest| rest.chars().take_while(is_of_path).collect()).collect()
}

/// Whether the page has the value's path, or shows it in a block of values.
fn is_named(value: &str, text: &str) -> bool {
    text.contains(&format!("`{value}")) || value.split('.').all(|key| text.contains(&format!("{key}:")))
}

/// The values of those templates that a page doesn't name.
fn unnamed(page: &str, templates: &[String]) -> Result<Vec<String>> {
    let text = text_of(page)?;
    let mut found = Vec::new();
    for path in templates {
        let values = values_of(&text_of(path)?).into_iter().filter(|value| !is_named(value, &text));
        found.extend(values.map(|value| format!("{path} depends on {value}, but {page} doesn't name it")));
    }
    Ok(found)
}

#[test]
fn pages_on_rights_name_the_values_that_change_them() -> Result<()> {
    let roles = [format!("{CHART}/templates/rbac-users.yaml")];
    let directory = format!("{CHART}/templates/policies");
    let files = std::fs::read_dir(in_repository(&directory))?;
    let policies: Vec<String> = files
        .map(|file| Ok(format!("{directory}/{}", file?.file_name().to_string_lossy())))
        .collect::<Result<_>>()?;
    ensure!(policies.len() > 5, "{policies:?}");
    let mut wrong = unnamed("docs/security.md", &roles)?;
    wrong.extend(unnamed("docs/tenancy.md", &roles)?);
    wrong.extend(unnamed("docs/tenancy.md", &policies)?);
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn installation_policy_guards_every_role_and_binding() -> Result<()> {
    for objects in renders().await? {
        let roles: BTreeSet<&str> = objects
            .iter()
            .filter(|object| ["ClusterRole", "ClusterRoleBinding"].contains(&manifests::kind(object)))
            .filter_map(|object| object.metadata.name.as_deref())
            .collect();
        ensure!(roles.len() > 5, "{roles:?}");
        let policy = policies(&objects, "installation").first().copied().context("a policy")?;
        let guarded =
            policy.data["spec"]["matchConditions"][0]["expression"].as_str().context("a condition")?;
        for role in &roles {
            ensure!(
                guarded.contains(&format!("'{role}'")),
                "templates/policies/installation.yaml leaves out {role}"
            );
        }
    }
    Ok(())
}

/// Who passes the policy on SystemRegistries: the term in its expression, and where a page says so.
const WHO_PASSES: [(&str, &str, &str); 4] = [
    ("variables.isOperator", "docs/decisions/0030-exceptions-from-the-policies.md", "Besides the operator"),
    ("variables.administers", "docs/tenancy.md", "system administrators: users with the verb `administer`"),
    (
        "variables.isGarbageCollection",
        "docs/decisions/0030-exceptions-from-the-policies.md",
        "The garbage collector",
    ),
    (
        "variables.isMigration",
        "docs/decisions/0030-exceptions-from-the-policies.md",
        "stored versions are migrated",
    ),
];
/// What makes a system administrator; the messages and the pages say so.
const ADMINISTERS: &str = "authorizer.group('registry.spectrocloud.com').resource('systemregistries').check('administer').allowed()";

#[tokio::test]
async fn those_who_may_write_system_registries_are_documented() -> Result<()> {
    let objects = rendered().await?;
    let found = policies(&objects, "system-registries");
    ensure!(found.len() == 2, "{} policies", found.len());
    for policy in found {
        let spec = &policy.data["spec"];
        let variables = spec["variables"].as_array().context("variables")?;
        let administers = variables.iter().find(|variable| variable["name"] == "administers");
        let expression = administers.and_then(|variable| variable["expression"].as_str());
        assert_eq!(
            expression,
            Some(ADMINISTERS),
            "the policies' messages and docs/tenancy.md say who that is"
        );
        let validations = spec["validations"].as_array().context("validations")?;
        let refuses = |message: &str| message.contains("only users with the verb administer");
        let by_others = validations
            .iter()
            .find(|validation| validation["messageExpression"].as_str().is_some_and(refuses))
            .and_then(|validation| validation["expression"].as_str())
            .context("no validation refuses users without administer")?;
        for term in by_others.split("||").map(str::trim) {
            let known = WHO_PASSES.iter().find(|(known, ..)| *known == term);
            let (_, page, words) = known.with_context(|| {
                format!("{term} passes: say who that is in docs/tenancy.md, in the policy's message and here")
            })?;
            ensure!(text_of(page)?.contains(words), "{page} doesn't say: {words}");
        }
    }
    Ok(())
}

//! The test inside the node: from `helm install` to `helm uninstall`.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use registry_testbed::{
    eventually,
    image::{self, Architecture, Effort, ImageDescription, ImageProgram, program},
    manifests,
    node::Node,
};
use serde_json::json;

use crate::{
    cluster,
    console::{self, ConsoleAccess},
    environment::{Environment, Verdicts},
    leftovers, pulls,
    release::Release,
    say,
};

/// What is shown does not depend on how the program is optimised, and this builds in a fraction of the time.
pub const PROFILE: program::Profile = program::Profile::Dev;

const REPOSITORY: &str = "registry.example.com/registry-operator";
const CONSOLE_REPOSITORY: &str = "registry.example.com/registry-console";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Other programs to tell it with, such as the released ones: static, for this machine.
const PROGRAM: &str = "NODE_PROGRAM";
const CONSOLE: &str = "NODE_CONSOLE";

/// What `NODE_PROGRAM` or `NODE_CONSOLE` names, in place of a build.
#[expect(clippy::disallowed_methods, reason = "which program to show is the caller's to say")]
pub fn given_program(program: ImageProgram) -> Option<PathBuf> {
    let variable = match program {
        ImageProgram::Operator => PROGRAM,
        ImageProgram::Console => CONSOLE,
    };
    std::env::var_os(variable).map(PathBuf::from)
}

pub async fn tell() -> Result<()> {
    let start = Instant::now();
    let node = Node::start().await?;
    print_step("the node is Ready", start);
    let outcome = tell_on(&node).await;
    if outcome.is_err() {
        say(&operator_logs(&node).await);
    }
    node.stop().await?;
    outcome
}

async fn tell_on(node: &Node) -> Result<()> {
    let client = node.client().await?;
    let start = Instant::now();
    let digest = push_images(node)?;
    print_step("the images are built and pushed", start);
    let start = Instant::now();
    let scene = Environment::set().await?;
    print_step("the registries, and AWS, are there", start);
    let release = Release { node };
    cluster::restricted_namespace(&client).await?;
    let access = ConsoleAccess::prepare(&client, &scene.ca).await?;
    let verdicts = it_installs_and_validates(&client, &release, &scene, &access).await?;
    it_passes_the_charts_own_test(&release).await?;
    it_is_what_was_built_and_confined(&client, &digest).await?;
    let start = Instant::now();
    console::registry_is_added_and_removed_in_the_browser(&client, node, &scene, &access).await?;
    print_step("a registry from the console's first page to its deletion", start);
    let start = Instant::now();
    pulls::pods_pull_by_the_operators_secret_and_not_without(&client, node, &scene).await?;
    print_step("a registry's pull Secret to a Pod that has run by it, and to its end", start);
    it_survives_the_loss_of_its_leader(&client).await?;
    it_is_upgraded_without_a_wrong_word(&client, &release, &verdicts).await?;
    it_leaves_what_it_should(&client, &release, &verdicts).await
}

/// The operator's image, another with the same program, and the console's; the digest of the first.
fn push_images(node: &Node) -> Result<String> {
    let digest = push_image(node, ImageProgram::Operator, VERSION)?;
    let changed = push_image(node, ImageProgram::Operator, "changed")?;
    ensure!(digest != changed, "the changed image is the same");
    push_image(node, ImageProgram::Console, VERSION)?;
    Ok(digest)
}

fn push_image(node: &Node, program: ImageProgram, tag: &str) -> Result<String> {
    let architecture = Architecture::of_this_machine().context("images are for amd64 and arm64")?;
    let file = given_program(program).unwrap_or_else(|| program.path(architecture, PROFILE));
    let description = ImageDescription { version: tag.to_owned(), ..ImageDescription::default() };
    if program == ImageProgram::Operator {
        let (content, settings) = (std::fs::read(&file)?, program::JEMALLOC.as_bytes());
        let has_jemalloc = content.windows(settings.len()).any(|window| window == settings);
        ensure!(
            has_jemalloc,
            "{} has another allocator than jemalloc: it needs twice the memory",
            file.display()
        );
    }
    let layout = node.directory().join("image").join(program.name()).join(tag);
    let image = image::with_program(program, architecture, &file, &description)?;
    let written = image::write(&layout, tag, &[image], Effort::Least)?;
    node.push(&layout, &format!("{}:{tag}", program.name()))?;
    Ok(written.digest)
}

async fn it_installs_and_validates(
    client: &Client,
    release: &Release<'_>,
    scene: &Environment,
    access: &ConsoleAccess,
) -> Result<Verdicts> {
    let samples = scene.samples()?;
    let start = Instant::now();
    let installed = async {
        release.install(REPOSITORY, &scene.variables(), &access.values(CONSOLE_REPOSITORY)).await?;
        print_step("helm install --wait has returned", start);
        anyhow::Ok(())
    };
    // As soon as the chart has brought the definitions, as GitOps would.
    let validated = async {
        let verdicts = Verdicts::expected(client, &samples, &scene.overlay()).await?;
        manifests::apply(client, samples.clone()).await?;
        verdicts.first().await?;
        print_step("helm install to the first verdict", start);
        anyhow::Ok(verdicts)
    };
    let ((), verdicts) = tokio::try_join!(installed, validated)?;
    verdicts.all().await?;
    print_step(&format!("helm install to all {} verdicts as expected", verdicts.count()), start);
    cluster::replicas_become(client, 2, VERSION).await?;
    Ok(verdicts)
}

async fn it_passes_the_charts_own_test(release: &Release<'_>) -> Result<()> {
    let start = Instant::now();
    release.test().await?;
    print_step("helm test", start);
    Ok(())
}

async fn it_is_what_was_built_and_confined(client: &Client, digest: &str) -> Result<()> {
    // A replica on a busy machine is unready for a moment now and then.
    let look = || async {
        let running = cluster::image_digests(client).await?;
        ensure!(running == [digest, digest], "{running:?} are running, not {digest}");
        anyhow::Ok(())
    };
    eventually("two replicas of what was built", look).await?;
    let processes = cluster::every_process_is_confined()?;
    ensure!(
        processes == 3,
        "{processes} processes on the node, not two of the operator and one of the console"
    );
    let restarts = cluster::restarts(client).await?;
    ensure!(restarts == 0, "{restarts} restarts since the installation");
    Ok(())
}

async fn it_survives_the_loss_of_its_leader(client: &Client) -> Result<()> {
    let leader = eventually("a leader", || cluster::leader(client)).await?;
    let start = Instant::now();
    cluster::kill(client, &leader).await?;
    cluster::another_leads(client, &leader).await?;
    print_step("the leader killed, to another that leads", start);
    // The new one works: a corrected password is noticed.
    correct_the_password(client).await?;
    print_step("the leader killed, to a verdict of the new one", start);
    cluster::replicas_become(client, 2, VERSION).await
}

async fn correct_the_password(client: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "team-b");
    let right = json!({"stringData": {"password": "demo-password"}});
    secrets.patch("wrong-password-login", &PatchParams::default(), &Patch::Merge(right)).await?;
    wrong_password_becomes(client, "True/Available").await
}

async fn restore_the_wrong_password(client: &Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "team-b");
    let wrong = json!({"stringData": {"password": "not-the-password"}});
    secrets.patch("wrong-password-login", &PatchParams::default(), &Patch::Merge(wrong)).await?;
    wrong_password_becomes(client, "False/Rejected").await
}

async fn wrong_password_becomes(client: &Client, expected: &str) -> Result<()> {
    let what = format!("team-b's registry is {expected}");
    let becomes = eventually(what, || async {
        let seen = crate::environment::verdict_of(client, "team-b", "wrong-password").await;
        let seen = seen.map_err(|error| error.to_string())?;
        if seen == expected { Ok(()) } else { Err(seen) }
    });
    Ok(becomes.await?)
}

async fn it_is_upgraded_without_a_wrong_word(
    client: &Client,
    release: &Release<'_>,
    verdicts: &Verdicts,
) -> Result<()> {
    restore_the_wrong_password(client).await?;
    let start = Instant::now();
    let done = AtomicBool::new(false);
    let upgraded = async {
        let upgraded = release.upgrade("changed").await;
        done.store(true, Ordering::Relaxed);
        upgraded
    };
    let watched = async {
        let mut looks = 0;
        while !done.load(Ordering::Relaxed) {
            verdicts.hold().await.context("during the upgrade")?;
            looks += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(looks)
    };
    let ((), looks) = tokio::try_join!(upgraded, watched)?;
    print_step(
        &format!("helm upgrade to a changed image; {looks} looks at the verdicts, all as expected"),
        start,
    );
    cluster::replicas_become(client, 2, "changed").await?;
    correct_the_password(client).await?;
    restore_the_wrong_password(client).await?;
    let start = Instant::now();
    release.roll_back().await?;
    print_step("helm rollback", start);
    cluster::replicas_become(client, 2, VERSION).await?;
    verdicts.all().await
}

async fn it_leaves_what_it_should(client: &Client, release: &Release<'_>, verdicts: &Verdicts) -> Result<()> {
    verdicts.delete().await?;
    let start = Instant::now();
    release.uninstall().await?;
    print_step("helm uninstall --wait", start);
    // What the operator made itself, and Helm knows nothing of, is the garbage collector's to remove.
    are_left(client, &[&DEFINITIONS[..], &GUARDS[..]].concat()).await?;
    print_step("helm uninstall to nothing left but what is kept", start);
    Ok(())
}

/// Kept by the chart, for with a definition goes every registry.
const DEFINITIONS: [&str; 2] = [
    "CustomResourceDefinition /systemregistries.registry.spectrocloud.com",
    "CustomResourceDefinition /tenantregistries.registry.spectrocloud.com",
];

/// Kept with them: what guards the registries that are still there.
const GUARDS: [&str; 4] = [
    "ValidatingAdmissionPolicy /definitions.registry.spectrocloud.com",
    "ValidatingAdmissionPolicy /system-registries.registry.spectrocloud.com",
    "ValidatingAdmissionPolicyBinding /definitions.registry.spectrocloud.com",
    "ValidatingAdmissionPolicyBinding /system-registries.registry.spectrocloud.com",
];

async fn are_left(client: &Client, expected: &[&str]) -> Result<()> {
    let left = eventually(format!("{expected:?} are left of the operator"), || async {
        let left = leftovers::of_the_operator(client).await.map_err(|error| error.to_string())?;
        if left == expected { Ok(()) } else { Err(format!("{left:?}")) }
    });
    Ok(left.await?)
}

fn print_step(what: &str, since: Instant) {
    say(&format!("  {:>6.1} s  {what}", since.elapsed().as_secs_f32()));
}

/// Prints what helps to find the cause of a failure.
async fn operator_logs(node: &Node) -> String {
    let Ok(client) = node.client().await else {
        return String::from("the API server does not answer");
    };
    let pods = cluster::pods(&client);
    let mut logs = Vec::new();
    for pod in pods.list(&ListParams::default()).await.into_iter().flatten() {
        let name = pod.name_any();
        let log = pods.logs(&name, &LogParams::default()).await.unwrap_or_else(|error| error.to_string());
        logs.push(format!("{name}: {}\n{log}", json!(pod.status)));
    }
    logs.join("\n")
}

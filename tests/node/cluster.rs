//! The operator's replicas, from the API server and from the node's processes.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use registry_testbed::eventually;
use serde_json::json;

use crate::release::NAMESPACE;

const PROGRAMS: [&str; 2] = ["registry-operator", "registry-console"];

/// The namespace of the operator, in which no Pod gets by with more than the restricted Pod Security level allows.
pub async fn restricted_namespace(client: &Client) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "latest",
        }},
    });
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(NAMESPACE, &PatchParams::apply("node-test"), &Patch::Apply(namespace)).await?;
    Ok(())
}

pub fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// The replicas that are ready and not about to go.
pub async fn ready_replicas(client: &Client) -> Result<Vec<Pod>> {
    let selector = ListParams::default().labels("app.kubernetes.io/name=registry-operator");
    let mut replicas = pods(client).list(&selector).await?.items;
    replicas.retain(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod));
    Ok(replicas)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until there are that many, all of this image.
pub async fn replicas_become(client: &Client, count: usize, tag: &str) -> Result<()> {
    let what = format!("{count} replicas of {tag}");
    let becomes = eventually(what, || async {
        let replicas = ready_replicas(client).await.map_err(|error| error.to_string())?;
        let images: Vec<String> = replicas.iter().map(image).collect();
        let as_wanted =
            images.len() == count && images.iter().all(|image| image.ends_with(&format!(":{tag}")));
        if as_wanted { Ok(()) } else { Err(format!("{images:?}")) }
    });
    Ok(becomes.await?)
}

fn image(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.filter_map(|container| container.image.clone()).collect()
}

/// The digests of the images that the ready replicas run, as containerd has pulled them.
pub async fn image_digests(client: &Client) -> Result<Vec<String>> {
    let replicas = ready_replicas(client).await?;
    let statuses = replicas.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    let digest = |id: &str| id.split_once('@').map(|(_, digest)| digest.to_owned());
    Ok(statuses.flatten().filter_map(|status| digest(&status.image_id)).collect())
}

/// How often the replicas' containers were started again.
pub async fn restarts(client: &Client) -> Result<i32> {
    let replicas = ready_replicas(client).await?;
    let statuses = replicas.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    Ok(statuses.flatten().map(|status| status.restart_count).sum())
}

/// The replica that leads: the Lease's holder begins with the Pod's name.
pub async fn leader(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases.get("registry-operator").await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
    let replicas = ready_replicas(client).await?;
    let leader = replicas.iter().map(ResourceExt::name_any).find(|name| holder.starts_with(name));
    leader.with_context(|| format!("the Lease is held by {holder:?}, which is no ready replica"))
}

/// Waits until another than this one leads.
pub async fn another_leads(client: &Client, than: &str) -> Result<()> {
    let another = eventually("another leader", || async {
        match leader(client).await {
            Ok(leader) if leader != than => Ok(()),
            Ok(leader) => Err(leader),
            Err(error) => Err(error.to_string()),
        }
    });
    Ok(another.await?)
}

/// Deletes a replica as if its node had died: without SIGTERM and without a grace period.
pub async fn kill(client: &Client, replica: &str) -> Result<()> {
    let process = process_of(replica).with_context(|| format!("no process of {replica} on the node"))?;
    let process = rustix::process::Pid::from_raw(process).context("a process id is above 0")?;
    rustix::process::kill_process(process, rustix::process::Signal::KILL)?;
    pods(client).delete(replica, &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

fn process_of(replica: &str) -> Option<i32> {
    let is_its = |id: &i32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == format!("HOSTNAME={replica}").as_bytes())
    };
    processes().into_iter().find(is_its)
}

/// Every process of the operator and of the console on this node.
fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &i32| {
        // The kernel keeps 15 characters of a program's name.
        let is_ours = |name: String| PROGRAMS.iter().any(|program| name.trim() == &program[..15]);
        fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(is_ours)
    })
    .collect()
}

/// What the chart promises of its Pods, as the kernel has it.
pub fn every_process_is_confined() -> Result<usize> {
    let processes = processes();
    for id in &processes {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let has = |line: &str| {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            status.lines().any(|found| words(found) == words(line))
        };
        ensure!(has("Uid: 65532 65532 65532 65532"), "the user is not 65532:\n{status}");
        ensure!(has("Gid: 65532 65532 65532 65532"), "the group is not 65532:\n{status}");
        ensure!(has("CapEff: 0000000000000000"), "it has capabilities:\n{status}");
        ensure!(has("CapBnd: 0000000000000000"), "it could get capabilities:\n{status}");
        ensure!(has("NoNewPrivs: 1"), "it could get privileges:\n{status}");
        ensure!(has("Seccomp: 2"), "no system call is filtered:\n{status}");
        let mounts = fs::read_to_string(format!("/proc/{id}/mountinfo"))?;
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
        let options = root.split(' ').nth(5).unwrap_or_default();
        ensure!(options.split(',').any(|option| option == "ro"), "its root can be written: {root}");
    }
    Ok(processes.len())
}

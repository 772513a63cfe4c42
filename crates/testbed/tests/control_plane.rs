//! The control plane starts, answers, and survives failures.

use std::error::Error;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use registry_testbed::{ControlPlane, ControlPlaneOptions, eventually};

type Outcome = Result<(), Box<dyn Error>>;

fn named<T: Default + kube::Resource>(name: &str) -> T {
    let mut object = T::default();
    *object.meta_mut() = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    object
}

#[tokio::test]
async fn serves_administrator_and_enforces_rbac() -> Outcome {
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let control_plane = ControlPlane::start(options).await?;
    let admin = control_plane.client().await?;
    assert_eq!(admin.apiserver_version().await?.git_version, "v1.36.3");

    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
    accounts.create(&PostParams::default(), &named("nobody")).await?;
    let mark = control_plane.audit()?.mark();
    let nobody = control_plane.client_for_service_account("default", "nobody").await?;
    let secrets: Api<Secret> = Api::namespaced(nobody, "default");
    let refused = secrets.list(&ListParams::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");

    let maps: Api<ConfigMap> = Api::namespaced(admin, "default");
    maps.create(&PostParams::default(), &named("written")).await?;
    let audit = control_plane.audit()?;
    // The log may be behind the answers.
    let refusal = eventually("the refusal is in the audit log", || async {
        let events = audit.since(&mark).map_err(|error| error.to_string())?;
        let refusal = events.iter().find(|event| event.resource == "secrets").cloned();
        refusal.ok_or_else(|| format!("{events:?}"))
    })
    .await?;
    assert_eq!((refusal.user.as_str(), refusal.code), ("system:serviceaccount:default:nobody", 403));
    eventually("the write is in the audit log", || async {
        let writes = audit.writes_since(&mark, "admin").map_err(|error| error.to_string())?;
        let logged = writes.iter().any(|event| event.name == "written" && event.verb == "create");
        if logged { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn objects_survive_restart_of_every_server() -> Outcome {
    let control_plane = ControlPlane::start(ControlPlaneOptions::default()).await?;
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await?, "default");
    maps.create(&PostParams::default(), &named("kept")).await?;

    control_plane.api_server().kill().await;
    control_plane.etcd().kill().await;
    assert!(maps.get("kept").await.is_err());
    control_plane.etcd().start().await?;
    control_plane.api_server().start().await?;
    eventually("what was written is there again", || maps.get("kept")).await?;

    control_plane.api_server().pause().await?;
    assert!(tokio::time::timeout(Duration::from_millis(500), maps.get("kept")).await.is_err());
    control_plane.api_server().resume().await?;
    eventually("an answer", || maps.get("kept")).await?;
    control_plane.api_server().stop().await?;
    assert_eq!(control_plane.api_server().id().await, None);
    Ok(())
}

#[tokio::test]
async fn controller_manager_runs_its_controllers() -> Outcome {
    let options = ControlPlaneOptions { controller_manager: true, ..ControlPlaneOptions::default() };
    let control_plane = ControlPlane::start(options).await?;
    let admin = control_plane.client().await?;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.create(&PostParams::default(), &named("short-lived")).await?;
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "short-lived");
    maps.create(&PostParams::default(), &named("inside")).await?;
    namespaces.delete("short-lived", &DeleteParams::default()).await?;
    eventually("the namespace is gone", || async {
        match namespaces.get_opt("short-lived").await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;

    let roles: Api<ClusterRole> = Api::all(admin);
    eventually("view has rules", || async {
        let view = roles.get("view").await.map_err(|error| error.to_string())?;
        if view.rules.is_some_and(|rules| !rules.is_empty()) { Ok(()) } else { Err(String::from("none")) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn two_api_servers_share_one_store() -> Outcome {
    let options = ControlPlaneOptions { two_api_servers: true, ..ControlPlaneOptions::default() };
    let control_plane = ControlPlane::start(options).await?;
    assert_eq!(control_plane.urls().len(), 2);
    let maps: Api<ConfigMap> = Api::namespaced(control_plane.client().await?, "default");
    maps.create(&PostParams::default(), &named("shared")).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(control_plane.client().await?, "default");
    accounts.create(&PostParams::default(), &named("reader")).await?;
    let token = control_plane.service_account_token("default", "reader").await?;
    let second = &control_plane.urls()[1];
    let config = control_plane.kubeconfig_with_token(second, control_plane.ca().certificate_pem(), &token)?;
    let config = Kubeconfig::read_from(config)?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let reader = kube::Client::try_from(config)?;
    assert_eq!(reader.apiserver_version().await?.git_version, "v1.36.3");
    Ok(())
}

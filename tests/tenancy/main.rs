//! The permissions of users and of the operator, on real API servers with config/install.yaml
//! as it is shipped, on the oldest and the newest supported Kubernetes.

/// Declares each test twice: on the oldest and on the newest Kubernetes.
macro_rules! on_each_kubernetes {
    (by $enter:ident: $($sentence:ident),* $(,)?) => {
        mod newest {
            $(#[tokio::test] async fn $sentence() -> anyhow::Result<()> {
                super::$sentence(&crate::stage::Cluster::$enter(registry_testbed::Kubernetes::Newest).await?).await
            })*
        }
        mod oldest {
            $(#[tokio::test] async fn $sentence() -> anyhow::Result<()> {
                super::$sentence(&crate::stage::Cluster::$enter(registry_testbed::Kubernetes::Oldest).await?).await
            })*
        }
    };
    ($($sentence:ident),* $(,)?) => { on_each_kubernetes!(by enter: $($sentence),*); };
}

mod addresses;
mod api_errors;
mod call;
mod credentials;
mod definitions;
mod deletion;
mod guard;
mod helm;
mod kustomize;
mod labels;
mod manual_access;
mod operator;
mod policy;
mod roles;
mod samples;
mod stage;
mod system;
mod tenant;
mod uninstall;

//! Tells an open table that it is behind: an answer that comes when something has changed.
//!
//! It is a watch with the user's own rights, from the version that the table was read at, so that no change is missed between the two.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::extract::{Path, Query, State};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use registry_api::{SystemRegistry, TENANT_LABEL, TenantRegistry};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    console::{Console, SignedIn},
    error::ConsoleError,
    membership,
    registries::{ReadList, TenantView, of_tenant as read_view},
    scope::{ConsoleScope, is_name},
    user::UserClient,
};

/// How long a request waits, in seconds; the page then asks again.
const LONGEST_WAIT: u32 = 25;
/// How many lists of a tenant are watched for one page.
const MOST_LISTS: usize = 32;
/// The pause between two looks at a tenant's registries: many changes are looked at once.
const PAUSE: Duration = Duration::from_millis(200);

/// What the table was read at.
#[derive(Deserialize)]
pub struct ChangesQuery {
    since: String,
}

/// `/system/changes`: 200 as soon as a SystemRegistry has changed, 204 if none has.
pub async fn of_system(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Query(query): Query<ChangesQuery>,
) -> Result<StatusCode, ConsoleError> {
    let _turn = console.watch(&signed_in.session)?;
    let registries: Api<SystemRegistry> = Api::all(signed_in.user.client());
    let params = WatchParams::default().timeout(LONGEST_WAIT).disable_bookmarks();
    let mut events = pin!(registries.watch_metadata(&params, &query.since).await?);
    match events.next().await {
        None | Some(Ok(WatchEvent::Bookmark(_))) => Ok(StatusCode::NO_CONTENT),
        // An error too: the version is too old to be followed, and the table with it.
        Some(_) => Ok(StatusCode::OK),
    }
}

/// What a tenant's table was read at.
#[derive(Deserialize)]
pub struct TenantChangesQuery {
    since: String,
    #[serde(default)]
    namespace: String,
}

/// `/tenants/{tenant}/changes`: 200 as soon as what the tenant's table shows has changed, 204 if nothing has. Changes of other tenants'
/// registries are none.
pub async fn of_tenant(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(tenant): Path<String>,
    Query(query): Query<TenantChangesQuery>,
) -> Result<StatusCode, ConsoleError> {
    let user = &signed_in.user;
    if !is_name(&tenant) || !(query.namespace.is_empty() || is_name(&query.namespace)) {
        return Err(ConsoleError::NotFound("there is no such tenant or namespace".to_owned()));
    }
    let scope = ConsoleScope::Tenant { tenant: tenant.clone(), namespace: query.namespace.clone() };
    membership::verify(user, &scope).await?;
    let _turn = console.watch(&signed_in.session)?;
    let longest = Duration::from_secs(LONGEST_WAIT.into());
    match tokio::time::timeout(longest, until_changed(user, &tenant, &query)).await {
        Ok(changed) => Ok(changed.map(|()| StatusCode::OK)?),
        Err(_) => Ok(StatusCode::NO_CONTENT),
    }
}

async fn until_changed(
    user: &UserClient,
    tenant: &str,
    query: &TenantChangesQuery,
) -> Result<(), kube::Error> {
    loop {
        let view = read_view(user, tenant, &query.namespace).await?;
        if view.version() != query.since {
            return Ok(());
        }
        until_an_event(user, tenant, &view).await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for any event in the lists that a view was made of.
async fn until_an_event(user: &UserClient, tenant: &str, view: &TenantView) -> Result<(), kube::Error> {
    let events = view.read.iter().take(MOST_LISTS).map(|(list, version)| {
        let version = version.clone();
        match list {
            ReadList::System => event(Api::<SystemRegistry>::all(user.client()), None, version),
            ReadList::Namespace(namespace) => {
                event(Api::<TenantRegistry>::namespaced(user.client(), namespace), None, version)
            }
            ReadList::Namespaces => {
                let selector = format!("{TENANT_LABEL}={tenant}");
                event(Api::<Namespace>::all(user.client()), Some(selector), version)
            }
        }
    });
    let events: Vec<_> = events.collect();
    if events.is_empty() {
        // Who may list nothing is told of nothing. `select_all` panics without a future.
        return std::future::pending().await;
    }
    let (happened, ..) = futures::future::select_all(events).await;
    happened
}

fn event<K>(
    api: Api<K>,
    selector: Option<String>,
    version: String,
) -> BoxFuture<'static, Result<(), kube::Error>>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    async move {
        let mut params = WatchParams::default().timeout(LONGEST_WAIT).disable_bookmarks();
        params.label_selector = selector;
        let mut events = pin!(api.watch_metadata(&params, &version).await?);
        // What it is doesn't matter, nor whether it is an error: the lists are read again.
        drop(events.next().await);
        Ok(())
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated;

    #[tokio::test]
    async fn user_who_may_list_nothing_waits() {
        let user = UserClient::simulated(simulated::cluster(simulated::api(|_| 403).0));
        let view = read_view(&user, "team", "").await.unwrap();
        assert!(view.read.is_empty());
        assert!(until_an_event(&user, "team", &view).now_or_never().is_none());
    }
}

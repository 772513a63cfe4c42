//! The watch of the namespaces with the tenant label. It also keeps the operator's access to these namespaces.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher::Event;
use registry_api::TENANT_LABEL;
use registry_probe::Backoff;
use tokio::{sync::Notify, task::JoinSet};

use super::watch::{ControllerEvent, ControllerEvents, event_of};
use crate::{
    kubernetes::watches::{Metadata, WatchPool, WatchSource},
    tenancy::access::{Access, Settled},
};

/// How often the operator's RoleBindings are listed and written at most, even if another client keeps deleting them.
const BETWEEN_SETTLEMENTS: Duration = Duration::from_secs(1);

/// Watches the namespaces with the tenant label, and keeps the operator's RoleBindings in them.
pub async fn watch_tenants(watches: Arc<WatchPool>, access: Arc<Access>, events: ControllerEvents) {
    let unsettled = Arc::new(Notify::new());
    let bound = keep_bound(watches.clone(), access.clone(), events.clone(), unsettled.clone());
    let mut tenants = TenantWatch { access, unsettled, listed: HashSet::new(), tasks: JoinSet::new() };
    tenants.tasks.spawn(bound);
    // An empty label names no tenant.
    let labelled = format!("{TENANT_LABEL},{TENANT_LABEL}!=");
    let mut watch = watches.watch(WatchSource::namespaces().labels(labelled));
    loop {
        for event in tenants.handle(event_of(&mut watch).await) {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

struct TenantWatch {
    access: Arc<Access>,
    /// Notified when a RoleBinding may be missing.
    unsettled: Arc<Notify>,
    listed: HashSet<Arc<str>>,
    /// These end with the watch.
    tasks: JoinSet<()>,
}

impl TenantWatch {
    fn handle(&mut self, event: Event<Metadata<Namespace>>) -> Vec<ControllerEvent> {
        while self.tasks.try_join_next().is_some() {}
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(namespace) => {
                self.listed.insert(namespace.name());
                return self.applied(&namespace);
            }
            Event::InitDone => return self.list_complete(),
            Event::Apply(namespace) => {
                let events = self.applied(&namespace);
                if events.iter().any(|event| matches!(event, ControllerEvent::TenantChanged(_))) {
                    self.grant(namespace.name());
                }
                return events;
            }
            Event::Delete(namespace) => return self.deleted(&namespace),
        }
        Vec::new()
    }

    /// Returns what is new about a namespace with the label: its tenant, or that it is being deleted.
    fn applied(&self, namespace: &Metadata<Namespace>) -> Vec<ControllerEvent> {
        let name = namespace.name();
        let is_labelled = self.label(namespace).then(|| ControllerEvent::TenantChanged(name.clone()));
        let is_terminating = namespace.is_being_deleted() && self.access.closing(&name);
        is_labelled.into_iter().chain(is_terminating.then_some(ControllerEvent::Terminating(name))).collect()
    }

    /// Stores the tenant of a namespace. Returns whether it is new.
    fn label(&self, namespace: &Metadata<Namespace>) -> bool {
        let (name, Some(tenant)) = (namespace.name(), namespace.label(TENANT_LABEL)) else {
            return false;
        };
        if self.access.is_system_namespace(&name) {
            tracing::warn!(
                namespace = %name,
                "ignoring the label {TENANT_LABEL} on a system namespace; remove the label"
            );
            return false;
        }
        if namespace.is_being_deleted() {
            self.access.labelled_and_closing(name, tenant.into())
        } else {
            self.access.labelled(name, tenant.into())
        }
    }

    /// Forgets the namespaces that are not in the list.
    fn list_complete(&self) -> Vec<ControllerEvent> {
        let known = self.access.namespaces().into_iter();
        let gone = known.filter(|name| !self.listed.contains(name) && self.access.unlabelled(name));
        let changed = gone.map(ControllerEvent::TenantChanged);
        let events = changed.chain([ControllerEvent::TenantsListed]).collect();
        self.unsettled.notify_one();
        events
    }

    fn deleted(&self, namespace: &Metadata<Namespace>) -> Vec<ControllerEvent> {
        let name = namespace.name();
        let changed = self.access.unlabelled(&name).then(|| ControllerEvent::TenantChanged(name.clone()));
        // If the namespace itself is deleted, the RoleBinding goes with it.
        let left = (!namespace.is_being_deleted()).then_some(ControllerEvent::Left(name));
        changed.into_iter().chain(left).collect()
    }

    fn grant(&mut self, name: Arc<str>) {
        let (access, unsettled) = (self.access.clone(), self.unsettled.clone());
        self.tasks.spawn(async move {
            if !access.grant(&name).await {
                unsettled.notify_one();
            }
        });
    }
}

/// Keeps the operator's RoleBindings in tenants' namespaces, as soon as these were listed.
async fn keep_bound(
    watches: Arc<WatchPool>,
    access: Arc<Access>,
    events: ControllerEvents,
    unsettled: Arc<Notify>,
) {
    unsettled.notified().await;
    let bindings = watch_bindings(&watches, &access, &unsettled);
    tokio::join!(
        settle_again(&access, &events, &unsettled),
        bindings,
        watch_role(&watches, &access, &unsettled)
    );
}

/// Reconciles the RoleBindings whenever that may be necessary, and again after failures.
async fn settle_again(access: &Access, events: &ControllerEvents, unsettled: &Notify) {
    let mut failures = 0;
    loop {
        let is_settled = reconcile_bindings(access, events).await;
        failures = if is_settled { 0 } else { failures + 1 };
        tokio::time::sleep(BETWEEN_SETTLEMENTS).await;
        if is_settled {
            unsettled.notified().await;
        } else {
            let pause = Backoff::API_CALL.after(failures).saturating_sub(BETWEEN_SETTLEMENTS);
            let _ = tokio::time::timeout(pause, unsettled.notified()).await;
        }
    }
}

/// Writes the RoleBindings that are missing, and reports the namespaces with one that are no tenant's. Returns whether nothing is left
/// to do.
async fn reconcile_bindings(access: &Access, events: &ControllerEvents) -> bool {
    match access.settle().await {
        Ok(Settled { left, unbound }) => {
            for namespace in left {
                let _ = events.send(ControllerEvent::Left(namespace)).await;
            }
            !unbound
        }
        Err(error) => {
            tracing::warn!(%error, "failed to list the operator's RoleBindings, retrying");
            false
        }
    }
}

/// Watches the RoleBindings: another client may delete or change them, and so may the garbage collector when the role is deleted.
async fn watch_bindings(watches: &Arc<WatchPool>, access: &Access, unsettled: &Notify) {
    let Some((_, named)) = access.bindings() else { return };
    let mut watch = watches.watch(WatchSource::role_bindings().fields(named));
    loop {
        if access.is_unsettled_by(&event_of(&mut watch).await) {
            unsettled.notify_one();
        }
    }
}

/// Watches the role: it may be created after the operator, or again when the chart is reinstalled.
async fn watch_role(watches: &Arc<WatchPool>, access: &Access, unsettled: &Notify) {
    if access.bindings().is_none() {
        return;
    }
    let (_, named) = access.tenant_role();
    let mut watch = watches.watch(WatchSource::cluster_roles().fields(named));
    loop {
        if matches!(event_of(&mut watch).await, Event::Apply(_)) {
            unsettled.notify_one();
        }
    }
}

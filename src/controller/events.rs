//! Events (`events.k8s.io/v1`): one per change of verdict, written beside the work and not before it, so that a flood
//! of Events delays no status.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use registry_api::{ConditionType, RegistryStatus, SystemRegistry, TenantRegistry};
use registry_verdict::object::{RegistryKey, RegistryObject};
use tokio::sync::mpsc;

use crate::kubernetes::call::call;

const CONTROLLER: &str = "registry.spectrocloud.com/registry-operator";
/// Where Events about cluster-scoped objects go, by convention.
const CLUSTER_NAMESPACE: &str = "default";
/// Events that wait to be written; a verdict that changes while so many wait is told by the status alone.
const BACKLOG: usize = 16_384;
/// What is left of an Event's name for the registry's.
const LONGEST_NAME: usize = 230;
/// The API's bound on `note`, in bytes.
const NOTE_BYTES: usize = 1024;

/// Takes Events to write.
#[derive(Clone, Debug)]
pub struct Events {
    backlog: mpsc::Sender<Draft>,
}

#[derive(Debug)]
struct Draft {
    key: RegistryKey,
    uid: String,
    warning: bool,
    reason: String,
    note: String,
    time: Timestamp,
}

impl Events {
    /// Writes Events as `instance` until dropped.
    pub fn start(client: Client, instance: String) -> (Self, impl Future<Output = ()>) {
        let (backlog, drafts) = mpsc::channel(BACKLOG);
        (Self { backlog }, write_all(client, instance, drafts))
    }

    /// Tells of a changed verdict.
    pub fn send(&self, object: &RegistryObject, next: &RegistryStatus, now: Timestamp) {
        let Some(ready) = next.condition(ConditionType::Ready) else {
            return;
        };
        let draft = Draft {
            key: object.key.clone(),
            uid: object.uid.clone(),
            warning: ready.status != "True",
            reason: ready.reason.clone(),
            note: ready.message.clone(),
            time: now,
        };
        if self.backlog.try_send(draft).is_err() {
            tracing::warn!(registry = %object.key, "Event dropped: too many Events wait to be written");
        }
    }
}

async fn write_all(client: Client, instance: String, mut drafts: mpsc::Receiver<Draft>) {
    while let Some(draft) = drafts.recv().await {
        let api: Api<Event> =
            Api::namespaced(client.clone(), draft.key.namespace().unwrap_or(CLUSTER_NAMESPACE));
        let (event, params) = (draft.event(&instance), PostParams::default());
        if let Err(error) = call(api.create(&params, &event)).await {
            tracing::warn!(registry = %draft.key, %error, "failed to create Event");
        }
    }
}

impl Draft {
    fn event(&self, instance: &str) -> Event {
        // As client-go names them; a registry's verdict changes at most once a nanosecond.
        let name = format!("{}.{:x}", within(self.key.name(), LONGEST_NAME), self.time.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.key.namespace().unwrap_or(CLUSTER_NAMESPACE).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(self.time)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(instance.to_owned()),
            action: Some("Validate".to_owned()),
            reason: Some(self.reason.clone()),
            type_: Some(if self.warning { "Warning" } else { "Normal" }.to_owned()),
            note: Some(within(&self.note, NOTE_BYTES).to_owned()),
            regarding: Some(self.regarding()),
            ..Event::default()
        }
    }

    fn regarding(&self) -> ObjectReference {
        let (api_version, kind) = match self.key {
            RegistryKey::System { .. } => (SystemRegistry::api_version(&()), SystemRegistry::kind(&())),
            RegistryKey::Tenant { .. } => (TenantRegistry::api_version(&()), TenantRegistry::kind(&())),
        };
        ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(kind.into_owned()),
            name: Some(self.key.name().to_owned()),
            namespace: self.key.namespace().map(str::to_owned),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// The longest beginning of `text` that fits.
fn within(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_note_at_character_boundary() {
        assert_eq!(within("äöü", 3), "ä");
        assert_eq!(within("abc", 1024), "abc");
    }
}

//! Events (`events.k8s.io/v1`): one for each change of a verdict. A task of its own writes them, so that many Events delay no
//! status.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PostParams},
};
use registry_api::{ConditionType, Reason, RegistryStatus, SystemRegistry, TenantRegistry};
use registry_verdict::{
    known_status::{ConditionStatus, KnownCondition, KnownStatus},
    object::{RegistryKey, RegistryObject},
};
use tokio::sync::mpsc;

use crate::kubernetes::call::call;

const CONTROLLER: &str = "registry.spectrocloud.com/registry-operator";
/// Where Events about cluster-scoped objects go, by convention.
const CLUSTER_NAMESPACE: &str = "default";
/// Events that wait to be written. When there are more, they are dropped; the status has the verdict anyway.
const BACKLOG: usize = 16_384;
/// The longest part of a registry's name in the name of an Event.
const LONGEST_NAME: usize = 230;
/// The longest `note` that the API accepts, in bytes.
const NOTE_BYTES: usize = 1024;

/// Accepts Events to be written.
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

    /// Sends an Event if the verdict in `status` is not the one that was `reported` last.
    pub fn send_if_new(
        &self,
        object: &RegistryObject,
        status: &RegistryStatus,
        reported: &mut Option<ReadyVerdict>,
        now: Timestamp,
    ) {
        let verdict = ReadyVerdict::new(status);
        if verdict != *reported {
            self.send(object, status, now);
            *reported = verdict;
        }
    }

    fn send(&self, object: &RegistryObject, status: &RegistryStatus, now: Timestamp) {
        let Some(ready) = status.condition(ConditionType::Ready) else {
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

/// Status and reason of Ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadyVerdict {
    status: ConditionStatus,
    /// None for a reason that this version doesn't know.
    reason: Option<Reason>,
}

impl ReadyVerdict {
    /// Returns the verdict in a known status; none while a validation is in progress.
    pub fn known(status: &KnownStatus) -> Option<Self> {
        status.condition(ConditionType::Ready).and_then(Self::of)
    }

    /// Returns the verdict in a new status; none while a validation is in progress.
    fn new(status: &RegistryStatus) -> Option<Self> {
        status.condition(ConditionType::Ready).and_then(KnownCondition::of).and_then(Self::of)
    }

    fn of(ready: KnownCondition) -> Option<Self> {
        let verdict = Self { status: ready.status, reason: ready.reason };
        (ready.reason != Some(Reason::Progressing)).then_some(verdict)
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

/// Returns the longest beginning of `text` that fits into that many bytes.
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

//! Compares the pull Secrets that registries want in one namespace with the Secrets that exist there, and returns the
//! writes. Pure.
//!
//! Owns which registry gets a name that several ask for, and that only the operator's own Secrets are ever changed.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use registry_verdict::object::RegistryKey;

use super::secret::{FoundSecret, PullSecretContent, SecretVersion};

/// The desired content of a registry's pull Secrets.
#[derive(Clone, Debug)]
pub enum DesiredContent {
    /// The validated credentials.
    Proven(Arc<PullSecretContent>),
    /// Not known at the moment: existing Secrets stay, and no new ones are created.
    Unknown,
    /// No Secret, because there are no validated credentials.
    Nothing,
}

/// A pull Secret that a registry wants in a namespace.
#[derive(Clone, Debug)]
pub struct DesiredSecret {
    /// The registry.
    pub registry: RegistryKey,
    /// The registry's uid.
    pub uid: Arc<str>,
    /// When the registry was created.
    pub created: Option<Timestamp>,
    /// The Secret's name.
    pub name: Arc<str>,
    /// The desired content.
    pub content: DesiredContent,
}

/// The Secrets that exist in the namespace.
#[derive(Clone, Debug, Default)]
pub struct ObservedSecrets {
    /// The operator's own Secrets, by name.
    pub own: HashMap<Arc<str>, FoundSecret>,
    /// Names of Secrets that the operator doesn't manage.
    pub foreign: HashSet<Arc<str>>,
    /// The uid of the registry that last had a Secret, by the Secret's name. The Secret may have been deleted, and is
    /// created again.
    pub last_owners: HashMap<Arc<str>, Arc<str>>,
    /// The uids of registries that can't be parsed. What they want isn't known, so their Secrets stay.
    pub unreadable: HashSet<Arc<str>>,
}

/// A write to one Secret.
#[derive(Clone, Debug)]
pub enum SecretAction {
    /// Creates a Secret that doesn't exist.
    Create {
        /// The name.
        name: Arc<str>,
        /// The content.
        content: Arc<PullSecretContent>,
    },
    /// Changes a Secret in this state.
    Change {
        /// The name.
        name: Arc<str>,
        /// The state.
        at: SecretVersion,
        /// Whether an apply alone removes all other fields that the operator wrote.
        applied: bool,
        /// The new content.
        content: Arc<PullSecretContent>,
    },
    /// Deletes a Secret in this state.
    Delete {
        /// The name.
        name: Arc<str>,
        /// The state.
        at: SecretVersion,
    },
}

impl SecretAction {
    /// Returns the name of the Secret.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Create { name, .. } | Self::Change { name, .. } | Self::Delete { name, .. } => name,
        }
    }
}

/// Whether a registry has its Secret in a namespace, before the writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryState {
    /// The Secret exists, and is correct or stays as it is.
    There,
    /// The Secret doesn't exist yet, or has to be deleted.
    Away,
    /// A Secret with that name exists and isn't managed by the operator.
    Foreign,
    /// Another registry with the same Secret name takes precedence.
    Yields(RegistryKey),
}

/// The writes, and the state of each registry's Secret.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPlan {
    /// The writes, each to another Secret.
    pub actions: Vec<SecretAction>,
    /// The state of each registry's Secret.
    pub states: Vec<(RegistryKey, DeliveryState)>,
}

/// Compares the desired Secrets with the existing ones.
pub fn plan(desired: &[DesiredSecret], observed: &ObservedSecrets) -> DeliveryPlan {
    let mut plan = DeliveryPlan::default();
    let mut named: BTreeMap<&Arc<str>, Vec<&DesiredSecret>> = BTreeMap::new();
    for secret in desired {
        named.entry(&secret.name).or_default().push(secret);
    }
    for (name, mut claims) in named.clone() {
        claims.sort_by_key(|secret| secret.rank());
        let Some(first) = claims.first() else { continue };
        let holder = holder(first, &claims, observed.last_owners.get(name));
        plan.serve(name, holder, observed);
        let others = claims.iter().filter(|secret| secret.uid != holder.uid);
        plan.states.extend(others.map(|secret| (secret.registry.clone(), waits(secret, first))));
    }
    let is_unwanted = |(name, found): &(&Arc<str>, &FoundSecret)| {
        !named.contains_key(name) && !observed.unreadable.contains(&found.registry)
    };
    let mut unwanted: Vec<_> = observed.own.iter().filter(is_unwanted).collect();
    unwanted.sort_by_key(|(name, _)| *name);
    for (name, found) in unwanted {
        plan.actions.push(SecretAction::Delete { name: name.clone(), at: found.version.clone() });
    }
    plan
}

/// Returns which of the registries that want a name has it now.
///
/// The first by precedence has it, even without content. Otherwise, the name would change hands whenever that registry
/// fails. But if another one already has the name, it keeps it until the first has content.
fn holder<'a>(
    first: &'a DesiredSecret,
    claims: &[&'a DesiredSecret],
    last_owners: Option<&Arc<str>>,
) -> &'a DesiredSecret {
    let incumbent = last_owners.and_then(|uid| claims.iter().find(|secret| secret.uid == *uid));
    match incumbent {
        Some(incumbent) if !matches!(first.content, DesiredContent::Proven(_)) => incumbent,
        _ => first,
    }
}

/// Returns the state for a registry that doesn't have the name.
fn waits(secret: &DesiredSecret, first: &DesiredSecret) -> DeliveryState {
    if secret.uid == first.uid { DeliveryState::Away } else { DeliveryState::Yields(first.registry.clone()) }
}

impl DesiredSecret {
    /// The precedence: system scope, then the older registry, then the lower uid.
    fn rank(&self) -> (bool, Option<Timestamp>, Arc<str>) {
        (matches!(self.registry, RegistryKey::Tenant { .. }), self.created, self.uid.clone())
    }
}

impl ObservedSecrets {
    /// Remembers which registry has which Secret, only for names that a registry wants.
    pub fn remember(&mut self, mut last_owners: HashMap<Arc<str>, Arc<str>>, desired: &[DesiredSecret]) {
        last_owners.extend(self.own.iter().map(|(name, found)| (name.clone(), found.registry.clone())));
        last_owners.retain(|name, _| desired.iter().any(|secret| secret.name == *name));
        self.last_owners = last_owners;
    }
}

impl DeliveryPlan {
    fn serve(&mut self, name: &Arc<str>, secret: &DesiredSecret, observed: &ObservedSecrets) {
        let (action, state) = serve(name, secret, observed);
        self.actions.extend(action);
        self.states.push((secret.registry.clone(), state));
    }
}

fn serve(
    name: &Arc<str>,
    secret: &DesiredSecret,
    observed: &ObservedSecrets,
) -> (Option<SecretAction>, DeliveryState) {
    let Some(found) = observed.own.get(name) else {
        return match &secret.content {
            DesiredContent::Nothing | DesiredContent::Unknown => (None, DeliveryState::Away),
            DesiredContent::Proven(_) if observed.foreign.contains(name) => (None, DeliveryState::Foreign),
            DesiredContent::Proven(content) => (
                Some(SecretAction::Create { name: name.clone(), content: content.clone() }),
                DeliveryState::Away,
            ),
        };
    };
    if observed.unreadable.contains(&found.registry) {
        return (None, DeliveryState::Foreign);
    }
    let (name, at) = (name.clone(), found.version.clone());
    match &secret.content {
        DesiredContent::Unknown if found.registry == secret.uid => (None, DeliveryState::There),
        // The Secret of this registry before it was restored or recreated. It stays until there is new content.
        DesiredContent::Unknown if found.is_named(&secret.registry) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.says(content) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.mendable => {
            let (applied, content) = (found.is_applicable(content), content.clone());
            (Some(SecretAction::Change { name, at, applied, content }), DeliveryState::Away)
        }
        // The Secret must be deleted, maybe to be created again: neither a type nor an immutable Secret can be changed.
        DesiredContent::Unknown | DesiredContent::Nothing | DesiredContent::Proven(_) => {
            (Some(SecretAction::Delete { name, at }), DeliveryState::Away)
        }
    }
}

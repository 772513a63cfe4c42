//! What to do in one namespace: the pull Secrets that should exist × the Secrets that do → actions. Pure.
//!
//! Owns who gets a name that several registries ask for, and that nothing but the operator's own Secrets is ever touched.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use registry_verdict::object::RegistryKey;

use super::secret::{FoundSecret, PullSecretContent, SecretVersion};

/// What a registry's pull Secrets are to say.
#[derive(Clone, Debug)]
pub enum DesiredContent {
    /// The credentials that were proven.
    Proven(Arc<PullSecretContent>),
    /// It is not known just now: what is there stays, and nothing new comes.
    Unknown,
    /// Nothing: there are no proven credentials.
    Nothing,
}

/// A registry that asks for a pull Secret in a namespace.
#[derive(Clone, Debug)]
pub struct DesiredSecret {
    /// Which registry.
    pub registry: RegistryKey,
    /// Its uid.
    pub uid: Arc<str>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// The Secret's name.
    pub name: Arc<str>,
    /// What it is to say.
    pub content: DesiredContent,
}

/// What there is in the namespace.
#[derive(Clone, Debug, Default)]
pub struct ObservedSecrets {
    /// The operator's own Secrets.
    pub own: HashMap<Arc<str>, FoundSecret>,
    /// Names of Secrets that are somebody else's.
    pub foreign: HashSet<Arc<str>>,
    /// The uid of the registry that last had a Secret of that name: it may have been deleted, and is made again.
    pub last_owners: HashMap<Arc<str>, Arc<str>>,
    /// Uids of registries whose object can't be read, so that it is not known what they ask for: their Secrets stay.
    pub unreadable: HashSet<Arc<str>>,
}

/// One write.
#[derive(Clone, Debug)]
pub enum SecretAction {
    /// There is no Secret of that name.
    Create {
        /// The name.
        name: Arc<str>,
        /// What it says.
        content: Arc<PullSecretContent>,
    },
    /// The Secret is in that state, and should say something else.
    Change {
        /// The name.
        name: Arc<str>,
        /// The state.
        at: SecretVersion,
        /// What it should say.
        content: Arc<PullSecretContent>,
    },
    /// The Secret is in that state, and should not be there.
    Delete {
        /// The name.
        name: Arc<str>,
        /// The state.
        at: SecretVersion,
    },
}

impl SecretAction {
    /// The name of the Secret.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Create { name, .. } | Self::Change { name, .. } | Self::Delete { name, .. } => name,
        }
    }
}

/// The state of a registry's Secret in a namespace, before the actions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryState {
    /// Its Secret is there, as it should be or as it was left.
    There,
    /// It is not there, and should be; or should not.
    Away,
    /// Somebody else has a Secret of that name.
    Foreign,
    /// Another registry that asks for the same name takes precedence.
    Yields(RegistryKey),
}

/// What to do, and the state of each Secret before that.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPlan {
    /// The writes, each to another Secret.
    pub actions: Vec<SecretAction>,
    /// The state of each Secret that should exist.
    pub states: Vec<(RegistryKey, DeliveryState)>,
}

/// Compares the desired Secrets with the observed ones.
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

/// Which of the registries that ask for a name has it now.
///
/// The first has it, whether or not it has anything to put there: otherwise a name would change hands with each of its
/// failures. But another of them that has it already keeps it until the first has something to put there.
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

/// The state of the Secret of a registry that does not have the name.
fn waits(secret: &DesiredSecret, first: &DesiredSecret) -> DeliveryState {
    if secret.uid == first.uid { DeliveryState::Away } else { DeliveryState::Yields(first.registry.clone()) }
}

impl DesiredSecret {
    /// Who comes first: system scope, then the older, then the lesser uid.
    fn rank(&self) -> (bool, Option<Timestamp>, Arc<str>) {
        (matches!(self.registry, RegistryKey::Tenant { .. }), self.created, self.uid.clone())
    }
}

impl ObservedSecrets {
    /// Remembers whose Secrets are there, and forgets it of names that nobody asks for.
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
        // Of this registry before it was restored from a backup, or made anew: it stays until there is something to put there.
        DesiredContent::Unknown if found.is_named(&secret.registry) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.says(content) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.mendable => {
            (Some(SecretAction::Change { name, at, content: content.clone() }), DeliveryState::Away)
        }
        // It should not be there; or is to be made anew, as a type can't be changed, nor anything of an immutable Secret.
        DesiredContent::Unknown | DesiredContent::Nothing | DesiredContent::Proven(_) => {
            (Some(SecretAction::Delete { name, at }), DeliveryState::Away)
        }
    }
}

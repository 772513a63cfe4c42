//! What is to be done in one namespace: the pull Secrets that registries wish for × the Secrets that are there → actions.
//! Pure.
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
    pub holding: DesiredContent,
}

/// What there is in the namespace.
#[derive(Clone, Debug, Default)]
pub struct ObservedSecrets {
    /// The operator's own Secrets.
    pub own: HashMap<Arc<str>, FoundSecret>,
    /// Names of Secrets that are somebody else's.
    pub foreign: HashSet<Arc<str>>,
    /// The uid of the registry that last had a Secret of that name: it may have been deleted, and is made again.
    pub held: HashMap<Arc<str>, Arc<str>>,
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
        /// Whether all that the operator wrote was written by an apply.
        applied: bool,
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

/// What a registry has of its wish, before the actions.
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

/// What is to be done, and how it stands.
#[derive(Clone, Debug, Default)]
pub struct DeliveryPlan {
    /// The writes, each to another Secret.
    pub actions: Vec<SecretAction>,
    /// How each wish stands.
    pub standings: Vec<(RegistryKey, DeliveryState)>,
}

/// Compares what is wished for with what is there.
pub fn plan(wishes: &[DesiredSecret], scene: &ObservedSecrets) -> DeliveryPlan {
    let mut plan = DeliveryPlan::default();
    let mut named: BTreeMap<&Arc<str>, Vec<&DesiredSecret>> = BTreeMap::new();
    for wish in wishes {
        named.entry(&wish.name).or_default().push(wish);
    }
    for (name, mut claims) in named.clone() {
        claims.sort_by_key(|wish| wish.rank());
        let Some(first) = claims.first() else { continue };
        let holder = holder(first, &claims, scene.held.get(name));
        plan.serve(name, holder, scene);
        let others = claims.iter().filter(|wish| wish.uid != holder.uid);
        plan.standings.extend(others.map(|wish| (wish.registry.clone(), waits(wish, first))));
    }
    let is_unwanted = |(name, found): &(&Arc<str>, &FoundSecret)| {
        !named.contains_key(name) && !scene.unreadable.contains(&found.registry)
    };
    let mut unwanted: Vec<_> = scene.own.iter().filter(is_unwanted).collect();
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
    held: Option<&Arc<str>>,
) -> &'a DesiredSecret {
    let incumbent = held.and_then(|uid| claims.iter().find(|wish| wish.uid == *uid));
    match incumbent {
        Some(incumbent) if !matches!(first.holding, DesiredContent::Proven(_)) => incumbent,
        _ => first,
    }
}

/// How the wish of a registry stands that does not have the name.
fn waits(wish: &DesiredSecret, first: &DesiredSecret) -> DeliveryState {
    if wish.uid == first.uid { DeliveryState::Away } else { DeliveryState::Yields(first.registry.clone()) }
}

impl DesiredSecret {
    /// Who comes first: system scope, then the older, then the lesser uid.
    fn rank(&self) -> (bool, Option<Timestamp>, Arc<str>) {
        (matches!(self.registry, RegistryKey::Tenant { .. }), self.created, self.uid.clone())
    }
}

impl ObservedSecrets {
    /// Remembers whose Secrets are there, and forgets it of names that nobody asks for.
    pub fn remember(&mut self, mut held: HashMap<Arc<str>, Arc<str>>, wishes: &[DesiredSecret]) {
        held.extend(self.own.iter().map(|(name, found)| (name.clone(), found.registry.clone())));
        held.retain(|name, _| wishes.iter().any(|wish| wish.name == *name));
        self.held = held;
    }
}

impl DeliveryPlan {
    fn serve(&mut self, name: &Arc<str>, wish: &DesiredSecret, scene: &ObservedSecrets) {
        let (action, standing) = serve(name, wish, scene);
        self.actions.extend(action);
        self.standings.push((wish.registry.clone(), standing));
    }
}

fn serve(
    name: &Arc<str>,
    wish: &DesiredSecret,
    scene: &ObservedSecrets,
) -> (Option<SecretAction>, DeliveryState) {
    let Some(found) = scene.own.get(name) else {
        return match &wish.holding {
            DesiredContent::Nothing | DesiredContent::Unknown => (None, DeliveryState::Away),
            DesiredContent::Proven(_) if scene.foreign.contains(name) => (None, DeliveryState::Foreign),
            DesiredContent::Proven(content) => (
                Some(SecretAction::Create { name: name.clone(), content: content.clone() }),
                DeliveryState::Away,
            ),
        };
    };
    if scene.unreadable.contains(&found.registry) {
        return (None, DeliveryState::Foreign);
    }
    let (name, at) = (name.clone(), found.version.clone());
    match &wish.holding {
        DesiredContent::Unknown if found.registry == wish.uid => (None, DeliveryState::There),
        // Of this registry before it was restored from a backup, or made anew: it stays until there is something to put there.
        DesiredContent::Unknown if found.is_named(&wish.registry) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.says(content) => (None, DeliveryState::There),
        DesiredContent::Proven(content) if found.mendable => {
            let (applied, content) = (found.applied, content.clone());
            (Some(SecretAction::Change { name, at, applied, content }), DeliveryState::Away)
        }
        // It should not be there; or is to be made anew, as a type can't be changed, nor anything of an immutable Secret.
        DesiredContent::Unknown | DesiredContent::Nothing | DesiredContent::Proven(_) => {
            (Some(SecretAction::Delete { name, at }), DeliveryState::Away)
        }
    }
}

//! One namespace, as far as its pull Secrets go: whose it is, what is there, and when it is looked at again. Pure, but for the
//! watch that ends with it.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use registry_verdict::{backoff::Backoff, object::RegistryKey};
use tokio::{task::AbortHandle, time::Instant};

use super::{
    budget::Budget,
    note::Trouble,
    plan::{DeliveryState, DesiredSecret, ObservedSecrets, SecretAction},
    secret::FoundSecret,
    secrets::{After, DeliveryError},
    watch::SecretEvent,
    worker::News,
};
use crate::queue::Lane;

/// Namespaces wait for no host: no registry is asked.
pub type NoHost = Infallible;

/// So many failures in a row are worth a word to the registry's user.
const STUCK: u32 = 3;
/// A name whose fight is over is looked at no sooner than this.
const SOONEST_WRITE: Duration = Duration::from_secs(1);

/// A namespace.
pub struct NamespaceState {
    /// Whose it is.
    pub belongs: Ownership,
    /// What is there; none until it was listed.
    pub scene: Option<ObservedSecrets>,
    /// The watch over it, while there is one.
    pub watch: Option<AbortHandle>,
    /// Names that somebody else has, and when to look again.
    foreign: HashMap<Arc<str>, Check>,
    /// The uid of the registry that last had a Secret of that name.
    pub held: HashMap<Arc<str>, Arc<str>>,
    /// How the wishes for it stand.
    pub standings: Vec<(RegistryKey, DeliveryState)>,
    /// Failures in a row.
    pub failures: u32,
    /// How often each of the Secrets that were written lately may be written again.
    budgets: HashMap<Arc<str>, Budget>,
    /// When Secrets were last written.
    written: HashMap<Arc<str>, Instant>,
    /// Names of which it is not certain what is there.
    doubtful: HashSet<Arc<str>>,
    /// Names of Secrets that another client keeps changing.
    contested: HashSet<Arc<str>>,
}

/// Whose a namespace is.
#[derive(Clone, PartialEq)]
pub enum Ownership {
    /// It is that tenant's.
    To(Arc<str>),
    /// It belongs to no tenant any more, and the operator removes what it wrote there.
    Left,
}

#[derive(Clone, Copy)]
struct Check {
    at: Instant,
    /// Looks in a row.
    looks: u32,
}

impl Drop for NamespaceState {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl NamespaceState {
    /// A namespace of which nothing is known yet.
    pub fn new(belongs: Ownership) -> Self {
        Self {
            belongs,
            scene: None,
            watch: None,
            foreign: HashMap::new(),
            held: HashMap::new(),
            standings: Vec::new(),
            failures: 0,
            budgets: HashMap::new(),
            written: HashMap::new(),
            doubtful: HashSet::new(),
            contested: HashSet::new(),
        }
    }

    /// Whose it is; none while it is being left.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        match &self.belongs {
            Ownership::To(tenant) => Some(tenant),
            Ownership::Left => None,
        }
    }

    /// Whose turn it takes.
    pub fn lane(&self, name: &Arc<str>) -> Lane<Arc<str>, NoHost> {
        Lane { group: self.tenant().unwrap_or(name).clone(), host: None }
    }

    /// Whether there is a watch over it.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Ends the watch.
    pub fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }

    /// The names of Secrets that somebody else has.
    pub fn foreign(&self) -> HashSet<Arc<str>> {
        self.foreign.keys().cloned().collect()
    }

    /// Takes in what its watch saw.
    pub fn observe(&mut self, what: SecretEvent) {
        match (what, &mut self.scene) {
            (SecretEvent::Failed, _) => self.failures = self.failures.saturating_add(1),
            (SecretEvent::Listed(own, began), _) => {
                self.list(own, began);
                self.failures = 0;
            }
            (SecretEvent::There(name, found), Some(scene)) => scene.there(name, found),
            (SecretEvent::Gone(name, uid), Some(scene)) => scene.gone(&name, &uid),
            (_, None) => {}
        }
    }

    /// It was not looked at yet, and nothing says that it can't be.
    pub fn is_pending(&self) -> bool {
        self.scene.is_none() && self.failures == 0
    }

    /// Forgets names that nobody wants any more.
    pub fn keep_checks(&mut self, wishes: &[DesiredSecret]) {
        self.foreign.retain(|name, _| wishes.iter().any(|wish| wish.name == *name));
    }

    /// Names that are to be looked at again now. They are until a look has succeeded.
    pub fn due_checks(&self) -> Vec<Arc<str>> {
        let now = Instant::now();
        let due = self.foreign.iter().filter(|(_, check)| check.at <= now).map(|(name, _)| name);
        let due: HashSet<_> = due.chain(&self.doubtful).cloned().collect();
        due.into_iter().collect()
    }

    /// When there is something to do again: a name to look at, a write that had to wait, or a fight that is over.
    pub fn next_check(&self) -> Option<Duration> {
        let now = Instant::now();
        let looks = self.foreign.values().map(|check| check.at.saturating_duration_since(now));
        let writes = self.contested.iter().filter_map(|name| self.budgets.get(name)).map(Budget::wait);
        looks.chain(writes.map(|wait| wait.max(SOONEST_WRITE))).min()
    }

    /// Takes in what a worker found.
    pub fn learn(&mut self, news: News, now: Instant) {
        match news {
            News::Scene(own) => self.scene = Some(ObservedSecrets { own, ..ObservedSecrets::default() }),
            News::Names(names) => {
                for (name, after) in names {
                    self.write_completed(name, after, now);
                }
            }
            News::Gone | News::None => {}
        }
    }

    /// Those of the writes that are made now, and whether it is news which Secrets are fought about: the other writes wait,
    /// since somebody keeps undoing them.
    pub fn afford(
        &mut self,
        namespace: &str,
        actions: Vec<SecretAction>,
        now: Instant,
    ) -> (Vec<SecretAction>, bool) {
        self.budgets.retain(|_, budget| !budget.is_full(now));
        let budgets = &mut self.budgets;
        let affordable = |action: &SecretAction| {
            budgets.entry(action.name().clone()).or_insert_with(|| Budget::new(now)).take(now)
        };
        let actions = actions.into_iter().filter(affordable).collect();
        let contested = self
            .budgets
            .iter_mut()
            .filter_map(|(name, budget)| budget.is_contested(now).then(|| name.clone()));
        let contested: HashSet<_> = contested.collect();
        for name in contested.difference(&self.contested) {
            tracing::warn!(namespace, secret = %name, "another client keeps changing the pull Secret; \
                repairing it less often");
        }
        let news = contested != self.contested;
        self.contested = contested;
        (actions, news)
    }

    /// What keeps the Secret of that name from being as it should.
    pub fn trouble(&self, name: Option<&Arc<str>>) -> Trouble {
        Trouble {
            stuck: self.failures >= STUCK,
            contested: name.is_some_and(|name| self.contested.contains(name)),
        }
    }

    /// How long what was just seen can wait; none if it need not. After a failure it does.
    pub fn backoff_when_failed(&self) -> Option<Duration> {
        match self.failures {
            0 => None,
            failures => Some(Backoff::API_CALL.after(failures)),
        }
    }

    /// Takes in a list that was asked for at that time. What is newer than the list stays; what was written since, and is not
    /// in it, is looked at.
    fn list(&mut self, mut own: HashMap<Arc<str>, FoundSecret>, began: Instant) {
        for (name, known) in self.scene.take().map(|scene| scene.own).unwrap_or_default() {
            match own.get(&name) {
                Some(listed) if !known.is_newer_than(listed) => {}
                None if self.written.get(&name).is_none_or(|at| *at < began) => {}
                listed => {
                    self.doubtful.extend(listed.is_none().then(|| name.clone()));
                    own.insert(name, known);
                }
            }
        }
        self.written.clear();
        self.scene = Some(ObservedSecrets { own, ..ObservedSecrets::default() });
    }

    fn write_completed(&mut self, name: Arc<str>, after: After, now: Instant) {
        let before = self.foreign.remove(&name);
        self.doubtful.remove(&name);
        let Some(scene) = &mut self.scene else { return };
        match after {
            After::Own(found) => {
                self.written.insert(name.clone(), now);
                scene.there(name, found);
            }
            After::Nothing => drop(scene.own.remove(&name)),
            After::Foreign => {
                scene.own.remove(&name);
                let looks = before.map_or(1, |check| check.looks.saturating_add(1));
                self.foreign.insert(name, Check { at: now + Backoff::FOREIGN_SECRET.after(looks), looks });
            }
        }
    }

    /// Counts failures in a row; says when to try again after one.
    pub fn failed(&mut self, namespace: &str, error: Option<&DeliveryError>) -> Option<Duration> {
        let Some(error) = error else {
            self.failures = 0;
            return None;
        };
        if matches!(error, DeliveryError::Conflict) {
            return Some(Backoff::API_CALL.first()); // at the latest: the watch tells of the change
        }
        self.failures = self.failures.saturating_add(1);
        match error {
            // Its end is told by the watch of namespaces.
            DeliveryError::Closing => {
                tracing::debug!(namespace, "namespace is being deleted; no pull Secret created");
            }
            DeliveryError::Refused(_)
            | DeliveryError::Quota(_)
            | DeliveryError::Conflict
            | DeliveryError::Altered
            | DeliveryError::Revoke(_)
            | DeliveryError::Api(_) => {
                tracing::warn!(namespace, %error, "failed to update pull Secrets, retrying");
            }
        }
        Some(error.pause(self.failures))
    }
}

impl ObservedSecrets {
    fn there(&mut self, name: Arc<str>, found: FoundSecret) {
        if !self.own.get(&name).is_some_and(|known| known.is_newer_than(&found)) {
            self.own.insert(name, found);
        }
    }

    fn gone(&mut self, name: &str, uid: &str) {
        if self.own.get(name).is_some_and(|known| known.version.uid == uid) {
            self.own.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull_secrets::secret::SecretVersion;

    fn found(version: u64) -> FoundSecret {
        let version = SecretVersion { uid: "secret".into(), resource_version: version.to_string() };
        FoundSecret::example("registry", version)
    }

    fn written(at: Instant) -> NamespaceState {
        let mut place = NamespaceState::new(Ownership::To("team".into()));
        place.learn(News::Scene(HashMap::new()), at);
        place.learn(News::Names(vec![("pull".into(), After::Own(found(7)))]), at);
        place
    }

    #[tokio::test]
    async fn what_was_written_while_a_list_came_in_is_not_taken_to_be_gone() {
        let began = Instant::now();
        let mut place = written(began + Duration::from_millis(1));
        place.observe(SecretEvent::Listed(HashMap::new(), began));
        assert_eq!(place.scene.as_ref().unwrap().own.len(), 1);
        assert_eq!(place.due_checks(), [Arc::from("pull")], "it is looked at");
        place.learn(News::Names(Vec::new()), began);
        assert_eq!(place.due_checks(), [Arc::from("pull")], "until a look has succeeded");
        place.learn(News::Names(vec![("pull".into(), After::Own(found(7)))]), began);
        assert!(place.due_checks().is_empty());
    }

    #[tokio::test]
    async fn what_a_later_list_has_not_is_gone() {
        let wrote = Instant::now();
        let mut place = written(wrote);
        place.observe(SecretEvent::Listed(HashMap::new(), wrote + Duration::from_millis(1)));
        assert!(place.scene.as_ref().unwrap().own.is_empty() && place.due_checks().is_empty());
    }

    #[tokio::test]
    async fn an_older_state_takes_the_place_of_no_newer_one() {
        let now = Instant::now();
        let mut place = written(now);
        place.observe(SecretEvent::There("pull".into(), found(6)));
        place.observe(SecretEvent::Listed([("pull".into(), found(5))].into(), now));
        assert_eq!(place.scene.as_ref().unwrap().own["pull"], found(7));
    }

    #[tokio::test]
    async fn what_is_seen_after_a_failure_waits() {
        let mut place = written(Instant::now());
        assert_eq!(place.backoff_when_failed(), None);
        place.observe(SecretEvent::Failed);
        assert_eq!(place.backoff_when_failed(), Some(Backoff::API_CALL.first()));
    }
}

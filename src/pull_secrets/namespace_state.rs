//! What the delivery of pull Secrets knows about one namespace: its tenant, its Secrets, and when to check it again.
//! Pure, except for the watch, which ends with it.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use registry_probe::Backoff;
use registry_verdict::object::RegistryKey;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    budget::Budget,
    note::Trouble,
    plan::{DeliveryPlan, DeliveryState, DesiredSecret, ObservedSecrets, SecretAction, plan},
    secret::FoundSecret,
    secrets::{After, DeliveryError},
    watch::SecretEvent,
    worker::WorkerFindings,
};
use crate::queue::Lane;

/// Work on a namespace contacts no registry, so it waits for no host.
pub type NoHost = Infallible;

/// After this many failures in a row, the registry's message says so, and a namespace that was never listed delays no deletion.
const STUCK: u32 = 3;
/// The minimum time before a name that another client no longer changes is checked again.
const SOONEST_WRITE: Duration = Duration::from_secs(1);
/// A request that wasn't answered may be carried out for this time: the API server's `--request-timeout`, by default.
const LATEST_WRITE: Duration = Duration::from_mins(1);

/// The state of one namespace.
pub struct NamespaceState {
    /// The tenant that the namespace belongs to.
    pub ownership: Ownership,
    /// The Secrets in the namespace; `None` until they were listed.
    pub observed: Option<ObservedSecrets>,
    /// The watch of the namespace, if there is one.
    watch: Option<AbortHandle>,
    /// Names of Secrets that the operator doesn't manage, and when to check them again.
    foreign: HashMap<Arc<str>, Check>,
    /// The uid of the registry that last had a Secret, by the Secret's name.
    last_owners: HashMap<Arc<str>, Arc<str>>,
    /// The state of each registry's Secret.
    pub states: Vec<(RegistryKey, DeliveryState)>,
    /// Failures in a row.
    pub failures: u32,
    /// The remaining writes for each Secret that was written recently.
    budgets: HashMap<Arc<str>, Budget>,
    /// When each Secret was last written.
    written: HashMap<Arc<str>, Instant>,
    /// Names of Secrets whose state isn't certain.
    doubtful: HashSet<Arc<str>>,
    /// What the watch showed last of each name since the work under way began, whose answers may be older; `None` without work.
    shown: Option<HashMap<Arc<str>, Shown>>,
    /// Names of Secrets that another client keeps changing.
    contested: HashSet<Arc<str>>,
    /// Until when a write that wasn't answered may still be carried out.
    unanswered_until: Option<Instant>,
}

/// Which tenant a namespace belongs to.
#[derive(Clone, PartialEq)]
pub enum Ownership {
    /// It belongs to this tenant.
    To(Arc<str>),
    /// It no longer belongs to a tenant, and the operator removes what it wrote there.
    Left,
}

/// What the watch showed of a Secret.
enum Shown {
    There,
    /// It was deleted, with its uid.
    Gone(String),
}

#[derive(Clone, Copy)]
struct Check {
    at: Instant,
    /// The number of checks in a row.
    looks: u32,
}

impl Drop for NamespaceState {
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl NamespaceState {
    /// Creates the state of a namespace about which nothing is known yet.
    pub fn new(ownership: Ownership) -> Self {
        Self {
            ownership,
            observed: None,
            watch: None,
            foreign: HashMap::new(),
            last_owners: HashMap::new(),
            states: Vec::new(),
            failures: 0,
            budgets: HashMap::new(),
            written: HashMap::new(),
            doubtful: HashSet::new(),
            shown: None,
            contested: HashSet::new(),
            unanswered_until: None,
        }
    }

    /// Returns its tenant; `None` while the operator leaves it.
    pub fn tenant(&self) -> Option<&Arc<str>> {
        match &self.ownership {
            Ownership::To(tenant) => Some(tenant),
            Ownership::Left => None,
        }
    }

    /// Returns its place in the fair queue.
    pub fn lane(&self, name: &Arc<str>) -> Lane<Arc<str>, NoHost> {
        Lane { group: self.tenant().unwrap_or(name).clone(), host: None }
    }

    /// Returns whether there is a watch.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Starts to observe with a new watch, which lists first: what was observed without a watch may be outdated.
    pub fn set_watch(&mut self, watch: AbortHandle) {
        self.watch = Some(watch);
        self.observed = None;
    }

    /// Compares the desired Secrets with the observed ones, and returns the writes that this takes; none before the
    /// Secrets were listed.
    pub fn plan(&mut self, desired: &[DesiredSecret], unreadable: HashSet<Arc<str>>) -> Vec<SecretAction> {
        let foreign = self.foreign.keys().cloned().collect();
        let Some(observed) = &mut self.observed else { return Vec::new() };
        observed.foreign = foreign;
        observed.unreadable = unreadable;
        observed.remember(std::mem::take(&mut self.last_owners), desired);
        self.last_owners = observed.last_owners.clone();
        let DeliveryPlan { actions, states } = plan(desired, observed);
        self.states = states;
        self.foreign.retain(|name, _| desired.iter().any(|secret| secret.name == *name));
        actions
    }

    /// Stops the watch, unless a write that wasn't answered may still be carried out: the watch shows what has to be deleted then.
    pub fn unwatch_when_settled(&mut self, now: Instant) {
        self.unanswered_until = self.unanswered_until.filter(|until| *until > now);
        if self.unanswered_until.is_none() {
            self.unwatch();
        }
    }

    fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }

    /// Records an event of its watch.
    pub fn observe(&mut self, what: SecretEvent) {
        match &what {
            SecretEvent::There(name, _) => self.show(name, Shown::There),
            SecretEvent::Gone(name, uid) => self.show(name, Shown::Gone(uid.clone())),
            SecretEvent::Listed(..) | SecretEvent::Failed => {}
        }
        match (what, &mut self.observed) {
            (SecretEvent::Failed, None) => self.failures = self.failures.saturating_add(1),
            (SecretEvent::Listed(own, began), _) => {
                self.list(own, began);
                self.failures = 0;
            }
            (SecretEvent::There(name, found), Some(observed)) => observed.there(name, found),
            (SecretEvent::Gone(name, uid), Some(observed)) => observed.gone(&name, &uid),
            // Without a list, nothing can be written. Afterwards, a watch that fails delays no write, and says nothing when it
            // works again.
            (SecretEvent::Failed, Some(_)) | (_, None) => {}
        }
    }

    /// Returns whether it has not been listed yet, and probably can be.
    pub fn is_pending(&self) -> bool {
        self.observed.is_none() && self.failures < STUCK
    }

    /// Returns the names to check again now. They stay due until a check succeeds.
    pub fn due_checks(&self) -> Vec<Arc<str>> {
        let now = Instant::now();
        let due = self.foreign.iter().filter(|(_, check)| check.at <= now).map(|(name, _)| name);
        let due: HashSet<_> = due.chain(&self.doubtful).cloned().collect();
        due.into_iter().collect()
    }

    /// Returns the time until the next task: a name to check, a write that had to wait, the end of another client's
    /// interference, or of the time in which an unanswered write may be carried out.
    pub fn next_check(&self) -> Option<Duration> {
        let now = Instant::now();
        let looks = self.foreign.values().map(|check| check.at.saturating_duration_since(now));
        let writes = self.contested.iter().filter_map(|name| self.budgets.get(name)).map(Budget::wait);
        let unanswered = self.unanswered_until.filter(|until| *until > now);
        let unanswered = unanswered.map(|until| until.saturating_duration_since(now));
        looks.chain(writes.map(|wait| wait.max(SOONEST_WRITE))).chain(unanswered).min()
    }

    fn show(&mut self, name: &Arc<str>, shown: Shown) {
        if let Some(all) = &mut self.shown {
            all.insert(name.clone(), shown);
        }
    }

    /// Records that work begins. It ends when a worker reports what it found.
    pub fn begin_work(&mut self) {
        self.shown = Some(HashMap::new());
    }

    /// Records what a worker found.
    pub fn learn(&mut self, findings: WorkerFindings, now: Instant) {
        let shown = self.shown.take().unwrap_or_default();
        match findings {
            WorkerFindings::Listed(own) => {
                self.observed = Some(ObservedSecrets { own, ..ObservedSecrets::default() });
            }
            WorkerFindings::Names(names) => {
                for (name, after) in names {
                    let shown = shown.get(&name);
                    self.write_completed(name, after, shown, now);
                }
            }
            WorkerFindings::Gone | WorkerFindings::None => {}
        }
    }

    /// Returns the writes that may be made now, and whether the set of contested Secrets changed. The other writes
    /// wait, because another client keeps reverting them.
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
        let findings = contested != self.contested;
        self.contested = contested;
        (actions, findings)
    }

    /// Returns why the Secret with that name isn't up to date.
    pub fn trouble(&self, name: Option<&Arc<str>>) -> Trouble {
        Trouble {
            stuck: self.failures >= STUCK,
            contested: name.is_some_and(|name| self.contested.contains(name)),
        }
    }

    /// Returns how long new events can wait; `None` if they need not. After a failure, they wait.
    pub fn backoff_when_failed(&self) -> Option<Duration> {
        match self.failures {
            0 => None,
            failures => Some(Backoff::API_CALL.after(failures)),
        }
    }

    /// Records a list that was requested at `began`. Newer knowledge than the list stays. Secrets that were written
    /// since then and are missing in the list are checked again.
    fn list(&mut self, mut own: HashMap<Arc<str>, FoundSecret>, began: Instant) {
        for (name, known) in self.observed.take().map(|observed| observed.own).unwrap_or_default() {
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
        self.observed = Some(ObservedSecrets { own, ..ObservedSecrets::default() });
    }

    fn write_completed(&mut self, name: Arc<str>, after: After, shown: Option<&Shown>, now: Instant) {
        let before = self.foreign.remove(&name);
        self.doubtful.remove(&name);
        let Some(observed) = &mut self.observed else { return };
        match (after, shown) {
            // The answer to its creation was slower than the watch.
            (After::Own(found), Some(Shown::Gone(uid))) if found.version.uid == *uid => {}
            (After::Own(found), _) => {
                self.written.insert(name.clone(), now);
                observed.there(name, found);
            }
            // It may have been there before, or created again since.
            (After::Nothing, Some(Shown::There)) => drop(self.doubtful.insert(name)),
            (After::Nothing, _) => drop(observed.own.remove(&name)),
            (After::Foreign, _) => {
                observed.own.remove(&name);
                let looks = before.map_or(1, |check| check.looks.saturating_add(1));
                self.foreign.insert(name, Check { at: now + Backoff::FOREIGN_SECRET.after(looks), looks });
            }
        }
    }

    /// Counts failures in a row, and returns when to retry.
    pub fn failed(&mut self, namespace: &str, error: Option<&DeliveryError>) -> Option<Duration> {
        let Some(error) = error else {
            self.failures = 0;
            return None;
        };
        if matches!(error, DeliveryError::Conflict) {
            return Some(Backoff::API_CALL.first()); // at the latest: the watch may show a newer change
        }
        if error.is_unanswered() {
            self.unanswered_until = Some(Instant::now() + LATEST_WRITE);
        }
        self.failures = self.failures.saturating_add(1);
        match error {
            // The watch of namespaces shows the deletion.
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
        let mut namespace = NamespaceState::new(Ownership::To("team".into()));
        namespace.learn(WorkerFindings::Listed(HashMap::new()), at);
        namespace.learn(WorkerFindings::Names(vec![("pull".into(), After::Own(found(7)))]), at);
        namespace
    }

    #[tokio::test]
    async fn write_during_list_is_not_taken_as_deleted() {
        let began = Instant::now();
        let mut namespace = written(began + Duration::from_millis(1));
        namespace.observe(SecretEvent::Listed(HashMap::new(), began));
        assert_eq!(namespace.observed.as_ref().unwrap().own.len(), 1);
        assert_eq!(namespace.due_checks(), [Arc::from("pull")], "it is looked at");
        namespace.learn(WorkerFindings::Names(Vec::new()), began);
        assert_eq!(namespace.due_checks(), [Arc::from("pull")], "until a look has succeeded");
        namespace.learn(WorkerFindings::Names(vec![("pull".into(), After::Own(found(7)))]), began);
        assert!(namespace.due_checks().is_empty());
    }

    #[tokio::test]
    async fn secret_missing_from_later_list_is_gone() {
        let wrote = Instant::now();
        let mut namespace = written(wrote);
        namespace.observe(SecretEvent::Listed(HashMap::new(), wrote + Duration::from_millis(1)));
        assert!(namespace.observed.as_ref().unwrap().own.is_empty() && namespace.due_checks().is_empty());
    }

    #[tokio::test]
    async fn older_state_does_not_replace_newer() {
        let now = Instant::now();
        let mut namespace = written(now);
        namespace.observe(SecretEvent::There("pull".into(), found(6)));
        namespace.observe(SecretEvent::Listed([("pull".into(), found(5))].into(), now));
        assert_eq!(namespace.observed.as_ref().unwrap().own["pull"], found(7));
    }

    #[tokio::test]
    async fn watch_may_be_faster_than_the_answer_to_a_write() {
        let now = Instant::now();
        let mut namespace = written(now);
        namespace.begin_work();
        namespace.observe(SecretEvent::Gone("pull".into(), "secret".into()));
        namespace.learn(WorkerFindings::Names(vec![("pull".into(), After::Own(found(7)))]), now);
        assert!(namespace.observed.as_ref().unwrap().own.is_empty(), "it was deleted since");

        namespace.begin_work();
        namespace.observe(SecretEvent::There("pull".into(), found(9)));
        namespace.learn(WorkerFindings::Names(vec![("pull".into(), After::Nothing)]), now);
        assert_eq!(namespace.due_checks(), [Arc::from("pull")], "it may have been created since");
        namespace.begin_work();
        namespace.learn(WorkerFindings::Names(vec![("pull".into(), After::Nothing)]), now);
        assert!(namespace.due_checks().is_empty() && namespace.observed.as_ref().unwrap().own.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn watches_while_an_unanswered_write_may_come() {
        let mut namespace = written(Instant::now());
        let watch = tokio::spawn(std::future::pending::<()>());
        namespace.set_watch(watch.abort_handle());
        let no_answer = kube::Error::ReadEvents(std::io::ErrorKind::TimedOut.into());
        namespace.failed("team", Some(&DeliveryError::Api(no_answer.into())));
        namespace.unwatch_when_settled(Instant::now());
        assert!(namespace.is_watched());
        assert_eq!(namespace.next_check(), Some(LATEST_WRITE));
        tokio::time::advance(LATEST_WRITE).await;
        namespace.unwatch_when_settled(Instant::now());
        assert!(!namespace.is_watched());
        assert_eq!(namespace.next_check(), None);
    }

    #[tokio::test]
    async fn waits_while_the_list_fails() {
        let mut namespace = NamespaceState::new(Ownership::To("team".into()));
        assert_eq!(namespace.backoff_when_failed(), None);
        namespace.observe(SecretEvent::Failed);
        assert_eq!(namespace.backoff_when_failed(), Some(Backoff::API_CALL.first()));
        namespace.observe(SecretEvent::Listed(HashMap::new(), Instant::now()));
        assert_eq!(namespace.backoff_when_failed(), None);
    }

    /// A watch that resumes where it broke off says nothing until something changes: what it says then must not wait.
    #[tokio::test]
    async fn failed_watch_delays_no_repair() {
        let mut namespace = written(Instant::now());
        for _ in 0..STUCK {
            namespace.observe(SecretEvent::Failed);
        }
        assert_eq!(namespace.backoff_when_failed(), None);
        assert_eq!(namespace.trouble(None), Trouble::default());
    }
}

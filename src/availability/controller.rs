//! The delivery of pull Secrets: one task that owns what is wished for, what is there, and which namespace's turn it is.
//! What is to be done is [`plan`]'s to say; doing it is [`Secrets`]'s.
//!
//! A namespace is worked on by one task at a time, tenants take turns, and nothing is written before all registries and
//! all tenants' namespaces have been listed.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use kube::Client;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};

use super::{
    Availability, Offer, Tally, Told, Verdict,
    audience::Audience,
    deliver::{After, DeliveryError, Secrets},
    follow::{Seen, Sight, follow},
    plan::{Action, Holding, Plan, Scene, Standing, Wish, plan},
    secret::Found,
};
use crate::{
    metrics::{Metrics, SecretWrite},
    queue::{Lane, Limits, Queue},
    streams::Streams,
    subject::Key,
    watch::{Signal, Signals},
};

/// Namespaces that are written to at the same time.
const PLACES: usize = 16;
/// Sights that wait to be taken in; a watch that is faster waits.
const SIGHTS: usize = 256;
/// How often it is looked whether there is something to tell.
const TICK: Duration = Duration::from_millis(200);
/// Counts are told when the work is done, or after this time.
const AT_THE_LATEST: Duration = Duration::from_secs(5);
/// After this time a deleted registry waits for its Secrets no longer: what is left of them is removed when that becomes
/// possible. With the time that a new leader takes to be one, it makes less than half a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// A name that somebody else has is looked at again after this time, and then half as often each time.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LONGEST_LOOK: Duration = Duration::from_mins(1);
/// The first retry after a failure; each further one waits twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(2);
/// More writes than this for each registry within so recent a time are a fight, and made seldom.
const MOST_WRITES: usize = 12;
const RECENT: Duration = Duration::from_mins(1);
const CALM: Duration = Duration::from_secs(15);
/// So many failures in a row are worth a word to the registry's user.
const STUCK: u32 = 3;

/// The delivery, before it runs.
pub struct Delivery {
    client: Client,
    streams: Arc<Streams>,
    availability: Arc<Availability>,
    metrics: Metrics,
    inbox: mpsc::UnboundedReceiver<Told>,
}

impl Delivery {
    pub(super) fn new(
        (client, streams): (Client, Arc<Streams>),
        availability: Arc<Availability>,
        metrics: Metrics,
        inbox: mpsc::UnboundedReceiver<Told>,
    ) -> Self {
        Self { client, streams, availability, metrics, inbox }
    }

    /// Runs until dropped. Everything that it started ends with it.
    pub async fn run(mut self, signals: Signals) {
        let (sights, mut seen) = mpsc::channel(SIGHTS);
        let mut controller = Controller {
            client: self.client,
            streams: self.streams,
            availability: self.availability,
            metrics: self.metrics,
            signals,
            sights,
            offers: HashMap::new(),
            unreadable: HashMap::new(),
            places: HashMap::new(),
            queue: Queue::new(Limits { places: PLACES, at_a_host: PLACES }),
            workers: JoinSet::new(),
            synced: false,
            untold: None,
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            controller.start_workers();
            let due = controller.queue.next_due();
            tokio::select! {
                Some(told) = self.inbox.recv() => controller.heed(told),
                Some(sight) = seen.recv() => controller.saw(sight),
                Some(report) = controller.workers.join_next() => controller.file(report),
                () = crate::queue::until(due) => {}
                _ = tick.tick() => controller.tell(),
            }
        }
    }
}

struct Controller {
    client: Client,
    streams: Arc<Streams>,
    availability: Arc<Availability>,
    metrics: Metrics,
    signals: Signals,
    sights: mpsc::Sender<Sight>,
    offers: HashMap<Key, Offered>,
    /// Registries that can't be read, with their uids.
    unreadable: HashMap<Key, Arc<str>>,
    places: HashMap<Arc<str>, Place>,
    /// Namespaces, by tenant. No registry is asked.
    queue: Queue<Arc<str>, Arc<str>, Infallible>,
    workers: JoinSet<Report>,
    synced: bool,
    /// Since when something may have to be told.
    untold: Option<Instant>,
}

/// A registry that asks for pull Secrets, and its newest verdict; or one whose Secrets are all to go, and since when.
struct Offered {
    offer: Offer,
    verdict: Option<Verdict>,
    clearing: Option<Instant>,
}

/// A namespace.
struct Place {
    belongs: Belongs,
    /// What is there; none until it was listed.
    scene: Option<Scene>,
    watch: Option<AbortHandle>,
    /// Names that somebody else has, and when to look again.
    foreign: HashMap<Arc<str>, Check>,
    standings: Vec<(Key, Standing)>,
    failures: u32,
    /// Writes since a time that is not long ago.
    writes: (usize, Instant),
}

#[derive(Clone, PartialEq)]
enum Belongs {
    /// It is that tenant's.
    To(Arc<str>),
    /// It is nobody's any more, and is being left.
    Left,
}

#[derive(Clone, Copy)]
struct Check {
    at: Instant,
    pause: Duration,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unwatch();
    }
}

/// What a worker does.
enum Step {
    /// Looks what is there.
    Look,
    /// Carries actions out, and looks whose Secrets have these names.
    Work(Vec<Action>, Vec<Arc<str>>),
    /// Leaves the namespace.
    Leave,
}

/// What a worker brings back.
struct Report {
    namespace: Arc<str>,
    news: News,
    error: Option<DeliveryError>,
}

enum News {
    Scene(HashMap<Arc<str>, Found>),
    Names(Vec<(Arc<str>, After)>),
    Gone,
    None,
}

impl Controller {
    fn heed(&mut self, told: Told) {
        match told {
            Told::Offer(offer) => self.offered(*offer),
            Told::Unreadable(key, uid) => {
                self.unreadable.insert(key.clone(), uid);
                self.withdrawn(&key);
            }
            Told::Gone(key) => self.gone(&key),
            Told::Verdict(key, verdict) => self.judged(&key, verdict),
            Told::Namespace(namespace) => self.namespace(&namespace),
            Told::Left(namespace) => self.left(namespace),
            Told::Synced => self.synced = true,
        }
    }

    fn gone(&mut self, key: &Key) {
        if let Some(uid) = self.unreadable.remove(key) {
            self.affected(&uid, &Audience::All);
        }
        self.withdrawn(key);
    }

    fn offered(&mut self, offer: Offer) {
        let key = offer.key.clone();
        if let Some(uid) = self.unreadable.remove(&key) {
            self.affected(&uid, &offer.audience);
        }
        if self.offers.get(&key).is_some_and(|before| before.offer == offer) {
            return;
        }
        // A verdict on a predecessor of the same name is none on this one.
        let before = self.withdrawn(&key).filter(|before| before.offer.uid == offer.uid);
        if offer.is_clearing() {
            let since = before.as_ref().and_then(|before| before.clearing).unwrap_or_else(Instant::now);
            self.insert(offer, None, Some(since));
        } else if offer.name.is_some() {
            self.insert(offer, before.and_then(|before| before.verdict), None);
        }
    }

    fn insert(&mut self, offer: Offer, verdict: Option<Verdict>, clearing: Option<Instant>) {
        let (key, uid, audience) = (offer.key.clone(), offer.uid.clone(), offer.audience.clone());
        self.offers.insert(key, Offered { offer, verdict, clearing });
        self.affected(&uid, &audience);
    }

    fn withdrawn(&mut self, key: &Key) -> Option<Offered> {
        let gone = self.offers.remove(key)?;
        self.affected(&gone.offer.uid, &gone.offer.audience);
        Some(gone)
    }

    fn judged(&mut self, key: &Key, verdict: Verdict) {
        let Some(offered) = self.offers.get_mut(key).filter(|offered| offered.offer.uid == verdict.uid)
        else {
            return;
        };
        let before = offered.holding();
        offered.verdict = Some(verdict);
        if !says_the_same(&before, &offered.holding()) {
            let (uid, audience) = (offered.offer.uid.clone(), offered.offer.audience.clone());
            self.affected(&uid, &audience);
        }
    }

    /// Looks again at the namespaces that such a registry reaches, and at those that have a Secret of its.
    fn affected(&mut self, uid: &Arc<str>, audience: &Audience) {
        let names: Vec<Arc<str>> = self.availability.access.with_census(|census| {
            let affected =
                |place: &Place| place.has(uid) || place.tenant().is_some_and(|t| census.reaches(audience, t));
            self.places.iter().filter(|(_, place)| affected(place)).map(|(name, _)| name.clone()).collect()
        });
        for name in names {
            self.now(&name);
        }
        self.untold.get_or_insert_with(Instant::now);
    }

    fn namespace(&mut self, name: &Arc<str>) {
        let before = self.places.get(name).and_then(|place| place.tenant().cloned());
        let after = self.availability.access.open_tenant(name);
        match &after {
            Some(tenant) => match self.places.get_mut(name).filter(|place| place.tenant().is_some()) {
                Some(place) => place.belongs = Belongs::To(tenant.clone()),
                None => drop(self.places.insert(name.clone(), Place::new(Belongs::To(tenant.clone())))),
            },
            None => self.forget(name),
        }
        self.now(name);
        self.untold.get_or_insert_with(Instant::now);
        if before != after {
            self.changed_hands(name, [before, after]);
        }
    }

    /// The registries in a namespace are for the tenant whose it is.
    fn changed_hands(&mut self, name: &Arc<str>, tenants: [Option<Arc<str>>; 2]) {
        let there = Audience::TenantOf(name.clone());
        if !self.offers.values().any(|offered| offered.offer.audience == there) {
            return;
        }
        let of_them = |place: &Place| {
            place.tenant().is_some_and(|tenant| tenants.iter().flatten().any(|t| t == tenant))
        };
        let names: Vec<Arc<str>> =
            self.places.iter().filter(|(_, place)| of_them(place)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.now(&name);
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.places.remove(name);
        self.queue.forget(name);
    }

    fn left(&mut self, name: Arc<str>) {
        if self.availability.access.open_tenant(&name).is_none() {
            self.places.insert(name.clone(), Place::new(Belongs::Left));
            self.now(&name);
        }
    }

    fn saw(&mut self, Sight { namespace, what }: Sight) {
        let Some(place) = self.places.get_mut(&namespace).filter(|place| place.watch.is_some()) else {
            return;
        };
        self.untold.get_or_insert_with(Instant::now);
        match (what, &mut place.scene) {
            (Seen::Failed, _) => return place.failures = place.failures.saturating_add(1),
            (Seen::Listed(own), scene) => {
                place_listed(scene, own);
                place.failures = 0;
            }
            (Seen::There(name, found), Some(scene)) => scene.there(name, found),
            (Seen::Gone(name, uid), Some(scene)) => scene.gone(&name, &uid),
            (_, None) => {}
        }
        // After a failure its own retry is soon enough: or two that undo each other's work would do so without a pause.
        if place.failures == 0 {
            self.now(&namespace);
        }
    }

    fn now(&mut self, name: &Arc<str>) {
        if let Some(place) = self.places.get(name) {
            let lane = Lane { group: place.group(name), host: None };
            self.queue.now(name, &lane, Instant::now());
        }
    }

    fn start_workers(&mut self) {
        if !self.synced {
            return;
        }
        while let Some((name, _)) = self.queue.next(Instant::now()) {
            match self.step(&name) {
                Some(step) => self.start(name, step),
                None => {
                    let again = self.places.get(&name).and_then(Place::next_check);
                    self.queue.done(&name, Instant::now(), again);
                }
            }
        }
    }

    /// What is to be done in a namespace, if anything.
    fn step(&mut self, name: &Arc<str>) -> Option<Step> {
        let Belongs::To(tenant) = self.places.get(name)?.belongs.clone() else {
            return Some(Step::Leave);
        };
        let wishes = self.wishes(&tenant);
        let follow = || self.follow(name);
        let watch = (!wishes.is_empty() && !self.places.get(name)?.is_watched()).then(follow);
        let place = self.places.get_mut(name)?;
        if let Some(watch) = watch {
            // What was seen without a watch is not vouched for: it lists first.
            place.watch = Some(watch);
            place.scene = None;
        }
        let Some(scene) = &mut place.scene else {
            place.standings = wishes.iter().map(|wish| (wish.registry.clone(), Standing::Away)).collect();
            return wishes.is_empty().then_some(Step::Look);
        };
        scene.foreign = place.foreign.keys().cloned().collect();
        scene.unreadable = self.unreadable.values().cloned().collect();
        let Plan { actions, standings } = plan(&wishes, scene);
        place.standings = standings;
        place.keep_checks(&wishes);
        if wishes.is_empty() && actions.is_empty() {
            place.unwatch();
        }
        let checks = place.due_checks();
        (!actions.is_empty() || !checks.is_empty()).then_some(Step::Work(actions, checks))
    }

    fn wishes(&self, tenant: &Arc<str>) -> Vec<Wish> {
        self.availability.access.with_census(|census| {
            let reached = |offered: &&Offered| census.reaches(&offered.offer.audience, tenant);
            self.offers.values().filter(reached).filter_map(Offered::wish).collect()
        })
    }

    fn follow(&self, name: &Arc<str>) -> AbortHandle {
        let access = self.availability.access.clone();
        let watch = follow(self.streams.clone(), access, name.clone(), self.sights.clone());
        tokio::spawn(watch).abort_handle()
    }

    fn start(&mut self, namespace: Arc<str>, step: Step) {
        let access = self.availability.access.clone();
        let secrets = Secrets::of(self.client.clone(), access, namespace.clone());
        let metrics = self.metrics.clone();
        self.workers.spawn(async move { work(&secrets, namespace, step, &metrics).await });
    }

    fn file(&mut self, report: Result<Report, JoinError>) {
        let Report { namespace, news, error } = match report {
            Ok(report) => report,
            Err(error) => return tracing::error!(%error, "a delivery did not come to its end"),
        };
        self.untold.get_or_insert_with(Instant::now);
        let now = Instant::now();
        if matches!((&news, self.places.get(&namespace)), (News::Gone, Some(place)) if place.belongs == Belongs::Left)
        {
            self.places.remove(&namespace);
        }
        let Some(place) = self.places.get_mut(&namespace) else {
            return self.queue.done(&namespace, now, None);
        };
        let conflict = usize::from(matches!(error, Some(DeliveryError::Conflict)));
        let written = place.learn(news, now) + conflict;
        let failed = place.failed(&namespace, error.as_ref());
        let again = place.calms(&namespace, written, now).or(failed);
        self.queue.done(&namespace, now, again.or(Some(Duration::ZERO)));
    }

    /// Tells what has changed: that a registry's Secrets are gone at once, counts when there is nothing more to be done.
    fn tell(&mut self) {
        self.tell_cleared();
        let Some(since) = self.untold else { return };
        let busy = self.queue.depth() + self.queue.in_flight() > 0;
        if !self.synced || (busy && since.elapsed() < AT_THE_LATEST) {
            return;
        }
        let tallies = self.tallies();
        self.metrics.pull_secrets(tallies.values().map(|tally| tally.there).sum());
        self.availability.count(tallies);
        self.untold = self.signals.try_send(Signal::Available).err().map(|_| since);
    }

    fn tell_cleared(&mut self) {
        let clearing = |offered: &'_ &Offered| offered.clearing.is_some();
        if !self.synced || !self.offers.values().any(|offered| clearing(&offered)) {
            return;
        }
        let unseen = self.places.values().any(Place::is_pending);
        let scenes = self.places.values().filter_map(|place| place.scene.as_ref());
        let there: HashSet<&Arc<str>> =
            scenes.flat_map(|scene| scene.own.values().map(|found| &found.registry)).collect();
        for Offered { offer, clearing, .. } in self.offers.values().filter(clearing) {
            let cleared = !unseen && !there.contains(&offer.uid);
            if !cleared && clearing.is_some_and(|since| since.elapsed() < PATIENCE) {
                continue;
            }
            if self.availability.clear(&offer.uid) && !cleared {
                tracing::warn!(registry = %offer.key, "its pull Secrets could not all be removed in time; the rest follows");
            }
            // Told again with the next tick, if the controller has no ear for it now.
            let _ = self.signals.try_send(Signal::Cleared(offer.key.clone()));
        }
    }

    fn tallies(&self) -> HashMap<Key, Tally> {
        let mut tallies: HashMap<Key, Tally> = HashMap::new();
        for (namespace, place) in &self.places {
            for (key, standing) in &place.standings {
                tallies.entry(key.clone()).or_default().add(namespace, standing, place.failures >= STUCK);
            }
        }
        tallies
    }
}

/// What `own` has that is newer than the list stays.
fn place_listed(scene: &mut Option<Scene>, mut own: HashMap<Arc<str>, Found>) {
    if let Some(before) = scene.take() {
        for (name, known) in before.own {
            if own.get(&name).is_some_and(|listed| known.is_newer_than(listed)) {
                own.insert(name, known);
            }
        }
    }
    *scene = Some(Scene { own, ..Scene::default() });
}

fn says_the_same(one: &Holding, other: &Holding) -> bool {
    match (one, other) {
        (Holding::Nothing, Holding::Nothing) | (Holding::Unknown, Holding::Unknown) => true,
        (Holding::Proven(one), Holding::Proven(other)) => one.fingerprint() == other.fingerprint(),
        _ => false,
    }
}

impl Offered {
    fn wish(&self) -> Option<Wish> {
        Some(Wish {
            registry: self.offer.key.clone(),
            uid: self.offer.uid.clone(),
            created: self.offer.created,
            name: self.offer.name.clone()?,
            holding: self.holding(),
        })
    }

    /// What was proven of an older spec is not known to hold of this one; and a suspended registry stays as it is.
    fn holding(&self) -> Holding {
        match &self.verdict {
            Some(verdict) if verdict.generation == self.offer.generation && !self.offer.suspended => {
                verdict.holding.clone()
            }
            _ => Holding::Unknown,
        }
    }
}

impl Place {
    fn new(belongs: Belongs) -> Self {
        Self {
            belongs,
            scene: None,
            watch: None,
            foreign: HashMap::new(),
            standings: Vec::new(),
            failures: 0,
            writes: (0, Instant::now()),
        }
    }

    fn tenant(&self) -> Option<&Arc<str>> {
        match &self.belongs {
            Belongs::To(tenant) => Some(tenant),
            Belongs::Left => None,
        }
    }

    /// Whether a Secret of that registry is there.
    fn has(&self, uid: &Arc<str>) -> bool {
        self.scene.as_ref().is_some_and(|scene| scene.own.values().any(|found| found.registry == *uid))
    }

    /// Whose turn it takes.
    fn group(&self, name: &Arc<str>) -> Arc<str> {
        self.tenant().unwrap_or(name).clone()
    }

    fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    fn unwatch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }

    /// It was not looked at yet, and nothing says that it can't be.
    fn is_pending(&self) -> bool {
        self.scene.is_none() && self.failures == 0
    }

    /// Forgets names that nobody wants any more.
    fn keep_checks(&mut self, wishes: &[Wish]) {
        self.foreign.retain(|name, _| wishes.iter().any(|wish| wish.name == *name));
    }

    fn due_checks(&self) -> Vec<Arc<str>> {
        let now = Instant::now();
        self.foreign.iter().filter(|(_, check)| check.at <= now).map(|(name, _)| name.clone()).collect()
    }

    fn next_check(&self) -> Option<Duration> {
        let next = self.foreign.values().map(|check| check.at).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes in what a worker found; returns how many Secrets it has written.
    fn learn(&mut self, news: News, now: Instant) -> usize {
        match news {
            News::Scene(own) => self.scene = Some(Scene { own, ..Scene::default() }),
            News::Names(names) => {
                let written = names.iter().filter(|(_, after)| matches!(after, After::Own(_))).count();
                names.into_iter().for_each(|(name, after)| self.learn_of(name, after, now));
                return written;
            }
            News::Gone | News::None => {}
        }
        0
    }

    /// A pause where somebody else keeps undoing what is written.
    fn calms(&mut self, namespace: &str, written: usize, now: Instant) -> Option<Duration> {
        let (before, since) = self.writes;
        self.writes = if now - since > RECENT { (written, now) } else { (before + written, since) };
        if self.writes.0 <= MOST_WRITES * self.standings.len().max(1) {
            return None;
        }
        tracing::warn!(
            namespace,
            "somebody keeps undoing the writes of pull Secrets here; they are repaired seldom"
        );
        self.failures = 1;
        Some(CALM)
    }

    fn learn_of(&mut self, name: Arc<str>, after: After, now: Instant) {
        let before = self.foreign.remove(&name);
        let Some(scene) = &mut self.scene else { return };
        match after {
            After::Own(found) => scene.there(name, found),
            After::Nothing => drop(scene.own.remove(&name)),
            After::Foreign => {
                scene.own.remove(&name);
                let pause = before.map_or(FIRST_LOOK, |check| (check.pause * 2).min(LONGEST_LOOK));
                self.foreign.insert(name, Check { at: now + pause, pause });
            }
        }
    }

    /// Counts failures in a row; says when to try again after one.
    fn failed(&mut self, namespace: &str, error: Option<&DeliveryError>) -> Option<Duration> {
        let Some(error) = error else {
            self.failures = 0;
            return None;
        };
        if matches!(error, DeliveryError::Conflict) {
            return Some(FIRST_RETRY); // at the latest: the watch tells of the change
        }
        self.failures = self.failures.saturating_add(1);
        match error {
            // Its end is told by the watch of namespaces.
            DeliveryError::Closing => {
                tracing::debug!(namespace, "a namespace is being deleted; it gets no pull Secret");
            }
            error => {
                tracing::warn!(namespace, %error, "pull Secrets could not be brought up to date; it is tried again")
            }
        }
        Some(FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(7)).min(LONGEST_RETRY))
    }
}

impl Scene {
    fn there(&mut self, name: Arc<str>, found: Found) {
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

async fn work(secrets: &Secrets, namespace: Arc<str>, step: Step, metrics: &Metrics) -> Report {
    let (news, error) = match step {
        Step::Look => match secrets.own().await {
            Ok(own) => (News::Scene(own.into_iter().collect()), None),
            Err(error) => (News::None, Some(error)),
        },
        Step::Leave => match secrets.leave().await {
            Ok(()) | Err(DeliveryError::Closing) => (News::Gone, None),
            Err(error) => (News::None, Some(error)),
        },
        Step::Work(actions, checks) => {
            let (names, error) = carry_out(secrets, actions, checks, metrics).await;
            (News::Names(names), error)
        }
    };
    Report { namespace, news, error }
}

/// What is known after each that succeeded, and why the first failed that did.
async fn carry_out(
    secrets: &Secrets,
    actions: Vec<Action>,
    checks: Vec<Arc<str>>,
    metrics: &Metrics,
) -> (Vec<(Arc<str>, After)>, Option<DeliveryError>) {
    let (mut names, mut first) = (Vec::new(), None);
    for action in actions {
        let result = secrets.carry_out(&action).await;
        metrics.pull_secret_write(SecretWrite::of(&action), &result);
        match result {
            Ok(after) => names.push((action.name().clone(), after)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    for name in checks {
        match secrets.inspect(&name).await {
            Ok(after) => names.push((name, after)),
            Err(error) => first = first.or(Some(error)),
        }
    }
    (names, first)
}

//! Properties for all desired and observed Secrets.

use std::collections::BTreeSet;

use proptest::prelude::*;
use registry_probe::{Credentials, Endpoint};

use super::*;

const NAMES: [&str; 3] = ["pull", "other", "third"];

/// A tenant's registry, where the test does not care.
const TENANTS: u8 = 1;

fn key(registry: u8) -> RegistryKey {
    let name = format!("r{registry}").into();
    if registry == TENANTS {
        RegistryKey::Tenant { namespace: "team".into(), name }
    } else {
        RegistryKey::System { name }
    }
}

fn uid(registry: u8) -> Arc<str> {
    format!("uid-{registry}").into()
}

fn content(registry: u8, password: u8) -> Arc<PullSecretContent> {
    let credentials = Credentials::basic("demo", format!("p{password}").into()).unwrap();
    let endpoint = Endpoint::parse("https://r.io").unwrap();
    Arc::new(PullSecretContent::new(&key(registry), &uid(registry), &credentials, &endpoint))
}

fn wish(registry: u8, name: &str, holding: DesiredContent) -> DesiredSecret {
    let created = Some(Timestamp::from_second(i64::from(registry / 2)).unwrap());
    DesiredSecret { registry: key(registry), uid: uid(registry), created, name: name.into(), holding }
}

fn proven(registry: u8, name: &str) -> DesiredSecret {
    wish(registry, name, DesiredContent::Proven(content(registry, 0)))
}

fn found(content: &PullSecretContent, version: u64) -> FoundSecret {
    let mut manifest = content.manifest("any", None);
    manifest["metadata"]["uid"] = format!("secret-{version}").into();
    manifest["metadata"]["resourceVersion"] = version.to_string().into();
    FoundSecret::of(&crate::pull_secrets::secret::written(manifest)).unwrap()
}

/// The scene after the actions were carried out as the API server would.
fn after(scene: &ObservedSecrets, actions: &[SecretAction], version: &mut u64) -> ObservedSecrets {
    let mut scene = scene.clone();
    for action in actions {
        *version += 1;
        match action {
            SecretAction::Create { name, content } => {
                assert!(!scene.foreign.contains(name) && !scene.own.contains_key(name), "{name} is there");
                scene.own.insert(name.clone(), found(content, *version));
            }
            SecretAction::Change { name, at, applied: _, content } => {
                let before = &scene.own[name];
                assert_eq!(before.version, *at);
                assert!(before.mendable, "{name} can't be changed");
                let changed = FoundSecret {
                    version: SecretVersion { uid: at.uid.clone(), ..found(content, *version).version },
                    ..found(content, *version)
                };
                scene.own.insert(name.clone(), changed);
            }
            SecretAction::Delete { name, at } => {
                assert_eq!(scene.own[name].version, *at);
                scene.own.remove(name);
            }
        }
    }
    scene
}

fn settled(wishes: &[DesiredSecret], scene: &ObservedSecrets) -> (ObservedSecrets, usize) {
    let (mut scene, mut version, mut rounds) = (scene.clone(), 1000, 0);
    loop {
        let held = scene.held.clone();
        scene.remember(held, wishes);
        let next = plan(wishes, &scene);
        if next.actions.is_empty() {
            return (scene, rounds);
        }
        scene = after(&scene, &next.actions, &mut version);
        rounds += 1;
        assert!(rounds < 5, "it does not come to rest");
    }
}

fn standing(plan: &DeliveryPlan, registry: u8) -> &DeliveryState {
    &plan.standings.iter().find(|(of, _)| *of == key(registry)).unwrap().1
}

#[test]
fn creates_missing_and_keeps_existing_secrets() {
    let wishes = [proven(0, "pull")];
    let first = plan(&wishes, &ObservedSecrets::default());
    assert!(matches!(first.actions.as_slice(), [SecretAction::Create { name, .. }] if &**name == "pull"));
    let scene = after(&ObservedSecrets::default(), &first.actions, &mut 0);
    let second = plan(&wishes, &scene);
    assert!(second.actions.is_empty());
    assert_eq!(standing(&second, 0), &DeliveryState::There);
}

#[test]
fn older_registry_wins_the_name() {
    let wishes = [proven(4, "pull"), proven(0, "pull")];
    let first = plan(&wishes, &ObservedSecrets::default());
    assert!(
        matches!(first.actions.as_slice(), [SecretAction::Create { content, .. }] if content.fingerprint() == self::content(0, 0).fingerprint())
    );
    assert_eq!(standing(&first, 4), &DeliveryState::Yields(key(0)));
}

#[test]
fn lesser_uid_wins_between_equal_ages() {
    let first = plan(&[proven(3, "pull"), proven(2, "pull")], &ObservedSecrets::default());
    assert_eq!(standing(&first, 3), &DeliveryState::Yields(key(2)));
}

#[test]
fn system_scope_wins_over_older_tenant_registry() {
    let wishes = [proven(TENANTS, "pull"), proven(4, "pull")];
    let scene = held_by(TENANTS);
    let taken = plan(&wishes, &scene);
    let [SecretAction::Change { content: new, .. }] = taken.actions.as_slice() else { panic!("{taken:?}") };
    assert_eq!(new.fingerprint(), content(4, 0).fingerprint());
    assert_eq!(standing(&taken, TENANTS), &DeliveryState::Yields(key(4)));
}

#[test]
fn name_moves_only_to_registry_with_content() {
    let scene = held_by(TENANTS);
    for nothing in [DesiredContent::Nothing, DesiredContent::Unknown] {
        let wishes = [proven(TENANTS, "pull"), wish(4, "pull", nothing)];
        let kept = plan(&wishes, &scene);
        assert!(kept.actions.is_empty(), "{kept:?}");
        assert_eq!(
            (standing(&kept, TENANTS), standing(&kept, 4)),
            (&DeliveryState::There, &DeliveryState::Away)
        );
    }
    // And it is kept up to date as long.
    let rotated = wish(TENANTS, "pull", DesiredContent::Proven(content(TENANTS, 1)));
    let kept = plan(&[rotated, wish(4, "pull", DesiredContent::Nothing)], &scene);
    assert!(matches!(kept.actions.as_slice(), [SecretAction::Change { .. }]), "{kept:?}");
    // It is created again after someone deletes it.
    let deleted = ObservedSecrets { own: HashMap::new(), ..scene };
    let again = plan(&[proven(TENANTS, "pull"), wish(4, "pull", DesiredContent::Unknown)], &deleted);
    assert!(matches!(again.actions.as_slice(), [SecretAction::Create { .. }]), "{again:?}");
}

/// That registry's Secret is there.
fn held_by(registry: u8) -> ObservedSecrets {
    let own = [("pull".into(), found(&content(registry, 0), 1))].into();
    ObservedSecrets { own, held: [("pull".into(), uid(registry))].into(), ..ObservedSecrets::default() }
}

#[test]
fn keeps_restored_secret_until_replaced() {
    let before = PullSecretContent::new(
        &key(0),
        "uid-before-the-backup",
        &Credentials::basic("demo", "p9".into()).unwrap(),
        &Endpoint::parse("https://r.io").unwrap(),
    );
    let scene =
        ObservedSecrets { own: [("pull".into(), found(&before, 1))].into(), ..ObservedSecrets::default() };
    let kept = plan(&[wish(0, "pull", DesiredContent::Unknown)], &scene);
    assert!(kept.actions.is_empty(), "{kept:?}");
    assert_eq!(standing(&kept, 0), &DeliveryState::There);
    let taken = plan(&[proven(0, "pull")], &scene);
    assert!(matches!(taken.actions.as_slice(), [SecretAction::Change { .. }]), "{taken:?}");
    let refused = plan(&[wish(0, "pull", DesiredContent::Nothing)], &scene);
    assert!(matches!(refused.actions.as_slice(), [SecretAction::Delete { .. }]), "{refused:?}");
}

#[test]
fn older_registry_keeps_name_without_content() {
    let wishes = [wish(0, "pull", DesiredContent::Nothing), proven(4, "pull")];
    assert!(plan(&wishes, &ObservedSecrets::default()).actions.is_empty());
}

#[test]
fn reports_unmanaged_secret() {
    let scene = ObservedSecrets { foreign: ["pull".into()].into(), ..ObservedSecrets::default() };
    let plan = plan(&[proven(0, "pull")], &scene);
    assert!(plan.actions.is_empty());
    assert_eq!(standing(&plan, 0), &DeliveryState::Foreign);
}

#[test]
fn keeps_secrets_while_state_is_unknown() {
    let unknown = [wish(0, "pull", DesiredContent::Unknown)];
    assert!(plan(&unknown, &ObservedSecrets::default()).actions.is_empty());
    let scene = ObservedSecrets {
        own: [("pull".into(), found(&content(0, 9), 1))].into(),
        ..ObservedSecrets::default()
    };
    let kept = plan(&unknown, &scene);
    assert!(kept.actions.is_empty());
    assert_eq!(standing(&kept, 0), &DeliveryState::There);
    let anothers = ObservedSecrets {
        own: [("pull".into(), found(&content(5, 9), 1))].into(),
        ..ObservedSecrets::default()
    };
    assert!(matches!(plan(&unknown, &anothers).actions.as_slice(), [SecretAction::Delete { .. }]));
}

#[test]
fn keeps_secrets_of_unreadable_registry() {
    let scene = ObservedSecrets {
        own: [("pull".into(), found(&content(5, 9), 1)), ("other".into(), found(&content(5, 9), 2))].into(),
        unreadable: [uid(5)].into(),
        ..ObservedSecrets::default()
    };
    let plan = plan(&[proven(0, "pull")], &scene);
    assert!(plan.actions.is_empty());
    assert_eq!(standing(&plan, 0), &DeliveryState::Foreign);
}

#[test]
fn recreates_immutable_secret() {
    let stuck = FoundSecret { mendable: false, ..found(&content(0, 9), 1) };
    let scene = ObservedSecrets { own: [("pull".into(), stuck)].into(), ..ObservedSecrets::default() };
    let (end, rounds) = settled(&[proven(0, "pull")], &scene);
    assert_eq!(rounds, 2, "deleted, then created");
    assert!(end.own["pull"].says(&content(0, 0)));
}

fn holding(registry: u8) -> impl Strategy<Value = DesiredContent> {
    prop_oneof![
        Just(DesiredContent::Nothing),
        Just(DesiredContent::Unknown),
        (0u8..3).prop_map(move |password| DesiredContent::Proven(content(registry, password))),
    ]
}

fn wishes() -> impl Strategy<Value = Vec<DesiredSecret>> {
    let one = |registry: u8| {
        (proptest::option::of(0..NAMES.len()), holding(registry))
            .prop_map(move |(name, holding)| name.map(|name| wish(registry, NAMES[name], holding)))
    };
    [one(0), one(1), one(2), one(3)].prop_map(|wishes| wishes.into_iter().flatten().collect())
}

/// For each name: no Secret, one of the operator's (any registry, any content, changeable or not), or a foreign one.
fn scenes() -> impl Strategy<Value = ObservedSecrets> {
    let own = (0u8..6, 0u8..3, any::<bool>(), any::<bool>());
    let one = proptest::option::of(prop_oneof![own.prop_map(Some), Just(None)]);
    [one.clone(), one.clone(), one].prop_map(|states| {
        let mut scene = ObservedSecrets::default();
        for (name, state) in NAMES.into_iter().zip(states) {
            match state {
                Some(Some((registry, password, mendable, fits))) => {
                    let found = found(&content(registry, password), u64::from(password) + 1);
                    scene.own.insert(name.into(), FoundSecret { mendable: mendable && fits, fits, ..found });
                }
                Some(None) => drop(scene.foreign.insert(name.into())),
                None => {}
            }
        }
        scene
    })
}

proptest! {
    /// `after` asserts that each action is about the operator's own Secret in the state that was seen, or a free name.
    #[test]
    fn converges_without_touching_unmanaged_secrets(wishes in wishes(), scene in scenes()) {
        let (end, _) = settled(&wishes, &scene);
        prop_assert_eq!(&end.foreign, &scene.foreign);
    }

    #[test]
    fn plan_writes_each_secret_at_most_once(wishes in wishes(), scene in scenes()) {
        let plan = plan(&wishes, &scene);
        let names: BTreeSet<_> = plan.actions.iter().map(|action| action.name().clone()).collect();
        prop_assert_eq!(names.len(), plan.actions.len());
        prop_assert_eq!(plan.standings.len(), wishes.len());
    }

    #[test]
    fn converges_to_content_of_name_holders(
        wishes in wishes(), scene in scenes(),
    ) {
        let (end, _) = settled(&wishes, &scene);
        for name in NAMES.map(Arc::<str>::from) {
            let claims = || wishes.iter().filter(|wish| wish.name == name);
            let incumbent = scene.own.get(&name).and_then(|found| claims().find(|wish| wish.uid == found.registry));
            let first = claims().min_by_key(|wish| wish.rank());
            let first_has_nothing = first.is_some_and(|first| !matches!(first.holding, DesiredContent::Proven(_)));
            let holder = incumbent.filter(|_| first_has_nothing).or(first);
            let there = end.own.get(&name);
            match holder.map(|wish| (&wish.holding, wish)) {
                None | Some((DesiredContent::Nothing, _)) => prop_assert!(there.is_none()),
                Some((DesiredContent::Unknown, wish)) => {
                    let before = scene.own.get(&name).filter(|found| found.registry == wish.uid);
                    prop_assert_eq!(there, before, "as it was");
                }
                Some((DesiredContent::Proven(_), _)) if scene.foreign.contains(&name) => prop_assert!(there.is_none()),
                Some((DesiredContent::Proven(content), _)) => prop_assert!(there.is_some_and(|there| there.says(content))),
            }
        }
    }
}

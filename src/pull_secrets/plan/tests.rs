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

fn secret(registry: u8, name: &str, content: DesiredContent) -> DesiredSecret {
    let created = Some(Timestamp::from_second(i64::from(registry / 2)).unwrap());
    DesiredSecret { registry: key(registry), uid: uid(registry), created, name: name.into(), content }
}

fn proven(registry: u8, name: &str) -> DesiredSecret {
    secret(registry, name, DesiredContent::Proven(content(registry, 0)))
}

fn found(content: &PullSecretContent, version: u64) -> FoundSecret {
    let mut manifest = content.manifest("any", None);
    manifest["metadata"]["uid"] = format!("secret-{version}").into();
    manifest["metadata"]["resourceVersion"] = version.to_string().into();
    FoundSecret::of(&crate::pull_secrets::secret::written(manifest)).unwrap()
}

/// The observed after the actions were carried out as the API server would.
fn after(observed: &ObservedSecrets, actions: &[SecretAction], version: &mut u64) -> ObservedSecrets {
    let mut observed = observed.clone();
    for action in actions {
        *version += 1;
        match action {
            SecretAction::Create { name, content } => {
                assert!(
                    !observed.foreign.contains(name) && !observed.own.contains_key(name),
                    "{name} is there"
                );
                observed.own.insert(name.clone(), found(content, *version));
            }
            SecretAction::Change { name, at, applied: _, content } => {
                let before = &observed.own[name];
                assert_eq!(before.version, *at);
                assert!(before.mendable, "{name} can't be changed");
                let changed = FoundSecret {
                    version: SecretVersion { uid: at.uid.clone(), ..found(content, *version).version },
                    ..found(content, *version)
                };
                observed.own.insert(name.clone(), changed);
            }
            SecretAction::Delete { name, at } => {
                assert_eq!(observed.own[name].version, *at);
                observed.own.remove(name);
            }
        }
    }
    observed
}

fn settled(desired: &[DesiredSecret], observed: &ObservedSecrets) -> (ObservedSecrets, usize) {
    let (mut observed, mut version, mut rounds) = (observed.clone(), 1000, 0);
    loop {
        let last_owners = observed.last_owners.clone();
        observed.remember(last_owners, desired);
        let next = plan(desired, &observed);
        if next.actions.is_empty() {
            return (observed, rounds);
        }
        observed = after(&observed, &next.actions, &mut version);
        rounds += 1;
        assert!(rounds < 5, "it does not come to rest");
    }
}

fn state(plan: &DeliveryPlan, registry: u8) -> &DeliveryState {
    &plan.states.iter().find(|(of, _)| *of == key(registry)).unwrap().1
}

#[test]
fn creates_missing_and_keeps_existing_secrets() {
    let desired = [proven(0, "pull")];
    let first = plan(&desired, &ObservedSecrets::default());
    assert!(matches!(first.actions.as_slice(), [SecretAction::Create { name, .. }] if &**name == "pull"));
    let observed = after(&ObservedSecrets::default(), &first.actions, &mut 0);
    let second = plan(&desired, &observed);
    assert!(second.actions.is_empty());
    assert_eq!(state(&second, 0), &DeliveryState::There);
}

#[test]
fn older_registry_wins_the_name() {
    let desired = [proven(4, "pull"), proven(0, "pull")];
    let first = plan(&desired, &ObservedSecrets::default());
    assert!(
        matches!(first.actions.as_slice(), [SecretAction::Create { content, .. }] if content.fingerprint() == self::content(0, 0).fingerprint())
    );
    assert_eq!(state(&first, 4), &DeliveryState::Yields(key(0)));
}

#[test]
fn lesser_uid_wins_between_equal_ages() {
    let first = plan(&[proven(3, "pull"), proven(2, "pull")], &ObservedSecrets::default());
    assert_eq!(state(&first, 3), &DeliveryState::Yields(key(2)));
}

#[test]
fn system_scope_wins_over_older_tenant_registry() {
    let desired = [proven(TENANTS, "pull"), proven(4, "pull")];
    let observed = held_by(TENANTS);
    let taken = plan(&desired, &observed);
    let [SecretAction::Change { content: new, .. }] = taken.actions.as_slice() else { panic!("{taken:?}") };
    assert_eq!(new.fingerprint(), content(4, 0).fingerprint());
    assert_eq!(state(&taken, TENANTS), &DeliveryState::Yields(key(4)));
}

#[test]
fn name_moves_only_to_registry_with_content() {
    let observed = held_by(TENANTS);
    for nothing in [DesiredContent::Nothing, DesiredContent::Unknown] {
        let desired = [proven(TENANTS, "pull"), secret(4, "pull", nothing)];
        let kept = plan(&desired, &observed);
        assert!(kept.actions.is_empty(), "{kept:?}");
        assert_eq!((state(&kept, TENANTS), state(&kept, 4)), (&DeliveryState::There, &DeliveryState::Away));
    }
    // And it is kept up to date as long.
    let rotated = secret(TENANTS, "pull", DesiredContent::Proven(content(TENANTS, 1)));
    let kept = plan(&[rotated, secret(4, "pull", DesiredContent::Nothing)], &observed);
    assert!(matches!(kept.actions.as_slice(), [SecretAction::Change { .. }]), "{kept:?}");
    // It is created again after someone deletes it.
    let deleted = ObservedSecrets { own: HashMap::new(), ..observed };
    let again = plan(&[proven(TENANTS, "pull"), secret(4, "pull", DesiredContent::Unknown)], &deleted);
    assert!(matches!(again.actions.as_slice(), [SecretAction::Create { .. }]), "{again:?}");
}

/// That registry's Secret is there.
fn held_by(registry: u8) -> ObservedSecrets {
    let own = [("pull".into(), found(&content(registry, 0), 1))].into();
    ObservedSecrets {
        own,
        last_owners: [("pull".into(), uid(registry))].into(),
        ..ObservedSecrets::default()
    }
}

#[test]
fn keeps_restored_secret_until_replaced() {
    let before = PullSecretContent::new(
        &key(0),
        "uid-before-the-backup",
        &Credentials::basic("demo", "p9".into()).unwrap(),
        &Endpoint::parse("https://r.io").unwrap(),
    );
    let observed =
        ObservedSecrets { own: [("pull".into(), found(&before, 1))].into(), ..ObservedSecrets::default() };
    let kept = plan(&[secret(0, "pull", DesiredContent::Unknown)], &observed);
    assert!(kept.actions.is_empty(), "{kept:?}");
    assert_eq!(state(&kept, 0), &DeliveryState::There);
    let taken = plan(&[proven(0, "pull")], &observed);
    assert!(matches!(taken.actions.as_slice(), [SecretAction::Change { .. }]), "{taken:?}");
    let refused = plan(&[secret(0, "pull", DesiredContent::Nothing)], &observed);
    assert!(matches!(refused.actions.as_slice(), [SecretAction::Delete { .. }]), "{refused:?}");
}

#[test]
fn older_registry_keeps_name_without_content() {
    let desired = [secret(0, "pull", DesiredContent::Nothing), proven(4, "pull")];
    assert!(plan(&desired, &ObservedSecrets::default()).actions.is_empty());
}

#[test]
fn reports_unmanaged_secret() {
    let observed = ObservedSecrets { foreign: ["pull".into()].into(), ..ObservedSecrets::default() };
    let plan = plan(&[proven(0, "pull")], &observed);
    assert!(plan.actions.is_empty());
    assert_eq!(state(&plan, 0), &DeliveryState::Foreign);
}

#[test]
fn keeps_secrets_while_state_is_unknown() {
    let unknown = [secret(0, "pull", DesiredContent::Unknown)];
    assert!(plan(&unknown, &ObservedSecrets::default()).actions.is_empty());
    let observed = ObservedSecrets {
        own: [("pull".into(), found(&content(0, 9), 1))].into(),
        ..ObservedSecrets::default()
    };
    let kept = plan(&unknown, &observed);
    assert!(kept.actions.is_empty());
    assert_eq!(state(&kept, 0), &DeliveryState::There);
    let anothers = ObservedSecrets {
        own: [("pull".into(), found(&content(5, 9), 1))].into(),
        ..ObservedSecrets::default()
    };
    assert!(matches!(plan(&unknown, &anothers).actions.as_slice(), [SecretAction::Delete { .. }]));
}

#[test]
fn keeps_secrets_of_unreadable_registry() {
    let observed = ObservedSecrets {
        own: [("pull".into(), found(&content(5, 9), 1)), ("other".into(), found(&content(5, 9), 2))].into(),
        unreadable: [uid(5)].into(),
        ..ObservedSecrets::default()
    };
    let plan = plan(&[proven(0, "pull")], &observed);
    assert!(plan.actions.is_empty());
    assert_eq!(state(&plan, 0), &DeliveryState::Foreign);
}

#[test]
fn recreates_immutable_secret() {
    let stuck = FoundSecret { mendable: false, ..found(&content(0, 9), 1) };
    let observed = ObservedSecrets { own: [("pull".into(), stuck)].into(), ..ObservedSecrets::default() };
    let (end, rounds) = settled(&[proven(0, "pull")], &observed);
    assert_eq!(rounds, 2, "deleted, then created");
    assert!(end.own["pull"].says(&content(0, 0)));
}

fn any_content(registry: u8) -> impl Strategy<Value = DesiredContent> {
    prop_oneof![
        Just(DesiredContent::Nothing),
        Just(DesiredContent::Unknown),
        (0u8..3).prop_map(move |password| DesiredContent::Proven(content(registry, password))),
    ]
}

fn desired() -> impl Strategy<Value = Vec<DesiredSecret>> {
    let one = |registry: u8| {
        (proptest::option::of(0..NAMES.len()), any_content(registry))
            .prop_map(move |(name, content)| name.map(|name| secret(registry, NAMES[name], content)))
    };
    [one(0), one(1), one(2), one(3)].prop_map(|desired| desired.into_iter().flatten().collect())
}

/// For each name: no Secret, one of the operator's (any registry, any content, changeable or not), or a foreign one.
fn observations() -> impl Strategy<Value = ObservedSecrets> {
    let own = (0u8..6, 0u8..3, any::<bool>(), any::<bool>());
    let one = proptest::option::of(prop_oneof![own.prop_map(Some), Just(None)]);
    [one.clone(), one.clone(), one].prop_map(|states| {
        let mut observed = ObservedSecrets::default();
        for (name, state) in NAMES.into_iter().zip(states) {
            match state {
                Some(Some((registry, password, mendable, fits))) => {
                    let found = found(&content(registry, password), u64::from(password) + 1);
                    observed
                        .own
                        .insert(name.into(), FoundSecret { mendable: mendable && fits, fits, ..found });
                }
                Some(None) => drop(observed.foreign.insert(name.into())),
                None => {}
            }
        }
        observed
    })
}

proptest! {
    /// `after` asserts that each action is about the operator's own Secret in the state that was seen, or a free name.
    #[test]
    fn converges_without_touching_unmanaged_secrets(desired in desired(), observed in observations()) {
        let (end, _) = settled(&desired, &observed);
        prop_assert_eq!(&end.foreign, &observed.foreign);
    }

    #[test]
    fn plan_writes_each_secret_at_most_once(desired in desired(), observed in observations()) {
        let plan = plan(&desired, &observed);
        let names: BTreeSet<_> = plan.actions.iter().map(|action| action.name().clone()).collect();
        prop_assert_eq!(names.len(), plan.actions.len());
        prop_assert_eq!(plan.states.len(), desired.len());
    }

    #[test]
    fn converges_to_content_of_name_holders(
        desired in desired(), observed in observations(),
    ) {
        let (end, _) = settled(&desired, &observed);
        for name in NAMES.map(Arc::<str>::from) {
            let claims = || desired.iter().filter(|secret| secret.name == name);
            let incumbent = observed.own.get(&name).and_then(|found| claims().find(|secret| secret.uid == found.registry));
            let first = claims().min_by_key(|secret| secret.rank());
            let first_has_nothing = first.is_some_and(|first| !matches!(first.content, DesiredContent::Proven(_)));
            let holder = incumbent.filter(|_| first_has_nothing).or(first);
            let there = end.own.get(&name);
            match holder.map(|secret| (&secret.content, secret)) {
                None | Some((DesiredContent::Nothing, _)) => prop_assert!(there.is_none()),
                Some((DesiredContent::Unknown, secret)) => {
                    let before = observed.own.get(&name).filter(|found| found.registry == secret.uid);
                    prop_assert_eq!(there, before, "as it was");
                }
                Some((DesiredContent::Proven(_), _)) if observed.foreign.contains(&name) => prop_assert!(there.is_none()),
                Some((DesiredContent::Proven(content), _)) => prop_assert!(there.is_some_and(|there| there.says(content))),
            }
        }
    }
}

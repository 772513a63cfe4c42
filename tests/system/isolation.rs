//! Isolation of tenants with different credentials at one registry host at the same time: no verdict, token,
//! connection or Event is shared.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::try_join_all;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use registry_testbed::eventually;
use serde_json::{Value, json};

use crate::{
    fixtures::{
        Answer, Declared, Marker, ReceivedRequest, ScriptedServer, TestScope, VALIDATED, Verdict, View,
        answer,
    },
    harness,
};

const ROUNDS: usize = 6;
/// Rejected credentials are tried three times a minute at most, the first time included.
const ROUNDS_OF_THE_REJECTED: usize = 2;

/// A tenant with an account at the registry, or with invalid credentials for it.
struct Party {
    user: &'static str,
    password: &'static str,
    verdict: Verdict,
}

/// The verdict on a wrong password.
const REJECTED: Verdict = Verdict::refused("False/Rejected").in_the_clear();
/// The verdict on a right password.
const ACCEPTED: Verdict = VALIDATED.in_the_clear();

impl Party {
    /// How often its registry is asked for a validation.
    fn rounds(&self) -> usize {
        if matches!(self.verdict.marker, Marker::None) { ROUNDS } else { ROUNDS_OF_THE_REJECTED }
    }
}

const PARTIES: [Party; 4] = [
    Party { user: "alice", password: "of-alice", verdict: ACCEPTED },
    Party { user: "bob", password: "of-alice", verdict: REJECTED },
    Party { user: "carol", password: "of-carol", verdict: ACCEPTED },
    // The right password, but another's name.
    Party { user: "dave", password: "of-carol", verdict: REJECTED },
];

/// A registry with a token service of its own, and a moment of thought, so that validations overlap.
async fn registry() -> Result<ScriptedServer> {
    ScriptedServer::start(|asked| (Duration::from_millis(30), reply(asked))).await
}

fn reply(asked: &ReceivedRequest) -> Answer {
    let host = asked.header(http::header::HOST).unwrap_or_default();
    let realm = format!("Bearer realm=\"http://{host}/token\",service=\"played\"");
    let headers = [("Docker-Distribution-Api-Version", "registry/2.0"), ("WWW-Authenticate", &*realm)];
    let refused = || answer(401, &headers, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
    match (&*asked.path, speaker(asked)) {
        ("/token", Some(RequestUser::Password(user, password))) if password == format!("of-{user}") => {
            answer(200, &[], format!(r#"{{"token":"opened-by-{user}"}}"#))
        }
        ("/token", _) => answer(401, &[], "{}"),
        (_, Some(RequestUser::Token(_))) => answer(200, &headers[..1], "{}"),
        _ => refused(),
    }
}

/// The user that a request names.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum RequestUser {
    Password(String, String),
    /// The user that it was given to.
    Token(String),
}

impl RequestUser {
    fn user(&self) -> &str {
        match self {
            Self::Password(user, _) | Self::Token(user) => user,
        }
    }
}

fn speaker(asked: &ReceivedRequest) -> Option<RequestUser> {
    let header = asked.authorization()?;
    if let Some(token) = header.strip_prefix("Bearer opened-by-") {
        return Some(RequestUser::Token(token.to_owned()));
    }
    let pair = BASE64_STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(RequestUser::Password(user.to_owned(), password.to_owned()))
}

/// Sets up a party in its own namespace; all parties use the same names for registry and Secret.
async fn move_in(scene: &TestScope<'_>, party: &Party, registry: &ScriptedServer) -> Result<Declared> {
    let login = scene.login("login", party.user, party.password).await?;
    let auth = json!({"basic": {"secretRef": {"name": login}}});
    scene.declare("packs", json!({"endpoint": registry.url(), "auth": auth})).await
}

#[tokio::test]
async fn fault_27_tenants_at_one_host_at_once() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = registry().await?;
    let mut scenes = Vec::new();
    for party in &PARTIES {
        let tenant = format!("team-{}", party.user);
        scenes.push(TestScope::inside(&cluster, cluster.tenant_namespace(&tenant, &tenant).await?));
    }
    let moving = scenes.iter().zip(&PARTIES).map(|(scene, party)| move_in(scene, party, &registry));
    let objects = try_join_all(moving).await?;
    let verdicts = |round: usize| {
        let verdicts = objects.iter().zip(&PARTIES).map(move |(object, party)| async move {
            if round < party.rounds() {
                object.request(&round.to_string()).await?;
                object.has_handled(&round.to_string()).await?;
            }
            object.shows(&party.verdict).await
        });
        try_join_all(verdicts)
    };
    let mut views = verdicts(0).await?;
    for round in 1..ROUNDS {
        views = verdicts(round).await?;
    }

    let asked = registry.requests();
    no_connection_has_two_speakers(&asked)?;
    each_has_asked_for_himself(&asked)?;
    for ((scene, view), party) in scenes.iter().zip(&views).zip(&PARTIES) {
        no_event_is_anothers(&cluster, scene, view, party).await?;
    }
    Ok(())
}

/// Over one connection one user has signed in, with one password, and no token was shown but his own.
fn no_connection_has_two_speakers(asked: &[ReceivedRequest]) -> Result<()> {
    let mut users: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut tokens = 0;
    for (connection, speaker) in asked.iter().filter_map(|asked| Some((asked.connection, speaker(asked)?))) {
        tokens += usize::from(matches!(speaker, RequestUser::Token(_)));
        users.entry(connection).or_default().insert(speaker.user().to_owned());
    }
    ensure!(tokens >= 2 * ROUNDS, "{tokens} requests with a token");
    let mixed: Vec<_> = users.iter().filter(|(_, users)| users.len() > 1).collect();
    ensure!(mixed.is_empty(), "several users over one connection: {mixed:?}");
    ensure!(users.len() >= PARTIES.len() + 2 * (ROUNDS - 1), "{} connections were signed in on", users.len());
    Ok(())
}

/// Each password came with its own name, and who was let in asked again every time: no verdict was another's.
fn each_has_asked_for_himself(asked: &[ReceivedRequest]) -> Result<()> {
    let said: Vec<RequestUser> = asked.iter().filter_map(speaker).collect();
    for party in &PARTIES {
        let own = RequestUser::Password(party.user.to_owned(), party.password.to_owned());
        let times = said.iter().filter(|speaker| **speaker == own).count();
        let rounds = party.rounds();
        ensure!(times >= rounds, "{} asked {times} times in {rounds} rounds", party.user);
    }
    let known = |speaker: &&RequestUser| match speaker {
        RequestUser::Password(user, password) => {
            PARTIES.iter().any(|party| party.user == user && party.password == password)
        }
        RequestUser::Token(user) => {
            PARTIES.iter().any(|party| party.user == user && matches!(party.verdict.marker, Marker::None))
        }
    };
    let strangers: Vec<_> = said.iter().filter(|speaker| !known(speaker)).collect();
    ensure!(strangers.is_empty(), "nobody has these: {strangers:?}");
    Ok(())
}

/// A tenant's namespace has the Events of its own registry, with its own verdict, and no others.
async fn no_event_is_anothers(
    cluster: &harness::Cluster,
    scene: &TestScope<'_>,
    view: &View,
    party: &Party,
) -> Result<()> {
    let events: Api<Event> = Api::namespaced(cluster.client(), scene.namespace());
    let all = || async {
        let found = events.list(&ListParams::default()).await?.items;
        ensure!(!found.is_empty(), "no Event of {}", party.user);
        Ok(found)
    };
    let reason = party.verdict.ready.split('/').next_back();
    let found = eventually("the Event of the verdict", all).await?;
    ensure!(found.len() == 1, "one verdict, one Event: {found:#?}");
    for event in found {
        let regarding = event.regarding.clone().context("an Event that regards nothing")?;
        ensure!(regarding.uid == view.metadata.uid && event.reason.as_deref() == reason, "{event:?}");
        let note = event.note.unwrap_or_default();
        let mut others = PARTIES.iter().filter(|other| other.user != party.user);
        ensure!(!others.any(|other| note.contains(other.user)), "{note}");
    }
    Ok(())
}

#[tokio::test]
async fn login_of_one_tenant_does_not_help_another() -> Result<()> {
    let cluster = harness::cluster_with_operator().await?;
    let registry = registry().await?;
    let inside = |tenant: &'static str| {
        let cluster = &cluster;
        async move { anyhow::Ok(TestScope::inside(cluster, cluster.tenant_namespace(tenant, tenant).await?)) }
    };
    let (one, other) = (inside("one").await?, inside("other").await?);
    let neighbour = move_in(&one, &PARTIES[0], &registry).await?;
    neighbour.shows(&ACCEPTED).await?;

    let open = other.declare("packs", json!({"endpoint": registry.url()})).await?;
    open.shows(&Verdict::refused("False/Required").in_the_clear()).await?;
    let named = json!({"basic": {"secretRef": {"name": one.named("login")}}});
    open.change(json!({"spec": {"auth": named}})).await?;
    open.becomes(&["ResolvedRefs=False/SecretNotFound", "CredentialsValidated=Unknown/NotAttempted"]).await?;
    other.login("login", "alice", "guessed").await?;
    open.shows(&REJECTED).await?;

    neighbour.request("again").await?;
    neighbour.has_handled("again").await?;
    neighbour.shows(&ACCEPTED).await?;
    neighbour.change(json!({"spec": {"auth": Value::Null}})).await?;
    neighbour.shows(&Verdict::refused("False/Required").in_the_clear()).await?;
    Ok(())
}

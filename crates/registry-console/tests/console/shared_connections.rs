//! All users of tokens share the console's connections to the API server. Two of them, at once, on the same connections: each sees what
//! is theirs, and the API server knows whose request each is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use registry_testbed::{AuditLog, eventually};
use serde_json::Value;

use crate::{
    bed::{self, Cluster},
    cluster_bed::{Account, ClusterConsole, Visitor},
    relay::Relay,
};

/// How often each visitor opens both tables.
const ROUNDS: usize = 10;
/// How many visitors a user has at once: as many as browsers and programs.
const VISITORS: usize = 3;

/// A user with a tenant of their own, named as the namespace is.
struct Tenant {
    account: Account,
    name: String,
    registry: String,
}

impl Tenant {
    async fn of(cluster: &Cluster, name: &str) -> Result<Self> {
        let (name, registry) = (Cluster::unique(name), Cluster::unique("registry"));
        let account = Account::member(cluster, &name, &name).await?;
        cluster
            .apply(&format!(
                "{{apiVersion: registry.spectrocloud.com/v1alpha1, kind: TenantRegistry, \
                 metadata: {{name: {registry}, namespace: {name}}}, spec: {{endpoint: 'https://127.0.0.1:1'}}}}"
            ))
            .await?;
        Ok(Self { account, name, registry })
    }

    fn table(&self) -> String {
        format!("/tenants/{0}/registries?namespace={0}", self.name)
    }

    /// Half of them by a session, half by the header of a proxy.
    async fn visitors<'a>(&self, console: &'a ClusterConsole) -> Result<Vec<Visitor<'a>>> {
        let mut visitors = Vec::new();
        for _ in 0..VISITORS {
            visitors.push(console.signed_in(&self.account.token).await?);
            let mut by_header = console.visitor();
            by_header.token.clone_from(&self.account.token);
            visitors.push(by_header);
        }
        Ok(visitors)
    }

    /// Opens this user's table and another's.
    async fn looks(&self, visitor: &Visitor<'_>, other: &Self) -> Result<()> {
        let (own, others) = (visitor.get(&self.table()).await?, visitor.get(&other.table()).await?);
        for page in [&own, &others] {
            let who = page.has(&format!("Signed in as <b>{}</b>", self.account.user()));
            ensure!(who && !page.has(&other.account.user()) && !page.has(&other.registry), "{page:#?}");
        }
        ensure!(own.status == 200 && own.has(&format!("<bdi>{}</bdi>", self.registry)), "{own:#?}");
        ensure!(!others.has(&self.registry) && others.has("is forbidden"), "{others:#?}");
        Ok(())
    }

    async fn looks_often(&self, visitor: &Visitor<'_>, other: &Self) -> Result<()> {
        for _ in 0..ROUNDS {
            self.looks(visitor, other).await?;
        }
        Ok(())
    }
}

/// How often a connection's next request is another user's.
fn turns(connections: &[Vec<(String, String)>]) -> usize {
    let of_one =
        |requests: &Vec<(String, String)>| requests.windows(2).filter(|two| two[0].0 != two[1].0).count();
    connections.iter().map(of_one).sum()
}

type CountedRequests = BTreeMap<(String, String), usize>;

fn counted(requests: impl IntoIterator<Item = (String, String)>) -> CountedRequests {
    requests.into_iter().fold(CountedRequests::new(), |mut counts, request| {
        *counts.entry(request).or_default() += 1;
        counts
    })
}

/// Each request that the API server has answered is of the user whose token the console sent with it.
async fn answered_as_sent(log: &AuditLog, users: &[String], sent: &CountedRequests) -> Result<()> {
    let is_known = || async {
        let requests = log.events()?.into_iter().map(|event| (event.user, event.request_uri));
        let answered = counted(requests.filter(|(user, _)| users.contains(user)));
        ensure!(answered == *sent, "the API server: {answered:#?}, the console: {sent:#?}");
        anyhow::Ok(())
    };
    Ok(eventually("each request is of the user of its token", is_known).await?)
}

/// Each SelfSubjectReview names who asked for it, and each user asked that often.
fn reviews_name_who_asks(audit: &str, users: &[String], least: usize) -> Result<()> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in audit.lines().filter(|line| line.contains("/selfsubjectreviews")) {
        let event: Value = serde_json::from_str(line)?;
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let asking = text("/user/username");
        ensure!(text("/responseObject/status/userInfo/username") == asking, "{event:#}");
        *counts.entry(asking).or_default() += 1;
    }
    for user in users {
        ensure!(counts.get(user).is_some_and(|count| *count >= least), "{user}: {counts:?}");
    }
    Ok(())
}

/// Each tenant's registries were listed, and by nobody else.
fn lists_went_to_their_owners(log: &AuditLog, tenants: &[Tenant; 2]) -> Result<()> {
    let events = log.events()?;
    for tenant in tenants {
        let lists = events.iter().filter(|event| event.namespace == tenant.name && event.verb == "list");
        let given: BTreeSet<&str> =
            lists.filter(|list| list.succeeded()).map(|list| list.user.as_str()).collect();
        ensure!(given == BTreeSet::from([tenant.account.user().as_str()]), "{}: {given:?}", tenant.name);
    }
    Ok(())
}

#[tokio::test]
async fn users_on_the_same_connections_stay_apart() -> Result<()> {
    let control_plane = Box::leak(Box::new(bed::start_audited().await?));
    let cluster = Cluster::of(control_plane).await?;
    let relay = Relay::start(&cluster).await?;
    let console = ClusterConsole::by_way_of(&cluster, &relay.url).await?;
    let tenants = [Tenant::of(&cluster, "ann").await?, Tenant::of(&cluster, "bob").await?];
    let [ann, bob] = &tenants;
    let [anns, bobs] = [ann.visitors(&console).await?, bob.visitors(&console).await?];
    let may = || async { ann.looks(&anns[0], bob).await.and(bob.looks(&bobs[0], ann).await) };
    eventually("the roles are in force", may).await?;
    let many = anns.iter().zip(&bobs).map(|(by_ann, by_bob)| async {
        tokio::try_join!(ann.looks_often(by_ann, bob), bob.looks_often(by_bob, ann))
    });
    try_join_all(many).await?;

    let connections = relay.requests()?;
    let users = tenants.each_ref().map(|tenant| tenant.account.user());
    let of_users = |(token, path): &(String, String)| {
        let tenant = tenants.iter().find(|tenant| tenant.account.token == *token)?;
        Some((tenant.account.user(), path.clone()))
    };
    let sent = counted(connections.iter().flatten().filter_map(of_users));
    // Of each visitor, two tables a round.
    let pages = tenants.len() * anns.len() * ROUNDS * 2;
    ensure!(sent.values().sum::<usize>() > 2 * pages, "{pages} pages: {sent:#?}");
    // There are about as many connections as visitors, so that each has many requests of either user.
    let turns = turns(&connections);
    ensure!(turns > pages / 4, "{turns} turns in {} connections, {pages} pages", connections.len());
    let log = control_plane.audit()?;
    answered_as_sent(&log, &users, &sent).await?;
    reviews_name_who_asks(&log.text()?, &users, pages / 2)?;
    lists_went_to_their_owners(&log, &tenants)
}

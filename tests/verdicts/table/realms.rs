//! Token services that may get the credentials: the registry's own site, a known pair, the administrator's
//! list. All others get no credentials.

use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, Row, row};
use crate::scripts::{Caller, issues, scoped, strict, takes_tokens, token};
use crate::spec::{Spec, identity, right, spec};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const UNTRUSTED: &str =
    "+Resolved +Reachable +Verified -UntrustedTokenService . = -UntrustedTokenService stalled";

pub fn rows() -> Vec<Row> {
    [sites(), lists(), urls()].concat()
}

/// A registry and a token service by these names.
fn pair(registry: &'static str, auth: &'static str) -> Vec<Host> {
    vec![
        host("registry", takes_tokens("Bearer realm=\"{auth}/token\"")).named(registry),
        host("auth", issues(strict)).named(auth),
    ]
}

fn trusted(name: &'static str, hosts: Vec<Host>, spec: Spec) -> Row {
    row(name, hosts, spec, AUTH, VALIDATED)
}

fn untrusted(name: &'static str, hosts: Vec<Host>, spec: Spec) -> Row {
    row(name, hosts, spec, NOWHERE, UNTRUSTED)
        .message_contains("CredentialsValidated", "{auth.host}:{auth.port}")
}

fn sites() -> Vec<Row> {
    vec![
        trusted("a sister of the registry's host", pair("registry.example.com", "auth.example.com"), right()),
        trusted("Docker Hub", pair("registry-1.docker.io", "auth.docker.io"), right()),
        trusted("GitLab", pair("registry.gitlab.com", "gitlab.com"), right()),
        trusted("LinuxServer in front of GitHub", pair("lscr.io", "ghcr.io"), right()),
        untrusted("GitHub in front of LinuxServer, which is no pair", pair("ghcr.io", "lscr.io"), right()),
        untrusted(
            "Docker Hub's token service, named by another registry",
            pair("registry.example.com", "auth.docker.io"),
            right(),
        ),
        untrusted("another site", pair("registry.example.com", "tokens.example.net"), right()),
        untrusted(
            "another site, for an identity token",
            pair("registry.example.com", "tokens.example.net"),
            identity(),
        ),
        untrusted(
            "names of a cluster, whose owners nobody knows",
            pair("registry.team.svc.cluster.local", "auth.team.svc.cluster.local"),
            right(),
        ),
        untrusted(
            "another site that names the registry's in its own",
            pair("registry.example.com", "elsewhere.example.org"),
            right(),
        ),
    ]
}

fn lists() -> Vec<Row> {
    let far = || pair("registry.example.com", "tokens.example.net");
    vec![
        trusted("another site on the administrator's list", far(), right().trusting("tokens.example.net")),
        trusted(
            "another site on the list, by host and port",
            far(),
            right().trusting("{auth.host}:{auth.port}"),
        ),
        trusted(
            "another site on the list, in capitals with a dot",
            far(),
            right().trusting("Tokens.Example.NET."),
        ),
        trusted(
            "names of a cluster on the list",
            pair("registry.team.svc.cluster.local", "auth.team.svc.cluster.local"),
            right().trusting("auth.team.svc.cluster.local"),
        ),
        untrusted("another site on the list at another port", far(), right().trusting("{auth.host}:1")),
        untrusted("the parent of another site on the list", far(), right().trusting("example.net")),
        untrusted("a list of others", far(), right().trusting("auth.docker.io").trusting("gitlab.com")),
    ]
}

fn urls() -> Vec<Row> {
    let at = |realm: &'static str| vec![host("registry", takes_tokens(realm)), host("auth", issues(strict))];
    let to_clear = || {
        vec![
            host("registry", takes_tokens("Bearer realm=\"{auth}/token\"")),
            host("auth", issues(strict)).clear(),
        ]
    };
    let both_clear = || to_clear().into_iter().map(Host::clear).collect::<Vec<_>>();
    let anonymous = |registry, auth| {
        let everybody = |call: &crate::scripts::TokenCall| match call.caller {
            Caller::Nobody => scoped(token().opening("api"), call).issued(),
            _ => strict(call),
        };
        vec![
            host("registry", takes_tokens("Bearer realm=\"{auth}/token\"")).named(registry),
            host("auth", issues(everybody)).named(auth),
        ]
    };
    const IN_THE_CLEAR: &str = "+Resolved +Reachable -PlainHTTP +Validated ?Inconclusive = +Available";
    vec![
        untrusted("a realm in the clear of a registry over TLS", to_clear(), right()).never_at(AUTH),
        untrusted(
            "a realm in the clear of a registry over TLS, on the list",
            to_clear(),
            right().trusting("{auth.host}"),
        )
        .never_at(AUTH),
        row(
            "a realm in the clear of a registry over TLS, asked anonymously",
            to_clear(),
            spec(),
            NOWHERE,
            UNTRUSTED,
        )
        .never_at(AUTH),
        row("a realm in the clear of a registry in the clear", both_clear(), right(), AUTH, IN_THE_CLEAR),
        row("a realm over TLS of a registry in the clear", clear_registry(), right(), AUTH, IN_THE_CLEAR),
        untrusted(
            "a user name in the realm",
            at("Bearer realm=\"https://bob@{auth.host}:{auth.port}/token\""),
            right(),
        )
        .never_at(AUTH),
        untrusted(
            "a user name that looks like the registry",
            at("Bearer realm=\"https://{registry.host}@{auth.host}:{auth.port}/token\""),
            right(),
        )
        .never_at(AUTH),
        row("a fragment in the realm", at("Bearer realm=\"{auth}/token#x\""), right(), AUTH, VALIDATED),
        row(
            "another site serves anonymous clients, who have nothing to lose",
            anonymous("registry.example.com", "tokens.example.net"),
            spec(),
            NOWHERE,
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        ),
        untrusted(
            "another site serves anonymous clients, and credentials are given",
            anonymous("registry.example.com", "tokens.example.net"),
            right(),
        ),
    ]
}

fn clear_registry() -> Vec<Host> {
    vec![
        host("registry", takes_tokens("Bearer realm=\"{auth}/token\"")).clear(),
        host("auth", issues(strict)),
    ]
}

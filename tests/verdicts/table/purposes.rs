//! Where Secrets may be sent, by their type and by the annotation with their hosts. In both scopes, because the author
//! of a registry chooses the host, and may not be allowed to read Secrets.

use serde_json::json;

use crate::pki::{Client, PKI};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Token, alone, htpasswd, strict, token, with_service};
use crate::secrets::{IDENTITY, PASSWORD, USER};
use crate::spec::{Spec, docker_auth, identity, right, spec};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const INVALID: &str = "-SecretInvalid . . . . = -SecretInvalid stalled";

pub fn rows() -> Vec<Row> {
    [types(), hosts(), policy()].concat()
}

/// A token that the registry takes.
fn opens() -> Token {
    token().opening("api")
}

type Name = (&'static str, &'static str);

/// The same in both scopes.
fn both(name: &str, spec: Spec, make: impl Fn(String, Spec) -> Row) -> Vec<Row> {
    vec![
        make(format!("{name}, in system scope"), spec.clone()),
        make(format!("{name}, in tenant scope"), tenants(spec)),
    ]
}

fn tenants(spec: Spec) -> Spec {
    spec.of_tenant().allowed("127.0.0.0/8")
}

fn kept(name: &str, spec: Spec, words: &'static str) -> Vec<Row> {
    both(name, spec, |name, spec| {
        row(name, alone(htpasswd), spec, NOWHERE, INVALID)
            .never_at(REGISTRY)
            .message_contains("ResolvedRefs", words)
    })
}

fn used(name: &str, spec: Spec) -> Vec<Row> {
    both(name, spec, |name, spec| row(name, alone(htpasswd), spec, REGISTRY, VALIDATED))
}

fn token_of_type(kind: &'static str) -> Spec {
    spec().auth(json!({"token": {"secretRef": {"name": "token"}}})).secret(
        "token",
        kind,
        &[("token", PASSWORD.as_bytes()), ("identityToken", IDENTITY.as_bytes())],
    )
}

fn types() -> Vec<Row> {
    let login = |kind| {
        let entries = [("username", USER.as_bytes()), ("password", PASSWORD.as_bytes())];
        spec().basic().secret("login", kind, &entries)
    };
    let leaf = PKI.client(Client::Right);
    let pair = |kind| {
        let entries = [("tls.crt", leaf.pem.as_bytes()), ("tls.key", leaf.key_pem.as_bytes())];
        right().client_reference().secret("client", kind, &entries)
    };
    let names: [Name; 7] = [
        ("a service account's token", "kubernetes.io/service-account-token"),
        ("an Opaque Secret", "Opaque"),
        ("a Secret without a type", ""),
        ("a bootstrap token", "bootstrap.kubernetes.io/token"),
        ("a release of Helm", "helm.sh/release.v1"),
        ("a login", "kubernetes.io/basic-auth"),
        ("a type that only looks like the right one", "registry.spectrocloud.com/tokens"),
    ];
    let mut rows = Vec::new();
    for (what, kind) in names {
        let command = "--type=registry.spectrocloud.com/token --from-literal=token=";
        rows.extend(kept(&format!("{what} as a token"), token_of_type(kind), command));
    }
    for (what, kind) in names.into_iter().filter(|(_, kind)| *kind != "kubernetes.io/basic-auth") {
        rows.extend(kept(&format!("{what} as a login"), login(kind), "--type=kubernetes.io/basic-auth"));
    }
    for (what, kind) in names {
        let words = "kubectl create secret tls client -n";
        rows.extend(kept(&format!("{what} as a client certificate"), pair(kind), words));
    }
    rows.extend(kept(
        "a registry's token as a login",
        login("registry.spectrocloud.com/token"),
        "delete it and run kubectl create secret",
    ));
    let token = spec().token_secret(&[("token", &opens().given())]);
    rows.extend(both("a token of its own type", token, |name, spec| {
        row(name, with_service(strict), spec, REGISTRY, VALIDATED)
    }));
    rows
}

fn hosts() -> Vec<Row> {
    let docker = |hosts| {
        let auth = docker_auth(USER, PASSWORD);
        let entry = json!({"auths": {"{registry.host}:{registry.port}": {"auth": auth}}});
        spec().docker_config(&entry).for_hosts(hosts)
    };
    let token = |hosts| spec().token_secret(&[("token", &opens().given())]).for_hosts(hosts);
    let client = |hosts| right().client(Client::Right).for_hosts(hosts);
    let mut rows = Vec::new();
    for hosts in [
        "{registry.host}",
        "{registry.host}:{registry.port}",
        "*.example.com",
        "*.example.com:{registry.port}",
        "elsewhere.example.org,{registry.host}",
        "elsewhere.example.org\n  {registry.host} ",
        "REGISTRY.Example.COM",
        "*",
    ] {
        rows.extend(used(&format!("a login for {hosts:?}"), right().for_hosts(hosts)));
    }
    let elsewhere = [
        "elsewhere.example.org",
        "{registry.host}:1",
        "example.com",
        "*.{registry.host}",
        "*.example.com:443",
        "{registry.host}.evil.example",
        "evil{registry.host}",
        "127.0.0.1",
    ];
    for hosts in elsewhere {
        let words = "not used for {registry.host}:{registry.port}: annotation";
        rows.extend(kept(&format!("a login for {hosts:?}"), right().for_hosts(hosts), words));
    }
    for hosts in [
        "",
        " , ",
        "https://{registry.host}",
        "{registry.host}/v2",
        "{registry.host}:x",
        "{registry.host}, *.*.example.com",
        "alice@{registry.host}",
    ] {
        let words = "registry.spectrocloud.com/hosts of Secret ";
        rows.extend(kept(&format!("a login whose hosts are {hosts:?}"), right().for_hosts(hosts), words));
    }
    let words = "does not list it";
    rows.extend(kept("a Docker configuration for another host", docker("elsewhere.example.org"), words));
    rows.extend(kept("a token for another host", token("elsewhere.example.org"), words));
    rows.extend(kept("a client certificate for another host", client("elsewhere.example.org"), words));
    rows.extend(used("a Docker configuration for this host", docker("{registry.host}")));
    rows.extend(used("a client certificate for this host", client("{registry.host}")));
    rows.extend(both("a token for this host", token("{registry.host}"), |name, spec| {
        row(name, with_service(strict), spec, REGISTRY, VALIDATED)
    }));
    let ca = PKI.ca_pem(crate::pki::GivenCa::Company);
    let ca = right()
        .ca(json!({"secretRef": {"name": "ca"}}))
        .secret("ca", "Opaque", &[("ca.crt", ca.as_bytes())])
        .for_hosts("elsewhere.example.org");
    rows.extend(kept("an authority's Secret for another host", ca, words));
    // docs/decisions/0011: who may have the credentials says where they are exchanged.
    rows.extend(both(
        "an identity token for the registry's host, and its token service elsewhere",
        identity().for_hosts("{registry.host}:{registry.port}"),
        |name, spec| row(name, with_service(strict), spec, AUTH, VALIDATED),
    ));
    rows
}

/// Of tenants' Secrets alone.
fn policy() -> Vec<Row> {
    let required = |spec: Spec| tenants(spec).policy(&[("secretHosts", "Required")]);
    let kept = |name, spec, words| {
        row(name, alone(htpasswd), spec, NOWHERE, INVALID)
            .never_at(REGISTRY)
            .message_contains("ResolvedRefs", words)
    };
    let used = |name, spec| row(name, alone(htpasswd), spec, REGISTRY, VALIDATED);
    let annotate = "kubectl annotate secret login -n team-a-apps \
                    registry.spectrocloud.com/hosts={registry.host}:{registry.port}";
    let mut certificate = right().for_hosts("{registry.host}").client(Client::Right);
    certificate = required(certificate);
    vec![
        kept("tenants' Secrets must name their hosts: a login that doesn't", required(right()), annotate),
        kept(
            "tenants' Secrets must name their hosts: a client certificate that doesn't",
            certificate,
            "kubectl annotate secret client",
        ),
        kept(
            "a word that the policy does not have is the stricter one",
            tenants(right()).policy(&[("secretHosts", "required ")]),
            annotate,
        ),
        used(
            "tenants' Secrets must name their hosts: a login that does",
            required(right().for_hosts("{registry.host}")),
        ),
        used(
            "tenants' Secrets may name their hosts",
            tenants(right()).policy(&[("secretHosts", "Optional")]),
        ),
        used("the policy of an older chart", tenants(right()).policy(&[("allowedEndpoints", "*")])),
        used(
            "what is required of tenants' Secrets is not of the system's",
            right().policy(&[("secretHosts", "Required")]),
        ),
        row(
            "an authority's Secret is not sent, and needs no hosts",
            alone(htpasswd),
            required(right().for_hosts("{registry.host}").ca(json!({"secretRef": {"name": "ca"}})).secret(
                "ca",
                "Opaque",
                &[("ca.crt", PKI.ca_pem(crate::pki::GivenCa::Company).as_bytes())],
            )),
            REGISTRY,
            VALIDATED,
        ),
    ]
}

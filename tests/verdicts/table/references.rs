//! Layer 1, references: Secrets and ConfigMaps that are missing, unreadable, of the wrong type, or without usable content. As long
//! as a reference is invalid, nothing is sent.

use registry_verdict::object::RegistryScope;
use serde_json::{Value, json};

use crate::{
    pki::{Client, GivenCa, PKI},
    row::{AUTH, NOWHERE, REGISTRY, Row, row},
    scripts::{alone, content, htpasswd, strict, token, with_service},
    secrets::{IDENTITY, PASSWORD, USER, WRONG_PASSWORD},
    spec::{SYSTEM_NAMESPACE, Spec, TENANT_NAMESPACE, docker_auth, right, spec},
    support::{Answer, ReceivedRequest},
};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const SECRET_NOT_FOUND: &str = "-SecretNotFound . . . . = -SecretNotFound stalled";
const SECRET_INVALID: &str = "-SecretInvalid . . . . = -SecretInvalid stalled";
const CA_INVALID: &str = "-CABundleInvalid . . . . = -CABundleInvalid stalled";

pub fn rows() -> Vec<Row> {
    let mut rows = [missing(), logins(), docker_configs(), authorities(), clients()].concat();
    rows.extend(access());
    rows
}

/// A row in which nothing may be sent, whatever the registry would say.
fn stopped(name: &'static str, spec: Spec, expected: &'static str) -> Row {
    row(name, alone(htpasswd), spec, NOWHERE, expected).never_at(REGISTRY)
}

fn missing() -> Vec<Row> {
    vec![
        stopped("the login is missing", spec().basic(), SECRET_NOT_FOUND)
            .message_contains("ResolvedRefs", "Secret registry-system/login"),
        stopped("the client certificate is missing", right().client_reference(), SECRET_NOT_FOUND),
        stopped(
            "the authority's Secret is missing",
            right().ca(json!({"secretRef": {"name": "ca"}})),
            SECRET_NOT_FOUND,
        ),
        stopped(
            "the authority's ConfigMap is missing",
            right().ca(json!({"configMapRef": {"name": "ca"}})),
            "-ConfigMapNotFound . . . . = -ConfigMapNotFound stalled",
        ),
        stopped(
            "a SystemRegistry's login lies in a tenant's namespace only",
            moved(right(), TENANT_NAMESPACE),
            SECRET_NOT_FOUND,
        ),
        stopped(
            "a TenantRegistry's login lies in the system namespace only",
            moved(right().of_tenant().allowed("127.0.0.0/8"), SYSTEM_NAMESPACE),
            SECRET_NOT_FOUND,
        )
        .message_contains("ResolvedRefs", "team-a-apps"),
        row(
            "a TenantRegistry's login lies in its own namespace",
            alone(htpasswd),
            right().of_tenant().allowed("127.0.0.0/8"),
            REGISTRY,
            VALIDATED,
        ),
    ]
}

fn moved(mut spec: Spec, namespace: &'static str) -> Spec {
    for object in &mut spec.objects {
        object.namespace = namespace;
    }
    spec
}

fn login(kind: &'static str, entries: &[(&'static str, &[u8])]) -> Spec {
    spec().basic().secret("login", kind, entries)
}

fn logins() -> Vec<Row> {
    const BASIC: &str = "kubernetes.io/basic-auth";
    let (user, password) = (USER.as_bytes(), PASSWORD.as_bytes());
    let invalid = |name, kind, entries: &[_]| stopped(name, login(kind, entries), SECRET_INVALID);
    vec![
        // docs/decisions/0011: a Secret is used for what its type says.
        invalid("an Opaque Secret is not a login", "Opaque", &[("username", user), ("password", password)]),
        invalid(
            "a key pair is not a login",
            "kubernetes.io/tls",
            &[("username", user), ("password", password)],
        ),
        invalid("a login without user name and password", BASIC, &[]),
        invalid("a login without a password", BASIC, &[("username", user)])
            .message_contains("ResolvedRefs", "has no key password"),
        invalid("a login without a user name", BASIC, &[("password", password)])
            .message_contains("ResolvedRefs", "has no key username"),
        invalid(
            "a login with an empty user name and password",
            BASIC,
            &[("username", b""), ("password", b"")],
        ),
        invalid("a user name with a colon", BASIC, &[("username", b"alice:admin"), ("password", password)]),
        invalid(
            "a password with a line break",
            BASIC,
            &[("username", user), ("password", b"corr3ct/horse+battery staple\n")],
        )
        .message_contains("ResolvedRefs", "newline"),
        invalid(
            "a user name with a control character",
            BASIC,
            &[("username", b"ali\x07ce"), ("password", password)],
        ),
        row(
            "a key of several lines as the password",
            alone(takes_key),
            spec().login("_json_key", KEY),
            REGISTRY,
            VALIDATED,
        ),
        invalid("a password that is not text", BASIC, &[("username", user), ("password", b"\xff\xfe\x00p")]),
        stopped(
            "a token's Secret without a token",
            spec().token_secret(&[("password", PASSWORD)]),
            SECRET_INVALID,
        ),
        stopped("an empty token", spec().token_secret(&[("token", "\n")]), SECRET_INVALID),
        stopped("a token with a blank in it", spec().token_secret(&[("token", "a b")]), SECRET_INVALID),
        stopped(
            "an identity token with a line break in it",
            spec().token_secret(&[("identityToken", "a\nb")]),
            SECRET_INVALID,
        ),
    ]
}

/// As Google's service accounts have it.
const KEY: &str =
    "{\n\t\"type\": \"service_account\",\n\t\"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIE\"\n}";

fn takes_key(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(header) if header == format!("Basic {}", docker_auth("_json_key", KEY)) => content(asked),
        _ => Answer::challenge("Basic realm=x"),
    }
}

fn docker_configs() -> Vec<Row> {
    let auth = || docker_auth(USER, PASSWORD);
    let other = docker_auth("other", WRONG_PASSWORD);
    let entry = |key: &str, entry: Value| spec().docker_config(&json!({"auths": {key: entry}}));
    let good = |name, spec| row(name, alone(htpasswd), spec, REGISTRY, VALIDATED);
    let bad = |name, spec| stopped(name, spec, SECRET_INVALID);
    let stored = json!({"auths": {"{registry.host}:{registry.port}": {}}, "credsStore": "desktop"});
    let helper = json!({"auths": {}, "credHelpers": {"{registry.host}:{registry.port}": "ecr-login"}});
    vec![
        good(
            "a Docker configuration with `auth`",
            entry("{registry.host}:{registry.port}", json!({"auth": auth()})),
        ),
        good(
            "a Docker configuration with user name and password",
            entry("{registry.host}:{registry.port}", json!({"username": USER, "password": PASSWORD})),
        ),
        bad("an entry for the host without its port", entry("{registry.host}", json!({"auth": auth()})))
            .message_contains("ResolvedRefs", "has no entry for {registry.host}:{registry.port}"),
        good("an entry by URL", entry("{registry}/v2/", json!({"auth": auth()}))),
        good("an entry by URL of version 1", entry("{registry}/v1/", json!({"auth": auth()}))),
        good(
            "`auth` before user name and password",
            entry("{registry.host}:{registry.port}", json!({"auth": auth(), "username": "x", "password": "y"})),
        ),
        good(
            "the entry with the port before the one without",
            spec().docker_config(&json!({"auths": {
                "{registry.host}": {"auth": other}, "{registry.host}:{registry.port}": {"auth": auth()},
            }})),
        ),
        good(
            "the entry for the path before the one for the host",
            spec().below("team/packs").docker_config(&json!({"auths": {
                "{registry.host}:{registry.port}": {"auth": other}, "{registry.host}:{registry.port}/team": {"auth": auth()},
            }})),
        ),
        good(
            "an entry among those of other hosts",
            spec().docker_config(&json!({"auths": {
                "elsewhere.example.org": {"auth": other}, "{registry.host}:{registry.port}": {"auth": auth()},
            }})),
        ),
        row(
            "`identitytoken` goes to the token service",
            with_service(strict),
            entry("{registry.host}:{registry.port}", json!({"auth": docker_auth("<token>", ""), "identitytoken": IDENTITY})),
            AUTH,
            VALIDATED,
        ),
        row(
            "`registrytoken` goes to the registry",
            with_service(strict),
            entry("{registry.host}:{registry.port}", json!({"registrytoken": token().opening("api").given()})),
            REGISTRY,
            VALIDATED,
        ),
        bad("a Docker configuration that is not JSON", broken_config("auths")),
        bad("a Docker configuration without `auths`", spec().docker_config(&json!({"HttpHeaders": {}}))),
        bad("no entry for the host", entry("elsewhere.example.org", json!({"auth": auth()})))
            .message_contains("ResolvedRefs", "has no entry for {registry.host}"),
        bad("an entry for another port of the host", entry("{registry.host}:1", json!({"auth": auth()}))),
        bad(
            "an entry for another path of the host",
            spec().below("team").docker_config(&json!({"auths": {"{registry.host}:{registry.port}/other": {"auth": auth()}}})),
        ),
        bad("an entry for the domain above the host", entry("example.com", json!({"auth": auth()}))),
        bad("`auth` that is not base64", entry("{registry.host}:{registry.port}", json!({"auth": "%%%"}))),
        bad("`auth` without a colon", entry("{registry.host}:{registry.port}", json!({"auth": "YWxpY2U="}))),
        bad("an entry left to a credential store", spec().docker_config(&stored)),
        bad("a host left to a credential helper", spec().docker_config(&helper)),
        bad("an empty entry", entry("{registry.host}:{registry.port}", json!({}))),
    ]
}

fn broken_config(text: &'static str) -> Spec {
    login("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", text.as_bytes())])
}

fn authorities() -> Vec<Row> {
    let company = PKI.ca_pem(GivenCa::Company);
    let from_map = || right().ca(json!({"configMapRef": {"name": "ca", "key": "ca.crt"}}));
    let from_secret = || right().ca(json!({"secretRef": {"name": "ca", "key": "root.pem"}}));
    let inline = |text: &str| right().ca(json!({"inline": text}));
    let good = |name, spec| row(name, alone(htpasswd), spec, REGISTRY, VALIDATED);
    let bad = |name, spec| stopped(name, spec, CA_INVALID);
    let key = &PKI.client(Client::Right).key_pem;
    vec![
        good("an authority from a ConfigMap", from_map().config_map("ca", &[("ca.crt", &company)])),
        good(
            "an authority from a Secret",
            from_secret().secret("ca", "Opaque", &[("root.pem", company.as_bytes())]),
        ),
        good("an authority in lines of Windows", inline(&company.replace('\n', "\r\n"))),
        good("an authority behind a byte order mark", inline(&format!("\u{feff}{company}"))),
        bad("an authority that is empty", inline(" \n")),
        bad("an authority that is not PEM", inline("-----BEGIN NOTHING-----"))
            .message_contains("ResolvedRefs", "spec.tls.ca.inline"),
        bad("an authority that breaks off", inline(&company[..company.len() - 30])),
        bad(
            "an authority with a broken certificate",
            inline("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
        bad("an authority with its private key", inline(&format!("{company}{key}")))
            .message_contains("ResolvedRefs", "private key"),
        bad("a ConfigMap without the authority's key", from_map().config_map("ca", &[("ca.pem", &company)]))
            .message_contains("ResolvedRefs", "ca.crt"),
        bad("a Secret without the authority's key", from_secret().secret("ca", "Opaque", &[])),
        bad(
            "an authority in DER",
            from_secret().secret("ca", "Opaque", &[("root.pem", b"\x30\x82\x01\x0a\x02")]),
        ),
    ]
}

fn clients() -> Vec<Row> {
    let leaf = PKI.client(Client::Right);
    let other = PKI.client(Client::OfStrangers);
    let pair = |kind, certificate: &str, key: &str| {
        right().client_reference().secret(
            "client",
            kind,
            &[("tls.crt", certificate.as_bytes()), ("tls.key", key.as_bytes())],
        )
    };
    let bad = |name, spec| stopped(name, spec, SECRET_INVALID);
    const TLS: &str = "kubernetes.io/tls";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    vec![
        bad("a client certificate in an Opaque Secret", pair("Opaque", &leaf.pem, &leaf.key_pem)),
        bad("a client certificate and another's key", pair(TLS, &leaf.pem, &other.key_pem)),
        bad("a client certificate that is none", pair(TLS, "nothing", &leaf.key_pem)),
        bad("a client's key that is none", pair(TLS, &leaf.pem, "nothing")),
        bad("a client's key with a passphrase", pair(TLS, &leaf.pem, encrypted))
            .message_contains("ResolvedRefs", "encrypted"),
        bad(
            "a client certificate without a key",
            right().client_reference().secret("client", TLS, &[("tls.crt", leaf.pem.as_bytes())]),
        ),
    ]
}

fn access() -> Vec<Row> {
    let denied = "-AccessDenied . . . . = -AccessDenied stalled";
    let mut other = right().of_tenant();
    other.scope = RegistryScope::Tenant;
    vec![
        stopped("the operator may not read Secrets", right().unreadable(), denied),
        stopped("the operator may not read a tenant's Secrets", other.unreadable(), denied),
        stopped(
            "a namespace that is not a tenant's",
            right().without_tenant(),
            "-NotATenant . . . . = -NotATenant stalled",
        )
        .message_contains("ResolvedRefs", "registry.spectrocloud.com/tenant"),
        row(
            "a public ECR needs no credentials",
            alone(crate::scripts::open),
            spec().auth(json!({"ecr": {}})),
            NOWHERE,
            "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available",
        ),
    ]
}

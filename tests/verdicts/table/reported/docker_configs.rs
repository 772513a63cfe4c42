//! F. What Docker's and Kubernetes' own reader makes of a configuration is what it means: the same keys match, the same text
//! decodes, the same oddities are no error, and of several entries the same one wins.

use serde_json::{Value, json};

use super::{REJECTED, SECRET_INVALID, VALIDATED};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, alone, caller, content, htpasswd, strict, token, with_service};
use crate::secrets::{IDENTITY, PASSWORD, USER, WRONG_PASSWORD};
use crate::spec::{Spec, docker_auth, spec};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [texts(), keys(), several(), oddities(), tokens()].concat()
}

const HOST: &str = "{registry.host}:{registry.port}";

fn config(config: &Value) -> Spec {
    spec().docker_config(config)
}

fn good() -> Value {
    json!({"auth": docker_auth(USER, PASSWORD)})
}

fn old() -> Value {
    json!({"auth": docker_auth(USER, WRONG_PASSWORD)})
}

fn takes(name: &str, config: Spec) -> Row {
    row(name, alone(htpasswd), config, REGISTRY, VALIDATED)
}

/// No client would use an entry of it: no password goes anywhere.
fn refuses(name: &str, config: Spec) -> Row {
    row(name, alone(htpasswd), config, NOWHERE, SECRET_INVALID).never_at(REGISTRY)
}

fn entry(key: &str, entry: Value) -> Spec {
    config(&json!({"auths": {key: entry}}))
}

/// As text: what no JSON library writes.
fn written(text: &str) -> Spec {
    let text =
        text.replace("GOOD", &good().to_string()).replace("OLD", &old().to_string()).replace("HOST", HOST);
    spec().basic().secret(
        "login",
        "kubernetes.io/dockerconfigjson",
        &[(".dockerconfigjson", text.as_bytes())],
    )
}

/// 80 characters, of which 76 make the first line of base64 with the name.
const LONG: &str = "corr3ct/horse+battery staple.corr3ct/horse+battery staple.corr3ct/horse+battery.";

fn takes_long(asked: &ReceivedRequest) -> Answer {
    match asked.authorization() {
        Some(header) if header == format!("Basic {}", docker_auth(USER, LONG)) => content(asked),
        _ => Answer::challenge("Basic realm=\"registry\""),
    }
}

fn broken_every(text: &str, length: usize, end: &str) -> String {
    let lines: Vec<&str> = text.as_bytes().chunks(length).map(|line| str::from_utf8(line).unwrap()).collect();
    lines.join(end) + end
}

fn texts() -> Vec<Row> {
    let long = docker_auth(USER, LONG);
    let lines = |name, end| {
        let auth = broken_every(&long, 76, end);
        row(name, alone(takes_long), entry(HOST, json!({"auth": auth})), REGISTRY, VALIDATED)
    };
    let auth = docker_auth(USER, PASSWORD);
    vec![
        lines("F1 auth in lines of 76", "\n"),
        lines("F auth in lines that end in CRLF", "\r\n"),
        takes("F auth without its padding", entry(HOST, json!({"auth": auth.trim_end_matches('=')}))),
        takes(
            "F auth with a NUL at its end",
            entry(HOST, json!({"auth": docker_auth(USER, &format!("{PASSWORD}\0"))})),
        ),
        takes(
            "F auth null, and user name and password",
            entry(HOST, json!({"auth": null, "username": USER, "password": PASSWORD})),
        ),
        takes(
            "F auth empty, and user name and password",
            entry(HOST, json!({"auth": "", "username": USER, "password": PASSWORD})),
        ),
        refuses(
            "F auth with blanks in it",
            entry(HOST, json!({"auth": format!("{} {}", &auth[..8], &auth[8..])})),
        ),
        refuses(
            "F auth of a user name alone",
            entry(HOST, json!({"auth": docker_auth(USER, "")[..4].to_owned()})),
        ),
        refuses("F auth that is a number", entry(HOST, json!({"auth": 5}))),
    ]
}

fn keys() -> Vec<Row> {
    let mut rows = vec![
        refuses("F2 the host without its port", entry("{registry.host}", good()))
            .message_contains("ResolvedRefs", "has no entry for {registry.host}:{registry.port}"),
    ];
    for (name, key) in [
        ("F a key by https", "https://HOST"),
        ("F a key by http", "http://HOST"),
        ("F a key with a slash", "https://HOST/"),
        ("F a key of version 1", "https://HOST/v1/"),
        ("F a key of version 2", "HOST/v2/"),
        ("F a pattern of the kubelet's", "*.example.com:{registry.port}"),
        ("F a pattern within a label", "reg*.example.com:{registry.port}"),
    ] {
        rows.push(takes(name, entry(&key.replace("HOST", HOST), good())));
    }
    for (name, key) in [
        ("F another port", "{registry.host}:1"),
        ("F the host without its port, by https", "https://{registry.host}/"),
        ("F a pattern without the port", "*.example.com"),
        ("F a pattern of one label for two", "*.com:{registry.port}"),
        ("F another case", "REGISTRY.example.com:{registry.port}"),
        ("F another path", "HOST/team"),
        ("F the domain above", "example.com:{registry.port}"),
        ("F a host that begins alike", "{registry.host}.evil.example:{registry.port}"),
    ] {
        rows.push(refuses(name, entry(&key.replace("HOST", HOST), good())));
    }
    let below = entry(&format!("{HOST}/team"), good()).below("team/packs");
    rows.push(takes("F the path of the base path", below));
    rows
}

/// Docker looks the bare key up first; the kubelet tries the longest first.
fn several() -> Vec<Row> {
    let both = |one: &str, two: &str| {
        config(&json!({"auths": {one.replace("HOST", HOST): old(), two.replace("HOST", HOST): good()}}))
    };
    vec![
        takes("F3 the bare key before the one by https", both("https://HOST", "HOST")),
        takes("F the bare key before the one of version 1", both("https://HOST/v1/", "HOST")),
        takes("F the bare key before the one by http", both("http://HOST", "HOST")),
        takes("F the host before its pattern", both("*.example.com:{registry.port}", "HOST")),
        takes("F the port before none", both("{registry.host}", "HOST")),
        takes("F the path before the host", both("HOST", "HOST/team").below("team/packs")),
        row(
            "F the bare key before the one by https, though it is the wrong one",
            alone(htpasswd),
            both("HOST", "https://HOST"),
            REGISTRY,
            REJECTED,
        ),
        takes("F a key twice, the last counts", written(r#"{"auths":{"HOST":OLD,"HOST":GOOD}}"#)),
        takes("F two lists of entries", written(r#"{"auths":{"other.example":OLD},"auths":{"HOST":GOOD}}"#)),
    ]
}

fn oddities() -> Vec<Row> {
    vec![
        takes("F4 credHelpers is null", written(r#"{"auths":{"HOST":GOOD},"credHelpers":null}"#)),
        takes("F4 another entry is null", written(r#"{"auths":{"other.example":null,"HOST":GOOD}}"#)),
        takes(
            "F4 another helper is null",
            written(r#"{"auths":{"HOST":GOOD},"credHelpers":{"other.example":null}}"#),
        ),
        takes("F credsStore is null", written(r#"{"credsStore":null,"auths":{"HOST":GOOD}}"#)),
        takes("F credsStore is empty", written(r#"{"credsStore":"","auths":{"HOST":GOOD}}"#)),
        takes("F another entry is empty", written(r#"{"auths":{"other.example":{},"HOST":GOOD}}"#)),
        takes("F names in capitals", written(r#"{"Auths":{"HOST":GOOD}}"#)),
        takes(
            "F a field of an entry in capitals",
            written(&format!(r#"{{"auths":{{"HOST":{{"Auth":"{}"}}}}}}"#, docker_auth(USER, PASSWORD))),
        ),
        takes(
            "F fields that nobody knows",
            written(
                r#"{"HttpHeaders":{"User-Agent":"x"},"auths":{"HOST":GOOD},"proxies":{"default":{}},"detachKeys":"x"}"#,
            ),
        ),
        takes(
            "F an email that is null",
            entry(HOST, json!({"auth": docker_auth(USER, PASSWORD), "email": null})),
        ),
        takes("F blanks and line breaks round it", written("\n {\"auths\":\t{\"HOST\":GOOD}}\n\n")),
        refuses("F the entry is null", written(r#"{"auths":{"HOST":null}}"#)),
        refuses("F no entries, null", written(r#"{"auths":null}"#)),
        refuses("F the old format, without auths", written(r#"{"HOST":GOOD}"#)),
        refuses("F a byte order mark before it", written("\u{feff}{\"auths\":{\"HOST\":GOOD}}")),
        refuses("F more behind it", written(r#"{"auths":{"HOST":GOOD}} x"#)),
        refuses("F a comma too many", written(r#"{"auths":{"HOST":GOOD,}}"#)),
    ]
}

fn tokens() -> Vec<Row> {
    let identity = json!({"auth": docker_auth(USER, PASSWORD), "identitytoken": IDENTITY});
    let registry =
        json!({"auth": docker_auth(USER, WRONG_PASSWORD), "registrytoken": token().opening("api").given()});
    let empty = json!({"auth": docker_auth(USER, PASSWORD), "identitytoken": "", "registrytoken": null});
    let only_registry = |asked: &ReceivedRequest| match caller(asked) {
        Caller::Bearer(_) => content(asked),
        _ => Answer::challenge("Bearer realm=\"{registry}/token\""),
    };
    vec![
        row(
            "F an identity token before the password",
            with_service(strict),
            entry(HOST, identity),
            AUTH,
            VALIDATED,
        ),
        row(
            "F a registry token before the password",
            alone(only_registry),
            entry(HOST, registry),
            REGISTRY,
            VALIDATED,
        ),
        takes("F tokens that are empty or null", entry(HOST, empty)),
    ]
}

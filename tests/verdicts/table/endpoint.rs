//! Layer 2, endpoint: names, connections, other servers, redirects. A server that doesn't answer as a registry gets no
//! credentials.

use std::net::Ipv4Addr;

use crate::hosts::{Host, PortBehaviour, host};
use crate::row::{NOWHERE, REGISTRY, Row, row};
use crate::scripts::{alone, htpasswd, open};
use crate::spec::{Spec, right, spec};
use crate::support::dns::Dns;
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [names(), connections(), no_registries(), signs(), redirects()].concat()
}

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const NO_REGISTRY: &str = "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled";
const NO_REGISTRY_IN_THE_CLEAR: &str = "+Resolved -NotARegistry -PlainHTTP . . = -NotARegistry stalled";
const BROKEN: &str = "+Resolved -ConnectionFailed +Verified . . = -ConnectionFailed reconciling";
const HUNG_UP: &str = "failed: closed without an answer";

fn closed_port() -> Host {
    host("registry", open)
}

fn names() -> Vec<Row> {
    const FENCED: &[Ipv4Addr] = &[Ipv4Addr::new(169, 254, 169, 254)];
    let named = |name, dns, expected| {
        row(name, vec![closed_port().resolving_to(dns)], right(), NOWHERE, expected).never_at(REGISTRY)
    };
    const DEFINITE: &str = "+Resolved -DNSFailure . . . = -DNSFailure stalled";
    const TRANSIENT: &str = "+Resolved -DNSFailure . . . = -DNSFailure reconciling";
    let silent = row(
        "name servers that don't answer within the deadline",
        vec![closed_port().resolving_to(Dns::Silence)],
        right().hurried(),
        NOWHERE,
        "+Resolved -Timeout . . . = -Timeout reconciling",
    );
    vec![
        named("a name that does not exist", Dns::NoSuchName, DEFINITE)
            .message_contains("EndpointReachable", "registry.example.com"),
        named("a name without an address", Dns::Empty, DEFINITE),
        named("name servers that fail", Dns::Failure, TRANSIENT),
        named("name servers that refuse", Dns::Refused, TRANSIENT),
        named(
            "a name with a metadata address",
            Dns::Addresses(FENCED),
            "+Resolved -EgressDenied . . . = -EgressDenied stalled",
        ),
        silent.message_contains("EndpointReachable", "registry.example.com"),
    ]
}

fn connections() -> Vec<Row> {
    let met = |name, door, spec: Spec, expected| {
        row(name, vec![closed_port().behind(door)], spec, NOWHERE, expected)
    };
    let https = || right().endpoint("https://{registry.host}:{registry.port}");
    const REFUSED: &str = "+Resolved -ConnectionRefused . . . = -ConnectionRefused reconciling";
    const TIMEOUT: &str = "+Resolved -Timeout . . . = -Timeout reconciling";
    const HANDSHAKE_FAILED: &str = "+Resolved +Reachable -HandshakeFailed . . = -HandshakeFailed stalled";
    vec![
        met("nobody listens, over TLS", PortBehaviour::Closed, https(), REFUSED)
            .message_contains("EndpointReachable", "{registry.host}:{registry.port}"),
        met("nobody listens, in the clear", PortBehaviour::Closed, right(), REFUSED),
        met("no connection comes about", PortBehaviour::Crowded, https().hurried(), TIMEOUT)
            .message_contains("EndpointReachable", "Timed out connecting"),
        met("a handshake that never ends", PortBehaviour::Mute, https().hurried(), TIMEOUT)
            .message_contains("EndpointReachable", "TLS handshake"),
        met(
            "an answer that never comes, in the clear",
            PortBehaviour::Mute,
            right().hurried(),
            "+Resolved -Timeout -PlainHTTP . . = -Timeout reconciling",
        ),
        met("a web server in the clear, asked over TLS", PortBehaviour::Clear, https(), HANDSHAKE_FAILED),
        met(
            "a mail server, asked over TLS",
            PortBehaviour::Greets(b"220 mail.example.com ESMTP\r\n"),
            https(),
            HANDSHAKE_FAILED,
        ),
        met(
            "SSH, asked in the clear",
            PortBehaviour::Greets(b"SSH-2.0-OpenSSH_9.6\r\n"),
            right(),
            NO_REGISTRY_IN_THE_CLEAR,
        ),
        met(
            "a server that hangs up in the handshake",
            PortBehaviour::Greets(b""),
            https(),
            "+Resolved +Reachable -HandshakeFailed . . = -HandshakeFailed reconciling",
        ),
        row(
            "a port for TLS, asked in the clear",
            alone(htpasswd),
            right().endpoint("http://{registry.host}:{registry.port}"),
            NOWHERE,
            NO_REGISTRY_IN_THE_CLEAR,
        )
        .message_contains("EndpointReachable", "https://"),
        met("a server of HTTP/2 alone", PortBehaviour::OnlyHttp2, right(), HANDSHAKE_FAILED)
            .message_contains("TLSVerified", "HTTP/1.1"),
    ]
}

/// A registry whose `/v2/` is answered so.
fn answering(name: &'static str, answer: Answer, spec: Spec, expected: &'static str) -> Row {
    row(name, alone(move |_| answer.clone()), spec, NOWHERE, expected)
}

fn no_registries() -> Vec<Row> {
    let login = "<!doctype html><title>Log in</title>";
    let none = |name, answer| answering(name, answer, right(), NO_REGISTRY).costs(1);
    let broken = |name, answer| answering(name, answer, right(), BROKEN);
    vec![
        none("a captive page", Answer::status(200).header("Content-Type", "text/html").body(login)),
        none("a captive page that does not say its type", Answer::status(200).body(login)),
        none(
            "a captive page that says it is JSON",
            Answer::status(200).header("Content-Type", "application/json").body(login),
        ),
        none(
            "a page of plain words",
            Answer::status(200).header("Content-Type", "text/plain").body("It works!"),
        ),
        none("an empty 200", Answer::status(200)),
        none(
            "a 200 with another service's JSON",
            Answer::status(200).header("Content-Type", "application/json").body(r#"{"status":"UP"}"#),
        ),
        none("a 200 with a JSON text", Answer::status(200).body("\"OK\"")),
        none("a 204", Answer::status(204)),
        none("a 404 with a page", Answer::status(404).body(login)),
        none("a 404 with an OCI error", Answer::error(404, "NOT_FOUND")),
        none("a 401 without a challenge", Answer::status(401).body(login)),
        none("a 403 with a page", Answer::status(403).body(login)),
        none("a 400", Answer::status(400)),
        none("a 405", Answer::status(405)),
        none("a 418", Answer::status(418)),
        none("a 451 of a filter", Answer::status(451).body(login)),
        none("words that are not HTTP", Answer::Raw(b"what do you want?\r\n\r\n".to_vec())),
        none("a preface of HTTP/2", Answer::Raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec())),
        none("frames of HTTP/2", Answer::Raw([0, 0, 18, 4, 0, 0, 0, 0, 0].repeat(9))),
        // Of a server that hangs up, now the one is seen and now the other: the words are the same.
        broken("a connection that is closed at the first request", Answer::Close)
            .message_contains("EndpointReachable", HUNG_UP),
        broken("a connection that is reset at the first request", Answer::Reset)
            .message_contains("EndpointReachable", HUNG_UP),
        broken("an answer that breaks off in its first line", Answer::Raw(b"HTTP/1.1 200".to_vec())),
        broken(
            "an answer that breaks off in its headers",
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-".to_vec()),
        ),
        broken(
            "an answer that breaks off in its body",
            Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
        ),
        // RFC 6585 gives it to captive portals, which let one through some time: like any 5xx.
        answering(
            "a 511 of a captive portal",
            Answer::status(511).body(login),
            right(),
            "+Resolved -ServerError +Verified . . = -ServerError reconciling",
        ),
        answering(
            "an answer that never comes",
            Answer::Silence,
            right().hurried(),
            "+Resolved -Timeout +Verified . . = -Timeout reconciling",
        ),
    ]
}

/// What makes a registry one, though it says little.
fn signs() -> Vec<Row> {
    const ANONYMOUS: &str = "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available";
    let open = |name, answer: Answer| answering(name, answer, spec(), ANONYMOUS).costs(1);
    let closed = |name, answer: Answer| {
        let script = move |asked: &ReceivedRequest| {
            if asked.authorization().is_some() { htpasswd(asked) } else { answer.clone() }
        };
        row(name, alone(script), right(), REGISTRY, VALIDATED)
    };
    let raw = |text: &str| Answer::Raw(text.as_bytes().to_vec());
    vec![
        open("an empty JSON object", Answer::status(200).body("{}")),
        open(
            "the header of the API's version alone",
            Answer::status(200).header("Docker-Distribution-Api-Version", "registry/2.0"),
        ),
        open(
            "an answer of HTTP/1.0",
            raw("HTTP/1.0 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n\r\n{}"),
        ),
        open(
            "headers in lower case, of a proxy",
            raw(
                "HTTP/1.1 200 OK\r\ndocker-distribution-api-version: registry/2.0\r\ncontent-length: 2\r\n\r\n{}",
            ),
        ),
        open(
            "an answer in chunks",
            raw(
                "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        open(
            "an informational answer first",
            raw(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 2\r\n\r\n{}",
            ),
        ),
        closed("a 401 with an OCI error and no challenge", Answer::error(401, "UNAUTHORIZED")),
        closed(
            "a 401 with the header of the API's version and no challenge",
            Answer::status(401).header("Docker-Distribution-Api-Version", "registry/2.0"),
        ),
        closed(
            "a 401 with a challenge and a page",
            Answer::challenge("Basic realm=x").body("<html>no</html>"),
        ),
        closed("a 403 with an OCI error", Answer::error(403, "DENIED")),
        row(
            "a suffix before the API",
            alone(below("/artifactory/api/docker/packs")),
            right().endpoint("{registry}/artifactory/api/docker/packs"),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "a suffix with a slash at its end",
            alone(below("/artifactory/api/docker/packs")),
            right().endpoint("{registry}/artifactory/api/docker/packs/"),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "a suffix that is missing",
            alone(below("/artifactory/api/docker/packs")),
            right(),
            NOWHERE,
            NO_REGISTRY,
        ),
        row(
            "a suffix and a named repository",
            alone(below("/registry")),
            right().endpoint("{registry}/registry").below("team").repository("hello"),
            REGISTRY,
            "+Resolved +Reachable +Verified +Validated +Accessible = +Available",
        ),
        row(
            "everything in the clear",
            vec![host("registry", htpasswd).clear()],
            right(),
            REGISTRY,
            "+Resolved +Reachable -PlainHTTP +Validated ?Inconclusive = +Available",
        ),
        row(
            "a host name in capitals with a dot at its end",
            alone(htpasswd),
            right().endpoint("https://Registry.Example.COM.:{registry.port}"),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "an address instead of a name",
            alone(htpasswd),
            right().endpoint("https://{registry.address}:{registry.port}"),
            REGISTRY,
            VALIDATED,
        ),
    ]
}

/// A registry whose API is below a path, and a web server elsewhere.
fn below(suffix: &'static str) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| match asked.path.strip_prefix(suffix) {
        Some(rest) if rest.starts_with("/v2/") => htpasswd(asked),
        _ => Answer::status(404).body("<html>Not found</html>"),
    }
}

fn redirects() -> Vec<Row> {
    const REFUSED: &str = "+Resolved -RedirectRefused +Verified . . = -RedirectRefused stalled";
    let to = |name, status, location: &str| {
        answering(name, Answer::status(status).header("Location", location), right(), REFUSED).costs(1)
    };
    vec![
        to("moved for good to another host", 301, "{elsewhere}/v2/")
            .message_contains("EndpointReachable", "{elsewhere}"),
        to("found at another host", 302, "{elsewhere}/v2/"),
        to("see another host", 303, "{elsewhere}/login"),
        to("another host for a time", 307, "{elsewhere}/v2/"),
        to("another host for good", 308, "{elsewhere}/v2/"),
        to("sent to another path of the same host", 302, "/login?next=/v2/")
            .message_contains("EndpointReachable", "{registry}"),
        to("sent round in a circle", 302, "/v2/"),
        to("sent from TLS into the clear", 301, "http://{registry.host}:{elsewhere.port}/v2/"),
        to("sent to the metadata service", 302, "http://169.254.169.254/latest/meta-data/"),
        to("sent to a URL with a password in it", 302, "https://bob:hunter2@elsewhere.example.org/v2/"),
        to("sent to no URL", 302, "::"),
        answering("sent nowhere", Answer::status(302), right(), REFUSED),
        answering(
            "sent to a place with an odd text",
            Answer::status(302).header("Location", "javascript:alert(1)"),
            right(),
            REFUSED,
        ),
    ]
}

//! E. Being able to pull is not being able to list: when the tag list is refused or unknown, one HEAD of the manifest `latest`
//! settles it. And a tag list that was granted is one, whatever else stands in the document and however long it is.

use std::fmt::Write as _;

use serde_json::json;

use super::{
    ANONYMOUS_READ, DENIED, NOT_FOUND, READ, UNPROVABLE_READ, VALIDATED, envelope, path_of, typed, versioned,
};
use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TO_AUTH, TokenCall, alone, caller, htpasswd, issues, refused, takes_tokens, token, with_service,
};
use crate::secrets::USER;
use crate::spec::{right, spec};
use crate::support::{Answer, ReceivedRequest};

pub fn rows() -> Vec<Row> {
    [by_token(), by_password(), proof_by_pulling(), public(), long_lists(), odd_lists()].concat()
}

const LIST: &str = "/tags/list";
const LATEST: &str = "/manifests/latest";

fn manifest() -> Answer {
    typed(200, "application/vnd.oci.image.index.v1+json", "").header("Docker-Content-Digest", "sha256:00")
}

fn insufficient() -> Answer {
    Answer::challenge(
        "Bearer realm=\"{auth}/token\",service=\"registry.example.com\",scope=\"repository:hello:metadata_read\",\
         error=\"insufficient_scope\"",
    )
}

fn names_alice(call: &TokenCall) -> Answer {
    let repository = call.repository().unwrap_or("none").to_owned();
    match call.caller {
        Caller::Alice => token().naming(USER).opening("api").granting(&repository, &["pull"]).issued(),
        _ => refused(),
    }
}

/// A registry by token whose tag list and manifest `latest` are answered so.
fn answering(tags: Answer, latest: Answer) -> Vec<Host> {
    let registry = move |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
        (Caller::Bearer(_), "/v2/") => Answer::granted(),
        (Caller::Bearer(_), path) if path.ends_with(LIST) => tags.clone(),
        (Caller::Bearer(_), path) if path.ends_with(LATEST) => latest.clone(),
        (Caller::Bearer(_), _) => Answer::error(404, "MANIFEST_UNKNOWN"),
        _ => Answer::challenge(TO_AUTH),
    };
    vec![host("registry", registry), host("auth", issues(names_alice))]
}

fn by_token() -> Vec<Row> {
    let acr = |name, tags, latest, expected| {
        row(name, answering(tags, latest), right().repository("hello"), AUTH, expected)
    };
    let (denied, unknown) = (|| Answer::error(403, "DENIED"), || Answer::error(404, "MANIFEST_UNKNOWN"));
    let harbor = || envelope(404, "NOT_FOUND", "repository not found");
    let page = || typed(404, "text/html", "<html>404</html>");
    let cached = |name, latest, expected| {
        let spec = right().below("dockerhub").repository("library/busybox");
        row(name, answering(harbor(), latest), spec, AUTH, expected)
    };
    vec![
        acr("E1 ACR's scope map for pulling alone", insufficient(), manifest(), READ),
        acr("E1 ACR's scope map, no tag latest", insufficient(), unknown(), VALIDATED)
            .message_contains("ContentPathAccessible", "no tag latest"),
        acr("E1 ACR's scope map for nothing", insufficient(), insufficient(), DENIED)
            .message_contains("ContentPathAccessible", "(401)"),
        cached("E2 Harbor's proxy before the first pull", manifest(), READ)
            .message_contains("ContentPathAccessible", "dockerhub/library/busybox"),
        cached("E2 Harbor's proxy, unknown upstream too", unknown(), NOT_FOUND),
        acr("E a list that is forbidden, a manifest that is not", denied(), manifest(), READ),
        acr("E both forbidden", denied(), denied(), DENIED)
            .message_contains("ContentPathAccessible", "(403)"),
        acr("E a list that is forbidden, no tag latest", denied(), unknown(), VALIDATED),
        acr("E a list that is unknown, a manifest that is forbidden", unknown(), denied(), NOT_FOUND),
        acr(
            "E a list that is unknown, a manifest that can't be had now",
            unknown(),
            Answer::status(503),
            VALIDATED,
        ),
        acr("E Artifactory's 404 is a page", page(), manifest(), READ),
        acr("E Artifactory's 404 is a page for both", page(), page(), NOT_FOUND),
        acr(
            "E a manifest of Docker's without a digest",
            denied(),
            typed(200, "application/vnd.docker.distribution.manifest.v2+json", ""),
            READ,
        ),
        acr("E a page for the manifest", denied(), typed(200, "text/html", "<html>"), VALIDATED),
        acr("E a server that knows no HEAD", denied(), Answer::status(405), VALIDATED),
        acr("E too many pulls", denied(), Answer::error(429, "TOOMANYREQUESTS"), VALIDATED)
            .message_contains("ContentPathAccessible", "429"),
        acr(
            "E a manifest elsewhere",
            denied(),
            Answer::status(307).header("Location", "{elsewhere}/x"),
            VALIDATED,
        ),
        acr("E a list that was granted needs no manifest", Answer::tags(), denied(), READ),
    ]
}

fn by_password() -> Vec<Row> {
    let ecr = |tags: Answer, latest: Answer| {
        move |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
            (Caller::Alice, path) if path.ends_with(LIST) => tags.clone(),
            (Caller::Alice, path) if path.ends_with(LATEST) => latest.clone(),
            (Caller::Alice, "/v2/") => Answer::granted(),
            _ => Answer::challenge("Basic realm=\"https://{registry.host}/\",service=\"ecr.amazonaws.com\""),
        }
    };
    let met = |name, tags, latest, expected| {
        let spec = right().below("ecr-public").repository("docker/library/python");
        row(name, alone(ecr(tags, latest)), spec, REGISTRY, expected)
    };
    let unknown = || envelope(404, "NAME_UNKNOWN", "The repository does not exist in the registry");
    let denied = || envelope(403, "DENIED", "not authorized to perform: ecr:ListImages");
    vec![
        met("E3 ECR's pull-through cache before the first pull", unknown(), manifest(), READ),
        met("E3 ECR without such a repository", unknown(), unknown(), NOT_FOUND),
        met("E ECR without the right to list", denied(), manifest(), READ),
        met("E ECR without any right", denied(), denied(), DENIED),
    ]
}

/// Nothing but the manifest is granted to the credentials, and it is refused without.
fn proof_by_pulling() -> Vec<Row> {
    let own =
        |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
            (Caller::Bearer(token), path)
                if crate::scripts::opened_by(&token).contains(&"hello".to_owned()) =>
            {
                if path.ends_with(LATEST) { manifest() } else { insufficient() }
            }
            _ => Answer::challenge(TO_AUTH),
        };
    let pulling = |ping: Answer, to_all: bool| {
        move |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
            (Caller::Nobody, "/v2/") if to_all => ping.clone(),
            (Caller::Alice, "/v2/") => ping.clone(),
            (Caller::Alice, path) if path.ends_with(LATEST) => manifest(),
            (Caller::Alice, _) => Answer::error(404, "NAME_UNKNOWN"),
            _ => Answer::challenge("Basic realm=\"r\""),
        }
    };
    let given = token().opening("hello").given();
    let service =
        |answer: fn(&TokenCall) -> Answer| vec![host("registry", own), host("auth", issues(answer))];
    let with_token = || spec().token_secret(&[("token", given.as_str())]).repository("hello");
    let named = || right().repository("hello");
    vec![
        row("E a registry token for pulling alone", service(|_| refused()), with_token(), REGISTRY, READ),
        row(
            "E a registry token for pulling alone, and anonymous tokens that pull too",
            service(|_| token().opening("hello").issued()),
            with_token(),
            REGISTRY,
            UNPROVABLE_READ,
        ),
        row(
            "E no ping and no list, a manifest",
            alone(pulling(Answer::status(404), false)),
            named(),
            REGISTRY,
            READ,
        ),
        row(
            "E an open ping and no list, a manifest",
            alone(pulling(Answer::granted(), true)),
            named(),
            REGISTRY,
            READ,
        ),
    ]
}

fn public() -> Vec<Row> {
    let open = |asked: &ReceivedRequest| match path_of(asked) {
        "/v2/" => Answer::granted(),
        path if path.ends_with(LATEST) => manifest(),
        _ => envelope(404, "NOT_FOUND", "repository not found"),
    };
    let by_token = |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
        (Caller::Bearer(_), path) if path.ends_with(LIST) => insufficient(),
        (Caller::Bearer(_), path) if path.ends_with(LATEST) => manifest(),
        _ => takes_tokens(TO_AUTH)(asked),
    };
    let anybody = |_: &TokenCall| token().opening("api").opening("hello").issued();
    vec![
        row(
            "E a public proxy before the first pull",
            alone(open),
            spec().repository("hello"),
            NOWHERE,
            ANONYMOUS_READ,
        ),
        row(
            "E a public repository whose tags are not",
            vec![host("registry", by_token), host("auth", issues(anybody))],
            spec().repository("hello"),
            NOWHERE,
            ANONYMOUS_READ,
        ),
    ]
}

/// Google's list: every manifest before the tags, `n` unheeded.
fn google(manifests: usize) -> String {
    let mut list = String::from(r#"{"child":[],"manifest":{"#);
    for number in 0..manifests {
        let comma = if number == 0 { "" } else { "," };
        write!(
            list,
            r#"{comma}"sha256:{number:064x}":{{"imageSizeBytes":"1","layerId":"","mediaType":"x","tag":["v{number}"],"timeCreatedMs":"1","timeUploadedMs":"1"}}"#
        )
        .unwrap();
    }
    list + r#"},"name":"p/hello","tags":["v0","v1"]}"#
}

/// A registry with a password that lists tags so; and one whose ping is open, where the list alone proves the password.
fn listing(name: &'static str, body: &str, expected: &'static str) -> Vec<Row> {
    let script = |body: String, open: bool| {
        move |asked: &ReceivedRequest| match (caller(asked), path_of(asked)) {
            (_, "/v2/") if open => Answer::granted(),
            (Caller::Alice, path) if path.ends_with(LIST) => typed(200, "application/json", &body),
            _ => htpasswd(asked),
        }
    };
    let spec = || right().repository("hello");
    let mut rows = vec![row(name, alone(script(body.to_owned(), false)), spec(), REGISTRY, expected)];
    if expected == READ {
        let name = format!("{name}, the proof of the password");
        rows.push(row(name, alone(script(body.to_owned(), true)), spec(), REGISTRY, READ));
    }
    rows
}

fn long_lists() -> Vec<Row> {
    let many = |count: usize| (0..count).map(|number| format!("v{number}.0.0")).collect::<Vec<_>>();
    [
        listing("E4 Google's list of 1,000 manifests", &google(1_000), READ),
        listing("E Google's list of one manifest", &google(1), READ),
        listing(
            "E tags before Google's manifests",
            &json!({"name": "hello", "tags": many(3), "manifest": {"x": "y".repeat(200_000)}}).to_string(),
            READ,
        ),
        listing("E 20,000 tags before the name", &json!({"tags": many(20_000), "zz": 1}).to_string(), READ),
        listing(
            "E 20,000 tags beside a field of another kind",
            &json!({"annotations": {"a": "b"}, "name": "hello", "tags": many(20_000)}).to_string(),
            READ,
        ),
        listing(
            "E one tag, and a comment of 200 KB",
            &json!({"name": "hello", "tags": ["1"], "x": "y".repeat(200_000)}).to_string(),
            READ,
        ),
    ]
    .concat()
}

fn odd_lists() -> Vec<Row> {
    [
        listing("E a list without a name", r#"{"tags":["1.0"]}"#, READ),
        listing("E a list whose name is null", r#"{"name":null,"tags":["1.0"]}"#, READ),
        listing("E fields in capitals", r#"{"Name":"hello","Tags":["1.0"]}"#, READ),
        listing(
            "E more fields than OCI knows",
            r#"{"name":"hello","tags":["1.0"],"next":null,"errors":[],"total":1}"#,
            READ,
        ),
        listing("E a tag that is null beside one", r#"{"name":"hello","tags":[null,"1.0"]}"#, READ),
        listing("E tags twice, the last counts", r#"{"name":"hello","tags":[],"tags":["1.0"]}"#, READ),
        listing("E tags before a line break", "{\"name\":\"hello\",\"tags\":[\"1.0\"]}\n", READ),
        listing("E no tags", r#"{"name":"hello","tags":[]}"#, VALIDATED),
        listing("E tags that are null", r#"{"name":"hello","tags":null}"#, VALIDATED),
        listing("E tags that are an object", r#"{"name":"hello","tags":{"1.0":{}}}"#, VALIDATED),
        listing("E tags that are numbers", r#"{"name":"hello","tags":[1,2]}"#, VALIDATED),
        listing("E a list that is a list", r#"["1.0"]"#, VALIDATED),
        listing("E an error with 200", r#"{"errors":[{"code":"DENIED"}]}"#, VALIDATED),
    ]
    .concat()
    .into_iter()
    .chain([row(
        "E a list that is called HTML",
        alone(|asked| match (caller(asked), path_of(asked)) {
            (Caller::Alice, path) if path.ends_with(LIST) => {
                versioned(typed(200, "text/html", r#"{"name":"hello","tags":["1.0"]}"#))
            }
            _ => htpasswd(asked),
        }),
        right().repository("hello"),
        REGISTRY,
        READ,
    )])
    .chain([row(
        "E a list by a token without a repository's name in it",
        with_service(crate::scripts::strict),
        right().repository("hello"),
        AUTH,
        READ,
    )])
    .collect()
}

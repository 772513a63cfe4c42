//! Registries that can't be installed here, imitated from their documentation and recorded responses: their
//! special behaviour only. docs/registries.md marks them as imitated.

use serde_json::json;

use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{
    Caller, TokenCall, about, caller, content, htpasswd, issues, opened_by, refused, scoped, takes_tokens,
    token,
};
use crate::secrets::{IDENTITY, PASSWORD, USER, WRONG_PASSWORD};
use crate::spec::{Spec, identity, right, spec, wrong, wrong_identity};
use crate::support::{Answer, ReceivedRequest};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const READ: &str = "+Resolved +Reachable +Verified +Validated +Accessible = +Available";
const DENIED: &str = "+Resolved +Reachable +Verified +Validated -Denied = -Denied stalled";
const NOT_FOUND: &str = "+Resolved +Reachable +Verified +Validated -NotFound = -NotFound stalled";
const REJECTED: &str = "+Resolved +Reachable +Verified -Rejected . = -Rejected stalled";
const FORBIDDEN: &str = "+Resolved +Reachable +Verified -Forbidden . = -Forbidden stalled";
const REQUIRED: &str = "+Resolved +Reachable +Verified -Required . = -Required stalled";
const ANONYMOUS: &str = "+Resolved +Reachable +Verified +AnonymousAccess ?Inconclusive = +Available";
const ANONYMOUS_READ: &str = "+Resolved +Reachable +Verified +AnonymousAccess +Accessible = +Available";
const UNPROVABLE: &str = "+Resolved +Reachable +Verified ?Unprovable ?Inconclusive = +CredentialsUnprovable";

pub fn rows() -> Vec<Row> {
    [
        docker_hub(),
        ghcr(),
        quay(),
        harbor(),
        artifactory(),
        gitlab(),
        acr(),
        google(),
        nexus(),
        zot(),
        gitea(),
        ecr(),
        ecr_public(),
    ]
    .concat()
}

/// A registry with its token service at the same host, below `path`.
fn one_host(path: &'static str, challenge: &'static str, service: fn(&TokenCall) -> Answer) -> Vec<Host> {
    let (tokens, registry) = (issues(service), takes_tokens(challenge));
    vec![host(
        "registry",
        move |asked| if asked.path.starts_with(path) { tokens(asked) } else { registry(asked) },
    )]
}

fn docker_hub() -> Vec<Row> {
    let challenge = "Bearer realm=\"{auth}/token\",service=\"registry.docker.io\"";
    let service = |call: &TokenCall| {
        let private = call.repository().is_some_and(|repository| repository.contains("private"));
        let exists = call.repository().is_none_or(|repository| !repository.contains("missing"));
        match call.caller {
            _ if call.parameter("service") != Some("registry.docker.io") => Answer::status(400),
            Caller::Alice if exists => scoped(token().naming("7f2c0f4e-1d").opening("api"), call).issued(),
            Caller::Alice => token().naming("7f2c0f4e-1d").opening("api").issued(),
            Caller::Nobody if private || !exists => token().naming("").opening("api").issued(),
            Caller::Nobody => scoped(token().naming("").opening("api"), call).issued(),
            _ => Answer::status(401).body(r#"{"details":"incorrect username or password"}"#),
        }
    };
    let hub = |name, spec, permits, expected| {
        let hosts = vec![
            host("registry", takes_tokens(challenge)).named("registry-1.docker.io"),
            host("auth", issues(service)).named("auth.docker.io"),
        ];
        row(name, hosts, spec, permits, expected)
    };
    vec![
        hub("Docker Hub, the right password", right(), AUTH, VALIDATED),
        hub("Docker Hub, a wrong password", wrong(), AUTH, REJECTED),
        hub("Docker Hub, anonymous", spec(), NOWHERE, ANONYMOUS),
        hub("Docker Hub, a private repository", right().below("alice").repository("private"), AUTH, READ),
        hub(
            "Docker Hub, a public repository, anonymous",
            spec().below("library").repository("alpine"),
            NOWHERE,
            ANONYMOUS_READ,
        ),
        hub(
            "Docker Hub, a repository that does not exist",
            right().below("alice").repository("missing"),
            AUTH,
            DENIED,
        ),
        hub("Docker Hub, the password under Docker's own name for it", docker_hub_config(), AUTH, VALIDATED),
    ]
}

fn docker_hub_config() -> Spec {
    let auth = crate::spec::docker_auth(USER, PASSWORD);
    spec().docker_config(&json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
}

fn ghcr() -> Vec<Row> {
    let challenge =
        "Bearer realm=\"{registry}/token\",service=\"ghcr.io\",scope=\"repository:user/image:pull\"";
    let service = |call: &TokenCall| match (&call.caller, call.repository()) {
        (Caller::Alice, _) => scoped(token().opening("api"), call).opaque().issued(),
        (Caller::Nobody, Some(repository)) if repository.starts_with("public/") => {
            scoped(token(), call).opaque().issued()
        }
        (Caller::Nobody, Some(_)) => refused(),
        _ => Answer::error(403, "DENIED"),
    };
    let ghcr = |name, spec, permits, expected| {
        let hosts =
            one_host("/token", challenge, service).into_iter().map(|host| host.named("ghcr.io")).collect();
        row(name, hosts, spec, permits, expected)
    };
    vec![
        ghcr("GHCR, the right token", right(), REGISTRY, VALIDATED),
        ghcr("GHCR, a wrong token", wrong(), REGISTRY, FORBIDDEN),
        ghcr("GHCR, anonymous", spec(), NOWHERE, REQUIRED),
        ghcr(
            "GHCR, a public repository, anonymous",
            spec().below("public").repository("hello"),
            NOWHERE,
            ANONYMOUS_READ,
        ),
        ghcr("GHCR, a private repository", right().below("team").repository("hello"), REGISTRY, READ),
        ghcr(
            "GHCR, a public repository, a wrong token",
            wrong().below("public").repository("hello"),
            REGISTRY,
            FORBIDDEN,
        ),
    ]
}

fn quay() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/v2/auth\",service=\"quay.io\"";
    let service = |call: &TokenCall| {
        let actions: &[&str] = if call.repository().is_some_and(|repository| repository.starts_with("team/"))
        {
            &["pull"]
        } else {
            &[]
        };
        let repository = call.repository().unwrap_or("none");
        match call.caller {
            Caller::Alice => token().naming(USER).opening("api").granting(repository, actions).issued(),
            Caller::Nobody => token().naming("(anonymous)").opening("api").granting(repository, &[]).issued(),
            _ => Answer::status(401).body(r#"{"error":"Invalid username or password"}"#),
        }
    };
    let quay = |name, spec, permits, expected| {
        row(name, one_host("/v2/auth", challenge, service), spec, permits, expected)
    };
    vec![
        quay("Quay, the right password", right(), REGISTRY, VALIDATED),
        quay("Quay, a wrong password", wrong(), REGISTRY, REJECTED),
        quay("Quay, anonymous", spec(), NOWHERE, ANONYMOUS),
        quay("Quay, a private repository", right().below("team").repository("hello"), REGISTRY, READ),
        quay(
            "Quay, a token with empty actions",
            right().below("others").repository("hello"),
            REGISTRY,
            DENIED,
        ),
    ]
}

fn harbor() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/service/token\",service=\"harbor-registry\"";
    // With a scope, everyone gets a token, without the access that they lack.
    let service = |call: &TokenCall| match (&call.caller, call.repository()) {
        (Caller::Alice, Some("team/other")) => {
            token().naming(USER).opening("api").granting("team/other", &[]).issued()
        }
        (Caller::Alice, _) => scoped(token().naming(USER).opening("api"), call).issued(),
        (_, Some(repository)) if repository.starts_with("library/") => scoped(token(), call).issued(),
        (_, Some(repository)) => token().granting(repository, &[]).issued(),
        _ => refused(),
    };
    let harbor = |name, spec, permits, expected| {
        row(name, one_host("/service/token", challenge, service), spec, permits, expected)
    };
    vec![
        harbor("Harbor, the right password", right(), REGISTRY, VALIDATED),
        harbor("Harbor, a wrong password", wrong(), REGISTRY, REJECTED),
        harbor(
            "Harbor, a wrong password, with a repository",
            wrong().below("team").repository("hello"),
            REGISTRY,
            REJECTED,
        ),
        harbor(
            "Harbor, a wrong password, with a public repository",
            wrong().below("library").repository("hello"),
            REGISTRY,
            REJECTED,
        ),
        harbor("Harbor, anonymous", spec(), NOWHERE, REQUIRED),
        harbor(
            "Harbor, a public project, anonymous",
            spec().below("library").repository("hello"),
            NOWHERE,
            ANONYMOUS_READ,
        ),
        harbor(
            "Harbor, a private project, anonymous",
            spec().below("team").repository("hello"),
            NOWHERE,
            "+Resolved +Reachable +Verified -Required -Denied = -Required stalled",
        ),
        harbor("Harbor, a private project", right().below("team").repository("hello"), REGISTRY, READ),
        harbor("Harbor, a project of others", right().below("team").repository("other"), REGISTRY, DENIED),
        harbor(
            "Harbor, a repository that does not exist",
            right().below("team").repository("missing"),
            REGISTRY,
            NOT_FOUND,
        ),
    ]
}

fn artifactory() -> Vec<Row> {
    const SUFFIX: &str = "/artifactory/api/docker/packs";
    let challenge =
        "Bearer realm=\"{registry}/artifactory/api/docker/packs/v2/token\",service=\"registry.example.com\"";
    let script = move |asked: &ReceivedRequest| match asked.path.strip_prefix(SUFFIX) {
        Some(rest) if rest.starts_with("/v2/token") => issues(|call| match call.caller {
            Caller::Alice => scoped(token().naming("jfac@01h/users/alice").opening("api"), call).issued(),
            _ => Answer::status(401).body(r#"{"errors":[{"status":401,"message":"Bad Credentials"}]}"#),
        })(asked),
        Some(_) => takes_tokens(challenge)(asked),
        None => Answer::status(404).header("Content-Type", "text/html").body("<html>"),
    };
    let artifactory = |name, spec: Spec, permits, expected| {
        let spec = spec.endpoint("{registry}/artifactory/api/docker/packs");
        row(name, vec![host("registry", script)], spec, permits, expected)
    };
    vec![
        artifactory("Artifactory, the right password", right(), REGISTRY, VALIDATED),
        artifactory("Artifactory, a wrong password", wrong(), REGISTRY, REJECTED),
        artifactory("Artifactory, anonymous", spec(), NOWHERE, REQUIRED),
        artifactory("Artifactory, a repository", right().repository("hello"), REGISTRY, READ),
        row(
            "Artifactory without its suffix",
            vec![host("registry", script)],
            right(),
            NOWHERE,
            "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled",
        ),
    ]
}

fn gitlab() -> Vec<Row> {
    let challenge = "Bearer realm=\"{auth}/jwt/auth\",service=\"container_registry\"";
    let service = |call: &TokenCall| match call.caller {
        Caller::Alice => scoped(token().naming(USER).opening("api"), call).issued(),
        Caller::Nobody => token().opening("api").issued(),
        _ => Answer::status(401)
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"HTTP Basic: Access denied"}]}"#),
    };
    let gitlab = |name, spec, permits, expected| {
        let hosts = vec![
            host("registry", takes_tokens(challenge)).named("registry.gitlab.com"),
            host("auth", issues(service)).named("gitlab.com"),
        ];
        row(name, hosts, spec, permits, expected)
    };
    vec![
        gitlab("GitLab, the right token", right(), AUTH, VALIDATED),
        gitlab("GitLab, a wrong token, which is sent once", wrong(), AUTH, REJECTED),
        gitlab("GitLab, anonymous", spec(), NOWHERE, ANONYMOUS),
        gitlab("GitLab, a private project", right().below("team").repository("hello"), AUTH, READ),
    ]
}

fn acr() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/oauth2/token\",service=\"registry.example.com\"";
    let service = |call: &TokenCall| {
        let opens = || scoped(token().opening("api"), call);
        let refresh = call.method == "POST" && call.parameter("grant_type") == Some("refresh_token");
        match call.caller {
            Caller::Alice if refresh || call.method == "GET" => opens()
                .naming("8c1f0b6e")
                .issued_as(json!({"access_token": opens().naming("8c1f0b6e").text()})),
            _ => refused(),
        }
    };
    let acr = |name, spec, permits, expected| {
        row(name, one_host("/oauth2/token", challenge, service), spec, permits, expected)
    };
    let nobody = "00000000-0000-0000-0000-000000000000";
    vec![
        acr("ACR, the right password", right(), REGISTRY, VALIDATED),
        acr("ACR, a wrong password", wrong(), REGISTRY, REJECTED),
        acr("ACR, a refresh token as the identity token", identity(), REGISTRY, VALIDATED),
        acr("ACR, a refresh token that has ended", wrong_identity(), REGISTRY, REJECTED),
        acr("ACR, a refresh token as nobody's password", spec().login(nobody, IDENTITY), REGISTRY, VALIDATED),
        acr("ACR, anonymous", spec(), NOWHERE, REQUIRED),
        acr("ACR, a repository", right().repository("hello"), REGISTRY, READ),
    ]
}

fn google() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/v2/token\",service=\"registry.example.com\"";
    let service = |call: &TokenCall| match call.caller {
        Caller::Alice => scoped(token().opening("api"), call).opaque().issued(),
        Caller::Nobody => token().opaque().issued(),
        _ => Answer::error(403, "DENIED"),
    };
    let google = |name, spec, permits, expected| {
        row(name, one_host("/v2/token", challenge, service), spec, permits, expected)
    };
    vec![
        google("Google Artifact Registry, the right key", right(), REGISTRY, VALIDATED),
        google("Google Artifact Registry, a wrong key", wrong(), REGISTRY, FORBIDDEN),
        google("Google Artifact Registry, anonymous", spec(), NOWHERE, REQUIRED),
        google(
            "Google Artifact Registry, a repository",
            right().below("project/repo").repository("hello"),
            REGISTRY,
            READ,
        ),
    ]
}

fn nexus() -> Vec<Row> {
    // With anonymous pull, passwords are not checked where anonymous clients may read.
    let script = |asked: &ReceivedRequest| {
        if about(asked).contains("private") { htpasswd(asked) } else { content(asked) }
    };
    let nexus =
        |name, spec, permits, expected| row(name, vec![host("registry", script)], spec, permits, expected);
    vec![
        nexus("Nexus with anonymous pull, the right password", right(), REGISTRY, UNPROVABLE),
        nexus("Nexus with anonymous pull, a wrong password", wrong(), REGISTRY, UNPROVABLE),
        nexus(
            "Nexus with anonymous pull, a wrong password, a public repository",
            wrong().repository("hello"),
            REGISTRY,
            "+Resolved +Reachable +Verified ?Unprovable +Accessible = +CredentialsUnprovable",
        ),
        nexus(
            "Nexus with anonymous pull, a wrong password, a private repository",
            wrong().repository("private"),
            REGISTRY,
            REJECTED,
        ),
        nexus(
            "Nexus with anonymous pull, the right password, a private repository",
            right().repository("private"),
            REGISTRY,
            READ,
        ),
        nexus("Nexus with anonymous pull, anonymous", spec(), NOWHERE, ANONYMOUS),
        row(
            "Nexus without anonymous pull, the right password",
            vec![host("registry", htpasswd)],
            right(),
            REGISTRY,
            VALIDATED,
        ),
        row(
            "Nexus without anonymous pull, a wrong password",
            vec![host("registry", htpasswd)],
            wrong(),
            REGISTRY,
            REJECTED,
        ),
    ]
}

fn zot() -> Vec<Row> {
    let script = |asked: &ReceivedRequest| match caller(asked) {
        Caller::Stranger => Answer::challenge("Basic realm=\"zot\""),
        Caller::Nobody if about(asked).contains("private") => Answer::challenge("Basic realm=\"zot\""),
        _ => content(asked),
    };
    let zot =
        |name, spec, permits, expected| row(name, vec![host("registry", script)], spec, permits, expected);
    vec![
        zot("Zot with anonymous reading, the right password", right(), REGISTRY, UNPROVABLE),
        zot("Zot with anonymous reading, a wrong password", wrong(), REGISTRY, REJECTED),
        zot(
            "Zot with anonymous reading, a private repository",
            right().repository("private"),
            REGISTRY,
            READ,
        ),
        zot("Zot with anonymous reading, anonymous", spec(), NOWHERE, ANONYMOUS),
    ]
}

fn gitea() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/v2/token\",service=\"container_registry\",scope=\"*\"";
    // Its tokens name accounts by a proprietary claim, and anonymous clients get a ghost account.
    let service = |call: &TokenCall| match call.caller {
        Caller::Alice => token().numbered(7).opening("api").opening("team/hello").issued(),
        Caller::Nobody => token().numbered(-1).opening("api").issued(),
        _ => refused(),
    };
    let script = move |asked: &ReceivedRequest| match caller(asked) {
        _ if asked.path.starts_with("/v2/token") => issues(service)(asked),
        Caller::Bearer(token) if opened_by(&token).contains(&about(asked)) => content(asked),
        Caller::Alice => content(asked),
        _ => Answer::challenge(challenge)
            .header("WWW-Authenticate", "Basic realm=\"Gitea Container Registry\""),
    };
    let gitea =
        |name, spec, permits, expected| row(name, vec![host("registry", script)], spec, permits, expected);
    vec![
        gitea("Gitea, the right password", right(), REGISTRY, VALIDATED),
        gitea("Gitea, a wrong password", wrong(), REGISTRY, REJECTED),
        gitea("Gitea, a private repository", right().below("team").repository("hello"), REGISTRY, READ),
        gitea("Gitea, anonymous", spec(), NOWHERE, ANONYMOUS),
    ]
}

fn ecr() -> Vec<Row> {
    let ended = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
    let script = move |asked: &ReceivedRequest| match caller(asked) {
        Caller::Alice => content(asked),
        Caller::Stranger => Answer::status(403).body(ended),
        _ => Answer::challenge("Basic realm=\"https://{registry.host}/\",service=\"ecr.amazonaws.com\""),
    };
    let ecr =
        |name, spec, permits, expected| row(name, vec![host("registry", script)], spec, permits, expected);
    vec![
        ecr("ECR, a token that is good", right(), REGISTRY, VALIDATED),
        // The registry says so itself, in the error that it answers.
        ecr(
            "ECR, a token that has expired",
            spec().login("AWS", WRONG_PASSWORD),
            REGISTRY,
            "+Resolved +Reachable +Verified -Expired . = -Expired stalled",
        ),
        ecr("ECR, anonymous", spec(), NOWHERE, REQUIRED),
        ecr("ECR, a repository that does not exist", right().repository("missing"), REGISTRY, NOT_FOUND),
    ]
}

fn ecr_public() -> Vec<Row> {
    let challenge = "Bearer realm=\"{registry}/token/\",service=\"public.ecr.aws\",scope=\"aws\"";
    let service = |call: &TokenCall| match call.caller {
        Caller::Alice | Caller::Nobody => scoped(token().opening("api"), call).opaque().issued(),
        _ => Answer::status(400)
            .body(r#"{"errors":[{"code":"INVALID","message":"The authorization token is invalid"}]}"#),
    };
    let public = |name, spec, permits, expected| {
        row(name, one_host("/token/", challenge, service), spec, permits, expected)
    };
    vec![
        public("ECR Public, anonymous", spec(), NOWHERE, ANONYMOUS),
        public("ECR Public, as the spec has it", spec().auth(json!({"ecr": {}})), NOWHERE, ANONYMOUS),
        public("ECR Public, an invalid token", wrong(), REGISTRY, REJECTED),
        public("ECR Public, the right token", right(), REGISTRY, UNPROVABLE),
    ]
}

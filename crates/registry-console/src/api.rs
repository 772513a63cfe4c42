//! The API for programs: `kubectl registry validate --from`. A bearer token, no cookie, no session; the same gate and the same limits as
//! the pages.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::{Query, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use kube::ResourceExt as _;
use registry_api::TENANT_POLICY;
use registry_check::{
    check::Checker,
    cluster::Cluster,
    manifest::{Declared, Manifests},
    report::{CheckReport, objects},
    session::{CheckSession, SessionError},
    supply::{Contents, FetchedReferences, Supply},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bearer_token::BearerToken, body_limits::is_late, console::Console, error::ConsoleError, scope::is_name,
    token_sign_in, trial::SilentProgress, user::UserClient,
};

/// Where manifests are sent to.
pub const VALIDATE: &str = "/api/v1alpha1/validate";
/// The largest request body, in bytes.
const LARGEST_BODY: usize = 256 * 1024;
/// How many registries a request has at most: as many as a user may validate in a minute.
const MOST_REGISTRIES: usize = 20;

/// What may stand in the URL.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ValidateQuery {
    /// The namespace of objects without one.
    namespace: String,
}

/// Why there is no result. The answer is a `Status`, as of the API server.
pub struct ApiRefusal(StatusCode, String);

impl From<ConsoleError> for ApiRefusal {
    fn from(error: ConsoleError) -> Self {
        Self(error.status(), error.to_string())
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let object = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": status.as_u16()});
        json_answer(status, &object)
    }
}

fn json_answer(status: StatusCode, object: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], object.to_string()).into_response()
}

fn bad_request(message: impl Into<String>) -> ApiRefusal {
    ApiRefusal(StatusCode::BAD_REQUEST, message.into())
}

/// Checks the registries of the manifests in the body, as the token's user.
pub async fn validate(
    State(console): State<Arc<Console>>,
    Query(query): Query<ValidateQuery>,
    request: Request,
) -> Result<Response, ApiRefusal> {
    let (parts, body) = request.into_parts();
    let (user, name) = user_of(&console, &parts.headers).await?;
    // Before the body is read: reading takes memory too.
    let _request = console.begin_request(&name)?;
    let manifests = read(body).await?;
    let namespace = if is_name(&query.namespace) { query.namespace } else { "default".to_owned() };
    let mut reports = Vec::new();
    for declared in &manifests.registries {
        let (checker, _turn) = console.begin_validation(&format!("token of {name}"), &name)?;
        let report = Box::pin(check(checker, user.cluster(), (&manifests, declared), &namespace)).await;
        let report =
            report.map_err(|error| ConsoleError::Internal(format!("failed to validate: {error}")))?;
        console.validated(report.outcome());
        reports.push(report);
    }
    Ok(json_answer(StatusCode::OK, &objects(&reports)))
}

/// The user of the request's token; a cookie is none.
async fn user_of(console: &Console, headers: &HeaderMap) -> Result<(UserClient, String), ApiRefusal> {
    let nowhere = || ConsoleError::NotFound("there is no such page".to_owned());
    let server = console.api_server.as_ref().ok_or_else(nowhere)?;
    let token = BearerToken::of(headers).map_err(|error| ConsoleError::TokenRefused(error.to_string()))?;
    let missing =
        || ConsoleError::TokenRefused("The header Authorization with a bearer token is missing".to_owned());
    Ok(token_sign_in::user_of(console, server, &token.ok_or_else(missing)?).await?)
}

/// Why a body can't be read.
fn unread(error: &axum::Error) -> ApiRefusal {
    let (status, message) = if is_late(error) {
        (StatusCode::REQUEST_TIMEOUT, "The request took longer than 30 seconds")
    } else {
        (StatusCode::PAYLOAD_TOO_LARGE, "The manifests can't be read, or are larger than 256 KiB")
    };
    ApiRefusal(status, message.to_owned())
}

async fn read(body: Body) -> Result<Manifests, ApiRefusal> {
    let bytes = to_bytes(body, LARGEST_BODY).await.map_err(|error| unread(&error))?;
    let text =
        str::from_utf8(&bytes).map_err(|_| bad_request("The manifests must be JSON or YAML in UTF-8"))?;
    let mut manifests = Manifests::default();
    manifests.read_untrusted("the request", text).map_err(|error| bad_request(error.to_string()))?;
    match manifests.registries.len() {
        0 => Err(bad_request("There is no SystemRegistry or TenantRegistry in the request")),
        1..=MOST_REGISTRIES => Ok(trusted(manifests)),
        _ => Err(bad_request("The request has more than 20 registries; send several requests")),
    }
}

/// Without what only the cluster can say: the tenant of a namespace, and the tenant policy.
fn trusted(mut manifests: Manifests) -> Manifests {
    manifests.namespaces.clear();
    // By the name that the supply looks for, which may be `generateName`.
    manifests.config_maps.retain(|map| map.name_any() != TENANT_POLICY);
    manifests
}

async fn check(
    checker: Checker,
    cluster: &Cluster,
    (manifests, declared): (&Manifests, &Declared),
    namespace: &str,
) -> Result<CheckReport, SessionError> {
    let mut session = CheckSession {
        checker,
        system_namespace: &cluster.system_namespace,
        supply: Supply {
            manifests,
            cluster: Ok(cluster),
            namespace,
            password: None,
            username: None,
            prompt: || None,
            typed: Contents::new(),
            fetched: FetchedReferences::new(),
            notes: Vec::new(),
            on_behalf: true,
        },
        progress: SilentProgress,
        learned: None,
    };
    session.report_on_behalf(declared).await
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures::stream;
    use http::{HeaderValue, Method};

    use super::*;
    use crate::simulated;

    #[tokio::test]
    async fn third_request_of_a_user_is_refused_unread() {
        let console = simulated::in_cluster();
        let turns = [console.begin_request("ann").unwrap(), console.begin_request("ann").unwrap()];
        let body = Body::from_stream(stream::pending::<Result<String, Infallible>>());
        let mut request = simulated::request(Method::POST, VALIDATE, "", body);
        request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer ann-1"));
        let answer = simulated::answer(&console, request);
        let (status, _) = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap();
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        drop(turns);
        assert!(console.begin_request("ann").is_ok());
    }

    #[tokio::test]
    async fn aliases_do_not_make_a_request_large() {
        let long = "a".repeat(200 * 1024);
        let body = format!("{{apiVersion: v1, kind: Other, a: &a {long}, b: [*a, *a, *a]}}");
        let ApiRefusal(status, _) = read(Body::from(body)).await.err().unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn body_that_is_no_manifest_is_refused() {
        let registry = "{apiVersion: registry.spectrocloud.com/v1alpha1, kind: SystemRegistry}";
        let many = vec![registry; MOST_REGISTRIES + 1].join("\n---\n");
        for (body, words) in [
            ("", "no SystemRegistry or TenantRegistry"),
            ("a: [", "the request is not valid YAML"),
            (&many, "more than 20 registries"),
        ] {
            let ApiRefusal(status, message) = read(Body::from(body.to_owned())).await.err().unwrap();
            assert!(status == StatusCode::BAD_REQUEST && message.contains(words), "{message}");
        }
        let ApiRefusal(status, _) = read(Body::from("a".repeat(LARGEST_BODY + 1))).await.err().unwrap();
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn request_says_nothing_about_tenants_and_policies() {
        let body = "
apiVersion: registry.spectrocloud.com/v1alpha1
kind: TenantRegistry
metadata: {name: a, namespace: team}
---
{apiVersion: v1, kind: Namespace, metadata: {name: team, labels: {registry.spectrocloud.com/tenant: t}}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: registry-operator-tenant-policy}, data: {allowedEndpoints: evil.example}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {generateName: registry-operator-tenant-policy}, data: {allowedEndpoints: evil.example}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: ca}, data: {ca.crt: x}}
";
        let manifests = read(Body::from(body)).await.map_err(|ApiRefusal(_, why)| why).unwrap();
        assert!(manifests.namespaces.is_empty());
        let names: Vec<_> = manifests.config_maps.iter().map(|map| map.metadata.name.as_deref()).collect();
        assert_eq!(names, [Some("ca")]);
    }
}

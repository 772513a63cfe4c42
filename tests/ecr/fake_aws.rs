//! A strict AWS: verifies Signature V4, keeps users, sessions and roles with trust policies, answers with AWS's real error
//! bodies in the protocols of ECR (JSON 1.1) and STS (query, XML), and counts. And a registry that takes its tokens.
//!
//! Its responses contain everything that must stay secret (ARNs, request ids), so that a test can check that none
//! of it appears in the output.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::strtime};
use serde_json::json;
use tokio::net::TcpListener;

/// The account of all users of the fake.
pub const ACCOUNT: &str = "123456789012";
/// What Kubernetes gives to the operator's Pod, to show to AWS.
pub const POD_TOKEN: &str = "HUSH-pod-token";
/// Texts that no status may contain.
pub const SECRETS_OF_AWS: [&str; 4] = ["arn:aws:iam::", "arn:aws:sts::", "f00dfeed", "HUSH"];

/// A user's defect.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UserDefect {
    /// Nothing.
    #[default]
    None,
    /// The session's token has expired.
    Expired,
    /// No policy allows `ecr:GetAuthorizationToken`.
    Denied,
    /// A service control policy denies it.
    ExplicitlyDenied,
    /// AWS's clock is this far ahead of ours: a quarter of an hour.
    Skewed,
    /// Every request is throttled.
    Throttled,
    /// AWS answers with a server error.
    Broken,
    /// A proxy answers in AWS's place.
    Proxied,
    /// No answer.
    Silent,
    /// This error, to that operation.
    Answers {
        operation: &'static str,
        status: u16,
        code: &'static str,
        /// Behind what every such message begins with.
        says: &'static str,
    },
}

/// A user with a key.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// The secret access key.
    pub secret: String,
    /// The session's token.
    pub session: Option<String>,
    /// What is wrong.
    pub trouble: UserDefect,
}

/// A role and its trust policy.
#[derive(Clone, Debug)]
pub struct Role {
    /// The key ids that may assume it.
    pub trusted: Vec<String>,
    /// The external id that is asked for.
    pub external_id: Option<String>,
    /// What is wrong with its sessions.
    pub trouble: UserDefect,
}

/// A request that was let in or not, after its signature was looked at.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GetAuthorizationToken`, `DescribeRepositories`, `AssumeRole`.
    pub operation: String,
    /// Who signed.
    pub key: String,
    /// For which region.
    pub region: String,
}

#[derive(Default)]
struct State {
    users: HashMap<String, User>,
    roles: HashMap<String, Role>,
    calls: Vec<Call>,
    tokens: Vec<String>,
    repositories: Vec<String>,
}

/// The fake, running.
pub struct Aws {
    url: String,
    state: Arc<Mutex<State>>,
    serial: Arc<AtomicUsize>,
    settings: Settings,
}

/// How it behaves.
#[derive(Clone)]
pub struct Settings {
    /// The only region that it serves.
    pub region: String,
    /// The only region of its STS, if it is another.
    pub sts_region: Option<String>,
    /// How long tokens live.
    pub life: Duration,
    /// A password that all tokens have, for registries that know but one.
    pub password: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "eu-central-1".into(),
            sts_region: None,
            life: Duration::from_hours(12),
            password: None,
        }
    }
}

impl Aws {
    /// Starts it.
    pub async fn start(settings: Settings) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let aws = Arc::new(Self { url, state: Arc::default(), serial: Arc::default(), settings });
        let serving = aws.clone();
        serve(listener, move |request| {
            let aws = serving.clone();
            async move { aws.answer(request).await }
        });
        Ok(aws)
    }

    /// Its endpoint, for both APIs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds a user.
    pub fn user(&self, key: &str, user: User) {
        self.lock().users.insert(key.to_owned(), user);
    }

    /// Adds a user without a defect.
    pub fn good_user(&self, key: &str) -> String {
        let secret = format!("HUSH+{key}/key");
        self.user(key, User { secret: secret.clone(), ..User::default() });
        secret
    }

    /// Changes a user's defect.
    pub fn trouble(&self, key: &str, trouble: UserDefect) {
        if let Some(user) = self.lock().users.get_mut(key) {
            user.trouble = trouble;
        }
    }

    /// Makes a role; its ARN.
    pub fn role(&self, name: &str, role: Role) -> String {
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/{name}");
        self.lock().roles.insert(arn.clone(), role);
        arn
    }

    /// Makes a repository.
    pub fn repository(&self, name: &str) {
        self.lock().repositories.push(name.to_owned());
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many calls of that operation were signed by that key.
    pub fn count(&self, operation: &str, key: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation && call.key == key).count()
    }

    /// How many calls of that operation there were.
    pub fn total(&self, operation: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Invalidates all tokens that were issued so far.
    pub fn withdraw_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let protocol = if target.is_some() { Protocol::Json } else { Protocol::Query };
        let operation = match target {
            Some(target) => target.rsplit('.').next().unwrap_or_default().to_owned(),
            None => form(&body).remove("Action").unwrap_or_default(),
        };
        if operation == "AssumeRoleWithWebIdentity" {
            return self.web_identity(&form(&body));
        }
        if parts.uri.path() == "/pod-identity" {
            return self.pod_identity(&parts);
        }
        if parts.uri.path().starts_with("/latest/") {
            return self.metadata(&parts);
        }
        match self.perform(&operation, &parts, &body, protocol).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(protocol),
        }
    }

    /// IRSA: unsigned, with the token that Kubernetes gave to the Pod.
    fn web_identity(&self, form: &BTreeMap<String, String>) -> Response<Full<Bytes>> {
        self.note("AssumeRoleWithWebIdentity", "");
        if form.get("WebIdentityToken").map(String::as_str) != Some(POD_TOKEN) {
            return Refusal::of(Protocol::Query, Fault::NotAssumable).response(Protocol::Query);
        }
        let end = now() + Duration::from_hours(1);
        let (id, secret, session) = self.session();
        Protocol::Query.ok(&format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}\
             </SecretAccessKey><SessionToken>{session}</SessionToken><Expiration>{end}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        ))
    }

    /// EKS Pod Identity's agent.
    fn pod_identity(&self, parts: &Parts) -> Response<Full<Bytes>> {
        self.note("PodIdentity", "");
        if parts.headers.get("authorization").is_none_or(|token| token != POD_TOKEN) {
            return plain(403, "");
        }
        let (id, secret, session) = self.session();
        let end = (now() + Duration::from_hours(1)).to_string();
        let answer =
            json!({"AccessKeyId": id, "SecretAccessKey": secret, "Token": session, "Expiration": end});
        Protocol::Json.ok(&answer.to_string())
    }

    /// The metadata service of a node without a role.
    fn metadata(&self, parts: &Parts) -> Response<Full<Bytes>> {
        if parts.uri.path() != "/latest/api/token" {
            self.note("Metadata", "");
            return plain(404, "");
        }
        let mut response = plain(200, "HUSH-metadata-token");
        response
            .headers_mut()
            .insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static("21600"));
        response
    }

    /// A session of the operator's.
    fn session(&self) -> (&'static str, &'static str, &'static str) {
        let (id, secret, session) = ("ASIAOPERATOR", "HUSH-operator", "HUSH-operator-session");
        let (user_secret, user_session) = (secret.to_owned(), Some(session.to_owned()));
        self.user(id, User { secret: user_secret, session: user_session, trouble: UserDefect::None });
        (id, secret, session)
    }

    fn note(&self, operation: &str, key: &str) {
        let (operation, key, region) = (operation.to_owned(), key.to_owned(), String::new());
        self.lock().calls.push(Call { operation, key, region });
    }

    async fn perform(
        &self,
        operation: &str,
        parts: &Parts,
        body: &Bytes,
        protocol: Protocol,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let signature = Signature::read(parts).map_err(|_| Refusal::of(protocol, Fault::Incomplete))?;
        self.lock().calls.push(Call {
            operation: operation.to_owned(),
            key: signature.key.clone(),
            region: signature.region.clone(),
        });
        let user = self.lock().users.get(&signature.key).cloned();
        let user = user.ok_or_else(|| Refusal::of(protocol, Fault::UnknownKey))?;
        match user.trouble {
            UserDefect::Silent => std::future::pending().await,
            UserDefect::Proxied => return Ok(plain(403, "<html>HUSH proxy</html>")),
            UserDefect::Throttled => return Err(Refusal::of(protocol, Fault::Throttled)),
            UserDefect::Broken => return Err(Refusal::of(protocol, Fault::Broken)),
            UserDefect::Expired => return Err(Refusal::of(protocol, Fault::Expired)),
            _ => {}
        }
        self.verify(&signature, &user, parts, body).map_err(|fault| Refusal::of(protocol, fault))?;
        if let UserDefect::Answers { operation: at, status, code, says } = user.trouble
            && at == operation
        {
            let message = format!("User: arn:aws:sts::{ACCOUNT}:assumed-role/HUSH/HUSH {says}");
            return Err(Refusal { status, code, message });
        }
        match operation {
            "GetAuthorizationToken" => self.token(&user),
            "DescribeRepositories" => Ok(self.repositories()),
            "AssumeRole" => self.assume(&signature.key, &form(body)),
            _ => Err(Refusal::of(protocol, Fault::UnknownOperation)),
        }
    }

    fn verify(&self, signature: &Signature, user: &User, parts: &Parts, body: &Bytes) -> Result<(), Fault> {
        let session = parts.headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
        if session != user.session.as_deref() {
            return Err(Fault::UnknownKey);
        }
        let service = if parts.headers.contains_key("x-amz-target") { "ecr" } else { "sts" };
        let Settings { region, sts_region, .. } = &self.settings;
        let region = sts_region.as_ref().filter(|_| service == "sts").unwrap_or(region);
        if signature.region != *region || signature.service != service {
            return Err(Fault::Scope);
        }
        let skew = SignedDuration::from_mins(if user.trouble == UserDefect::Skewed { 15 } else { 0 });
        let now = now() + skew;
        let signed_at = signature.signed_at().ok_or(Fault::Incomplete)?;
        if now.duration_since(signed_at).abs() > SignedDuration::from_mins(5) {
            return Err(Fault::Clock { signed_at, now });
        }
        let expected = signature.expected(&user.secret, parts, body);
        if expected.as_deref() == Some(signature.hash.as_str()) { Ok(()) } else { Err(Fault::Signature) }
    }

    fn token(&self, user: &User) -> Result<Response<Full<Bytes>>, Refusal> {
        let fault = |explicitly| Refusal::of(Protocol::Json, Fault::Denied { explicitly });
        match user.trouble {
            UserDefect::Denied => return Err(fault(false)),
            UserDefect::ExplicitlyDenied => return Err(fault(true)),
            _ => {}
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let password = self.settings.password.clone().unwrap_or_else(|| format!("HUSH-token-{serial}"));
        self.lock().tokens.push(password.clone());
        let end = now() + self.settings.life;
        let data = json!({
            "authorizationToken": STANDARD.encode(format!("AWS:{password}")),
            "expiresAt": end.as_second(),
            "proxyEndpoint": format!("https://{ACCOUNT}.dkr.ecr.{}.amazonaws.com", self.settings.region),
        });
        Ok(Protocol::Json.ok(&json!({"authorizationData": [data]}).to_string()))
    }

    fn repositories(&self) -> Response<Full<Bytes>> {
        let state = self.lock();
        let list: Vec<_> = state.repositories.iter().map(|name| json!({"repositoryName": name})).collect();
        Protocol::Json.ok(&json!({"repositories": list}).to_string())
    }

    fn assume(&self, key: &str, form: &BTreeMap<String, String>) -> Result<Response<Full<Bytes>>, Refusal> {
        let role = form.get("RoleArn").and_then(|arn| self.lock().roles.get(arn).cloned());
        let role = role.filter(|role| role.trusted.iter().any(|trusted| trusted == key));
        let given = form.get("ExternalId").cloned();
        let role = role.filter(|role| role.external_id.is_none() || role.external_id == given);
        let role = role.ok_or_else(|| Refusal::of(Protocol::Query, Fault::NotAssumable))?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (id, secret, session) =
            (format!("ASIASESSION{serial}"), format!("S{serial}"), format!("T/{serial}=="));
        let user = User { secret: secret.clone(), session: Some(session.clone()), trouble: role.trouble };
        self.lock().users.insert(id.clone(), user);
        let end = now() + Duration::from_hours(1);
        Ok(Protocol::Query.ok(&format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
             <Arn>arn:aws:sts::{ACCOUNT}:assumed-role/r/s</Arn><AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser>\
             <Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{session}</SessionToken><Expiration>{end}</Expiration></Credentials></AssumeRoleResult>\
             <ResponseMetadata><RequestId>f00dfeed-0000</RequestId></ResponseMetadata></AssumeRoleResponse>"
        )))
    }
}

/// A registry, without TLS, that takes the tokens which `aws` gave and has not withdrawn; its `host:port`. The one
/// repository in it is `team/packs/hello`.
pub async fn registry(aws: Arc<Aws>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    serve(listener, move |request| {
        let response = registry_answer(&aws, request.uri().path(), request.headers());
        async move { response }
    });
    Ok(address)
}

fn registry_answer(aws: &Aws, path: &str, headers: &http::HeaderMap) -> Response<Full<Bytes>> {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let pair = authorization
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|value| STANDARD.decode(value).ok())
        .and_then(|pair| String::from_utf8(pair).ok());
    let known = |pair: &String| {
        pair.strip_prefix("AWS:")
            .is_some_and(|password| aws.lock().tokens.iter().any(|token| token == password))
    };
    let (status, body) = match pair {
        // ECR answers a token that has ended 403, without a challenge.
        Some(pair) if !known(&pair) => (
            403,
            r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate."}]}"#,
        ),
        Some(_) if path.ends_with("/hello/tags/list") => {
            (200, r#"{"name":"team/packs/hello","tags":["1.0"]}"#)
        }
        Some(_) if path == "/v2/" => (200, "{}"),
        Some(_) => (404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        None => (401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#),
    };
    let mut response = plain(status, body);
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if status == 401 {
        let challenge = "Basic realm=\"https://123456789012.dkr.ecr.eu-central-1.amazonaws.com/\",service=\"ecr.amazonaws.com\"";
        headers.insert("www-authenticate", HeaderValue::from_static(challenge));
    }
    response
}

fn serve<F, R>(listener: TcpListener, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async move { Ok::<_, Infallible>(answering.await) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
}

fn plain(status: u16, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body).map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

#[expect(clippy::disallowed_methods, reason = "AWS has a clock of its own")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Json,
    Query,
}

impl Protocol {
    fn ok(self, body: &str) -> Response<Full<Bytes>> {
        self.response(200, body)
    }

    fn response(self, status: u16, body: &str) -> Response<Full<Bytes>> {
        let kind = if self == Self::Json { "application/x-amz-json-1.1" } else { "text/xml" };
        let mut response = plain(status, body);
        response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        response.headers_mut().insert("x-amzn-requestid", HeaderValue::from_static("f00dfeed-0000"));
        response
    }
}

#[derive(Clone, Copy)]
enum Fault {
    Incomplete,
    UnknownKey,
    Signature,
    Scope,
    Clock { signed_at: Timestamp, now: Timestamp },
    Expired,
    Denied { explicitly: bool },
    NotAssumable,
    Throttled,
    Broken,
    UnknownOperation,
}

/// An error as AWS words it: those of ECR and STS differ in code and status.
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn of(protocol: Protocol, fault: Fault) -> Self {
        let json = protocol == Protocol::Json;
        let pick = |ecr: (u16, &'static str), sts: (u16, &'static str)| if json { ecr } else { sts };
        let user = format!("User: arn:aws:iam::{ACCOUNT}:user/HUSH");
        let ((status, code), message) = match fault {
            Fault::Incomplete => (
                pick((400, "IncompleteSignatureException"), (403, "IncompleteSignature")),
                "Authorization header requires 'Credential' parameter.".to_owned(),
            ),
            Fault::UnknownKey => (
                pick((400, "UnrecognizedClientException"), (403, "InvalidClientTokenId")),
                "The security token included in the request is invalid.".to_owned(),
            ),
            Fault::Signature => (
                pick((400, "InvalidSignatureException"), (403, "SignatureDoesNotMatch")),
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details."
                    .to_owned(),
            ),
            Fault::Scope => (
                pick((400, "InvalidSignatureException"), (403, "SignatureDoesNotMatch")),
                "Credential should be scoped to a valid region. ".to_owned(),
            ),
            Fault::Clock { signed_at, now } => (
                pick((400, "InvalidSignatureException"), (403, "SignatureDoesNotMatch")),
                format!("Signature expired: {signed_at} is now earlier than {now} ({now} - 5 min.)"),
            ),
            Fault::Expired => (
                pick((400, "ExpiredTokenException"), (403, "ExpiredToken")),
                "The security token included in the request is expired".to_owned(),
            ),
            Fault::Denied { explicitly } => {
                let why = if explicitly {
                    "with an explicit deny in a service control policy"
                } else {
                    "because no identity-based policy allows the ecr:GetAuthorizationToken action"
                };
                let what = "is not authorized to perform: ecr:GetAuthorizationToken on resource: *";
                ((400, "AccessDeniedException"), format!("{user} {what} {why}"))
            }
            Fault::NotAssumable => {
                let role = format!("arn:aws:iam::{ACCOUNT}:role/HUSH");
                ((403, "AccessDenied"), format!("{user} is not authorized to perform: sts:AssumeRole on resource: {role}"))
            }
            Fault::Throttled => (pick((400, "ThrottlingException"), (400, "Throttling")), "Rate exceeded".to_owned()),
            Fault::Broken => {
                (pick((500, "ServerException"), (500, "InternalFailure")), "HUSH internal".to_owned())
            }
            Fault::UnknownOperation => ((400, "UnknownOperationException"), String::new()),
        };
        Self { status, code, message }
    }

    fn response(self, protocol: Protocol) -> Response<Full<Bytes>> {
        let Self { status, code, message } = self;
        let body = match protocol {
            Protocol::Json => json!({"__type": code, "message": message}).to_string(),
            Protocol::Query => format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}\
                 </Code><Message>{message}</Message></Error><RequestId>f00dfeed-0000</RequestId></ErrorResponse>"
            ),
        };
        protocol.response(status, &body)
    }
}

/// AWS Signature Version 4, as a request carries it.
struct Signature {
    key: String,
    date: String,
    region: String,
    service: String,
    headers: Vec<String>,
    hash: String,
    time: String,
}

impl Signature {
    fn read(parts: &Parts) -> Result<Self> {
        let header =
            |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).context("no header");
        let fields = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").context("another scheme")?;
        let fields: HashMap<&str, &str> =
            fields.split(',').filter_map(|field| field.trim().split_once('=')).collect();
        let scope: Vec<&str> = fields.get("Credential").context("no credential")?.split('/').collect();
        ensure!(scope.len() == 5 && scope[4] == "aws4_request", "not a scope");
        let headers = fields.get("SignedHeaders").context("no headers")?.split(';').map(ToOwned::to_owned);
        let headers: Vec<String> = headers.collect();
        for needed in ["host", "x-amz-date", "x-amz-target", "x-amz-security-token"] {
            ensure!(
                !parts.headers.contains_key(needed) || headers.iter().any(|h| h == needed),
                "{needed} not signed"
            );
        }
        Ok(Self {
            key: scope[0].to_owned(),
            date: scope[1].to_owned(),
            region: scope[2].to_owned(),
            service: scope[3].to_owned(),
            headers,
            hash: (*fields.get("Signature").context("no signature")?).to_owned(),
            time: header("x-amz-date")?.to_owned(),
        })
    }

    fn signed_at(&self) -> Option<Timestamp> {
        let time = strtime::parse("%Y%m%dT%H%M%SZ", &self.time).ok()?.to_datetime().ok()?;
        time.to_zoned(k8s_openapi::jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
    }

    fn expected(&self, secret: &str, parts: &Parts, body: &[u8]) -> Option<String> {
        let mut canonical =
            format!("{}\n{}\n{}\n", parts.method, parts.uri.path(), parts.uri.query().unwrap_or(""));
        for name in &self.headers {
            let _ = writeln!(canonical, "{name}:{}", parts.headers.get(name)?.to_str().ok()?.trim());
        }
        let body = hex(digest::digest(&digest::SHA256, body).as_ref());
        let _ = write!(canonical, "\n{}\n{body}", self.headers.join(";"));
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", self.time);
        let words = [self.date.as_str(), &self.region, &self.service, "aws4_request", &text];
        let signature = words.iter().fold(format!("AWS4{secret}").into_bytes(), |key, word| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), word.as_bytes()).as_ref().to_vec()
        });
        Some(hex(&signature))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

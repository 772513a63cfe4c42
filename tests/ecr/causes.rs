//! Every cause for which AWS issues no token, with its condition and reason, in both scopes, with the operator as a process;
//! and only SystemRegistries can use the operator's own identity.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use registry_api::RegistryStatus;
use registry_testbed::{ControlPlaneOptions, Operator, TestCa, TestRegistry, process::Scratch};
use registry_verdict::ecr::Urgency;
use serde_json::{Value, json};

use crate::{
    fake_aws::{Aws, POD_TOKEN, Role, SECRETS_OF_AWS, Settings, User, UserDefect},
    fixtures::{Marker, PROMISED, TestScope, VALIDATED, Verdict, View, protected},
    harness::Installation,
    moment::Moment,
    support::{check, prober, tokens, tokens_in, validate, verdict},
};

const PASSWORD: &str = "HUSH-of-the-registry";
const OPERATOR: &str = "AKIAOPERATOR";
const REJECTED: Verdict = Verdict::refused("False/Rejected");
const TOKEN: &str = "GetAuthorizationToken";
const ROLE: &str = "AssumeRole";
const ROLE_DENIED: Verdict = Verdict::refused("False/RoleDenied");
const FORBIDDEN: Verdict = Verdict::refused("False/Forbidden");

/// AWS could not be reached, or is throttling.
const fn passing(credentials: &'static str, ready: &'static str) -> Verdict {
    Verdict { ready, marker: Marker::Reconciling, ..Verdict::refused(credentials) }
}

const UNAVAILABLE: Verdict = passing("Unknown/TemporarilyUnavailable", "False/TemporarilyUnavailable");

/// One case: credentials, and the expected result.
struct Case {
    name: &'static str,
    /// The user's defect; `None` if there is no such user.
    user: Option<UserDefect>,
    session: bool,
    /// Changes to the Secret's correct content.
    wrong: &'static [(&'static str, &'static str)],
    region: &'static str,
    /// The name of the role to assume and the external id.
    role: Option<(&'static str, Option<&'static str>)>,
    verdict: Verdict,
    /// A word that the message must hold.
    says: &'static str,
}

const KEYS: Case = Case {
    name: "keys",
    user: Some(UserDefect::None),
    session: false,
    wrong: &[],
    region: "eu-central-1",
    role: None,
    verdict: VALIDATED,
    says: "Credentials validated",
};

fn cases() -> Vec<Case> {
    let mut cases = plain_cases();
    cases.extend(policy_cases());
    cases.extend(coded_cases());
    cases
}

fn plain_cases() -> Vec<Case> {
    let troubled = |name, trouble, verdict, says| Case { name, user: Some(trouble), verdict, says, ..KEYS };
    let role = |name, role, external_id, verdict, says| Case {
        name,
        role: Some((role, external_id)),
        verdict,
        says,
        ..KEYS
    };
    let good = KEYS.says;
    vec![
        KEYS,
        Case { name: "session", session: true, ..KEYS },
        Case {
            name: "unknown-key",
            user: None,
            verdict: REJECTED,
            says: "rejected AWS_ACCESS_KEY_ID",
            ..KEYS
        },
        Case {
            name: "wrong-secret",
            wrong: &[("AWS_SECRET_ACCESS_KEY", "HUSHguess")],
            verdict: REJECTED,
            says: "AWS_SECRET_ACCESS_KEY does not match",
            ..KEYS
        },
        Case {
            name: "wrong-session",
            session: true,
            wrong: &[("AWS_SESSION_TOKEN", "HUSHguess")],
            verdict: REJECTED,
            says: "AWS_SESSION_TOKEN",
            ..KEYS
        },
        Case { name: "wrong-region", region: "us-east-1", verdict: REJECTED, says: "us-east-1", ..KEYS },
        troubled("expired", UserDefect::Expired, Verdict::refused("False/Expired"), "expired"),
        troubled("denied", UserDefect::Denied, FORBIDDEN, "ecr:GetAuthorizationToken"),
        troubled("denied-explicitly", UserDefect::ExplicitlyDenied, FORBIDDEN, "explicitly"),
        troubled("skewed", UserDefect::Skewed, UNAVAILABLE, "clock"),
        troubled(
            "throttled",
            UserDefect::Throttled,
            passing("Unknown/Throttled", "False/Throttled"),
            "rate limiting",
        ),
        troubled("broken", UserDefect::Broken, UNAVAILABLE, "500"),
        troubled("proxied", UserDefect::Proxied, UNAVAILABLE, "403"),
        troubled("silent", UserDefect::Silent, UNAVAILABLE, "in time"),
        role("role", "open", None, VALIDATED, good),
        role("role-of-another", "closed", None, ROLE_DENIED, "trust policy"),
        role("role-missing", "missing", None, ROLE_DENIED, "exists"),
        role("external-id-right", "guarded", Some("abc"), VALIDATED, good),
        role("external-id-wrong", "guarded", Some("xyz"), ROLE_DENIED, "and spec.auth.ecr.sts.externalID"),
        role("external-id-missing", "guarded", None, ROLE_DENIED, "spec.auth.ecr.sts.externalID"),
        role("role-without-right", "poor", None, FORBIDDEN, "ecr:GetAuthorizationToken"),
        Case {
            name: "role-wrong-secret",
            wrong: &[("AWS_SECRET_ACCESS_KEY", "HUSHguess")],
            role: Some(("open", None)),
            verdict: REJECTED,
            says: "AWS_SECRET_ACCESS_KEY does not match",
            ..KEYS
        },
    ]
}

/// A user to whom AWS answers that operation so.
fn answered(
    name: &'static str,
    (operation, status, code): (&'static str, u16, &'static str),
    answer: &'static str,
    verdict: Verdict,
    says: &'static str,
) -> Case {
    Case {
        name,
        user: Some(UserDefect::Answers { operation, status, code, says: answer }),
        role: (operation == ROLE).then_some(("open", None)),
        verdict,
        says,
        ..KEYS
    }
}

/// Which policy refuses, in AWS's documented words.
fn policy_cases() -> Vec<Case> {
    let denied_token = (TOKEN, 400, "AccessDeniedException");
    let denied_role = (ROLE, 403, "AccessDenied");
    vec![
        answered(
            "by-vpc-endpoint",
            denied_token,
            "is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no VPC endpoint policy \
             allows the ecr:GetAuthorizationToken action",
            FORBIDDEN,
            "the policy of the VPC endpoint",
        ),
        answered(
            "by-boundary",
            denied_token,
            "is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no permissions boundary \
             allows the ecr:GetAuthorizationToken action",
            FORBIDDEN,
            "the permissions boundary",
        ),
        answered(
            "by-scp",
            denied_token,
            "is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no service control policy \
             allows the ecr:GetAuthorizationToken action",
            FORBIDDEN,
            "service control policy",
        ),
        answered(
            "by-session-policy",
            denied_token,
            "is not authorized to perform: ecr:GetAuthorizationToken on resource: * because no session policy allows \
             the ecr:GetAuthorizationToken action",
            FORBIDDEN,
            "the session policy",
        ),
        answered(
            "role-by-rcp",
            denied_role,
            "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/HUSH with an \
             explicit deny in a resource control policy",
            ROLE_DENIED,
            "resource control policy (RCP) explicitly denies it",
        ),
        answered(
            "role-tags",
            denied_role,
            "is not authorized to perform: sts:TagSession on resource: arn:aws:iam::123456789012:role/HUSH",
            ROLE_DENIED,
            "allow sts:AssumeRole and sts:TagSession",
        ),
        answered(
            "role-source-identity",
            denied_role,
            "is not authorized to perform: sts:SetSourceIdentity on resource: arn:aws:iam::123456789012:role/HUSH",
            ROLE_DENIED,
            "sts:SetSourceIdentity",
        ),
    ]
}

/// Codes with a meaning of their own: the keys may be right.
fn coded_cases() -> Vec<Case> {
    vec![
        answered(
            "role-too-large",
            (ROLE, 400, "PackedPolicyTooLarge"),
            "HUSH Packed policy consumes 101% of allotted space",
            ROLE_DENIED,
            "session tags",
        ),
        answered(
            "role-region-disabled",
            (ROLE, 403, "RegionDisabledException"),
            "STS is not activated in this region for account:123456789012",
            FORBIDDEN,
            "not enabled this region",
        ),
        Case {
            name: "role-region-not-enabled",
            role: Some(("elsewhere", None)),
            verdict: FORBIDDEN,
            says: "not enabled this region",
            ..KEYS
        },
        answered(
            "not-subscribed",
            (TOKEN, 403, "OptInRequired"),
            "The AWS Access Key Id needs a subscription for the service",
            FORBIDDEN,
            "sign-up is incomplete",
        ),
        answered("old-request", (TOKEN, 400, "RequestExpired"), "Request has expired", UNAVAILABLE, "clock"),
        answered(
            "role-limited",
            (ROLE, 400, "RequestLimitExceeded"),
            "HUSH",
            passing("Unknown/Throttled", "False/Throttled"),
            "rate limiting",
        ),
        answered(
            "role-fault",
            (ROLE, 400, "InternalFailure"),
            "HUSH",
            UNAVAILABLE,
            "reported an internal error",
        ),
        answered("strange", (TOKEN, 400, "StrangeException"), "HUSH", FORBIDDEN, "StrangeException"),
    ]
}

impl Case {
    fn key(&self) -> String {
        format!("AKIA{}", self.name.to_uppercase().replace('-', ""))
    }

    /// Makes the user; returns what its Secret holds.
    fn entries(&self, aws: &Aws) -> Vec<(&'static str, String)> {
        let (id, secret, session) =
            (self.key(), format!("HUSH/{}+", self.name), format!("HUSHsession/{}==", self.name));
        let mut entries = vec![("AWS_ACCESS_KEY_ID", id.clone()), ("AWS_SECRET_ACCESS_KEY", secret.clone())];
        if self.session {
            entries.push(("AWS_SESSION_TOKEN", session.clone()));
        }
        if let Some(trouble) = self.user {
            aws.user(&id, User { secret, session: self.session.then_some(session), trouble });
        }
        for (key, wrong) in self.wrong {
            entries.retain(|(name, _)| name != key);
            entries.push((key, (*wrong).to_owned()));
        }
        entries
    }

    fn spec(&self, registry: &TestRegistry, ca: &TestCa, secret: &str) -> Value {
        let secret = json!({"name": secret});
        let ecr = match self.role {
            None => json!({"region": self.region, "credentials": {"secretRef": secret}}),
            Some((role, external_id)) => {
                let mut sts = json!({"roleARN": arn(role), "secretRef": secret});
                if let Some(external_id) = external_id {
                    sts["externalID"] = json!(external_id);
                }
                json!({"region": self.region, "sts": sts})
            }
        };
        let timeout = if self.user == Some(UserDefect::Silent) { "3s" } else { "30s" };
        json!({
            "endpoint": registry.url(), "auth": {"ecr": ecr}, "validation": {"timeout": timeout},
            "tls": {"ca": {"inline": ca.certificate_pem()}},
        })
    }
}

fn arn(role: &str) -> String {
    format!("arn:aws:iam::{}:role/{role}", crate::fake_aws::ACCOUNT)
}

fn make_roles(aws: &Aws) {
    let trusted: Vec<String> = cases().iter().map(Case::key).collect();
    let role = |trusted: &[String], external_id: Option<&str>, trouble| Role {
        trusted: trusted.to_vec(),
        external_id: external_id.map(ToOwned::to_owned),
        trouble,
    };
    aws.role("open", role(&trusted, None, UserDefect::None));
    aws.role("closed", role(&[], None, UserDefect::None));
    aws.role("guarded", role(&trusted, Some("abc"), UserDefect::None));
    aws.role("poor", role(&trusted, None, UserDefect::Denied));
    let unknown = UserDefect::Answers {
        operation: TOKEN,
        status: 400,
        code: "UnrecognizedClientException",
        says: "The security token included in the request is invalid.",
    };
    aws.role("elsewhere", role(&trusted, None, unknown));
    aws.role("operators", role(&[OPERATOR.to_owned()], None, UserDefect::None));
}

/// The control plane, AWS, a registry that takes its tokens, and an operator with an identity of its own.
struct EcrSetup {
    installation: Installation,
    aws: Arc<Aws>,
    ca: TestCa,
    registry: TestRegistry,
    operator: Operator,
}

/// Where the operator is: there roles are assumed, wherever the registries are.
const HERE: &str = "us-west-2";

async fn stage() -> Result<EcrSetup> {
    let settings =
        Settings { password: Some(PASSWORD.into()), sts_region: Some(HERE.into()), ..Settings::default() };
    let aws = Aws::start(settings).await?;
    make_roles(&aws);
    let secret = aws.good_user(OPERATOR);
    let options = ControlPlaneOptions { audit: true, ..ControlPlaneOptions::default() };
    let installation = Installation::start(options).await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "AWS", PASSWORD).await?;
    let options = installation
        .operator_options()
        .await?
        .arg("--log-level=trace")
        .env("AWS_ENDPOINT_URL_ECR", aws.url())
        .env("AWS_ENDPOINT_URL_STS", aws.url())
        .env("AWS_ACCESS_KEY_ID", OPERATOR)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_REGION", HERE);
    let operator = Operator::start(options).await?;
    Ok(EcrSetup { installation, aws, ca, registry, operator })
}

fn discreet(what: &str, text: &str) -> Result<()> {
    for secret in SECRETS_OF_AWS {
        let at = text.find(secret);
        let around = at.map(|at| &text[at.saturating_sub(200)..(at + 100).min(text.len())]);
        ensure!(at.is_none(), "{what} shows {secret:?}: {around:?}");
    }
    Ok(())
}

fn discreet_status(name: &str, status: &RegistryStatus) -> Result<()> {
    discreet(name, &serde_json::to_string(status)?)
}

#[tokio::test]
async fn distinguishes_every_cause_in_both_scopes() -> Result<()> {
    let EcrSetup { installation, aws, ca, registry, operator } = stage().await?;
    let cluster = installation.cluster().await?;
    for scene in TestScope::both(&cluster).await? {
        let mut declared = Vec::new();
        for case in cases() {
            let entries = case.entries(&aws);
            let entries: Vec<_> = entries.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let secret = scene.secret(case.name, "Opaque", &entries).await?;
            declared.push((scene.declare(case.name, case.spec(&registry, &ca, &secret)).await?, case));
        }
        for (object, case) in declared {
            let view = object.shows(&case.verdict).await?;
            let message = view.message("CredentialsValidated");
            ensure!(message.contains(case.says), "{} does not say {:?}: {message}", case.name, case.says);
            discreet_status(case.name, &view.status)?;
            ensure!(
                expires(&view) == (case.says == KEYS.says),
                "{}: expiresAt {:?}",
                case.name,
                view.status.credentials
            );
        }
    }
    ensure!(aws.calls().iter().all(|call| call.key != OPERATOR), "somebody asked in the operator's name");
    let metrics = operator.metrics().await?;
    ensure!(metrics.contains("registry_operator_credentials_expiry_timestamp_seconds{"), "{metrics}");
    ensure!(
        metrics.contains(r#"registry_operator_aws_requests_total{api="sts",outcome="refused"}"#),
        "{metrics}"
    );
    discreet("the metrics", &metrics)?;
    discreet("the log", &operator.log())
}

fn expires(view: &View) -> bool {
    view.status.credentials.as_ref().is_some_and(|credentials| credentials.expires_at.is_some())
}

#[tokio::test]
async fn operator_identity_needs_administer() -> Result<()> {
    let EcrSetup { installation, aws, ca, registry, operator } = stage().await?;
    let cluster = installation.cluster().await?;
    let [system, tenant] = TestScope::both(&cluster).await?;
    let spec = |ecr: Value| {
        json!({
            "endpoint": registry.url(), "auth": {"ecr": ecr},
            "tls": {"ca": {"inline": ca.certificate_pem()}},
        })
    };
    let own = json!({"region": "eu-central-1", "sts": {"roleARN": arn("operators")}});

    // Whatever a tenant writes: no Secret, an empty one, its own keys, the operator's role.
    let refused = tenant.declare("own", spec(own.clone())).await;
    ensure!(
        refused.is_err_and(|error| format!("{error:#}").contains("spec.auth.ecr.sts.secretRef is required"))
    );
    let empty = tenant.secret("empty", "Opaque", &[]).await?;
    let by = |member: &str, mut value: Value, secret: &str| {
        value["secretRef"] = json!({"name": secret});
        spec(json!({"region": "eu-central-1", member: value}))
    };
    let role = json!({"roleARN": arn("operators")});
    for (name, spec) in [
        ("empty-keys", by("credentials", json!({}), &empty)),
        ("empty-role", by("sts", role.clone(), &empty)),
    ] {
        let object = tenant.declare(name, spec).await?;
        object.shows(&Verdict::unresolved("False/SecretInvalid")).await?;
    }
    let secret = aws.good_user("AKIATENANT");
    let entries = [("AWS_ACCESS_KEY_ID", "AKIATENANT"), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    let keys = tenant.secret("keys", "Opaque", &entries).await?;
    tenant.declare("own-keys", by("credentials", json!({}), &keys)).await?.shows(&VALIDATED).await?;
    tenant.declare("operators-role", by("sts", role, &keys)).await?.shows(&ROLE_DENIED).await?;
    ensure!(aws.calls().iter().all(|call| call.key != OPERATOR), "a tenant asked in the operator's name");

    let object = system.declare("own", spec(own)).await?;
    object.shows(&VALIDATED).await?;
    ensure!(aws.count("AssumeRole", OPERATOR) == 1 && aws.count("GetAuthorizationToken", OPERATOR) == 0);
    discreet("the log", &operator.log())
}

#[tokio::test]
async fn operator_identity_comes_from_its_pod() -> Result<()> {
    let aws = Aws::start(Settings { password: Some(PASSWORD.into()), ..Settings::default() }).await?;
    aws.role(
        "operators",
        Role { trusted: vec!["ASIAOPERATOR".into()], external_id: None, trouble: UserDefect::None },
    );
    let installation = Installation::start(ControlPlaneOptions::default()).await?;
    let cluster = installation.cluster().await?;
    let ca = TestCa::new("private authority")?;
    let registry = protected(&ca, "AWS", PASSWORD).await?;
    let scratch = Scratch::new("pod")?;
    let token = scratch.write("token", POD_TOKEN)?;
    let token = token.to_string_lossy();
    let agent = format!("{}/pod-identity", aws.url());
    let irsa: &[(&str, &str)] = &[
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/HUSH-irsa"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
        ("AWS_REGION", "eu-central-1"),
    ];
    let pod_identity: &[(&str, &str)] =
        &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token)];
    let spec = json!({
        "endpoint": registry.url(), "tls": {"ca": {"inline": ca.certificate_pem()}},
        "auth": {"ecr": {"region": "eu-central-1", "sts": {"roleARN": arn("operators")}}},
    });
    let nothing: &[(&str, &str)] = &[];
    let cases = [
        ("irsa", irsa, VALIDATED),
        ("pod-identity", pod_identity, VALIDATED),
        ("none", nothing, ROLE_DENIED),
    ];
    for (name, environment, verdict) in cases {
        let mut options = installation.operator_options().await?.arg("--leader-election=false");
        options = options.env("AWS_ENDPOINT_URL_ECR", aws.url()).env("AWS_ENDPOINT_URL_STS", aws.url());
        options = options.env("AWS_EC2_METADATA_DISABLED", "true");
        for (name, value) in environment {
            options = options.env(name, value);
        }
        let operator = Operator::start(options).await?;
        let object = TestScope::system(&cluster).declare(name, spec.clone()).await?;
        let view = object.shows(&verdict).await?;
        discreet_status(name, &view.status)?;
        operator.stop().await?;
    }
    ensure!(aws.total("AssumeRoleWithWebIdentity") == 1 && aws.total("PodIdentity") == 1);
    Ok(())
}

/// A hundred registries, each with a role of its own, at a node whose metadata service gives no identity.
#[tokio::test]
async fn shares_lookup_of_operator_identity() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let host = crate::fake_aws::registry(aws.clone()).await?;
    let installation = Installation::start(ControlPlaneOptions::default()).await?;
    let cluster = installation.cluster().await?;
    let scene = TestScope::system(&cluster);
    let declared = (0..100).map(|number| {
        let role = arn(&format!("r-{number}"));
        let ecr = json!({"region": "eu-central-1", "sts": {"roleARN": role}});
        let spec = json!({"endpoint": format!("http://{host}"), "auth": {"ecr": ecr}});
        let scene = &scene;
        async move { scene.declare(&format!("own-{number}"), spec).await }
    });
    let objects = try_join_all(declared).await?;
    let options = installation
        .operator_options()
        .await?
        .env("AWS_ENDPOINT_URL_ECR", aws.url())
        .env("AWS_ENDPOINT_URL_STS", aws.url())
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url());
    let start = Instant::now();
    let operator = Operator::start(options).await?;
    for object in &objects {
        object.becomes(&["CredentialsValidated=False/RoleDenied"]).await?;
    }
    let (looked, took) = (aws.total("Metadata") as u64, start.elapsed());
    ensure!((1..=took.as_secs() / 10 + 1).contains(&looked), "{looked} look-ups in {took:?}");
    discreet("the log", &operator.log())
}

#[tokio::test]
async fn assumes_roles_in_the_operators_region() -> Result<()> {
    let settings = Settings { sts_region: Some(HERE.into()), ..Settings::default() };
    let aws = Aws::start(settings).await?;
    let host = crate::fake_aws::registry(aws.clone()).await?;
    let secret = aws.good_user("AKIAONE");
    let trusted = vec!["AKIAONE".to_owned()];
    let role = aws.role("one", Role { trusted, external_id: None, trouble: UserDefect::None });
    let tokens = tokens_in(aws.url(), Some(HERE))?;
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAONE"), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    for (region, expected) in [("eu-central-1", "True/Validated"), ("ap-south-1", "False/Rejected")] {
        let sts = json!({"roleARN": role, "secretRef": {"name": "keys"}});
        let check = check(&host, &json!({"region": region, "sts": sts}), &keys)?;
        let status = validate(&prober()?, &tokens, &check, Urgency::Due).await;
        assert_eq!(verdict(&status), expected, "ECR is asked in the registry's region");
    }
    let regions = |operation: &str| {
        let calls = aws.calls().into_iter().filter(|call| call.operation == operation);
        calls.map(|call| call.region).collect::<Vec<_>>()
    };
    assert_eq!(regions(ROLE), [HERE, HERE]);
    assert_eq!(regions(TOKEN), ["eu-central-1", "ap-south-1"]);
    Ok(())
}

#[tokio::test]
async fn corrected_keys_work_within_two_seconds() -> Result<()> {
    let EcrSetup { installation, aws, ca, registry, operator: _operator } = stage().await?;
    let cluster = installation.cluster().await?;
    let case = Case { wrong: &[("AWS_SECRET_ACCESS_KEY", "HUSHguess")], ..KEYS };
    let right = KEYS.entries(&aws);
    for scene in TestScope::both(&cluster).await? {
        let wrong = case.entries(&aws);
        let write = |entries: Vec<(&'static str, String)>| {
            let scene = &scene;
            async move {
                let entries: Vec<_> = entries.iter().map(|(key, value)| (*key, value.as_str())).collect();
                scene.secret("keys", "Opaque", &entries).await
            }
        };
        let secret = write(wrong).await?;
        let (before, start) = (aws.total("GetAuthorizationToken"), Instant::now());
        let declared = (0..20).map(|number| {
            let (scene, spec) = (&scene, case.spec(&registry, &ca, &secret));
            async move { scene.declare(&format!("packs-{number}"), spec).await }
        });
        let objects = try_join_all(declared).await?;
        for object in &objects {
            object.shows(&REJECTED).await?;
        }
        let calls = aws.total("GetAuthorizationToken") - before;
        // A refusal by AWS is reused for less than a second, even after a change.
        let took = start.elapsed();
        ensure!(
            calls as u64 <= 8.max(took.as_secs() + 2),
            "{calls} calls with the same wrong secret in {took:?}"
        );
        let moment = Moment::on(&installation)?;
        write(right.clone()).await?;
        objects[0].shows_within(PROMISED, &moment, &VALIDATED).await?;
    }
    Ok(())
}

#[tokio::test]
async fn missing_api_does_not_reject_keys() -> Result<()> {
    let aws = Aws::start(Settings::default()).await?;
    let host = crate::fake_aws::registry(aws).await?;
    let nothing = registry_testbed::ports::Port::reserve()?;
    let tokens = tokens(&format!("http://127.0.0.1:{}", nothing.number()))?;
    let ecr = json!({"region": "eu-central-1", "credentials": {"secretRef": {"name": "keys"}}});
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let status = validate(&prober()?, &tokens, &check(&host, &ecr, &keys)?, Urgency::Due).await;
    assert_eq!(verdict(&status), "Unknown/TemporarilyUnavailable");
    assert_eq!(status.condition(registry_api::ConditionType::EndpointReachable).unwrap().reason, "Reachable");
    Ok(())
}

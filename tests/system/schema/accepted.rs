//! Manifests that the API server accepts, and the defaults that it applies.

use anyhow::{Context as _, Result, anyhow, ensure};
use registry_api::{SystemRegistry, TenantRegistry};
use registry_probe::Endpoint;
use serde_json::{Value, json};

use super::{ApiServer, BOTH, Kind, SystemKind, TenantKind, causes, manifest, none_of, said_offline};

/// The spec as the API server stores it.
async fn stored(api: &ApiServer, kind: Kind, spec: &str) -> Result<Value> {
    let manifest = manifest(kind, &format!("spec: {spec}"))?;
    let offline = said_offline(kind, &manifest)?;
    ensure!(offline.is_empty(), "refused by the plugin: {offline:?}");
    let answer = api.submit(kind, &manifest).await?;
    let object = answer.map_err(|refusal| anyhow!("refused: {:?}", causes(&refusal)))?;
    readable(kind, &object)?;
    Ok(object["spec"].clone())
}

/// The operator must be able to parse what the schema accepts.
fn readable(kind: Kind, object: &Value) -> Result<()> {
    match kind {
        SystemKind => serde_json::from_value::<SystemRegistry>(object.clone()).map(drop),
        TenantKind => serde_json::from_value::<TenantRegistry>(object.clone()).map(drop),
    }
    .with_context(|| format!("the operator can't read {object}"))
}

async fn holds<T: AsRef<str>>(kinds: &[Kind], specs: impl IntoIterator<Item = T>) -> Result<()> {
    let api = ApiServer::shared().await?;
    let mut findings = Vec::new();
    for spec in specs {
        for kind in kinds {
            if let Err(error) = stored(&api, *kind, spec.as_ref()).await {
                findings.push(format!("{} {} is {error:#}", kind.name(), spec.as_ref()));
            }
        }
    }
    none_of(&findings)
}

fn endpoints() -> Vec<String> {
    let name_of_253 = ["a"; 127].join(".");
    let rest = "a".repeat(512 - 29);
    [
        "https://registry.example.com",
        "https://registry.example.com/",
        "https://registry.example.com.",
        "https://registry.example.com:5000",
        "https://registry.example.com:1",
        "https://registry.example.com:443/",
        "https://registry.example.com:9999",
        "https://registry.example.com:59999",
        "https://registry.example.com:65535",
        "https://Registry.Example.COM",
        "https://xn--rgistry-bya.example.com",
        "https://1registry-2.example3.com",
        "https://4.registry.example",
        "https://0x7f.example",
        "https://3com",
        "https://v2",
        "https://v2/",
        "https://v2.example.com",
        "https://registry",
        "https://registry:5000",
        "https://localhost:5000",
        "https://registry.registry-system.svc:5000",
        "https://registry.registry-system.svc.cluster.local",
        "http://registry.example.com",
        "http://localhost:5000",
        "http://127.0.0.1:5000",
        "https://127.0.0.1",
        "https://10.0.0.255:5000/team",
        "https://255.249.199.99",
        "https://0.0.0.0",
        "https://[::1]",
        "https://[::1]:5000",
        "http://[::1]:5000/",
        "https://[2001:db8::1]/team",
        "https://[2001:DB8:0:0:0:0:0:1]:65535",
        "https://[::ffff:127.0.0.1]:5000",
        "https://registry.example.com/optional/suffix",
        "https://registry.example.com/optional/suffix/",
        "https://registry.example.com:5000/a/b/c/d",
        "https://registry.example.com/artifactory/api/docker/packs-local",
        "https://registry.example.com/Team_A/~user/v1.2-3",
        "https://registry.example.com/v2/team",
        "https://registry.example.com/v2x",
        "https://registry.example.com/v1/",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([
        format!("https://{}.example.com", "a".repeat(63)),
        format!("https://{name_of_253}"),
        format!("https://{name_of_253}.:65535/team"),
        format!("https://registry.example.com/{rest}"),
    ])
    .collect()
}

#[tokio::test]
async fn accepts_every_form_of_endpoint() -> Result<()> {
    holds(BOTH, endpoints().iter().map(|endpoint| format!("{{endpoint: '{endpoint}'}}"))).await
}

/// Otherwise, the operator would have to report in a condition what the API server could have rejected.
#[test]
fn accepted_endpoints_can_be_probed() -> Result<()> {
    for endpoint in endpoints() {
        Endpoint::parse(&endpoint).with_context(|| endpoint.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn accepts_content_paths_of_the_oci_grammar() -> Result<()> {
    let long = "a".repeat(255);
    let paths = [
        "packs",
        "team/packs",
        "a",
        "0",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a.b/c_d/e__f/g-h",
        "1/2/3",
        &long,
    ];
    holds(
        BOTH,
        paths.map(|path| format!("{{baseContentPath: '{path}', validation: {{repository: '{path}'}}}}")),
    )
    .await
}

#[tokio::test]
async fn accepts_each_auth_method_alone() -> Result<()> {
    let long = "a".repeat(253);
    holds(
        BOTH,
        [
            "{}",
            "{auth: {}}",
            "{auth: {basic: {secretRef: {name: packs-login}}}}",
            "{auth: {basic: {secretRef: {name: packs.login.v1}}}}",
            "{auth: {basic: {secretRef: {name: '0'}}}}",
            &format!("{{auth: {{basic: {{secretRef: {{name: {long}}}}}}}}}"),
            "{auth: {token: {secretRef: {name: t}}}}",
            "{auth: {ecr: {}}}",
            "{auth: {ecr: {region: eu-central-1}}}",
            "{endpoint: 'http://registry.example.com', auth: {basic: {secretRef: {name: a}}}}",
        ],
    )
    .await
}

/// Of all partitions, as far as AWS has published their hosts.
const ECR: [&str; 14] = [
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
    "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
    "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
    "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
    "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
    "123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk",
    "123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov",
    "123456789012.dkr-ecr.eu-central-1.on.aws",
    "123456789012.dkr-ecr-fips.us-east-1.on.aws",
    "123456789012.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn",
    "123456789012.DKR.ECR.eu-central-1.AmazonAWS.com",
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com:443",
    "123456789012.dkr.ecr.eu-central-1.amazonaws.com/",
];

#[tokio::test]
async fn ecr_public_needs_no_credentials_or_region() -> Result<()> {
    holds(
        BOTH,
        ["public.ecr.aws", "ecr-public.aws.com/team"]
            .map(|host| format!("{{endpoint: 'https://{host}', auth: {{ecr: {{}}}}}}")),
    )
    .await
}

#[tokio::test]
async fn derives_region_from_ecr_host() -> Result<()> {
    let keys = "credentials: {secretRef: {name: k}}";
    let role = "sts: {roleARN: 'arn:aws:iam::123456789012:role/registry', secretRef: {name: k}}";
    let with = |method: &'static str| {
        ECR.map(|host| format!("{{endpoint: 'https://{host}', auth: {{ecr: {{{method}}}}}}}"))
    };
    holds(BOTH, with(keys).into_iter().chain(with(role))).await
}

#[tokio::test]
async fn region_makes_any_host_an_ecr_registry() -> Result<()> {
    let regions = [
        "eu-central-1",
        "us-gov-west-1",
        "us-isob-east-1",
        "cn-northwest-1",
        "eusc-de-east-1",
        "ap-southeast-7",
    ];
    let hosts =
        ["http://127.0.0.1:5000", "https://registry.example.com", "https://vpce-0a1b2c3d.example.com/team"];
    let with = |host: &str, region: &str| {
        format!(
            "{{endpoint: '{host}', auth: {{ecr: {{region: {region}, credentials: {{secretRef: {{name: k}}}}}}}}}}"
        )
    };
    holds(BOTH, regions.iter().flat_map(|region| hosts.map(|host| with(host, region)))).await
}

#[tokio::test]
async fn accepts_role_arns_and_external_ids() -> Result<()> {
    let roles = [
        "arn:aws:iam::123456789012:role/registry",
        "arn:aws:iam::123456789012:role/service-role/team/registry_1+=,.@-",
        "arn:aws-cn:iam::123456789012:role/registry",
        "arn:aws-us-gov:iam::123456789012:role/registry",
        "arn:aws-iso-b:iam::123456789012:role/registry",
        "arn:aws-eusc:iam::123456789012:role/registry",
    ];
    let long = "a".repeat(1224);
    let ids = ["ab", "0a1b2c3d-4e5f", "_+=,.@:/-", "https://example.com/x", &long];
    let with = |role: &str, id: &str| {
        format!(
            "{{auth: {{ecr: {{region: us-east-1, sts: {{roleARN: '{role}', externalID: '{id}', secretRef: {{name: k}}}}}}}}}}"
        )
    };
    holds(BOTH, roles.iter().flat_map(|role| ids.map(|id| with(role, id)))).await
}

#[tokio::test]
async fn system_scope_may_use_operator_identity() -> Result<()> {
    holds(
        &[SystemKind],
        ["{auth: {ecr: {region: us-east-1, sts: {roleARN: 'arn:aws:iam::123456789012:role/registry'}}}}"],
    )
    .await
}

#[tokio::test]
async fn accepts_every_source_of_trust() -> Result<()> {
    let pem = "-----BEGIN CERTIFICATE-----\\nTUlJQ0NBPT0=\\n-----END CERTIFICATE-----\\n";
    let inline = [
        pem.to_owned(),
        pem.repeat(3),
        format!("# The company's root: CN=Root\\nissuer=\\\"x\\\"\\n\\n{pem}\\n# and an older one\\n{pem}"),
        pem.replace("\\n", "\\r\\n"),
        pem.trim_end_matches("\\n").to_owned(),
    ]
    .map(|pem| format!("inline: \"{pem}\""));
    let references = [
        "configMapRef: {name: c}",
        "configMapRef: {name: c, key: root.pem}",
        "secretRef: {name: c, key: ..data_1}",
    ];
    let sources = inline.into_iter().chain(references.map(str::to_owned));
    let specs = sources.flat_map(|source| {
        [false, true].map(|skip| format!("{{tls: {{insecureSkipVerify: {skip}, ca: {{{source}}}}}}}"))
    });
    let others = [
        "{tls: {}}",
        "{tls: {ca: {}}}",
        "{tls: {insecureSkipVerify: true}}",
        "{tls: {clientCertificate: {secretRef: {name: m}}}}",
        "{tls: {insecureSkipVerify: true, ca: {secretRef: {name: c}}, clientCertificate: {secretRef: {name: m}}}}",
        "{endpoint: 'http://registry.example.com', tls: {ca: {secretRef: {name: c}}}}",
    ];
    holds(BOTH, specs.chain(others.map(str::to_owned))).await
}

#[tokio::test]
async fn accepts_schedules_within_bounds() -> Result<()> {
    let intervals = [
        "1m",
        "60s",
        "90s",
        "10m",
        "1h30m",
        "1h0m0s",
        "0.5h",
        "1.5m",
        "60000ms",
        "1h1m1s1ms",
        "23h59m59s999ms",
        "24h",
        "1440m",
        "86400s",
    ];
    let timeouts = ["1s", "1000ms", "1.5s", "30s", "1m", "0.05h", "5m", "300s", "4m59s999ms"];
    let intervals = intervals.map(|it| format!("{{validation: {{interval: {it}}}}}"));
    let timeouts = timeouts.map(|it| format!("{{validation: {{timeout: {it}}}}}"));
    let thresholds = ["1", "3", "100"].map(|it| format!("{{validation: {{failureThreshold: {it}}}}}"));
    holds(BOTH, intervals.into_iter().chain(timeouts).chain(thresholds)).await
}

#[tokio::test]
async fn accepts_every_availability() -> Result<()> {
    let long = format!("{{availability: {{tenants: [{}]}}}}", "a".repeat(63));
    holds(
        &[SystemKind],
        ["{availability: {tenants: [team-a]}}", "{availability: {tenants: [A, b_c.d-E, '0']}}", &long],
    )
    .await?;
    holds(
        BOTH,
        [
            "{availability: {}}",
            "{availability: {pullSecret: {name: packs-pull}}}",
            "{deletionProtection: true, suspend: true}",
        ],
    )
    .await
}

#[tokio::test]
async fn accepts_every_kubernetes_name() -> Result<()> {
    let api = ApiServer::shared().await?;
    let long = "a".repeat(253);
    for name in ["packs", "packs.v1", "0", "a-b.c-d", &long] {
        for kind in BOTH {
            let answer =
                api.submit(*kind, &manifest(*kind, &format!("metadata: {{name: '{name}'}}"))?).await?;
            answer.map_err(|refusal| anyhow!("{name}: {:?}", causes(&refusal)))?;
        }
    }
    Ok(())
}

/// The smallest spec, as it is stored.
fn smallest() -> Value {
    json!({
        "contentType": "Pack",
        "endpoint": "https://registry.example.com",
        "validation": {"interval": "10m", "timeout": "30s", "failureThreshold": 3},
        "suspend": false,
        "deletionProtection": false,
    })
}

/// `expected`, instead of what the smallest spec has.
fn smallest_with(member: &str, expected: Value) -> Value {
    let mut spec = smallest();
    spec[member] = expected;
    spec
}

#[tokio::test]
async fn applies_documented_defaults_only() -> Result<()> {
    let api = ApiServer::shared().await?;
    let table = [
        ("{}", smallest()),
        ("{validation: {}}", smallest()),
        (
            "{validation: {interval: 1h}}",
            smallest_with("validation", json!({"interval": "1h", "timeout": "30s", "failureThreshold": 3})),
        ),
        ("{tls: {}}", smallest_with("tls", json!({"insecureSkipVerify": false}))),
        (
            "{tls: {ca: {configMapRef: {name: c}}}}",
            smallest_with(
                "tls",
                json!({"insecureSkipVerify": false, "ca": {"configMapRef": {"name": "c", "key": "ca.crt"}}}),
            ),
        ),
        (
            "{tls: {ca: {secretRef: {name: c}}}}",
            smallest_with(
                "tls",
                json!({"insecureSkipVerify": false, "ca": {"secretRef": {"name": "c", "key": "ca.crt"}}}),
            ),
        ),
        ("{auth: {}}", smallest_with("auth", json!({}))),
        ("{availability: {}}", smallest_with("availability", json!({}))),
    ];
    for (kind, (spec, expected)) in BOTH.iter().flat_map(|kind| table.clone().map(|row| (*kind, row))) {
        assert_eq!(stored(&api, kind, spec).await?, expected, "{} {spec}", kind.name());
    }
    Ok(())
}

/// Templates leave nulls behind.
#[tokio::test]
async fn null_equals_omitted() -> Result<()> {
    let api = ApiServer::shared().await?;
    let table = [
        ("{contentType: null}", smallest()),
        ("{baseContentPath: null}", smallest()),
        ("{auth: null}", smallest()),
        ("{tls: null}", smallest()),
        ("{validation: null}", smallest()),
        (
            "{validation: {interval: null, timeout: null, failureThreshold: null, repository: null}}",
            smallest(),
        ),
        ("{suspend: null, deletionProtection: null}", smallest()),
        ("{availability: null}", smallest()),
        ("{auth: {basic: null, token: null, ecr: null}}", smallest_with("auth", json!({}))),
        (
            "{auth: {basic: null, ecr: {region: null, credentials: null, sts: null}}}",
            smallest_with("auth", json!({"ecr": {}})),
        ),
        (
            "{tls: {insecureSkipVerify: null, ca: null, clientCertificate: null}}",
            smallest_with("tls", json!({"insecureSkipVerify": false})),
        ),
        (
            "{tls: {ca: {inline: null, configMapRef: {name: c, key: null}, secretRef: null}}}",
            smallest_with(
                "tls",
                json!({"insecureSkipVerify": false, "ca": {"configMapRef": {"name": "c", "key": "ca.crt"}}}),
            ),
        ),
        ("{availability: {tenants: null, pullSecret: null}}", smallest_with("availability", json!({}))),
    ];
    for (kind, (spec, expected)) in BOTH.iter().flat_map(|kind| table.clone().map(|row| (*kind, row))) {
        assert_eq!(stored(&api, kind, spec).await?, expected, "{} {spec}", kind.name());
    }
    Ok(())
}

/// `kstatus` treats an object without a status as ready.
#[tokio::test]
async fn new_object_has_no_observed_generation() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let kept = api.keep(*kind, "spec: {suspend: true}").await?;
        ensure!(kept.object["status"] == json!({"observedGeneration": -1}), "{}", kept.object);
    }
    Ok(())
}

#[tokio::test]
async fn ignores_status_in_manifest() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let kept = api
            .keep(*kind, "{spec: {suspend: true}, status: {observedGeneration: 1, conditions: []}}")
            .await?;
        ensure!(kept.object["status"] == json!({"observedGeneration": -1}), "{}", kept.object);
    }
    Ok(())
}

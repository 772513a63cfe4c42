//! Manifests that the API server rejects: every kind of mistake, its field and its message.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ApiServer, BOTH, Kind, SystemKind, TenantKind, causes, manifest, none_of, said_offline, walk};

/// One mistake.
#[derive(Clone, Debug)]
struct Refusal {
    kinds: &'static [Kind],
    /// The mistake: YAML, laid over the spec of a valid manifest.
    spec: String,
    /// The field that the API server must name.
    field: &'static str,
    /// The expected message.
    sentence: &'static str,
}

fn refused(spec: impl Into<String>, field: &'static str, sentence: &'static str) -> Refusal {
    Refusal { kinds: BOTH, spec: spec.into(), field, sentence }
}

impl Refusal {
    fn only(self, kinds: &'static [Kind]) -> Self {
        Self { kinds, ..self }
    }

    /// What is not as the table says, for each kind.
    async fn findings(&self, api: &ApiServer) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for kind in self.kinds {
            let manifest = manifest(*kind, &format!("spec: {}", self.spec))?;
            let offline = said_offline(*kind, &manifest)?;
            let seen = match api.submit(*kind, &manifest).await? {
                Ok(_) => "accepted".to_owned(),
                Err(refusal) if !self.is(&causes(&refusal)) => {
                    format!("refused with {:#?}", causes(&refusal))
                }
                Err(_) if self.is_offline(&offline) => continue,
                Err(_) => format!("refused by the plugin with {offline:#?}"),
            };
            let spec: String = self.spec.chars().take(200).collect();
            findings.push(format!(
                "{} {spec} is {seen}\n  instead of {}: {}",
                kind.name(),
                self.field,
                self.sentence
            ));
        }
        Ok(findings)
    }

    fn is(&self, causes: &[(String, String)]) -> bool {
        matches!(causes, [(field, message)] if field == self.field && self.says(message))
    }

    /// Whether the plugin refuses it too: with the rule's message, or its own words for the rest of the schema. Its `isURL`,
    /// unlike the API server's, rejects ports above 65535, which adds the message about the grammar.
    fn is_offline(&self, said: &[String]) -> bool {
        let is_of_a_rule = ["spec.", "the "].iter().any(|begin| self.sentence.starts_with(begin));
        match said {
            [one] => one == self.sentence || !is_of_a_rule,
            [first, second] => self.sentence == PORT && first == GRAMMAR && second == PORT,
            _ => false,
        }
    }

    /// The API server puts the sort of error before a rule's sentence.
    fn says(&self, message: &str) -> bool {
        message == self.sentence
            || message.strip_suffix(self.sentence).is_some_and(|sort| sort.ends_with(": "))
    }
}

async fn holds(table: Vec<Refusal>) -> Result<()> {
    let api = ApiServer::shared().await?;
    let mut findings = Vec::new();
    for refusal in table {
        findings.extend(refusal.findings(&api).await?);
    }
    none_of(&findings)
}

const ENDPOINT: &str = "spec.endpoint";
const SCHEME: &str = "spec.endpoint must start with https:// (or http:// for a registry without TLS), not \
    oci://";
const USERINFO: &str = "spec.endpoint must not contain credentials; put them in a Secret and reference it from \
    spec.auth.basic.secretRef";
const QUERY: &str = "spec.endpoint must not contain a query (?) or fragment (#); write only the scheme, host, \
    port and path";
const GRAMMAR: &str = "spec.endpoint must be https://HOST[:PORT][/PATH]: HOST a DNS name, IPv4 address or \
    [IPv6 address], PATH letters, digits and - . _ ~ between single slashes";
const PORT: &str = "spec.endpoint must have a port from 1 to 65535, or none";
const API_VERSION: &str = "spec.endpoint must not end in /v2, which is added to every request; put the path of \
    the content in spec.baseContentPath";

/// Without a scheme, or with one that no registry speaks.
const WITHOUT_A_SCHEME: &[&str] = &[
    "",
    "registry.example.com",
    "registry.example.com:5000/team",
    "registry.example.com/v2/",
    "localhost:5000",
    "//registry.example.com",
    "/registry",
    "https:registry.example.com",
    "https:/registry.example.com",
    "oci://registry.example.com",
    "oci://registry.example.com/v2/",
    "ftp://registry.example.com",
    "docker://registry.example.com",
    "HTTPS://registry.example.com",
    "Https://registry.example.com",
    " https://registry.example.com",
    "\\thttps://registry.example.com",
];

/// With what may be a password.
const WITH_A_USER: &[&str] = &[
    "https://user:password@registry.example.com",
    "https://user@registry.example.com",
    "https://@registry.example.com",
    "https://user:pass:word@registry.example.com:5000/team",
    "user:password@registry.example.com",
    "oci://user:password@registry.example.com",
    "https://user:pass/word@registry.example.com",
    "https://user:pass#word?@registry.example.com:0/v2/",
    "https://registry.example.com/team@sha256:0",
];

/// With what may be a token.
const WITH_A_QUERY: &[&str] = &[
    "registry.example.com?token=x",
    "https://registry.example.com?",
    "https://registry.example.com?x=y",
    "https://registry.example.com/v2/?x",
    "https://registry.example.com:0?x",
    "https://registry.example.com#x",
    "https://registry.example.com/team#x",
    "https://registry.example.com/?x#y",
];

/// Not a URL, or one that two programs read differently.
const NOT_A_URL: &[&str] = &[
    "https://",
    "http://",
    "https:///team",
    "https://:5000",
    "https://registry.example.com ",
    "https://registry.example.com\\n",
    "https://registry example.com",
    "https://registry.example.com/a b",
    "https://registry.example.com:",
    "https://registry.example.com:abc",
    "https://registry.example.com:-1",
    "https://registry.example.com:5000:5000",
    "https://-bad-.example",
    "https://bad-.example",
    "https://.example.com",
    "https://registry..example.com",
    "https://registry.example.com..",
    "https://my_registry.example.com",
    "https://*.example.com",
    "https://régistry.example.com",
    "https://%72egistry.example.com",
    "https://registry.example.com,mirror.example.com",
    "https://https://registry.example.com",
    "https://300.1.1.1",
    "https://1.2.3",
    "https://1.2.3.4.5",
    "https://127.1:5000",
    "https://2130706433",
    "https://0x7f000001/team",
    "https://0177.0.0.1",
    "https://registry.1",
    "https://1/2/3/4",
    "https://::1",
    "https://::0",
    "https://fe80::1:5000",
    "https://[::1",
    "https://::1]",
    "https://[]",
    "https://[registry.example.com]",
    "https://[fe80::1%25eth0]",
    "https://[::1]team",
    "https://[1:2:3]",
    "https://[::1::2]",
    "https://[127.0.0.1]",
    "https://registry.example.com//",
    "https://registry.example.com//team",
    "https://registry.example.com/team//",
    "https://registry.example.com/team//packs",
    "https://registry.example.com/.",
    "https://registry.example.com/./team",
    "https://registry.example.com/a/../b",
    "https://registry.example.com/..",
    "https://registry.example.com/%2e%2e/b",
    "https://registry.example.com/a%20b",
    "https://registry.example.com\\\\team",
    "https://registry.example.com/te\\\\am",
    "https://registry.example.com/team:1.0",
    "https://registry.example.com/<team>",
    "https://registry.example.com/{team}",
    "https://registry.example.com/täm",
];

/// With a port that there is not.
const WITHOUT_SUCH_A_PORT: &[&str] = &[
    "https://registry.example.com:0",
    "https://registry.example.com:00",
    "https://registry.example.com:0443",
    "https://registry.example.com:65536",
    "https://registry.example.com:65540/team",
    "https://registry.example.com:66000",
    "https://registry.example.com:70000",
    "https://registry.example.com:100000",
    "https://registry.example.com:99999999999999999999999999",
    "http://127.0.0.1:0/",
    "https://[::1]:0",
    "https://[::1]:65536/team",
];

/// With what is added to every request.
const WITH_THE_API: &[&str] = &[
    "https://registry.example.com/v2",
    "https://registry.example.com/v2/",
    "https://registry.example.com:5000/team/v2/",
    "http://[::1]/v2",
];

/// What is wrong by its length.
fn long_endpoints() -> [(String, &'static str); 3] {
    [
        (format!("https://{}.example.com", "a".repeat(64)), GRAMMAR),
        (format!("https://{}", ["a"; 127].join(".") + ".aa"), GRAMMAR),
        (
            format!("https://registry.example.com/{}", "a".repeat(512 - 28)),
            "Too long: may not be more than 512 bytes",
        ),
    ]
}

fn endpoints() -> Vec<Refusal> {
    let tables = [
        (WITHOUT_A_SCHEME, SCHEME),
        (WITH_A_USER, USERINFO),
        (WITH_A_QUERY, QUERY),
        (NOT_A_URL, GRAMMAR),
        (WITHOUT_SUCH_A_PORT, PORT),
        (WITH_THE_API, API_VERSION),
    ];
    let rows =
        tables.iter().flat_map(|(table, sentence)| table.iter().map(|row| ((*row).to_owned(), *sentence)));
    rows.chain(long_endpoints())
        .map(|(endpoint, sentence)| refused(format!("{{endpoint: \"{endpoint}\"}}"), ENDPOINT, sentence))
        .collect()
}

#[tokio::test]
async fn rejects_invalid_endpoint_with_one_message() -> Result<()> {
    holds(endpoints()).await
}

const PATHS: [&str; 20] = [
    "",
    "/",
    "/team",
    "team/",
    "team//packs",
    "Team",
    "team/Packs",
    "team packs",
    " team",
    "team\\n",
    ".team",
    "team.",
    "-team",
    "team-",
    "te..am",
    "te___am",
    "te._am",
    "team/../packs",
    "team:latest",
    "tëam",
];

fn paths() -> Vec<Refusal> {
    const CONTENT_PATH: &str = "spec.baseContentPath must be a repository path such as team/packs: lower-case \
        letters and digits, joined by . _ __ - or /; omit it if there is none";
    const REPOSITORY: &str = "spec.validation.repository must be a repository below spec.baseContentPath, such \
        as hello: lower-case letters and digits, joined by . _ __ - or /";
    const TOO_LONG: &str = "Too long: may not be more than 255 bytes";
    let content = |path: &str, sentence| {
        refused(format!("{{baseContentPath: \"{path}\"}}"), "spec.baseContentPath", sentence)
    };
    let repository = |path: &str, sentence| {
        refused(format!("{{validation: {{repository: \"{path}\"}}}}"), "spec.validation.repository", sentence)
    };
    let long = "a".repeat(256);
    let grammar = PATHS.iter().flat_map(|path| [content(path, CONTENT_PATH), repository(path, REPOSITORY)]);
    grammar.chain([content(&long, TOO_LONG), repository(&long, TOO_LONG)]).collect()
}

#[tokio::test]
async fn rejects_invalid_path_with_one_message() -> Result<()> {
    holds(paths()).await
}

fn auth_methods() -> Vec<Refusal> {
    const ONE: &str = "spec.auth must have at most one of basic, token and ecr; remove the others, or omit \
        spec.auth for an unprotected registry";
    let basic = "basic: {secretRef: {name: a}}";
    let token = "token: {secretRef: {name: b}}";
    let ecr = "ecr: {}";
    vec![
        refused(format!("{{auth: {{{basic}, {token}}}}}"), "spec.auth", ONE),
        refused(format!("{{auth: {{{basic}, {ecr}}}}}"), "spec.auth", ONE),
        refused(format!("{{auth: {{{token}, {ecr}}}}}"), "spec.auth", ONE),
        refused(format!("{{auth: {{{basic}, {token}, {ecr}}}}}"), "spec.auth", ONE),
        refused("{auth: {basic: {}}}", "spec.auth.basic.secretRef", "Required value"),
        refused("{auth: {basic: {secretRef: {}}}}", "spec.auth.basic.secretRef.name", "Required value"),
        refused("{auth: {token: {}}}", "spec.auth.token.secretRef", "Required value"),
    ]
}

#[tokio::test]
async fn rejects_several_auth_methods() -> Result<()> {
    holds(auth_methods()).await
}

/// Every place where a Secret or ConfigMap is named.
const REFERENCES: [(&str, &str); 7] = [
    ("spec.auth.basic.secretRef.name", "{auth: {basic: {secretRef: {name: NAME}}}}"),
    ("spec.auth.token.secretRef.name", "{auth: {token: {secretRef: {name: NAME}}}}"),
    (
        "spec.auth.ecr.credentials.secretRef.name",
        "{auth: {ecr: {region: eu-central-1, credentials: {secretRef: {name: NAME}}}}}",
    ),
    (
        "spec.auth.ecr.sts.secretRef.name",
        "{auth: {ecr: {region: eu-central-1, sts: {roleARN: 'arn:aws:iam::123456789012:role/r', secretRef: {name: NAME}}}}}",
    ),
    ("spec.tls.ca.configMapRef.name", "{tls: {ca: {configMapRef: {name: NAME}}}}"),
    ("spec.tls.ca.secretRef.name", "{tls: {ca: {secretRef: {name: NAME}}}}"),
    ("spec.tls.clientCertificate.secretRef.name", "{tls: {clientCertificate: {secretRef: {name: NAME}}}}"),
];

fn reference_names() -> Vec<Refusal> {
    const NAME: &str = "the name in a secretRef or configMapRef must be an object name: lower-case letters, \
        digits, - and ., starting and ending with a letter or digit";
    let long = format!("\"{}\"", "a".repeat(254));
    let mut table = Vec::new();
    for (field, spec) in REFERENCES {
        for name in
            ["''", "Login", "my_login", "-login", "login-", "team/login", "'a b'", "a..b", "'login\n '"]
        {
            table.push(refused(spec.replace("NAME", name), field, NAME));
        }
        table.push(refused(spec.replace("NAME", &long), field, "Too long: may not be more than 253 bytes"));
    }
    table
}

fn pull_secret_names() -> Vec<Refusal> {
    const FIELD: &str = "spec.availability.pullSecret.name";
    const NAME: &str = "spec.availability.pullSecret.name must be an object name: lower-case letters, digits, \
        - and ., starting and ending with a letter or digit";
    let named = |name: &str, sentence| {
        refused(format!("{{availability: {{pullSecret: {{name: \"{name}\"}}}}}}"), FIELD, sentence)
    };
    let mut table: Vec<Refusal> =
        ["", "Pull", "pull_secret", "pull-", "a/b"].map(|name| named(name, NAME)).into();
    table.push(named(&"a".repeat(254), "Too long: may not be more than 253 bytes"));
    table.push(refused("{availability: {pullSecret: {}}}", FIELD, "Required value"));
    table
}

fn reference_keys() -> Vec<Refusal> {
    const KEY: &str = "the key in spec.tls.ca must be a key of the Secret or ConfigMap: letters, digits, - _ \
        and .; omit it for ca.crt";
    let long = "a".repeat(254);
    let mut table = Vec::new();
    for (field, reference) in
        [("spec.tls.ca.configMapRef.key", "configMapRef"), ("spec.tls.ca.secretRef.key", "secretRef")]
    {
        let keyed = |key: &str, sentence| {
            refused(format!("{{tls: {{ca: {{{reference}: {{name: a, key: \"{key}\"}}}}}}}}"), field, sentence)
        };
        table.extend(["", "ca crt", "certs/ca.crt", "*"].map(|key| keyed(key, KEY)));
        table.push(keyed(&long, "Too long: may not be more than 253 bytes"));
    }
    table
}

#[tokio::test]
async fn rejects_invalid_reference_names() -> Result<()> {
    holds([reference_names(), reference_keys(), pull_secret_names()].concat()).await
}

const REGION_NEEDED: &str = "spec.auth.ecr.region is required, because the host in spec.endpoint does not \
    contain the region; set it, such as eu-central-1";

/// Hosts that resemble ECR's: an attacker may own them, and they have no region.
const NOT_ECR: [&str; 14] = [
    "https://registry.example.com",
    "http://127.0.0.1:5000",
    "https://[::1]:5000",
    "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com.example.com",
    "https://123456789012.dkr.ecr.eu-central-1.example.com",
    "https://x123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "https://x.123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "https://12345678901.dkr.ecr.eu-central-1.amazonaws.com",
    "https://123456789012.dkr.ecr.amazonaws.com",
    "https://123456789012.dkrxecr.eu-central-1.amazonaws.com",
    "https://123456789012.dkr-ecr.eu-central-1.amazonaws.com",
    "https://123456789012.dkr.ecr.eu-central-1.on.aws",
    "https://public.ecr.aws.example.com",
    "https://registry.example.com/123456789012.dkr.ecr.eu-central-1.amazonaws.com",
];

fn ecr() -> Vec<Refusal> {
    const METHOD: &str = "spec.auth.ecr must have either credentials (access keys) or sts (a role to assume), \
        not both; omit both for a public ECR registry";
    const REGION: &str = "spec.auth.ecr.region must be an AWS region such as eu-central-1; omit it to use the \
        region in spec.endpoint";
    const PUBLIC: &str = "spec.auth.ecr must be empty for ECR Public (public.ecr.aws), which needs no \
        credentials; remove credentials and sts";
    let role = "roleARN: 'arn:aws:iam::123456789012:role/registry'";
    let mut table = vec![
        refused(
            format!(
                "{{auth: {{ecr: {{region: eu-central-1, credentials: {{secretRef: {{name: k}}}}, sts: {{{role}, secretRef: {{name: k}}}}}}}}}}"
            ),
            "spec.auth.ecr",
            METHOD,
        ),
        refused(
            "{auth: {ecr: {credentials: {}}}, endpoint: 'https://public.ecr.aws'}",
            "spec.auth.ecr.credentials.secretRef",
            "Required value",
        ),
        refused(
            "{auth: {ecr: {credentials: {secretRef: {name: k}}}}, endpoint: 'https://public.ecr.aws/x'}",
            "spec.auth.ecr",
            PUBLIC,
        ),
        refused(
            format!(
                "{{auth: {{ecr: {{sts: {{{role}, secretRef: {{name: k}}}}, region: us-east-1}}}}, endpoint: 'https://ECR-public.aws.com.:443'}}"
            ),
            "spec.auth.ecr",
            PUBLIC,
        ),
        refused(
            "{auth: {ecr: {sts: {}, region: eu-central-1}}}",
            "spec.auth.ecr.sts.roleARN",
            "Required value",
        ),
        refused(
            format!("{{auth: {{ecr: {{sts: {{{role}, secretRef: {{name: k}}}}}}}}}}"),
            "spec.auth.ecr.region",
            REGION_NEEDED,
        ),
    ];
    table.extend(NOT_ECR.map(|endpoint| {
        refused(
            format!("{{endpoint: '{endpoint}', auth: {{ecr: {{credentials: {{secretRef: {{name: k}}}}}}}}}}"),
            "spec.auth.ecr.region",
            REGION_NEEDED,
        )
    }));
    let region = |region: &str, sentence| {
        refused(format!("{{auth: {{ecr: {{region: \"{region}\"}}}}}}"), "spec.auth.ecr.region", sentence)
    };
    table.extend(
        ["", "eu-central", "EU-CENTRAL-1", "eu_central_1", "eu-central-1a", "Frankfurt", "eu-central-1 "]
            .map(|it| region(it, REGION)),
    );
    table.push(region(&"a".repeat(33), "Too long: may not be more than 32 bytes"));
    table
}

fn roles() -> Vec<Refusal> {
    const ROLE: &str = "spec.auth.ecr.sts.roleARN must be the ARN of an IAM role, such as arn:aws:iam::123456789012:role/registry";
    const EXTERNAL_ID: &str = "spec.auth.ecr.sts.externalID must have 2 to 1224 letters, digits or _+=,.@:/- \
        as in the role's trust policy; omit it if the policy requires none";
    let sts = |members: String, field, sentence| {
        let sts = format!("{{region: eu-central-1, sts: {{secretRef: {{name: k}}, {members}}}}}");
        refused(format!("{{auth: {{ecr: {sts}}}}}"), field, sentence)
    };
    let role =
        |arn: &str, sentence| sts(format!("roleARN: \"{arn}\""), "spec.auth.ecr.sts.roleARN", sentence);
    let external = |id: &str, sentence| {
        let members = format!("roleARN: 'arn:aws:iam::123456789012:role/r', externalID: \"{id}\"");
        sts(members, "spec.auth.ecr.sts.externalID", sentence)
    };
    let mut table: Vec<Refusal> = [
        "",
        "registry",
        "role/registry",
        "arn:aws:iam::123456789012:user/registry",
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::12345678901:role/registry",
        "arn:aws:iam:eu-central-1:123456789012:role/registry",
        "arn:aws:sts::123456789012:assumed-role/registry/session",
        "arn:aws:s3:::bucket",
        "arn:gcp:iam::123456789012:role/registry",
        " arn:aws:iam::123456789012:role/registry",
        "arn:aws:iam::123456789012:role/my registry",
    ]
    .map(|arn| role(arn, ROLE))
    .into();
    table.push(role(
        &format!("arn:aws:iam::123456789012:role/{}", "a".repeat(512)),
        "Too long: may not be more than 512 bytes",
    ));
    table.extend(["", "a", "a b", "a;b", "ä1"].map(|id| external(id, EXTERNAL_ID)));
    table.push(external(&"a".repeat(1225), "Too long: may not be more than 1224 bytes"));
    table
}

#[tokio::test]
async fn rejects_invalid_ecr_settings() -> Result<()> {
    holds([ecr(), roles()].concat()).await
}

fn tls() -> Vec<Refusal> {
    const SOURCE: &str =
        "spec.tls.ca must have at most one of inline, configMapRef and secretRef; remove the others";
    const PEM: &str = "spec.tls.ca.inline must contain a complete PEM certificate, from -----BEGIN \
        CERTIFICATE----- to -----END CERTIFICATE-----";
    const KEY: &str =
        "spec.tls.ca.inline must not contain a private key; remove it and treat that key as disclosed";
    const CLIENT: &str = "spec.tls.clientCertificate can't be used with an http:// spec.endpoint; use https:// \
        or remove it";
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    let ca =
        |members: &str, field, sentence| refused(format!("{{tls: {{ca: {{{members}}}}}}}"), field, sentence);
    let inline = |text: &str, sentence| ca(&format!("inline: \"{text}\""), "spec.tls.ca.inline", sentence);
    let (map, secret) = ("configMapRef: {name: a}", "secretRef: {name: b}");
    let inlined = format!("inline: \"{certificate}\"");
    vec![
        ca(&format!("{map}, {secret}"), "spec.tls.ca", SOURCE),
        ca(&format!("{inlined}, {map}"), "spec.tls.ca", SOURCE),
        ca(&format!("{inlined}, {secret}"), "spec.tls.ca", SOURCE),
        ca(&format!("{inlined}, {map}, {secret}"), "spec.tls.ca", SOURCE),
        inline("", PEM),
        inline("/etc/ssl/ca.crt", PEM),
        inline("TUlJQ0NBPT0=", PEM),
        inline("-----BEGIN CERTIFICATE-----\\nTUlJQ0NBPT0=\\n", PEM),
        inline("-----BEGIN CERTIFICATE-----\\n-----END CERTIFICATE-----\\n", PEM),
        inline(&pem("PUBLIC KEY"), PEM),
        inline(&key, KEY),
        inline(&format!("{certificate}{key}"), KEY),
        inline(&pem("RSA PRIVATE KEY"), KEY),
        inline(&pem("EC PRIVATE KEY"), KEY),
        inline(&pem("ENCRYPTED PRIVATE KEY"), KEY),
        inline(&"a".repeat(131_073), "Too long: may not be more than 131072 bytes"),
        refused(
            "{endpoint: 'http://registry.example.com', tls: {clientCertificate: {secretRef: {name: m}}}}",
            "spec.tls.clientCertificate",
            CLIENT,
        ),
        refused("{tls: {clientCertificate: {}}}", "spec.tls.clientCertificate.secretRef", "Required value"),
        refused("{tls: {ca: {configMapRef: {}}}}", "spec.tls.ca.configMapRef.name", "Required value"),
        refused("{tls: {ca: {secretRef: {key: ca.crt}}}}", "spec.tls.ca.secretRef.name", "Required value"),
    ]
}

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\\nTUlJQ0NBPT0=\\n-----END {label}-----\\n")
}

#[tokio::test]
async fn rejects_invalid_tls_settings() -> Result<()> {
    holds(tls()).await
}

fn validation() -> Vec<Refusal> {
    const INTERVAL: &str = "spec.validation.interval must be a duration such as 10m, in h, m, s or ms";
    const INTERVAL_BOUNDS: &str = "spec.validation.interval must be from 1m to 24h";
    const TIMEOUT: &str = "spec.validation.timeout must be a duration such as 30s, in h, m, s or ms";
    const TIMEOUT_BOUNDS: &str = "spec.validation.timeout must be from 1s to 5m";
    const THRESHOLD: &str = "spec.validation.failureThreshold must be from 1 to 100";
    const TOO_LONG: &str = "Too long: may not be more than 16 bytes";
    let interval = |text: &str, sentence| {
        refused(format!("{{validation: {{interval: \"{text}\"}}}}"), "spec.validation.interval", sentence)
    };
    let timeout = |text: &str, sentence| {
        refused(format!("{{validation: {{timeout: \"{text}\"}}}}"), "spec.validation.timeout", sentence)
    };
    let threshold = |number: &str| {
        refused(
            format!("{{validation: {{failureThreshold: {number}}}}}"),
            "spec.validation.failureThreshold",
            THRESHOLD,
        )
    };
    let spelt_wrong = [
        "", "10", "m", "10 m", "10M", "10min", "1d", "-10m", "+10m", " 10m", "10m ", "10m\\n", "P1D",
        "1h,5m", "ten",
    ];
    let mut table: Vec<Refusal> =
        spelt_wrong.iter().flat_map(|text| [interval(text, INTERVAL), timeout(text, TIMEOUT)]).collect();
    table.extend(
        ["0s", "0.5m", "59s", "59999ms", "24h1ms", "24h1s", "25h", "1441m", "999999h999999h9h"]
            .map(|it| interval(it, INTERVAL_BOUNDS)),
    );
    table.extend(
        ["0s", "999ms", "0.9s", "5m1ms", "301s", "1h", "999999h999999h9h"]
            .map(|it| timeout(it, TIMEOUT_BOUNDS)),
    );
    table.extend([interval("1h1h1h1h1h1h1h1h1", TOO_LONG), timeout("1s1s1s1s1s1s1s1s1", TOO_LONG)]);
    table.extend(["0", "-1", "101", "2147483647"].map(threshold));
    table
}

#[tokio::test]
async fn rejects_schedule_out_of_range() -> Result<()> {
    holds(validation()).await
}

const TENANTS: &str = "spec.availability.tenants";
const TENANTS_SYSTEM_ONLY: &str = "spec.availability.tenants is only for SystemRegistries; remove it, as a \
    TenantRegistry is available to its own tenant";

fn tenants() -> Vec<Refusal> {
    const NAMES: &str = "spec.availability.tenants must list values of the label \
        registry.spectrocloud.com/tenant: at most 63 letters, digits, - _ and ., a letter or digit at both \
            ends";
    const SOME: &str = "spec.availability.tenants must list at least one tenant; omit it for all tenants";
    let tenants = |list: &str, field, sentence| {
        refused(format!("{{availability: {{tenants: {list}}}}}"), field, sentence).only(&[SystemKind])
    };
    let many: Vec<String> = (0..1001).map(|number| format!("t{number}")).collect();
    let mut table: Vec<Refusal> = [
        "['']",
        "['team a']",
        "[-team]",
        "[team-]",
        "[team-a, '*']",
        "[team/a]",
        "[teäm]",
        "[team-a, ' ', '']",
    ]
    .map(|list| tenants(list, TENANTS, NAMES))
    .into();
    table.extend([
        tenants("[]", TENANTS, SOME),
        tenants("[team-a, team-b, team-a]", "spec.availability.tenants[2]", "Duplicate value: \"team-a\""),
        tenants(
            &format!("[team-a, {}]", "b".repeat(64)),
            "spec.availability.tenants[1]",
            "Too long: may not be more than 63 bytes",
        ),
        tenants(&format!("[{}]", many.join(", ")), TENANTS, "Too many: 1001: must have at most 1000 items"),
        refused("{availability: {tenants: [team-a]}}", TENANTS, TENANTS_SYSTEM_ONLY).only(&[TenantKind]),
    ]);
    table
}

#[tokio::test]
async fn rejects_invalid_tenant_names() -> Result<()> {
    holds(tenants()).await
}

fn identities() -> Vec<Refusal> {
    const SECRET_NEEDED: &str = "spec.auth.ecr.sts.secretRef is required in a TenantRegistry; reference a \
        Secret with AWS access keys (only SystemRegistries use the operator's identity)";
    let spec =
        "{auth: {ecr: {region: eu-central-1, sts: {roleARN: 'arn:aws:iam::123456789012:role/registry'}}}}";
    vec![refused(spec, "spec.auth.ecr.sts.secretRef", SECRET_NEEDED).only(&[TenantKind])]
}

#[tokio::test]
async fn tenant_cannot_use_operator_identity() -> Result<()> {
    holds(identities()).await
}

fn content_types() -> Vec<Refusal> {
    const SUPPORTED: &str = "supported values: \"Pack\", \"Helm\", \"Zarf\"";
    ["Oci", "helm", "''"]
        .map(|content| refused(format!("{{contentType: {content}}}"), "spec.contentType", SUPPORTED))
        .into()
}

#[tokio::test]
async fn rejects_unknown_content_type() -> Result<()> {
    holds(content_types()).await
}

/// Every table, for those who count.
fn all() -> Vec<Refusal> {
    [
        endpoints(),
        paths(),
        auth_methods(),
        reference_names(),
        reference_keys(),
        pull_secret_names(),
        ecr(),
        roles(),
        tls(),
        validation(),
        tenants(),
        identities(),
        content_types(),
    ]
    .concat()
}

/// Fails when a rule is added or reworded, and no table says what it refuses, at each place where it stands.
#[test]
fn tables_cover_every_rule() -> Result<()> {
    for kind in BOTH {
        let schema = kind.schema()?;
        let mut rules = rules(&schema)?;
        if *kind == TenantKind {
            // Who has the field at all is told that it is not for a TenantRegistry.
            rules.retain(|(field, sentence)| field != TENANTS || sentence == TENANTS_SYSTEM_ONLY);
        }
        let sentences: BTreeSet<(String, String)> = all()
            .iter()
            .filter(|refusal| refusal.kinds.contains(kind))
            .map(|refusal| (refusal.field.to_owned(), refusal.sentence.to_owned()))
            .collect();
        let missing: Vec<_> = rules.difference(&sentences).collect();
        ensure!(missing.is_empty(), "no mistake of a {} is tested for {missing:#?}", kind.name());
    }
    Ok(())
}

/// Every rule: the field that it describes, and its sentence.
fn rules(schema: &Value) -> Result<BTreeSet<(String, String)>> {
    let mut rules = Vec::new();
    walk(schema, "", &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules.push((path.to_owned(), rule));
        }
    });
    ensure!(!rules.is_empty(), "the schema has no rules");
    let sentences = rules.into_iter().map(|(path, rule)| {
        let message =
            rule["message"].as_str().with_context(|| format!("a rule of {path} has no message: {rule}"))?;
        Ok((path + rule["fieldPath"].as_str().unwrap_or_default(), message.to_owned()))
    });
    sentences.collect()
}

/// What bounds a text, a list or a number without a rule is tested as well.
#[test]
fn tables_cover_every_bound() -> Result<()> {
    let tables = all();
    let mut missing = Vec::new();
    walk(&SystemKind.schema()?["properties"]["spec"], "spec", &mut |path, schema| {
        let bounds = [("maxLength", "Too long"), ("maxItems", "Too many"), ("enum", "supported values")];
        for (bound, sentence) in bounds.into_iter().filter(|(bound, _)| schema.get(bound).is_some()) {
            let tested =
                |refusal: &Refusal| matches(path, refusal.field) && refusal.sentence.starts_with(sentence);
            if !tables.iter().any(tested) {
                missing.push(format!("{bound} of {path}"));
            }
        }
    });
    none_of(&missing)
}

/// Whether a field of an object, such as `tenants[1]`, is the schema's `tenants[*]`.
fn matches(path: &str, field: &str) -> bool {
    let numbers = |c: char| c.is_ascii_digit();
    match (path.strip_suffix("[*]"), field.strip_suffix(']')) {
        (Some(list), Some(item)) => item.trim_end_matches(numbers).strip_suffix('[') == Some(list),
        _ => path == field,
    }
}

/// Secrets that were put where they don't belong, in every way that a rule could trip over.
const MISPLACED: [&str; 10] = [
    "{endpoint: 'https://user:hunter2@registry.example.com'}",
    "{endpoint: 'user:hunter2@registry.example.com'}",
    "{endpoint: 'oci://user:hunter2@registry.example.com/v2/'}",
    "{endpoint: 'https://user:hunter2#@registry.example.com:0'}",
    "{endpoint: 'https://user:/hunter2@-registry-/v2'}",
    "{endpoint: 'https://registry.example.com/v2/?token=hunter2'}",
    "{endpoint: 'registry.example.com?token=hunter2'}",
    "{endpoint: 'https://registry.example.com:0#hunter2', auth: {ecr: {credentials: {secretRef: {name: k}}}}}",
    "{tls: {ca: {inline: '-----BEGIN PRIVATE KEY----- hunter2 -----END PRIVATE KEY-----', configMapRef: {name: a}}}}",
    "{tls: {ca: {inline: 'hunter2'}}}",
];

#[tokio::test]
async fn rejection_does_not_repeat_secrets() -> Result<()> {
    let api = ApiServer::shared().await?;
    for (kind, spec) in BOTH.iter().flat_map(|kind| MISPLACED.map(|spec| (*kind, spec))) {
        let answer = api.submit(kind, &manifest(kind, &format!("spec: {spec}"))?).await?;
        let refusal = answer.err().with_context(|| format!("accepted: {spec}"))?;
        ensure!(!format!("{refusal:?}").contains("hunter2"), "repeated: {refusal:?}");
    }
    Ok(())
}

/// Values of another type than the field's. The words are the API server's own, and so is how many there are.
const MISTYPED: [(&str, &str); 22] = [
    ("{endpoint: 5000}", "spec.endpoint"),
    ("{endpoint: ['https://registry.example.com']}", "spec.endpoint"),
    ("{endpoint: null}", "spec.endpoint"),
    ("{contentType: 1}", "spec.contentType"),
    ("{baseContentPath: [team, packs]}", "spec.baseContentPath"),
    ("{suspend: 'true'}", "spec.suspend"),
    ("{deletionProtection: 1}", "spec.deletionProtection"),
    ("{auth: none}", "spec.auth"),
    ("{auth: []}", "spec.auth"),
    ("{auth: {basic: packs-login}}", "spec.auth.basic"),
    ("{auth: {basic: {secretRef: packs-login}}}", "spec.auth.basic.secretRef"),
    ("{auth: {basic: {secretRef: null}}}", "spec.auth.basic.secretRef"),
    ("{auth: {ecr: true}}", "spec.auth.ecr"),
    ("{tls: {insecureSkipVerify: 'yes'}}", "spec.tls.insecureSkipVerify"),
    ("{tls: {ca: ca.crt}}", "spec.tls.ca"),
    ("{validation: {interval: 600}}", "spec.validation.interval"),
    ("{validation: {failureThreshold: '3'}}", "spec.validation.failureThreshold"),
    ("{validation: {failureThreshold: 1.5}}", "spec.validation.failureThreshold"),
    ("{validation: {failureThreshold: 2147483648}}", "spec.validation.failureThreshold"),
    ("{availability: {tenants: team-a}}", "spec.availability.tenants"),
    ("{availability: {tenants: [1]}}", "spec.availability.tenants[0]"),
    ("{availability: {tenants: [null]}}", "spec.availability.tenants[0]"),
];

#[tokio::test]
async fn rejects_wrong_type_at_its_field() -> Result<()> {
    let api = ApiServer::shared().await?;
    for (kind, (spec, field)) in BOTH.iter().flat_map(|kind| MISTYPED.map(|row| (*kind, row))) {
        let answer = api.submit(kind, &manifest(kind, &format!("spec: {spec}"))?).await?;
        let refusal = answer.err().with_context(|| format!("accepted: {spec}"))?;
        let causes = causes(&refusal);
        ensure!(refusal.code == 422 && causes.iter().any(|(at, _)| at == field), "{spec}: {refusal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reports_missing_spec_and_endpoint() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        for (spec, missing) in
            [(None, "spec"), (Some(Value::Null), "spec"), (Some(json!({})), "spec.endpoint")]
        {
            let mut manifest = manifest(*kind, "{}")?;
            let object = manifest.as_object_mut().context("a manifest is an object")?;
            match spec {
                Some(spec) => object.insert("spec".into(), spec),
                None => object.remove("spec"),
            };
            let refusal = api.submit(*kind, &manifest).await?.err().context("accepted")?;
            assert_eq!(causes(&refusal), [(missing.to_owned(), "Required value".to_owned())]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn reports_several_mistakes_at_once() -> Result<()> {
    let api = ApiServer::shared().await?;
    let spec = "{endpoint: registry.example.com, baseContentPath: /team, validation: {interval: 1s, timeout: ten}, \
                auth: {basic: {secretRef: {name: A}}, token: {secretRef: {name: b}}}}";
    for kind in BOTH {
        let answer = api.submit(*kind, &manifest(*kind, &format!("spec: {spec}"))?).await?;
        let mut fields: Vec<String> =
            causes(&answer.err().context("accepted")?).into_iter().map(|(field, _)| field).collect();
        fields.sort();
        let expected = [
            "spec.auth",
            "spec.auth.basic.secretRef.name",
            "spec.baseContentPath",
            "spec.endpoint",
            "spec.validation.interval",
            "spec.validation.timeout",
        ];
        assert_eq!(fields, expected);
    }
    Ok(())
}

const UNKNOWN: [(&str, &str); 8] = [
    ("{replicas: 1}", "replicas"),
    ("{spec: {url: 'https://registry.example.com'}}", "spec.url"),
    ("{spec: {insecureSkipVerify: true}}", "spec.insecureSkipVerify"),
    ("{spec: {auth: {password: x}}}", "spec.auth.password"),
    (
        "{spec: {auth: {basic: {secretRef: {name: a, namespace: kube-system}}}}}",
        "spec.auth.basic.secretRef.namespace",
    ),
    (
        "{spec: {tls: {ca: {configMapRef: {name: a, namespace: kube-system}}}}}",
        "spec.tls.ca.configMapRef.namespace",
    ),
    ("{spec: {tls: {ca: {secretRef: {name: a, optional: true}}}}}", "spec.tls.ca.secretRef.optional"),
    ("{spec: {availability: {namespaces: [a]}}}", "spec.availability.namespaces"),
];

#[tokio::test]
async fn rejects_unknown_field_by_path() -> Result<()> {
    let api = ApiServer::shared().await?;
    for (kind, (overlay, field)) in BOTH.iter().flat_map(|kind| UNKNOWN.map(|row| (*kind, row))) {
        let refusal = api
            .submit(kind, &manifest(kind, overlay)?)
            .await?
            .err()
            .with_context(|| format!("accepted: {overlay}"))?;
        let sentence = format!("strict decoding error: unknown field \"{field}\"");
        ensure!(
            refusal.code == 400 && refusal.message.ends_with(&sentence),
            "{overlay}: {}",
            refusal.message
        );
    }
    Ok(())
}

#[tokio::test]
async fn rejects_invalid_name_at_metadata_name() -> Result<()> {
    let api = ApiServer::shared().await?;
    let too_long = "a".repeat(254);
    for name in ["", "Packs", "my_packs", "-packs", "packs-", "team/packs", "a..b", &too_long] {
        for kind in BOTH {
            let manifest = manifest(*kind, &format!("metadata: {{name: '{name}'}}"))?;
            let refusal =
                api.submit(*kind, &manifest).await?.err().with_context(|| format!("accepted: {name:?}"))?;
            let fields: Vec<String> = causes(&refusal).into_iter().map(|(field, _)| field).collect();
            ensure!(
                !fields.is_empty() && fields.iter().all(|field| field == "metadata.name"),
                "{name:?}: {refusal:?}"
            );
        }
    }
    Ok(())
}

/// The rules hold for changes as they do for creations.
#[tokio::test]
async fn rejects_change_to_invalid_value() -> Result<()> {
    let api = ApiServer::shared().await?;
    for kind in BOTH {
        let object = api.keep(*kind, "spec: {suspend: true}").await?;
        let change = format!("{}/{}?dryRun=All&fieldValidation=Strict", api.path(*kind), object.name);
        let wrong =
            api.send("PATCH", &change, &json!({"spec": {"endpoint": "registry.example.com"}})).await?;
        let causes = causes(&wrong.err().context("accepted")?);
        ensure!(
            matches!(&causes[..], [(field, message)] if field == ENDPOINT && message.ends_with(SCHEME)),
            "{causes:?}"
        );
        let right = json!({"spec": {"endpoint": "http://127.0.0.1:5000", "contentType": "Zarf"}});
        api.send("PATCH", &change, &right)
            .await?
            .map_err(|refusal| anyhow::anyhow!("refused: {refusal:?}"))?;
    }
    Ok(())
}

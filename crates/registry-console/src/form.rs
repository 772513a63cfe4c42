//! The form of a registry: what was typed, what is wrong with it that can be seen here, and the objects that it becomes. Pure.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use registry_api::HOSTS_ANNOTATION;
use registry_check::manifest::api_version;
use registry_probe::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::{
    draft::FormDigest,
    scope::ConsoleScope,
    stored::{LoginChoice, StoredLogin, TOKEN},
    uploaded_ca,
};

/// The tab that a form is on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FormTab {
    /// User name and password.
    #[default]
    Basic,
    /// AWS Elastic Container Registry.
    Ecr,
}

impl FormTab {
    /// As it stands in URLs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Ecr => "ecr",
        }
    }
}

/// What was typed.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a check box")]
pub struct RegistryForm {
    /// The tab.
    pub tab: FormTab,
    /// The name of the draft that keeps the secret.
    pub draft: String,
    /// Name.
    pub name: String,
    /// Provider: `Pack`, `Helm` or `Zarf`.
    pub content_type: String,
    /// Endpoint.
    pub endpoint: String,
    /// Whether the endpoint held a login. It is not kept then.
    pub endpoint_has_login: bool,
    /// Whether `https://` was added to the endpoint.
    pub scheme_added: bool,
    /// Base Content Path.
    pub base_content_path: String,
    /// A repository that must be readable.
    pub repository: String,
    /// Username.
    pub username: String,
    /// Password, or Secret access key.
    pub password: SecretString,
    /// The name of a Secret that exists.
    pub existing_secret: String,
    /// Insecure Skip TLS Verify.
    pub insecure_skip_verify: bool,
    /// The CA certificate, as PEM text.
    pub ca: String,
    /// Whether a file was chosen for the CA: it wins over the text.
    pub ca_is_file: bool,
    /// The text that was pasted as a CA and isn't one.
    pub ca_typed: String,
    /// What is wrong with the CA.
    pub ca_complaint: Option<String>,
    /// ECR: Protected.
    pub protected: bool,
    /// ECR: STS rather than Credentials.
    pub sts: bool,
    /// ECR: Access Key.
    pub access_key: String,
    /// ECR: ARN.
    pub role_arn: String,
    /// ECR: External ID.
    pub external_id: String,
    /// ECR: Region.
    pub region: String,
    /// Which login the registry gets.
    pub login: LoginChoice,
    /// The login of the registry that is edited, never from what was sent.
    pub stored: Option<StoredLogin>,
    /// What the name of a new Secret ends with.
    pub secret_suffix: String,
    /// Where the CA of the registry that is edited is, if it isn't in the registry: `ConfigMap c, key k`.
    pub ca_reference: String,
    /// Whether that CA stays.
    pub keeps_ca_reference: bool,
    /// The object that the form was filled from; empty if none.
    pub uid: String,
    /// Its generation then.
    pub generation: String,
}

impl RegistryForm {
    /// Takes one field of a submitted form. What isn't a field is passed over.
    pub fn take(&mut self, name: &str, content: &[u8]) {
        match name {
            "password" => self.password = SecretString::from(String::from_utf8_lossy(content).into_owned()),
            "ca_file" => self.take_ca(content, true),
            "ca" => self.take_ca(content, false),
            _ => self.take_text(name, String::from_utf8_lossy(content).trim().to_owned()),
        }
    }

    fn take_text(&mut self, name: &str, text: String) {
        match name {
            "draft" => self.draft = text,
            "name" => self.name = text,
            "content_type" => self.content_type = text,
            "endpoint" => self.take_endpoint(&text),
            "base_content_path" => self.base_content_path = text,
            "repository" => self.repository = text,
            "username" => self.username = text,
            "existing_secret" => self.existing_secret = text,
            "insecure_skip_verify" => self.insecure_skip_verify = !text.is_empty(),
            "protected" => self.protected = !text.is_empty(),
            "method" => self.sts = text == "sts",
            "access_key" => self.access_key = text,
            "role_arn" => self.role_arn = text,
            "external_id" => self.external_id = text,
            "region" => self.region = text,
            "login" => self.login = LoginChoice::of(&text),
            "keep_ca_reference" => self.keeps_ca_reference = !text.is_empty(),
            "uid" => self.uid = text,
            "generation" => self.generation = text,
            _ => {}
        }
    }

    /// Takes the endpoint. A URL with a login is dropped at once: it must stand in no page, no URL and no dry run.
    fn take_endpoint(&mut self, text: &str) {
        self.endpoint_has_login = text.contains('@');
        let text = if self.endpoint_has_login { "" } else { text };
        self.scheme_added = !text.is_empty() && !text.contains("://");
        self.endpoint = if self.scheme_added { format!("https://{text}") } else { text.to_owned() };
    }

    /// Takes a CA. A file that was chosen wins over what stands in the text field, whichever comes first.
    fn take_ca(&mut self, content: &[u8], is_file: bool) {
        if content.trim_ascii().is_empty() || (self.ca_is_file && !is_file) {
            return;
        }
        self.ca_is_file = is_file;
        self.ca_typed.clear();
        match uploaded_ca::to_pem(content) {
            Ok(pem) => (self.ca, self.ca_complaint) = (pem, None),
            Err(why) => {
                self.ca.clear();
                self.ca_complaint = Some(why);
                let text = String::from_utf8_lossy(content);
                // A private key does not go back into a page.
                if !is_file && !text.contains("PRIVATE KEY") {
                    self.ca_typed = text.into_owned();
                }
            }
        }
    }

    /// Returns what stands in the text field for the CA.
    pub fn ca_text(&self) -> &str {
        if self.ca_typed.is_empty() { &self.ca } else { &self.ca_typed }
    }

    /// Whether anything of a login was typed.
    pub fn has_typed_login(&self) -> bool {
        !self.username.is_empty() || !self.access_key.is_empty() || self.has_password()
    }

    /// Whether the tab has a login at all.
    pub fn is_protected(&self) -> bool {
        self.tab == FormTab::Basic || self.protected
    }

    /// A login that was typed takes the stored one's place.
    pub fn settle_login(&mut self) {
        if self.stored.is_none() {
            self.login = LoginChoice::Typed;
        } else if self.login == LoginChoice::Typed {
            self.login = LoginChoice::Keep;
        }
        if self.login == LoginChoice::Keep && (self.has_typed_login() || !self.existing_secret.is_empty()) {
            self.login = LoginChoice::Replace;
        }
    }

    /// Whether a password was typed, or kept.
    pub fn has_password(&self) -> bool {
        !self.password.expose_secret().is_empty()
    }

    /// Whether the form has a login of its own, so that a Secret is created for it.
    pub fn has_login(&self) -> bool {
        self.is_protected() && self.existing_secret.is_empty() && self.has_password()
    }

    /// Whether the registry uses a Secret that exists already.
    pub fn uses_existing_secret(&self) -> bool {
        self.is_protected() && (!self.existing_secret.is_empty() || self.login == LoginChoice::Keep)
    }

    /// The host and port that a secret in this form is for.
    pub fn server(&self) -> String {
        Endpoint::parse(&self.endpoint).map(|endpoint| endpoint.server().to_string()).unwrap_or_default()
    }

    /// The server with its scheme: a secret that was typed for TLS isn't sent without it.
    pub fn origin(&self) -> String {
        let scheme = self.endpoint.split("://").next().unwrap_or_default();
        format!("{}://{}", scheme.to_ascii_lowercase(), self.server())
    }

    /// The Secret that the registry uses.
    pub fn secret_name(&self) -> Option<String> {
        let stored = self.stored.as_ref().filter(|_| self.login == LoginChoice::Keep);
        match (self.uses_existing_secret(), self.has_login()) {
            (true, _) => {
                Some(stored.map_or_else(|| self.existing_secret.clone(), |stored| stored.secret.clone()))
            }
            (false, true) => Some(format!("{}-login{}", self.name, self.secret_suffix)),
            _ => None,
        }
    }

    /// The registry. Only what was said stands in it: the rest is the schema's defaults.
    pub fn document(&self, scope: &ConsoleScope) -> Value {
        let mut spec = json!({"contentType": self.content_type, "endpoint": self.endpoint});
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec[name] = value;
            }
        };
        set("baseContentPath", text(&self.base_content_path));
        set("auth", self.auth());
        set("tls", self.tls());
        set("validation", text(&self.repository).map(|repository| json!({"repository": repository})));
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = scope.namespace() {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": api_version(), "kind": scope.kind(), "metadata": metadata, "spec": spec})
    }

    /// `spec.auth`.
    pub fn auth(&self) -> Option<Value> {
        let secret = self.secret_name().map(|name| json!({"name": name}));
        match self.tab {
            FormTab::Basic => secret.map(|secret| json!({(self.login_method()): {"secretRef": secret}})),
            FormTab::Ecr => Some(json!({"ecr": self.ecr(secret)})),
        }
    }

    /// The field of `spec.auth` on the tab Basic. A Secret named in place of a stored token holds a token too: only a user name makes
    /// it a login with a password.
    fn login_method(&self) -> &'static str {
        let is_token = self.stored.as_ref().is_some_and(|stored| stored.what == TOKEN);
        if is_token && self.uses_existing_secret() { "token" } else { "basic" }
    }

    fn ecr(&self, secret: Option<Value>) -> Value {
        let mut ecr = json!({});
        if let Some(region) = text(&self.region) {
            ecr["region"] = region;
        }
        if self.protected && self.sts {
            ecr["sts"] = json!({"roleARN": self.role_arn});
            if let Some(id) = text(&self.external_id) {
                ecr["sts"]["externalID"] = id;
            }
            if let Some(secret) = secret {
                ecr["sts"]["secretRef"] = secret;
            }
        } else if let Some(secret) = secret.filter(|_| self.protected) {
            ecr["credentials"] = json!({"secretRef": secret});
        }
        ecr
    }

    fn tls(&self) -> Option<Value> {
        let mut tls = serde_json::Map::new();
        if self.insecure_skip_verify {
            tls.insert("insecureSkipVerify".to_owned(), json!(true));
        }
        if let Some(ca) = text(&self.ca) {
            tls.insert("ca".to_owned(), json!({"inline": ca}));
        }
        (!tls.is_empty()).then_some(Value::Object(tls))
    }

    /// The Secret with what was typed, for the server that it was typed for and no other.
    pub fn secret(&self, scope: &ConsoleScope, system_namespace: &str) -> Option<Secret> {
        let name = self.secret_name().filter(|_| self.has_login())?;
        let (kind, user_key, user, password_key) = match self.tab {
            FormTab::Basic => ("kubernetes.io/basic-auth", "username", &self.username, "password"),
            FormTab::Ecr => ("Opaque", "AWS_ACCESS_KEY_ID", &self.access_key, "AWS_SECRET_ACCESS_KEY"),
        };
        let entry = |key: &str, value: &str| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
        let data =
            BTreeMap::from([entry(user_key, user), entry(password_key, self.password.expose_secret())]);
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(scope.secrets_namespace(system_namespace).to_owned()),
            annotations: Some(BTreeMap::from([(HOSTS_ANNOTATION.to_owned(), self.server())])),
            ..ObjectMeta::default()
        };
        Some(Secret { metadata, type_: Some(kind.to_owned()), data: Some(data), ..Secret::default() })
    }

    /// A digest of everything that a verdict depends on: a changed field has another one.
    /// `document` is the registry that the form becomes.
    pub fn digest(&self, document: &Value) -> FormDigest {
        digest_of(&json!([document, self.username, self.access_key, self.password.expose_secret()]))
    }
}

/// A digest of a value.
pub fn digest_of(value: &Value) -> FormDigest {
    let mut bytes = FormDigest::default();
    bytes.copy_from_slice(digest(&SHA256, value.to_string().as_bytes()).as_ref());
    bytes
}

fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!(text))
}

#[cfg(test)]
mod tests {
    use registry_testbed::TestCa;

    use super::*;
    use crate::simulated::filled;

    fn form(fields: &[(&str, &str)]) -> RegistryForm {
        filled(&[&[("content_type", "Pack")], fields].concat())
    }

    fn wrong(form: &RegistryForm) -> Vec<&'static str> {
        form.complaints().into_iter().map(|complaint| complaint.field).collect()
    }

    const TENANT: fn() -> ConsoleScope =
        || ConsoleScope::Tenant { tenant: "team".to_owned(), namespace: "team-a".to_owned() };

    #[test]
    fn becomes_a_registry_that_says_only_what_was_said() {
        let open = form(&[("name", " packs "), ("endpoint", "r.example:5000")]);
        assert!(open.scheme_added && open.complaints().is_empty());
        let expected = json!({
            "apiVersion": "registry.spectrocloud.com/v1alpha1", "kind": "SystemRegistry", "metadata": {"name": "packs"},
            "spec": {"contentType": "Pack", "endpoint": "https://r.example:5000"},
        });
        assert_eq!(open.document(&ConsoleScope::System), expected);
        assert!(open.secret(&ConsoleScope::System, "registry-system").is_none());
    }

    #[test]
    fn login_becomes_a_secret_for_its_host_alone() {
        let login =
            form(&[("name", "packs"), ("endpoint", "https://r"), ("username", "u"), ("password", " p ")]);
        let document = login.document(&TENANT());
        assert_eq!(document.pointer("/spec/auth/basic/secretRef/name"), Some(&json!("packs-login")));
        assert_eq!(document.pointer("/metadata/namespace"), Some(&json!("team-a")));
        let secret = login.secret(&TENANT(), "registry-system").unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
        assert_eq!(secret.metadata.namespace.as_deref(), Some("team-a"));
        assert_eq!(secret.metadata.annotations.unwrap()[HOSTS_ANNOTATION], "r:443");
        assert_eq!(secret.data.unwrap()["password"].0, b" p ", "a password is taken as it is");
        assert!(!document.to_string().contains(" p "));
    }

    #[test]
    fn skip_and_ca_are_two_controls() {
        let both = form(&[("insecure_skip_verify", "on"), ("ca", "nonsense")]);
        assert!(both.insecure_skip_verify && both.ca.is_empty());
        assert!(wrong(&both).contains(&"ca"));
        assert_eq!(both.tls(), Some(json!({"insecureSkipVerify": true})));
    }

    #[test]
    fn chosen_ca_file_wins_in_either_order() {
        let (old, new) = (TestCa::new("old").unwrap(), TestCa::new("new").unwrap());
        let text = ("ca", old.certificate_pem());
        let file = ("ca_file", new.certificate_pem());
        let expected = uploaded_ca::to_pem(new.certificate_pem().as_bytes()).unwrap();
        for fields in [[text, file], [file, text]] {
            assert_eq!(form(&fields).ca, expected);
        }
        for fields in [[("ca", "nonsense"), file], [file, ("ca", "nonsense")]] {
            let form = form(&fields);
            assert!(form.ca == expected && form.ca_complaint.is_none() && form.ca_text() == expected);
        }
        for fields in [[text, ("ca_file", "nonsense")], [("ca_file", "nonsense"), text]] {
            assert!(wrong(&form(&fields)).contains(&"ca"));
        }
        assert_eq!(form(&[("ca_file", ""), text]).ca, form(&[text]).ca, "no file was chosen");
    }

    #[test]
    fn text_that_is_no_ca_is_given_back() {
        assert_eq!(form(&[("ca", "nonsense")]).ca_text(), "nonsense");
        assert_eq!(form(&[("ca", "-----BEGIN PRIVATE KEY-----\nAA==")]).ca_text(), "");
    }

    #[test]
    fn login_in_the_endpoint_is_dropped() {
        for endpoint in ["https://u:HUSH@r", "u:HUSH@r", "http://HUSH@r/a", "https://r/a@HUSH"] {
            let form = form(&[("name", "p"), ("endpoint", endpoint)]);
            assert_eq!(wrong(&form), ["endpoint"], "{endpoint}");
            assert!(!format!("{form:?}{}", form.document(&ConsoleScope::System)).contains("HUSH"));
        }
    }

    #[test]
    fn keys_and_sts_are_exclusive() {
        let mut keys = form(&[("name", "p"), ("protected", "on"), ("access_key", "A"), ("password", "s")]);
        keys.tab = FormTab::Ecr;
        assert_eq!(keys.auth(), Some(json!({"ecr": {"credentials": {"secretRef": {"name": "p-login"}}}})));
        keys.take("method", b"sts");
        keys.take("role_arn", b"arn:aws:iam::123456789012:role/r");
        let sts = keys.auth().unwrap();
        assert!(sts["ecr"]["credentials"].is_null() && sts["ecr"]["sts"]["secretRef"]["name"] == "p-login");
        keys.protected = false;
        assert_eq!(keys.auth(), Some(json!({"ecr": {}})));
    }

    #[test]
    fn any_change_has_another_digest() {
        let fields = [("name", "p"), ("endpoint", "https://r"), ("username", "u"), ("password", "p")];
        let digest_in = |scope: &ConsoleScope, fields: &[(&str, &str)]| {
            let form = form(fields);
            form.digest(&form.document(scope))
        };
        let digest = |fields: &[(&str, &str)]| digest_in(&ConsoleScope::System, fields);
        let first = digest(&fields);
        assert_eq!(first, digest(&fields));
        for change in [
            ("name", "q"),
            ("endpoint", "https://s"),
            ("username", "v"),
            ("password", "q"),
            ("base_content_path", "a"),
            ("insecure_skip_verify", "on"),
            ("content_type", "Helm"),
            ("repository", "a"),
        ] {
            assert_ne!(first, digest(&[&fields[..], &[change]].concat()), "{change:?}");
        }
        assert_ne!(first, digest_in(&TENANT(), &fields));
    }

    #[test]
    fn debug_output_holds_no_password() {
        assert!(!format!("{:?}", form(&[("password", "HUSH")])).contains("HUSH"));
    }
}

//! A registry that exists as a form, and the form as a change of it. Pure.
//!
//! The form shows a part of the registry: a change is what differs in that part, and all else stays as it is.

use serde_json::{Map, Value, json};

use crate::{
    form::{FormTab, RegistryForm, digest_of},
    uploaded_ca,
};

/// Which login a registry gets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LoginChoice {
    /// What was typed; if nothing was, none.
    #[default]
    Typed,
    /// The one that is stored.
    Keep,
    /// What was typed, in place of the stored one.
    Replace,
    /// None.
    Remove,
}

impl LoginChoice {
    /// As it stands in the form.
    pub fn of(text: &str) -> Self {
        match text {
            "keep" => Self::Keep,
            "replace" => Self::Replace,
            "remove" => Self::Remove,
            _ => Self::Typed,
        }
    }

    /// As it stands in the form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Typed => "",
            Self::Keep => "keep",
            Self::Replace => "replace",
            Self::Remove => "remove",
        }
    }
}

/// What the Secret of `spec.auth.token` holds.
pub const TOKEN: &str = "Token";

/// The login of a registry that exists: a Secret that the console doesn't read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredLogin {
    /// The Secret's name.
    pub secret: String,
    /// What it holds, for people: `Password`, `Token` or `Secret access key`.
    pub what: &'static str,
    /// The scheme and the server that it may be sent to.
    pub origin: String,
}

impl StoredLogin {
    fn of(auth: &Value, origin: &str) -> Option<Self> {
        const PLACES: [(&str, &str); 4] = [
            ("/basic/secretRef/name", "Password"),
            ("/token/secretRef/name", TOKEN),
            ("/ecr/credentials/secretRef/name", "Secret access key"),
            ("/ecr/sts/secretRef/name", "Secret access key"),
        ];
        PLACES.iter().find_map(|(path, what)| {
            let secret = auth.pointer(path)?.as_str()?.to_owned();
            Some(Self { secret, what, origin: origin.to_owned() })
        })
    }

    /// Why it isn't sent to another server.
    pub fn not_for(&self, origin: &str) -> String {
        format!(
            "The stored login is for {}: it is not sent to {origin}; enter the login again, or the name of a Secret for this server",
            self.origin
        )
    }
}

/// The form, filled from a registry.
pub fn form_of(name: &str, registry: &Value) -> RegistryForm {
    let text = |path: &str| registry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let auth = registry.pointer("/spec/auth").unwrap_or(&Value::Null);
    let ecr = auth.get("ecr");
    let ca = text("/spec/tls/ca/inline");
    let mut form = RegistryForm {
        tab: if ecr.is_some() { FormTab::Ecr } else { FormTab::Basic },
        name: name.to_owned(),
        content_type: text("/spec/contentType"),
        endpoint: text("/spec/endpoint"),
        base_content_path: text("/spec/baseContentPath"),
        repository: text("/spec/validation/repository"),
        insecure_skip_verify: registry.pointer("/spec/tls/insecureSkipVerify") == Some(&json!(true)),
        ca: uploaded_ca::to_pem(ca.as_bytes()).unwrap_or(ca),
        ca_reference: ca_reference(registry).unwrap_or_default(),
        protected: ecr.is_some_and(|ecr| ecr.get("credentials").is_some() || ecr.get("sts").is_some()),
        sts: auth.pointer("/ecr/sts").is_some(),
        role_arn: text("/spec/auth/ecr/sts/roleARN"),
        external_id: text("/spec/auth/ecr/sts/externalID"),
        region: text("/spec/auth/ecr/region"),
        uid: text("/metadata/uid"),
        generation: registry.pointer("/metadata/generation").map(Value::to_string).unwrap_or_default(),
        keeps_ca_reference: true,
        ..RegistryForm::default()
    };
    form.stored = StoredLogin::of(auth, &form.origin());
    form.settle_login();
    form
}

fn ca_reference(registry: &Value) -> Option<String> {
    let reference = |field: &str, kind: &str| {
        let there = registry.pointer(&format!("/spec/tls/ca/{field}"))?;
        let key = there.get("key").and_then(Value::as_str).unwrap_or("ca.crt");
        Some(format!("{kind} {}, key {key}", there.get("name")?.as_str()?))
    };
    reference("configMapRef", "ConfigMap").or_else(|| reference("secretRef", "Secret"))
}

/// Sets, in a form that was sent, what only the registry says.
pub fn bind(form: &mut RegistryForm, name: &str, registry: &Value) {
    let shown = form_of(name, registry);
    let [first, second, third, ..] = digest_of(&json!(form.draft));
    name.clone_into(&mut form.name);
    form.secret_suffix = format!("-{first:02x}{second:02x}{third:02x}");
    form.stored = shown.stored;
    form.ca_reference = shown.ca_reference;
    form.settle_login();
}

/// What differs from the registry, as a JSON merge patch of its spec. Fields that the form doesn't show aren't in it.
pub fn change(form: &RegistryForm, registry: &Value) -> Value {
    let shown = form_of(&form.name, registry);
    let spec = registry.get("spec").cloned().unwrap_or_default();
    let mut wanted = spec.clone();
    for (path, new, old) in [
        (&["contentType"][..], &form.content_type, &shown.content_type),
        (&["endpoint"], &form.endpoint, &shown.endpoint),
        (&["baseContentPath"], &form.base_content_path, &shown.base_content_path),
        (&["validation", "repository"], &form.repository, &shown.repository),
        (&["tls", "ca", "inline"], &form.ca, &shown.ca),
    ] {
        if new != old {
            set(&mut wanted, path, (!new.is_empty()).then(|| json!(new)));
        }
    }
    if form.insecure_skip_verify != shown.insecure_skip_verify {
        set(&mut wanted, &["tls", "insecureSkipVerify"], Some(json!(form.insecure_skip_verify)));
    }
    change_ca_reference(form, &shown, &mut wanted);
    // What the form doesn't show of it stays with an unchanged login: `auth: {}` too.
    if form.auth() != shown.auth() {
        set(&mut wanted, &["auth"], form.auth());
    }
    merge_patch(&spec, &wanted).unwrap_or_else(|| json!({}))
}

/// A CA that was typed takes the place of the one in a ConfigMap or Secret: a registry has one source.
fn change_ca_reference(form: &RegistryForm, shown: &RegistryForm, wanted: &mut Value) {
    let stays = form.keeps_ca_reference && form.ca.is_empty();
    if shown.ca_reference.is_empty() || stays {
        return;
    }
    let inline = form.ca.as_str();
    set(wanted, &["tls", "ca"], (!inline.is_empty()).then(|| json!({"inline": inline})));
}

/// Sets a value in an object, or removes it, with what is then empty around it.
fn set(object: &mut Value, path: &[&str], value: Option<Value>) {
    let Some((first, rest)) = path.split_first() else { return };
    if !object.is_object() {
        *object = json!({});
    }
    let Some(fields) = object.as_object_mut() else { return };
    let Some(new) = (if rest.is_empty() { value } else { inner(fields, first, rest, value) }) else {
        fields.remove(*first);
        return;
    };
    fields.insert((*first).to_owned(), new);
}

fn inner(fields: &Map<String, Value>, first: &str, rest: &[&str], value: Option<Value>) -> Option<Value> {
    let mut inner = fields.get(first).cloned().unwrap_or_else(|| json!({}));
    set(&mut inner, rest, value);
    (inner != json!({})).then_some(inner)
}

/// Returns the JSON merge patch (RFC 7386) that makes `to` of `from`; `None` if they are equal.
fn merge_patch(from: &Value, to: &Value) -> Option<Value> {
    if from == to {
        return None;
    }
    let (Some(old), Some(new)) = (from.as_object(), to.as_object()) else { return Some(to.clone()) };
    let removed = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let old = old.get(key).unwrap_or(&Value::Null);
        Some((key.clone(), merge_patch(old, value)?))
    });
    Some(Value::Object(removed.chain(changed).collect()))
}

/// Applies a JSON merge patch (RFC 7386).
pub fn patched(value: &Value, patch: &Value) -> Value {
    let Some(changes) = patch.as_object() else { return patch.clone() };
    let mut fields = value.as_object().cloned().unwrap_or_default();
    for (key, change) in changes {
        if change.is_null() {
            fields.remove(key);
        } else {
            let old = fields.get(key).unwrap_or(&Value::Null);
            fields.insert(key.clone(), patched(old, change));
        }
    }
    Value::Object(fields)
}

/// What was entered and differs from what is there now, field by field; no secrets.
pub fn entered(form: &RegistryForm, now: &RegistryForm) -> Vec<(&'static str, String)> {
    let skip = |form: &RegistryForm| if form.insecure_skip_verify { "on" } else { "off" }.to_owned();
    let fields: [(&str, String, String); 9] = [
        ("Provider", form.content_type.clone(), now.content_type.clone()),
        ("Endpoint", form.endpoint.clone(), now.endpoint.clone()),
        ("Base Content Path", form.base_content_path.clone(), now.base_content_path.clone()),
        ("Repository to check", form.repository.clone(), now.repository.clone()),
        ("Insecure Skip TLS Verify", skip(form), skip(now)),
        ("ARN", form.role_arn.clone(), now.role_arn.clone()),
        ("External ID", form.external_id.clone(), now.external_id.clone()),
        ("Region", form.region.clone(), now.region.clone()),
        ("Use an existing Secret", form.existing_secret.clone(), now.existing_secret.clone()),
    ];
    let differ = fields.into_iter().filter(|(_, typed, now)| typed != now);
    differ
        .map(|(name, typed, _)| (name, if typed.is_empty() { "(empty)".to_owned() } else { typed }))
        .collect()
}

#[cfg(test)]
mod tests {
    use registry_testbed::TestCa;

    use super::*;

    /// A registry with everything that the form doesn't show.
    fn registry() -> Value {
        json!({
            "metadata": {"uid": "u", "generation": 3},
            "spec": {
                "contentType": "Pack", "endpoint": "https://r.example", "baseContentPath": "team",
                "auth": {"basic": {"secretRef": {"name": "login"}}},
                "tls": {"insecureSkipVerify": false, "clientCertificate": {"secretRef": {"name": "m"}}},
                "validation": {"interval": "1h", "timeout": "5s", "failureThreshold": 7},
                "availability": {"tenants": ["a"], "pullSecret": {"name": "pull"}},
                "suspend": true, "deletionProtection": true, "future": {"field": 1},
            },
        })
    }

    fn with_auth(auth: &Value) -> Value {
        let mut registry = registry();
        registry["spec"]["auth"] = auth.clone();
        registry
    }

    /// The form as a browser sends it back, with these changes.
    fn sent(registry: &Value, changes: &[(&str, &str)]) -> RegistryForm {
        let mut form = form_of("p", registry);
        for (name, value) in changes {
            form.take(name, value.as_bytes());
        }
        bind(&mut form, "p", registry);
        form
    }

    fn wrong(form: &RegistryForm) -> Vec<&'static str> {
        form.complaints().into_iter().map(|complaint| complaint.field).collect()
    }

    #[test]
    fn unchanged_form_changes_nothing() {
        let ecr = json!({"ecr": {"region": "eu-central-1", "sts": {"roleARN": "arn", "externalID": "x", "secretRef": {"name": "k"}}}});
        for auth in [
            json!({"basic": {"secretRef": {"name": "login"}}}),
            json!({"token": {"secretRef": {"name": "login"}}}),
            json!({}),
            json!({"ecr": {}}),
            json!({"ecr": {"credentials": {"secretRef": {"name": "k"}}}}),
            json!({"ecr": {"sts": {"roleARN": "arn"}}}),
            ecr,
        ] {
            let registry = with_auth(&auth);
            assert_eq!(change(&sent(&registry, &[]), &registry), json!({}), "{auth}");
        }
    }

    #[test]
    fn change_holds_the_changed_fields_alone() {
        let registry = registry();
        let form = sent(
            &registry,
            &[("base_content_path", ""), ("repository", "hello"), ("insecure_skip_verify", "on")],
        );
        let expected = json!({
            "baseContentPath": null, "validation": {"repository": "hello"}, "tls": {"insecureSkipVerify": true},
        });
        let found = change(&form, &registry);
        assert_eq!(found, expected);
        let spec = patched(&registry["spec"], &found);
        assert_eq!(spec["future"], json!({"field": 1}));
        assert_eq!(spec["validation"]["interval"], "1h");
        assert!(spec.get("baseContentPath").is_none());
    }

    #[test]
    fn replaced_login_gets_a_secret_of_its_own() {
        let registry = registry();
        let form = sent(&registry, &[("draft", "d"), ("username", "u"), ("password", "p")]);
        assert_eq!(form.login, LoginChoice::Replace, "typing is choosing");
        let name = form.secret_name().unwrap();
        assert!(name.starts_with("p-login-") && name.len() == "p-login-".len() + 6, "{name}");
        assert_eq!(change(&form, &registry), json!({"auth": {"basic": {"secretRef": {"name": name}}}}));
        let other = sent(&registry, &[("draft", "e"), ("username", "u"), ("password", "p")]);
        assert_ne!(other.secret_name().unwrap(), name);
        let removed = sent(&registry, &[("login", "remove")]);
        assert_eq!(change(&removed, &registry), json!({"auth": null}));
    }

    #[test]
    fn existing_secret_for_a_token_is_a_token() {
        let registry = with_auth(&json!({"token": {"secretRef": {"name": "t"}}}));
        let named = sent(&registry, &[("login", "replace"), ("existing_secret", "other")]);
        assert_eq!(change(&named, &registry), json!({"auth": {"token": {"secretRef": {"name": "other"}}}}));
        let same = sent(&registry, &[("login", "replace"), ("existing_secret", "t")]);
        assert_eq!(change(&same, &registry), json!({}));
        let typed = sent(&registry, &[("username", "u"), ("password", "p")]);
        let secret = typed.secret_name().unwrap();
        let expected = json!({"auth": {"token": null, "basic": {"secretRef": {"name": secret}}}});
        assert_eq!(change(&typed, &registry), expected);
        let removed = sent(&registry, &[("login", "remove")]);
        assert_eq!(change(&removed, &registry), json!({"auth": null}));
    }

    #[test]
    fn unrelated_change_leaves_an_empty_auth() {
        let registry = with_auth(&json!({}));
        let form = sent(&registry, &[("base_content_path", "other")]);
        assert_eq!(change(&form, &registry), json!({"baseContentPath": "other"}));
    }

    #[test]
    fn stored_login_is_for_its_server_alone() {
        let registry = registry();
        for same in ["https://r.example:443", "https://R.example/suffix"] {
            assert!(wrong(&sent(&registry, &[("endpoint", same)])).is_empty(), "{same}");
        }
        for other in
            ["https://evil.example", "http://r.example", "https://r.example:8443", "http://r.example:443"]
        {
            assert_eq!(wrong(&sent(&registry, &[("endpoint", other)])), ["password"], "{other}");
            let named = [("endpoint", other), ("existing_secret", "login")];
            assert_eq!(wrong(&sent(&registry, &named)), ["password"], "{other}");
            let typed = [("endpoint", other), ("username", "u"), ("password", "p")];
            assert!(wrong(&sent(&registry, &typed)).is_empty(), "{other}");
            assert!(
                wrong(&sent(&registry, &[("endpoint", other), ("login", "remove")])).is_empty(),
                "{other}"
            );
        }
    }

    #[test]
    fn aws_keys_are_kept_for_their_server_too() {
        let registry = with_auth(&json!({"ecr": {"credentials": {"secretRef": {"name": "k"}}}}));
        assert_eq!(form_of("p", &registry).stored.unwrap().what, "Secret access key");
        assert_eq!(wrong(&sent(&registry, &[("endpoint", "https://s")])), ["password"]);
        let role = [("method", "sts"), ("role_arn", "arn:aws:iam::123456789012:role/r")];
        let expected = json!({"auth": {"ecr": {
            "credentials": null, "sts": {"roleARN": "arn:aws:iam::123456789012:role/r", "secretRef": {"name": "k"}},
        }}});
        assert_eq!(change(&sent(&registry, &role), &registry), expected);
        let mut public = sent(&registry, &[]);
        public.protected = false;
        assert!(wrong(&public).is_empty());
        assert_eq!(change(&public, &registry), json!({"auth": {"ecr": {"credentials": null}}}));
    }

    #[test]
    fn replacing_needs_a_login() {
        let registry = registry();
        assert_eq!(wrong(&sent(&registry, &[("login", "replace")])), ["username"]);
        assert_eq!(wrong(&sent(&registry, &[("username", "u")])), ["password"]);
        assert_eq!(wrong(&sent(&registry, &[("login", "remove"), ("existing_secret", "s")])), ["username"]);
    }

    #[test]
    fn ca_elsewhere_stays_until_another_one_comes() {
        let mut registry = registry();
        registry["spec"]["tls"]["ca"] = json!({"configMapRef": {"name": "c", "key": "k"}});
        assert_eq!(form_of("p", &registry).ca_reference, "ConfigMap c, key k");
        assert_eq!(change(&sent(&registry, &[("keep_ca_reference", "on")]), &registry), json!({}));
        let removed = change(&sent(&registry, &[("keep_ca_reference", "")]), &registry);
        assert_eq!(removed, json!({"tls": {"ca": null}}));
        let ca = TestCa::new("private authority").unwrap();
        let found = change(&sent(&registry, &[("ca", ca.certificate_pem())]), &registry);
        assert!(found["tls"]["ca"]["configMapRef"].is_null() && found["tls"]["ca"]["inline"].is_string());
    }

    #[test]
    fn comments_around_a_ca_are_no_change() {
        let mut registry = registry();
        let ca = TestCa::new("private authority").unwrap();
        registry["spec"]["tls"]["ca"] = json!({"inline": format!("# our CA\n{}\n", ca.certificate_pem())});
        let form = form_of("p", &registry);
        let text = form.ca_text().replace('\n', "\r\n");
        assert_eq!(change(&sent(&registry, &[("ca", &text)]), &registry), json!({}));
    }
}

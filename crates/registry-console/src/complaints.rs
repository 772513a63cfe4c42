//! What is wrong with a form, as far as it can be seen without the API server, and where the API server's sentences stand. Pure.

use secrecy::ExposeSecret as _;

use crate::{
    draft::LONGEST_SECRET,
    form::{FormTab, RegistryForm},
    stored::{LoginChoice, StoredLogin},
};

/// What is wrong with a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldComplaint {
    /// The field's name in the form; empty for the form as a whole.
    pub field: &'static str,
    /// The sentence.
    pub message: String,
}

impl RegistryForm {
    /// Everything that is wrong and can be seen without the API server.
    pub fn complaints(&self) -> Vec<FieldComplaint> {
        let mut found = Vec::new();
        let mut complain = |is_wrong: bool, field, message: &str| {
            if is_wrong {
                found.push(FieldComplaint { field, message: message.to_owned() });
            }
        };
        complain(self.name.is_empty(), "name", "Name is required");
        complain(
            self.endpoint_has_login,
            "endpoint",
            "Endpoint must not contain a login (nothing with @); use Username and Password",
        );
        let has_none = self.endpoint.is_empty() && !self.endpoint_has_login;
        complain(has_none, "endpoint", "Endpoint is required");
        if let Some(why) = &self.ca_complaint {
            complain(true, "ca", why);
        }
        self.complain_about_stored(&mut complain);
        self.complain_about_length(&mut complain);
        match self.tab {
            FormTab::Basic => self.complain_about_login(&mut complain),
            FormTab::Ecr => self.complain_about_aws(&mut complain),
        }
        found
    }

    fn complain_about_stored(&self, complain: &mut impl FnMut(bool, &'static str, &str)) {
        let Some(stored) = &self.stored else { return };
        complain(self.sends_stored_elsewhere(stored), "password", &stored.not_for(&self.origin()));
        let is_empty = !self.has_typed_login() && self.existing_secret.is_empty();
        let field = if self.tab == FormTab::Basic { "username" } else { "access_key" };
        let message = "Enter the new login, or keep the stored one";
        complain(self.login == LoginChoice::Replace && self.is_protected() && is_empty, field, message);
        let message = "Leave it empty, or choose to replace the stored login";
        complain(self.login == LoginChoice::Remove && !is_empty, field, message);
    }

    fn complain_about_length(&self, complain: &mut impl FnMut(bool, &'static str, &str)) {
        let password = match self.tab {
            FormTab::Basic => "Password must not be longer than 8 KiB",
            FormTab::Ecr => "Secret access key must not be longer than 8 KiB",
        };
        complain(self.password.expose_secret().len() > LONGEST_SECRET, "password", password);
        let is_long = |text: &str| text.len() > LONGEST_SECRET;
        complain(is_long(&self.username), "username", "Username must not be longer than 8 KiB");
        complain(is_long(&self.access_key), "access_key", "Access Key must not be longer than 8 KiB");
    }

    /// Whether the stored login would go to a server that it was not stored for.
    fn sends_stored_elsewhere(&self, stored: &StoredLogin) -> bool {
        let names_it = self.existing_secret == stored.secret && !self.existing_secret.is_empty();
        let is_used = self.is_protected() && (self.login == LoginChoice::Keep || names_it);
        is_used && !self.endpoint.is_empty() && self.origin() != stored.origin
    }

    fn complain_about_login(&self, complain: &mut impl FnMut(bool, &'static str, &str)) {
        let (has_user, has_password) = (!self.username.is_empty(), self.has_password());
        let has_secret = !self.existing_secret.is_empty();
        complain(
            has_user && !has_password && !has_secret,
            "password",
            "Password is required with a Username",
        );
        complain(
            has_password && !has_user && !has_secret,
            "username",
            "Username is required with a Password",
        );
        complain(
            has_secret && (has_user || has_password),
            "existing_secret",
            "Give either a Username and Password or an existing Secret, not both",
        );
    }

    fn complain_about_aws(&self, complain: &mut impl FnMut(bool, &'static str, &str)) {
        let (has_key, has_secret_key) = (!self.access_key.is_empty(), self.has_password());
        let has_secret = !self.existing_secret.is_empty();
        if !self.protected {
            return;
        }
        complain(has_key && !has_secret_key, "password", "Secret access key is required with an Access Key");
        complain(has_secret_key && !has_key, "access_key", "Access Key is required with a Secret access key");
        complain(
            has_secret && (has_key || has_secret_key),
            "existing_secret",
            "Give either an Access Key or an existing Secret, not both",
        );
        complain(self.sts && self.role_arn.is_empty(), "role_arn", "ARN is required for STS");
        let is_kept = matches!(self.login, LoginChoice::Keep | LoginChoice::Replace);
        let has_none = !has_key && !has_secret_key && !has_secret && !is_kept;
        complain(
            !self.sts && has_none,
            "access_key",
            "Access Key is required; without one, switch Protected off",
        );
    }
}

/// The field that a sentence of the API server is about; empty where it is about none of them.
pub fn field_of(sentence: &str) -> &'static str {
    const FIELDS: [(&str, &str); 14] = [
        ("metadata.name", "name"),
        ("spec.contentType", "content_type"),
        ("spec.endpoint", "endpoint"),
        ("spec.baseContentPath", "base_content_path"),
        ("spec.validation.repository", "repository"),
        ("spec.tls.insecureSkipVerify", "insecure_skip_verify"),
        ("spec.tls.ca", "ca"),
        ("spec.auth.ecr.sts.roleARN", "role_arn"),
        ("spec.auth.ecr.sts.externalID", "external_id"),
        ("spec.auth.ecr.sts.secretRef", "existing_secret"),
        ("spec.auth.ecr.region", "region"),
        ("spec.auth.ecr.credentials.secretRef", "existing_secret"),
        ("spec.auth.basic.secretRef", "existing_secret"),
        ("spec.auth.token.secretRef", "existing_secret"),
    ];
    FIELDS.iter().find(|(path, _)| sentence.starts_with(path)).map_or("", |(_, field)| field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::filled as form;

    fn wrong(form: &RegistryForm) -> Vec<&'static str> {
        form.complaints().into_iter().map(|complaint| complaint.field).collect()
    }

    #[test]
    fn half_a_login_is_refused() {
        let base = [("name", "p"), ("endpoint", "https://r")];
        assert_eq!(wrong(&form(&[&base[..], &[("username", "u")]].concat())), ["password"]);
        assert_eq!(wrong(&form(&[&base[..], &[("password", "p")]].concat())), ["username"]);
        let both = [&base[..], &[("username", "u"), ("password", "p"), ("existing_secret", "s")]].concat();
        assert_eq!(wrong(&form(&both)), ["existing_secret"]);
        assert_eq!(wrong(&form(&[])), ["name", "endpoint"]);
    }

    #[test]
    fn login_that_is_too_long_is_refused() {
        let (longest, long) = ("a".repeat(LONGEST_SECRET), "a".repeat(LONGEST_SECRET + 1));
        let login = |username: &str, password: &str| {
            let fields =
                [("name", "p"), ("endpoint", "https://r"), ("username", username), ("password", password)];
            wrong(&form(&fields))
        };
        assert!(login(&longest, &longest).is_empty());
        assert_eq!(login(&long, &long), ["password", "username"]);
        let fields = [
            ("name", "p"),
            ("endpoint", "https://r"),
            ("protected", "on"),
            ("access_key", &*long),
            ("password", "p"),
        ];
        assert_eq!(wrong(&RegistryForm { tab: FormTab::Ecr, ..form(&fields) }), ["access_key"]);
    }

    #[test]
    fn sentence_stands_at_its_field() {
        assert_eq!(field_of("spec.endpoint must start with https://"), "endpoint");
        assert_eq!(field_of("spec.tls.insecureSkipVerify is not allowed"), "insecure_skip_verify");
        assert_eq!(field_of("tenants may not"), "");
    }
}

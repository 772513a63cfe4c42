//! The pages as types: what the HTML in `templates/` is filled with. Everything is escaped there.

use askama::Template;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use crate::{
    add::FormSurroundings,
    assets::{ICON, SCRIPT, STYLE},
    complaints::FieldComplaint,
    detail::RegistryDetail,
    draft::FormDraft,
    form::RegistryForm,
    listing::RegistryRow,
    verdict::{LayerRow, VerdictView},
    visible::with_visible_text,
};

/// What every page has around it.
#[derive(Clone, Debug)]
pub struct Chrome {
    /// The style sheet's path.
    pub style: &'static str,
    /// The script's path.
    pub script: &'static str,
    /// The icon's path.
    pub icon: &'static str,
    /// Who is signed in; empty for nobody.
    pub user: String,
    /// The entry of the Main Menu that the page belongs to: `system`, `tenants` or none.
    pub section: &'static str,
}

impl Chrome {
    /// Of a page for a signed-in user.
    pub fn new(user: &str, section: &'static str) -> Self {
        Self { style: &STYLE.path, script: &SCRIPT.path, icon: &ICON.path, user: user.to_owned(), section }
    }

    /// Of a page for nobody.
    pub fn signed_out() -> Self {
        Self::new("", "")
    }
}

/// The first page.
#[derive(Template)]
#[template(path = "home.html")]
pub struct HomePage {
    /// What is around it.
    pub chrome: Chrome,
    /// How many registries there are, or why that isn't known.
    pub summary: Result<Summary, String>,
}

/// How many registries can be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// All.
    pub all: usize,
    /// Those that can be used.
    pub available: usize,
    /// Those that can't be.
    pub failing: usize,
}

/// The table of registries.
#[derive(Template)]
#[template(path = "list.html")]
pub struct ListPage {
    /// What is around it.
    pub chrome: Chrome,
    /// `Administration`, or the tenant's name.
    pub title: String,
    /// The rows; or why they can't be shown.
    pub rows: Result<Vec<RegistryRow>, String>,
    /// What no other state of the rows has; empty if they can't be followed.
    pub version: String,
    /// Where the table learns that there is a newer state, up to the parameter `since`.
    pub changes_url: String,
    /// What a reader should know besides.
    pub notes: Vec<String>,
    /// What the table is filtered by.
    pub filter: String,
    /// The page of the form.
    pub add_url: String,
    /// Why the user can't add one.
    pub cannot_add: Option<String>,
    /// What was just done.
    pub done: String,
    /// The tenant whose view this is; empty for the system scope.
    pub tenant: String,
    /// The namespace that the view is limited to; empty for all.
    pub namespace: String,
}

/// The form.
#[derive(Template)]
#[template(path = "add.html")]
pub struct AddPage {
    /// What is around it.
    pub chrome: Chrome,
    /// What was typed.
    pub form: RegistryForm,
    /// `https://` or the host, for the secrets' hint.
    pub place: AddPlace,
    /// Whether a secret that was typed is kept for the next submission.
    pub has_kept_secret: bool,
    /// What is wrong.
    pub complaints: Vec<FieldComplaint>,
    /// What was entered in a form that another user's change has overtaken, field by field.
    pub entered: Vec<(&'static str, String)>,
    /// Whether the validation is being made: its verdict takes the place of [`VERDICT`].
    pub is_checked: bool,
    /// Confirm was pressed without a green check.
    pub is_unvalidated: bool,
}

/// Where the verdict comes in a form. What users enter can't be this: it is escaped.
pub const VERDICT: &str = "<!--verdict-->";

/// A layer's line in a verdict that comes bit by bit.
#[derive(Template)]
#[template(path = "layer.html")]
pub struct LayerPart {
    /// The layer.
    pub layer: LayerRow,
}

/// What comes below the layers of a verdict.
#[derive(Template)]
#[template(path = "verdict.html")]
pub struct VerdictPart {
    /// The verdict.
    pub verdict: VerdictView,
}

/// Where the form adds.
#[derive(Clone, Debug, Default)]
pub struct AddPlace {
    /// The form's own URL.
    pub action: String,
    /// The tab Basic.
    pub basic_url: String,
    /// The tab ECR.
    pub ecr_url: String,
    /// The table.
    pub list_url: String,
    /// Whether it is for the system scope.
    pub is_system: bool,
    /// The namespace of the Secrets.
    pub secrets_namespace: String,
    /// Where it adds, in words.
    pub words: String,
    /// What isn't known about the namespace; empty if all is known.
    pub note: String,
    /// Whether it changes a registry that exists.
    pub is_edit: bool,
    /// What the form says of the cluster.
    pub surroundings: FormSurroundings,
}

impl AddPage {
    /// A form that nothing is said of yet.
    pub fn new(chrome: Chrome, form: RegistryForm, place: AddPlace, draft: &FormDraft) -> Self {
        let has_kept_secret = draft.kept.is_some();
        let (complaints, entered) = (Vec::new(), Vec::new());
        Self {
            chrome,
            form,
            place,
            has_kept_secret,
            complaints,
            entered,
            is_checked: false,
            is_unvalidated: false,
        }
    }

    /// Whether that is the login that the registry gets.
    pub fn gets(&self, login: &str) -> bool {
        self.form.login.as_str() == login
    }

    /// What is wrong with a field; empty if nothing is.
    pub fn wrong(&self, field: &str) -> &str {
        self.complaints.iter().find(|one| one.field == field).map_or("", |one| one.message.as_str())
    }

    /// What is wrong with the form as a whole.
    pub fn wrong_on_the_whole(&self) -> Vec<&str> {
        self.complaints.iter().filter(|one| one.field.is_empty()).map(|one| one.message.as_str()).collect()
    }

    /// The URL of the content, as far as it is known.
    pub fn content_url(&self) -> String {
        match self.form.base_content_path.as_str() {
            _ if self.form.endpoint.is_empty() => String::new(),
            "" => self.form.endpoint.clone(),
            path => format!("{}/{path}", self.form.endpoint.trim_end_matches('/')),
        }
    }

    /// What the policy says of endpoints, unless the field says it already.
    pub fn limits(&self) -> Vec<&str> {
        let limits = &self.place.surroundings.limits;
        let all = [limits.plain_http.as_str(), limits.endpoints.as_str()];
        all.into_iter().filter(|limit| !limit.is_empty() && *limit != self.wrong("endpoint")).collect()
    }

    /// Whether the form is on the tab ECR.
    pub fn is_ecr(&self) -> bool {
        self.form.tab == crate::form::FormTab::Ecr
    }
}

/// One registry.
#[derive(Template)]
#[template(path = "detail.html")]
pub struct DetailPage {
    /// What is around it.
    pub chrome: Chrome,
    /// The registry.
    pub registry: RegistryDetail,
    /// What was just done.
    pub done: String,
    /// The Secret that it no longer uses; empty for none.
    pub unused: String,
    /// The namespace of its Secrets.
    pub secrets_namespace: String,
}

/// The question before a registry is deleted.
#[derive(Template)]
#[template(path = "delete.html")]
pub struct DeletePage {
    /// What is around it.
    pub chrome: Chrome,
    /// The registry.
    pub registry: RegistryDetail,
    /// What is wrong with the answer.
    pub complaint: String,
}

/// The choice of a tenant.
#[derive(Template)]
#[template(path = "tenants.html")]
pub struct TenantsPage {
    /// What is around it.
    pub chrome: Chrome,
    /// The tenants that the user can see.
    pub tenants: Vec<String>,
    /// Why the user can't see all.
    pub note: String,
}

/// Signing in with a token.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignInPage {
    /// What is around it.
    pub chrome: Chrome,
    /// The page afterwards.
    pub to: String,
    /// Why the last token was refused; empty if there was none.
    pub complaint: String,
    /// The operator's namespace.
    pub namespace: String,
}

/// What kept a page from being made.
#[derive(Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    /// What is around it.
    pub chrome: Chrome,
    /// What kind of trouble it is.
    pub title: &'static str,
    /// The sentence.
    pub message: String,
    /// A command that helps; empty if none does.
    pub command: &'static str,
}

/// The answer with that page.
pub fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let text = with_visible_text(text);
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated;

    #[tokio::test]
    async fn no_page_has_invisible_characters() {
        let page = ErrorPage {
            chrome: Chrome::signed_out(),
            title: "a",
            message: "b\u{202e}c".to_owned(),
            command: "",
        };
        let (_, text) = simulated::text_of(html(StatusCode::OK, &page)).await;
        assert!(text.contains("b\u{fffd}c"), "{text}");
    }
}

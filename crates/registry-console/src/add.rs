//! Add New Pack Registry: the form, its Validate and its Confirm.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Multipart, Path, Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use registry_check::report::CheckReport;
use secrecy::ExposeSecret as _;

use crate::{
    administration::section,
    confirm,
    console::{Console, SignedIn},
    draft::{FormDraft, KeptSecret},
    error::ConsoleError,
    form::{FieldComplaint, FormTab, RegistryForm},
    pages::{AddPage, AddPlace, Chrome, html},
    scope::{ConsoleScope, is_name},
    trial,
    verdict::{VerdictView, is_proven},
};

/// What stands in the URL of a form.
type FormPath = Path<BTreeMap<String, String>>;
type FormQuery = Query<BTreeMap<String, String>>;

/// The button that was pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FormAction {
    Validate,
    Confirm,
    ConfirmAnyway,
    Generate,
}

/// A submitted form.
struct Submission {
    scope: ConsoleScope,
    form: RegistryForm,
    action: FormAction,
    draft: FormDraft,
}

/// The empty form, or what is kept of it from the other tab.
pub async fn show(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(path): FormPath,
    Query(query): FormQuery,
) -> Result<Response, ConsoleError> {
    let (scope, tab) = target(&path, &query)?;
    let mut form = empty(&console, tab)?;
    for name in ["name", "content_type", "endpoint", "base_content_path", "repository"] {
        if let Some(text) = query.get(name) {
            form.take(name, text.as_bytes());
        }
    }
    form.scheme_added = false;
    Ok(html(StatusCode::OK, &page(&signed_in, &scope, form, &FormDraft::default())))
}

/// A form whose draft has a new name.
fn empty(console: &Console, tab: FormTab) -> Result<RegistryForm, ConsoleError> {
    let draft = console.edge.unguessable();
    let draft = draft
        .ok_or_else(|| ConsoleError::Internal("failed to begin a form: no random numbers".to_owned()))?;
    Ok(RegistryForm {
        tab,
        draft,
        content_type: "Pack".to_owned(),
        protected: true,
        ..RegistryForm::default()
    })
}

fn target(
    path: &BTreeMap<String, String>,
    query: &BTreeMap<String, String>,
) -> Result<(ConsoleScope, FormTab), ConsoleError> {
    let nowhere = || ConsoleError::NotFound("there is no such page".to_owned());
    let tab = match path.get("tab").map(String::as_str) {
        Some("basic") => FormTab::Basic,
        Some("ecr") => FormTab::Ecr,
        _ => return Err(nowhere()),
    };
    let Some(tenant) = path.get("tenant") else { return Ok((ConsoleScope::System, tab)) };
    let namespace = query.get("namespace").map(String::as_str).unwrap_or_default();
    if !is_name(tenant) || !is_name(namespace) {
        return Err(nowhere());
    }
    Ok((ConsoleScope::Tenant { tenant: tenant.clone(), namespace: namespace.to_owned() }, tab))
}

/// A button was pressed.
pub async fn submit(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(path): FormPath,
    Query(query): FormQuery,
    body: Multipart,
) -> Result<Response, ConsoleError> {
    let (scope, tab) = target(&path, &query)?;
    let (form, action) = read(tab, body).await?;
    let mut draft = console.draft(&signed_in.session, &form.draft);
    let form = with_kept_secret(form, &mut draft);
    console.keep_draft(&signed_in.session, &form.draft, draft.clone());
    let submission = Submission { scope, form, action, draft };
    match action {
        FormAction::Generate => generate(&console, &signed_in, submission),
        FormAction::Validate => Box::pin(validate(&console, &signed_in, submission)).await,
        FormAction::Confirm | FormAction::ConfirmAnyway => add(&console, &signed_in, submission).await,
    }
}

async fn read(tab: FormTab, mut body: Multipart) -> Result<(RegistryForm, FormAction), ConsoleError> {
    let unreadable = |_| {
        ConsoleError::BadRequest(
            "The form can't be read, or is larger than 256 KiB; send it again".to_owned(),
        )
    };
    let mut form = RegistryForm { tab, ..RegistryForm::default() };
    let mut action = FormAction::Validate;
    while let Some(field) = body.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        let content = field.bytes().await.map_err(unreadable)?;
        match (name.as_str(), &content[..]) {
            ("action", b"confirm") => action = FormAction::Confirm,
            ("action", b"confirm-anyway") => action = FormAction::ConfirmAnyway,
            ("action", b"generate") => action = FormAction::Generate,
            ("action", _) => action = FormAction::Validate,
            _ => form.take(&name, &content),
        }
    }
    Ok((form, action))
}

/// A secret that was typed before counts again, for the server that it was typed for; a new one takes its place.
fn with_kept_secret(mut form: RegistryForm, draft: &mut FormDraft) -> RegistryForm {
    let server = form.origin();
    if !form.password.expose_secret().is_empty() {
        draft.kept = Some(KeptSecret { secret: form.password.clone(), server });
    } else if form.existing_secret.is_empty()
        && let Some(kept) = draft.kept.as_ref().filter(|kept| kept.server == server)
        && !(form.username.is_empty() && form.access_key.is_empty())
    {
        form.password = kept.secret.clone();
    } else {
        draft.kept = None;
    }
    form
}

fn page(signed_in: &SignedIn, scope: &ConsoleScope, form: RegistryForm, draft: &FormDraft) -> AddPage {
    let system_namespace = &signed_in.user.cluster().system_namespace;
    let place = AddPlace {
        action: scope.add_url(form.tab.as_str()),
        basic_url: with_typed(scope.add_url("basic"), &form),
        ecr_url: with_typed(scope.add_url("ecr"), &form),
        list_url: scope.list_url(),
        is_system: *scope == ConsoleScope::System,
        secrets_namespace: scope.secrets_namespace(system_namespace).to_owned(),
        words: match scope {
            ConsoleScope::System => "to all tenants".to_owned(),
            ConsoleScope::Tenant { tenant, namespace } => {
                format!("to tenant {tenant}; kept in namespace {namespace}")
            }
        },
    };
    AddPage {
        chrome: Chrome::new(&signed_in.name, section(scope)),
        has_kept_secret: draft.kept.is_some(),
        form,
        place,
        complaints: Vec::new(),
        verdict: None,
        is_unvalidated: false,
    }
}

/// The other tab's URL keeps what both have; no secrets.
fn with_typed(url: String, form: &RegistryForm) -> String {
    let common = [
        ("name", &form.name),
        ("content_type", &form.content_type),
        ("endpoint", &form.endpoint),
        ("base_content_path", &form.base_content_path),
        ("repository", &form.repository),
    ];
    let typed = common
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && (*name, value.as_str()) != ("content_type", "Pack"));
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let query = query.extend_pairs(typed).finish();
    match (query.is_empty(), url.contains('?')) {
        (true, _) => url,
        (false, true) => format!("{url}&{query}"),
        (false, false) => format!("{url}?{query}"),
    }
}

fn generate(
    console: &Console,
    signed_in: &SignedIn,
    submission: Submission,
) -> Result<Response, ConsoleError> {
    let Submission { scope, mut form, draft, .. } = submission;
    let id = console.edge.unguessable();
    form.external_id =
        id.ok_or_else(|| ConsoleError::Internal("failed to generate an ID: no random numbers".to_owned()))?;
    Ok(html(StatusCode::OK, &page(signed_in, &scope, form, &draft)))
}

fn refused(page: AddPage, complaints: Vec<FieldComplaint>) -> Response {
    html(StatusCode::UNPROCESSABLE_ENTITY, &AddPage { complaints, ..page })
}

async fn validate(
    console: &Console,
    signed_in: &SignedIn,
    submission: Submission,
) -> Result<Response, ConsoleError> {
    let Submission { scope, form, mut draft, .. } = submission;
    let complaints = form.complaints();
    if !complaints.is_empty() {
        return Ok(refused(page(signed_in, &scope, form, &draft), complaints));
    }
    if let Err(complaints) = trial::gate(signed_in.user.cluster(), &scope, &form.document(&scope)).await {
        return Ok(refused(page(signed_in, &scope, form, &draft), complaints));
    }
    let report = check(console, signed_in, &scope, &form).await?;
    draft.validated = is_proven(&report).then(|| form.digest(&scope));
    console.keep_draft(&signed_in.session, &form.draft, draft.clone());
    let page = AddPage { verdict: Some(VerdictView::new(&report)), ..page(signed_in, &scope, form, &draft) };
    Ok(html(StatusCode::OK, &page))
}

async fn check(
    console: &Console,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    form: &RegistryForm,
) -> Result<CheckReport, ConsoleError> {
    let now = (console.edge.now)();
    let may =
        console.sessions().find(&signed_in.session, now).is_some_and(|session| session.may_validate(now));
    if !may {
        return Err(ConsoleError::TooMany(
            "Too many validations: at most 20 a minute; try again in a minute",
        ));
    }
    let (checker, _turn) = console.checker()?;
    let checked = trial::check(checker, scope, form, &console.system_namespace).await;
    checked.map_err(|error| ConsoleError::Internal(format!("failed to validate: {error}")))
}

async fn add(
    console: &Console,
    signed_in: &SignedIn,
    submission: Submission,
) -> Result<Response, ConsoleError> {
    let Submission { scope, form, action, draft } = submission;
    let complaints = form.complaints();
    if !complaints.is_empty() {
        return Ok(refused(page(signed_in, &scope, form, &draft), complaints));
    }
    let is_validated = draft.validated == Some(form.digest(&scope));
    if !is_validated && action == FormAction::Confirm {
        let page = AddPage { is_unvalidated: true, ..page(signed_in, &scope, form, &draft) };
        return Ok(html(StatusCode::OK, &page));
    }
    match confirm::add(signed_in.user.cluster(), &scope, &form).await {
        Ok(()) => {
            console.forget_draft(&signed_in.session, &form.draft);
            let url = scope.registry_url(&form.name);
            Ok(Redirect::to(&format!("{url}?added")).into_response())
        }
        Err(complaints) => Ok(refused(page(signed_in, &scope, form, &draft), complaints)),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn form(fields: &[(&str, &str)]) -> RegistryForm {
        let mut form = RegistryForm::default();
        for (name, value) in fields {
            form.take(name, value.as_bytes());
        }
        form
    }

    fn kept() -> FormDraft {
        let secret = SecretString::from("p");
        FormDraft { kept: Some(KeptSecret { secret, server: "https://r:443".to_owned() }), validated: None }
    }

    #[test]
    fn kept_password_is_for_its_server_alone() {
        let same = with_kept_secret(form(&[("endpoint", "https://r"), ("username", "u")]), &mut kept());
        assert_eq!(same.password.expose_secret(), "p");
        let mut draft = kept();
        let other = with_kept_secret(form(&[("endpoint", "https://evil"), ("username", "u")]), &mut draft);
        assert!(other.password.expose_secret().is_empty() && draft.kept.is_none());
        let plain = with_kept_secret(form(&[("endpoint", "http://r:443"), ("username", "u")]), &mut kept());
        assert!(plain.password.expose_secret().is_empty(), "not without TLS either");
    }

    #[test]
    fn typed_password_takes_the_kept_ones_place() {
        let mut draft = kept();
        let typed = [("endpoint", "https://s"), ("username", "u"), ("password", "new")];
        assert_eq!(with_kept_secret(form(&typed), &mut draft).password.expose_secret(), "new");
        assert_eq!(draft.kept.unwrap().server, "https://s:443");
    }

    #[test]
    fn no_user_name_means_no_login() {
        let mut draft = kept();
        let open = with_kept_secret(form(&[("endpoint", "https://r")]), &mut draft);
        assert!(open.password.expose_secret().is_empty() && draft.kept.is_none());
    }

    #[test]
    fn other_tab_keeps_what_both_have_and_no_secret() {
        let typed =
            form(&[("name", "a&b"), ("endpoint", "https://r"), ("username", "u"), ("password", "HUSH")]);
        let url = with_typed("/system/add/ecr".to_owned(), &typed);
        assert_eq!(url, "/system/add/ecr?name=a%26b&endpoint=https%3A%2F%2Fr");
    }
}

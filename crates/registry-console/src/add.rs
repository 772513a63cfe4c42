//! Add New Pack Registry: the form, its Validate and its Confirm.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Multipart, Path, Query, State, multipart::MultipartError},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use registry_check::cluster::Cluster;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::{
    administration::section,
    complaints::FieldComplaint,
    confirm,
    console::{Console, SignedIn},
    draft::{FormDigest, FormDraft, KeptSecret, LONGEST_SECRET, is_draft_name},
    error::ConsoleError,
    form::{FormTab, RegistryForm},
    identity,
    limits::{self, TenantLimits},
    membership,
    pages::{AddPage, AddPlace, Chrome, html},
    progress,
    scope::{ConsoleScope, is_name},
    trial::{self, whole},
    verdict::{VerdictView, is_proven},
};

/// What stands in the URL of a form.
pub(crate) type FormPath = Path<BTreeMap<String, String>>;
pub(crate) type FormQuery = Query<BTreeMap<String, String>>;

/// The button that was pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormAction {
    /// Validate.
    Validate,
    /// Confirm.
    Confirm,
    /// Add anyway, or Save anyway.
    ConfirmAnyway,
    /// A new External ID.
    Generate,
}

/// Where a form adds.
struct FormTarget {
    scope: ConsoleScope,
    tab: FormTab,
    /// What isn't known about the namespace; empty if all is known.
    note: String,
    surroundings: FormSurroundings,
}

/// What a form says of the cluster.
#[derive(Clone, Debug, Default)]
pub struct FormSurroundings {
    /// What the policy forbids there.
    pub limits: TenantLimits,
    /// The operator's own role in AWS; empty if it isn't known.
    pub operator_role: String,
}

impl FormSurroundings {
    /// Asks the cluster, as the user.
    pub async fn read(cluster: &Cluster, scope: &ConsoleScope, tab: FormTab) -> Self {
        let is_asked = *scope == ConsoleScope::System && tab == FormTab::Ecr;
        let role = async { if is_asked { identity::of_operator(cluster).await } else { None } };
        let (limits, role) = tokio::join!(limits::ask(cluster, scope), role);
        Self { limits, operator_role: role.unwrap_or_default() }
    }
}

/// The fields that both tabs have, as they stand in the other tab's URL.
const COMMON: [&str; 6] =
    ["name", "content_type", "endpoint", "base_content_path", "repository", "insecure_skip_verify"];

/// A submitted form.
struct Submission {
    target: FormTarget,
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
    let target = verified_target(&signed_in, &path, &query).await?;
    let mut form = empty(&console, target.tab)?;
    for name in COMMON {
        if let Some(text) = query.get(name) {
            form.take(name, text.as_bytes());
        }
    }
    form.scheme_added = false;
    Ok(html(StatusCode::OK, &page(&signed_in, &target, form, &FormDraft::default())))
}

/// A new name for a draft.
pub fn new_draft(console: &Console) -> Result<String, ConsoleError> {
    let draft = console.edge.unguessable();
    draft.ok_or_else(|| ConsoleError::Internal("failed to begin a form: no random numbers".to_owned()))
}

/// A form whose draft has a new name.
fn empty(console: &Console, tab: FormTab) -> Result<RegistryForm, ConsoleError> {
    Ok(RegistryForm {
        tab,
        draft: new_draft(console)?,
        content_type: "Pack".to_owned(),
        protected: true,
        ..RegistryForm::default()
    })
}

async fn verified_target(
    signed_in: &SignedIn,
    path: &BTreeMap<String, String>,
    query: &BTreeMap<String, String>,
) -> Result<FormTarget, ConsoleError> {
    let (scope, tab) = target(path, query)?;
    let note = membership::verify(&signed_in.user, &scope).await?;
    let surroundings = FormSurroundings::read(signed_in.user.cluster(), &scope, tab).await;
    Ok(FormTarget { scope, tab, note, surroundings })
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
    let target = verified_target(&signed_in, &path, &query).await?;
    let (form, action) = read(target.tab, body).await?;
    let mut draft = console.draft(&signed_in.session, &form.draft);
    let form = with_kept_secret(form, &mut draft);
    console.keep_draft(&signed_in.session, &form.draft, draft.clone());
    let submission = Submission { target, form, action, draft };
    match action {
        FormAction::Generate => generate(&console, &signed_in, submission),
        FormAction::Validate => Box::pin(validate(&console, &signed_in, submission)).await,
        FormAction::Confirm | FormAction::ConfirmAnyway => add(&console, &signed_in, submission).await,
    }
}

/// Reads a form that was sent.
pub async fn read(tab: FormTab, mut body: Multipart) -> Result<(RegistryForm, FormAction), ConsoleError> {
    let unreadable = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ConsoleError::TooLarge("The form is larger than 256 KiB; choose a smaller CA file")
        }
        _ => ConsoleError::BadRequest("The form can't be read; send it again".to_owned()),
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
    if !is_draft_name(&form.draft) {
        form.draft.clear();
    }
    Ok((form, action))
}

/// A secret that was typed before counts again, for the server that it was typed for; a new one takes its place.
pub fn with_kept_secret(mut form: RegistryForm, draft: &mut FormDraft) -> RegistryForm {
    let server = form.origin();
    if !form.password.expose_secret().is_empty() {
        // A longer one is refused in any case.
        let is_kept = form.password.expose_secret().len() <= LONGEST_SECRET;
        draft.kept = is_kept.then(|| KeptSecret { secret: form.password.clone(), server });
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

fn page(signed_in: &SignedIn, target: &FormTarget, form: RegistryForm, draft: &FormDraft) -> AddPage {
    let scope = &target.scope;
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
        note: target.note.clone(),
        is_edit: false,
        surroundings: target.surroundings.clone(),
    };
    AddPage::new(Chrome::new(&signed_in.name, section(scope)), form, place, draft)
}

/// The other tab's URL keeps what both have; no secrets.
fn with_typed(url: String, form: &RegistryForm) -> String {
    let skip = if form.insecure_skip_verify { "on" } else { "" };
    let values: [&str; 6] =
        [&form.name, &form.content_type, &form.endpoint, &form.base_content_path, &form.repository, skip];
    let typed = COMMON
        .into_iter()
        .zip(values)
        .filter(|(name, value)| !value.is_empty() && (*name, *value) != ("content_type", "Pack"));
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
    let Submission { target, mut form, draft, .. } = submission;
    form.external_id = new_draft(console)?;
    Ok(html(StatusCode::OK, &page(signed_in, &target, form, &draft)))
}

/// The form again, with what is wrong.
pub fn refused(page: AddPage, complaints: Vec<FieldComplaint>) -> Response {
    html(StatusCode::UNPROCESSABLE_ENTITY, &AddPage { complaints, ..page })
}

async fn validate(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    submission: Submission,
) -> Result<Response, ConsoleError> {
    let Submission { target, form, draft, .. } = submission;
    let scope = &target.scope;
    let complaints = form.complaints();
    if !complaints.is_empty() {
        return Ok(refused(page(signed_in, &target, form, &draft), complaints));
    }
    let document = form.document(scope);
    if let Err(complaints) = trial::gate(signed_in.user.cluster(), scope, &document).await {
        return Ok(refused(page(signed_in, &target, form, &draft), complaints));
    }
    let page = page(signed_in, &target, form, &draft);
    Ok(checked(console, signed_in, scope, document, draft, page))
}

/// Checks what is on the page, and shows it again: the layers come one after the other, as they are known.
pub fn checked(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    document: Value,
    draft: FormDraft,
    page: AddPage,
) -> Response {
    let (checker, turn) = match console.begin_validation(&signed_in.session, &signed_in.name) {
        Ok(turn) => turn,
        // The form comes back: what was typed isn't lost.
        Err(error) => {
            let complaints = whole(error.to_string());
            return html(error.status(), &AddPage { complaints, ..page });
        }
    };
    let (console, signed_in, scope) = (console.clone(), signed_in.clone(), scope.clone());
    let form = page.form.clone();
    let page = AddPage { is_checked: true, ..page };
    progress::page(&page, move |learned| async move {
        let _turn = turn;
        let cluster = signed_in.user.cluster();
        let report = trial::check(checker, cluster, &scope, &form, document.clone(), Some(&*learned)).await;
        let report = report.map_err(|error| format!("failed to validate: {error}"))?;
        console.validated(report.outcome());
        let validated = is_proven(&report).then(|| form.digest(&document));
        note_validated(&console, &signed_in.session, (&form.draft, &draft), validated);
        Ok(VerdictView::new(&report))
    })
}

/// Keeps what was validated. A form that was confirmed meanwhile has lost its secret, and doesn't get it back.
fn note_validated(
    console: &Console,
    session: &str,
    (name, began): (&str, &FormDraft),
    validated: Option<FormDigest>,
) {
    let now = console.draft(session, name);
    if began.kept.is_none() || now.kept.is_some() {
        console.keep_draft(session, name, FormDraft { validated, ..now });
    }
}

async fn add(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    submission: Submission,
) -> Result<Response, ConsoleError> {
    let Submission { target, form, action, draft } = submission;
    let complaints = form.complaints();
    if !complaints.is_empty() {
        return Ok(refused(page(signed_in, &target, form, &draft), complaints));
    }
    let is_validated = draft.validated == Some(form.digest(&form.document(&target.scope)));
    if !is_validated && action == FormAction::Confirm {
        let page = AddPage { is_unvalidated: true, ..page(signed_in, &target, form, &draft) };
        return Ok(html(StatusCode::OK, &page));
    }
    match carry_out(console, signed_in, &target.scope, &form).await? {
        Ok(()) => {
            let url = target.scope.registry_url(&form.name);
            Ok(Redirect::to(&format!("{url}?added")).into_response())
        }
        Err(complaints) => Ok(refused(page(signed_in, &target, form, &draft), complaints)),
    }
}

/// Makes the writes in a task of their own: a browser that goes away must not stop them between the Secret and the registry.
async fn carry_out(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    scope: &ConsoleScope,
    form: &RegistryForm,
) -> Result<Result<(), Vec<FieldComplaint>>, ConsoleError> {
    let (session, signed_in) = (console.clone(), signed_in.clone());
    let (scope, form) = (scope.clone(), form.clone());
    let writes = async move {
        let added = confirm::add(signed_in.user.cluster(), &scope, &form).await;
        if added.is_ok() {
            session.forget_draft(&signed_in.session, &form.draft);
        }
        added
    };
    to_the_end(console, writes).await
}

/// Makes writes that don't stop when the browser goes away, and that the end of the program waits for.
pub async fn to_the_end<T: Send + 'static>(
    console: &Console,
    writes: impl Future<Output = T> + Send + 'static,
) -> Result<T, ConsoleError> {
    let running = console.confirm_begins();
    let writes = tokio::spawn(async move {
        let _running = running;
        writes.await
    });
    writes.await.map_err(|_| {
        ConsoleError::Internal("Whether the registry was saved is not known; look at the list".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        draft::simulated_name,
        simulated::{self, filled as form},
    };

    fn kept() -> FormDraft {
        let secret = SecretString::from("p");
        FormDraft {
            kept: Some(KeptSecret { secret, server: "https://r:443".to_owned() }),
            ..FormDraft::default()
        }
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
    fn password_that_is_too_long_is_not_kept() {
        let mut draft = kept();
        let long = "p".repeat(LONGEST_SECRET + 1);
        let typed = [("endpoint", "https://r"), ("username", "u"), ("password", &*long)];
        assert!(with_kept_secret(form(&typed), &mut draft).has_password() && draft.kept.is_none());
    }

    #[tokio::test]
    async fn draft_of_another_name_is_not_taken() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let form = simulated_name("form");
        for (name, shown) in [(form.clone(), &*form), (format!("{form}HUSH"), "")] {
            let request = simulated::form("/system/add/basic", &[("draft", &name), ("endpoint", "")]);
            let (_, page) = simulated::answer(&console, request).await;
            assert!(page.contains(&format!("name=\"draft\" value=\"{shown}\"")), "{page}");
        }
    }

    #[test]
    fn no_user_name_means_no_login() {
        let mut draft = kept();
        let open = with_kept_secret(form(&[("endpoint", "https://r")]), &mut draft);
        assert!(open.password.expose_secret().is_empty() && draft.kept.is_none());
    }

    #[tokio::test]
    async fn late_validation_brings_no_secret_back() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let (session, name) = (simulated::SESSION, simulated_name("d"));
        let note = |began: &FormDraft| note_validated(&console, session, (&name, began), Some([1; 32]));
        note(&kept());
        let confirmed = console.draft(session, &name);
        assert!(confirmed.kept.is_none() && confirmed.validated.is_none());

        let done = FormDraft { unused_secret: "old".to_owned(), ..FormDraft::default() };
        console.keep_draft(session, &name, done);
        note(&FormDraft::default());
        assert_eq!(console.draft(session, &name).unused_secret, "old", "an edit that was confirmed");

        console.keep_draft(session, &name, kept());
        note(&kept());
        let still = console.draft(session, &name);
        assert!(still.kept.is_some() && still.validated == Some([1; 32]));
    }

    #[tokio::test]
    async fn confirm_goes_on_without_its_browser() {
        let (arrived, released) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (created, mut creations) = tokio::sync::mpsc::unbounded_channel();
        let (holds, waits) = (arrived.clone(), released.clone());
        let api = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
            let line = request.uri().to_string();
            if line.contains("/secrets") {
                holds.notify_one();
                waits.notified().await;
            }
            if line.contains("/systemregistries") && !line.contains("dryRun") {
                created.send(()).unwrap();
            }
            (StatusCode::CREATED, request.into_body())
        });
        let console = simulated::console(api, simulated::epoch);
        let fields = [
            ("action", "confirm-anyway"),
            ("name", "p"),
            ("endpoint", "https://r"),
            ("username", "u"),
            ("password", "p"),
        ];
        let request = simulated::form("/system/add/basic", &fields);
        tokio::select! {
            _ = simulated::answer(&console, request) => panic!("the Secret is held back"),
            () = arrived.notified() => {}
        }
        released.notify_one();
        console.confirms_end(Duration::from_mins(1)).await;
        assert!(creations.try_recv().is_ok(), "the registry was created after the browser had gone");
    }

    #[tokio::test]
    async fn login_in_the_endpoint_goes_nowhere() {
        let (api, log) = simulated::api(|_| 201);
        let console = simulated::console(api, simulated::epoch);
        let path = "/system/add/basic";
        for action in ["validate", "confirm-anyway"] {
            let fields = [("action", action), ("name", "p"), ("endpoint", "https://u:HUSH@r")];
            let (status, page) = simulated::answer(&console, simulated::form(path, &fields)).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(page.contains("must not contain a login") && !page.contains("HUSH"), "{page}");
        }
        let (_, page) =
            simulated::get(&console, &format!("{path}?endpoint=https%3A%2F%2Fu%3AHUSH%40r")).await;
        assert!(!page.contains("HUSH"), "{page}");
        assert!(log.lines().is_empty(), "{:?}", log.lines());
    }

    #[tokio::test]
    async fn enter_validates_even_where_add_anyway_is_offered() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let fields = [("action", "confirm"), ("name", "p"), ("endpoint", "https://r")];
        let (_, page) = simulated::answer(&console, simulated::form("/system/add/basic", &fields)).await;
        assert!(page.contains("Add anyway?"), "{page}");
        let form = page.split_once("data-add>").unwrap().1;
        let first = form.split_once("type=\"submit\"").unwrap().1;
        assert!(first.starts_with(" name=\"action\" value=\"validate\""), "{first}");
    }

    #[tokio::test]
    async fn other_tab_takes_over_skipped_verification() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        for tab in ["basic", "ecr"] {
            let path = format!("/system/add/{tab}?insecure_skip_verify=on");
            let (_, page) = simulated::get(&console, &path).await;
            assert!(page.contains("name=\"insecure_skip_verify\" checked"), "{page}");
            assert!(page.contains("name=\"password\" autocomplete=\"new-password\""), "{page}");
        }
    }

    #[tokio::test]
    async fn form_that_is_too_large_is_413() {
        let console = simulated::console(simulated::api(|_| 200).0, simulated::epoch);
        let large = "a".repeat(300 * 1024);
        let request = simulated::form("/system/add/basic", &[("ca", &large)]);
        let (status, page) = simulated::answer(&console, request).await;
        assert!(status == StatusCode::PAYLOAD_TOO_LARGE && page.contains("256 KiB"), "{page}");
    }

    #[tokio::test]
    async fn too_many_validations_give_the_form_back() {
        let console = simulated::console(simulated::api(|_| 201).0, simulated::epoch);
        let turn = |number: u32| console.begin_validation(&number.to_string(), &number.to_string()).ok();
        let turns: Vec<_> = (0..100).map_while(turn).collect();
        assert_eq!(turns.len(), 8);
        let fields = [("action", "validate"), ("name", "typed-name"), ("endpoint", "https://127.0.0.1:1")];
        let request = simulated::form("/system/add/basic", &fields);
        let (status, page) = simulated::answer(&console, request).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
        assert!(page.contains("Too many validations at once") && page.contains("typed-name"), "{page}");
        drop(turns);
    }

    #[test]
    fn other_tab_keeps_what_both_have_and_no_secret() {
        let typed = form(&[
            ("insecure_skip_verify", "on"),
            ("name", "a&b"),
            ("endpoint", "https://r"),
            ("username", "u"),
            ("password", "HUSH"),
        ]);
        let url = with_typed("/system/add/ecr".to_owned(), &typed);
        assert_eq!(url, "/system/add/ecr?name=a%26b&endpoint=https%3A%2F%2Fr&insecure_skip_verify=on");
    }
}

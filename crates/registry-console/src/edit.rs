//! Edit: the form of a registry that exists, its Validate and its Confirm. Only what was changed is sent.

use std::sync::Arc;

use axum::{
    extract::{Multipart, Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    add::{FormAction, FormSurroundings, checked, new_draft, read, refused, to_the_end, with_kept_secret},
    administration::{section, verify},
    complaints::FieldComplaint,
    confirm,
    console::{Console, SignedIn},
    draft::FormDraft,
    error::ConsoleError,
    form::RegistryForm,
    pages::{AddPage, AddPlace, Chrome, html},
    rights,
    scope::ConsoleScope,
    shown::{ChangeFailure, ShownRegistry},
    stored::{bind, entered, form_of},
    tenants::{RegistryPath, parts},
    trial::{gate_of_existing, whole},
};

type EditAnswer = Result<Response, ConsoleError>;

/// The registry that is edited.
struct EditTarget {
    scope: ConsoleScope,
    name: String,
    /// What isn't known about the namespace; empty if all is known.
    note: String,
    shown: ShownRegistry,
    surroundings: FormSurroundings,
}

/// A form that was sent.
struct EditSubmission {
    target: EditTarget,
    form: RegistryForm,
    draft: FormDraft,
}

/// `/system/registries/{name}/edit`.
pub async fn show_system(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
) -> EditAnswer {
    show(&console, &signed_in, ConsoleScope::System, name).await
}

/// `/system/registries/{name}/edit`, sent.
pub async fn submit_system(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    Path(name): Path<String>,
    body: Multipart,
) -> EditAnswer {
    Box::pin(submit(&console, &signed_in, ConsoleScope::System, name, body)).await
}

/// `/tenants/{tenant}/registries/{namespace}/{name}/edit`.
pub async fn show_tenant(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
) -> EditAnswer {
    let (scope, name) = parts(path)?;
    show(&console, &signed_in, scope, name).await
}

/// `/tenants/{tenant}/registries/{namespace}/{name}/edit`, sent.
pub async fn submit_tenant(
    State(console): State<Arc<Console>>,
    signed_in: SignedIn,
    path: RegistryPath,
    body: Multipart,
) -> EditAnswer {
    let (scope, name) = parts(path)?;
    Box::pin(submit(&console, &signed_in, scope, name, body)).await
}

/// Reads a registry that this user can edit here.
async fn target(signed_in: &SignedIn, scope: ConsoleScope, name: String) -> Result<EditTarget, ConsoleError> {
    let note = verify(signed_in, &scope, &name).await?;
    let (shown, missing) = tokio::try_join!(
        ShownRegistry::read(signed_in.user.cluster(), &scope, &name),
        rights::missing_for(&signed_in.user, &scope, "patch", Some(&name)),
    )?;
    if let Some(tool) = shown.managed_by(&scope) {
        return Err(ConsoleError::KeptElsewhere(tool));
    }
    missing.map_or(Ok(()), |why| Err(ConsoleError::NotAllowed(why)))?;
    let tab = form_of(&name, &shown.object).tab;
    let surroundings = FormSurroundings::read(signed_in.user.cluster(), &scope, tab).await;
    Ok(EditTarget { scope, name, note, shown, surroundings })
}

async fn show(console: &Console, signed_in: &SignedIn, scope: ConsoleScope, name: String) -> EditAnswer {
    let target = target(signed_in, scope, name).await?;
    let form = RegistryForm { draft: new_draft(console)?, ..form_of(&target.name, &target.shown.object) };
    Ok(html(StatusCode::OK, &page(signed_in, &target, form, &FormDraft::default())))
}

fn page(signed_in: &SignedIn, target: &EditTarget, form: RegistryForm, draft: &FormDraft) -> AddPage {
    let scope = &target.scope;
    let url = scope.registry_url(&target.name);
    let place = AddPlace {
        action: format!("{url}/edit"),
        basic_url: String::new(),
        ecr_url: String::new(),
        list_url: url,
        is_system: *scope == ConsoleScope::System,
        secrets_namespace: scope.secrets_namespace(&signed_in.user.cluster().system_namespace).to_owned(),
        words: match scope {
            ConsoleScope::System => target.shown.available_to(),
            ConsoleScope::Tenant { tenant, namespace } => {
                format!("to tenant {tenant}; kept in namespace {namespace}")
            }
        },
        note: target.note.clone(),
        is_edit: true,
        surroundings: target.surroundings.clone(),
    };
    AddPage::new(Chrome::new(&signed_in.name, section(scope)), form, place, draft)
}

async fn submit(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    scope: ConsoleScope,
    name: String,
    body: Multipart,
) -> EditAnswer {
    let target = target(signed_in, scope, name).await?;
    let tab = form_of(&target.name, &target.shown.object).tab;
    let (form, action) = read(tab, body).await?;
    let mut draft = console.draft(&signed_in.session, &form.draft);
    let mut form = with_kept_secret(form, &mut draft);
    bind(&mut form, &target.name, &target.shown.object);
    if !target.shown.is_what_was_shown(&form) {
        return overtaken(console, signed_in, &target, &form, Vec::new());
    }
    console.keep_draft(&signed_in.session, &form.draft, draft.clone());
    let complaints = form.complaints();
    let submission = EditSubmission { target, form, draft };
    match action {
        FormAction::Generate => generate(console, signed_in, submission),
        _ if !complaints.is_empty() => Ok(submission.refused(signed_in, complaints)),
        FormAction::Validate => validate(console, signed_in, submission).await,
        FormAction::Confirm => confirm(console, signed_in, submission, false).await,
        FormAction::ConfirmAnyway => confirm(console, signed_in, submission, true).await,
    }
}

impl EditSubmission {
    fn page(self, signed_in: &SignedIn) -> AddPage {
        page(signed_in, &self.target, self.form, &self.draft)
    }

    fn refused(self, signed_in: &SignedIn, complaints: Vec<FieldComplaint>) -> Response {
        refused(self.page(signed_in), complaints)
    }
}

/// Another user was faster: the page shows the new state, and what was entered.
fn overtaken(
    console: &Console,
    signed_in: &SignedIn,
    target: &EditTarget,
    typed: &RegistryForm,
    mut complaints: Vec<FieldComplaint>,
) -> EditAnswer {
    console.forget_draft(&signed_in.session, &typed.draft);
    let form = RegistryForm { draft: new_draft(console)?, ..form_of(&target.name, &target.shown.object) };
    complaints.splice(0..0, whole(format!(
        "Another user has changed {} since you opened this page: nothing was saved; the form shows its new state, enter your changes again",
        target.name
    )));
    let entered = entered(typed, &form);
    let page = AddPage { complaints, entered, ..page(signed_in, target, form, &FormDraft::default()) };
    Ok(html(StatusCode::CONFLICT, &page))
}

fn generate(console: &Console, signed_in: &SignedIn, mut submission: EditSubmission) -> EditAnswer {
    submission.form.external_id = new_draft(console)?;
    Ok(html(StatusCode::OK, &submission.page(signed_in)))
}

/// The form after a change that failed.
async fn failed(
    console: &Console,
    signed_in: &SignedIn,
    submission: EditSubmission,
    failure: ChangeFailure,
) -> EditAnswer {
    match failure {
        ChangeFailure::Refused(complaints) => Ok(submission.refused(signed_in, complaints)),
        ChangeFailure::Unknown(why) => Ok(submission.refused(signed_in, whole(why))),
        ChangeFailure::Conflict(left) => {
            let EditTarget { scope, name, .. } = submission.target;
            let target = target(signed_in, scope, name).await?;
            overtaken(console, signed_in, &target, &submission.form, left)
        }
    }
}

async fn validate(console: &Arc<Console>, signed_in: &SignedIn, submission: EditSubmission) -> EditAnswer {
    let EditTarget { scope, shown, .. } = &submission.target;
    let patch = shown.patch(&submission.form);
    let (document, scope) = (shown.document(scope, &patch), scope.clone());
    if let Err(failure) = gate(signed_in, &submission.target, &patch, &document).await? {
        return failed(console, signed_in, submission, failure).await;
    }
    let draft = submission.draft.clone();
    Ok(checked(console, signed_in, &scope, document, draft, submission.page(signed_in)))
}

/// Whether the user could save the change, and could add the whole registry now. Until both are so, nothing connects to its endpoint: it
/// may have been added when the policies said something else.
async fn gate(
    signed_in: &SignedIn,
    target: &EditTarget,
    patch: &Value,
    document: &Value,
) -> Result<Result<(), ChangeFailure>, ConsoleError> {
    let (cluster, EditTarget { scope, shown, .. }) = (signed_in.user.cluster(), target);
    if let Err(failure) = shown.write(cluster, scope, patch, true).await {
        return Ok(Err(failure));
    }
    if let Some(why) = rights::missing(&signed_in.user, scope, "create").await? {
        let message = format!("Validate needs the right to create too: {why}");
        return Ok(Err(ChangeFailure::Refused(whole(message))));
    }
    Ok(gate_of_existing(cluster, scope, document).await.map_err(ChangeFailure::from))
}

async fn confirm(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    submission: EditSubmission,
    anyway: bool,
) -> EditAnswer {
    let EditSubmission { target: EditTarget { scope, name, shown, .. }, form, draft } = &submission;
    let (patch, url) = (shown.patch(form), scope.registry_url(name));
    if patch == json!({}) {
        return Ok(Redirect::to(&format!("{url}?unchanged")).into_response());
    }
    let is_validated = draft.validated == Some(form.digest(&shown.document(scope, &patch)));
    if !is_validated && !anyway {
        let page = AddPage { is_unvalidated: true, ..submission.page(signed_in) };
        return Ok(html(StatusCode::OK, &page));
    }
    let changed = format!("{url}?changed={}", form.draft);
    let unused = unused_secret(form, &patch);
    match carry_out(console, signed_in, &submission, unused).await? {
        Ok(()) => Ok(Redirect::to(&changed).into_response()),
        Err(failure) => {
            let submission = renewed(console, signed_in, submission)?;
            failed(console, signed_in, submission, failure).await
        }
    }
}

/// The form after a Confirm that failed, with a new draft and so a new name for its Secret: the one of that try may be left.
fn renewed(
    console: &Console,
    signed_in: &SignedIn,
    mut submission: EditSubmission,
) -> Result<EditSubmission, ConsoleError> {
    if !submission.form.has_login() {
        return Ok(submission);
    }
    console.forget_draft(&signed_in.session, &submission.form.draft);
    submission.form.draft = new_draft(console)?;
    console.keep_draft(&signed_in.session, &submission.form.draft, submission.draft.clone());
    Ok(submission)
}

/// The Secret that the registry used until now; empty if it still uses it.
fn unused_secret(form: &RegistryForm, patch: &Value) -> String {
    let stored = form.stored.as_ref().filter(|stored| {
        patch.get("auth").is_some() && form.secret_name().as_deref() != Some(&stored.secret)
    });
    stored.map(|stored| stored.secret.clone()).unwrap_or_default()
}

async fn carry_out(
    console: &Arc<Console>,
    signed_in: &SignedIn,
    submission: &EditSubmission,
    unused_secret: String,
) -> Result<Result<(), ChangeFailure>, ConsoleError> {
    let (session, signed_in) = (console.clone(), signed_in.clone());
    let EditTarget { scope, shown, .. } = &submission.target;
    let (scope, shown, form) = (scope.clone(), shown.clone(), submission.form.clone());
    let writes = async move {
        let changed = confirm::change(signed_in.user.cluster(), &scope, &form, &shown).await;
        if changed.is_ok() {
            let done = FormDraft { unused_secret, ..FormDraft::default() };
            session.keep_draft(&signed_in.session, &form.draft, done);
        }
        changed
    };
    to_the_end(console, writes).await
}

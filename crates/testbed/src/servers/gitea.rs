//! Gitea with its container registry: a public user's packages, and those of a private organization.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{Method, header};
use serde_json::{Value, json};

use super::running::{RunningServer, log};
use super::{
    LATEST, NO_LATEST, OWNER, OWNER_PASSWORD, READER, Role, ServerAccount, ServerError, TestServer,
    TestTokenService, owner, private, public, second,
};
use crate::debian::run;
use crate::http_client::{Call, basic_authorization};
use crate::process::{ProcessSpec, Scratch};
use crate::push::Push;
use crate::tools::{self, Tool, repository};

/// Gitea: everyone can pull below `alice/`. Below `team/`, the owner can push and pull, and `rita` can only pull.
pub async fn gitea() -> Result<TestServer, ServerError> {
    let tools = tools::ensure(&[Tool::Gitea]).await?;
    let program = tools.get(Tool::Gitea);
    let files = module()?;
    let running = RunningServer::start(|scratch, port| prepare(scratch, port, program, &files)).await?;
    let stranger =
        ServerAccount { role: Role::Stranger, user: "sam".into(), password: "str4nger/at the gate".into() };
    let accounts = vec![owner(), second(Role::PullOnly), stranger];
    let url = running.url();
    set_up(&url, &accounts[1..]).await?;
    let realm = format!("{url}/v2/token");
    let token_service = TestTokenService { port: running.port(), realm, service: "container_registry" };
    let team: &[Role] = &[Role::Owner, Role::PullOnly];
    let repositories = vec![
        public("alice/hello", LATEST),
        private("team/hello", LATEST, team),
        private("team/tagged", NO_LATEST, team),
    ];
    let authorization = basic_authorization(OWNER, OWNER_PASSWORD);
    let push = Push { url: &url, authorization: Some(&authorization), ca_pem: None };
    for repository in &repositories {
        for tag in repository.tags {
            push.artifact(repository.path, tag).await?;
        }
    }
    Ok(TestServer {
        name: "Gitea",
        port: running.port(),
        ca_pem: None,
        token_service: Some(token_service),
        accounts,
        repositories,
        _running: vec![running],
        _behind: Vec::new(),
    })
}

/// Where Gitea's module lies: its templates and texts are read from there.
fn module() -> Result<PathBuf, ServerError> {
    let mut command = Command::new("go");
    command
        .args(["mod", "download", "-json", "code.gitea.io/gitea"])
        .env("GOWORK", "off")
        .current_dir(repository().join("tests/tools/gitea"));
    let said = run(&mut command).map_err(ServerError::Command)?;
    let module: Value =
        serde_json::from_str(&said).map_err(|error| ServerError::Command(error.to_string()))?;
    let dir =
        module["Dir"].as_str().ok_or_else(|| ServerError::Command(format!("go mod download: {said}")))?;
    Ok(dir.into())
}

/// Makes the database and the owner; says how to start the server.
fn prepare(scratch: &Scratch, port: u16, program: &Path, files: &Path) -> Result<ProcessSpec, ServerError> {
    let dir = scratch.path();
    let configuration = format!(
        "WORK_PATH = {dir}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
RUN_MODE = prod
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {files}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {dir}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = testbed
[log]
LEVEL = error
[cron]
ENABLED = false
[packages]
ENABLED = true
",
        dir = dir.display(),
        files = files.display(),
    );
    let file = scratch.write("app.ini", configuration)?;
    let gitea = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).args(arguments).env_clear().envs(environment(dir));
        run(&mut command).map_err(ServerError::Command)
    };
    gitea(&["migrate"])?;
    gitea(&[
        "admin",
        "user",
        "create",
        "--admin",
        "--must-change-password=false",
        "--email=alice@example.com",
        "--username",
        OWNER,
        "--password",
        OWNER_PASSWORD,
    ])?;
    let spec = ProcessSpec::new("gitea", program, log(scratch)).arg("--config").arg(&file).arg("web");
    Ok(environment(dir).into_iter().fold(spec, |spec, (name, value)| spec.env(name, value)))
}

fn environment(dir: &Path) -> [(&'static str, OsString); 2] {
    [("HOME", dir.into()), ("PATH", "/usr/local/bin:/usr/bin:/bin".into())]
}

/// Makes the other accounts, and a private organization with a team that may read packages.
async fn set_up(url: &str, accounts: &[ServerAccount]) -> Result<(), ServerError> {
    for account in accounts {
        let user = json!({
            "username": account.user, "password": account.password, "must_change_password": false,
            "email": format!("{}@example.com", account.user),
        });
        api(url, Method::POST, "admin/users", &user).await?;
    }
    api(url, Method::POST, "orgs", &json!({"username": "team", "visibility": "private"})).await?;
    let readers = json!({"name": "readers", "permission": "read", "units_map": {"repo.packages": "read"}});
    let team = api(url, Method::POST, "orgs/team/teams", &readers).await?;
    api(url, Method::PUT, &format!("teams/{}/members/{READER}", team["id"]), &json!({})).await?;
    Ok(())
}

async fn api(url: &str, method: Method, path: &str, body: &Value) -> Result<Value, ServerError> {
    let what = format!("{method} {url}/api/v1/{path}");
    let call = Call::new(method, format!("{url}/api/v1/{path}"))
        .basic(OWNER, OWNER_PASSWORD)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string());
    let answer = call.send().await?;
    if answer.status().is_success() {
        return Ok(serde_json::from_slice(answer.body()).unwrap_or_default());
    }
    let body = String::from_utf8_lossy(answer.body()).into_owned();
    Err(ServerError::Setup { what, status: answer.status(), body })
}

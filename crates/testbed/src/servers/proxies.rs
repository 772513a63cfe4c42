//! Web servers that ask for passwords in front of a registry that doesn't: the recipes of distribution's documentation, with Debian's
//! nginx and Apache.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::running::{RunningServer, log};
use super::{
    LATEST, NO_LATEST, OWNER, Repository, Role, ServerCertificate, ServerError, TestServer, htpasswd, owner,
    private, public, second,
};
use crate::debian;
use crate::process::{ProcessSpec, Scratch};
use crate::registry::{RegistryOptions, TestRegistry};

const EVERYBODY: &[Role] = &[Role::Owner, Role::PullOnly];
const OWNER_ONLY: &[Role] = &[Role::Owner];

fn behind_passwords() -> Vec<Repository> {
    vec![
        private("hello", LATEST, EVERYBODY),
        private("team/tagged", NO_LATEST, EVERYBODY),
        private("private/hello", LATEST, OWNER_ONLY),
    ]
}

async fn behind(repositories: &[Repository]) -> Result<TestRegistry, ServerError> {
    let registry = TestRegistry::start(RegistryOptions::default()).await?;
    for repository in repositories {
        for tag in repository.tags {
            registry.push_artifact(repository.path, tag).await?;
        }
    }
    Ok(registry)
}

/// nginx over TLS: passwords for all requests, another file of them for pushes and for what is below `private/`.
pub async fn nginx(certificate: &ServerCertificate) -> Result<TestServer, ServerError> {
    let repositories = behind_passwords();
    let registry = behind(&repositories).await?;
    let accounts = vec![owner(), second(Role::PullOnly)];
    let (all, own) = (htpasswd(&accounts)?, htpasswd(&[owner()])?);
    let running = start_nginx(|scratch, port| {
        let ask = |file: &str| format!("auth_basic registry; auth_basic_user_file {file};");
        let (all, own) = (path(scratch, "all", &all)?, path(scratch, "own", &own)?);
        let chain = path(scratch, "tls.crt", &certificate.chain_pem)?;
        let key = path(scratch, "tls.key", &certificate.key_pem)?;
        let pass = pass(&registry);
        Ok(format!(
            "listen 127.0.0.1:{port} ssl; ssl_certificate {chain}; ssl_certificate_key {key};
             location /v2/ {{ {} limit_except GET HEAD {{ {} }} {pass} }}
             location /v2/private/ {{ {} {pass} }}",
            ask(&all),
            ask(&own),
            ask(&own),
        ))
    })
    .await?;
    Ok(TestServer {
        name: "nginx",
        port: running.port(),
        ca_pem: Some(certificate.ca_pem.clone()),
        token_service: None,
        accounts,
        repositories,
        _running: vec![running],
        _behind: vec![registry],
    })
}

/// nginx that asks for a password only where something is pushed.
pub async fn nginx_for_pushes() -> Result<TestServer, ServerError> {
    let repositories = vec![public("hello", LATEST), public("team/tagged", NO_LATEST)];
    let registry = behind(&repositories).await?;
    let accounts = vec![owner()];
    let own = htpasswd(&accounts)?;
    let running = start_nginx(|scratch, port| {
        let (own, pass) = (path(scratch, "own", &own)?, pass(&registry));
        Ok(format!(
            "listen 127.0.0.1:{port};
             location /v2/ {{ limit_except GET HEAD {{ auth_basic registry; auth_basic_user_file {own}; }} {pass} }}"
        ))
    })
    .await?;
    Ok(TestServer {
        name: "nginx, passwords for pushes",
        port: running.port(),
        ca_pem: None,
        token_service: None,
        accounts,
        repositories,
        _running: vec![running],
        _behind: vec![registry],
    })
}

fn path(scratch: &Scratch, name: &str, content: &str) -> Result<String, ServerError> {
    Ok(scratch.write(name, content)?.display().to_string())
}

/// What distribution's documentation has of nginx: the version header on refusals too.
fn pass(registry: &TestRegistry) -> String {
    format!(
        "add_header Docker-Distribution-Api-Version registry/2.0 always;
         proxy_pass {}; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;",
        registry.url()
    )
}

async fn start_nginx(
    server: impl Fn(&Scratch, u16) -> Result<String, ServerError>,
) -> Result<RunningServer, ServerError> {
    let root = unpacked("nginx", &["nginx"]).await?;
    let program = root.join("usr/sbin/nginx");
    RunningServer::start(|scratch, port| {
        let dir = scratch.path().display();
        // One process, which keeps its user: the files are the user's alone.
        let configuration = format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr;
             events {{ }}
             http {{
                 access_log off; client_max_body_size 0;
                 client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
                 uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
                 server {{ {} }}
             }}",
            server(scratch, port)?
        );
        let file = scratch.write("nginx.conf", configuration)?;
        Ok(ProcessSpec::new("nginx", &program, log(scratch)).args(["-e", "stderr", "-c"]).arg(file))
    })
    .await
}

/// Apache: who has a password pulls, who is in the group pushes.
pub async fn apache() -> Result<TestServer, ServerError> {
    let root = unpacked("apache", &["apache2-bin", "libapr1", "libaprutil1"]).await?;
    let repositories = behind_passwords();
    let registry = behind(&repositories).await?;
    let accounts = vec![owner(), second(Role::PullOnly)];
    let passwords = htpasswd(&accounts)?;
    let running = RunningServer::start(|scratch, port| {
        // Its workers change their user when it is started by root.
        open_to_all(scratch.path())?;
        for (name, content) in [("htpasswd", passwords.as_str()), ("groups", &format!("pusher: {OWNER}\n"))] {
            open_to_all(&scratch.write(name, content)?)?;
        }
        let file =
            scratch.write("apache.conf", apache_configuration(&root, scratch.path(), port, &registry))?;
        Ok(ProcessSpec::new("apache2", root.join("usr/sbin/apache2"), log(scratch))
            .env("LD_LIBRARY_PATH", libraries(&root))
            .args(["-D", "FOREGROUND", "-f"])
            .arg(file))
    })
    .await?;
    Ok(TestServer {
        name: "Apache",
        port: running.port(),
        ca_pem: None,
        token_service: None,
        accounts,
        repositories,
        _running: vec![running],
        _behind: vec![registry],
    })
}

fn open_to_all(path: &Path) -> Result<(), ServerError> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}

/// The directory below `usr/lib` that is named after the machine.
fn libraries(root: &Path) -> std::path::PathBuf {
    root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
}

fn apache_configuration(root: &Path, dir: &Path, port: u16, registry: &TestRegistry) -> String {
    let modules = [
        "mpm_event",
        "authn_core",
        "authn_file",
        "authz_core",
        "authz_user",
        "authz_groupfile",
        "auth_basic",
        "headers",
        "proxy",
        "proxy_http",
    ];
    let load = modules.map(|module| {
        format!("LoadModule {module}_module {}/usr/lib/apache2/modules/mod_{module}.so\n", root.display())
    });
    let (dir, url) = (dir.display(), registry.url());
    format!(
        "ServerName localhost
Listen 127.0.0.1:{port}
ServerRoot {dir}
PidFile {dir}/apache.pid
DefaultRuntimeDir {dir}
ErrorLog {dir}/server.log
User #65534
Group #65534
{}StartServers 1
ThreadsPerChild 8
MaxRequestWorkers 8
ServerLimit 1
Header always set Docker-Distribution-Api-Version registry/2.0
Header onsuccess unset Docker-Distribution-Api-Version
ProxyPreserveHost on
ProxyPass /v2 {url}/v2
ProxyPassReverse /v2 {url}/v2
<Location /v2>
    AuthName \"Registry Authentication\"
    AuthType basic
    AuthUserFile {dir}/htpasswd
    AuthGroupFile {dir}/groups
    <Limit GET HEAD>
        Require valid-user
    </Limit>
    <Limit POST PUT DELETE PATCH>
        Require group pusher
    </Limit>
</Location>
<Location /v2/private>
    Require group pusher
</Location>
",
        load.concat()
    )
}

async fn unpacked(
    name: &'static str,
    packages: &'static [&'static str],
) -> Result<std::path::PathBuf, ServerError> {
    let unpacked = tokio::task::spawn_blocking(move || debian::unpacked(name, packages)).await;
    unpacked.map_err(|error| ServerError::Debian(error.to_string()))?.map_err(ServerError::Debian)
}

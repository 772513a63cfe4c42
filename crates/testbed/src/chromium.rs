//! Chromium without a window, driven by chromedriver as a person would: Debian's packages, installed the first time if the tests run as
//! root. Both programs end with the test that started them.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, header};
use serde_json::{Value, json};

use crate::component::{Component, ComponentError, Readiness};
use crate::debian;
use crate::http_client::{Call, HttpError};
use crate::ports::{Port, PortError};
use crate::process::{ProcessSpec, Scratch};
use crate::tools::repository;

const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];
const READY: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(5);
/// The key of an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// No sandbox, because tests run as root and in containers; no host but this machine.
const ARGUMENTS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--window-size=1280,900",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/// Why a browser does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ChromiumError {
    /// There is none, and it can't be installed.
    #[error("no browser: {0}")]
    Missing(String),
    /// There is no free port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its directory can't be used.
    #[error("cannot use the browser's directory: {0}")]
    Scratch(#[from] std::io::Error),
    /// Chromium or chromedriver does not come up.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// chromedriver does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// chromedriver refuses a command.
    #[error("chromedriver refuses {command}: {answer}")]
    Refused {
        /// The command.
        command: String,
        /// What it answers.
        answer: String,
    },
}

/// An element of a page.
#[derive(Debug, Clone)]
pub struct WebElement(String);

impl WebElement {
    /// The element that a script returned.
    pub fn of(value: &Value) -> Option<Self> {
        value[ELEMENT].as_str().map(|id| Self(id.to_owned()))
    }
}

/// A running browser with one window.
#[derive(Debug)]
pub struct Chromium {
    session: String,
    _chromedriver: Component,
    _program: Component,
    _ports: [Port; 2],
    scratch: Scratch,
}

impl Chromium {
    /// Starts the browser, after installing it if it isn't there.
    pub async fn start() -> Result<Self, ChromiumError> {
        let programs = tokio::task::spawn_blocking(installed).await;
        let (chromium, chromedriver) =
            programs.map_err(|error| ChromiumError::Missing(error.to_string()))??;
        let (scratch, ports) = (Scratch::new("testbed-chromium")?, [Port::reserve()?, Port::reserve()?]);
        let [debugging, driving] = [ports[0].number(), ports[1].number()];
        let profile = format!("--user-data-dir={}", scratch.path().join("profile").display());
        let chromium = ProcessSpec::new("chromium", chromium, scratch.path().join("chromium.log"))
            .args(ARGUMENTS)
            .args([profile, format!("--remote-debugging-port={debugging}"), "about:blank".to_owned()])
            .env("HOME", scratch.path());
        let chromedriver =
            ProcessSpec::new("chromedriver", chromedriver, scratch.path().join("chromedriver.log"))
                .arg(format!("--port={driving}"))
                .env("HOME", scratch.path());
        let address = format!("127.0.0.1:{debugging}");
        let answers = |url: String| Readiness::http(url, READY);
        let chromium = Component::new(chromium, answers(format!("http://{address}/json/version")), GRACE);
        let driver = format!("http://127.0.0.1:{driving}");
        let chromedriver = Component::new(chromedriver, answers(format!("{driver}/status")), GRACE);
        tokio::try_join!(chromium.start(), chromedriver.start())?;
        let session = new_session(&driver, &address).await?;
        Ok(Self { session, _chromedriver: chromedriver, _program: chromium, _ports: ports, scratch })
    }

    /// Writes a file that the browser can upload.
    pub fn file(&self, name: &str, content: &str) -> Result<PathBuf, ChromiumError> {
        Ok(self.scratch.write(name, content)?)
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&self, url: &str) -> Result<(), ChromiumError> {
        self.command("url", &json!({"url": url})).await.map(drop)
    }

    /// Clicks in the middle of an element, which has to be visible and not covered.
    pub async fn click(&self, element: &WebElement) -> Result<(), ChromiumError> {
        self.command(&format!("element/{}/click", element.0), &json!({})).await.map(drop)
    }

    /// Empties a field.
    pub async fn clear(&self, element: &WebElement) -> Result<(), ChromiumError> {
        self.command(&format!("element/{}/clear", element.0), &json!({})).await.map(drop)
    }

    /// Types into a field; for a file, its path.
    pub async fn send(&self, element: &WebElement, text: &str) -> Result<(), ChromiumError> {
        self.command(&format!("element/{}/value", element.0), &json!({"text": text})).await.map(drop)
    }

    /// Pastes text where the focus is. A long text that is typed would cost the browser seconds.
    pub async fn paste(&self, text: &str) -> Result<(), ChromiumError> {
        self.devtools("Input.insertText", json!({"text": text})).await.map(drop)
    }

    /// Presses and releases keys, one after the other, wherever the focus is. Special keys are those of WebDriver, such as U+E004 for Tab.
    pub async fn press(&self, keys: &str) -> Result<(), ChromiumError> {
        let strokes = keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| (kind, key)));
        let strokes: Vec<Value> = strokes.map(|(kind, key)| json!({"type": kind, "value": key})).collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.command("actions", &actions).await.map(drop)
    }

    /// The accessible name of an element, as a screen reader says it.
    pub async fn spoken_name(&self, element: &WebElement) -> Result<String, ChromiumError> {
        let name = self.get(&format!("element/{}/computedlabel", element.0)).await?;
        Ok(name.as_str().unwrap_or_default().to_owned())
    }

    /// Runs the body of a function in the page, and returns what it returns. It waits for a promise.
    pub async fn run(&self, script: &str, arguments: Value) -> Result<Value, ChromiumError> {
        self.command("execute/sync", &json!({"script": script, "args": arguments})).await
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, ChromiumError> {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    /// The messages of the browser's console since the last call, such as violations of the content security policy.
    pub async fn console(&self) -> Result<Vec<String>, ChromiumError> {
        let entries = self.command("se/log", &json!({"type": "browser"})).await?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        Ok(entries.iter().map(|entry| format!("{}: {}", entry["source"], entry["message"])).collect())
    }

    async fn get(&self, command: &str) -> Result<Value, ChromiumError> {
        exchange(Method::GET, &self.session, command, None).await
    }

    async fn command(&self, command: &str, body: &Value) -> Result<Value, ChromiumError> {
        exchange(Method::POST, &self.session, command, Some(body)).await
    }
}

/// Attaches chromedriver to the browser at that address; returns the session's URL.
async fn new_session(driver: &str, address: &str) -> Result<String, ChromiumError> {
    let capabilities = json!({
        "goog:chromeOptions": {"debuggerAddress": address},
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    let body = json!({"capabilities": {"alwaysMatch": capabilities}});
    let session = exchange(Method::POST, driver, "session", Some(&body)).await?;
    Ok(format!("{driver}/session/{}", session["sessionId"].as_str().unwrap_or_default()))
}

async fn exchange(
    method: Method,
    base: &str,
    command: &str,
    body: Option<&Value>,
) -> Result<Value, ChromiumError> {
    let call = Call::new(method, format!("{base}/{command}"));
    let call = match body {
        Some(body) => call.header(header::CONTENT_TYPE, "application/json").body(body.to_string()),
        None => call,
    };
    let answer = call.send().await?;
    let refused = |answer: String| ChromiumError::Refused { command: command.to_owned(), answer };
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    if !answer.status().is_success() {
        return Err(refused(text));
    }
    let mut value: Value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    Ok(value["value"].take())
}

/// The paths of Chromium and chromedriver.
fn installed() -> Result<(PathBuf, PathBuf), ChromiumError> {
    let cache = repository().join("target/tools");
    std::fs::create_dir_all(&cache)?;
    // Held until it is installed: other tests wait, and then find it.
    let lock = File::options().create(true).truncate(false).write(true).open(cache.join("chromium.lock"))?;
    lock.lock()?;
    let find = || debian::on_path("chromium").zip(debian::on_path("chromedriver"));
    if find().is_none() {
        install()?;
    }
    find().ok_or_else(|| ChromiumError::Missing("Debian's packages have no chromium and chromedriver".into()))
}

fn install() -> Result<(), ChromiumError> {
    let packages = PACKAGES.join(" ");
    if debian::on_path("apt-get").is_none() || !rustix::process::getuid().is_root() {
        let advice = format!("install {packages} (Debian's names), or run the tests as root on Debian");
        return Err(ChromiumError::Missing(advice));
    }
    let failed = |error| ChromiumError::Missing(format!("apt-get install {packages} failed: {error}"));
    debian::install(&PACKAGES).map_err(failed)
}

//! A person at Chromium, signed in to a console of their own. Everything is found by the words that the person reads, and waited for.

use std::{fmt::Display, io::Write as _, time::Instant};

use anyhow::{Context as _, Result, ensure};
use registry_testbed::{Chromium, ChromiumError, WebElement, axe, eventually};
use serde_json::{Value, json};

use crate::bed::Browser;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
/// The longest text that a person types, in bytes.
const LONGEST_TYPED: usize = 100;
/// More than the elements of any page.
const MOST_TABS: usize = 150;
/// The rules of axe-core that are part of WCAG 2.2 AA.
const RULES: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/// The control with a label of these words, or the button, link or summary with them; which of them first, says the second argument.
const FIND: &str = r#"
const words = arguments[0];
const text = (element) => (element.getAttribute("aria-label") ?? element.textContent).replace(/\s+/g, " ").trim();
const labelled = [...document.querySelectorAll("label")].filter((label) => text(label) === words).map((label) => label.control);
const others = [...document.querySelectorAll("a, button, summary")].filter((element) => text(element) === words);
const all = arguments[1] ? [...labelled, ...others] : [...others, ...labelled];
const found = all.find((element) => element?.checkVisibility() && !element.closest("[aria-hidden=true]"));
"#;
const READ: &str = r#"return document.body.innerText.replace(/\s+/g, " ");"#;

/// How the person uses the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With a mouse, on a wide screen. Each page is also checked by axe-core.
    Mouse,
    /// With Tab, Enter and Space only.
    Keyboard,
    /// With a mouse, without JavaScript.
    WithoutScript,
    /// With a mouse, at a width of 320 pixels. Each page is also checked by axe-core.
    Narrow,
    /// With a mouse, in the dark color scheme.
    Dark,
}

/// A person at a browser.
pub struct Visitor {
    /// The browser.
    pub chromium: Chromium,
    /// The URL of the console, without a path.
    pub origin: String,
    way: Way,
    axe: String,
    /// The console, if it is to end with the person.
    _console: Option<Browser>,
}

impl Visitor {
    /// Opens the console's URL, and so signs in. Without a browser, says so and returns nothing.
    pub async fn arrive(console: Browser, way: Way) -> Result<Option<Self>> {
        let url = console.url.clone();
        let Some(visitor) = Self::outside(console, way).await? else { return Ok(None) };
        visitor.chromium.open(&url).await?;
        visitor.sees("Signed in as").await?;
        Ok(Some(visitor))
    }

    /// A person who has not signed in.
    pub async fn outside(console: Browser, way: Way) -> Result<Option<Self>> {
        let visitor = Self::at(&console.origin, way).await?;
        Ok(visitor.map(|visitor| Self { _console: Some(console), ..visitor }))
    }

    /// A person at the console in the cluster with that URL, whose certificate the browser takes from any issuer.
    pub async fn at(origin: &str, way: Way) -> Result<Option<Self>> {
        let chromium = match Chromium::start().await {
            Ok(chromium) => chromium,
            Err(ChromiumError::Missing(reason)) => return skipped(&reason).map(|()| None),
            Err(error) => return Err(error.into()),
        };
        let axe = match way {
            Way::Mouse | Way::Narrow => tokio::task::spawn_blocking(axe::script).await?,
            _ => Ok(String::new()),
        };
        let axe = match axe {
            Err(axe::AxeError::NoNpm) => {
                skipped("axe-core is an npm package, and npm is not on PATH").map(|()| String::new())?
            }
            axe => axe?,
        };
        let visitor = Self { chromium, origin: origin.to_owned(), way, axe, _console: None };
        visitor.prepare().await?;
        Ok(Some(visitor))
    }

    async fn prepare(&self) -> Result<()> {
        self.chromium.devtools("Security.setIgnoreCertificateErrors", json!({"ignore": true})).await?;
        match self.way {
            Way::WithoutScript => {
                let command = "Emulation.setScriptExecutionDisabled";
                self.chromium.devtools(command, json!({"value": true})).await?;
            }
            Way::Narrow => self.resize(320).await?,
            _ => {}
        }
        self.scheme(if self.way == Way::Dark { "dark" } else { "light" }).await
    }

    /// Makes the window that wide.
    pub async fn resize(&self, width: u32) -> Result<()> {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.chromium.devtools("Emulation.setDeviceMetricsOverride", metrics).await?;
        Ok(())
    }

    /// Prefers `light` or `dark`, and nothing that moves.
    pub async fn scheme(&self, scheme: &str) -> Result<()> {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.chromium.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await?;
        Ok(())
    }

    /// Opens a page by its path.
    pub async fn open(&self, path: &str) -> Result<()> {
        Ok(self.chromium.open(&format!("{}{path}", self.origin)).await?)
    }

    /// All words of the page.
    pub async fn reads(&self) -> Result<String> {
        Ok(self.chromium.run(READ, json!([])).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page has these words.
    pub async fn sees(&self, words: &str) -> Result<()> {
        let look = || async {
            let page = self.reads().await?;
            ensure!(page.contains(words), "{page}");
            Ok(())
        };
        Ok(eventually(format!("the page says {words:?}"), look).await?)
    }

    /// The control, button or link with these words, which a screen reader says too.
    async fn find(&self, words: &str, is_field: bool) -> Result<WebElement> {
        let script = format!("{FIND} return found ?? null;");
        let found = self.chromium.run(&script, json!([words, is_field])).await?;
        let element = WebElement::of(&found).with_context(|| format!("nothing is called {words:?}"))?;
        let spoken = self.chromium.spoken_name(&element).await?;
        ensure!(spoken == words, "{words:?} is spoken as {spoken:?}");
        Ok(element)
    }

    /// Acts once it works: a page that loads again has other elements.
    async fn with<T, E, F>(&self, what: String, act: impl FnMut() -> F) -> Result<T>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let done = eventually(what, act).await;
        match done {
            Ok(done) => Ok(done),
            Err(error) => Err(error).with_context(|| "the page does not let it happen")?,
        }
    }

    /// Chooses a button, a link, a check box or a radio button.
    pub async fn choose(&self, words: &str) -> Result<()> {
        if self.way == Way::Keyboard {
            self.reach(words, false).await?;
            let script = r#"return ["checkbox", "radio"].includes(document.activeElement.type);"#;
            let is_box = self.chromium.run(script, json!([])).await? == json!(true);
            return Ok(self.chromium.press(if is_box { " " } else { ENTER }).await?);
        }
        let click = || async { anyhow::Ok(self.chromium.click(&self.find(words, false).await?).await?) };
        self.with(format!("choose {words:?}"), click).await
    }

    /// Types into a field, in place of what is in it. A long text, such as a certificate or a token, is pasted, as a person would.
    pub async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let is_pasted = text.len() > LONGEST_TYPED;
        if self.way == Way::Keyboard {
            self.reach(label, true).await?;
            let written =
                if is_pasted { self.chromium.paste(text).await } else { self.chromium.press(text).await };
            return Ok(written?);
        }
        let fill = || async {
            let field = self.find(label, true).await?;
            self.chromium.clear(&field).await?;
            if !is_pasted {
                return anyhow::Ok(self.chromium.send(&field, text).await?);
            }
            self.chromium.click(&field).await?;
            anyhow::Ok(self.chromium.paste(text).await?)
        };
        self.with(format!("type into {label:?}"), fill).await
    }

    /// Chooses a file with that content.
    pub async fn upload(&self, label: &str, name: &str, content: &str) -> Result<()> {
        let path = self.chromium.file(name, content)?;
        let field = self.find(label, true).await?;
        Ok(self.chromium.send(&field, &path.to_string_lossy()).await?)
    }

    /// Presses Tab until the focus is on the control with these words.
    async fn reach(&self, words: &str, is_field: bool) -> Result<()> {
        let script = format!("{FIND} return Boolean(found) && found === document.activeElement;");
        for _ in 0..MOST_TABS {
            if self.chromium.run(&script, json!([words, is_field])).await? == json!(true) {
                let seen = self
                    .chromium
                    .run(r#"return document.activeElement.matches(":focus-visible");"#, json!([]));
                ensure!(seen.await? == json!(true), "the focus on {words:?} can't be seen");
                return Ok(());
            }
            self.chromium.press(TAB).await?;
        }
        anyhow::bail!("{words:?} can't be reached by Tab: {}", self.reads().await?)
    }

    /// The page needs no horizontal scrolling.
    pub async fn fits(&self, state: &str) -> Result<()> {
        let script = "return [document.documentElement.scrollWidth, innerWidth];";
        let widths = self.chromium.run(script, json!([])).await?;
        ensure!(widths[0].as_u64() <= widths[1].as_u64(), "{state}: scrolls horizontally, {widths}");
        Ok(())
    }

    /// The page, as it is now, needs no horizontal scrolling, violates no rule of WCAG and reports nothing.
    pub async fn approves(&self, state: &str) -> Result<()> {
        self.fits(state).await?;
        let reports = self.reports().await?;
        ensure!(reports.is_empty(), "{state}: {reports:?}");
        if self.axe.is_empty() {
            return Ok(());
        }
        for scheme in ["light", "dark"] {
            self.scheme(scheme).await?;
            let violations = self.violations().await?;
            ensure!(violations.is_empty(), "{state}, {scheme}: {violations:#?}");
        }
        self.scheme("light").await?;
        self.chromium.console().await?;
        Ok(())
    }

    /// The violations of the content security policy, and errors of scripts, since the last look.
    pub async fn reports(&self) -> Result<Vec<String>> {
        let mut entries = self.chromium.console().await?;
        // A page with the status 4xx is an entry too, and no report.
        entries.retain(|entry| !entry.starts_with("\"network\""));
        Ok(entries)
    }

    async fn violations(&self) -> Result<Vec<String>> {
        // In one script, and again if need be: a page that shows a registry's progress loads itself again.
        let run = "return axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}, resultTypes: ['violations'], preload: false});";
        let script = format!("if (!window.axe) {{\n{}\n}}\n{run}", self.axe);
        let look = || self.chromium.run(&script, json!([RULES]));
        let found = eventually("axe-core looks at the page", look).await?;
        let nodes = |rule: &Value| rule["nodes"].as_array().cloned().unwrap_or_default();
        let rules = found["violations"].as_array().context("axe-core found no result")?;
        let passed = found["passes"].as_array().map_or(0, Vec::len);
        ensure!(passed > 5, "axe-core has looked at nothing: {found}");
        Ok(rules
            .iter()
            .flat_map(|rule| nodes(rule).into_iter().map(|node| (rule["id"].clone(), node)))
            .map(|(id, node)| format!("{id} {} {}", node["target"], node["failureSummary"]))
            .collect())
    }

    /// A picture of the page as WebP in base64, from its top, that high at most.
    pub async fn picture(&self, width: u32, most: u32, quality: u32) -> Result<String> {
        let script =
            "return Math.ceil(document.querySelector(\"main\").getBoundingClientRect().bottom + scrollY);";
        let height = self.chromium.run(script, json!([])).await?.as_u64().unwrap_or_default();
        let height = u32::try_from(height)?.min(most);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = json!({"format": "webp", "quality": quality, "clip": clip, "captureBeyondViewport": true});
        let shot = self.chromium.devtools("Page.captureScreenshot", shot).await?;
        Ok(shot["data"].as_str().unwrap_or_default().to_owned())
    }
}

/// How long that took, for a person to read.
pub fn say_seconds(what: &str, start: Instant) -> Result<()> {
    let seconds = start.elapsed().as_secs_f32();
    Ok(writeln!(std::io::stderr().lock(), "{what}: {seconds:.1} s")?)
}

fn skipped(reason: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "SKIPPED: the console in a browser: {reason}")?)
}

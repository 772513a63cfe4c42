//! Runs the program on a pseudo-terminal of `script` (util-linux), and types.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{
    bed::{Desk, PROGRAM},
    registries::{PASSWORD, Protected, USER, anonymous, login, system},
};

const PATIENCE: Duration = Duration::from_secs(30);
const ESCAPE: char = '\u{1b}';
/// The beginning of the progress line, which appears after a second.
const WAITING: &str = "\r\u{1b}[2K";

/// A terminal on which a program runs.
struct Screen {
    child: Child,
    keyboard: ChildStdin,
    output: ChildStdout,
    shown: String,
}

impl Screen {
    fn of(desk: &Desk, arguments: &str) -> Result<Self> {
        // A shell ignores SIGINT in background jobs, and all their children inherit that.
        let mut command = desk.command("env");
        command.args([
            "--default-signal=INT,QUIT",
            "script",
            "--quiet",
            "--return",
            "--command",
            &format!("{PROGRAM} {arguments}"),
            "/dev/null",
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("script")?;
        let keyboard = child.stdin.take().context("no keyboard")?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self { child, keyboard, output, shown: String::new() })
    }

    /// Waits until the screen shows this text.
    async fn reads(&mut self, text: &str) -> Result<()> {
        let mut bytes = [0; 4096];
        while !self.shown.contains(text) {
            match timeout(PATIENCE, self.output.read(&mut bytes)).await {
                Ok(Ok(count @ 1..)) => self.shown.push_str(&String::from_utf8_lossy(&bytes[..count])),
                _ => bail!("{text:?} never appeared on {:?}", self.shown),
            }
        }
        Ok(())
    }

    async fn types(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).await?;
        Ok(self.keyboard.flush().await?)
    }

    /// Waits for the end; returns the exit code, and everything that was shown.
    async fn ends(mut self) -> Result<(i32, String)> {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.output.read_to_end(&mut rest)).await.context("it does not end")??;
        self.shown.push_str(&String::from_utf8_lossy(&rest));
        let status = timeout(PATIENCE, self.child.wait()).await??;
        Ok((status.code().unwrap_or(-1), self.shown))
    }
}

#[tokio::test]
async fn colours_output_only_where_wanted() -> Result<()> {
    let registry = anonymous().await?;
    let manifest = system("open", &json!({"endpoint": registry.url()}));
    let desk = Desk::new()?;
    let file = desk.file("open.yaml", &manifest)?;
    let validate = format!("validate --offline -f {file}");
    let (code, shown) = Screen::of(&desk, &validate)?.ends().await?;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\u{1b}[32m✓\u{1b}[0m"), "{shown:?}");

    let piped = desk.validate(&manifest).await?;
    assert!(!piped.everything().contains(ESCAPE) && piped.stdout.contains('✓'), "{piped:#?}");

    let forced = Desk::new()?.with("CLICOLOR_FORCE", "1").validate(&manifest).await?;
    assert!(forced.stdout.contains("\u{1b}[32m✓\u{1b}[0m"), "{forced:#?}");

    let desk = desk.with("NO_COLOR", "1");
    let (code, shown) = Screen::of(&desk, &validate)?.ends().await?;
    assert_eq!(code, 0, "{shown}");
    // On a busy machine, the progress line may appear. It is not a color.
    let shown = shown.replace(WAITING, "");
    assert!(!shown.contains(ESCAPE) && shown.contains('✓'), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn prompts_without_echoing_the_password() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let file = desk.file("packs.yaml", &system("packs", &protected.spec()))?;
    let mut screen = Screen::of(&desk, &format!("validate --offline -f {file}"))?;
    screen.reads("User name for Secret registry-system/login").await?;
    screen.types("dexo\u{7f}\u{7f}mo\r").await?;
    screen.reads("Password for Secret registry-system/login (not shown): ").await?;
    screen.types(&format!("wrong\u{15}{PASSWORD}ä\u{7f}\r")).await?;
    let (code, shown) = screen.ends().await?;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Credentials validated") && shown.contains("read from the prompt"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    let users = protected.registry.authentications();
    assert!(users.iter().all(|one| one.user == USER && one.accepted), "{users:?}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_at_a_prompt_restores_the_terminal() -> Result<()> {
    let (desk, protected) = (Desk::new()?, Protected::start().await?);
    let file = desk.file("packs.yaml", &system("packs", &protected.spec()))?;
    let ask = format!("validate --offline --username {USER} -f {file}");
    let mut screen = Screen::of(&desk, &format!("{ask}; echo ended with $?; stty -a"))?;
    screen.reads("(not shown): ").await?;
    screen.types("secret\u{3}").await?;
    let (_, shown) = screen.ends().await?;
    assert!(shown.contains("ended with 130"), "{shown}");
    assert!(shown.contains(" echo ") && shown.contains(" icanon") && shown.contains("isig "), "{shown}");
    assert!(!shown.contains("secret") && protected.registry.requests().is_empty(), "{shown}");

    let mut screen = Screen::of(&desk, &format!("validate --offline -f {file}"))?;
    screen.reads("User name for Secret registry-system/login").await?;
    screen.types("al\u{3}").await?;
    let (code, shown) = screen.ends().await?;
    assert_eq!(code, 130, "{shown}");
    Ok(())
}

/// A server that accepts connections and never answers.
async fn silent() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

#[tokio::test]
async fn slow_check_shows_transient_progress() -> Result<()> {
    let desk = Desk::new()?;
    let (_listener, url) = silent().await?;
    let spec = json!({"endpoint": url, "validation": {"timeout": "6s"}});
    let manifest = system("slow", &spec);
    let file = desk.file("slow.yaml", &manifest)?;
    let mut screen = Screen::of(&desk, &format!("validate --offline -f {file}"))?;
    let waiting = format!("{WAITING}Checking SystemRegistry slow at {url} … ");
    screen.reads(&waiting).await?;
    let (code, shown) = screen.ends().await?;
    assert_eq!(code, 1, "{shown}");
    // Once a second, or less often on a busy machine.
    let seconds: Vec<&str> = shown
        .split(&waiting)
        .skip(1)
        .filter_map(|told| told.split_once(" s"))
        .map(|(seconds, _)| seconds)
        .collect();
    let seconds: Vec<u32> = seconds.into_iter().map(str::parse).collect::<Result<_, _>>()?;
    assert!(seconds[0] >= 1 && seconds.is_sorted(), "{shown:?}");
    assert!(shown.contains(&format!("{WAITING}\u{1b}[1mSystemRegistry slow")), "{shown:?}");

    let piped = desk.validate(&manifest).await?;
    assert_eq!((piped.code, piped.stderr.as_str()), (1, ""), "{piped:#?}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_a_check_at_once() -> Result<()> {
    let desk = Desk::new()?;
    let (_listener, url) = silent().await?;
    let spec = json!({"endpoint": url, "validation": {"timeout": "5m"}});
    let file = desk.file("slow.yaml", &(system("slow", &spec) + &login("login", None, PASSWORD)))?;
    let mut screen = Screen::of(&desk, &format!("validate --offline -f {file}"))?;
    screen.reads("Checking SystemRegistry slow").await?;
    screen.types("\u{3}").await?;
    // The check itself would take five minutes.
    let (code, shown) = timeout(Duration::from_secs(20), screen.ends()).await.context("it goes on")??;
    assert_eq!(code, 130, "{shown}");
    Ok(())
}

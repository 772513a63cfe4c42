//! Opens the browser of the desktop at the console.
//!
//! Other users of this machine can read the command lines of all programs, so the URL with its code is not on one: the browser opens a
//! file that only this user can read, and that leads on.

use std::{
    io::{self, Write as _},
    process::Stdio,
    time::Duration,
};

use tempfile::NamedTempFile;
use tokio::process::Command;

/// As long as a browser may take to start.
const KEPT: Duration = Duration::from_secs(30);

#[cfg(target_os = "macos")]
const OPENER: &str = "open";
#[cfg(not(target_os = "macos"))]
const OPENER: &str = "xdg-open";

/// Opens `url`. Where there is no desktop, nothing happens: the URL was printed.
pub async fn open(url: &str) {
    let Ok(file) = leading_to(url) else { return };
    let mut command = Command::new(OPENER);
    command.arg(file.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().await.is_ok_and(|status| status.success()) {
        tokio::time::sleep(KEPT).await;
    }
}

fn leading_to(url: &str) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("registry-console-").suffix(".html").tempfile()?;
    let escaped = url.replace('&', "&amp;");
    write!(
        file,
        "<!doctype html><title>Registries</title><meta http-equiv=refresh content=\"0;url={escaped}\">"
    )?;
    file.flush()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn file_is_for_this_user_alone() {
        let file = leading_to("http://127.0.0.1:1/?code=x").unwrap();
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert!(std::fs::read_to_string(file.path()).unwrap().contains("url=http://127.0.0.1:1/?code=x"));
    }
}

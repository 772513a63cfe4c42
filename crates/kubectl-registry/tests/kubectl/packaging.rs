//! The files that ship with the program.

use anyhow::Result;
use registry_testbed::tools;
use serde_json::Value;

use crate::bed::{Desk, PROGRAM, finished};

#[tokio::test]
async fn man_renders_the_manual() -> Result<()> {
    let desk = Desk::new()?;
    for (arguments, title) in [(vec!["man"], "kubectl-registry"), (vec!["man", "validate"], "validate")] {
        let page = desk.run(&arguments).await?;
        assert_eq!(page.code, 0, "{page:#?}");
        assert!(page.stdout.starts_with(".ie") && page.stdout.contains(".SH SYNOPSIS"), "{}", page.stdout);
        assert!(page.stdout.contains(title));
    }
    assert_eq!(desk.run(&["man", "nothing"]).await?.code, 2);
    Ok(())
}

#[tokio::test]
async fn shells_parse_their_completion_script() -> Result<()> {
    let desk = Desk::new()?;
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = desk.run(&["completion", shell]).await?;
        assert_eq!(script.code, 0, "{script:#?}");
        if shell == "bash" {
            let file = desk.file("completion.bash", &script.stdout)?;
            let mut check = desk.command("bash");
            check.args(["-n", &file]);
            assert_eq!(finished(check, "").await?.code, 0);
        }
    }
    Ok(())
}

#[tokio::test]
async fn survives_closed_pipe() -> Result<()> {
    let desk = Desk::new()?;
    let mut shell = desk.command("bash");
    shell.args(["-c", &format!("{PROGRAM} completion bash | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}")]);
    let run = finished(shell, "").await?;
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("0\n", ""));
    Ok(())
}

#[test]
fn krew_manifest_has_this_version() -> Result<()> {
    let path = tools::repository().join("packaging/krew/registry.yaml");
    let text = std::fs::read_to_string(path)?;
    let manifest: Value = serde_saphyr::from_str(&text)?;
    assert_eq!(manifest["metadata"]["name"], "registry");
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let platforms = manifest["spec"]["platforms"].as_array().expect("platforms");
    assert_eq!(platforms.len(), 4);
    for platform in platforms {
        assert_eq!(platform["bin"], "kubectl-registry");
        // Until there is a release, nothing may look like one.
        assert_eq!(platform["sha256"], "SHA256-OF-THE-RELEASED-ARCHIVE");
        assert!(platform["uri"].as_str().expect("uri").starts_with("https://RELEASES/"));
    }
    Ok(())
}

#[test]
fn binary_has_the_plugin_name() {
    assert!(PROGRAM.ends_with("/kubectl-registry"));
}

//! The tools are built again exactly when what they are built from changes.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use registry_testbed::tools::{Tool, ToolBuilder, repository};

type Outcome = Result<(), Box<dyn Error>>;

fn copy_pins(tool: Tool, to: &Path) -> Outcome {
    let from = repository().join("tests/tools").join(tool.name());
    std::fs::create_dir_all(to.join(tool.name()))?;
    for file in ["go.mod", "go.sum", tool.source()] {
        std::fs::copy(from.join(file), to.join(tool.name()).join(file))?;
    }
    Ok(())
}

#[test]
fn cache_key_depends_on_the_pins_only() -> Outcome {
    let dir = tempfile::tempdir()?;
    copy_pins(Tool::Etcd, dir.path())?;
    let workshop = ToolBuilder::new(dir.path(), dir.path().join("cache"), None);
    let key = workshop.recipe(Tool::Etcd)?.key();
    assert_eq!(workshop.recipe(Tool::Etcd)?.key(), key);
    for file in ["go.mod", "go.sum", "tools.go"] {
        let path = dir.path().join("etcd").join(file);
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, format!("{text}\n"))?;
        assert_ne!(workshop.recipe(Tool::Etcd)?.key(), key, "{file}");
        std::fs::write(&path, text)?;
    }
    assert_eq!(workshop.recipe(Tool::Etcd)?.key(), key);
    Ok(())
}

#[test]
fn cache_key_depends_on_each_source_file() -> Outcome {
    let dir = tempfile::tempdir()?;
    copy_pins(Tool::GoReaders, dir.path())?;
    let workshop = ToolBuilder::new(dir.path(), dir.path().join("cache"), None);
    let key = workshop.recipe(Tool::GoReaders)?.key();
    std::fs::write(dir.path().join("go-readers").join("another.go"), "package main\n")?;
    assert_ne!(workshop.recipe(Tool::GoReaders)?.key(), key);
    Ok(())
}

#[test]
fn every_tool_is_pinned() -> Outcome {
    for (tool, version) in [
        (Tool::Etcd, "v3.6.8"),
        (Tool::KubeApiserver, "v1.36.3"),
        (Tool::OldestKubeApiserver, "v1.30.14"),
        (Tool::KubeControllerManager, "v1.36.3"),
        (Tool::Registry, "v3.1.2"),
        (Tool::Helm, "v4.3.1"),
        (Tool::Crane, "v0.22.1"),
        (Tool::Kubectl, "v1.36.3"),
        (Tool::FluxHealth, "v1.2.2"),
        (Tool::ArgoHealth, "v3.5.0"),
        (Tool::PrometheusRules, "v0.310.0"),
        (Tool::GoReaders, "v1.36.3"),
    ] {
        assert_eq!(ToolBuilder::of_this_repository().recipe(tool)?.version, version);
    }
    Ok(())
}

/// The modules that a go.mod requires, each with its version after the replacements.
fn requirements(go_mod: &str) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    for line in go_mod.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            // The replacements come last.
            [module, "=>", _, version] | ["replace", module, "=>", _, version] => {
                versions.entry(module.to_owned()).and_modify(|known| version.clone_into(known));
            }
            [module, version, ..] | ["require", module, version] if version.starts_with('v') => {
                versions.insert(module.to_owned(), version.to_owned());
            }
            _ => {}
        }
    }
    versions
}

#[test]
fn tools_share_one_version_of_each_dependency() -> Outcome {
    let mut known: BTreeMap<String, (String, PathBuf)> = BTreeMap::new();
    for entry in std::fs::read_dir(repository().join("tests/tools"))? {
        let path = entry?.path().join("go.mod");
        // Another Kubernetes, programs that share nothing, and one that only `make test-servers` builds.
        let is_apart = ["kube-apiserver-1.30", "cni-plugins", "gitea"]
            .iter()
            .any(|name| path.ends_with(format!("{name}/go.mod")));
        if is_apart || !path.is_file() {
            continue;
        }
        for (module, version) in requirements(&std::fs::read_to_string(&path)?) {
            let (same, first) =
                known.entry(module.clone()).or_insert_with(|| (version.clone(), path.clone()));
            let (first, second) = (first.display(), path.display());
            assert_eq!(*same, version, "{module} of {first} and of {second}: run tests/tools/align.sh");
        }
    }
    assert!(known.len() > 100, "only {} modules were read", known.len());
    Ok(())
}

#[test]
fn uses_tools_from_kubebuilder_assets() -> Outcome {
    let dir = tempfile::tempdir()?;
    copy_pins(Tool::Etcd, dir.path())?;
    std::fs::write(dir.path().join("kube-apiserver"), "")?;
    let assets = Some(dir.path().to_path_buf());
    let workshop = ToolBuilder::new(dir.path(), dir.path().join("cache"), assets);
    let found = workshop.ensure(&[Tool::KubeApiserver])?;
    assert_eq!(found.get(Tool::KubeApiserver), dir.path().join("kube-apiserver"));
    Ok(())
}

#[test]
fn reports_tool_without_pins() {
    let workshop = ToolBuilder::new("/nowhere", "/tmp/never-made", None);
    let error = workshop.recipe(Tool::Helm).map(|recipe| recipe.version).unwrap_err();
    assert!(error.to_string().contains("/nowhere/helm/go.mod"), "{error}");
}

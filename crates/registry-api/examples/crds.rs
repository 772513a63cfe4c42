fn main() { for (n, y) in registry_api::crd::files().unwrap() { std::fs::create_dir_all("crds").unwrap(); std::fs::write(format!("crds/{n}"), y).unwrap(); } }

//! Every page of the console, read from the source of its router, so that no test leaves out a new one.

use http::{Method, header};

use registry_testbed::http_client::Call;

use crate::bed::{Page, form_of};

const ROUTES: &str = include_str!("../../src/routes.rs");
/// What everyone may see: styles, script and icon, and where a token is pasted.
const PUBLIC: [&str; 2] = ["/assets/", "/sign-in"];

/// The paths of all pages that need a session, with these values in place of the placeholders.
pub fn paths(values: &[(&str, &str)]) -> Vec<String> {
    let source = ROUTES.split("#[cfg(test)]").next().unwrap_or_default();
    let mut paths = Vec::new();
    let mut registry = String::new();
    for literal in source.split('"').skip(1).step_by(2) {
        let path = literal.replace("{registry}", &registry);
        if path.matches('/').count() > 2 && path.ends_with("/{namespace}/{name}") {
            registry.clone_from(&path);
        }
        if path.starts_with('/') && !PUBLIC.iter().any(|public| path.starts_with(public)) {
            paths.push(filled(&path, values));
        }
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Some pages need a query; it disturbs none.
fn filled(path: &str, values: &[(&str, &str)]) -> String {
    let replace = |path: String, (name, value): &(&str, &str)| path.replace(&format!("{{{name}}}"), value);
    format!("{}?since=1&namespace=default", values.iter().fold(path.to_owned(), replace))
}

/// The console's answers to GET and to POST, with each kind of form that it takes.
pub async fn answers<'a>(
    begin: impl Fn(Method, &str) -> Call<'a>,
    path: &str,
    origin: &str,
) -> anyhow::Result<Vec<(String, Page)>> {
    let fields =
        [("name", "packs"), ("uid", "u"), ("endpoint", "https://127.0.0.1:1"), ("action", "generate")];
    let (multipart, parts) = form_of(&fields);
    let bodies = [
        (Method::GET, "text/plain", ""),
        (Method::POST, "application/x-www-form-urlencoded", "name=packs&uid=u&token=t&code=c"),
        (Method::POST, &multipart, &parts),
        (Method::POST, "application/json", "{}"),
    ];
    let mut answers = Vec::new();
    for (method, media_type, body) in bodies {
        let call = begin(method.clone(), path).header(header::CONTENT_TYPE, media_type).body(body.to_owned());
        let call = if origin.is_empty() { call } else { call.header(header::ORIGIN, origin) };
        let what = format!("{method} {path} {}", media_type.split(';').next().unwrap_or_default());
        answers.push((what, Page::of(call.send().await?)?));
    }
    Ok(answers)
}

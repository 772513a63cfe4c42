//! `WWW-Authenticate` as real servers send it: each form is parsed, or no credentials are sent.

use std::sync::LazyLock;

use crate::hosts::{Host, host};
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{Caller, caller, content, issues, opened_by, strict};
use crate::spec::right;
use crate::support::{Answer, ReceivedRequest};

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const UNTRUSTED: &str =
    "+Resolved +Reachable +Verified -UntrustedTokenService . = -UntrustedTokenService stalled";
const UNSUPPORTED: &str = "+Resolved +Reachable +Verified -UnsupportedScheme . = -UnsupportedScheme stalled";

pub fn rows() -> Vec<Row> {
    [bearer(), basic(), unusable()].concat()
}

/// A registry with these headers on every 401.
fn message_contains(lines: &'static [&'static str]) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    move |asked| match caller(asked) {
        Caller::Bearer(token) if opened_by(&token).contains(&"api".to_owned()) => content(asked),
        Caller::Alice => content(asked),
        _ => lines
            .iter()
            .fold(Answer::error(401, "UNAUTHORIZED"), |answer, line| answer.header("WWW-Authenticate", line)),
    }
}

fn hosts(lines: &'static [&'static str]) -> Vec<Host> {
    vec![host("registry", message_contains(lines)), host("auth", issues(strict))]
}

fn bearer() -> Vec<Row> {
    let forms: [(&str, &'static [&'static str]); 19] = [
        (
            "as the specification has it",
            &[r#"Bearer realm="{auth}/token",service="r",scope="repository:x:pull""#],
        ),
        ("without quotes", &["Bearer realm={auth}/token,service=r"]),
        ("in odd case", &[r#"bEARER ReAlM="{auth}/token",SERVICE="r""#]),
        ("with blanks around equals signs", &[r#"Bearer realm = "{auth}/token" , service = "r""#]),
        ("with blanks instead of commas", &[r#"Bearer realm="{auth}/token" service="r""#]),
        ("with commas too many", &[r#",, Bearer realm="{auth}/token",,service="r",,"#]),
        ("with its realm last", &[r#"Bearer service="r",error="invalid_token",realm="{auth}/token""#]),
        ("with a duplicate realm", &[r#"Bearer realm="{auth}/token",realm="{elsewhere}/token""#]),
        (
            "with an error and a description",
            &[r#"Bearer realm="{auth}/token",error="insufficient_scope",error_description="a, \"b\" c=d""#],
        ),
        (
            "with letters beyond ASCII",
            &["Bearer realm=\"{auth}/token\",service=\"Dépôt\",comment=\"\u{1f980}\""],
        ),
        ("without its last quote", &[r#"Bearer service="r",realm="{auth}/token"#]),
        ("with an escaped character", &[r#"Bearer realm="{auth}/\token",service="r""#]),
        ("with a tab", &["Bearer\trealm=\"{auth}/token\",\tservice=\"r\""]),
        ("behind Negotiate, in one line", &[r#"Negotiate, Bearer realm="{auth}/token""#]),
        ("behind a token68", &[r#"Negotiate oYG3MIG0oAMKAQA=, Bearer realm="{auth}/token""#]),
        (
            "behind Digest, on a line of its own",
            &[r#"Digest realm="x", nonce="y", qop="auth,auth-int""#, r#"Bearer realm="{auth}/token""#],
        ),
        (
            "before Digest, in one line",
            &[r#"Bearer realm="{auth}/token", Digest realm="{elsewhere}/token", nonce="y""#],
        ),
        ("behind an empty line", &["", r#"Bearer realm="{auth}/token""#]),
        ("with a query in its realm", &[r#"Bearer realm="{auth}/token?tenant=7",service="r""#]),
    ];
    let found =
        |(how, lines)| row(format!("a Bearer challenge {how}"), hosts(lines), right(), AUTH, VALIDATED);
    let mut rows: Vec<Row> = forms.into_iter().map(found).collect();
    for (how, line) in [
        ("by an absolute path", &[r#"Bearer realm="/token",service="r""#] as &[_]),
        ("by a path from `/v2/`", &[r#"Bearer realm="../token",service="r""#]),
        ("by the host without a scheme", &[r#"Bearer realm="//{registry.host}:{registry.port}/token""#]),
    ] {
        rows.push(row(
            format!("a relative realm, {how}"),
            vec![host("registry", with_token_path(line))],
            right(),
            REGISTRY,
            VALIDATED,
        ));
    }
    rows
}

fn with_token_path(lines: &'static [&'static str]) -> impl Fn(&ReceivedRequest) -> Answer + Send + Sync {
    let registry = message_contains(lines);
    move |asked| if asked.path.starts_with("/token") { issues(strict)(asked) } else { registry(asked) }
}

fn basic() -> Vec<Row> {
    let forms: [(&str, &'static [&'static str]); 6] = [
        ("alone", &["Basic"]),
        ("without quotes", &["Basic realm=registry"]),
        ("with a comma in its realm", &[r#"Basic realm="packs, and more", charset="UTF-8""#]),
        ("behind two unknown schemes", &[r#"Negotiate, NTLM, basic realm="x""#]),
        ("behind garbage", &["=\"x\" , \"\", @@, Basic realm=x"]),
        ("twice", &["Basic realm=x", "Basic realm=y"]),
    ];
    let found =
        |(how, lines)| row(format!("a Basic challenge {how}"), hosts(lines), right(), REGISTRY, VALIDATED);
    forms.into_iter().map(found).collect()
}

/// Headers that no honest server sends, or without a usable scheme.
fn unusable() -> Vec<Row> {
    let none = |name, lines: &'static [&'static str], expected| {
        row(name, hosts(lines), right(), NOWHERE, expected).never_at(AUTH)
    };
    vec![
        none("a Bearer challenge without a realm", &[r#"Bearer service="r""#], UNTRUSTED),
        none("a Bearer challenge with an empty realm", &[r#"Bearer realm="",service="r""#], UNTRUSTED),
        none(
            "a Bearer challenge with a realm that is no URL",
            &[r#"Bearer realm="https://[::/token""#],
            UNTRUSTED,
        ),
        none(
            "a Bearer challenge with a realm of another scheme",
            &[r#"Bearer realm="ftp://{auth.host}/token""#],
            UNTRUSTED,
        ),
        none(
            "a Bearer challenge with a realm that is a file",
            &[r#"Bearer realm="file:///etc/passwd""#],
            UNTRUSTED,
        ),
        none("a realm on the line after Bearer", &["Bearer", r#"realm="{auth}/token""#], UNTRUSTED),
        none("Negotiate and NTLM", &["Negotiate", "NTLM"], UNSUPPORTED),
        none("a scheme that begins with Basic", &["Basically realm=x"], UNSUPPORTED),
        none("AWS4-HMAC-SHA256", &["AWS4-HMAC-SHA256 Credential=x, SignedHeaders=y"], UNSUPPORTED),
        none(
            "ten thousand unknown schemes",
            TEN_THOUSAND.as_slice(),
            "+Resolved -NotARegistry +Verified . . = -NotARegistry stalled",
        ),
    ]
}

/// More than the 64 KiB of headers that are read.
static TEN_THOUSAND: LazyLock<Vec<&str>> =
    LazyLock::new(|| vec![Box::leak("Unknown realm=\"x\", ".repeat(10_000).into_boxed_str())]);

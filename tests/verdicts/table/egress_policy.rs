//! The egress policy: which addresses a validation may connect to, by scope, in every spelling. A blocked server gets no connection.

use crate::hosts::host;
use crate::row::{AUTH, NOWHERE, REGISTRY, Row, row};
use crate::scripts::{alone, htpasswd, issues, strict, takes_tokens, with_service};
use crate::spec::{Spec, right, spec};

pub fn rows() -> Vec<Row> {
    [loopback(), metadata(), ranges(), realms()].concat()
}

const VALIDATED: &str = "+Resolved +Reachable +Verified +Validated ?Inconclusive = +Available";
const DENIED: &str = "+Resolved -EgressDenied . . . = -EgressDenied stalled";
const UNTRUSTED: &str =
    "+Resolved +Reachable +Verified -UntrustedTokenService . = -UntrustedTokenService stalled";

fn denied(name: impl Into<String>, spec: Spec) -> Row {
    row(name, alone(htpasswd), spec, NOWHERE, DENIED).never_at(REGISTRY)
}

fn reached(name: impl Into<String>, spec: Spec) -> Row {
    row(name, alone(htpasswd), spec, REGISTRY, VALIDATED)
}

fn loopback() -> Vec<Row> {
    let spellings = [
        ("plain", "{registry.address}"),
        ("with a dot at its end", "{registry.address}."),
        ("as one decimal number", "{registry.decimal}"),
        ("as one hexadecimal number", "{registry.hex}"),
        ("in octal", "{registry.octal}"),
        ("mixed and short", "{registry.mixed}"),
        ("as IPv4-mapped IPv6", "{registry.mapped}"),
        ("as IPv4-mapped IPv6 in hex", "{registry.mapped-hex}"),
        ("as IPv4-compatible IPv6", "{registry.compatible}"),
        ("by NAT64", "{registry.nat64}"),
        ("by 6to4", "{registry.6to4}"),
        ("in fullwidth digits", "{registry.fullwidth}"),
        ("by a name", "{registry.host}"),
        ("by localhost", "localhost"),
        ("by LOCALHOST with a dot", "LOCALHOST."),
        ("by the loopback of IPv6", "[::1]"),
        ("by the unspecified address", "0.0.0.0"),
        ("by zero", "0"),
        ("by the unspecified address of IPv6", "[::]"),
    ];
    let tenant = |(how, host)| {
        let endpoint = format!("https://{host}:{{registry.port}}");
        denied(format!("a tenant's registry on loopback, {how}"), right().of_tenant().endpoint(&endpoint))
    };
    spellings.into_iter().map(tenant).collect()
}

fn metadata() -> Vec<Row> {
    let hosts = [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "169.254.170.2",
    ];
    let mut rows = Vec::new();
    for host in hosts {
        let spec = || right().endpoint(&format!("https://{host}"));
        rows.push(denied(format!("the metadata service at {host}, for the system"), spec()));
        rows.push(denied(format!("the metadata service at {host}, for a tenant"), spec().of_tenant()));
    }
    let all = right().endpoint("https://169.254.169.254").allowed("0.0.0.0/0").allowed("::/0");
    rows.push(denied("the metadata service, though all is allowed", all));
    rows
}

fn ranges() -> Vec<Row> {
    let at = |host: &str| right().endpoint(&format!("https://{host}"));
    let mut rows = Vec::new();
    for host in ["169.254.1.1", "[fe80::1]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "240.0.0.1"] {
        rows.push(denied(format!("a tenant's registry at {host}"), at(host).of_tenant()));
    }
    rows.extend([
        reached("the system's registry on loopback", right()),
        reached(
            "a tenant's registry on loopback, which is allowed",
            right().of_tenant().allowed("127.0.0.0/8"),
        ),
        denied(
            "a tenant's registry on loopback, another part of which is allowed",
            right().of_tenant().allowed("127.0.0.0/16"),
        ),
        denied("the system's registry in a range that is denied", right().denied("127.0.0.0/8")),
        denied(
            "the system's registry at a private address that is denied",
            at("10.1.2.3").denied("10.0.0.0/8"),
        ),
        reached(
            "an exception within a range that is denied",
            right().denied("127.0.0.0/8").allowed("{registry.address}/32"),
        ),
        denied(
            "a denial within a range that is allowed",
            right().of_tenant().allowed("127.0.0.0/8").denied("{registry.address}/32"),
        ),
        denied("both allowed and denied", right().of_tenant().allowed("127.0.0.0/8").denied("127.0.0.0/8")),
        denied(
            "a tenant's registry at the cluster's own address",
            right().of_tenant().allowed("127.0.0.0/8").in_cluster_at("{registry.address}/32"),
        ),
        reached(
            "the system's registry at the cluster's own address",
            right().in_cluster_at("{registry.address}/32"),
        ),
        denied("a tenant's registry behind a name, without credentials", spec().of_tenant())
            .message_contains("EndpointReachable", "{registry.address}"),
    ]);
    rows
}

fn realms() -> Vec<Row> {
    let only_registry = |spec: Spec| spec.of_tenant().allowed("{registry.address}/32");
    let clear = |realm: &'static str| {
        vec![host("registry", takes_tokens(realm)).clear(), host("auth", issues(strict)).clear()]
    };
    const UNTRUSTED_IN_THE_CLEAR: &str =
        "+Resolved +Reachable -PlainHTTP -UntrustedTokenService . = -UntrustedTokenService stalled";
    let never = |row: Row| row.never_at(AUTH);
    vec![
        never(row(
            "a tenant's token service behind the fence",
            with_service(strict),
            only_registry(right()),
            NOWHERE,
            UNTRUSTED,
        )),
        never(row(
            "a tenant's token service behind the fence, asked anonymously",
            with_service(strict),
            only_registry(spec()),
            NOWHERE,
            UNTRUSTED,
        )),
        never(row(
            "the system's token service in a range that is denied",
            with_service(strict),
            right().denied("{auth.address}/32"),
            NOWHERE,
            UNTRUSTED,
        )),
        row(
            "a realm at the metadata service",
            clear("Bearer realm=\"http://169.254.169.254/latest\""),
            right(),
            NOWHERE,
            UNTRUSTED_IN_THE_CLEAR,
        ),
        row(
            "a realm at the metadata service, asked anonymously",
            clear("Bearer realm=\"http://169.254.169.254/latest\""),
            spec(),
            NOWHERE,
            UNTRUSTED_IN_THE_CLEAR,
        ),
        row(
            "a realm at the metadata service, which an administrator trusts by mistake",
            clear("Bearer realm=\"http://169.254.169.254/latest\""),
            right().trusting("169.254.169.254"),
            NOWHERE,
            UNTRUSTED_IN_THE_CLEAR,
        ),
        row(
            "a realm at the metadata service in another spelling",
            clear("Bearer realm=\"http://0xa9fea9fe/latest\""),
            right().trusting("169.254.169.254"),
            NOWHERE,
            UNTRUSTED_IN_THE_CLEAR,
        ),
        row(
            "a realm on loopback by a decimal number, for a tenant",
            clear("Bearer realm=\"http://{auth.decimal}:{auth.port}/token\""),
            only_registry(right()),
            NOWHERE,
            UNTRUSTED_IN_THE_CLEAR,
        )
        .never_at(AUTH),
    ]
}

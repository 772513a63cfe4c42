//! Token services: the one that a challenge names, and whether credentials may be sent there.
//!
//! Owns the rules of trust: `https` unless the registry itself is `http`; no user name in the URL; the
//! registry's own site, a known pair, or the administrator's list. Does not send anything.

use psl::Psl;
use url::Url;

use crate::challenge::Challenge;
use crate::findings::Distrust;
use crate::host::{Host, HostPort, TrustedService};

/// A token service that a Bearer challenge names (Docker Registry v2 authentication, "token").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenService {
    /// The URL for token requests.
    pub(crate) realm: Url,
    /// The server of `realm`.
    pub(crate) server: HostPort,
    /// The name of the registry at that service.
    pub(crate) service: Option<String>,
    /// Whether credentials may be sent there.
    pub(crate) trusted: bool,
}

/// A token service to which not even an anonymous request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distrusted {
    pub(crate) service: Option<HostPort>,
    pub(crate) cause: Distrust,
}

/// The trust settings of a validation.
pub(crate) struct Trust<'a> {
    pub(crate) registry: &'a Url,
    pub(crate) listed: &'a [TrustedService],
    /// Only the registry's own server gets credentials.
    pub(crate) only_registry: bool,
}

impl TokenService {
    /// The service of a Bearer challenge, or why not even an anonymous request is sent there.
    pub(crate) fn of(challenge: &Challenge, trust: &Trust<'_>) -> Result<Self, Distrusted> {
        let refuse = |service, cause| Err(Distrusted { service, cause });
        let realm = challenge.parameter("realm").and_then(|realm| trust.registry.join(realm).ok());
        let Some((mut realm, server)) = realm.and_then(|realm| Some((realm.clone(), HostPort::of(&realm)?)))
        else {
            return refuse(None, Distrust::NoRealm);
        };
        if !matches!(realm.scheme(), "https" | "http") {
            return refuse(None, Distrust::NoRealm);
        }
        if !realm.username().is_empty() || realm.password().is_some() {
            return refuse(Some(server), Distrust::UserInfo);
        }
        if realm.scheme() == "http" && trust.registry.scheme() == "https" {
            return refuse(Some(server), Distrust::PlainHttp);
        }
        realm.set_fragment(None);
        let service = challenge.parameter("service").map(ToOwned::to_owned);
        let trusted = trust.covers(&server);
        Ok(Self { realm, server, service, trusted })
    }

    /// This service, if credentials may be sent there.
    pub(crate) fn trusted(self) -> Result<Self, Distrusted> {
        if self.trusted {
            Ok(self)
        } else {
            Err(Distrusted { service: Some(self.server), cause: Distrust::OtherSite })
        }
    }

    /// The same service with a trailing slash, if the redirect to `to` only adds that slash to the realm.
    pub(crate) fn with_slash(&self, to: &Url) -> Option<Self> {
        let mut realm = self.realm.clone();
        realm.set_path(&format!("{}/", self.realm.path()));
        let same = realm.origin() == to.origin() && realm.path() == to.path() && to.username().is_empty();
        (same && !self.realm.path().ends_with('/')).then(|| Self { realm, ..self.clone() })
    }
}

impl Trust<'_> {
    fn covers(&self, service: &HostPort) -> bool {
        let Some(registry) = HostPort::of(self.registry) else { return false };
        if self.only_registry {
            return registry == *service;
        }
        is_same_site(&registry.host, &service.host)
            || is_known_pair(&registry.host, &service.host)
            || self.listed.iter().any(|entry| entry.covers(service))
    }
}

/// Whether both are the same host or below the same registrable domain. Ports are ignored, as for
/// cookies: GitLab and docker_auth have the token service at another port.
fn is_same_site(registry: &Host, service: &Host) -> bool {
    let (Host::Name(registry), Host::Name(service)) = (registry, service) else { return registry == service };
    registry == service || registrable(registry).is_some_and(|domain| registrable(service) == Some(domain))
}

/// The registrable domain: one label below a suffix on the public suffix list. For names below
/// an unknown suffix (`registry.team.svc.cluster.local`), the owner is unknown, so each is a site
/// of its own.
fn registrable(name: &str) -> Option<&str> {
    let suffix = psl::List.suffix(name.as_bytes()).filter(psl::Suffix::is_known)?;
    let below = name.len().checked_sub(suffix.as_bytes().len() + 1)?;
    let start = name.get(..below)?.rfind('.').map_or(0, |dot| dot + 1);
    name.get(start..)
}

/// Known registries with a token service at another site.
const KNOWN_PAIRS: [(&str, &str); 3] = [
    ("registry.hub.docker.com", "auth.docker.io"), // another name of Docker Hub's registry
    ("lscr.io", "ghcr.io"),                        // LinuxServer.io's front to GitHub's registry
    ("*.scw.cloud", "api.scaleway.com"),           // Scaleway
];

fn is_known_pair(registry: &Host, service: &Host) -> bool {
    let (Host::Name(registry), Host::Name(service)) = (registry, service) else { return false };
    KNOWN_PAIRS.iter().any(|(ours, theirs)| matches(registry, ours) && service == theirs)
}

/// Whether the pattern matches: `*.example.com` matches any name below `example.com`.
fn matches(name: &str, pattern: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(registry: &str, realm: &str) -> Result<TokenService, Distrusted> {
        let challenge = Challenge::parse_all([format!("Bearer realm=\"{realm}\"").as_bytes()]);
        let registry = Url::parse(registry).unwrap();
        TokenService::of(&challenge[0], &Trust { registry: &registry, listed: &[], only_registry: false })
    }

    fn trusted(registry: &str, realm: &str) -> bool {
        service(registry, realm).unwrap().trusted
    }

    #[test]
    fn trusts_services_of_known_registries() {
        for (registry, realm) in [
            ("https://registry-1.docker.io/v2/", "https://auth.docker.io/token"),
            ("https://index.docker.io/v2/", "https://auth.docker.io/token"),
            ("https://registry.hub.docker.com/v2/", "https://auth.docker.io/token"),
            ("https://registry.gitlab.com/v2/", "https://gitlab.com/jwt/auth"),
            ("https://registry.example.com:5050/v2/", "https://gitlab.example.com/jwt/auth"),
            ("https://ghcr.io/v2/", "https://ghcr.io/token"),
            ("https://quay.io/v2/", "https://quay.io/v2/auth"),
            ("https://eu.gcr.io/v2/", "https://eu.gcr.io/v2/token"),
            ("https://europe-docker.pkg.dev/v2/", "https://europe-docker.pkg.dev/v2/token"),
            ("https://acme.azurecr.io/v2/", "https://acme.azurecr.io/oauth2/token"),
            ("https://public.ecr.aws/v2/", "https://public.ecr.aws/token/"),
            ("https://registry.digitalocean.com/v2/", "https://api.digitalocean.com/v2/registry/auth"),
            (
                "https://registry.cn-hangzhou.aliyuncs.com/v2/",
                "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
            ),
            (
                "https://rg.fr-par.scw.cloud/v2/",
                "https://api.scaleway.com/registry-internal/v1/regions/fr-par/tokens",
            ),
            ("https://harbor.example.com/v2/", "https://harbor.example.com/service/token"),
            ("https://registry.local:5000/v2/", "https://registry.local:5001/auth"),
            ("https://10.0.0.5:5000/v2/", "https://10.0.0.5:5001/auth"),
            ("http://registry.local/v2/", "http://registry.local/auth"),
            ("https://a.example.com/artifactory/api/docker/repo/v2/", "token"),
        ] {
            assert!(trusted(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn does_not_trust_other_sites() {
        for (registry, realm) in [
            ("https://registry.example.com/v2/", "https://auth.example.net/token"),
            ("https://registry.example.com/v2/", "https://example.com.evil.net/token"),
            ("https://registry.example.com/v2/", "https://evilexample.com/token"),
            ("https://registry.example.co.uk/v2/", "https://evil.co.uk/token"),
            ("https://a.azurecr.io/v2/", "https://b.github.io/token"),
            ("https://a.github.io/v2/", "https://b.github.io/token"),
            ("https://registry.team-a.svc.cluster.local/v2/", "https://auth.team-b.svc.cluster.local/token"),
            ("https://registry.corp/v2/", "https://auth.corp/token"),
            ("https://10.0.0.5/v2/", "https://10.0.0.6/token"),
            ("https://scw.cloud/v2/", "https://api.scaleway.com/token"),
            ("https://evilscw.cloud/v2/", "https://api.scaleway.com/token"),
            ("https://com/v2/", "https://evil.com/token"),
        ] {
            assert!(!trusted(registry, realm), "{registry} {realm}");
        }
    }

    #[test]
    fn rejects_realms_that_cannot_be_trusted() {
        let registry = "https://registry.example.com/v2/";
        let cause = |realm| service(registry, realm).unwrap_err().cause;
        assert_eq!(cause(""), Distrust::NoRealm);
        assert_eq!(cause("https://[x"), Distrust::NoRealm);
        assert_eq!(cause("data:,x"), Distrust::NoRealm);
        assert_eq!(cause("file:///etc/passwd"), Distrust::NoRealm);
        assert_eq!(cause("http://registry.example.com/token"), Distrust::PlainHttp);
        assert_eq!(cause("https://alice@registry.example.com/token"), Distrust::UserInfo);
        assert_eq!(cause("https://:pw@registry.example.com/token"), Distrust::UserInfo);
    }

    #[test]
    fn resolves_relative_realm_at_the_registry() {
        let realm = |realm| service("https://a.example.com/suffix/v2/", realm).unwrap().realm.to_string();
        assert_eq!(realm("/token"), "https://a.example.com/token");
        assert_eq!(realm("token?x=y#z"), "https://a.example.com/suffix/v2/token?x=y");
        assert_eq!(realm("//b.example.com/token"), "https://b.example.com/token");
    }

    #[test]
    fn parses_a_mebibyte_in_bounded_time() {
        let started = std::time::Instant::now();
        for unit in ["a", "a.", "/", "../", "@", ":", "%2e", "\u{fc}", "xn--a.", "?"] {
            let long = unit.repeat((1 << 20) / unit.len());
            for realm in
                [long.clone(), format!("https://{long}/"), format!("https://auth.example.com/{long}")]
            {
                let found = service("https://registry.example.com/v2/", &realm);
                let _ = found.map(|service| service.with_slash(&service.realm));
            }
        }
        assert!(started.elapsed() < crate::BOUNDED, "{:?}", started.elapsed());
    }

    #[test]
    fn rejects_realm_with_other_scheme() {
        for realm in ["ftp://registry.example.com/token", "wss://registry.example.com/token"] {
            let refused = service("https://registry.example.com/v2/", realm).unwrap_err();
            assert_eq!((refused.cause, refused.service), (Distrust::NoRealm, None), "{realm}");
        }
    }

    #[test]
    fn trusts_only_known_pairs_and_listed_services() {
        assert!(!trusted("https://lscr.io/v2/", "https://evil.example/token"));
        let challenge = Challenge::parse_all([&b"Bearer realm=\"https://auth.example.net/token\""[..]]);
        let registry = Url::parse("https://registry.example.com/v2/").unwrap();
        let trusts = |entry: &str| {
            let listed = [entry.parse().unwrap()];
            TokenService::of(
                &challenge[0],
                &Trust { registry: &registry, listed: &listed, only_registry: false },
            )
            .unwrap()
            .trusted
        };
        assert!(trusts("auth.example.net") && trusts("auth.example.net:443"));
        assert!(!trusts("auth.example.net:8443") && !trusts("other.example.net"));
    }

    #[test]
    fn distrusts_slash_redirect_that_adds_userinfo() {
        let service =
            service("https://registry.example.com/v2/", "https://registry.example.com/token").unwrap();
        let to = |url: &str| service.with_slash(&Url::parse(url).unwrap());
        assert!(to("https://registry.example.com/token/").is_some());
        assert!(to("https://alice@registry.example.com/token/").is_none());
    }

    proptest! {
        #[test]
        fn no_realm_panics_or_crosses_sites(realm in any::<String>(), host in "[a-z.]{1,12}") {
            let _ = service("https://registry.example.com/v2/", &realm);
            if let Ok(service) = service("https://registry.example.com/v2/", &format!("https://{host}/{realm}")) {
                let own = service.server.host.to_string();
                prop_assert_eq!(service.trusted, own == "example.com" || own.ends_with(".example.com"));
            }
        }
    }
}

//! Valid and invalid certificates, made once for all rows, for the host names of rows.

use std::sync::{Arc, LazyLock};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints,
    date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::support::Authority;
use crate::support::certificates::{Leaf, ca_params, self_signed, server_params};
use crate::unusual_certificates::{self, Odd, OddPki};

/// Every name that a host has in some row.
pub const NAMES: [&str; 12] = [
    "registry.example.com",
    "auth.example.com",
    "tokens.example.net",
    "elsewhere.example.org",
    "registry-1.docker.io",
    "auth.docker.io",
    "registry.gitlab.com",
    "gitlab.com",
    "lscr.io",
    "ghcr.io",
    "registry.team.svc.cluster.local",
    "auth.team.svc.cluster.local",
];

/// The certificate that a server presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// A certificate of the company's authority, which the spec gives unless it says otherwise.
    Company,
    /// One of a CA that is neither public nor given.
    Stranger,
    /// One of another CA with the company's name.
    Namesake,
    /// One that signed itself.
    SelfSigned,
    /// One that signed itself, and says that it is an authority.
    SelfSignedAuthority,
    /// One that signed itself, for another host.
    SelfSignedElsewhere,
    /// One that ended.
    Expired,
    /// One that is yet to begin.
    NotYetValid,
    /// One for other hosts.
    OtherHost,
    /// One that names its host as its subject only, as was usual long ago.
    SubjectOnly,
    /// One for a wildcard that covers the host.
    Wildcard,
    /// One for a wildcard one level above the host.
    WildcardAbove,
    /// One for clients only.
    ForClients,
    /// One of an authority below the company's, which is shown too.
    Department,
    /// The same without its issuer.
    DepartmentBare,
    /// One of an authority below the company's that has ended.
    EndedDepartment,
    /// One of an authority that may only sign for other domains.
    ConstrainedDepartment,
    /// One of an authority that has ended, with its own dates in order.
    EndedCompany,
    /// The authority's own certificate, used as a server's.
    AuthorityItself,
    /// Of a stranger, ended, and for another host.
    StrangerExpiredOtherHost,
    /// Of a stranger, for clients, yet to begin, and for another host.
    AllWrong,
    /// Of the company's, but ended and for another host.
    ExpiredOtherHost,
    /// One that clients accept and libraries have limits for.
    Odd(Odd),
    /// One of another authority, valid for twenty years: for clients that know the real time only.
    Lasting,
}

/// Which authority a spec gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenCa {
    Company,
    Stranger,
    Department,
    EndedCompany,
    /// The very certificate that [`CertificateKind::SelfSigned`] shows, and so on.
    SelfSigned,
    SelfSignedAuthority,
    SelfSignedElsewhere,
    /// The leaf that the company signed, given as if it were an authority.
    CompanysLeaf,
    /// A bundle of several, the right one last.
    Bundle,
    /// An authority that has nothing to do with it.
    Unrelated,
    /// The authority, or the certificate itself, that goes with an odd certificate.
    Odd(Odd),
    /// The authority of [`CertificateKind::Lasting`].
    Lasting,
}

/// Whether a server requests a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Nothing.
    NotAsked,
    /// A certificate, if they have one.
    Welcome,
    /// A certificate of the clients' authority.
    Required,
}

/// Which client certificate a spec gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Right,
    OfStrangers,
    Expired,
    /// The right one, with the certificate of its issuer behind it on the same line.
    Joined,
    /// Of X.509 version 1.
    Version1,
    /// With an RSA key of 1,024 bits.
    Rsa1024,
}

/// All that is made once.
pub struct Pki {
    company: Authority,
    stranger: Authority,
    namesake: Authority,
    department: Authority,
    ended_department: Authority,
    constrained_department: Authority,
    ended_company: Authority,
    lasting: Authority,
    unrelated: Authority,
    clients: Authority,
    strange_clients: Authority,
    self_signed: Leaf,
    self_signed_authority: Leaf,
    self_signed_elsewhere: Leaf,
    company_leaf: Leaf,
    right_client: Leaf,
    strange_client: Leaf,
    expired_client: Leaf,
    joined_client: Leaf,
    version_1_client: Leaf,
    rsa_1024_client: Leaf,
    odd: OddPki,
}

/// The one public key infrastructure of all rows.
pub static PKI: LazyLock<Pki> = LazyLock::new(Pki::new);

fn ended(name: &str) -> CertificateParams {
    let mut params = ca_params(name);
    params.not_after = date_time_ymd(2026, 3, 1);
    params
}

fn lasting(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn client_params(until: i32) -> CertificateParams {
    let mut params = server_params(&[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Servers judge these by the real clock.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    params
}

fn own_authority() -> CertificateParams {
    let mut params = server_params(&NAMES);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Pki {
    fn new() -> Self {
        let company = Authority::new("company");
        let mut constrained = ca_params("constrained department");
        constrained.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.edu".into())],
            excluded_subtrees: Vec::new(),
        });
        let (clients, strange_clients) = (Authority::new("clients"), Authority::new("strange clients"));
        Self {
            department: company.intermediate(ca_params("department")),
            ended_department: company.intermediate(ended("ended department")),
            constrained_department: company.intermediate(constrained),
            ended_company: Authority::of(ended("ended company")),
            lasting: Authority::of(lasting(ca_params("lasting"))),
            stranger: Authority::new("stranger"),
            namesake: Authority::new("company"),
            unrelated: Authority::new("unrelated"),
            self_signed: self_signed(&server_params(&NAMES)),
            self_signed_authority: self_signed(&own_authority()),
            self_signed_elsewhere: self_signed(&server_params(&["wrong.example.com"])),
            company_leaf: company.server(&NAMES),
            right_client: clients.sign(&client_params(2040)),
            expired_client: clients.sign(&client_params(2021)),
            strange_client: strange_clients.sign(&client_params(2040)),
            joined_client: joined(clients.sign(&client_params(2040)), &clients),
            version_1_client: unusual_certificates::version_1(),
            rsa_1024_client: unusual_certificates::rsa_1024(),
            odd: OddPki::new(&company),
            company,
            clients,
            strange_clients,
        }
    }

    /// What a server shows at `address`, with the issuers that it shows along.
    fn leaf(&self, shows: CertificateKind, address: &str) -> Leaf {
        let names: Vec<&str> = NAMES.iter().copied().chain([address]).collect();
        let good = || server_params(&names);
        let elsewhere = || server_params(&["wrong.example.com"]);
        match shows {
            CertificateKind::Company => self.company.sign(&good()),
            CertificateKind::Stranger => self.stranger.sign(&good()),
            CertificateKind::Namesake => self.namesake.sign(&good()),
            CertificateKind::SelfSigned => copy(&self.self_signed),
            CertificateKind::SelfSignedAuthority => copy(&self.self_signed_authority),
            CertificateKind::SelfSignedElsewhere => copy(&self.self_signed_elsewhere),
            CertificateKind::Expired => self.company.sign(&expired(good())),
            CertificateKind::NotYetValid => self.company.sign(&not_yet_valid(good())),
            CertificateKind::OtherHost => self.company.sign(&elsewhere()),
            CertificateKind::SubjectOnly => self.company.sign(&subject_only()),
            CertificateKind::Wildcard => self.company.server(&["*.example.com"]),
            CertificateKind::WildcardAbove => self.company.server(&["*.com"]),
            CertificateKind::ForClients => self.company.sign(&for_clients(good())),
            CertificateKind::Department => self.department.sign(&good()).with(&self.department),
            CertificateKind::DepartmentBare => self.department.sign(&good()),
            CertificateKind::EndedDepartment => {
                self.ended_department.sign(&good()).with(&self.ended_department)
            }
            CertificateKind::ConstrainedDepartment => {
                self.constrained_department.sign(&good()).with(&self.constrained_department)
            }
            CertificateKind::EndedCompany => self.ended_company.sign(&good()),
            CertificateKind::AuthorityItself => self.stranger.sign(&authority(good())),
            CertificateKind::StrangerExpiredOtherHost => self.stranger.sign(&expired(elsewhere())),
            CertificateKind::AllWrong => self.stranger.sign(&for_clients(not_yet_valid(elsewhere()))),
            CertificateKind::Lasting => self.lasting.sign(&lasting(server_params(&["localhost", address]))),
            CertificateKind::ExpiredOtherHost => self.company.sign(&expired(elsewhere())),
            CertificateKind::Odd(odd) => self.odd.leaf(odd, &self.company, &good()),
        }
    }

    /// A server at `address` that shows this and asks that of its clients.
    pub fn server(
        &self,
        shows: CertificateKind,
        clients: Clients,
        versions: &[&'static SupportedProtocolVersion],
        address: &str,
    ) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let leaf = self.leaf(shows, address);
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = match self.client_verifier(clients) {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        // Whatever rustls thinks of it.
        let key =
            rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(leaf.key).unwrap();
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(leaf.chain, key))))
    }

    fn client_verifier(&self, clients: Clients) -> Option<Arc<dyn ClientCertVerifier>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.clients.der()).unwrap();
        // A recorder takes a stranger's certificate as well: what counts is that it was shown.
        if clients == Clients::Welcome {
            roots.add(self.strange_clients.der()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        match clients {
            Clients::NotAsked => None,
            Clients::Welcome => Some(builder.allow_unauthenticated().build().unwrap()),
            Clients::Required => Some(builder.build().unwrap()),
        }
    }

    /// The PEM text that a spec gives as its CA.
    pub fn ca_pem(&self, trusts: GivenCa) -> String {
        match trusts {
            GivenCa::Company => self.company.pem(),
            GivenCa::Stranger => self.stranger.pem(),
            GivenCa::Department => self.department.pem(),
            GivenCa::EndedCompany => self.ended_company.pem(),
            GivenCa::SelfSigned => self.self_signed.pem.clone(),
            GivenCa::SelfSignedAuthority => self.self_signed_authority.pem.clone(),
            GivenCa::SelfSignedElsewhere => self.self_signed_elsewhere.pem.clone(),
            GivenCa::CompanysLeaf => self.company_leaf.pem.clone(),
            GivenCa::Bundle => {
                format!("# ours\n{}\n{}{}", self.unrelated.pem(), self.stranger.pem(), self.company.pem())
            }
            GivenCa::Unrelated => self.unrelated.pem(),
            GivenCa::Odd(odd) => self.odd.ca_pem(odd, &self.company, &self.unrelated),
            GivenCa::Lasting => self.lasting.pem(),
        }
    }

    /// The client certificate of a spec, with its key.
    pub fn client(&self, client: Client) -> &Leaf {
        match client {
            Client::Right => &self.right_client,
            Client::OfStrangers => &self.strange_client,
            Client::Expired => &self.expired_client,
            Client::Joined => &self.joined_client,
            Client::Version1 => &self.version_1_client,
            Client::Rsa1024 => &self.rsa_1024_client,
        }
    }

    /// The authority of the clients' certificates.
    pub fn clients_pem(&self) -> String {
        self.clients.pem()
    }

    /// A certificate of the company's for a real server, as PEM: chain and key.
    pub fn for_server(&self, shows: CertificateKind, address: &str) -> (String, String) {
        let leaf = self.leaf(shows, address);
        let issuer = if shows == CertificateKind::Department { self.department.pem() } else { String::new() };
        (format!("{}{issuer}", leaf.pem), leaf.key_pem)
    }
}

fn joined(leaf: Leaf, issuer: &Authority) -> Leaf {
    Leaf { pem: format!("{}{}", leaf.pem.trim_end(), issuer.pem()), ..leaf }
}

fn copy(leaf: &Leaf) -> Leaf {
    Leaf {
        chain: leaf.chain.clone(),
        key: leaf.key.clone_key(),
        pem: leaf.pem.clone(),
        key_pem: leaf.key_pem.clone(),
    }
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_after = date_time_ymd(2026, 2, 1);
    params
}

fn not_yet_valid(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2026, 7, 1);
    params
}

fn for_clients(mut params: CertificateParams) -> CertificateParams {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority(mut params: CertificateParams) -> CertificateParams {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn subject_only() -> CertificateParams {
    let mut params = server_params(&[]);
    params.distinguished_name.push(rcgen::DnType::CommonName, NAMES[0]);
    params
}

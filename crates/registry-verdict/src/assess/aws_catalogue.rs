//! Samples of everything that AWS may refuse, for [`catalogue`](super::catalogue).

use registry_probe::HostPort;

use super::catalogue::{samples, withholdings};
use crate::ecr::{Cause, Denial, KeyRefusal, Outage, OwnIdentityFault, PolicyKind, ProxyTrouble};

const TOKEN: &str = "ecr:GetAuthorizationToken";
const ROLE: &str = "sts:AssumeRole";

pub(super) fn causes(proxy: &HostPort) -> Vec<Cause> {
    let other = || Cause::Other { code: "InvalidParameterException".into() };
    samples!(Cause {
        Cause::KeysRefused(_) => key_refusals().into_iter().map(Cause::KeysRefused).collect::<Vec<_>>(),
        Cause::RoleDenied { .. } => roles(),
        Cause::SessionTooLarge => [Cause::SessionTooLarge],
        Cause::ActionDenied { .. } => {
            denials().into_iter().map(|denial| Cause::ActionDenied { action: TOKEN, denial }).collect::<Vec<_>>()
        },
        Cause::RegionDisabled => [Cause::RegionDisabled],
        Cause::NotSubscribed => [Cause::NotSubscribed],
        Cause::NoEndpoint => [Cause::NoEndpoint],
        Cause::ClockSkew => [Cause::ClockSkew],
        Cause::Throttled => [Cause::Throttled],
        Cause::Unavailable(_) => outages().into_iter().map(Cause::Unavailable).collect::<Vec<_>>(),
        Cause::Withheld(_) => withholdings().into_iter().map(Cause::Withheld).collect::<Vec<_>>(),
        Cause::Proxy { .. } => {
            let troubles = troubles().into_iter();
            troubles.map(|trouble| Cause::Proxy { proxy: proxy.clone(), trouble }).collect::<Vec<_>>()
        },
        Cause::NoOperatorIdentity => [Cause::NoOperatorIdentity],
        Cause::OperatorIdentityRefused(_) => {
            own_faults().into_iter().map(Cause::OperatorIdentityRefused).collect::<Vec<_>>()
        },
        Cause::TokenRefused { .. } => [
            Cause::TokenRefused { forbidden: true, region_of_host: None },
            Cause::TokenRefused { forbidden: false, region_of_host: None },
            Cause::TokenRefused { forbidden: false, region_of_host: Some("eu-west-1".to_owned()) },
        ],
        Cause::Other { .. } => [other()],
    })
}

fn key_refusals() -> Vec<KeyRefusal> {
    use KeyRefusal as R;
    samples!(R {
        R::UnknownKey => [R::UnknownKey],
        R::UnknownKeyOrSession => [R::UnknownKeyOrSession],
        R::WrongSecret => [R::WrongSecret],
        R::Malformed => [R::Malformed],
        R::Expired => [R::Expired],
        R::WrongRegion => [R::WrongRegion],
    })
}

fn roles() -> Vec<Cause> {
    let none = Denial::default();
    let role = |external_id, action, denial| Cause::RoleDenied {
        external_id,
        other_partition: None,
        action,
        denial,
    };
    let mut roles = vec![
        role(false, ROLE, none),
        role(true, ROLE, none),
        Cause::RoleDenied {
            external_id: true,
            other_partition: Some("aws-cn".to_owned()),
            action: ROLE,
            denial: none,
        },
        role(true, "sts:TagSession", none),
        role(true, "sts:SetSourceIdentity", none),
    ];
    roles.extend(
        denials().into_iter().filter(|denial| denial.explicitly).map(|denial| role(false, ROLE, denial)),
    );
    roles
}

fn denials() -> Vec<Denial> {
    let kinds = samples!(PolicyKind {
        PolicyKind::Identity => [PolicyKind::Identity],
        PolicyKind::Resource => [PolicyKind::Resource],
        PolicyKind::PermissionsBoundary => [PolicyKind::PermissionsBoundary],
        PolicyKind::ServiceControl => [PolicyKind::ServiceControl],
        PolicyKind::ResourceControl => [PolicyKind::ResourceControl],
        PolicyKind::Session => [PolicyKind::Session],
        PolicyKind::VpcEndpoint => [PolicyKind::VpcEndpoint],
        PolicyKind::RoleTrust => [PolicyKind::RoleTrust],
    });
    let policies = kinds.into_iter().map(Some).chain([None]);
    policies.flat_map(|policy| [false, true].map(|explicitly| Denial { policy, explicitly })).collect()
}

fn outages() -> Vec<Outage> {
    samples!(Outage {
        Outage::Timeout => [Outage::Timeout],
        Outage::Unreachable => [Outage::Unreachable],
        Outage::Untrusted => [Outage::Untrusted],
        Outage::Status(_) => [Outage::Status(599)],
        Outage::Fault => [Outage::Fault],
        Outage::Unreadable => [Outage::Unreadable],
    })
}

fn own_faults() -> Vec<OwnIdentityFault> {
    use OwnIdentityFault as F;
    samples!(F {
        F::Credentials => [F::Credentials],
        F::TrustPolicy => [F::TrustPolicy],
        F::Token => [F::Token],
    })
}

fn troubles() -> Vec<ProxyTrouble> {
    use ProxyTrouble as T;
    samples!(T {
        T::Unreachable => [T::Unreachable],
        T::Timeout => [T::Timeout],
        T::LoginRejected => [T::LoginRejected],
        T::NoTunnel => [T::NoTunnel],
    })
}

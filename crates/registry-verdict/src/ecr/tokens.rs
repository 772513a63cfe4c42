//! Tokens for ECR's registries, shared by all registries of one tenant that sign in as the same identity at the same
//! place; and the repositories that such an identity sees.
//!
//! Keys are keyed hashes (HMAC-SHA-256 with a secret of this process) over everything that makes one sign-in another than
//! the next, so that no secret is kept longer than a request needs it, and no table of them can be made.

use std::sync::Arc;

use aws_lc_rs::{
    error::Unspecified,
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use registry_probe::{Credentials, RepositoryName};

use super::{
    cache::{Cache, CachedAnswer, Fresh, Taken, Urgency},
    causes::AwsRefusal,
    identity::Login,
};

/// What AWS gives to sign in to a registry with.
#[derive(Debug)]
pub struct EcrToken {
    /// A user name and a password.
    pub credentials: Credentials,
    /// Its end, in AWS's words.
    pub expires_at: Timestamp,
}

/// Asks AWS. The one implementation is [`super::api::Aws`]; nothing is kept behind this.
pub trait Issuer: Send + Sync {
    /// Asks for a token.
    fn issue(&self, login: Login) -> BoxFuture<'static, Result<Fresh<EcrToken>, AwsRefusal>>;

    /// Looks for a repository that is `base` or below it.
    fn find(
        &self,
        login: Login,
        base: RepositoryName,
    ) -> BoxFuture<'static, Result<Fresh<Option<RepositoryName>>, AwsRefusal>>;
}

type TokenFingerprint = [u8; 32];

/// Tokens, and what is seen with them. Shared by all reconciliations.
pub struct EcrTokens {
    issuer: Arc<dyn Issuer>,
    secret: hmac::Key,
    issued: Cache<TokenFingerprint, EcrToken>,
    repositories: Cache<TokenFingerprint, Option<RepositoryName>>,
}

impl EcrTokens {
    /// Nothing is kept yet.
    pub fn new(
        issuer: Arc<dyn Issuer>,
        clock: fn() -> Timestamp,
        chance: fn() -> f64,
    ) -> Result<Self, Unspecified> {
        Ok(Self {
            issuer,
            secret: hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?,
            issued: Cache::new(clock, chance),
            repositories: Cache::new(clock, chance),
        })
    }

    /// A token for `login`, kept or new.
    pub async fn sign_in(&self, login: &Login, urgency: Urgency) -> Result<Taken<EcrToken>, AwsRefusal> {
        let issuer = self.issuer.clone();
        let ask = || issuer.issue(login.clone());
        self.issued.get(&self.fingerprint(login, &[]), urgency, ask).await
    }

    /// Throws a token away that its registry refused; false where another is not likely to be better.
    pub fn discard(&self, login: &Login, token: &Arc<CachedAnswer<EcrToken>>) -> bool {
        self.issued.discard(&self.fingerprint(login, &[]), token)
    }

    /// A repository that is `base` or below it; none where there is none, or AWS does not say.
    pub async fn repository(&self, login: &Login, base: &RepositoryName) -> Option<RepositoryName> {
        let issuer = self.issuer.clone();
        let ask = || issuer.find(login.clone(), base.clone());
        let key = self.fingerprint(login, base.to_string().as_bytes());
        let found = self.repositories.get(&key, Urgency::Due, ask).await;
        found.ok().and_then(|taken| taken.kept.value.clone())
    }

    /// Each part goes in with its length, so that no two lists of parts run together.
    fn fingerprint(&self, login: &Login, purpose: &[u8]) -> TokenFingerprint {
        let mut context = hmac::Context::with_key(&self.secret);
        for part in login.parts().into_iter().chain([purpose]) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

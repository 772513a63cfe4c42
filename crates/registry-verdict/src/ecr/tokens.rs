//! Tokens for ECR registries, shared by all registries of a tenant with the same identity and endpoint, and the
//! repositories that the identity can list.
//!
//! The keys of the cache are keyed hashes (HMAC-SHA-256 with a secret of this process) over everything that
//! distinguishes logins. So no secret is kept longer than for a request, and nobody can compare the keys with guesses.

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

/// A token for an ECR registry.
#[derive(Debug)]
pub struct EcrToken {
    /// The user name and password in the token.
    pub credentials: Credentials,
    /// When the token expires, as AWS says.
    pub expires_at: Timestamp,
}

/// Requests tokens from AWS, without a cache. [`super::api::Aws`] implements it.
pub trait Issuer: Send + Sync {
    /// Requests a token.
    fn issue(&self, login: Login) -> BoxFuture<'static, Result<Fresh<EcrToken>, AwsRefusal>>;

    /// Finds a repository that is `base` or below it.
    fn find(
        &self,
        login: Login,
        base: RepositoryName,
    ) -> BoxFuture<'static, Result<Fresh<Option<RepositoryName>>, AwsRefusal>>;
}

type TokenFingerprint = [u8; 32];

/// The cache of tokens and of repositories.
pub struct EcrTokens {
    issuer: Arc<dyn Issuer>,
    secret: hmac::Key,
    issued: Cache<TokenFingerprint, EcrToken>,
    repositories: Cache<TokenFingerprint, Option<RepositoryName>>,
}

impl EcrTokens {
    /// Creates an empty cache.
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

    /// Returns a token for `login`, from the cache or new.
    pub async fn sign_in(&self, login: &Login, urgency: Urgency) -> Result<Taken<EcrToken>, AwsRefusal> {
        let issuer = self.issuer.clone();
        let ask = || issuer.issue(login.clone());
        self.issued.get(&self.fingerprint(login, &[]), urgency, ask).await
    }

    /// Discards a token that its registry refused. Returns false if a new one is probably not better.
    pub fn discard(&self, login: &Login, token: &Arc<CachedAnswer<EcrToken>>) -> bool {
        self.issued.discard(&self.fingerprint(login, &[]), token)
    }

    /// Returns a repository that is `base` or below it; `None` if there is none, or AWS doesn't say.
    pub async fn repository(&self, login: &Login, base: &RepositoryName) -> Option<RepositoryName> {
        let issuer = self.issuer.clone();
        let ask = || issuer.find(login.clone(), base.clone());
        let key = self.fingerprint(login, base.to_string().as_bytes());
        let found = self.repositories.get(&key, Urgency::Due, ask).await;
        found.ok().and_then(|taken| taken.kept.value.clone())
    }

    /// Hashes each part with its length, so that different lists of parts never have the same input.
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

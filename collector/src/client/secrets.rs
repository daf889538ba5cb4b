//! Secrets, and the header `Authorization` that is made of them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::config::{Authorization, Secret};

/// A secret in a file is read each time, so that a new one needs no reload.
///
/// # Errors
/// Which file can't be read.
pub fn read_secret(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Inline(text) => Ok(text.clone()),
        Secret::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// The value of the header.
pub(super) fn authorization(authorization: &Authorization) -> Result<String, String> {
    match authorization {
        Authorization::Basic { username, password } => {
            Ok(basic(&read_secret(username)?, &read_secret(password)?))
        }
        Authorization::Header { scheme, credentials } => {
            Ok(format!("{scheme} {}", read_secret(credentials)?))
        }
    }
}

pub(super) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

//! Security of the connection to the server.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use syncguard_core::backend::Finding;

/// Reports connections to other hosts that may be unencrypted, or whose server is not verified.
pub(crate) fn finding(options: &PgConnectOptions) -> Option<Finding> {
    if is_local(options) {
        return None;
    }
    let (mode, consequence) = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => return None,
        PgSslMode::Disable => ("disable", PLAINTEXT),
        PgSslMode::Allow => ("allow", PLAINTEXT),
        PgSslMode::Prefer => ("prefer", PLAINTEXT),
        PgSslMode::Require => ("require", UNVERIFIED),
        PgSslMode::VerifyCa => ("verify-ca", UNVERIFIED),
    };
    Some(Finding::warning(format!("sslmode = {mode}"), consequence))
}

const PLAINTEXT: &str = "the password and lock ids go over the network in clear where the server, or \
                         whoever is in between, declines TLS; set sslmode=verify-full";
const UNVERIFIED: &str = "whoever is in between can pose as the server, because its name is not verified; \
                          set sslmode=verify-full";

/// Returns whether the server is on this host.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || is_loopback
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Severity;

    use super::finding;

    #[test]
    fn connections_to_other_hosts_must_be_encrypted_and_verified() {
        for (mode, word) in [
            ("disable", "in clear"),
            ("allow", "in clear"),
            ("prefer", "in clear"),
            ("require", "not verified"),
            ("verify-ca", "not verified"),
        ] {
            for host in ["db.internal", "10.0.0.7", "[fd00::7]", "localhost.example"] {
                let found = finding(&format!("postgres://{host}?sslmode={mode}").parse().unwrap());
                let found = found.unwrap();
                assert_eq!(found.severity, Severity::Warning);
                assert_eq!(found.setting, format!("sslmode = {mode}"), "{host}");
                assert!(found.consequence.contains(word), "{host}: {}", found.consequence);
            }
        }
    }

    #[test]
    fn a_verified_server_and_a_local_server_have_no_finding() {
        for address in [
            "postgres://db.internal?sslmode=verify-full",
            "postgres://localhost?sslmode=disable",
            "postgres://127.0.0.2",
            "postgres://h?host=::1",
            "postgres://h?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/d",
        ] {
            assert!(finding(&address.parse().unwrap()).is_none(), "{address}");
        }
    }
}

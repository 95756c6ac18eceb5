//! Security of the connection to the server.

use std::net::IpAddr;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use syncguard_core::backend::Finding;

/// Reports connections to other hosts that may be unencrypted, or whose server is not verified.
pub(crate) fn finding(options: &MySqlConnectOptions) -> Option<Finding> {
    if is_local(options) {
        return None;
    }
    let (mode, consequence) = match options.get_ssl_mode() {
        MySqlSslMode::VerifyIdentity => return None,
        MySqlSslMode::Disabled => ("DISABLED", PLAINTEXT),
        MySqlSslMode::Preferred => ("PREFERRED", PLAINTEXT),
        MySqlSslMode::Required => ("REQUIRED", UNVERIFIED),
        MySqlSslMode::VerifyCa => ("VERIFY_CA", UNVERIFIED),
    };
    Some(Finding::warning(format!("ssl-mode = {mode}"), consequence))
}

const PLAINTEXT: &str = "the password and lock ids go over the network in clear where the server, or \
                         whoever is in between, declines TLS; set ssl-mode=VERIFY_IDENTITY";
const UNVERIFIED: &str = "whoever is in between can pose as the server, because its name is not verified; \
                          set ssl-mode=VERIFY_IDENTITY";

/// Returns whether the server is on this host.
fn is_local(options: &MySqlConnectOptions) -> bool {
    let host = options.get_host();
    let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    options.get_socket().is_some() || host == "localhost" || is_loopback
}

#[cfg(test)]
mod tests {
    use syncguard_core::backend::Severity;

    use super::finding;

    #[test]
    fn connections_to_other_hosts_must_be_encrypted_and_verified() {
        for (mode, word) in [
            ("DISABLED", "in clear"),
            ("PREFERRED", "in clear"),
            ("REQUIRED", "not verified"),
            ("VERIFY_CA", "not verified"),
        ] {
            for host in ["db.internal", "10.0.0.7", "[fd00::7]", "localhost.example"] {
                let found = finding(&format!("mysql://{host}/d?ssl-mode={mode}").parse().unwrap());
                let found = found.unwrap();
                assert_eq!(found.severity, Severity::Warning);
                assert_eq!(found.setting, format!("ssl-mode = {mode}"), "{host}");
                assert!(found.consequence.contains(word), "{host}: {}", found.consequence);
            }
        }
    }

    #[test]
    fn a_verified_server_and_a_local_server_have_no_finding() {
        for address in [
            "mysql://db.internal/d?ssl-mode=VERIFY_IDENTITY",
            "mysql://localhost/d?ssl-mode=DISABLED",
            "mysql://127.0.0.2/d",
            "mysql://h/d?socket=/run/mysqld.sock",
        ] {
            assert!(finding(&address.parse().unwrap()).is_none(), "{address}");
        }
    }
}

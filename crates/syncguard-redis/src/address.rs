//! Addresses as users write them.

use std::env;

use fred::{
    error::ErrorKind as DriverKind,
    rustls_native_certs::load_native_certs,
    types::config::{Config, Server, ServerConfig},
};
use syncguard_core::address::{check_parameters, check_port, unbracketed};

use crate::error::{DriverError, Failure};

const ADDRESS_RULE: &str = "the address is not of the form redis://[user:password@]host[:port], nor \
                            one with rediss, redis-sentinel, redis-cluster or redis+unix";

/// Parses an address. The error does not repeat the address, because it may hold a password.
pub(crate) fn parse(url: &str) -> Result<Config, Failure> {
    let scheme = url.split("://").next().unwrap_or_default();
    if !is_scheme(scheme) {
        return Err(Failure::Config(ADDRESS_RULE.to_owned()));
    }
    check_parameters(url, parameters(scheme), |_| true)?;
    check_port(url)?;
    let config = Config::from_url(url).map_err(|error| match error.kind() {
        DriverKind::Tls => Failure::Config(certificate_error(&error)),
        _ => Failure::Config(ADDRESS_RULE.to_owned()),
    });
    let mut config = config?;
    for server in servers(&mut config.server) {
        server.host = unbracketed(&server.host).into();
    }
    Ok(config)
}

/// Describes a server for error messages.
pub(crate) fn describe(server: &ServerConfig) -> String {
    let list = |hosts: &[Server]| {
        // The driver keeps those of the parameters before that of the address.
        let mut hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        hosts.sort_unstable();
        hosts.join(", ")
    };
    match server {
        ServerConfig::Centralized { server } => server.to_string(),
        ServerConfig::Clustered { hosts, .. } => format!("the cluster of {}", list(hosts)),
        ServerConfig::Sentinel { hosts, service_name, .. } => {
            format!("{service_name} of the sentinels {}", list(hosts))
        }
        ServerConfig::Unix { path } => path.display().to_string(),
    }
}

/// Explains why the certificates that TLS trusts cannot be loaded.
///
/// The driver reports the reason in a form for programmers, and omits the name of a file that is
/// not PEM.
fn certificate_error(error: &DriverError) -> String {
    let reasons = load_native_certs().errors;
    let reason = reasons.first().map_or_else(|| error.details().to_owned(), ToString::to_string);
    let set = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|variable| {
        env::var_os(variable).map_or_else(String::new, |path| format!("; {variable} is {path:?}"))
    });
    format!("the certificates to trust cannot be loaded: {reason}{}", set.concat())
}

/// The parameters that the driver reads. It ignores all others.
fn parameters(scheme: &str) -> &'static [&'static str] {
    if scheme.ends_with("-sentinel") {
        &["sentinelServiceName", "sentinelUsername", "sentinelPassword", "node"]
    } else if scheme.ends_with("-cluster") {
        &["node"]
    } else {
        &[]
    }
}

/// Returns the servers of an address. The driver leaves the brackets on IPv6 literals.
fn servers(config: &mut ServerConfig) -> &mut [Server] {
    match config {
        ServerConfig::Centralized { server } => std::slice::from_mut(server),
        ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. } => hosts,
        ServerConfig::Unix { .. } => &mut [],
    }
}

/// The driver accepts any scheme in place of `redis`.
fn is_scheme(scheme: &str) -> bool {
    let kind = scheme.strip_prefix("redis").or_else(|| scheme.strip_prefix("valkey"));
    kind.is_some_and(|kind| {
        matches!(kind, "" | "s" | "-cluster" | "s-cluster" | "-sentinel" | "s-sentinel" | "+unix")
    })
}

#[cfg(test)]
mod tests {
    use super::{describe, is_scheme, parse, servers};
    use crate::RedisConfig;

    #[test]
    fn an_invalid_address_is_refused_without_being_repeated() {
        for bad in ["", "localhost", "http://h", "postgres://u:secret@h", "redis://u:secret@h:port"]
        {
            let error = RedisConfig::from_url(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        assert!(!is_scheme("redisx") && !is_scheme("sredis"));
    }

    #[test]
    fn an_ipv6_literal_is_a_host_without_brackets() {
        for url in ["redis://[::1]:7", "redis-cluster://[::1]:7", "valkey://u:p@[::1]/3"] {
            let mut config = parse(url).unwrap();
            let hosts = servers(&mut config.server).iter().map(|server| server.host.to_string());
            assert_eq!(hosts.collect::<Vec<_>>(), ["::1"], "{url}");
        }
    }

    #[test]
    fn a_server_is_described_without_its_credentials() {
        for (url, described) in [
            ("redis://u:secret@cache:6380/3", "cache:6380"),
            ("redis-cluster://u:secret@a:1?node=b:2", "the cluster of a:1, b:2"),
            (
                "redis-sentinel://u:secret@a:1?sentinelServiceName=main&node=b:2",
                "main of the sentinels a:1, b:2",
            ),
            ("redis+unix:///tmp/redis.sock", "/tmp/redis.sock"),
        ] {
            assert_eq!(describe(&parse(url).unwrap().server), described, "{url}");
        }
    }

    #[test]
    fn a_parameter_that_the_driver_does_not_read_is_refused() {
        for (bad, name) in [
            ("redis://u:secret@h?node=i:2", "\"node\""),
            ("redis+unix:///tmp/redis.sock?db=secret", "\"db\""),
            ("redis-cluster://h:1?nodes=secret", "did you mean \"node\"?"),
            ("redis-sentinel://h:1?sentinelServicename=secret", "\"sentinelServiceName\""),
        ] {
            let text = RedisConfig::from_url(bad).unwrap_err().to_string();
            assert!(text.contains(name) && !text.contains("secret"), "{text}");
        }
    }
}

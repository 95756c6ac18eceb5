//! Addresses as users write them.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use syncguard_core::address::{check_parameters, check_port, unbracketed};

use crate::error::Failure;

/// The parameters that the driver knows.
const PARAMETERS: [&str; 19] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "options[]",
];

/// The driver accepts any scheme, logs unknown parameters with their values, and leaves the
/// brackets on an IPv6 literal.
pub(crate) fn parse(url: &str) -> Result<PgConnectOptions, Failure> {
    let rule = "the address is not of the form postgres://[user[:password]@]host[:port][/database]";
    let refused = || Failure::Config(rule.to_owned());
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(refused());
    }
    check_parameters(url, &PARAMETERS, |parameter| {
        PgConnectOptions::from_str(&format!("postgres://host?{parameter}")).is_ok()
    })?;
    check_port(url)?;
    let read = |url: &str| PgConnectOptions::from_str(url).map_err(|_| refused());
    let options = read(url)?;
    match unbracketed(options.get_host()) {
        host if host == options.get_host() => Ok(options),
        // The driver looks the host up in the password file while it reads the address.
        host => {
            let separator = if url.contains('?') { '&' } else { '?' };
            read(&format!("{url}{separator}host={host}"))
        }
    }
}

/// Describes a server for error messages, without credentials.
pub(crate) fn describe(options: &PgConnectOptions) -> String {
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    match options.get_database() {
        Some(database) => format!("{place}/{database}"),
        None => place,
    }
}

#[cfg(test)]
mod tests {
    use syncguard_core::ErrorKind;

    use super::{PARAMETERS, describe, parse};
    use crate::PostgresConfig;

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for bad in ["", "localhost", "mysql://u:secret@h", "postgres://u:secret@h:port"] {
            let error = PostgresConfig::from_url(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn a_literal_of_ipv6_is_a_host_without_brackets() {
        for url in ["postgres://[::1]", "postgres://u@[::1]:7/d?sslmode=require"] {
            assert_eq!(parse(url).unwrap().get_host(), "::1", "{url}");
        }
        assert_eq!(parse("postgres://[::1]/d?host=other").unwrap().get_host(), "other");
        assert_eq!(parse("postgres://u@[::1]:7/d").unwrap().get_port(), 7);
    }

    #[test]
    fn each_parameter_of_the_driver_is_known_and_no_other() {
        let value = |name| match name {
            "sslmode" | "ssl-mode" => "verify-full",
            "hostaddr" => "::1",
            _ => "1",
        };
        let query: Vec<_> = PARAMETERS.map(|name| format!("{name}={}", value(name))).into();
        let config = PostgresConfig::from_url(&format!("postgres://h?{}", query.join("&")));
        config.unwrap().listen_url("postgres://h?sslmode=require").unwrap();
        for (bad, name) in [
            ("sslmod=verify-full", "\"sslmod\"; did you mean \"sslmode\"?"),
            ("sslmode=verify_full", "parameter \"sslmode\""),
            ("target_session_attrs=secret", "\"target_session_attrs\""),
        ] {
            let url = format!("postgres://u:secret@h/d?{bad}");
            let config = PostgresConfig::from_url("postgres://h").unwrap();
            for refused in [PostgresConfig::from_url(&url), config.listen_url(&url)] {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
                let text = format!("{error} {error:?}");
                assert!(text.contains(name) && !text.contains("secret"), "{text}");
                assert!(!text.contains("verify_full"), "{text}");
            }
        }
    }

    #[test]
    fn a_server_is_described_without_its_credentials() {
        for (url, described) in [
            ("postgres://u:secret@db:5433/app", "db:5433/app"),
            ("postgres://u:secret@db/app?sslmode=require", "db:5432/app"),
        ] {
            assert_eq!(describe(&parse(url).unwrap()), described, "{url}");
        }
    }
}

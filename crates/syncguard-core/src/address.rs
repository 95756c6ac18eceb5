//! Rules that the addresses of all stores share: query parameters and IPv6 literals.

use std::borrow::Cow;

use crate::{Error, ErrorKind, Operation, text::Quoted};

/// Rejects an address with a query parameter that the backend does not know, or whose value its
/// driver cannot read. An unread parameter may be a misspelt one that is essential for safety, such
/// as the verification of certificates.
///
/// `known` are the names; `options[]` stands for `options[…]` with any text between the brackets.
/// `is_readable` is called with each parameter, as it is written in the address.
///
/// # Errors
///
/// [`InvalidArgument`](ErrorKind::InvalidArgument), with the name of the parameter and the most
/// similar known name, if there is one. No value is repeated. The name is not repeated either if
/// the text looks like the rest of a password that contains a question mark.
///
/// # Examples
///
/// ```
/// use syncguard_core::address::check_parameters;
///
/// let known = ["sslmode", "options[]"];
/// let check = |address| check_parameters(address, &known, |_| true);
/// assert!(check("postgres://db/app?sslmode=verify-full&options[jit]=off").is_ok());
/// let error = check("postgres://db/app?sslmod=verify-full").unwrap_err().to_string();
/// assert!(error.contains(r#"unknown parameter "sslmod"; did you mean "sslmode"?"#), "{error}");
/// ```
pub fn check_parameters(
    address: &str,
    known: &[&str],
    is_readable: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    if address.contains('#') {
        return Err(invalid("an address must not have a fragment; write # as %23".to_owned()));
    }
    let Some((_, query)) = address.split_once('?') else {
        return Ok(());
    };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = percent_decode(parameter.split_once('=').map_or(parameter, |(name, _)| name));
        if !known.contains(&without_index(&name).as_ref()) {
            return Err(invalid(describe_unknown(&name, known, query.contains('@'))));
        }
        if !is_readable(parameter) {
            let rule = "the value of the parameter {} cannot be read";
            return Err(invalid(rule.replace("{}", &Quoted(&name).to_string())));
        }
    }
    Ok(())
}

/// Rejects an address whose port is not a number. Drivers report it as an address that is invalid for
/// any reason.
///
/// # Errors
///
/// [`InvalidArgument`](ErrorKind::InvalidArgument). The text is not repeated, because it may be a
/// password whose host is missing.
///
/// # Examples
///
/// ```
/// use syncguard_core::address::check_port;
///
/// assert!(check_port("redis://cache:6380/3").is_ok());
/// let error = check_port("redis://cache:redis").unwrap_err().to_string();
/// assert!(error.contains("the port is not a number from 0 to 65535"), "{error}");
/// ```
pub fn check_port(address: &str) -> Result<(), Error> {
    let Some((_, rest)) = address.split_once("://") else {
        return Ok(());
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A slash in a password looks like the end of the host.
    if path.contains('@') {
        return Ok(());
    }
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 literal are within its brackets.
    let host = host.rsplit(']').next().unwrap_or_default();
    match host.split_once(':') {
        Some((_, port)) if !port.is_empty() && port.parse::<u16>().is_err() => {
            Err(invalid("the port is not a number from 0 to 65535".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns a host of an address as it is passed to a call that connects: an IPv6 literal without
/// its brackets, any other host unchanged.
///
/// # Examples
///
/// ```
/// use syncguard_core::address::unbracketed;
///
/// assert_eq!(unbracketed("[::1]"), "::1");
/// assert_eq!(unbracketed("db.internal"), "db.internal");
/// ```
pub fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Returns the error text for an unknown parameter.
fn describe_unknown(name: &str, known: &[&str], is_secret: bool) -> String {
    if is_secret {
        return "unknown parameter, or a question mark in a password, which is written as %3F"
            .to_owned();
    }
    let name = without_index(name);
    let nearest = known.iter().min_by_key(|known| distance(&name, known));
    match nearest.filter(|known| distance(&name, known) <= 2) {
        Some(known) => {
            format!("unknown parameter {}; did you mean {}?", Quoted(&name), Quoted(known))
        }
        None if known.is_empty() => {
            format!("unknown parameter {}; the address has no parameters", Quoted(&name))
        }
        None => {
            format!("unknown parameter {}; known ones are {}", Quoted(&name), known.join(", "))
        }
    }
}

/// Removes the text between the brackets at the end.
fn without_index(name: &str) -> Cow<'_, str> {
    match name.split_once('[') {
        Some((list, index)) if index.ends_with(']') => Cow::Owned(format!("{list}[]")),
        _ => Cow::Borrowed(name),
    }
}

/// Decodes percent-encoding, and plus signs as spaces, as browsers and drivers do.
fn percent_decode(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &tail[2..];
            }
            (byte, ..) => {
                bytes.push(if *byte == b'+' { b' ' } else { *byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Counts the characters to insert, remove or replace to get from one name to the other, ignoring
/// case (the Levenshtein distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.chars().count()]
}

fn invalid(rule: String) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_operation(Operation::Connect).with_detail(rule)
}

#[cfg(test)]
mod tests {
    use super::{check_parameters, check_port, distance, unbracketed};
    use crate::ErrorKind;

    const KNOWN: [&str; 3] = ["sslmode", "host", "options[]"];

    fn error_text(address: &str) -> String {
        let readable = |parameter: &str| parameter != "sslmode=hunter2";
        let error = check_parameters(address, &KNOWN, readable).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
        text
    }

    #[test]
    fn known_parameters_are_accepted_in_every_encoding() {
        for query in
            ["", "?", "?sslmode=x", "?ssl%6dode=x&&host", "?options[a]=b", "?options%5Ba%5D=b"]
        {
            let checked = check_parameters(&format!("s://h{query}"), &KNOWN, |_| true);
            assert!(checked.is_ok(), "{query}");
        }
    }

    #[test]
    fn the_error_names_an_unknown_parameter_without_its_value() {
        for name in ["sslmod", "ssl_mode", "SSLMODE", "sslmode ", "ssl\tmode"] {
            let text = error_text(&format!("s://h/d?host=h&{name}=hunter2"));
            assert!(text.contains(r#"did you mean "sslmode"?"#), "{name}: {text}");
        }
        let text = error_text("s://h?options[a=hunter2");
        assert!(text.contains("options[a"), "{text}");
        let text = error_text("s://h?verification=hunter2");
        assert!(text.contains("known ones are sslmode, host, options[]"), "{text}");
    }

    #[test]
    fn the_error_for_an_unreadable_value_does_not_contain_it() {
        assert!(error_text("s://h?host=h&sslmode=hunter2").contains(r#"parameter "sslmode""#));
    }

    #[test]
    fn no_error_contains_a_password_that_is_not_escaped() {
        for address in ["s://u:1?hunter2@h", "s://u:1?hunter2=@h?sslmode=x", "s://u:1#hunter2@h"] {
            error_text(address);
        }
    }

    #[test]
    fn the_distance_counts_single_changes() {
        for (one, other, count) in
            [("", "", 0), ("a", "A", 0), ("sslmod", "sslmode", 1), ("ab", "ba", 2), ("", "abc", 3)]
        {
            assert_eq!(distance(one, other), count, "{one} {other}");
            assert_eq!(distance(other, one), count, "{other} {one}");
        }
    }

    #[test]
    fn a_port_that_is_no_number_is_reported_without_being_repeated() {
        for address in
            ["s://h:hunter2", "s://u:p@h:hunter2/d", "s://[::1]:hunter2", "s://h:65536?a=b"]
        {
            let error = check_port(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let text = format!("{error} {error:?}");
            assert!(text.contains("the port") && !text.contains("hunter2"), "{text}");
        }
        for address in [
            "h",
            "s://",
            "s://h",
            "s://h:",
            "s://u:p@h:7/d",
            "s://[::1]",
            "s:///a:b",
            "s://u:1/x@h",
        ] {
            assert!(check_port(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn only_ipv6_literals_lose_their_brackets() {
        for (host, plain) in [("[::1]", "::1"), ("::1", "::1"), ("db", "db"), ("[", "[")] {
            assert_eq!(unbracketed(host), plain);
        }
    }
}

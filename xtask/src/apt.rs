//! Installs packages on Debian and Ubuntu.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use syncguard_testkit::find::{Executable, Missing};

use crate::{
    command::{Call, call},
    failure::Failure,
};

// Installed servers are not started: each variable prevents that on one kind of init system.
const ENVIRONMENT: &str = "DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1";

/// Installs the packages of the missing programs.
pub(crate) fn install(missing: &[Missing]) -> Result<(), Failure> {
    if !is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        return missing.first().map_or(Ok(()), |missing| Err((*missing).into()));
    }
    let packages = packages(missing.iter().map(Missing::executable));
    calls(&packages, Privilege::current()).into_iter().try_for_each(Call::run)
}

/// How to become root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    fn current() -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if is_root { Self::Root } else { Self::Sudo }
    }
}

fn calls(packages: &[&str], privilege: Privilege) -> Vec<Call> {
    let tasks = ["update".to_owned(), {
        let packages = packages.join(" ");
        format!("install --yes --no-install-recommends {packages}")
    }];
    let prepare = |task: String| match privilege {
        Privilege::Root => call(Path::new("env"), &format!("{ENVIRONMENT} apt-get {task}")),
        Privilege::Sudo => call(Path::new("sudo"), &format!("env {ENVIRONMENT} apt-get {task}")),
    };
    if packages.is_empty() { Vec::new() } else { tasks.map(prepare).into() }
}

/// Returns each package once.
fn packages(missing: impl Iterator<Item = Executable>) -> Vec<&'static str> {
    let mut packages: Vec<&str> = missing.map(|executable| executable.package()).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Returns whether the text of os-release(5) is that of Debian, Ubuntu, or a derivative.
fn is_debian(os_release: &str) -> bool {
    let names = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    let mut names = names.flat_map(|names| names.trim_matches('"').split_whitespace());
    names.any(|name| matches!(name, "debian" | "ubuntu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_two_programs_is_installed_once() {
        let missing = [Executable::POSTGRES, Executable::REDIS_CLI, Executable::INITDB];
        assert_eq!(packages(missing.into_iter()), ["postgresql", "redis-tools"]);
    }

    #[test]
    fn packages_are_installed_after_one_update_and_start_no_service() {
        let calls = calls(&["redis-server", "redis-tools"], Privilege::Sudo);
        let lines: Vec<String> = calls.iter().map(ToString::to_string).collect();
        let apt = "sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1 apt-get";
        let install = "install --yes --no-install-recommends redis-server redis-tools";
        assert_eq!(lines, [format!("{apt} update"), format!("{apt} {install}")]);
    }

    #[test]
    fn nothing_is_installed_if_nothing_is_missing() {
        assert!(calls(&[], Privilege::Root).is_empty());
    }

    #[test]
    fn derivatives_of_debian_are_detected_by_id_like() {
        assert!(is_debian("NAME=x\nID=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nHOME_URL=\"https://debian.org\"\n"));
        assert!(!is_debian(""));
    }
}

use std::{fs, os::unix::fs::PermissionsExt};

use syncguard_testkit::find::{Executable, SearchPath, Store};

#[test]
fn the_first_directory_that_contains_a_program_wins() {
    let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for directory in &directories[1..] {
        let program = directory.path().join("redis-server");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let found = SearchPath::of(directories.each_ref().map(tempfile::TempDir::path));
    let found = found.find(&Executable::REDIS_SERVER).unwrap();
    assert_eq!(found, directories[1].path().join("redis-server"));
}

#[test]
fn a_file_that_is_not_executable_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("redis-server"), "").unwrap();
    let directories = SearchPath::of([directory.path()]);
    assert!(directories.find(&Executable::REDIS_SERVER).is_err());
}

#[test]
fn a_program_is_found_by_its_alternative_name() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("valkey-server");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let directories = SearchPath::of([directory.path()]);
    assert_eq!(directories.find(&Executable::REDIS_SERVER), Ok(program));
}

#[test]
fn the_error_of_a_missing_server_names_every_way_to_get_it() {
    for store in Store::ALL {
        for program in store.programs() {
            let missing = SearchPath::of(["/nowhere"]).find(program).unwrap_err();
            let text = missing.to_string();
            let compose = format!("compose/{}.yml", store.name());
            let install = format!("apt-get install {}", program.package());
            for way in [
                program.name(),
                store.variable(),
                &compose,
                &install,
                "cargo xtask test --install",
                "PATH",
            ] {
                assert!(text.contains(way), "{text}");
            }
        }
    }
}

#[test]
fn the_error_of_a_missing_tool_does_not_mention_servers() {
    let missing = SearchPath::of(["/nowhere"]).find(&Executable::CC).unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("apt-get install build-essential"), "{text}");
    assert!(!text.contains("xtask"), "{text}");
}

use std::{fs, os::unix::fs::PermissionsExt};

use syncguard_testkit::find::{Executable, Places, Store};

#[test]
fn the_first_place_that_has_a_program_wins() {
    let places = [(); 3].map(|()| tempfile::tempdir().unwrap());
    for place in &places[1..] {
        let program = place.path().join("redis-server");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let found = Places::only(places.each_ref().map(tempfile::TempDir::path));
    let found = found.find(&Executable::REDIS_SERVER).unwrap();
    assert_eq!(found, places[1].path().join("redis-server"));
}

#[test]
fn a_file_that_cannot_be_run_is_no_program() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("redis-server"), "").unwrap();
    let places = Places::only([place.path()]);
    assert!(places.find(&Executable::REDIS_SERVER).is_err());
}

#[test]
fn a_program_that_goes_by_another_name_is_found() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("valkey-server");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let places = Places::only([place.path()]);
    assert_eq!(places.find(&Executable::REDIS_SERVER), Ok(program));
}

#[test]
fn a_missing_server_is_told_with_every_way_to_get_it() {
    for store in Store::ALL {
        for program in store.programs() {
            let missing = Places::only(["/nowhere"]).find(program).unwrap_err();
            let told = missing.to_string();
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
                assert!(told.contains(way), "{told}");
            }
        }
    }
}

#[test]
fn a_missing_tool_is_told_without_servers() {
    let missing = Places::only(["/nowhere"]).find(&Executable::CC).unwrap_err();
    let told = missing.to_string();
    assert!(told.contains("apt-get install build-essential"), "{told}");
    assert!(!told.contains("xtask"), "{told}");
}

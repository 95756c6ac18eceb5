//! The key of display hashes is global to the process, so this test has its own process.

use syncguard_core::{DisplayHash, Error, ErrorKind, LockId, LockKey, Operation};

#[test]
fn the_hash_key_applies_to_all_displayed_hashes_and_is_set_only_once() -> Result<(), Error> {
    let key = LockKey::new("payment:42")?;
    let id: LockId = "abcdefghijklmnopqrstuv".parse()?;
    let plain = [key.to_string(), id.to_string()];

    DisplayHash::set_key([7; 32])?;
    let keyed = [key.to_string(), id.to_string()];
    // `printf payment:42 | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…`, and so for the id.
    assert_eq!(keyed, ["374a7df3678d8263cc24e3c4", "b5516de46a31ec01a8384de7"]);
    assert!(keyed.iter().all(|hash| !plain.contains(hash)));
    assert_eq!(key.display_hash().to_string(), keyed[0]);
    assert_eq!(format!("{key:?} {id:?}"), format!("LockKey({}) LockId({})", keyed[0], keyed[1]));
    let error = Error::new(ErrorKind::Internal)
        .with_operation(Operation::Acquire)
        .with_key(&key)
        .with_lock_id(id);
    assert!(error.to_string().contains(&keyed[0]), "{error}");
    assert!(!format!("{error} {error:?}").contains(&plain[0]), "{error:?}");

    // It may be set again only to the same value.
    DisplayHash::set_key([7; 32])?;
    let rejected = DisplayHash::set_key([8; 32]).map_err(|invalid| Error::from(invalid).kind());
    assert_eq!(rejected, Err(ErrorKind::InvalidArgument));
    assert_eq!(key.to_string(), keyed[0], "the first key stays in use");
    Ok(())
}

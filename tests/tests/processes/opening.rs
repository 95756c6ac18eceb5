//! Many processes that come at once.

use syncguard_core::Ttl;
use syncguard_testkit::contender::{Contender, Order, Upkeep, Word};

use super::{Stage, acquire, granted, start};

const CROWD: u64 = 50;

#[test]
fn fifty_processes_that_open_one_fresh_file_at_once_all_get_to_work() {
    let stage = Stage::new();
    let mut crowd: Vec<_> = (0..CROWD).map(|_| start()).collect();
    assert!(!stage.store().exists());
    for contender in &mut crowd {
        contender.tell(&Order::Open(stage.store())).unwrap();
    }
    for contender in &mut crowd {
        assert_eq!(contender.hear().unwrap(), Word::Opened);
        contender.tell(&acquire(Ttl::default(), Upkeep::LeftAlone)).unwrap();
        contender.tell(&Order::Release).unwrap();
    }
    let fence = |contender: &mut Contender| {
        assert_eq!(contender.hear().unwrap(), Word::Waiting);
        let fence = granted(contender);
        assert_eq!(contender.hear().unwrap(), Word::Released);
        fence.number()
    };
    let mut fences: Vec<u64> = crowd.iter_mut().map(fence).collect();
    fences.sort_unstable();
    assert_eq!(fences, (1..=CROWD).collect::<Vec<_>>());
    for contender in crowd {
        contender.finish().unwrap();
    }
}

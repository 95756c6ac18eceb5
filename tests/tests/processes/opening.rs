//! Many processes that start at the same time.

use syncguard_core::Ttl;
use syncguard_testkit::contender::{Command, Contender, Renewal, Reply};

use super::{SharedDir, acquire, granted, start};

const PROCESSES: u64 = 50;

#[test]
fn fifty_processes_can_create_and_open_one_file_at_the_same_time() {
    let dir = SharedDir::new();
    let mut contenders: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    assert!(!dir.store().exists());
    for contender in &mut contenders {
        contender.send(&Command::Open(dir.url())).unwrap();
    }
    for contender in &mut contenders {
        assert_eq!(contender.receive().unwrap(), Reply::Opened);
        contender.send(&acquire(Ttl::default(), Renewal::Disabled)).unwrap();
        contender.send(&Command::Release).unwrap();
    }
    let fence = |contender: &mut Contender| {
        assert_eq!(contender.receive().unwrap(), Reply::Waiting);
        let fence = granted(contender);
        assert_eq!(contender.receive().unwrap(), Reply::Released);
        fence.number()
    };
    let mut fences: Vec<u64> = contenders.iter_mut().map(fence).collect();
    fences.sort_unstable();
    assert_eq!(fences, (1..=PROCESSES).collect::<Vec<_>>());
    for contender in contenders {
        contender.finish().unwrap();
    }
}

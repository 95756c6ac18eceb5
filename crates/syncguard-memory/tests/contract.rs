//! The contract suite on the in-process backend, with and without an observer.

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile},
    telemetry::Observed,
};
use syncguard_memory::MemoryBackend;

struct Memory(MemoryBackend);

impl Harness for Memory {
    type Backend = MemoryBackend;

    fn profile() -> Profile {
        Profile::in_process("memory")
    }

    async fn start() -> Self {
        Self(MemoryBackend::new())
    }

    async fn client(&self) -> MemoryBackend {
        self.0.clone()
    }

    async fn seeding_client(&self) -> Option<MemoryBackend> {
        Some(self.0.clone().seed_new_counters())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.0.seed_fence(key, fence);
        Hook::Done
    }
}

syncguard_core::contract_tests!(Memory);

/// The same backend with an observer, which must not change its behaviour.
struct ObservedMemory(Observed<MemoryBackend>);

impl Harness for ObservedMemory {
    type Backend = Observed<MemoryBackend>;

    fn profile() -> Profile {
        Profile::in_process("memory, observed")
    }

    async fn start() -> Self {
        Self(Observed::new(MemoryBackend::new(), |_| ()))
    }

    async fn client(&self) -> Observed<MemoryBackend> {
        self.0.clone()
    }

    async fn seeding_client(&self) -> Option<Observed<MemoryBackend>> {
        Some(Observed::new(self.0.backend().clone().seed_new_counters(), |_| ()))
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.0.backend().seed_fence(key, fence);
        Hook::Done
    }
}

mod observed {
    use super::ObservedMemory;

    syncguard_core::contract_tests!(ObservedMemory);
}

//! The contract suite on the in-process backend.

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile},
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

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.0.seed_fence(key, fence);
        Hook::Done
    }
}

syncguard_core::contract_tests!(Memory);

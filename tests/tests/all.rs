//! The tests that cross the crates: the lock layer in virtual time, and many processes on one store.

#![cfg(test)]

mod layer;
mod processes;

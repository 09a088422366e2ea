//! Locks, atomics and the cell of a snapshot: the usual ones, or under `--cfg railbus_loom` those of
//! loom, with which `cargo xtask loom` runs the code that uses them in every order of its steps.

#[cfg(not(all(test, railbus_loom)))]
pub(crate) use arc_swap::{ArcSwap, Guard};
#[cfg(not(all(test, railbus_loom)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(all(test, railbus_loom))]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
#[cfg(all(test, railbus_loom))]
pub(crate) use modelled::{ArcSwap, Guard};

/// arc-swap as its users may rely on it: each load and each store is one step.
#[cfg(all(test, railbus_loom))]
mod modelled {
    use super::Mutex;
    use std::{
        ops::Deref,
        sync::{Arc, PoisonError},
    };

    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    #[derive(Debug)]
    pub(crate) struct Guard<T>(T);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            Guard(Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *now, value);
            // What the old value lets go of is no part of the step.
            drop(now);
            drop(before);
        }
    }

    impl<T> Deref for Guard<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }
}

//! Keeping silent about panics that a simulation looks for.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{set_hook, take_hook},
    sync::Once,
};

thread_local! {
    /// Whether panics of this thread are told by somebody else.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the last of them was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of this thread are not printed as long as this is there.
pub(super) struct Quiet(());

impl Quiet {
    pub(super) fn new() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let before = take_hook();
            set_hook(Box::new(move |panic| {
                if !QUIET.get() {
                    return before(panic);
                }
                let place = panic.location().map(|place| format!("{place}: "));
                PLACE.replace(place.unwrap_or_default());
            }));
        });
        QUIET.set(true);
        Self(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.set(false);
    }
}

/// Returns what a panic said, and where.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    PLACE.with_borrow(|place| format!("{place}{}", said.unwrap_or("a panic")))
}

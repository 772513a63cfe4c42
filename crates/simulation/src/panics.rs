//! Panics of tasks, which tokio keeps from ending the process: the histories' invariants must see them.

use std::{
    cell::RefCell,
    panic::{set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes every panic from now on, in addition to what is done about it before.
pub fn note_all() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
}

/// Returns the panics in this thread since the last call.
pub fn take() -> Vec<String> {
    PANICS.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sees_the_panic_of_a_task() {
        note_all();
        assert!(tokio::spawn(async { panic!("a defect") }).await.is_err());
        let panics = take();
        assert!(panics.len() == 1 && panics[0].contains("a defect"), "{panics:?}");
        assert!(take().is_empty());
    }
}

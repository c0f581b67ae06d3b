//! Decoders of others get arbitrary bytes, and some panic.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`; a panic in it prints nothing and becomes an error.
///
/// # Errors
/// The text of the panic.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                others(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(outer);
    result.map_err(|panic| format!("the decoder panicked: {}", text(&*panic)))
}

fn text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_the_next_call_works() {
        let empty: &[u8] = &[];
        let error = guarded(|| empty[empty.len()]).unwrap_err();
        assert_eq!(error, "the decoder panicked: index out of bounds: the len is 0 but the index is 0");
        assert_eq!(guarded(|| 7), Ok(7));
        assert!(!GUARDED.get(), "panics outside are printed");
    }
}

//! Ctrl-C, and a polite request to terminate (SIGTERM, SIGHUP): the first one asks the loop to stop after the step at hand, a second one ends the process at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();

/// Listens from now on.
pub fn listen() {
    HANDLER.call_once(|| {
        let handler = || {
            if ASKED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            crate::output::tell!(
                "\nfinishing this step, then saving; Ctrl-C again stops at once without saving"
            );
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            tracing::warn!("Ctrl-C will stop the run without saving: {error}");
        }
    });
}

/// Whether Ctrl-C was pressed.
#[must_use]
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

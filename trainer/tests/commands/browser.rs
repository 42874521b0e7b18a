//! A headless browser, where there is one on the machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The browser on the PATH. Where there is none, says so: a test that returns then counts as passed.
pub fn find(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        // `eprintln` would be kept from the reader: the test harness shows what it prints of failed tests only.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: no browser, none of {} is on the PATH; install Chromium to test the pages",
            NAMES.join(", ")
        );
    }
    found
}

fn headless(browser: &Path, page: &Path, fragment: &str, more: &[String]) -> Vec<u8> {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=4000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg(format!("file://{}{fragment}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The document as it stands after its scripts have run; `fragment` is empty or begins with `#`.
pub fn dom(browser: &Path, page: &Path, fragment: &str) -> String {
    String::from_utf8(headless(browser, page, fragment, &["--dump-dom".into()])).unwrap()
}

/// A picture of the page, PNG; `dark` asks for the dark colours.
pub fn picture(browser: &Path, page: &Path, dark: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.png");
    let scheme = if dark { 0 } else { 1 };
    let more = [
        format!("--screenshot={}", file.display()),
        "--window-size=1200,2400".into(),
        format!("--blink-settings=preferredColorScheme={scheme}"),
    ];
    headless(browser, page, "", &more);
    std::fs::read(file).unwrap()
}

/// What stands between `start` and the next `end`, everywhere in `text`.
pub fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end).map(|(inside, _)| inside)).collect()
}

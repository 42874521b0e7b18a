//! Documents in another language than their domain's name says: translated licences among English ones, for example.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use whatlang::{Lang, detect};

use super::text::each_document;

/// What was left out of a domain, and what it has in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub documents: usize,
    pub of_documents: usize,
    pub bytes: usize,
    pub of_bytes: usize,
}

/// The language that a domain's name ends in.
fn expected(domain: &str) -> Option<Lang> {
    match domain.rsplit_once('_')?.1 {
        "en" => Some(Lang::Eng),
        "fr" => Some(Lang::Fra),
        _ => None,
    }
}

/// Whether a text is surely not in its domain's language. What is too short to tell, or in a domain without one, is not.
fn foreign(domain: &str, text: &str) -> bool {
    let Some(expected) = expected(domain) else { return false };
    detect(text).is_some_and(|found| found.is_reliable() && found.lang() != expected)
}

/// Copies the lines of `from` but for foreign documents to `to`, and says what was left out of the domains that had any.
pub fn without_foreign(from: &Path, to: &Path) -> Result<BTreeMap<String, LeftOut>, String> {
    let draft = to.with_extension("draft");
    let failed = |error: std::io::Error| format!("{}: {error}", draft.display());
    let mut left_out: BTreeMap<String, LeftOut> = BTreeMap::new();
    let mut out = BufWriter::new(File::create(&draft).map_err(failed)?);
    each_document(from, |line, domain, text| {
        let count = left_out.entry(domain.to_owned()).or_default();
        count.of_documents += 1;
        count.of_bytes += text.len();
        if foreign(domain, text) {
            count.documents += 1;
            count.bytes += text.len();
            return Ok(());
        }
        writeln!(out, "{line}")
    })?;
    out.flush().and_then(|()| std::fs::rename(&draft, to)).map_err(failed)?;
    left_out.retain(|_, count| count.documents > 0);
    Ok(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "Diese Lizenz gilt für jedes Programm, das von seinen Urhebern unter ihre Bedingungen gestellt wird. \
        Der Lizenznehmer darf das Programm vervielfältigen, verbreiten und verändern.";
    const ENGLISH: &str = "This license applies to every program that its authors put under these terms. You may copy the \
        program, pass it on and change it, as long as this notice is kept.";

    #[test]
    fn a_translation_is_foreign_to_its_domain_and_what_has_no_language_is_not() {
        assert!(foreign("legal_en", GERMAN));
        assert!(!foreign("legal_en", ENGLISH));
        assert!(foreign("wiki_fr", ENGLISH));
        assert!(!foreign("code_rust", GERMAN));
        assert!(!foreign("legal_en", "MIT"));
    }

    #[test]
    fn foreign_lines_are_left_out_and_counted() {
        let folder = std::env::temp_dir().join(format!("emo-language-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from.jsonl"), folder.join("to.jsonl"));
        let line = |domain: &str, text: &str| serde_json::json!({"domain": domain, "text": text}).to_string();
        let (kept, code) = (line("legal_en", ENGLISH), line("code_rust", GERMAN));
        std::fs::write(&from, [kept.as_str(), &line("legal_en", GERMAN), &code].join("\n")).unwrap();
        let left_out = without_foreign(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), format!("{kept}\n{code}\n"));
        let legal = LeftOut {
            documents: 1,
            of_documents: 2,
            bytes: GERMAN.len(),
            of_bytes: GERMAN.len() + ENGLISH.len(),
        };
        assert_eq!(left_out, BTreeMap::from([("legal_en".to_owned(), legal)]));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

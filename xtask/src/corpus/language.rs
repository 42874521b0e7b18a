//! Documents in another language than their domain's name says: translated licences among English ones, for example.

use whatlang::{Lang, detect};

/// The language that a domain's name ends in.
fn expected(domain: &str) -> Option<Lang> {
    match domain.rsplit_once('_')?.1 {
        "en" => Some(Lang::Eng),
        "fr" => Some(Lang::Fra),
        _ => None,
    }
}

/// Whether a text is surely not in its domain's language. What is too short to tell, or in a domain without one, is not.
pub fn foreign(domain: &str, text: &str) -> bool {
    let Some(expected) = expected(domain) else { return false };
    detect(text).is_some_and(|found| found.is_reliable() && found.lang() != expected)
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
}

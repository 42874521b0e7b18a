//! From likelihoods to scores: pure functions.
//!
//! Of a continuation with log-likelihood `l` (nats), `c` characters, `b` bytes and `n` tokens, a question is answered by the
//! choice with the largest `l`, `l / c`, `l / b` or `l / n`, of equal ones the first. `-l / (b ln 2)` of the right
//! choice are its bits per byte; a benchmark's are the mean over its questions. All as in ai2-olmo-eval 0.9.0 (`metrics.py`,
//! where `acc_per_char` is called `len_norm`, and `_v1` leaves the first character, most often a space, out of the lengths).

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

/// How likely a model finds a continuation, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// `sum ln p(token | all before it)` over its tokens.
    pub log: f64,
    /// Characters (Unicode scalar values).
    pub chars: usize,
    /// Bytes of its UTF-8.
    pub bytes: usize,
    /// Bytes without its first character.
    pub bytes_after_first: usize,
    /// Tokens.
    pub tokens: usize,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Share of right answers by log-likelihood.
    Accuracy,
    /// By log-likelihood per character.
    AccuracyPerChar,
    /// Per byte.
    AccuracyPerByte,
    /// Per token.
    AccuracyPerToken,
    /// Bits per byte of right choices.
    BitsPerByte,
    /// The same without the first character in the length.
    BitsPerByteAfterFirst,
    /// Nats per character of right choices.
    NatsPerChar,
    /// Mean probability of the right choice, of all choices by their log-likelihoods.
    RightShare,
    /// F1 of the first choice as the positive one, by log-likelihood.
    F1OfFirst,
    /// Share of written answers that equal a right one.
    ExactMatch,
    /// Mean F1 of the words of written answers and the closest right ones.
    WordF1,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Accuracy,
        Self::AccuracyPerChar,
        Self::AccuracyPerByte,
        Self::AccuracyPerToken,
        Self::BitsPerByte,
        Self::BitsPerByteAfterFirst,
        Self::NatsPerChar,
        Self::RightShare,
        Self::F1OfFirst,
        Self::ExactMatch,
        Self::WordF1,
    ];

    /// As results name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "acc_raw",
            Self::AccuracyPerChar => "acc_per_char",
            Self::AccuracyPerByte => "acc_per_byte",
            Self::AccuracyPerToken => "acc_per_token",
            Self::BitsPerByte => "bits_per_byte",
            Self::BitsPerByteAfterFirst => "bits_per_byte_v1",
            Self::NatsPerChar => "ce_loss",
            Self::RightShare => "soft",
            Self::F1OfFirst => "f1_of_first",
            Self::ExactMatch => "exact_match",
            Self::WordF1 => "word_f1",
        }
    }

    /// The metric that a task's configuration names. What the package measures in bits per byte, whatever the configuration
    /// would measure in answers written out, is bits per byte.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "logits_per_byte" | "bits_per_byte_corr" | "exact_match" => Some(Self::BitsPerByte),
            _ => Self::ALL.into_iter().find(|metric| metric.name() == name),
        }
    }
}

/// Values of a benchmark.
pub type Scores = BTreeMap<Metric, f64>;

/// The place of the largest value, of equal ones the first.
#[must_use]
pub fn largest(values: &[f64]) -> usize {
    let better = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).reduce(better).unwrap_or(0)
}

/// The choice by `log / length`; what has no length is judged by its log-likelihood.
#[must_use]
pub fn choice(choices: &[Likelihood], length: impl Fn(&Likelihood) -> usize) -> usize {
    let values: Vec<f64> = choices.iter().map(|choice| choice.log / length(choice).max(1) as f64).collect();
    largest(&values)
}

/// Bits per byte.
#[must_use]
pub fn bits_per_byte(log: f64, bytes: usize) -> f64 {
    -log / (bytes.max(1) as f64 * LN_2)
}

/// `softmax(log-likelihoods)` at `label`.
#[must_use]
pub fn right_share(choices: &[Likelihood], label: usize) -> f64 {
    let most = choices.iter().map(|choice| choice.log).fold(f64::NEG_INFINITY, f64::max);
    let weight = |choice: &Likelihood| (choice.log - most).exp();
    weight(&choices[label]) / choices.iter().map(weight).sum::<f64>()
}

/// F1 with class 0 as the positive one; 0 where there is none of it among the labels or none among the answers.
#[must_use]
pub fn f1_of_first(labels: &[usize], answers: &[usize]) -> f64 {
    let count = |of: &dyn Fn(usize, usize) -> bool| {
        labels.iter().zip(answers).filter(|&(&label, &answer)| of(label, answer)).count() as f64
    };
    let both = count(&|label, answer| label == 0 && answer == 0);
    let (right, given) = (count(&|label, _| label == 0), count(&|_, answer| answer == 0));
    if both == 0.0 { 0.0 } else { 2.0 * both / (right + given) }
}

/// Scores of questions whose choices all have likelihoods: `(choices, label)` of each. Accuracies are there where questions
/// have choices to choose from.
#[must_use]
pub fn score(questions: &[(Vec<Likelihood>, usize)]) -> Scores {
    let mut scores = Scores::new();
    let mean = |of: &dyn Fn(&[Likelihood], usize) -> f64| {
        questions.iter().map(|(choices, label)| of(choices, *label)).sum::<f64>() / questions.len() as f64
    };
    if questions.is_empty() {
        return scores;
    }
    let length = |of: fn(&Likelihood) -> usize| {
        mean(&|choices, label| f64::from(u8::from(choice(choices, of) == label)))
    };
    if questions.iter().any(|(choices, _)| choices.len() > 1) {
        scores.insert(Metric::Accuracy, length(|_| 1));
        scores.insert(Metric::AccuracyPerChar, length(|choice| choice.chars));
        scores.insert(Metric::AccuracyPerByte, length(|choice| choice.bytes));
        scores.insert(Metric::AccuracyPerToken, length(|choice| choice.tokens));
        scores.insert(Metric::RightShare, mean(&right_share));
        let labels: Vec<usize> = questions.iter().map(|(_, label)| *label).collect();
        let answers: Vec<usize> = questions.iter().map(|(choices, _)| choice(choices, |_| 1)).collect();
        scores.insert(Metric::F1OfFirst, f1_of_first(&labels, &answers));
    }
    let bits = |of: fn(&Likelihood) -> usize| {
        mean(&|choices, label| bits_per_byte(choices[label].log, of(&choices[label])))
    };
    scores.insert(Metric::BitsPerByte, bits(|choice| choice.bytes));
    scores.insert(Metric::BitsPerByteAfterFirst, bits(|choice| choice.bytes_after_first));
    let nats = mean(&|choices, label| -choices[label].log / choices[label].chars.max(1) as f64);
    scores.insert(Metric::NatsPerChar, nats);
    scores
}

/// Lower case, without punctuation and articles, single spaces (Rajpurkar et al. 2016, arXiv 1606.05250).
#[must_use]
pub fn plain_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let kept: String = lower.chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    kept.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(str::to_owned).collect()
}

/// Whether a written answer equals a right one in [`plain_words`].
#[must_use]
pub fn exact_match(written: &str, answers: &[String]) -> bool {
    answers.iter().any(|answer| plain_words(answer) == plain_words(written))
}

/// The best F1 of the words of a written answer against those of the right ones, words counted as often as they occur.
#[must_use]
pub fn word_f1(written: &str, answers: &[String]) -> f64 {
    let f1 = |answer: &String| {
        let (written, mut right) = (plain_words(written), plain_words(answer));
        let all = written.len() + right.len();
        if all == 0 {
            return 1.0;
        }
        let common = written.iter().filter(|word| {
            let found = right.iter().position(|other| other == *word);
            found.map(|at| right.swap_remove(at)).is_some()
        });
        2.0 * common.count() as f64 / all as f64
    };
    answers.iter().map(f1).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likelihood(log: f64, text: &str, tokens: usize) -> Likelihood {
        let bytes_after_first = text.chars().skip(1).map(char::len_utf8).sum();
        Likelihood { log, chars: text.chars().count(), bytes: text.len(), bytes_after_first, tokens }
    }

    #[test]
    fn each_length_may_choose_another_answer() {
        // log-likelihood, per character, per byte, per token: four different winners.
        let choices = [
            likelihood(-2.0, " a", 2),
            likelihood(-3.0, " abcdefgh", 4),
            likelihood(-4.0, " 春春春春", 5),
            likelihood(-5.0, " abcdefg", 10),
        ];
        assert_eq!(choice(&choices, |_| 1), 0);
        assert_eq!(choice(&choices, |choice| choice.chars), 1);
        assert_eq!(choice(&choices, |choice| choice.bytes), 2);
        assert_eq!(choice(&choices, |choice| choice.tokens), 3);
        assert_eq!(largest(&[1.0, 3.0, 3.0]), 1, "of equal ones the first");
    }

    #[test]
    fn scores_of_two_questions_by_hand() {
        let first = vec![likelihood(-1.0, " yes", 1), likelihood(-3.0, " no", 1)];
        let second = vec![likelihood(-8.0, " yes", 2), likelihood(-7.0, " no", 1)];
        let scores = score(&[(first, 0), (second, 0)]);
        // Right by l: the first only. By characters: -1/4 against -3/3, and -8/4 against -7/3.
        assert_eq!(scores[&Metric::Accuracy], 0.5);
        assert_eq!(scores[&Metric::AccuracyPerChar], 1.0);
        assert_eq!(scores[&Metric::AccuracyPerToken], 1.0);
        let bits = (1.0 / 4.0 + 8.0 / 4.0) / 2.0 / LN_2;
        assert!((scores[&Metric::BitsPerByte] - bits).abs() < 1e-12);
        assert!((scores[&Metric::BitsPerByteAfterFirst] - bits * 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(scores[&Metric::NatsPerChar], 1.125);
        let share = |gap: f64| 1.0 / (1.0 + gap.exp());
        assert!((scores[&Metric::RightShare] - (share(-2.0) + share(1.0)) / 2.0).abs() < 1e-12);
        // Labels 0 0, answers 0 1: precision 1, recall 1/2.
        assert!((scores[&Metric::F1OfFirst] - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn questions_without_choices_have_no_accuracy() {
        let scores = score(&[(vec![likelihood(-LN_2 * 6.0, "abc", 3)], 0)]);
        assert_eq!(scores.get(&Metric::Accuracy), None);
        assert!((scores[&Metric::BitsPerByte] - 2.0).abs() < 1e-12);
        assert_eq!(score(&[]), Scores::new());
    }

    #[test]
    fn f1_without_the_first_class_is_nought() {
        assert_eq!(f1_of_first(&[1, 2], &[1, 2]), 0.0);
        assert_eq!(f1_of_first(&[0, 0, 1], &[0, 0, 1]), 1.0);
        assert_eq!(f1_of_first(&[0, 1], &[1, 0]), 0.0);
    }

    #[test]
    fn written_answers_are_compared_by_plain_words() {
        let answers = vec!["The Eiffel Tower".to_owned(), "Paris".to_owned()];
        assert!(exact_match(" eiffel tower.", &answers));
        assert!(!exact_match("tower", &answers));
        // {tower} against {eiffel, tower}: 2 * 1 / 3.
        assert!((word_f1("tower", &answers) - 2.0 / 3.0).abs() < 1e-12);
        // A word counts as often as it occurs: 2 * 1 / (3 + 1).
        assert_eq!(word_f1("paris paris paris", &answers), 0.5);
        assert_eq!(word_f1("", &[String::new()]), 1.0);
    }

    #[test]
    fn metrics_are_found_by_the_names_of_configurations() {
        for metric in Metric::ALL {
            let expected = if metric == Metric::ExactMatch { Metric::BitsPerByte } else { metric };
            assert_eq!(Metric::named(metric.name()), Some(expected));
        }
        assert_eq!(Metric::named("bits_per_byte_corr"), Some(Metric::BitsPerByte));
        assert_eq!(Metric::named("elo"), None);
    }
}

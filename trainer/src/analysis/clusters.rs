//! Clusters of tokens by the experts they are routed to, as in the EMO paper (emo.md 7.1).
//!
//! Router probabilities of all layers end to end -> minus their mean -> PCA to 95 % of the variance -> unit length -> spherical
//! k-means, started on mini-batches. The paper's PCA is a randomised one; this one is exact.

use serde::{Deserialize, Serialize};

use super::gather::{Gathered, Watched};
use super::information::{entropy_bits, mutual_information};
use super::kmeans::{self, Search, normalise, spherical_kmeans};
use super::pca::Pca;
use super::quality::{calinski_harabasz, davies_bouldin, purity, silhouettes, source_entropy_bits};
use super::sample::Sample;
use super::spelling::{characters, pieces, terms};
use super::terms::{Term, typical};
use super::vector::{dot, rounded};
use crate::data::Tokenizer;

/// Share of the variance that the principal components keep.
pub const VARIANCE: f64 = 0.95;
/// Terms that a cluster is described by, and how many of them make its name.
const TERMS: usize = 12;
const NAME: usize = 3;
/// Tokens shown before and after the token of a context.
const AROUND: usize = 32;

/// How tokens are clustered and shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The search of k-means.
    pub search: Search,
    /// The first tokens of a passage that take part.
    pub prefix: usize,
    /// Contexts of each cluster.
    pub contexts: usize,
}

/// Clusters of tokens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Clusters {
    /// Tokens that were clustered.
    pub tokens: usize,
    /// They are among the first so many of each passage.
    pub prefix: usize,
    /// Router probabilities of a token, all layers together.
    pub features: usize,
    /// Principal components kept, for 95 % of the variance.
    pub components: usize,
    /// Draws of first centres, of which the best began.
    pub starts: usize,
    /// Mini-batches of k-means; 0 in files of earlier versions, which had none.
    #[serde(default)]
    pub batches: usize,
    /// Passes over all tokens after them.
    pub passes: usize,
    /// Mean silhouette of all tokens, under `1 - cos` in the space that was clustered.
    pub silhouette: f64,
    /// Calinski and Harabasz' index in that space; none where it is not defined, and in files of earlier versions.
    pub calinski_harabasz: Option<f64>,
    /// Davies and Bouldin's index in that space; none where it is not defined, and in files of earlier versions.
    pub davies_bouldin: Option<f64>,
    /// Share of tokens in the most frequent domain of their cluster.
    pub purity: f64,
    /// The largest domain's share of all tokens: the purity of one cluster of everything.
    pub purity_of_one: f64,
    /// What a token's cluster tells about its domain, in bits.
    pub information_bits: f64,
    /// What it leaves open: entropy of the domain given the cluster, in bits; none in files of earlier versions.
    pub source_entropy_bits: Option<f64>,
    /// The clusters, the largest first.
    pub clusters: Vec<Cluster>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Its most typical terms.
    pub name: String,
    /// Tokens.
    pub tokens: u64,
    /// Tokens of each domain.
    pub domains: Vec<u64>,
    /// Entropy of the domains' shares of the cluster, in bits.
    pub domain_entropy_bits: f64,
    /// Mean silhouette of its tokens.
    pub silhouette: f64,
    /// What sets it apart, the most typical first: tokens, or words where tokens are single bytes.
    pub terms: Vec<Term>,
    /// The characters themselves, where tokens are single bytes; empty elsewhere.
    pub characters: Vec<Term>,
    /// Tokens near its centre where they stand, each of another document where there are enough.
    pub contexts: Vec<Context>,
}

/// A token with the text around it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Context {
    /// Index of the domain.
    pub domain: u32,
    /// Cosine of the token to the cluster's centre.
    pub cosine: f64,
    /// Which of `pieces` is the token.
    pub at: usize,
    /// The text, token by token.
    pub pieces: Vec<String>,
    /// The strongest routed expert of each piece, for each layer with experts.
    pub experts: Vec<Vec<u32>>,
}

/// A clustered token's place in the sample.
#[derive(Clone, Copy)]
struct Place {
    passage: usize,
    /// Within the passage.
    token: usize,
    /// Of the whole sample.
    start: usize,
}

impl Clusters {
    /// Clusters the watched tokens of what was gathered; none without tokens or experts.
    #[must_use]
    pub fn of(
        gathered: &Gathered,
        sample: &Sample,
        watched: &Watched,
        tokenizer: &Tokenizer,
        settings: &Settings,
    ) -> Option<Self> {
        let features = gathered.width();
        if watched.clustered.is_empty() || features == 0 {
            return None;
        }
        let pca = Pca::of_rows(&gathered.features, features, VARIANCE);
        // Tokens that are all routed alike have no direction: one cluster of zeros.
        let width = pca.kept().max(1);
        let mut points = if pca.kept() == 0 {
            vec![0.0; watched.clustered.len()]
        } else {
            pca.project(&gathered.features)
        };
        normalise(&mut points, width);
        let found = spherical_kmeans(&points, width, &settings.search);
        let places = places(sample, watched);
        let view = View { gathered, sample, tokenizer, settings, points: &points, width, places: &places };
        Some(view.describe(&found, pca.kept(), features))
    }

    pub(super) fn check(&self, domains: usize, layers: usize) -> Result<(), String> {
        let context = |context: &Context| {
            (context.domain as usize) < domains
                && context.at < context.pieces.len()
                && context.experts.len() == layers
                && context.experts.iter().all(|row| row.len() == context.pieces.len())
        };
        let whole =
            |cluster: &Cluster| cluster.domains.len() == domains && cluster.contexts.iter().all(context);
        match self.clusters.iter().position(|cluster| !whole(cluster)) {
            None => Ok(()),
            Some(index) => Err(format!("cluster {index} does not fit {domains} domains and {layers} layers")),
        }
    }
}

/// The most typical terms; characters where those tell more about what sets the cluster apart.
fn name(terms: &[Term], characters: &[Term]) -> String {
    let first = |of: &[Term]| of.iter().take(NAME).map(|term| term.score).sum::<f64>();
    let of = if first(characters) > first(terms) { characters } else { terms };
    let texts: Vec<&str> = of.iter().take(NAME).map(|term| term.text.as_str()).collect();
    if texts.is_empty() { "nothing typical".into() } else { texts.join(" · ") }
}

fn places(sample: &Sample, watched: &Watched) -> Vec<Place> {
    let (mut passage, mut start) = (0, 0);
    let mut places = Vec::with_capacity(watched.clustered.len());
    for &at in &watched.clustered {
        while at >= start + sample.passages[passage].ids.len() {
            start += sample.passages[passage].ids.len();
            passage += 1;
        }
        places.push(Place { passage, token: at - start, start });
    }
    places
}

struct View<'a> {
    gathered: &'a Gathered,
    sample: &'a Sample,
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    points: &'a [f64],
    width: usize,
    places: &'a [Place],
}

impl View<'_> {
    fn describe(&self, found: &kmeans::Clustering, components: usize, features: usize) -> Clusters {
        let count = found.centres.len() / self.width;
        let silhouettes = silhouettes(self.points, self.width, &found.labels, count);
        let mut domains = vec![vec![0u64; self.sample.domains.len()]; count];
        for (place, &label) in self.places.iter().zip(&found.labels) {
            domains[label as usize][self.sample.passages[place.passage].domain as usize] += 1;
        }
        let words = typical(&self.spelled(terms), &found.labels, count, TERMS);
        let characters = match self.tokenizer.file() {
            Some(_) => vec![Vec::new(); count],
            None => typical(&self.spelled(characters), &found.labels, count, TERMS),
        };
        let all: Vec<u64> = (0..self.sample.domains.len())
            .map(|domain| domains.iter().map(|row| row[domain]).sum())
            .collect();
        let mut clusters: Vec<Cluster> = words
            .into_iter()
            .zip(characters)
            .enumerate()
            .map(|(label, (terms, characters))| {
                let members: Vec<usize> =
                    (0..found.labels.len()).filter(|&at| found.labels[at] as usize == label).collect();
                let sum: f64 = members.iter().map(|&at| silhouettes[at]).sum();
                let shares: Vec<f64> = domains[label].iter().map(|&count| count as f64).collect();
                Cluster {
                    name: name(&terms, &characters),
                    tokens: members.len() as u64,
                    domain_entropy_bits: entropy_bits(&shares),
                    domains: domains[label].clone(),
                    silhouette: sum / members.len().max(1) as f64,
                    terms,
                    characters,
                    contexts: self.contexts(&members, &found.centres[label * self.width..][..self.width]),
                }
            })
            .collect();
        clusters.sort_by(|a, b| b.tokens.cmp(&a.tokens).then_with(|| a.name.cmp(&b.name)));
        Clusters {
            tokens: found.labels.len(),
            prefix: self.settings.prefix,
            features,
            components,
            starts: self.settings.search.starts,
            batches: found.batches,
            passes: found.passes,
            calinski_harabasz: calinski_harabasz(self.points, self.width, &found.labels, count),
            davies_bouldin: davies_bouldin(self.points, self.width, &found.labels, count),
            source_entropy_bits: Some(source_entropy_bits(&domains)),
            silhouette: silhouettes.iter().sum::<f64>() / silhouettes.len().max(1) as f64,
            purity: purity(&domains),
            purity_of_one: purity(&[all]),
            information_bits: mutual_information(&domains).0,
            clusters,
        }
    }

    /// What each clustered token is counted as, by a spelling of the tokens of its passage.
    fn spelled(&self, spell: fn(&Tokenizer, &[u32]) -> Vec<String>) -> Vec<String> {
        let mut all = Vec::with_capacity(self.places.len());
        for group in self.places.chunk_by(|a, b| a.passage == b.passage) {
            let of_passage = spell(self.tokenizer, &self.sample.passages[group[0].passage].ids);
            all.extend(group.iter().map(|place| of_passage[place.token].clone()));
        }
        all
    }

    /// The members nearest to the centre: first one of each document, then further ones.
    fn contexts(&self, members: &[usize], centre: &[f64]) -> Vec<Context> {
        let cosine = |at: usize| dot(&self.points[at * self.width..(at + 1) * self.width], centre);
        let mut near: Vec<(usize, f64)> = members.iter().map(|&at| (at, cosine(at))).collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut seen = std::collections::BTreeSet::new();
        let document = |at: usize| self.sample.passages[self.places[at].passage].document;
        let (mut first, further): (Vec<_>, Vec<_>) =
            near.into_iter().partition(|&(at, _)| seen.insert(document(at)));
        first.extend(further);
        first.truncate(self.settings.contexts);
        first.into_iter().map(|(at, cosine)| self.context(self.places[at], cosine)).collect()
    }

    fn context(&self, place: Place, cosine: f64) -> Context {
        let passage = &self.sample.passages[place.passage];
        let pieces = pieces(self.tokenizer, &passage.ids);
        // A byte within a character shows as that character, and no excerpt begins within one.
        let at = (0..=place.token).rev().find(|&at| !pieces[at].is_empty()).unwrap_or(place.token);
        let from = at.saturating_sub(AROUND);
        let from = (from..at).find(|&from| !pieces[from].is_empty()).unwrap_or(at);
        let to = (at + AROUND + 1).min(passage.ids.len());
        let strongest = |layer: &super::gather::LayerTally, token: usize| {
            // Experts that every token takes stand first and say nothing.
            let slot = layer.always.min(layer.top_k.saturating_sub(1));
            layer.chosen.get((place.start + token) * layer.top_k + slot).copied().unwrap_or(0)
        };
        Context {
            domain: passage.domain,
            cosine: rounded(cosine),
            at: at - from,
            pieces: pieces[from..to].to_vec(),
            experts: self
                .gathered
                .layers
                .iter()
                .map(|layer| (from..to).map(|token| strongest(layer, token)).collect())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::LayerTally;
    use super::super::sample::Passage;
    use super::*;

    #[test]
    fn tokens_that_are_routed_alike_are_found_named_and_shown() {
        // Digits take expert 0, letters expert 1, in one layer of three experts.
        let text = |domain, document, text: &str| Passage {
            domain,
            document,
            ids: text.bytes().map(u32::from).collect(),
        };
        let passages = vec![
            text(0, 0, "2024 7777"),
            text(0, 1, "2024 1234"),
            text(1, 2, "word letters"),
            text(1, 3, "word text"),
        ];
        let sample = Sample { domains: vec!["numbers".into(), "words".into()], passages };
        let expert = |id: u32| u32::from(!(48..58).contains(&id));
        let ids: Vec<u32> = sample.passages.iter().flat_map(|passage| passage.ids.clone()).collect();
        // A little noise along the third expert, so that points of a cluster do not coincide.
        let row = |(at, &id): (usize, &u32)| {
            let noise = 0.01 * (at % 5) as f32;
            if expert(id) == 0 { [0.9 - noise, 0.1, noise] } else { [0.1, 0.9 - noise, noise] }
        };
        let features: Vec<f32> = ids.iter().enumerate().flat_map(row).collect();
        let chosen: Vec<u32> = ids.iter().map(|&id| expert(id)).collect();
        let layer = LayerTally {
            layer: 0,
            experts: 3,
            top_k: 1,
            always: 0,
            probability: Vec::new(),
            slots: Vec::new(),
            chosen,
            inputs: Vec::new(),
        };
        let gathered = Gathered { layers: vec![layer], features };
        let watched = Watched { clustered: (0..ids.len()).collect(), probed: Vec::new() };
        let search = Search::of_the_paper(2, 0);
        let settings = Settings { search, prefix: 100, contexts: 3 };
        let found = Clusters::of(&gathered, &sample, &watched, &Tokenizer::bytes(), &settings).unwrap();

        assert_eq!(found.clusters.len(), 2);
        let [letters, digits] = &found.clusters[..] else { panic!() };
        assert_eq!((letters.tokens, digits.tokens), (23, 16));
        assert_eq!((&letters.domains, &digits.domains), (&vec![2, 21], &vec![16, 0]));
        assert_eq!(digits.terms[0].text, "2024");
        assert!(letters.terms.iter().any(|term| term.text == "word"), "{:?}", letters.terms);
        assert!(digits.characters.iter().any(|term| term.text == "7"), "{:?}", digits.characters);
        assert!((found.purity - 37.0 / 39.0).abs() < 1e-12);
        assert!((found.purity_of_one - 21.0 / 39.0).abs() < 1e-12);
        assert!(found.silhouette > 0.8, "{}", found.silhouette);
        // One direction carries 95 % of the variance: at unit length all tokens of a cluster coincide.
        assert_eq!((found.components, found.davies_bouldin, found.calinski_harabasz), (1, Some(0.0), None));
        let open = 23.0 / 39.0 * entropy_bits(&[2.0, 21.0]);
        assert!((found.source_entropy_bits.unwrap() - open).abs() < 1e-12);
        assert!((found.information_bits + open - entropy_bits(&[18.0, 21.0])).abs() < 1e-12);
        assert_eq!(digits.contexts.len(), 3);
        assert_ne!(digits.contexts[0].pieces, digits.contexts[1].pieces, "of different documents");
        let shown = &digits.contexts[0];
        assert!(shown.pieces[shown.at].chars().all(|letter| letter.is_ascii_digit()));
        assert_eq!(shown.experts[0].len(), shown.pieces.len());
        assert_eq!(shown.experts[0][shown.at], 0);
        assert_eq!(found.check(2, 1), Ok(()));
        assert!(found.check(3, 1).is_err() && found.check(2, 2).is_err());
    }

    #[test]
    fn files_of_versions_without_the_newer_figures_are_read() {
        let mut json = serde_json::to_value(Clusters { silhouette: 0.5, ..Clusters::default() }).unwrap();
        for newer in ["batches", "calinski_harabasz", "davies_bouldin", "source_entropy_bits"] {
            assert!(json.as_object_mut().unwrap().remove(newer).is_some());
        }
        let read: Clusters = serde_json::from_value(json).unwrap();
        assert_eq!((read.silhouette, read.calinski_harabasz, read.source_entropy_bits), (0.5, None, None));
    }

    #[test]
    fn names_say_what_tells_more() {
        let term = |text: &str, score: f64| Term { text: text.into(), count: 1, score };
        let words = [term("poem", 0.3), term("rose", 0.2)];
        assert_eq!(name(&words, &[term("e", 0.4)]), "poem · rose");
        assert_eq!(name(&words, &[term("e", 2.0)]), "e");
        assert_eq!(name(&[], &[]), "nothing typical");
    }

    #[test]
    fn tokens_routed_all_alike_make_one_cluster_at_most() {
        let sample = Sample {
            domains: vec!["a".into()],
            passages: vec![Passage { domain: 0, document: 0, ids: vec![97; 5] }],
        };
        let watched = Watched::of(&sample, 3, 9, 9);
        assert_eq!((watched.clustered.len(), watched.probed.len()), (3, 5));
        let layer = LayerTally {
            layer: 0,
            experts: 2,
            top_k: 1,
            always: 0,
            probability: Vec::new(),
            slots: Vec::new(),
            chosen: vec![0; 5],
            inputs: Vec::new(),
        };
        let gathered = Gathered { layers: vec![layer], features: vec![0.5; 6] };
        let search = Search::of_the_paper(2, 0);
        let settings = Settings { search, prefix: 3, contexts: 1 };
        let found = Clusters::of(&gathered, &sample, &watched, &Tokenizer::bytes(), &settings).unwrap();
        assert_eq!(found.clusters.iter().map(|cluster| cluster.tokens).sum::<u64>(), 3);
        assert!(found.silhouette.is_finite() && found.purity == 1.0);
    }
}

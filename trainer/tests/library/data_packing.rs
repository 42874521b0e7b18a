//! Packing: every token once an epoch, segments bounded by rows, batches a pure function of their index.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use trainer::data::packing::{IGNORE, RoutingBoundary, attention_ends, routing_ends};
use trainer::data::validation::bits_per_byte;
use trainer::data::{
    Batch, BatchStream, ByteTokenizer, DataError, Packing, StreamPosition, TokenStore, ValidationSet,
};

const EOS: u32 = ByteTokenizer::EOS;

/// Documents of the given lengths; token j of document i is (7 i + j) mod 251, its uid 1000 + i, its domain i mod 3.
fn store(lengths: &[usize]) -> Arc<TokenStore> {
    let mut store = TokenStore::new(EOS);
    for (i, &length) in lengths.iter().enumerate() {
        store.push((0..length).map(|j| ((7 * i + j) % 251) as u32), 1000 + i as u64, i as u32 % 3).unwrap();
    }
    Arc::new(store)
}

fn lengths_of(ends: &[u32]) -> Vec<u32> {
    ends.iter().scan(0, |last, &end| Some(end - std::mem::replace(last, end))).collect()
}

/// The worked examples: (row, attention lengths, lengths of the routing segments when an EOS opens one).
#[test]
fn conventions_on_the_worked_examples() {
    let (a, b, c, d, e) = (1, 2, 3, 4, EOS);
    let cases: [(&[u32], &[u32], &[u32]); 6] = [
        (&[a, b, e, c, c, e, e, d], &[3, 3, 1, 1], &[2, 3, 1, 2]),
        (&[e, a, b, e, c], &[1, 3, 1], &[3, 2]),
        (&[a, b, e], &[3], &[2, 1]),
        (&[a, b, c], &[3], &[3]),
        (&[e], &[1], &[1]),
        (&[], &[], &[]),
    ];
    for (row, attention, opens) in cases {
        let ends = |boundary: Option<RoutingBoundary>| {
            let mut ends = Vec::new();
            match boundary {
                None => attention_ends(row, e, 0, &mut ends),
                Some(boundary) => routing_ends(row, e, boundary, 0, &mut ends),
            }
            lengths_of(&ends)
        };
        assert_eq!(ends(None), attention, "attention of {row:?}");
        assert_eq!(ends(Some(RoutingBoundary::EosCloses)), attention, "routing of {row:?}");
        assert_eq!(ends(Some(RoutingBoundary::EosOpens)), opens, "compatible routing of {row:?}");
    }
}

/// With one document a row, its identity and labels can be written down.
#[test]
fn identities_follow_the_boundary() {
    for (routing, offsets) in
        [(RoutingBoundary::EosCloses, vec![0, 3, 6]), (RoutingBoundary::EosOpens, vec![0, 2, 5, 6])]
    {
        let store = store(&[2, 2]);
        let packing = Packing { routing, ..Packing::new(1, 6, 5) };
        let mut batch = Batch::default();
        BatchStream::new(store, packing).unwrap().fill(0, &mut batch);
        let first = if batch.ids[0] == 0 { 1000 } else { 1001 };
        let second = 2001 - first;
        assert_eq!(batch.attention_offsets, [0, 3, 6]);
        assert_eq!(batch.routing_offsets, offsets);
        let documents: &[u64] =
            if routing == RoutingBoundary::EosCloses { &[first, second] } else { &[first, second, second] };
        assert_eq!(batch.routing_documents, documents, "an EOS that opens belongs with what follows");
        let expected: Vec<i32> = batch.ids[1..].iter().map(|&id| id as i32).chain([IGNORE]).collect();
        assert_eq!(batch.labels, expected, "shifted left; EOS predicts across documents as released");
    }
}

#[test]
fn predicting_across_documents_can_be_turned_off() {
    let packing = Packing { predict_across_documents: false, ..Packing::new(1, 6, 5) };
    let mut batch = Batch::default();
    BatchStream::new(store(&[2, 2]), packing).unwrap().fill(0, &mut batch);
    assert_eq!(batch.labels[2], IGNORE);
    assert_eq!(batch.targets(), 4);
}

#[test]
fn a_document_longer_than_the_window_keeps_its_identity() {
    let mut stream = BatchStream::new(store(&[100]), Packing::new(3, 16, 1)).unwrap();
    let mut batch = Batch::default();
    assert_eq!(stream.rows_per_epoch(), 7);
    stream.fill(0, &mut batch);
    assert!(batch.routing_documents.iter().all(|&uid| uid == 1000));
    assert!(batch.routing_documents.len() >= 3);
}

#[test]
fn a_position_of_other_data_is_refused() {
    let stream = BatchStream::new(store(&[20, 30]), Packing::new(2, 8, 1)).unwrap();
    assert_eq!(stream.resume(stream.position(7)).unwrap(), 7);
    for (lengths, packing, what) in [
        ([20, 31], Packing::new(2, 8, 1), "the corpus"),
        ([20, 30], Packing::new(2, 8, 2), "the seed was 1 and is now 2"),
        ([20, 30], Packing::new(2, 9, 1), "the sequence length was 8"),
        ([20, 30], Packing::new(3, 8, 1), "the rows"),
        (
            [20, 30],
            Packing { predict_across_documents: false, ..Packing::new(2, 8, 1) },
            "predict_across_documents",
        ),
        (
            [20, 30],
            Packing { routing: RoutingBoundary::EosOpens, ..Packing::new(2, 8, 1) },
            "the routing boundary",
        ),
    ] {
        let error =
            BatchStream::new(store(&lengths), packing).unwrap().resume(stream.position(7)).unwrap_err();
        assert!(matches!(error, DataError::Position { .. }) && error.to_string().contains(what), "{error}");
    }
}

/// A position survives its way through a checkpoint.
#[test]
fn positions_are_serialised_exactly() {
    let stream = BatchStream::new(store(&[20, 30]), Packing::new(2, 8, u64::MAX)).unwrap();
    let position = stream.position(u64::MAX - 1);
    let text = serde_json::to_string(&position).unwrap();
    assert_eq!(serde_json::from_str::<StreamPosition>(&text).unwrap(), position);
}

#[test]
fn threads_see_the_same_batches() {
    let stream = BatchStream::new(store(&[20, 3, 77, 0, 12]), Packing::new(3, 8, 4)).unwrap();
    let read = |threads: u64| {
        let mut batches: Vec<(u64, Batch)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|worker| {
                    let mut stream = stream.clone();
                    scope.spawn(move || {
                        let indices = (worker..20).step_by(threads as usize);
                        let fill = |index| {
                            let mut batch = Batch::default();
                            stream.fill(index, &mut batch);
                            (index, batch)
                        };
                        indices.map(fill).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        batches.sort_by_key(|(index, _)| *index);
        batches
    };
    assert_eq!(read(1), read(2));
    assert_eq!(read(1), read(7));
}

#[test]
fn impossible_settings_are_errors() {
    assert!(matches!(
        BatchStream::new(store(&[]), Packing::new(1, 8, 0)),
        Err(DataError::EmptyCorpus { .. })
    ));
    for packing in [Packing::new(0, 8, 0), Packing::new(1, 1, 0), Packing::new(usize::MAX, 2, 0)] {
        assert!(matches!(BatchStream::new(store(&[5]), packing), Err(DataError::Setting { .. })));
    }
    assert!(TokenStore::new(EOS).push([1, EOS, 2], 0, 0).is_err(), "an EOS within a document");
}

#[test]
fn the_buffers_are_allocated_once() {
    let mut stream = BatchStream::new(store(&[0; 400]), Packing::new(2, 32, 1)).unwrap();
    let mut batch = Batch::default();
    stream.fill(0, &mut batch);
    let place = |batch: &Batch| (batch.ids.as_ptr(), batch.labels.as_ptr(), batch.routing_offsets.as_ptr());
    let before = (place(&batch), batch.routing_documents.as_ptr(), batch.attention_offsets.as_ptr());
    for index in 1..40 {
        stream.fill(index, &mut batch);
        assert_eq!(
            before,
            (place(&batch), batch.routing_documents.as_ptr(), batch.attention_offsets.as_ptr())
        );
    }
}

#[test]
fn validation_predicts_text_only_and_counts_its_bytes() {
    let store = store(&[40, 7, 3, 90, 1]);
    let set = ValidationSet::new(store.clone(), 4, &Packing::new(2, 8, 3), 1000).unwrap();
    let mut batch = Batch::default();
    for domain in 0..4 {
        let mut predicted = 0;
        for index in 0..set.batches(domain) {
            let targeted = set.fill(domain, index, &mut batch).unwrap();
            assert!(batch.routing_domains.iter().all(|&d| d as usize == domain), "one domain a batch");
            assert_eq!(targeted.tokens as usize, batch.targets());
            assert_eq!(targeted.bytes, targeted.tokens, "every target is one byte of text");
            for (position, &label) in batch.labels.iter().enumerate().filter(|&(_, &label)| label != IGNORE) {
                assert_ne!(label as u32, EOS);
                assert_ne!(batch.ids[position], EOS);
                assert_eq!(label as u32, batch.ids[position + 1]);
            }
            predicted += targeted.bytes;
        }
        // Every token but each document's first, its EOS, and each row's first.
        let tokens: Vec<_> = store
            .documents()
            .iter()
            .filter(|d| d.domain as usize == domain)
            .flat_map(|d| (0..d.end - d.start).map(move |j| j > 0 && j + 1 < d.end - d.start))
            .collect();
        let expected = tokens.iter().enumerate().filter(|&(place, &kept)| kept && place % 8 != 0).count();
        assert_eq!(predicted as usize, expected, "domain {domain}");
        assert!(set.fill(domain, set.batches(domain), &mut batch).is_err());
    }
    assert_eq!(set.batches(3), 0, "a domain without documents");
    let few = ValidationSet::new(store, 4, &Packing::new(2, 8, 3), 3).unwrap();
    assert_eq!(few.batches(0), 2);
    let first = few.fill(0, 1, &mut batch).unwrap();
    assert!(first.tokens <= 7, "the batch's second row repeats the domain without targets");
}

#[test]
fn bits_per_byte_of_a_uniform_byte_is_eight() {
    assert!((bits_per_byte(1000.0 * 256f64.ln(), 1000) - 8.0).abs() < 1e-12);
}

#[test]
fn bytes_survive_the_tokenizer() {
    let text = "fn é() { \"\u{1F980}\" }\0\n";
    let ids: Vec<u32> = ByteTokenizer.encode(text).collect();
    assert_eq!(ByteTokenizer.decode(&ids), text);
    assert_eq!(ByteTokenizer.decode(&[b'a'.into(), EOS, ByteTokenizer::PAD, 319, b'b'.into()]), "ab");
    assert_eq!(ByteTokenizer.decode(&[0xff]), "\u{fffd}");
    assert!(
        ByteTokenizer::VOCABULARY.is_multiple_of(64)
            && ByteTokenizer::VOCABULARY > ByteTokenizer::PAD as usize
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Over one epoch of one-row batches: every (document, place) is read once, the filling aside; the segments are those
    /// of the ids; the identities are those of the documents; labels are the next token of the same row.
    #[test]
    fn an_epoch_reads_every_token_once(
        lengths in prop::collection::vec(0usize..40, 1..12), sequence in 2usize..24, seed: u64, epoch in 0u64..3,
    ) {
        let store = store(&lengths);
        let mut stream = BatchStream::new(store.clone(), Packing::new(1, sequence, seed)).unwrap();
        let rows = stream.rows_per_epoch();
        let mut batch = Batch::default();
        let mut read: BTreeMap<(u64, u32), usize> = BTreeMap::new();
        let mut targets = 0;
        for row in 0..rows {
            stream.fill(epoch * rows + row, &mut batch);
            prop_assert_eq!(batch.ids.len(), sequence);
            prop_assert_eq!(*batch.attention_offsets.last().unwrap() as usize, sequence);
            prop_assert_eq!(&batch.attention_offsets, &batch.routing_offsets);
            prop_assert_eq!(batch.routing_documents.len() + 1, batch.routing_offsets.len());
            for (segment, ends) in batch.routing_offsets.windows(2).enumerate() {
                let uid = batch.routing_documents[segment];
                prop_assert_eq!(batch.routing_domains[segment], (uid - 1000) as u32 % 3);
                for &id in &batch.ids[ends[0] as usize..ends[1] as usize] {
                    *read.entry((uid, id)).or_default() += 1;
                }
            }
            for position in 0..sequence {
                let label = batch.labels[position];
                if label != IGNORE {
                    prop_assert!(position + 1 < sequence && label as u32 == batch.ids[position + 1]);
                    targets += 1;
                }
            }
        }
        let total = store.tokens().len();
        prop_assert_eq!(targets, total - rows as usize, "each row's first token is no target, all others are");
        let filling = rows as usize * sequence - total;
        let mut extra = 0;
        for document in store.documents() {
            for &id in &store.tokens()[document.start..document.end] {
                let count = read.get(&(document.uid, id)).copied().unwrap_or(0);
                prop_assert!(count >= 1);
                extra += count - 1;
            }
        }
        prop_assert_eq!(extra, filling);
    }

    /// Batches do not depend on which were filled before, in this stream or another one.
    #[test]
    fn batches_are_pure(
        lengths in prop::collection::vec(0usize..30, 1..8), rows in 1usize..5, sequence in 2usize..12, seed: u64,
        visits in prop::collection::vec(0u64..60, 1..12), far: u64,
    ) {
        let store = store(&lengths);
        let packing = Packing::new(rows, sequence, seed);
        let mut wandering = BatchStream::new(store.clone(), packing).unwrap();
        let mut reused = Batch::default();
        for &index in visits.iter().chain([&far, &0]) {
            wandering.fill(index, &mut reused);
            let mut fresh = Batch::default();
            let mut straight = BatchStream::new(store.clone(), packing).unwrap();
            let resumed = straight.resume(wandering.position(index)).unwrap();
            straight.fill(resumed, &mut fresh);
            prop_assert_eq!(&reused, &fresh);
        }
    }

    /// In compatible routing every segment's identity is its last token's document and rows stay closed.
    #[test]
    fn compatible_segments_are_those_of_the_ids(
        lengths in prop::collection::vec(0usize..9, 1..12), rows in 1usize..4, sequence in 2usize..16, seed: u64,
    ) {
        let store = store(&lengths);
        let packing = Packing { routing: RoutingBoundary::EosOpens, ..Packing::new(rows, sequence, seed) };
        let mut batch = Batch::default();
        BatchStream::new(store, packing).unwrap().fill(0, &mut batch);
        let identity = |place: usize| {
            let segment = batch.attention_offsets.partition_point(|&end| end as usize <= place) - 1;
            let plain = BatchStream::new(self::store(&lengths), Packing::new(rows, sequence, seed));
            let mut other = Batch::default();
            plain.unwrap().fill(0, &mut other);
            other.routing_documents[segment]
        };
        for (segment, ends) in batch.routing_offsets.windows(2).enumerate() {
            let (start, end) = (ends[0] as usize, ends[1] as usize);
            prop_assert!(start < end);
            prop_assert_eq!(start / sequence, (end - 1) / sequence, "inside one row");
            prop_assert!(!batch.ids[start + 1..end].contains(&EOS), "an EOS is the first of its segment");
            prop_assert_eq!(batch.routing_documents[segment], identity(end - 1));
        }
        for row in 1..=rows {
            prop_assert!(batch.routing_offsets.contains(&((row * sequence) as u32)));
        }
    }
}

//! `analyse` and `monitor` on tiny models: the numbers add up, nothing depends on threads, and the page shows what the JSON says.

mod one_page;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use crate::browser;
use crate::support::{Place, fail, stdout, succeed, summary};
use serde_json::Value;
use trainer::analysis::{Analysis, Context};
use trainer::checkpoint::hf;
use trainer::model::{Capacity, FeedForwardLayout, Inputs};
use trainer::report::escape;

/// A run of two checkpoints, and its analysis in `out` with further arguments.
fn analyse(place: &Place, run: &str, out: &str, more: &[&str]) -> Analysis {
    let mut command = place.trainer();
    command.args([
        "analyse",
        "--json",
        "--documents",
        "8",
        "--clusters",
        "6",
        "--probe",
        "64",
        "--checkpoint",
    ]);
    let said = summary(&succeed(command.arg(place.path(run)).arg("--out").arg(place.path(out)).args(more)));
    assert_eq!(said["event"], "summary");
    let text = std::fs::read_to_string(place.path(out).join("analysis.json")).unwrap();
    let analysis = Analysis::parse(&text).unwrap();
    let tokens: usize = analysis.sample.domains.iter().map(|domain| domain.tokens).sum();
    assert_eq!(said["tokens"], tokens);
    let clusters = analysis.clusters.as_ref().unwrap();
    for (key, value) in [
        ("silhouette", Some(clusters.silhouette)),
        ("calinski_harabasz", clusters.calinski_harabasz),
        ("davies_bouldin", clusters.davies_bouldin),
        ("purity", Some(clusters.purity)),
        ("source_entropy_bits", clusters.source_entropy_bits),
    ] {
        assert!(value.is_some() && said[key].as_f64() == value, "{key}: {value:?} and {}", said[key]);
    }
    analysis
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn the_numbers_of_an_analysis_add_up() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &[]));
    let found = analyse(&place, "run", "out", &[]);
    assert_eq!((found.model.as_str(), found.step), ("run", Some(20)));
    assert_eq!(found.domains().len(), 2);
    assert_eq!(found.layers.len(), 2);
    for layer in &found.layers {
        // The preset: 8 experts, one of them shared; top 3 with the shared one.
        assert_eq!((layer.experts, layer.top_k), (7, 2));
        for (domain, sample) in found.sample.domains.iter().enumerate() {
            let coverage = &layer.coverage;
            assert_eq!(coverage.slots[domain].iter().sum::<u64>(), 2 * sample.tokens as u64);
            assert!(close(coverage.selection[domain].iter().sum(), 2.0));
            assert!(close(coverage.probability[domain].iter().sum(), 1.0));
            assert!(coverage.breadth[domain].entropy_bits <= 7f64.log2() + 1e-9);
            assert!(close(layer.similarity.cosine[domain][domain], 1.0));
        }
        let information = layer.information;
        assert!((0.0..=information.most + 1e-9).contains(&information.bits), "{information:?}");
        assert!(information.less_counting_bias < information.bits && information.by_lot > 0.0);
        assert!((0.0..=1.0).contains(&layer.jitter.mean) && (0.0..=1.0).contains(&layer.jitter.shuffled));
        assert!((2.0..=7.0).contains(&layer.effective_experts.mean));
        let redundancy = layer.redundancy.as_ref().unwrap();
        assert_eq!(redundancy.tokens, 64);
        assert!((0..7).all(|expert| redundancy.cka[expert][expert] == 1.0));
    }
    // Checkpoints lie at steps 10 and 20: the earlier one is compared with the later.
    assert_eq!(found.stability.len(), 1);
    assert_eq!(found.stability[0].step, 10);
    assert_eq!(found.stability[0].with_last, found.stability[0].with_next);
    assert!(found.stability[0].with_last.iter().all(|share| (0.0..=1.0).contains(share)));
    assert_eq!(found.load.last().unwrap().step, 20);
    let clusters = found.clusters.as_ref().unwrap();
    assert_eq!((clusters.features, clusters.clusters.len()), (14, 6));
    assert_eq!(clusters.clusters.iter().map(|cluster| cluster.tokens).sum::<u64>(), clusters.tokens as u64);
    assert!(clusters.purity >= clusters.purity_of_one - 1e-12 && clusters.purity <= 1.0);
    let weighted: f64 = clusters.clusters.iter().map(|c| c.silhouette * c.tokens as f64).sum();
    assert!(close(clusters.silhouette, weighted / clusters.tokens as f64));
    assert!(clusters.batches > 0 && (1..=20).contains(&clusters.passes), "{}", clusters.passes);
    assert!(clusters.calinski_harabasz.unwrap() > 0.0 && clusters.davies_bouldin.unwrap() > 0.0);
    let weighted: f64 = clusters.clusters.iter().map(|c| c.domain_entropy_bits * c.tokens as f64).sum();
    assert!(close(clusters.source_entropy_bits.unwrap(), weighted / clusters.tokens as f64));
}

#[test]
fn an_analysis_is_the_same_for_any_number_of_threads_and_any_batch() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "4"]));
    let one = analyse(&place, "run", "one", &["--threads", "1", "--batch", "1"]);
    let two = analyse(&place, "run", "two", &["--threads", "2", "--batch", "5"]);
    assert_eq!(one, two);
    let read = |out: &str, file: &str| std::fs::read(place.path(out).join(file)).unwrap();
    assert!(read("one", "analysis.json") == read("two", "analysis.json"), "byte for byte");
    let other = analyse(&place, "run", "seed", &["--seed", "5"]);
    assert_ne!(one.layers[0].information.by_lot, other.layers[0].information.by_lot);
    assert_eq!(one.layers[0].coverage, other.layers[0].coverage, "the seed chooses no text");
}

#[test]
fn what_cannot_be_analysed_is_refused_in_words() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let command = |more: &[&str]| {
        let mut command = place.trainer();
        command.args(["analyse", "--checkpoint"]).arg(place.path("run")).arg("--out").arg(place.path("out"));
        command.args(more);
        command
    };
    assert!(fail(&mut command(&["--documents", "0"]), 2).contains("--documents"));
    let garbage = place.path("garbage.json");
    std::fs::write(&garbage, "{\"format\": \"other\"}").unwrap();
    let said = fail(command(&["--compare"]).arg(&garbage), 2);
    assert!(said.contains("garbage.json") && said.contains("analysis.json"), "{said}");
    assert!(!place.path("out").exists(), "refused before anything is written");
    let settings = [
        "model.dense_layers=[0,1]",
        "model.dense_width=32",
        "losses.load_balance=0.0",
        "losses.router_z=0.0",
    ];
    let dense: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    succeed(place.pretrain("dense", &["--steps", "2"]).args(dense));
    let mut analyse = place.trainer();
    analyse.args(["analyse", "--checkpoint"]).arg(place.path("dense")).arg("--out").arg(place.path("out"));
    assert!(fail(&mut analyse, 2).contains("no experts"));
    let mut monitor = place.trainer();
    let said = fail(monitor.args(["monitor", "--checkpoint"]).arg(place.path("dense")).arg("no-file"), 2);
    assert!(said.contains("no experts"), "{said}");
    let mut monitor = place.trainer();
    let said = fail(monitor.args(["monitor", "--checkpoint"]).arg(place.path("run")).arg("no-file"), 1);
    assert!(said.contains("no-file"), "{said}");
}

#[test]
fn an_expert_alone_computes_its_gated_mlp() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let backend = Arc::new(emo::cpu::Cpu::new(1).unwrap());
    let capacity = Capacity { tokens: 16, longest: 16, domains: 0, redundancy: false, backward: false };
    let mut model = hf::load(&place.step("run", 2), backend, capacity).unwrap();
    model.forward(&Inputs::rows((40..56).collect(), 1, 16)).unwrap();
    let input = model.routing(1).unwrap().unwrap().input;
    let (d, hidden) = (32, 16);
    let FeedForwardLayout::Moe { w_in, w_out, .. } = model.layout().layers[1].feed_forward.clone() else {
        panic!()
    };
    for expert in [0, 6] {
        let output = model.expert_output(1, expert, &input).unwrap().unwrap();
        let first = w_in.start + expert * 2 * hidden * d;
        let rows_in = model.get_parameters(first..first + 2 * hidden * d).unwrap();
        let first = w_out.start + expert * d * hidden;
        let rows_out = model.get_parameters(first..first + d * hidden).unwrap();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for (x, y) in input.chunks(d).zip(output.chunks(d)) {
            let unit = |at: usize| {
                let gate = dot(x, &rows_in[at * d..(at + 1) * d]);
                gate / (1.0 + (-gate).exp()) * dot(x, &rows_in[(hidden + at) * d..(hidden + at + 1) * d])
            };
            let active: Vec<f64> = (0..hidden).map(unit).collect();
            for (row, found) in rows_out.chunks(hidden).zip(y) {
                let expected = dot(row, &active);
                assert!((expected - found).abs() < 1e-5 * expected.abs().max(1.0), "{expected} {found}");
            }
        }
    }
    assert!(
        model.expert_output(1, 7, &input).unwrap().is_none(),
        "the shared expert is none of the routed ones"
    );
    assert!(model.expert_output(2, 0, &input).unwrap().is_none());
}

#[test]
fn monitor_tells_the_same_of_a_pipe_and_of_a_file() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "4"]));
    let text = "router é pool\n".repeat(9);
    let monitor = |more: &[&str]| {
        let mut command = place.trainer();
        command.args(["monitor", "--every", "20", "--window", "40", "--checkpoint"]).arg(place.path("run"));
        command.args(more);
        command
    };
    let mut piped = monitor(&["--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let piped = stdout(&piped.wait_with_output().unwrap());
    std::fs::write(place.path("text.txt"), &text).unwrap();
    let file = stdout(&succeed(&mut monitor(&["--json", "text.txt"])));
    assert_eq!(piped, file);
    let updates: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(updates.len(), text.len().div_ceil(20));
    assert_eq!(updates.last().unwrap()["tokens"], text.len());
    for update in &updates {
        for layer in update["layers"].as_array().unwrap() {
            let shares: f64 = layer["experts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|expert| expert["share"].as_f64().unwrap())
                .sum();
            assert!(close(shares, 1.0), "all seven experts fit into the eight that are shown");
            let effective = layer["effective_experts"].as_f64().unwrap();
            assert!((1.0..=7.0).contains(&effective));
        }
    }
    let plain = stdout(&succeed(&mut monitor(&["text.txt"])));
    assert_eq!(plain.lines().count(), updates.len());
    let first = &updates[0]["layers"][1]["experts"][0];
    let share = 100.0 * first["share"].as_f64().unwrap();
    assert!(plain.lines().next().unwrap().contains(&format!("experts {}:{share:.0}%", first["expert"])));
}

/// What can be read of an analysis in its page, whether scripts have run or not.
fn shows_the_numbers(page: &str, models: &[&Analysis]) {
    let titles = browser::between(page, "<title>", "</title>");
    let has = |title: &str| assert!(titles.contains(&title), "{title}");
    for model in models {
        let clusters = model.clusters.as_ref().unwrap();
        for said in [
            format!("Silhouette {:.3}", clusters.silhouette),
            format!("Calinski-Harabasz {:.1}", clusters.calinski_harabasz.unwrap()),
            format!("Davies-Bouldin {:.3}", clusters.davies_bouldin.unwrap()),
            format!("domain purity {:.3}", clusters.purity),
            format!("leaves {:.3} open (source entropy)", clusters.source_entropy_bits.unwrap()),
        ] {
            assert!(page.contains(&said), "{said}");
        }
        let domains = model.domains();
        for layer in &model.layers {
            for (a, name) in domains.iter().enumerate() {
                for (expert, slots) in layer.coverage.slots[a].iter().enumerate() {
                    let all: u64 = layer.coverage.slots[a].iter().sum();
                    let share = *slots as f64 / all as f64;
                    let (percent, ratio) = (100.0 * share, share * layer.experts as f64);
                    has(&format!(
                        "layer {}, {name}, expert {expert}: {slots} of {all} slots = {percent:.2}% ({ratio:.2}x even)",
                        layer.layer
                    ));
                }
                for (b, other) in domains.iter().enumerate() {
                    let (cosine, l2) = (layer.similarity.cosine[a][b], layer.similarity.l2[a][b]);
                    has(&format!(
                        "layer {}, {name} and {other}: cosine {cosine:.4}, distance {l2:.4}",
                        layer.layer
                    ));
                }
            }
            assert!(
                page.contains(&format!("<td>{:.4}</td>", layer.information.bits)),
                "in the table of numbers"
            );
        }
        for cluster in &model.clusters.as_ref().unwrap().clusters {
            assert!(page.contains(&format!("<h4>{}</h4>", escape_in_dom(&cluster.name))), "{}", cluster.name);
            assert!(page.contains(&format!("{} tokens (", cluster.tokens)));
        }
    }
}

/// Quotation marks in text are not escaped when a document is written out again.
fn escape_in_dom(text: &str) -> String {
    escape(text).replace("&quot;", "\"").replace("&#39;", "'")
}

/// Runs of tokens on the same expert, the token of the context alone: what an excerpt is made of.
fn runs(context: &Context, ordinal: usize) -> Vec<(u32, String)> {
    let mut runs: Vec<(u32, String)> = Vec::new();
    for (at, piece) in context.pieces.iter().enumerate() {
        let expert = context.experts[ordinal][at];
        let piece = piece.replace('\n', "↵ ").replace('\t', " ").replace('\r', "");
        match runs.last_mut() {
            Some(run) if run.0 == expert && at != context.at && at != context.at + 1 => run.1 += &piece,
            _ => runs.push((expert, piece)),
        }
    }
    runs
}

/// The excerpts of the page show the experts of one layer, token by token, exactly.
fn shows_the_experts(page: &str, model: &Analysis, number: usize, ordinal: usize) {
    let list = page.split("<div class=\"clusters\"").nth(number + 1).unwrap();
    let articles: Vec<&str> = list.split("<article ").skip(1).collect();
    for (index, cluster) in model.clusters.as_ref().unwrap().clusters.iter().enumerate() {
        let article =
            articles.iter().find(|article| article.contains(&format!("data-index=\"{index}\""))).unwrap();
        let excerpts = browser::between(article, "<p class=\"excerpt\"", "</p>");
        assert_eq!(excerpts.len(), cluster.contexts.len());
        for (excerpt, context) in excerpts.iter().zip(&cluster.contexts) {
            let shown: Vec<(u32, String)> = browser::between(excerpt, "title=\"expert ", "</")
                .into_iter()
                .map(|part| {
                    // Scripts may leave further attributes behind the title.
                    let (expert, rest) = part.split_once('"').unwrap();
                    let text = rest.split_once('>').unwrap().1;
                    (expert.parse().unwrap(), text.replace("&quot;", "\"").replace("&#39;", "'"))
                })
                .collect();
            let expected: Vec<(u32, String)> = runs(context, ordinal)
                .into_iter()
                .map(|(expert, text)| (expert, escape_in_dom(&text)))
                .collect();
            assert_eq!(shown, expected);
        }
    }
}

/// Every text of a cluster that the search looks into.
fn searched(cluster: &trainer::analysis::Cluster) -> String {
    let terms = cluster.terms.iter().chain(&cluster.characters).map(|term| term.text.clone());
    let contexts = cluster.contexts.iter().map(|context| context.pieces.concat());
    let all: Vec<String> = std::iter::once(cluster.name.clone()).chain(terms).chain(contexts).collect();
    all.join("\n").to_lowercase()
}

fn two_models(place: &Place) -> (Analysis, Analysis, std::path::PathBuf) {
    succeed(&mut place.pretrain("emo", &["--steps", "12"]));
    succeed(&mut place.pretrain("standard", &["--steps", "12", "--set", "router.pool='none'"]));
    let standard = analyse(place, "standard", "b", &[]);
    let other = place.path("b").join("analysis.json");
    let emo = analyse(place, "emo", "a", &["--compare", other.to_str().unwrap()]);
    (emo, standard, place.path("a").join("analysis.html"))
}

#[test]
fn the_page_is_whole_without_scripts_and_loads_nothing() {
    let place = Place::new();
    let (emo, standard, path) = two_models(&place);
    let page = std::fs::read_to_string(path).unwrap();
    shows_the_numbers(&page.replace("&quot;", "\"").replace("&#39;", "'"), &[&emo, &standard]);
    for (number, model) in [&emo, &standard].into_iter().enumerate() {
        shows_the_experts(&page, model, number, 1);
    }
    for forbidden in ["http:", "https:", " src=", " href=", "@import", "url(", "fetch(", "XMLHttp", "import("]
    {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("@media print"));
    let data = browser::between(&page, "<script type=\"application/json\" id=\"data\">", "</script>");
    let embedded: Vec<Analysis> = serde_json::from_str(data[0]).unwrap();
    assert_eq!(embedded, [emo, standard]);
    assert!(
        browser::between(&page, "<form id=\"controls\"", ">")[0].contains("hidden"),
        "of no use without scripts"
    );
}

#[test]
fn a_browser_draws_filters_and_recolours_what_the_json_says() {
    let Some(chromium) = browser::find("a_browser_draws_filters_and_recolours_what_the_json_says") else {
        return;
    };
    let place = Place::new();
    let (emo, standard, path) = two_models(&place);
    let models = [&emo, &standard];
    let all: usize = models.iter().map(|model| model.clusters.as_ref().unwrap().clusters.len()).sum();
    let dom = |fragment: &str| browser::dom(&chromium, &path, fragment);

    let page = dom("");
    shows_the_numbers(&page, &models);
    assert!(page.contains(&format!("{all} of {all} clusters")), "the script has run");
    let controls = browser::between(&page, "<form id=\"controls\"", ">");
    assert!(!controls[0].contains("hidden"));

    // A word of the first cluster's excerpts: it is found where it stands, and nowhere else.
    let first = &emo.clusters.as_ref().unwrap().clusters[0];
    let word: String = searched(first)
        .split(|letter: char| !letter.is_alphanumeric())
        .max_by_key(|w| w.len())
        .unwrap()
        .into();
    let page = dom(&format!("#q={word}&layer=0&sort=name"));
    let hidden = |article: &str| article.split('>').next().unwrap().contains("hidden");
    let mut shown = 0;
    for (number, model) in models.iter().enumerate() {
        shows_the_experts(&page, model, number, 0);
        let clusters = &model.clusters.as_ref().unwrap().clusters;
        let list = page.split("<div class=\"clusters\"").nth(number + 1).unwrap();
        for article in list.split("<article ").skip(1) {
            let index: usize = browser::between(article, "data-index=\"", "\"")[0].parse().unwrap();
            assert_eq!(
                hidden(article),
                !searched(&clusters[index]).contains(&word),
                "{word} in cluster {index}"
            );
            shown += usize::from(!hidden(article));
        }
    }
    assert!(shown > 0 && page.contains(&format!("{shown} of {all} clusters")));
    assert!(dom("#q=no-such-word").contains(&format!("0 of {all} clusters")));

    // Only clusters of which most is code.
    let page = dom("#domain=code");
    let code = emo.domains().iter().position(|name| name == "code").unwrap();
    let mostly = |model: &&Analysis| {
        let clusters = &model.clusters.as_ref().unwrap().clusters;
        clusters
            .iter()
            .filter(|c| c.domains.iter().position(|n| Some(n) == c.domains.iter().max()) == Some(code))
            .count()
    };
    let expected: usize = models.iter().map(mostly).sum();
    assert!(page.contains(&format!("{expected} of {all} clusters")));
    pictures(&chromium, &path);
}

/// The page has something to look at, light and dark.
fn pictures(chromium: &Path, page: &Path) {
    let [light, dark] = [false, true].map(|dark| browser::picture(chromium, page, dark));
    for picture in [&light, &dark] {
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 30_000, "{} bytes", picture.len());
    }
    assert!(light != dark);
}

#[test]
fn several_runs_stand_side_by_side_with_what_counting_gives() {
    let place = Place::new();
    succeed(&mut place.pretrain("a", &["--steps", "4"]));
    succeed(&mut place.pretrain("b", &["--steps", "6", "--set", "optimiser.lr=0.004"]));
    let mut command = place.trainer();
    let out = place.path("both.html");
    command.arg("report").arg(place.path("a")).arg(place.path("b")).arg("--json").arg("--out").arg(&out);
    let said = summary(&succeed(&mut command));
    assert_eq!(said["runs"], 2);
    let page = std::fs::read_to_string(&out).unwrap();
    for name in ["a", "b"] {
        let metrics = place.metrics(name);
        let last = |kind: &str| metrics.iter().rev().find(|record| record["kind"] == kind).unwrap();
        let step = last("step");
        let row = format!("<th scope=\"row\">{name}</th><td>{}</td>", step["step"]);
        assert!(page.contains(&row), "{row}");
        assert!(page.contains(&format!("<td>{:.4}</td>", step["loss"].as_f64().unwrap())));
        for (domain, valid) in last("valid")["domains"].as_object().unwrap() {
            let bits = valid["bits_per_byte"].as_f64().unwrap();
            let title = format!("<title>{domain}, {name}: {bits:.3}</title>");
            assert!(page.contains(&title), "{title}");
        }
    }
    // The text repeats eight words: counting them costs little.
    for (domain, bits) in said["ngram"].as_object().unwrap() {
        let bits = bits.as_f64().unwrap();
        assert!((0.05..2.5).contains(&bits), "{domain}: {bits}");
        assert!(page.contains(&format!("<title>{domain}, 5-gram counts: {bits:.3}</title>")));
    }
    let differing = browser::between(&page, "Where the runs differ", "</figure>")[0];
    assert!(differing.contains("optimiser.lr") && differing.contains("train.steps"));
    assert!(!differing.contains("model.width") && page.contains("model.width"));
    assert!(page.contains("processor cores"));
    assert!(!page.contains("<script") && !page.contains("http"));

    // One run's own page is written again.
    let own = place.path("a").join("report.html");
    std::fs::remove_file(&own).ok();
    succeed(place.trainer().arg("report").arg(place.path("a")));
    assert!(std::fs::read_to_string(own).unwrap().contains("processor cores"));
    let mut two = place.trainer();
    assert!(fail(two.arg("report").arg(place.path("a")).arg(place.path("b")), 2).contains("--out"));
    let mut none = place.trainer();
    assert!(fail(none.arg("report").arg(place.path("nowhere")), 1).contains("metrics.jsonl"));
}

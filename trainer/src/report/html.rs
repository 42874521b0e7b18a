//! Text into markup, safely; and the few building blocks that every section uses.

use std::fmt::Write;

/// `text` with the five characters that mean something in HTML and SVG replaced.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

/// A plot under its heading, with the sentence that says how to read it.
pub(super) fn figure(heading: &str, caption: &str, body: &str) -> String {
    format!(
        "<figure><h3>{}</h3>{body}<figcaption>{}</figcaption></figure>\n",
        escape(heading),
        escape(caption)
    )
}

/// A table; cells are escaped. The first column is a heading of its row, the others are numbers and align right.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table><thead><tr>");
    for cell in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match column {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>");
    out
}

/// What `body` holds, folded away under `summary` until the reader asks.
pub(super) fn fold(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary><div class=\"scroll\">{body}</div></details>\n", escape(summary))
}

/// A coordinate or length in a picture: a tenth of a pixel is enough.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

//! `trainer monitor`: which experts read a text while it comes in.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use emo::Backend;
use serde::Serialize;

use super::device::{self, Start, Work};
use crate::analysis::window::{LayerView, LayerWindow};
use crate::checkpoint::{folder, hf, tokenizer};
use crate::cli::Monitor;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::evaluate::text::run_config;
use crate::model::{Capacity, Inputs, Model};

/// The longest text that a token's routing sees, in tokens.
const LONGEST_CONTEXT: usize = 1024;
/// How long to wait for more text at the end of a file that is followed.
const WAIT: Duration = Duration::from_millis(200);
/// Bytes read at once.
const BLOCK: usize = 1 << 14;
/// Letters of the newest text that are shown.
const NEWEST: usize = 60;
/// Bars on a line, and the blocks of the longest one.
const BARS: usize = 4;
const BLOCKS: f64 = 8.0;

/// One line of `--json`.
#[derive(Serialize)]
struct Update<'a> {
    event: &'static str,
    /// Tokens read so far.
    tokens: usize,
    /// The newest text.
    text: &'a str,
    layers: Vec<LayerView>,
}

/// Monitors.
pub fn run(args: &Monitor) -> Result<()> {
    for (name, value) in [("--window", args.window), ("--every", args.every), ("--experts", args.experts)] {
        if value == 0 {
            return Err(Error::Usage(format!("{name} must be positive")));
        }
    }
    device::run(args.compute, Monitoring(args))
}

struct Monitoring<'a>(&'a Monitor);

impl Work for Monitoring<'_> {
    const PEAK: bool = false;

    fn on<B: Backend>(self, backend: B, start: Start) -> Result<()> {
        start.note.iter().for_each(|note| tracing::warn!("{note}"));
        monitor(Arc::new(backend), self.0)
    }
}

fn monitor<B: Backend>(backend: Arc<B>, args: &Monitor) -> Result<()> {
    let checkpoint = folder::find(&args.checkpoint)?;
    let (config, _) = hf::read_config(&checkpoint)?;
    if config.moe_layers().next().is_none() {
        let message = "is a dense model: it has no experts to watch";
        return Err(Error::Usage(format!("{} {message}", checkpoint.display())));
    }
    let run = run_config(&checkpoint)?;
    let tokenizer = tokenizer::of(&checkpoint, args.tokenizer.as_deref(), &config)?;
    let context =
        run.as_ref().map_or(config.max_positions, |run| run.data.sequence).clamp(2, LONGEST_CONTEXT);
    let capacity =
        Capacity { tokens: context, longest: context, domains: 0, redundancy: false, backward: false };
    let source = Source::open(args)?;
    let model = hf::load(&checkpoint, backend, capacity)?;
    let windows = model
        .config()
        .moe_layers()
        .map(|(layer, moe)| LayerWindow::new(layer, moe.routed(), moe.top_k - moe.shared, args.window))
        .collect();
    let screen = Screen::new(args);
    Watch { model, windows, history: Vec::new(), context, tokens: 0, newest: String::new(), screen }
        .run(source, &tokenizer, args)
}

/// Where text comes from.
enum Source {
    Stdin(io::Stdin),
    File { file: File, follow: bool },
}

impl Source {
    fn open(args: &Monitor) -> Result<Self> {
        if args.file == Path::new("-") {
            return Ok(Self::Stdin(io::stdin()));
        }
        let file = File::open(&args.file).map_err(Error::io("read", &args.file))?;
        Ok(Self::File { file, follow: args.follow })
    }

    /// More bytes; none at the end. Waits for them on the standard input and at the end of a file that is followed.
    fn more(&mut self, block: &mut [u8]) -> io::Result<usize> {
        loop {
            match self {
                Self::Stdin(stdin) => return stdin.read(block),
                Self::File { file, follow } => match file.read(block)? {
                    0 if *follow => std::thread::sleep(WAIT),
                    count => return Ok(count),
                },
            }
        }
    }
}

struct Watch<B: Backend> {
    model: Model<B>,
    windows: Vec<LayerWindow>,
    /// The tokens that the next ones are read after.
    history: Vec<u32>,
    context: usize,
    tokens: usize,
    newest: String,
    screen: Screen,
}

impl<B: Backend> Watch<B> {
    fn run(mut self, mut source: Source, tokenizer: &Tokenizer, args: &Monitor) -> Result<()> {
        let (mut block, mut pending) = (vec![0; BLOCK], Vec::new());
        loop {
            let count = source.more(&mut block).map_err(Error::io("read", &args.file))?;
            pending.extend_from_slice(&block[..count]);
            let ready = if count == 0 { pending.len() } else { complete(&pending, tokenizer) };
            let text = String::from_utf8_lossy(&pending[..ready]).into_owned();
            pending.drain(..ready);
            let ids = tokenizer.encode(&text).map_err(Error::Usage)?;
            for ids in ids.chunks(args.every.min(self.context / 2)) {
                self.read(ids)?;
                self.newest.push_str(&tokenizer.decode(ids));
                let surplus = self.newest.chars().count().saturating_sub(NEWEST);
                self.newest = self.newest.chars().skip(surplus).collect();
                let layers = self.windows.iter().map(|window| window.view(args.experts)).collect();
                self.screen.show(&Update {
                    event: "window",
                    tokens: self.tokens,
                    text: &self.newest,
                    layers,
                })?;
            }
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Routes `ids` after what was read before them.
    fn read(&mut self, ids: &[u32]) -> Result<()> {
        if self.history.len() + ids.len() > self.context {
            // Half of the context stays, so that it need not be cut again at once.
            let keep = (self.context - ids.len()).min(self.context / 2).min(self.history.len());
            self.history.drain(..self.history.len() - keep);
        }
        self.history.extend_from_slice(ids);
        let all = self.history.len();
        self.model.forward(&Inputs::rows(self.history.clone(), 1, all))?;
        let routed: Vec<usize> =
            self.model.config().moe_layers().map(|(_, moe)| moe.top_k - moe.shared).collect();
        for (ordinal, (window, top_k)) in self.windows.iter_mut().zip(routed).enumerate() {
            let Some(routing) = self.model.routing(ordinal)? else { continue };
            let slots = routing.indices.len() / all;
            for token in routing.indices.chunks_exact(slots).skip(all - ids.len()) {
                // Shared experts stand last and are left out.
                window.push(&token[..top_k]);
            }
        }
        self.tokens += ids.len();
        Ok(())
    }
}

/// How many of the pending bytes can be tokenised already: all whole characters where bytes are tokens, whole lines elsewhere,
/// because the end of a line is where a tokenizer's words may end for certain.
fn complete(pending: &[u8], tokenizer: &Tokenizer) -> usize {
    if tokenizer.file().is_some() {
        return pending.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    }
    match std::str::from_utf8(pending) {
        Ok(_) => pending.len(),
        // A character that has only begun waits; bytes that are no text do not.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => pending.len(),
    }
}

/// Where updates go.
enum Screen {
    Json,
    Plain,
    /// Drawn over the last one, of which this is the number of lines.
    Live(usize),
}

impl Screen {
    fn new(args: &Monitor) -> Self {
        match (args.json, io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Live(0),
            (false, false) => Self::Plain,
        }
    }

    fn show(&mut self, update: &Update<'_>) -> Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string(update).unwrap_or_default() + "\n",
            Self::Plain => plain(update) + "\n",
            Self::Live(before) => {
                let lines = drawn(update);
                let up = if *before > 0 { format!("\x1b[{before}A") } else { String::new() };
                *before = lines.len();
                lines.iter().fold(up, |text, line| text + "\x1b[2K" + line + "\n")
            }
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Error::io("write", "the standard output"))
    }
}

/// An update on one line.
fn plain(update: &Update<'_>) -> String {
    let layers = update.layers.iter().map(|view| {
        let experts: Vec<String> = view
            .experts
            .iter()
            .map(|expert| format!("{}:{:.0}%", expert.expert, 100.0 * expert.share))
            .collect();
        format!(
            "layer {} jitter {:.2} effective {:.1} experts {}",
            view.layer,
            view.jitter,
            view.effective_experts,
            experts.join(" ")
        )
    });
    format!("{} tokens | {}", update.tokens, layers.collect::<Vec<_>>().join(" | "))
}

/// An update as lines of at most 78 columns: the newest text, and bars of every layer's most used experts.
fn drawn(update: &Update<'_>) -> Vec<String> {
    let visible = |letter: char| if letter.is_control() { ' ' } else { letter };
    // Letters of other scripts may be two columns wide.
    let mut left = NEWEST;
    let fits = move |letter: &char| {
        let columns = if letter.is_ascii() { 1 } else { 2 };
        left = left.saturating_sub(columns);
        left > 0
    };
    let mut newest: Vec<char> = update.text.chars().rev().map(visible).take_while(fits).collect();
    newest.reverse();
    let newest: String = newest.into_iter().collect();
    let mut lines = vec![format!("{:>9} tokens  …{newest}", update.tokens)];
    for view in &update.layers {
        let figures = format!("jitter {:.2}  effective experts {:.1}", view.jitter, view.effective_experts);
        lines.push(format!("layer {:<3} {figures}", view.layer));
        let most = view.experts.first().map_or(1.0, |expert| expert.share);
        for experts in view.experts.chunks(BARS) {
            let bars = experts.iter().map(|expert| {
                let bar = bar(expert.share / most);
                format!("{:>5} {bar} {:>3.0}%", expert.expert, 100.0 * expert.share)
            });
            lines.push(bars.collect());
        }
    }
    lines
}

/// A bar of [`BLOCKS`] columns, in eighths of a block.
fn bar(share: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * BLOCKS * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    format!("{bar:<width$}", width = BLOCKS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::window::ExpertShare;

    #[test]
    fn bars_are_as_long_as_the_share() {
        assert_eq!((bar(1.0), bar(0.5), bar(0.0)), ("████████".into(), "████    ".into(), "        ".into()));
        assert_eq!(bar(3.0 / 64.0), "▍       ");
    }

    #[test]
    fn what_is_drawn_fits_a_narrow_terminal() {
        let experts = (0..9).map(|expert| ExpertShare { expert: 100 + expert, share: 0.11 }).collect();
        let view = LayerView { layer: 3, experts, effective_experts: 9.0, jitter: 0.5 };
        let text = "a\nb".repeat(20);
        let update = Update { event: "window", tokens: 12_345_678, text: &text, layers: vec![view] };
        let lines = drawn(&update);
        assert_eq!(lines.len(), 2 + 3);
        assert!(lines.iter().all(|line| line.chars().count() <= 80 && !line.contains('\n')), "{lines:?}");
        assert!(plain(&update).contains("100:11% 101:11%"));
    }

    #[test]
    fn a_character_that_has_only_begun_waits() {
        let bytes = Tokenizer::bytes();
        assert_eq!(complete("aé".as_bytes(), &bytes), 3);
        assert_eq!(complete(&"aé".as_bytes()[..2], &bytes), 1);
        assert_eq!(complete(&[b'a', 0xff, b'b'], &bytes), 3);
    }
}

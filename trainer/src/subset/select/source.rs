//! The text that experts are chosen by: a few documents of a domain, or prompts.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data::order::{Purpose, permutation};
use crate::data::{Documents, Tokenizer};
use crate::error::{Error, Result};
use crate::evaluate::text::EvaluationText;
use crate::evaluate::tokens::check_run;
use crate::model::ModelConfig;
use crate::train::text::Text;

/// Which part of a run's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// What it was trained on: nothing that `trainer eval` measures.
    #[default]
    Train,
    /// What it held out, on which `trainer eval` measures too.
    Valid,
}

impl Split {
    /// Its name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
        }
    }
}

/// Documents to choose from.
pub struct Source {
    documents: Vec<Arc<dyn Documents>>,
    domains: Vec<String>,
    /// Where they come from, for people.
    pub name: String,
}

/// Documents as token ids, each cut to what the model is given of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Token ids of each.
    pub documents: Vec<Vec<u32>>,
}

impl Sample {
    /// Prompts, one document each.
    ///
    /// # Errors
    /// Text that the tokenizer cannot read, and prompts without a token.
    pub fn prompts(prompts: &[String], tokenizer: &Tokenizer, longest: usize) -> Result<Self> {
        let ids = |prompt: &String| {
            let mut ids = tokenizer.encode(prompt).map_err(Error::Usage)?;
            if ids.is_empty() {
                return Err(Error::Usage("a prompt has no text".into()));
            }
            ids.truncate(longest);
            Ok(ids)
        };
        Ok(Self { documents: prompts.iter().map(ids).collect::<Result<_>>()? })
    }

    /// Tokens of all documents.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.documents.iter().map(|ids| ids.len() as u64).sum()
    }

    /// Tokens of the longest document.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.documents.iter().map(Vec::len).max().unwrap_or(0)
    }
}

impl Source {
    /// The own text of the run that made a checkpoint.
    ///
    /// # Errors
    /// When that text is not here any more, or has other tokens now.
    pub fn of_run(config: &Config, split: Split, model: &ModelConfig, checkpoint: &Path) -> Result<Self> {
        check_run(&config.data, model, checkpoint)?;
        let text = Text::load(config, false)?;
        let documents = match split {
            Split::Train => text.train.into_iter().map(|portion| portion.documents).collect(),
            Split::Valid => vec![text.valid],
        };
        Ok(Self { documents, domains: text.domains, name: split.name().into() })
    }

    /// A folder of shards or of text files, see [`EvaluationText::open_for`].
    ///
    /// # Errors
    /// Text that the model cannot read, in words that say why.
    pub fn open(path: &Path, model: &ModelConfig, checkpoint: &Path) -> Result<Self> {
        let EvaluationText { documents, domains } = EvaluationText::open_for(path, model, checkpoint)?;
        Ok(Self { documents: vec![documents], domains, name: path.display().to_string() })
    }

    /// The first `longest` tokens of `count` documents of a domain (of any where none is named), drawn without
    /// replacement by `seed`: the same draw whatever `count`, so that five documents are among a hundred. All of them
    /// where there are fewer.
    ///
    /// # Errors
    /// A domain that is not there, or has no documents, with those that are.
    pub fn sample(&self, domain: Option<&str>, count: usize, longest: usize, seed: u64) -> Result<Sample> {
        let number = match domain {
            None => None,
            Some(name) => Some(self.domains.iter().position(|domain| domain == name).ok_or_else(|| {
                let known = self.domains.join(", ");
                Error::Usage(format!("there is no domain `{name}` in {}; there are: {known}", self.name))
            })?),
        };
        let mut members: Vec<(usize, usize)> = Vec::new();
        for (part, documents) in self.documents.iter().enumerate() {
            let own = |index: &usize| {
                let domain = documents.document(*index).domain as usize;
                number.is_none_or(|number| number == domain)
            };
            members.extend((0..documents.count()).filter(own).map(|index| (part, index)));
        }
        if members.is_empty() || count == 0 {
            let of = domain.map(|name| format!(" of the domain `{name}`")).unwrap_or_default();
            return Err(Error::Usage(format!(
                "there are no documents{of} in {} to choose experts by",
                self.name
            )));
        }
        let mut order = vec![0; members.len()];
        permutation(seed, 0, Purpose::Documents, &mut order);
        let taken = order.iter().take(count).map(|&place| {
            let (part, index) = members[place as usize];
            let documents = &self.documents[part];
            let mut ids = Vec::new();
            documents.append(index, 0..documents.document(index).length.min(longest), &mut ids);
            ids
        });
        Ok(Sample { documents: taken.collect() })
    }
}

//! Text and domain out of one line of JSON, everything else skipped without being kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Keys of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Key of the text.
    pub text: String,
    /// Key of the domain; without it a record has the domain of its file.
    pub domain: Option<String>,
}

impl Keys {
    /// Text and domain of the object `line`; the text is empty for a blank line.
    ///
    /// # Errors
    /// What is wrong with the line, in words.
    pub fn parse(&self, line: &[u8]) -> Result<(String, Option<String>), String> {
        if line.trim_ascii().is_empty() {
            return Ok((String::new(), self.domain.as_ref().map(|_| String::new())));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let (text, domain) = self.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        deserializer.end().map_err(|error| error.to_string())?;
        let text = text.ok_or_else(|| format!("no key `{}`", self.text))?;
        match &self.domain {
            Some(key) if domain.is_none() => Err(format!("no key `{key}`")),
            _ => Ok((text, domain)),
        }
    }
}

type Found = (Option<String>, Option<String>);

impl<'de> DeserializeSeed<'de> for &Keys {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Keys {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the key `{}`", self.text)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let (mut text, mut domain) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            if key == self.text {
                if text.replace(map.next_value()?).is_some() {
                    return Err(A::Error::custom(format!("the key `{key}` twice")));
                }
            } else if self.domain.as_ref() == Some(&key) {
                domain = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((text, domain))
    }
}

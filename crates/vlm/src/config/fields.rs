//! Reads keys of a JSON object so that each error names the full key (`text_config.hidden_size`).
//!
//! A missing key and `null` both take the default, as in Hugging Face files. It knows no model.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::model::nn::Activation;

/// A JSON object and where it lies in the file.
pub struct Fields<'a> {
    map: Option<&'a Map<String, Value>>,
    prefix: String,
}

impl<'a> Fields<'a> {
    pub fn root(json: &'a Value) -> Result<Self, Error> {
        let map = json.as_object();
        let map = map.ok_or_else(|| Error::config("config.json", "is not a JSON object"))?;
        Ok(Fields { map: Some(map), prefix: String::new() })
    }

    /// A nested object; a missing one reads as empty (every key takes its default).
    pub fn object(&self, key: &str) -> Result<Fields<'a>, Error> {
        let prefix = format!("{}{key}.", self.prefix);
        match self.get(key) {
            None => Ok(Fields { map: None, prefix }),
            Some(Value::Object(map)) => Ok(Fields { map: Some(map), prefix }),
            Some(other) => Err(self.wrong(key, "an object", other)),
        }
    }

    /// Whether the key is there and not `null`.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key is there at all, even as `null`.
    pub fn names(&self, key: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(key))
    }

    /// Whether the whole object was missing.
    pub fn is_absent(&self) -> bool {
        self.map.is_none()
    }

    /// The key with its path, for errors.
    pub fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub fn usize(&self, key: &str, default: usize) -> Result<usize, Error> {
        Ok(self.opt_usize(key)?.unwrap_or(default))
    }

    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>, Error> {
        self.parsed(key, "a whole number", |v| v.as_u64().map(|n| n as usize))
    }

    /// A size that must be at least 1.
    pub fn size(&self, key: &str, default: usize) -> Result<usize, Error> {
        match self.usize(key, default)? {
            0 => Err(Error::config(self.path(key), "must be at least 1")),
            n => Ok(n),
        }
    }

    pub fn u32(&self, key: &str, default: u32) -> Result<u32, Error> {
        Ok(self.opt_u32(key)?.unwrap_or(default))
    }

    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, Error> {
        // -1 is how some files write "none".
        if self.get(key).and_then(Value::as_i64).is_some_and(|n| n < 0) {
            return Ok(None);
        }
        self.parsed(key, "a token id", |v| v.as_u64().and_then(|n| u32::try_from(n).ok()))
    }

    pub fn f64(&self, key: &str, default: f64) -> Result<f64, Error> {
        Ok(self.opt_f64(key)?.unwrap_or(default))
    }

    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>, Error> {
        self.parsed(key, "a number", Value::as_f64)
    }

    pub fn bool(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.parsed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub fn str<'b>(&self, key: &str, default: &'b str) -> Result<&'b str, Error>
    where
        'a: 'b,
    {
        Ok(self.parsed(key, "a string", Value::as_str)?.unwrap_or(default))
    }

    pub fn required_str(&self, key: &str) -> Result<&'a str, Error> {
        match self.parsed(key, "a string", Value::as_str)? {
            Some(text) => Ok(text),
            None => Err(Error::config(self.path(key), "is missing")),
        }
    }

    pub fn required_f64(&self, key: &str) -> Result<f64, Error> {
        match self.opt_f64(key)? {
            Some(number) => Ok(number),
            None => Err(Error::config(self.path(key), "is missing")),
        }
    }

    /// An activation by its Hugging Face name.
    pub fn activation(&self, key: &str, default: &'static str) -> Result<Activation, Error> {
        match self.parsed(key, "a string", Value::as_str)?.unwrap_or(default) {
            "gelu" => Ok(Activation::Gelu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluPytorchTanh),
            "quick_gelu" => Ok(Activation::QuickGelu),
            "silu" | "swish" => Ok(Activation::Silu),
            "relu" => Ok(Activation::Relu),
            found => Err(Error::Unsupported {
                key: self.path(key),
                found: found.into(),
                supported: "gelu, gelu_pytorch_tanh, quick_gelu, silu, relu".into(),
            }),
        }
    }

    /// One layer index or a list of them.
    pub fn layers(&self, key: &str, default: i64) -> Result<Vec<i64>, Error> {
        let list = |v: &Value| match v {
            Value::Array(items) if !items.is_empty() => items.iter().map(Value::as_i64).collect(),
            other => other.as_i64().map(|n| vec![n]),
        };
        let found = self.parsed(key, "a layer index or a list of them", list)?;
        Ok(found.unwrap_or_else(|| vec![default]))
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>, Error> {
        let list = |v: &Value| v.as_array()?.iter().map(Value::as_f64).collect();
        Ok(self.parsed(key, "a list of numbers", list)?.unwrap_or_default())
    }

    /// A list of whole numbers.
    pub fn indices(&self, key: &str) -> Result<Option<Vec<usize>>, Error> {
        let number = |v: &Value| v.as_u64().map(|n| n as usize);
        self.parsed(key, "a list of whole numbers", |v| v.as_array()?.iter().map(number).collect())
    }

    /// A list of names.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        let name = |v: &Value| v.as_str().map(str::to_owned);
        self.parsed(key, "a list of names", |v| v.as_array()?.iter().map(name).collect())
    }

    /// A list of pairs of numbers.
    pub fn pairs(&self, key: &str) -> Result<Option<Vec<[u32; 2]>>, Error> {
        let number = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let pair = |v: &Value| match v.as_array()?.as_slice() {
            [a, b] => Some([number(a)?, number(b)?]),
            _ => None,
        };
        self.parsed(key, "a list of pairs of numbers", |v| v.as_array()?.iter().map(pair).collect())
    }

    /// One token id, a list of them, or nothing.
    pub fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        self.parsed(key, "a token id or a list of them", |v| match v {
            Value::Array(items) => items.iter().map(id).collect(),
            other => id(other).map(|id| vec![id]),
        })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(key)).filter(|value| !value.is_null())
    }

    fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match parse(value) {
                Some(parsed) => Ok(Some(parsed)),
                None => Err(self.wrong(key, expected, value)),
            },
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        let mut found = found.to_string();
        if found.chars().count() > 60 {
            found = found.chars().take(60).chain("…".chars()).collect();
        }
        Error::config(self.path(key), format!("expected {expected}, found {found}"))
    }
}

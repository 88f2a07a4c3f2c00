//! The stratum of a line: the values of the keys of `--by`.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};

use crate::source::strata;

/// The name of the stratum, from the values of these keys of the line, which is an object of JSON.
pub(super) fn of(line: &str, keys: &[String]) -> Result<Arc<str>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(line);
    let values = Keys(keys).deserialize(&mut json)?;
    Ok(strata::name(values.iter().map(Option::as_deref)))
}

struct Keys<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = Vec<Option<Cow<'de, str>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Vec<Option<Cow<'de, str>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut line: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(place) = line.next_key_seed(Key(self.0))? {
            match place.and_then(|place| values.get_mut(place).map(|value| (value, &self.0[place]))) {
                Some((value, key)) => *value = line.next_value_seed(Value(key))?,
                None => {
                    line.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// The place of a key among the wanted ones.
struct Key<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| wanted == key))
    }
}

/// A text, or what else names a kind of request: a number, or true or false. Its key is for the error.
struct Value<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text or a number for the key {:?} of --by", self.0)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.to_string().into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string().into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string().into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string().into()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(line: &str, keys: &[&str]) -> Result<String, String> {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        of(line, &keys).map(|name| name.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_values_of_the_keys_name_the_stratum() {
        let line =
            r#"{"a":{"path":1},"path":"/c\u0061rt","method":"GET","n":7,"x":null,"b":true,"f":1.5,"i":-3}"#;
        for (keys, name) in [
            (&["path"][..], "/cart"),
            (&["method", "path"], "GET /cart"),
            (&["path", "method"], "/cart GET"),
            (&["n"], "7"),
            (&["b", "f", "i"], "true 1.5 -3"),
            (&["x", "missing"], "(none) (none)"),
        ] {
            assert_eq!(named(line, keys), Ok(name.to_owned()));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for line in [r#"{"path":["/"]}"#, r#"{"path":{"a":1}}"#] {
            let error = named(line, &["path"]).expect_err(line);
            assert!(error.contains("a text or a number for the key \"path\" of --by"), "{error}");
        }
    }
}

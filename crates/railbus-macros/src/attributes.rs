//! Reading what stands in an attribute: `key = value`, each once, known keys only.

use std::fmt::Display;
use syn::{
    Error, Expr, ExprLit, Ident, Lit, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

/// One `key = value`, or a `key` alone.
pub(crate) struct Setting {
    pub(crate) key: Ident,
    pub(crate) value: Option<Expr>,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.call(Ident::parse_any)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { key, value })
    }
}

impl Setting {
    /// Returns an error about its value.
    pub(crate) fn refuse(&self, why: impl Display) -> Error {
        match &self.value {
            Some(value) => Error::new_spanned(value, why),
            None => Error::new_spanned(&self.key, why),
        }
    }

    /// Returns the text that it gives, such as `example`.
    pub(crate) fn text(&self, example: &str) -> Result<String> {
        if let Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) = &self.value {
            return Ok(text.value());
        }
        let key = &self.key;
        Err(self.refuse(format!("`{key}` takes a text: `{key} = \"{example}\"`")))
    }
}

/// Reads settings up to the end; refuses keys that are not known, and keys said twice.
pub(crate) fn settings(input: ParseStream<'_>, known: &[&str]) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    while !input.is_empty() {
        let setting: Setting = input.parse()?;
        let key = setting.key.to_string();
        if !known.contains(&key.as_str()) {
            return Err(Error::new_spanned(&setting.key, unknown(&key, known)));
        }
        if settings.iter().any(|earlier| earlier.key == setting.key) {
            return Err(Error::new_spanned(&setting.key, format!("`{key}` is said twice")));
        }
        settings.push(setting);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(settings)
}

fn unknown(key: &str, known: &[&str]) -> String {
    let quoted: Vec<_> = known.iter().map(|k| format!("`{k}`")).collect();
    let all = quoted.join(", ");
    match known.iter().find(|k| is_near(k, key)) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`? There are {all}"),
        None => format!("unknown key `{key}`; there are {all}"),
    }
}

/// Tells whether one goes on where the other ends, or they differ by one slip: a letter too many,
/// too few, another, or two swapped.
fn is_near(a: &str, b: &str) -> bool {
    let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let same = common(a.as_bytes(), b.as_bytes());
    let reversed = |text: &str| text.bytes().skip(same).rev().collect::<Vec<_>>();
    let (a, b) = (reversed(a), reversed(b));
    let end = common(&a, &b);
    match (&a[end..], &b[end..]) {
        ([_] | [], [_] | []) => true,
        ([x, y], [z, w]) => (x, y) == (w, z),
        (a, b) => same > 2 && (a.is_empty() || b.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        for slip in ["topik", "topi", "topics", "tpoic", "tropic", "opic", "topic_name"] {
            assert!(is_near("topic", slip), "{slip}");
        }
        for other in ["source", "to", "t", "colour", "pictot", ""] {
            assert!(!is_near("topic", other), "{other}");
        }
    }
}

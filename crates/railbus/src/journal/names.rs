//! Closed lists of names, as text and back.

use crate::error::{Error, ErrorKind, nearest};

/// Gives an enum without values its names: `name`, `Display` and `FromStr`.
macro_rules! names {
    ($type:ident, $what:literal: $($case:ident $name:literal),* $(,)?) => {
        impl $type {
            /// All there are.
            pub(crate) const ALL: &[Self] = &[$(Self::$case),*];

            /// Returns the name in lower case, as logs and JSON show it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$case => $name,)*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::error::Error;

            /// Reads what `name` writes.
            fn from_str(text: &str) -> crate::error::Result<Self> {
                let found = Self::ALL.iter().find(|one| one.name() == text).copied();
                let names = Self::ALL.iter().map(|one| one.name());
                found.ok_or_else(|| crate::journal::names::unknown($what, text, names))
            }
        }
    };
}

pub(crate) use names;

/// Builds the error for a name that is none, with those there are.
pub(super) fn unknown(
    what: &str,
    text: &str,
    names: impl IntoIterator<Item = &'static str>,
) -> Error {
    let names: Vec<_> = names.into_iter().collect();
    let error =
        Error::new(ErrorKind::Config, "journal", format!("`{}` is no {what}", text.escape_debug()));
    let known = names.join(", ");
    error.hint(match nearest(text, names) {
        Some(near) => format!("did you mean `{near}`? there are {known}"),
        None => format!("there are {known}"),
    })
}

//! What stands in `#[step(..)]`.

use crate::attributes::{self, Setting};
use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Error, Expr, ExprLit, Ident, Lit, LitStr, Result,
    parse::{ParseStream, Parser},
    spanned::Spanned,
};

/// What stands in `#[step(..)]`.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) output: Option<String>,
    /// Expressions of the names of the steps it may jump to.
    pub(super) goto: Vec<TokenStream>,
    pub(super) blocking: Option<Ident>,
    pub(super) bypass: Option<Ident>,
    /// What is called on the `StepDef`.
    pub(super) held: Vec<TokenStream>,
}

const KNOWN: &[&str] = &[
    "name",
    "output",
    "goto",
    "blocking",
    "executor",
    "retry",
    "timeout",
    "bypass",
    "stop_on_success",
    "stop_on_error",
    "stop_on_exception",
];

pub(super) fn read(arguments: TokenStream) -> Result<Settings> {
    let parser = |input: ParseStream<'_>| {
        if input.peek(LitStr) {
            let name: LitStr = input.parse()?;
            let why = format!("say what the text is for: `name = {:?}`", name.value());
            return Err(Error::new_spanned(name, why));
        }
        attributes::settings(input, KNOWN)
    };
    let (mut settings, mut executor) = (Settings::default(), None);
    for setting in parser.parse2(arguments)? {
        let key = &setting.key;
        match key.to_string().as_str() {
            "name" => settings.name = Some(name(&setting, "Load")?),
            "output" => settings.output = Some(output(&setting)?),
            "goto" => settings.goto = goto(&setting)?,
            "blocking" => match &setting.value {
                None => settings.blocking = Some(key.clone()),
                Some(_) => return Err(setting.refuse("`blocking` takes no value: leave it out")),
            },
            "stop_on_success" | "stop_on_error" | "stop_on_exception" => {
                let stop = setting.value.as_ref().map_or(quote!(true), |value| quote!(#value));
                settings.held.push(quote!(.#key(#stop)));
            }
            other => {
                let example = match other {
                    "executor" => "executor = Blocking",
                    "bypass" => "bypass = is_known",
                    "timeout" => "timeout = Duration::from_secs(5)",
                    _ => "retry = Retry::attempts(3)",
                };
                let Some(value) = &setting.value else {
                    return Err(setting.refuse(format!("`{key}` takes a value: `{example}`")));
                };
                match other {
                    "executor" => executor = Some(key.clone()),
                    "bypass" => settings.bypass = Some(key.clone()),
                    _ => {}
                }
                let span = Span::call_site().located_at(value.span());
                settings.held.push(quote_spanned!(span=> .#key(#value)));
            }
        }
    }
    match (&settings.blocking, executor) {
        (Some(_), Some(executor)) => {
            let why = "`blocking` is an executor itself: leave one of the two out";
            Err(Error::new_spanned(executor, why))
        }
        (Some(_), None) => {
            settings.held.push(quote!(.blocking()));
            Ok(settings)
        }
        (None, _) => Ok(settings),
    }
}

fn name(setting: &Setting, example: &str) -> Result<String> {
    let name = setting.text(example)?;
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.starts_with(first) && name.chars().all(rest) {
        return Ok(name);
    }
    let why = format!(
        "`{}` is not a step's name: use ASCII letters, digits, `_` and `-`, a letter or `_` first",
        name.escape_debug()
    );
    Err(setting.refuse(why))
}

fn output(setting: &Setting) -> Result<String> {
    let output = setting.text("data")?;
    match output.is_empty() {
        true => Err(setting.refuse("`output` is empty: leave it out, and it is the step's name")),
        false => Ok(output),
    }
}

/// Reads the steps it may jump to: steps with `#[step]` by their path, others by their name.
fn goto(setting: &Setting) -> Result<Vec<TokenStream>> {
    let why = "`goto` takes the steps it may jump to: `goto = [premium, \"regular\"]`";
    let Some(Expr::Array(targets)) = &setting.value else { return Err(setting.refuse(why)) };
    let target = |target: &Expr| match target {
        Expr::Path(path) if path.qself.is_none() => {
            let span = Span::call_site().located_at(path.span());
            Ok(quote_spanned!(span=> <#path as ::railbus::step::Named>::NAME))
        }
        Expr::Lit(ExprLit { lit: Lit::Str(name), .. }) => Ok(quote!(#name)),
        other => Err(Error::new_spanned(other, why)),
    };
    targets.elems.iter().map(target).collect()
}

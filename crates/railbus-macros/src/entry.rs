//! `#[railbus::main]` and `#[railbus::test]`: async functions that something else calls.

use crate::attributes::{self, Setting};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Expr, ExprLit, ItemFn, Lit, Result, ReturnType, Type, parse::Parser};

/// Which runtime, and for a test how long.
struct Settings {
    many: bool,
    workers: Option<usize>,
    timeout_ms: u64,
    is_virtual: bool,
    steps: Option<Expr>,
}

const TIMEOUT_MS: u64 = 60_000;

pub(crate) fn main(arguments: TokenStream, item: &ItemFn) -> TokenStream {
    let settings = settings(arguments, &["flavor", "worker_threads", "steps"], true);
    let checked = settings.and_then(|settings| check(item, "main", MAIN).map(|()| settings));
    let settings = match checked {
        Ok(settings) => settings,
        Err(error) => {
            // A main that does nothing, so that it is not said to be missing.
            let error = error.into_compile_error();
            return quote!(#error fn main() {});
        }
    };
    let ItemFn { attrs, vis, sig, block, .. } = item;
    let runtime = runtime(&settings);
    // A program that serves as a worker of its own becomes one here, before there is a runtime.
    let worker = settings.steps.map(|steps| quote!(::railbus::worker::init(#steps);));
    quote! {
        #(#attrs)*
        #vis fn main() -> ::std::process::ExitCode {
            #sig #block
            #worker
            ::railbus::__private::run_main(#runtime, main())
        }
    }
}

pub(crate) fn test(arguments: TokenStream, item: &ItemFn) -> TokenStream {
    let known = ["timeout", "time", "flavor", "worker_threads"];
    let settings = settings(arguments, &known, false);
    let checked = settings.and_then(|settings| check(item, "test", TEST).map(|()| settings));
    let settings = match checked {
        Ok(settings) => settings,
        Err(error) => return error.into_compile_error(),
    };
    let ItemFn { attrs, vis, sig, block, .. } = item;
    let (name, millis, runtime) = (&sig.ident, settings.timeout_ms, runtime(&settings));
    let run = quote! {
        ::railbus::__private::run_test(#runtime, ::core::time::Duration::from_millis(#millis), #name)
    };
    // A test that returns nothing stays one, since `#[should_panic]` wants that.
    let (returns, run) = if returns_nothing(&sig.output) {
        let failed = quote!(::core::panic!("{failed:?}"));
        (quote!(), quote!(if let ::core::result::Result::Err(failed) = #run { #failed }))
    } else {
        let failed = quote!(::railbus::__private::Failed);
        (quote!(-> ::core::result::Result<(), #failed>), run)
    };
    quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #returns {
            #sig #block
            #run
        }
    }
}

const MAIN: &str = "`#[railbus::main]` goes on `async fn main()`";
const TEST: &str = "`#[railbus::test]` goes on an async function without arguments";

fn check(item: &ItemFn, attribute: &str, wanted: &str) -> Result<()> {
    let sig = &item.sig;
    if attribute == "main" && sig.ident != "main" {
        let why = format!("{wanted}; a test has `#[railbus::test]`");
        return Err(Error::new_spanned(&sig.ident, why));
    }
    if sig.asyncness.is_none() {
        let instead = match attribute {
            "main" => "write `async fn`, or leave the attribute out",
            _ => "write `async fn`, or `#[test]` for a test that awaits nothing",
        };
        let why = format!("{wanted}: {instead}");
        return Err(Error::new_spanned(sig.fn_token, why));
    }
    if let Some(argument) = sig.inputs.first() {
        let why = format!("{wanted}: nobody could give it an argument");
        return Err(Error::new_spanned(argument, why));
    }
    if let Some(parameter) = sig.generics.params.first() {
        let why = format!("{wanted}: nobody could choose its parameters");
        return Err(Error::new_spanned(parameter, why));
    }
    let is_test = |path: &syn::Path| path.segments.last().is_some_and(|s| s.ident == "test");
    match item.attrs.iter().find(|a| attribute == "test" && is_test(a.path())) {
        Some(second) => Err(Error::new_spanned(second, "`#[railbus::test]` is all it takes")),
        None => Ok(()),
    }
}

fn returns_nothing(output: &ReturnType) -> bool {
    match output {
        ReturnType::Default => true,
        ReturnType::Type(_, returned) => {
            matches!(&**returned, Type::Tuple(tuple) if tuple.elems.is_empty())
        }
    }
}

fn runtime(settings: &Settings) -> TokenStream {
    let current = quote!(::railbus::__private::Runtime::current_thread());
    match (settings.many, settings.workers) {
        (false, _) if settings.is_virtual => quote!(::railbus::testing::virtual_time(#current)),
        (false, _) => current,
        (true, None) => quote!(::railbus::__private::Runtime::multi_thread()),
        (true, Some(n)) => quote!(::railbus::__private::Runtime::multi_thread().workers(#n)),
    }
}

fn settings(arguments: TokenStream, known: &[&str], many: bool) -> Result<Settings> {
    let parser = |input: syn::parse::ParseStream<'_>| attributes::settings(input, known);
    let mut settings =
        Settings { many, workers: None, timeout_ms: TIMEOUT_MS, steps: None, is_virtual: false };
    let (mut workers_at, mut time_at) = (None, None);
    for setting in parser.parse2(arguments)? {
        match setting.key.to_string().as_str() {
            "flavor" => settings.many = is_many(&setting)?,
            "steps" => {
                let missing =
                    || setting.refuse("`steps` takes a set: `steps = Steps::new().add(..)`");
                settings.steps = Some(setting.value.clone().ok_or_else(missing)?);
            }
            "timeout" => settings.timeout_ms = millis(&setting)?,
            "time" => {
                settings.is_virtual = is_virtual(&setting)?;
                time_at = Some(setting.key);
            }
            _ => {
                settings.workers = Some(count(&setting)?);
                workers_at = Some(setting.key);
            }
        }
    }
    if let Some(key) = time_at
        && settings.is_virtual
        && settings.many
    {
        let why = "virtual time is that of one thread: leave `flavor` out";
        return Err(Error::new_spanned(key, why));
    }
    match workers_at {
        Some(key) if !settings.many => {
            let why = "`worker_threads` goes with `flavor = \"multi_thread\"`";
            Err(Error::new_spanned(key, why))
        }
        _ => Ok(settings),
    }
}

fn is_many(setting: &Setting) -> Result<bool> {
    match setting.text("current_thread")?.as_str() {
        "multi_thread" => Ok(true),
        "current_thread" => Ok(false),
        other => {
            let why = format!("no flavor `{other}`: `multi_thread` or `current_thread`");
            Err(setting.refuse(why))
        }
    }
}

fn is_virtual(setting: &Setting) -> Result<bool> {
    match setting.text("virtual")?.as_str() {
        "virtual" => Ok(true),
        "real" => Ok(false),
        other => Err(setting.refuse(format!("no time `{other}`: `virtual` or `real`"))),
    }
}

fn count(setting: &Setting) -> Result<usize> {
    let number = match &setting.value {
        Some(Expr::Lit(ExprLit { lit: Lit::Int(number), .. })) => number.base10_parse().ok(),
        _ => None,
    };
    number.filter(|n| *n > 0).ok_or_else(|| {
        setting.refuse("`worker_threads` takes a number from 1: `worker_threads = 4`")
    })
}

/// Reads a duration as Railbus writes it everywhere: a number and a unit.
fn millis(setting: &Setting) -> Result<u64> {
    let text = setting.text("5s")?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = match text[digits..].trim() {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = text[..digits].parse::<u64>().ok().filter(|n| *n > 0);
    let millis = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    millis.ok_or_else(|| {
        let why =
            format!("`{text}` is no time to wait: a number and a unit, such as 250ms, 5s, 2m");
        setting.refuse(why)
    })
}

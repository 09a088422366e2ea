//! `#[step]` on the impl block of a struct.

use super::{
    argument::{Argument, arguments},
    settings::{self, Settings},
    work::{Work, check},
};
use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Error, ImplItem, ImplItemFn, ItemImpl, ReceiverKind, Result, ReturnType, Signature, Type,
    ext::IdentExt, spanned::Spanned,
};

pub(crate) fn expand(arguments: TokenStream, item: &ItemImpl) -> TokenStream {
    match expanded(arguments, item) {
        Ok(step) => quote!(#item #step),
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error)
        }
    }
}

fn expanded(said: TokenStream, item: &ItemImpl) -> Result<TokenStream> {
    let settings = settings::read(said)?;
    if let Some((path, _)) = &item.trait_ {
        let why = "`#[step]` implements the trait itself: put it on `impl Type`, with `fn run`";
        return Err(Error::new_spanned(path, why));
    }
    let name = snake(&item.self_ty)?;
    let Some(run) = method(item, "run") else {
        let why = "a step has `fn run(&self, ..)`, whose arguments are what it needs";
        return Err(Error::new_spanned(&item.self_ty, why));
    };
    let sig = &run.sig;
    borrows_itself(sig)?;
    check(sig, &settings)?;
    let bypass = method(item, "can_bypass").map(|asks| bypass(&asks.sig, &settings)).transpose()?;
    let here = Span::mixed_site();
    let work = Work {
        name,
        settings: &settings,
        sig,
        arguments: arguments(sig)?,
        call: quote_spanned!(here=> Self::run),
        receiver: Some(quote_spanned!(here=> self)),
        bypass,
    };
    let ty = &item.self_ty;
    Ok(work.expand(&quote!(#ty), &item.generics))
}

fn method<'a>(item: &'a ItemImpl, name: &str) -> Option<&'a ImplItemFn> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Fn(method) if method.sig.ident == name => Some(method),
        _ => None,
    })
}

/// Refuses a method that does not take `&self`.
fn borrows_itself(sig: &Signature) -> Result<()> {
    let why = "a step is shared by all runs, many at once: take `&self`, and keep what changes in \
               a Mutex or an atomic";
    match sig.receiver() {
        None => Err(Error::new_spanned(&sig.ident, why)),
        Some(receiver) => match &receiver.kind {
            ReceiverKind::Reference(_, _, None) => Ok(()),
            _ => Err(Error::new_spanned(receiver, why)),
        },
    }
}

fn bypass(sig: &Signature, settings: &Settings) -> Result<(Vec<Argument>, Span)> {
    borrows_itself(sig)?;
    if let Some(asyncness) = &sig.asyncness {
        let why = "whether a step is passed by is decided at once: leave out `async`";
        return Err(Error::new_spanned(asyncness, why));
    }
    if let Some(setting) = &settings.bypass {
        let why = "`fn can_bypass` says already whether it is passed by: leave one of the two out";
        return Err(Error::new_spanned(setting, why));
    }
    if let Some(parameter) = sig.generics.params.first() {
        let why = "nobody chooses the parameters of a step: take types that own their data, and \
                   a `&T` without a lifetime";
        return Err(Error::new_spanned(parameter, why));
    }
    let returns = match &sig.output {
        ReturnType::Type(_, ty) => ty.span(),
        ReturnType::Default => sig.ident.span(),
    };
    Ok((arguments(sig)?, returns))
}

/// Returns the name of a type as a step's: `user_validation` of `UserValidation`.
fn snake(ty: &Type) -> Result<String> {
    let last = match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    };
    let Some(last) = last else {
        return Err(Error::new_spanned(ty, "`#[step]` goes on `impl Type`, with `fn run`"));
    };
    let mut snake = String::new();
    for letter in last.ident.unraw().to_string().chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    Ok(snake)
}

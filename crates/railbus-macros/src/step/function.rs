//! `#[step]` on a function.

use super::{
    argument::arguments,
    settings,
    work::{Work, check},
};
use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Attribute, Error, Generics, ItemFn, Result, ext::IdentExt};

pub(crate) fn expand(arguments: TokenStream, item: &ItemFn) -> TokenStream {
    expanded(arguments, item).unwrap_or_else(|error| {
        // The mistake is told once: what uses the step finds what it looks for.
        let (error, name, vis) = (error.into_compile_error(), &item.sig.ident, &item.vis);
        quote! {
            #error
            #[allow(non_camel_case_types, dead_code)]
            #vis struct #name {}
            #[allow(dead_code)]
            #vis fn #name() -> ::railbus::StepDef {
                ::core::panic!()
            }
        }
    })
}

fn expanded(said: TokenStream, item: &ItemFn) -> Result<TokenStream> {
    let settings = settings::read(said)?;
    let ItemFn { attrs, vis, sig, block, .. } = item;
    if let Some(receiver) = sig.receiver() {
        let why = "a function has no `self`: take what it works with as `State<T>`, or put \
                   `#[step]` on the impl block of a struct";
        return Err(Error::new_spanned(receiver, why));
    }
    check(sig, &settings)?;
    let work = Work {
        name: sig.ident.unraw().to_string(),
        settings: &settings,
        sig,
        arguments: arguments(sig)?,
        call: quote_spanned!(Span::mixed_site()=> Self::call),
        receiver: None,
        bypass: None,
    };
    let name = &sig.ident;
    let step = work.expand(&quote!(#name), &Generics::default());
    // What documents or deprecates the function does so with the step; the rest is the body's.
    let of_step = |attribute: &&Attribute| {
        attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
    };
    let (outer, inner): (Vec<_>, Vec<_>) = attrs.iter().partition(of_step);
    let (awaits, constness) = (&sig.asyncness, &sig.constness);
    let (inputs, output) = (&sig.inputs, &sig.output);
    let alone = format!("The step `{}`; `call` is its function, to be called alone.", work.name);
    let says = "Calls the function of the step alone, as a test does.";
    Ok(quote! {
        #(#outer)*
        #vis fn #name() -> ::railbus::StepDef {
            ::railbus::StepDef::of(#name {})
        }

        #[doc = #alone]
        #[allow(non_camel_case_types)]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis struct #name {}

        #[allow(deprecated)]
        impl #name {
            #[doc = #says]
            #(#inner)*
            #vis #constness #awaits fn call(#inputs) #output #block
        }

        #step
    })
}

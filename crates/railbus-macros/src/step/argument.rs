//! The arguments of a step: which value of a run each of them is.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::{
    Error, FnArg, GenericArgument, Ident, Pat, PathArguments, Result, Signature, Type,
    ext::IdentExt, spanned::Spanned,
};

/// One argument.
pub(super) struct Argument {
    /// The name of the value.
    pub(super) name: String,
    shape: Shape,
    span: Span,
}

/// How a value is taken; the type is the one it is stored as.
enum Shape {
    Lent(TokenStream),
    LentIf(TokenStream),
    Given(TokenStream),
    GivenIf(TokenStream),
}

/// Reads the arguments of a function, without its receiver.
pub(super) fn arguments(sig: &Signature) -> Result<Vec<Argument>> {
    let typed = sig.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed.map(|typed| Argument::new(name(&typed.pat)?, &typed.ty)).collect()
}

fn name(pat: &Pat) -> Result<String> {
    match pat {
        Pat::Ident(ident) if ident.subpat.is_none() && ident.by_ref.is_none() => {
            Ok(ident.ident.unraw().to_string())
        }
        Pat::Wild(_) => {
            let why = "an argument's name is the name of the value that it takes: name it";
            Err(Error::new_spanned(pat, why))
        }
        _ => {
            let why = "an argument's name is the name of the value that it takes: write a name \
                       here, and take the value apart inside";
            Err(Error::new_spanned(pat, why))
        }
    }
}

impl Argument {
    fn new(name: String, ty: &Type) -> Result<Self> {
        let span = Span::mixed_site().located_at(ty.span());
        let shape = match (ty, inside_option(ty)) {
            (_, Some(Type::Reference(inner))) => Shape::LentIf(owned(inner.elem.as_ref(), inner)?),
            (_, Some(inner)) => Shape::GivenIf(owned_tokens(inner)),
            (Type::Reference(reference), None) => {
                Shape::Lent(owned(reference.elem.as_ref(), reference)?)
            }
            (Type::ImplTrait(_), None) => {
                let why = "nothing says which type this is: a step's arguments have one type each";
                return Err(Error::new_spanned(ty, why));
            }
            (_, None) => Shape::Given(owned_tokens(ty)),
        };
        Ok(Self { name, shape, span })
    }

    /// Adds it to `signature`.
    pub(super) fn sign(&self) -> TokenStream {
        let Self { name, shape, span } = self;
        match shape {
            Shape::Lent(ty) => quote_spanned! {*span=>
                let signature = ::railbus::__private::needs::<#ty>(signature, #name);
            },
            Shape::LentIf(ty) | Shape::GivenIf(ty) => quote_spanned! {*span=>
                let signature = ::railbus::__private::takes::<#ty>(signature, #name);
            },
            Shape::Given(ty) => quote_spanned! {*span=>
                let signature =
                    <#ty as ::railbus::step::Argument<'_, _>>::sign(signature, #name);
            },
        }
    }

    /// Takes it from `input` as the local variable of this number.
    pub(super) fn take(&self, number: usize) -> TokenStream {
        let Self { name, shape, span } = self;
        let local = local(number);
        match shape {
            Shape::Lent(ty) => quote_spanned! {*span=>
                let #local = ::railbus::__private::need::<#ty>(&input, #name)?;
            },
            Shape::LentIf(ty) | Shape::GivenIf(ty) => quote_spanned! {*span=>
                let #local = ::railbus::__private::need_if::<#ty>(&input, #name)?;
            },
            Shape::Given(ty) => quote_spanned! {*span=>
                let #local = <#ty as ::railbus::step::Argument<'_, _>>::take(&input, #name)?;
            },
        }
    }

    /// Gives the local variable of this number to the function.
    pub(super) fn pass(&self, number: usize) -> TokenStream {
        let local = local(number);
        let span = self.span;
        match &self.shape {
            Shape::Lent(_) => quote_spanned!(span=> &*#local),
            Shape::LentIf(_) => quote_spanned!(span=> ::railbus::__private::lend(&#local)),
            Shape::GivenIf(_) => quote_spanned!(span=> ::railbus::__private::give(&#local)),
            Shape::Given(_) => quote_spanned!(span=> #local),
        }
    }
}

fn local(number: usize) -> Ident {
    format_ident!("argument_{number}", span = Span::mixed_site())
}

fn owned_tokens(ty: &Type) -> TokenStream {
    quote_spanned!(Span::mixed_site().located_at(ty.span())=> #ty)
}

/// Returns the type that what `reference` refers to is stored as.
fn owned(inner: &Type, reference: &syn::TypeReference) -> Result<TokenStream> {
    let span = Span::mixed_site().located_at(inner.span());
    if let Some(mutability) = reference.mutability {
        let why = "the values of a run are shared and never change: take `&T`, or a `T` to \
                   change it, and return what it becomes";
        return Err(Error::new_spanned(mutability, why));
    }
    match inner {
        Type::Slice(slice) => {
            let item = &slice.elem;
            Ok(quote_spanned!(span=> ::std::vec::Vec<#item>))
        }
        Type::Path(path) if path.path.is_ident("str") => {
            Ok(quote_spanned!(span=> ::std::string::String))
        }
        Type::ImplTrait(_) | Type::TraitObject(_) => {
            let why = "nothing says which type this is: a step's arguments have one type each";
            Err(Error::new_spanned(inner, why))
        }
        _ => Ok(owned_tokens(inner)),
    }
}

/// Returns the `T` of an `Option<T>`.
fn inside_option(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(inner) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

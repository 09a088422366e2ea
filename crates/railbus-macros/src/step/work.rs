//! What a step does, whatever it was made of: its `impl Step`.

use super::{argument::Argument, settings::Settings};
use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::{
    Error, GenericArgument, Generics, PathArguments, Result, ReturnType, Signature, Type,
    spanned::Spanned,
};

/// What a step does.
pub(super) struct Work<'a> {
    /// The function's or the struct's own name for it.
    pub(super) name: String,
    pub(super) settings: &'a Settings,
    pub(super) sig: &'a Signature,
    pub(super) arguments: Vec<Argument>,
    /// What is called: `Self::call`, and before its arguments perhaps the step itself.
    pub(super) call: TokenStream,
    pub(super) receiver: Option<TokenStream>,
    /// The arguments of its `can_bypass`, and where it says what it returns.
    pub(super) bypass: Option<(Vec<Argument>, Span)>,
}

/// Refuses what no step can be.
pub(super) fn check(sig: &Signature, settings: &Settings) -> Result<()> {
    if let Some(parameter) = sig.generics.params.first() {
        let why = "nobody chooses the parameters of a step: it takes and returns types that own \
                   their data, and a `&T` needs no lifetime";
        return Err(Error::new_spanned(parameter, why));
    }
    if let Some(token) = &sig.abi {
        return Err(Error::new_spanned(token, "a step is a Rust function"));
    }
    if let syn::Safety::Unsafe(token) = &sig.safety {
        let why = "nobody would answer for calling an unsafe step: make it safe";
        return Err(Error::new_spanned(token, why));
    }
    if let Some(blocking) = settings.blocking.as_ref().filter(|_| sig.asyncness.is_some()) {
        let why = "an async step gives way at every `.await`: leave out `blocking`, or, if it \
                   blocks its thread, `async`";
        return Err(Error::new_spanned(blocking, why));
    }
    if let ReturnType::Type(_, ty) = &sig.output
        && let Some(borrowed) = borrowed(ty)
    {
        let why = "a step's value outlives its arguments: return one that owns its data, such as \
                   String for &str";
        return Err(Error::new_spanned(borrowed, why));
    }
    Ok(())
}

/// Finds a reference that is not `'static`, in a type or in the first place where one is inside of
/// it: `Result<&str, E>`.
fn borrowed(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Reference(reference) => {
            let is_static = reference.lifetime.as_ref().is_some_and(|l| l.ident == "static");
            (!is_static).then_some(ty)
        }
        Type::Path(path) => match &path.path.segments.last()?.arguments {
            PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
                GenericArgument::Type(inner) => borrowed(inner),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

impl Work<'_> {
    fn output(&self) -> &str {
        self.settings.output.as_deref().unwrap_or(self.name())
    }

    fn name(&self) -> &str {
        self.settings.name.as_deref().unwrap_or(&self.name)
    }

    /// Implements `Step` for `ty`.
    ///
    /// All that this file writes has one hygiene, in which its own names are the function's.
    pub(super) fn expand(&self, ty: &TokenStream, generics: &Generics) -> TokenStream {
        let (parameters, _, bounds) = generics.split_for_impl();
        let name = self.name();
        let (signature, run, call) = (self.signature(), self.run(), self.calls());
        let (bypass, held) = (self.can_bypass(), self.held());
        quote_spanned! {Span::mixed_site()=>
            #[automatically_derived]
            impl #parameters ::railbus::step::Named for #ty #bounds {
                const NAME: &'static str = #name;
            }

            #[automatically_derived]
            impl #parameters ::railbus::step::Step for #ty #bounds {
                #signature
                #bypass
                #run
                #call
                #held
            }
        }
    }

    fn signature(&self) -> TokenStream {
        let (name, output, goto) = (self.name(), self.output(), &self.settings.goto);
        let new = |argument: &&Argument| self.arguments.iter().all(|a| a.name != argument.name);
        let of_bypass = self.bypass.iter().flat_map(|(arguments, _)| arguments).filter(new);
        let signs = self.arguments.iter().chain(of_bypass).map(Argument::sign);
        let here = Span::mixed_site();
        let leaves = match &self.sig.output {
            ReturnType::Default => quote_spanned! {here=>
                let signature = ::railbus::step::Signature::output::<()>(signature, #output);
            },
            ReturnType::Type(_, ty) if matches!(**ty, Type::ImplTrait(_) | Type::Never(_)) => {
                quote_spanned! {here=>
                    let signature = ::railbus::step::Signature::leaves(signature, #output);
                }
            }
            ReturnType::Type(_, ty) => quote_spanned! {here=>
                let signature =
                    ::railbus::__private::Returns::<#ty>::new().sign(signature, #output);
            },
        };
        quote_spanned! {here=>
            fn signature(&self) -> ::railbus::step::Signature {
                #[allow(unused_imports)]
                use ::railbus::__private::ReturnsValue as _;
                let signature = ::railbus::step::Signature::new(#name);
                #(#signs)*
                #leaves
                #(let signature = ::railbus::step::Signature::goto(signature, #goto);)*
                signature
            }
        }
    }

    fn run(&self) -> TokenStream {
        quote_spanned! {Span::mixed_site()=>
            fn run<'step, 'input, 'run>(
                &'step self,
                input: ::railbus::step::Input<'input>,
            ) -> ::railbus::__private::Pinned<'run>
            where
                'step: 'run,
                'input: 'run,
                Self: 'run,
            {
                ::railbus::__private::pinned(::railbus::step::Step::call(self, input))
            }
        }
    }

    fn calls(&self) -> TokenStream {
        let (takes, passes) = hands_over(&self.arguments);
        let passes = self.receiver.iter().cloned().chain(passes);
        let (call, here) = (&self.call, Span::mixed_site());
        let awaits = self.sig.asyncness.map(|_| quote_spanned!(here=> .await));
        // Where what a step returns can't be stored, its return type is shown.
        let span = match &self.sig.output {
            ReturnType::Type(_, ty) => here.located_at(ty.span()),
            ReturnType::Default => here,
        };
        let came = quote_spanned! {span=>
            ::railbus::__private::Returned(returned).into_step_result()
        };
        // What never returns is of any type, so one is said.
        let never = match &self.sig.output {
            ReturnType::Type(_, ty) if matches!(**ty, Type::Never(_)) => {
                Some(quote_spanned!(here=> : ()))
            }
            _ => None,
        };
        let work = quote_spanned! {here=>
            #[allow(unused_imports)]
            use ::railbus::__private::ReturnedValue as _;
            #takes
            #[allow(clippy::let_unit_value, clippy::diverging_sub_expression, unreachable_code)]
            let returned #never = #call(#(#passes),*) #awaits;
            #[allow(unreachable_code)]
            #came
        };
        let ran = match self.sig.asyncness {
            Some(_) => quote_spanned! {here=>
                ::railbus::__private::later(async move { #work })
            },
            None => quote_spanned! {here=>
                ::railbus::step::Ran::Now((|| -> ::railbus::StepResult { #work })())
            },
        };
        quote_spanned! {here=>
            fn call<'run>(
                &'run self,
                input: ::railbus::step::Input<'run>,
            ) -> ::railbus::step::Ran<'run> {
                let _ = &input;
                #ran
            }
        }
    }

    fn can_bypass(&self) -> Option<TokenStream> {
        let (arguments, returns) = self.bypass.as_ref()?;
        let (takes, passes) = hands_over(arguments);
        let span = Span::mixed_site().located_at(*returns);
        let decided = quote_spanned!(span=> ::railbus::__private::bypass(asked));
        Some(quote_spanned! {Span::mixed_site()=>
            fn can_bypass(
                &self,
                input: &::railbus::step::Input<'_>,
            ) -> ::railbus::StepResult<::railbus::step::Bypass> {
                let input = *input;
                let _ = &input;
                #takes
                let asked = Self::can_bypass(self, #(#passes),*);
                #decided
            }
        })
    }

    fn held(&self) -> Option<TokenStream> {
        let calls = &self.settings.held;
        (!calls.is_empty()).then(|| {
            quote_spanned! {Span::mixed_site()=>
                fn held(
                    &self,
                    def: ::std::boxed::Box<dyn ::core::any::Any>,
                ) -> ::std::boxed::Box<dyn ::core::any::Any> {
                    ::railbus::StepDef::held(def, |def| def #(#calls)*)
                }
            }
        })
    }
}

/// Takes arguments, and gives them to a function.
fn hands_over(arguments: &[Argument]) -> (TokenStream, Vec<TokenStream>) {
    let takes = arguments.iter().enumerate().map(|(i, argument)| argument.take(i)).collect();
    let passes = arguments.iter().enumerate().map(|(i, argument)| argument.pass(i)).collect();
    (takes, passes)
}

//! `#[derive(Event)]`.

use crate::attributes;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Ident, LitStr, Meta, Result, Token,
    parse::{ParseStream, Parser},
};

/// What the attribute says of the events.
struct Said {
    event_type: String,
    topic: Option<String>,
    source: Option<String>,
    version: Option<String>,
}

pub(crate) fn derive(input: &DeriveInput) -> TokenStream {
    if let Err(error) = check(input) {
        return error.into_compile_error();
    }
    match said(input) {
        Ok(said) => expand(&input.ident, &said),
        // The mistake is told once: what uses the type finds what it looks for.
        Err(error) => {
            let said = Said { event_type: String::new(), topic: None, source: None, version: None };
            let (error, rest) = (error.into_compile_error(), expand(&input.ident, &said));
            quote!(#error #rest)
        }
    }
}

fn expand(name: &Ident, said: &Said) -> TokenStream {
    let Said { event_type, topic, source, version } = said;
    let setter = |method: &str, value: &Option<String>| {
        let method = Ident::new(method, name.span());
        value.as_ref().map(|value| quote!(.#method(#value)))
    };
    let setters = [setter("topic", topic), setter("source", source), setter("schema", version)];
    let setters = setters.iter().flatten();
    let says = format!("The type of the events that carry it: `{event_type}`.");
    quote! {
        #[automatically_derived]
        impl #name {
            #[doc = #says]
            pub const TYPE: &'static str = #event_type;

            /// Starts an event that carries it, to say more than its type says: an id, a
            /// correlation, metadata.
            pub fn into_draft(self) -> ::railbus::EventBuilder {
                ::railbus::Event::new(Self::TYPE)#(#setters)*.with_payload(self)
            }
        }

        #[automatically_derived]
        impl ::core::convert::From<#name> for ::railbus::Event {
            fn from(payload: #name) -> Self {
                ::core::convert::Into::into(payload.into_draft())
            }
        }

        #[automatically_derived]
        impl ::railbus::IntoEvent for #name {
            type Held = ::railbus::Event;

            fn into_event(self) -> ::railbus::Event {
                ::core::convert::Into::into(self)
            }
        }
    }
}

/// Checks that it can be a payload at all.
fn check(input: &DeriveInput) -> Result<()> {
    if let Some(parameter) = input.generics.params.first() {
        let why = "the payload of an event is one type that owns its data: derive Event on a type \
                   without parameters (`String` instead of `&str`, `Vec<Item>` instead of `T`)";
        return Err(Error::new_spanned(parameter, why));
    }
    match &input.data {
        Data::Union(union) => {
            let why = "a union can't be encoded: derive Event on a struct or an enum";
            Err(Error::new_spanned(union.union_token, why))
        }
        Data::Enum(data) => {
            let variants = data.variants.iter().flat_map(|v| &v.attrs);
            match variants.into_iter().find(|a| a.path().is_ident("event")) {
                Some(attribute) => {
                    let why = "an enum is the payload of one type of events: put `#[event(..)]` \
                               on the enum, or derive Event on a struct for each type";
                    Err(Error::new_spanned(attribute, why))
                }
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn said(input: &DeriveInput) -> Result<Said> {
    let mut attributes = input.attrs.iter().filter(|a| a.path().is_ident("event"));
    let example = example(&input.ident);
    let Some(attribute) = attributes.next() else {
        let why = format!("say which type of events carries it: `{example}`");
        return Err(Error::new_spanned(&input.ident, why));
    };
    if let Some(second) = attributes.next() {
        let why = "a second `#[event(..)]`: a type is the payload of one type of events";
        return Err(Error::new_spanned(second, why));
    }
    read(attribute, &example)
}

/// Returns the attribute as it may be written, from `OrderPlaced` to `order.placed`.
fn example(name: &Ident) -> String {
    let mut event_type = String::new();
    for letter in name.to_string().chars() {
        if letter.is_uppercase() && !event_type.is_empty() {
            event_type.push('.');
        }
        event_type.extend(letter.to_lowercase());
    }
    format!("#[event(\"{event_type}\")]")
}

fn read(attribute: &Attribute, example: &str) -> Result<Said> {
    let missing = format!("the type of the events is missing: `{example}`");
    let Meta::List(list) = &attribute.meta else {
        return Err(Error::new_spanned(attribute, missing));
    };
    if list.tokens.is_empty() {
        return Err(Error::new_spanned(attribute, missing));
    }
    let parser = |input: ParseStream<'_>| {
        if !input.peek(LitStr) {
            return Err(input.error(format!("the type of the events comes first: `{example}`")));
        }
        let event_type: LitStr = input.parse()?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        let mut said = Said {
            event_type: type_of(&event_type, example)?,
            topic: None,
            source: None,
            version: None,
        };
        for setting in attributes::settings(input, &["topic", "source", "version"])? {
            let (place, example) = match setting.key.to_string().as_str() {
                "topic" => (&mut said.topic, "orders"),
                "source" => (&mut said.source, "shop"),
                _ => (&mut said.version, "1.0"),
            };
            let text = setting.text(example)?;
            if text.is_empty() {
                return Err(setting.refuse(format!("`{}` is empty: leave it out", setting.key)));
            }
            *place = Some(text);
        }
        Ok(said)
    };
    parser.parse2(list.tokens.clone())
}

/// The most bytes that a type or a topic may have.
const NAME_MAX: usize = 1024;

fn type_of(literal: &LitStr, example: &str) -> Result<String> {
    let event_type = literal.value();
    let refuse = |why: String| Err(Error::new_spanned(literal, why));
    if event_type.is_empty() {
        refuse(format!("the type of the events is empty: `{example}`"))
    } else if event_type.contains(':') {
        let dotted = event_type.replace(':', ".");
        refuse(format!(
            "`{event_type}` looks like a topic; types have dots: \
             `#[event(\"{dotted}\", topic = \"{event_type}\")]`"
        ))
    } else if event_type.contains(['*', '?', '[']) {
        refuse(format!("`{event_type}` is a pattern; an event has one type: `{example}`"))
    } else if event_type.len() > NAME_MAX || event_type.contains('\0') {
        refuse(format!("a type has at most {NAME_MAX} bytes and no NUL character"))
    } else {
        Ok(event_type)
    }
}

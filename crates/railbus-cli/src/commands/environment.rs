//! What the environment says of the bus, and what it was meant to say.

use railbus::options::misspelt;

/// Says which variables are ignored and look like one that is not.
pub(super) fn slips() -> Vec<String> {
    // A name that is not UTF-8 can't be one of ours.
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut slips: Vec<_> = misspelt(names)
        .into_iter()
        .map(|(name, meant)| format!("the variable `{name}` is ignored: did you mean `{meant}`?"))
        .collect();
    slips.sort();
    slips
}

/// Tells whether a variable says where the bus is, or how it is opened.
pub(super) fn names_the_bus() -> bool {
    let ours = |name: &str| name == "RAILBUS_URL" || name.starts_with("RAILBUS_BUS__");
    std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(ours))
}

//! The order of imports: floor by floor, left to right. Where it holds, no cycle can exist.

use super::{FLOORS, Violation, source::Source, source::is_name};
use std::collections::BTreeMap;

const SRC: &str = "crates/railbus/src/";

/// A file's or an import's place in the tree of modules.
type Module = Vec<String>;

/// A file imports only what its floor, or its folder's `mod.rs`, lists before it.
pub(crate) fn imports_follow_the_floors(sources: &[Source]) -> Vec<Violation> {
    let house = House::new(sources);
    let mut violations = Vec::new();
    for source in sources {
        let Some(from) = module_of(&source.path) else { continue };
        if from.is_empty() {
            continue; // lib.rs re-exports what it likes: nobody imports from it.
        }
        for (offset, to) in imports(source, &from) {
            if let Some(why) = house.refuses(&from, &to) {
                violations.push(Violation::at(source, offset, why));
            }
        }
    }
    violations.dedup_by(|a, b| (&a.path, a.line, &a.why) == (&b.path, b.line, &b.why));
    violations
}

/// `lib.rs` lists its modules in the order of [`FLOORS`], and a `mod.rs` lists all of its folder.
pub(crate) fn modules_stand_in_order(sources: &[Source]) -> Vec<Violation> {
    let house = House::new(sources);
    let mut violations = Vec::new();
    for source in sources {
        let Some(module) = module_of(&source.path) else { continue };
        if let Some((name, parent)) = module.split_last()
            && house.rank(parent, name).is_none()
        {
            let list = if parent.is_empty() { "FLOORS" } else { "mod.rs" };
            violations.push(Violation::at(source, 0, format!("{list} does not list this module")));
        }
        if module.is_empty() {
            let listed = mods(source);
            for ((_, before), (offset, name)) in listed.iter().zip(listed.iter().skip(1)) {
                let rank = house.rank(&[], name);
                if rank.is_some() && rank < house.rank(&[], before) {
                    let why = format!("`{name}` stands before `{before}` in FLOORS");
                    violations.push(Violation::at(source, *offset, why));
                }
            }
        }
    }
    violations
}

struct House {
    /// The modules that each folder's `mod.rs`, or for the root [`FLOORS`], lists.
    order: BTreeMap<Module, Vec<String>>,
    modules: Vec<Module>,
}

impl House {
    fn new(sources: &[Source]) -> Self {
        let mut order = BTreeMap::new();
        let floors = FLOORS.iter().flat_map(|(_, floor)| floor.iter());
        order.insert(Vec::new(), floors.map(ToString::to_string).collect());
        for source in sources.iter().filter(|s| s.path.ends_with("/mod.rs")) {
            if let Some(module) = module_of(&source.path) {
                order.insert(module, mods(source).into_iter().map(|(_, name)| name).collect());
            }
        }
        let modules = sources.iter().filter_map(|s| module_of(&s.path)).collect();
        Self { order, modules }
    }

    fn rank(&self, folder: &[String], name: &str) -> Option<usize> {
        self.order.get(folder)?.iter().position(|listed| listed == name)
    }

    /// Says why `from` may not import `to`; nothing if it may.
    fn refuses(&self, from: &[String], to: &[String]) -> Option<String> {
        // What follows the last module of a path is an item.
        let length = (0..=to.len()).rev().find(|n| self.modules.iter().any(|m| *m == to[..*n]));
        let (path, to) = (to.join("::"), &to[..length.unwrap_or(0)]);
        let same = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        if same == from.len() {
            return None;
        }
        let Some(name) = to.get(same) else {
            return Some(format!("`crate::{path}`: import it from the file that it is in"));
        };
        let folder = &from[..same];
        if self.rank(folder, name)? < self.rank(folder, &from[same])? {
            return None;
        }
        let list = if same == 0 { "FLOORS" } else { "mod.rs" };
        Some(format!("imports `{name}`, which {list} lists after `{}`", from[same]))
    }
}

fn module_of(path: &str) -> Option<Module> {
    let path = path.strip_prefix(SRC)?.strip_suffix(".rs")?;
    let mut module: Module = path.split('/').map(Into::into).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    Some(module)
}

/// Returns the `mod name;` lines of a file.
fn mods(source: &Source) -> Vec<(usize, String)> {
    let places = source.find("mod").into_iter().map(|at| (at, source.code[at + 3..].trim_start()));
    places
        .filter_map(|(at, rest)| {
            let name = name(rest);
            let listed = !name.is_empty() && rest[name.len()..].trim_start().starts_with(';');
            listed.then(|| (at, name.to_string()))
        })
        .collect()
}

/// Returns every path into the crate, also those within expressions; what tests import is free.
fn imports(source: &Source, from: &[String]) -> Vec<(usize, Module)> {
    let mut found = Vec::new();
    for offset in source.find("crate::") {
        // `$crate::` is a macro's; `pub(in crate::a)` imports nothing.
        let before = source.code[..offset].trim_end();
        if !source.is_test(offset) && !before.ends_with('$') && !before.ends_with("(in") {
            paths(&source.code[offset + 7..], &mut Vec::new(), offset, &mut found);
        }
    }
    for offset in source.find("super::") {
        let chained = source.code[..offset].ends_with("super::");
        if source.is_test(offset) || chained {
            continue;
        }
        let (mut rest, mut base) = (&source.code[offset..], from.to_vec());
        let inline = inline_depth(source, offset);
        base.extend(std::iter::repeat_n(String::new(), inline));
        while let Some(after) = rest.strip_prefix("super::") {
            rest = after;
            base.pop();
        }
        base.retain(|name| !name.is_empty());
        paths(rest, &mut base, offset, &mut found);
    }
    found
}

/// Returns how many `mod name { .. }` of the file enclose the offset.
fn inline_depth(source: &Source, offset: usize) -> usize {
    let open = source.find("mod").into_iter().map(|at| super::source::item(&source.code, at));
    open.filter(|(head, end)| (*head..*end).contains(&offset)).count()
}

/// Reads the tree of paths at the beginning of `code`; returns how long it is.
fn paths(code: &str, base: &mut Module, offset: usize, found: &mut Vec<(usize, Module)>) -> usize {
    let start = code.len() - code.trim_start().len();
    let rest = &code[start..];
    if rest.starts_with('{') {
        let mut at = start + 1;
        loop {
            at += paths(&code[at..], base, offset, found);
            at += code[at..].find([',', '}']).unwrap_or(code.len() - at);
            if code[at..].starts_with(',') {
                at += 1;
            } else {
                return (at + 1).min(code.len());
            }
        }
    }
    let name = name(rest);
    if name.is_empty() {
        if rest.starts_with('*') {
            found.push((offset, base.clone()));
        }
        return start;
    }
    base.push(name.into());
    let after = &rest[name.len()..];
    let mut length = start + name.len();
    match after.strip_prefix("::") {
        Some(next) if !next.starts_with('<') => length += 2 + paths(next, base, offset, found),
        _ => found.push((offset, base.clone())),
    }
    base.pop();
    length
}

fn name(text: &str) -> &str {
    &text[..text.bytes().take_while(|b| is_name(*b)).count()]
}

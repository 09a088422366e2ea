//! What is checked when a pipeline is built: names, and that every step will find what it needs,
//! whichever way a run takes.

use super::{
    names::{check_alone, check_names},
    parts::{Given, Leaves, Node, Wanted},
    there::{Left, There},
    ways::Walk,
};
use crate::{
    error::{Error, Result},
    state::States,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// What a check came to.
pub(super) struct Checked {
    pub(super) wanted: Wanted,
    pub(super) leaves: Vec<Leaves>,
}

/// Checks a pipeline, binds what is piped, and returns the values it must and may be given, and
/// what it leaves.
///
/// # Errors
/// Returns a config error that names the step and what is wrong with it.
pub(super) fn check(
    pipeline: &str,
    nodes: &mut [Node],
    declared: Vec<Given>,
    states: &States,
    lenient: bool,
) -> Result<Checked> {
    let named = |e: Error| e.with("pipeline", pipeline.escape_debug());
    check_names(pipeline, nodes).map_err(named)?;
    let targets = nodes.iter().flat_map(|node| node.def.signature.targets());
    let targets: HashSet<&str> = targets.map(|target| &**target).collect();
    for node in nodes.iter() {
        check_alone(node, nodes, &targets, states)
            .map_err(|e| named(e.with("step", &node.def.name)))?;
    }
    // Where inputs are declared, they are all there are.
    let closed = !declared.is_empty();
    let mut left = There::default();
    for given in &declared {
        left.insert(&given.name, Left { by: None, kind: given.kind });
    }
    let places = nodes.iter().enumerate().filter(|(_, node)| node.is_named());
    let places = places.map(|(i, node)| (Arc::clone(&node.def.name), i)).collect();
    let (inputs, optional) = (declared, Vec::new());
    let mut walk = Walk {
        nodes,
        lenient,
        closed,
        inputs,
        optional,
        places,
        left,
        undo: Vec::new(),
        maybe: HashMap::new(),
        seen: HashSet::new(),
        jumps: BTreeMap::new(),
        is_again: false,
        lost: HashMap::new(),
        first_jump: None,
    };
    walk.line(0, None, None).and_then(|()| walk.jumps()).map_err(named)?;
    Ok(walk.done())
}

impl Walk<'_> {
    fn done(self) -> Checked {
        let Self { left, maybe, inputs, mut optional, closed, .. } = self;
        // Where inputs are declared, nothing else is given.
        optional.retain(|key| !closed && inputs.iter().all(|given| given.name != *key));
        let leaf = |(name, sure): (String, Left)| {
            let now = left.get(&name);
            let is_sure = now.is_some_and(|now| now.by.is_some());
            let kind = now.map_or(sure.kind, |now| now.kind);
            Leaves { name: name.into(), kind, is_sure }
        };
        let mut leaves: Vec<Leaves> = maybe.into_iter().map(leaf).collect();
        leaves.sort_by(|a, b| a.name.cmp(&b.name));
        Checked { wanted: Wanted { inputs, optional }, leaves }
    }
}

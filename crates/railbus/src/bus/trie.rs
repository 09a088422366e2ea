//! A map from hashes that is copied cheaply when it changes: only the way to the change is new.

use std::sync::Arc;

/// How many bits of a hash choose a branch.
const BITS: u32 = 6;
const BRANCHES: usize = 1 << BITS;

/// How many values a leaf holds before it is split.
const LEAF_MAX: usize = 16;

/// A map from hashes to values; what a value is for, the caller asks the value.
#[derive(Debug)]
pub(super) struct Trie<V>(Option<Arc<Node<V>>>);

#[derive(Debug)]
enum Node<V> {
    Leaf(Vec<(u64, V)>),
    Inner(Box<[Trie<V>; BRANCHES]>),
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Clone> Trie<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the value of that hash which `is_it` accepts.
    #[inline]
    pub(super) fn get(&self, hash: u64, is_it: impl Fn(&V) -> bool) -> Option<&V> {
        let (mut node, mut rest) = (self.0.as_deref()?, hash);
        loop {
            match node {
                Node::Leaf(values) => {
                    let found = values.iter().find(|(h, value)| *h == hash && is_it(value));
                    return found.map(|(_, value)| value);
                }
                Node::Inner(branches) => {
                    node = branches[rest as usize % BRANCHES].0.as_deref()?;
                    rest >>= BITS;
                }
            }
        }
    }

    /// Returns the map with that value changed to what `change` makes of it: added if there was
    /// none, removed if it makes none of it.
    pub(super) fn changed(
        &self,
        hash: u64,
        is_it: impl Fn(&V) -> bool,
        change: impl FnOnce(Option<&V>) -> Option<V>,
    ) -> Self {
        self.changed_at(0, hash, &is_it, change)
    }

    fn changed_at(
        &self,
        depth: u32,
        hash: u64,
        is_it: &dyn Fn(&V) -> bool,
        change: impl FnOnce(Option<&V>) -> Option<V>,
    ) -> Self {
        match self.0.as_deref() {
            None => Self::leaf(change(None).map(|value| (hash, value)).into_iter().collect()),
            Some(Node::Leaf(values)) => {
                let mut values = values.clone();
                match values.iter().position(|(h, value)| *h == hash && is_it(value)) {
                    Some(at) => match change(Some(&values[at].1)) {
                        Some(value) => values[at].1 = value,
                        None => drop(values.swap_remove(at)),
                    },
                    None => values.extend(change(None).map(|value| (hash, value))),
                }
                if values.len() > LEAF_MAX && depth * BITS < u64::BITS {
                    return Self::split(depth, values);
                }
                Self::leaf(values)
            }
            Some(Node::Inner(branches)) => {
                let mut branches = branches.clone();
                let branch = &mut branches[branch_of(depth, hash)];
                *branch = branch.changed_at(depth + 1, hash, is_it, change);
                let empty = branches.iter().all(Trie::is_empty);
                Self((!empty).then(|| Arc::new(Node::Inner(branches))))
            }
        }
    }

    fn leaf(values: Vec<(u64, V)>) -> Self {
        Self((!values.is_empty()).then(|| Arc::new(Node::Leaf(values))))
    }

    fn split(depth: u32, values: Vec<(u64, V)>) -> Self {
        let mut leaves: [Vec<(u64, V)>; BRANCHES] = std::array::from_fn(|_| Vec::new());
        for (hash, value) in values {
            leaves[branch_of(depth, hash)].push((hash, value));
        }
        Self(Some(Arc::new(Node::Inner(Box::new(leaves.map(Self::leaf))))))
    }
}

fn branch_of(depth: u32, hash: u64) -> usize {
    (hash >> (depth * BITS)) as usize % BRANCHES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else_and_ends_empty() {
        let mut trie = Trie::default();
        // Hashes that agree in their low bits, and some that agree in all.
        let all: Vec<(u64, u32)> = (0..5000u32).map(|n| (u64::from(n % 700) << 20, n)).collect();
        for (hash, n) in &all {
            trie = trie.changed(*hash, |v| v == n, |_| Some(*n));
        }
        for (hash, n) in &all {
            assert_eq!(trie.get(*hash, |v| v == n), Some(n));
            assert_eq!(trie.get(hash + 1, |v| v == n), None);
        }
        let before = trie.clone();
        for (hash, n) in &all {
            trie = trie.changed(*hash, |v| v == n, |_| None);
        }
        assert!(trie.is_empty());
        assert!(all.iter().all(|(hash, n)| before.get(*hash, |v| v == n).is_some()));
    }
}

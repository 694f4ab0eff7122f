//! Marking: the set of nodes that can be reached. Pure: it knows neither rows nor labels.

use std::collections::HashSet;
use std::hash::Hash;

/// Adds to `reached` everything that `roots` lead to and that is not in it yet.
///
/// `refs` appends the nodes that a node refers to. It is asked once for each node. Whatever was in `reached` before
/// is taken as followed, so that marking can go on with new roots. Ends early with the first error of `refs`.
pub fn mark<N: Clone + Eq + Hash, E>(
    roots: impl IntoIterator<Item = N>,
    reached: &mut HashSet<N>,
    mut refs: impl FnMut(&N, &mut Vec<N>) -> Result<(), E>,
) -> Result<(), E> {
    let mut waiting: Vec<N> = Vec::new();
    for root in roots {
        if reached.insert(root.clone()) {
            waiting.push(root);
        }
    }
    let mut found = Vec::new();
    while let Some(node) = waiting.pop() {
        refs(&node, &mut found)?;
        for target in found.drain(..) {
            if !reached.contains(&target) {
                reached.insert(target.clone());
                waiting.push(target);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// The naive model: repeat until nothing is added.
    fn naive(nodes: usize, roots: &[usize], edges: &[(usize, usize)]) -> HashSet<usize> {
        let mut reached: HashSet<usize> = roots.iter().copied().collect();
        for _ in 0..nodes {
            for (from, to) in edges {
                if reached.contains(from) {
                    reached.insert(*to);
                }
            }
        }
        reached
    }

    fn follow(
        edges: &[(usize, usize)],
    ) -> impl FnMut(&usize, &mut Vec<usize>) -> Result<(), Infallible> {
        |node, found| {
            found.extend(
                edges
                    .iter()
                    .filter(|edge| edge.0 == *node)
                    .map(|edge| edge.1),
            );
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn exactly_the_reachable_is_marked(
            roots in prop::collection::vec(0usize..24, 0..6),
            later in prop::collection::vec(0usize..24, 0..6),
            edges in prop::collection::vec((0usize..24, 0usize..24), 0..60),
        ) {
            let mut reached = HashSet::new();
            mark(roots.clone(), &mut reached, follow(&edges)).unwrap();
            prop_assert_eq!(&reached, &naive(24, &roots, &edges));
            // Going on with more roots is the same as beginning with all of them.
            mark(later.clone(), &mut reached, follow(&edges)).unwrap();
            let all = [roots, later].concat();
            prop_assert_eq!(&reached, &naive(24, &all, &edges));
        }
    }
}

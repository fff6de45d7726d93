"""Distances between nodes of trees, each tree a task; compared with the package without Ray."""

import node_distance
import node_distance_ray  # Starts Ray when it is imported.
import numpy as np
import ray
from _checks import check, done


def tree(size, seed):
    """A batch of one random tree: its edges (parent, child), and the number of its nodes."""
    random = np.random.default_rng(seed)
    return [[(int(random.integers(child)), child) for child in range(1, size)]], [size]


def same(left, right):
    return all(
        np.array_equal(one, other) if not isinstance(one, list) else one == other
        for one, other in zip(left, right, strict=True)
    )


trees = [tree(10 + seed % 15, seed) for seed in range(60)]
edges, numbers = [one[0] for one in trees], [one[1] for one in trees]
alone = [node_distance.node_token_distances(e, n, cutoff=25) for e, n in trees]
check("importing it starts a session", ray.is_initialized())
parallel = node_distance_ray.node_token_distances(edges, numbers, cutoff=25)
check("every tree has an answer", len(parallel) == len(alone))
check("distances are those of the package without Ray", all(map(same, parallel, alone)))

between_nodes, between_tokens = [one[0] for one in parallel], [one[1] for one in parallel]
counted = node_distance_ray.tokenvsnode_distribution(
    between_tokens, between_nodes, xmin=-5, xmax=15
)
expected = [
    node_distance.tokenvsnode_distribution(tokens, nodes, xmin=-5, xmax=15)
    for tokens, nodes in zip(between_tokens, between_nodes, strict=True)
]
check("distributions are the same", all(map(same, counted, expected)))
done()

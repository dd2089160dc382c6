"""One signature for several contents: a hash tree whose root is signed, and for each content its path to the root.

A signature costs as much as everything else that is done for an event of a batch, a hash a hundredth of it; so up to
`GROUP` contents share a signature. Each carries the signature and its path, so each is checked alone, in any order and
wherever it got to.

Source: RFC 9162, section 2.1 (Merkle trees; the prefixes 0 and 1 keep leaves and nodes apart). A path tells at each
step on which side its hash belongs, which the RFC derives from index and size instead.
"""

from collections.abc import Sequence
from hashlib import sha256

GROUP = 16
_HASH = 32
_STEP = 1 + _HASH
_MOST_STEPS = 16
_LEFT, _RIGHT = b"\0", b"\1"


class PathMalformed(Exception):
    """A path does not consist of steps, or of too many."""


def leaf_of(content: bytes) -> bytes:
    """The hash of a content."""
    return sha256(b"\0" + content).digest()


def tree_of(leaves: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """Root and paths: path i leads from leaf i to the root. The tree of one leaf is that leaf, with an empty path."""
    paths = [b""] * len(leaves)
    level = [(leaf, [position]) for position, leaf in enumerate(leaves)]
    while len(level) > 1:
        above = []
        for (left, under_left), (right, under_right) in zip(level[::2], level[1::2], strict=False):
            for position in under_left:
                paths[position] += _RIGHT + right
            for position in under_right:
                paths[position] += _LEFT + left
            above.append((sha256(b"\1" + left + right).digest(), under_left + under_right))
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0][0], paths


def root_of(leaf: bytes, path: bytes) -> bytes:
    """The root to which a path leads from a leaf.

    Raises:
        PathMalformed: it is no path.
    """
    if len(path) % _STEP or len(path) > _MOST_STEPS * _STEP:
        raise PathMalformed("the path to the signed root is malformed")
    node = leaf
    for start in range(0, len(path), _STEP):
        side, beside = path[start : start + 1], path[start + 1 : start + _STEP]
        if side not in (_LEFT, _RIGHT):
            raise PathMalformed("a step of the path to the signed root has no side")
        node = sha256(b"\1" + (beside + node if side == _LEFT else node + beside)).digest()
    return node

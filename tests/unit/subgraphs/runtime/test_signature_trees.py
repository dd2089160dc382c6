"""Hash trees: each leaf's path leads to the one root, and no other content's does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgraphs.runtime.signature_trees import PathMalformed, leaf_of, root_of, tree_of


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=40))
def test_the_path_of_every_content_leads_to_the_root(contents: list[bytes]) -> None:
    root, paths = tree_of([leaf_of(content) for content in contents])
    assert [root_of(leaf_of(content), path) for content, path in zip(contents, paths, strict=True)] == [root] * len(
        contents
    )


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=40, unique=True), st.binary(max_size=10))
def test_no_path_leads_from_another_content_to_the_root(contents: list[bytes], other: bytes) -> None:
    root, paths = tree_of([leaf_of(content) for content in contents])
    assert all(
        root_of(leaf_of(other), path) != root for content, path in zip(contents, paths, strict=True) if content != other
    )


def test_a_node_is_not_taken_for_a_content() -> None:
    left, right = leaf_of(b"a"), leaf_of(b"b")
    root, _ = tree_of([left, right])
    assert leaf_of(left + right) != root
    assert leaf_of(b"\1" + left + right) != root


@pytest.mark.parametrize("path", [b"x", bytes(32), bytes(34), b"\2" + bytes(32), bytes(33 * 17)])
def test_what_is_no_path_is_refused(path: bytes) -> None:
    with pytest.raises(PathMalformed):
        root_of(leaf_of(b"a"), path)

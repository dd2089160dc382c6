"""The groups that are built, and how to build each; a process imports only the groups that it hosts."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import cast

from domain.catalog import Group
from subgraphs.runtime.faces import GroupFaces, GroupResources

Build = Callable[[GroupResources], Awaitable[GroupFaces]]


def builder(group: Group) -> Build:
    """The `build` of `subgraphs/<group>/group.py`."""
    return cast("Build", import_module(f"subgraphs.{group.value}.group").build)

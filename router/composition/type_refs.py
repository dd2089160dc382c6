"""Type references as SDL text (`[Int!]!`), which compares, hashes and prints without any work."""

from collections.abc import Callable


def named(ref: str) -> str:
    """The innermost type name: `[Int!]!` gives `Int`."""
    return ref.replace("[", "").replace("]", "").replace("!", "")


def is_non_null(ref: str) -> bool:
    return ref.endswith("!")


def is_list(ref: str) -> bool:
    return ref.startswith("[")


def nullable(ref: str) -> str:
    """The reference without an outer `!`."""
    return ref.removesuffix("!")


def element(ref: str) -> str:
    """What a list (nullable or not) holds."""
    return nullable(ref)[1:-1]


def renamed(ref: str, names: dict[str, str]) -> str:
    """The reference with its innermost name replaced where `names` has it."""
    name = named(ref)
    return ref.replace(name, names[name]) if name in names else ref


def is_subtype(sub: str, of: str, is_possible: Callable[[str, str], bool]) -> bool:
    """Whether a value of type `sub` may stand where `of` is expected.

    `is_possible(abstract, name)` says whether an abstract type includes `name`.
    """
    if sub == of:
        return True
    if is_non_null(sub):
        return is_subtype(sub[:-1], nullable(of), is_possible)
    if is_non_null(of):
        return False
    if is_list(sub) or is_list(of):
        return is_list(sub) and is_list(of) and is_subtype(element(sub), element(of), is_possible)
    return is_possible(of, sub)

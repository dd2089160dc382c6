"""The plan of an operation whose conditions are not decided: what depends on which variable, for reading.

Operations are planned once their `@skip`, `@include` and `@defer` are decided, so that every plan is as good as one for an
operation without them. To show all of it, each decision is planned, and what the two plans of a variable have in common
is moved out of the condition: equal parts are unconditional, and of two sequences or two parallels only the members that
differ depend on the variable.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from router.errors import ClientError
from router.planning.plan import ParallelNode, PlanNode, QueryPlan, SequenceNode, node_lines

MAX_CONDITION_VARIABLES = 6
"""Each variable doubles the plans to be made."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """Members one after another, or side by side."""

    name: str
    members: "tuple[_Tree, ...]"


@dataclass(frozen=True, slots=True)
class _Condition:
    """then: while the variable is true; otherwise: while it is not. None: nothing."""

    variable: str
    then: "_Tree | None"
    otherwise: "_Tree | None"


_Tree = _Leaf | _Block | _Condition


def print_undecided(plan: Callable[[Mapping[str, bool]], QueryPlan], variables: tuple[str, ...]) -> str:
    """The plans for all values of some variables as one text; `plan` makes the one for given values.

    Raises:
        ClientError: there are more than MAX_CONDITION_VARIABLES.
    """
    if len(variables) > MAX_CONDITION_VARIABLES:
        names = ", ".join(f"${name}" for name in variables)
        raise ClientError(
            f"The plan depends on {len(variables)} variables ({names}): give their values with --variables.",
            code="OPERATION_TOO_LARGE",
        )
    tree = _decide(plan, variables, {})
    if tree is None:
        return "QueryPlan {}"
    return "\n".join(["QueryPlan {", *_lines(tree, "  "), "}"])


def _decide(
    plan: Callable[[Mapping[str, bool]], QueryPlan], variables: tuple[str, ...], decided: Mapping[str, bool]
) -> _Tree | None:
    if not variables:
        node = plan(decided).node
        return None if node is None else _tree(node)
    first, *rest = variables
    then = _decide(plan, tuple(rest), {**decided, first: True})
    otherwise = _decide(plan, tuple(rest), {**decided, first: False})
    return _factored(first, then, otherwise)


def _tree(node: PlanNode) -> _Tree:
    match node:
        case SequenceNode():
            return _Block("Sequence", tuple(_tree(inner) for inner in node.nodes))
        case ParallelNode():
            return _Block("Parallel", tuple(_tree(inner) for inner in node.nodes))
        case _:
            return _Leaf(tuple(node_lines(node, "")))


def _factored(variable: str, then: _Tree | None, otherwise: _Tree | None) -> _Tree | None:
    """Both trees as one, with the variable's condition around no more than what differs."""
    if then == otherwise:
        return then
    for name in ("Sequence", "Parallel"):
        ours, theirs = _members(then, name), _members(otherwise, name)
        members = _merged_sequence(variable, ours, theirs) if name == "Sequence" else _merged(variable, ours, theirs)
        if members is not None:
            return _whole(name, members)
    return _Condition(variable, then, otherwise)


def _members(tree: _Tree | None, name: str) -> "tuple[_Tree, ...]":
    if tree is None:
        return ()
    return tree.members if isinstance(tree, _Block) and tree.name == name else (tree,)


def _merged_sequence(
    variable: str, then: "tuple[_Tree, ...]", otherwise: "tuple[_Tree, ...]"
) -> "tuple[_Tree, ...] | None":
    """The steps with their common beginning and end moved out, or None if there is neither."""
    shorter = min(len(then), len(otherwise))
    head = 0
    while head < shorter and then[head] == otherwise[head]:
        head += 1
    tail = 0
    while tail < shorter - head and then[-1 - tail] == otherwise[-1 - tail]:
        tail += 1
    if not head and not tail:
        return None
    own, other = then[head : len(then) - tail], otherwise[head : len(otherwise) - tail]
    middle = _factored(variable, _whole("Sequence", own), _whole("Sequence", other))
    steps = () if middle is None else _members(middle, "Sequence")
    return (*then[:head], *steps, *then[len(then) - tail :])


def _merged(variable: str, then: "tuple[_Tree, ...]", otherwise: "tuple[_Tree, ...]") -> "tuple[_Tree, ...] | None":
    """What is side by side either way, or begins alike, and the rest on the condition; None if nothing is."""
    left = list(otherwise)
    common: list[_Tree] = []
    own: list[_Tree] = []
    for member in then:
        alike = next((other for other in left if other == member), None)
        alike = alike or next((other for other in left if _first(other) == _first(member)), None)
        if alike is None:
            own.append(member)
            continue
        left.remove(alike)
        common.extend(() if (both := _factored(variable, member, alike)) is None else (both,))
    if not common:
        return None
    if own or left:
        common.append(_Condition(variable, _whole("Parallel", tuple(own)), _whole("Parallel", tuple(left))))
    return tuple(common)


def _first(tree: _Tree) -> _Tree:
    return tree.members[0] if isinstance(tree, _Block) and tree.name == "Sequence" else tree


def _whole(name: str, members: "tuple[_Tree, ...]") -> _Tree | None:
    if len(members) < 2:
        return members[0] if members else None
    return _Block(name, members)


def _lines(tree: _Tree, indent: str) -> Iterator[str]:
    if isinstance(tree, _Leaf):
        for line in tree.lines:
            yield f"{indent}{line}"
    elif isinstance(tree, _Block):
        yield f"{indent}{tree.name} {{"
        for member in tree.members:
            yield from _lines(member, indent + "  ")
        yield f"{indent}}},"
    elif tree.then is not None and tree.otherwise is not None:
        yield f'{indent}Condition(if: "${tree.variable}") {{'
        yield f"{indent}  Then {{"
        yield from _lines(tree.then, indent + "    ")
        yield f"{indent}  }} Else {{"
        yield from _lines(tree.otherwise, indent + "    ")
        yield f"{indent}  }}"
        yield f"{indent}}},"
    else:
        name, inner = ("Include", tree.then) if tree.then is not None else ("Skip", tree.otherwise)
        yield f'{indent}{name}(if: "${tree.variable}") {{'
        if inner is not None:
            yield from _lines(inner, indent + "  ")
        yield f"{indent}}},"

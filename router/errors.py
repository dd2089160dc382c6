"""Every error that the router raises on purpose.

`ClientError` is the client's mistake and safe to show as it is; the others are the operator's and stop a start, a reload
or a command line. What goes wrong in a subgraph is no exception: it becomes an entry in the answer's `errors`.
"""


class RouterError(Exception):
    """The base of all of them; the message is one that a person can act on."""


class InvalidSupergraph(RouterError):
    """The supergraph cannot be read: not SDL, not the join specification, or inconsistent."""


class InvalidSettings(RouterError):
    """The settings file cannot be used; the message names the key."""


class PlanningError(RouterError):
    """No plan answers the operation: the supergraph cannot satisfy a field that its API offers."""


class ClientError(RouterError):
    """A request that cannot be served as it was sent."""

    def __init__(self, message: str, *, code: str = "BAD_REQUEST", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status

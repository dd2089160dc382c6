"""The graph of the benchmark: accounts, products, inventory and reviews, and the objects that all four speak of.

The numbers of objects are chosen so that the nested operation answers with 391 objects in about 87 kB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import GraphQLResolveInfo, GraphQLSchema, build_schema, execute_sync, parse, validate

from router.composition import Subgraph, compose

Object = dict[str, Any]

SUBGRAPH_SDL: Mapping[str, str] = {
    "accounts": """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@shareable"])

type Query {
  me: User
  user(id: ID!): User
  users: [User]
}

type User @key(fields: "id") {
  id: ID!
  name: String
  username: String @shareable
  birthday: Int
}
""",
    "inventory": """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@external", "@requires"])

type Product @key(fields: "upc") {
  upc: String!
  weight: Int @external
  price: Int @external
  inStock: Boolean
  shippingEstimate: Int @requires(fields: "price weight")
}
""",
    "products": """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])

type Query {
  topProducts(first: Int = 5): [Product]
}

type Product @key(fields: "upc") {
  upc: String!
  name: String
  price: Int
  weight: Int
}
""",
    "reviews": """
extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@external", "@provides"])

type Review @key(fields: "id") {
  id: ID!
  body: String
  author: User @provides(fields: "username")
  product: Product
}

type User @key(fields: "id") {
  id: ID!
  username: String @external
  reviews: [Review]
}

type Product @key(fields: "upc") {
  upc: String!
  reviews: [Review]
}
""",
}

_MONOLITH_SDL = """
type Query {
  me: User
  user(id: ID!): User
  users: [User]
  topProducts(first: Int = 5): [Product]
}
type User { id: ID! name: String username: String birthday: Int reviews: [Review] }
type Product {
  upc: String! name: String price: Int weight: Int inStock: Boolean shippingEstimate: Int reviews: [Review]
}
type Review { id: ID! body: String author: User product: Product }
"""

_USERS = (
    ("Mina Seo", "@mina"),
    ("Jaehyun Oh", "@jaehyun"),
    ("Sora Lim", "@sora"),
    ("Daniel Frost", "@daniel"),
    ("Yuna Park", "@yuna"),
    ("Tobias Brandt", "@tobias"),
)
_PRODUCTS = (
    ("Table", 899, 100),
    ("Couch", 1299, 1000),
    ("Glass", 15, 20),
    ("Chair", 499, 100),
    ("Television", 1299, 1000),
    ("Lamp", 6999, 300),
    ("Grill", 3999, 2000),
    ("Fridge", 100000, 6000),
    ("Sofa", 9999, 800),
)
# (user, product) of every review, counted from 1.
_REVIEWS = (
    *((5, 3), (6, 7), (3, 5), (6, 2), (4, 5), (4, 2), (1, 3)),
    *((5, 2), (6, 9), (4, 7), (1, 2), (4, 9), (2, 2)),
)
_BODY = (
    "It came in one piece and a day early, the colour is that of the picture, and putting it together took two people "
    "and one evening. After three months of daily use nothing is loose, and I would buy it again for this price. "
    "The manual could say more, and one screw was missing, which the shop sent after a short mail. All in all a good buy for a small home, and so I say. "
)


@dataclass(frozen=True, slots=True)
class World:
    """Every object; relations are references."""

    users: tuple[Object, ...]
    products: tuple[Object, ...]
    reviews: tuple[Object, ...]


def shipping_estimate(product: Mapping[str, Any]) -> int:
    """Free for what is dear, else by weight."""
    price, weight = int(product["price"]), int(product["weight"])
    return 0 if price > 1000 else (weight + 1) // 2


def _world() -> World:
    users: tuple[Object, ...] = tuple(
        {"__typename": "User", "id": str(n), "name": name, "username": username, "birthday": 1970 + n}
        for n, (name, username) in enumerate(_USERS, 1)
    )
    products: tuple[Object, ...] = tuple(
        {
            "__typename": "Product",
            "upc": str(n),
            "name": name,
            "price": price,
            "weight": weight,
            "inStock": n % 3 != 0,
        }
        for n, (name, price, weight) in enumerate(_PRODUCTS, 1)
    )
    reviews: tuple[Object, ...] = tuple(
        {
            "__typename": "Review",
            "id": str(n),
            "body": f"{n}: {_BODY[: 328 + n]}",
            "author": users[user - 1],
            "product": products[product - 1],
        }
        for n, (user, product) in enumerate(_REVIEWS, 1)
    )
    for user in users:
        user["reviews"] = [review for review in reviews if review["author"] is user]
    for product in products:
        product["reviews"] = [review for review in reviews if review["product"] is product]
        product["shippingEstimate"] = shipping_estimate(product)
    return World(users, products, reviews)


WORLD = _world()


ROOTS: Mapping[str, Any] = {
    "me": WORLD.users[0],
    "user": lambda _, arguments: next((user for user in WORLD.users if user["id"] == arguments["id"]), None),
    "users": WORLD.users,
    "topProducts": lambda _, arguments: WORLD.products[: arguments["first"]],
}


def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    """The value of a field: what its object holds, called with (object, arguments) where that is a function."""
    value = source.get(info.field_name)
    return value(source, arguments) if callable(value) else value


def supergraph_sdl(urls: Mapping[str, str]) -> str:
    """The four composed by this project. urls: of each subgraph, by name."""
    return compose([Subgraph(name, urls[name], sdl) for name, sdl in SUBGRAPH_SDL.items()]).supergraph_sdl


@cache
def _monolith() -> GraphQLSchema:
    return build_schema(_MONOLITH_SDL)


def expected(operation: str) -> dict[str, Any]:
    """The data that a server which holds the whole graph answers an operation with.

    Raises:
        ValueError: the operation is not valid, needs variables, or fails.
    """
    document = parse(operation)
    if errors := validate(_monolith(), document):
        raise ValueError(f"the operation is not valid: {errors}")
    result = execute_sync(_monolith(), document, root_value=ROOTS, field_resolver=resolve)
    if result.errors or result.data is None:
        raise ValueError(f"the operation fails: {result.errors}")
    return result.data

"""One supergraph with most of what federation offers, and a small universe of objects in it."""

from typing import Any

from tests.federation.graph import Computed, Federation, Universe

SHOP = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION) {
  query: Query
  mutation: Mutation
}
enum join__Graph {
  CATALOG @join__graph(name: "catalog", url: "http://catalog")
  STOCK @join__graph(name: "stock", url: "http://stock")
  REVIEWS @join__graph(name: "reviews", url: "http://reviews")
  PEOPLE @join__graph(name: "people", url: "http://people")
}
scalar join__FieldSet

type Query @join__type(graph: CATALOG) @join__type(graph: STOCK) @join__type(graph: REVIEWS) @join__type(graph: PEOPLE) {
  products: [Product!]! @join__field(graph: CATALOG)
  product(upc: ID!): Product @join__field(graph: CATALOG)
  topProduct: Product @join__field(graph: CATALOG)
  media: [Media] @join__field(graph: CATALOG)
  latest: Media @join__field(graph: CATALOG)
  search: [Hit!] @join__field(graph: CATALOG)
  reviews: [Review] @join__field(graph: REVIEWS, provides: "author { name }")
  ratings: [Rated!] @join__field(graph: REVIEWS)
  me: User @join__field(graph: PEOPLE)
  settings: Settings @join__field(graph: CATALOG) @join__field(graph: PEOPLE)
}

type Mutation @join__type(graph: CATALOG) @join__type(graph: REVIEWS) {
  rename(name: String!): Product @join__field(graph: CATALOG)
  review(body: String!): Review @join__field(graph: REVIEWS)
}

type Settings @join__type(graph: CATALOG) @join__type(graph: PEOPLE) {
  currency: String @join__field(graph: CATALOG)
  language: String @join__field(graph: PEOPLE)
  version: Int
}

type Product
  @join__type(graph: CATALOG, key: "upc")
  @join__type(graph: STOCK, key: "upc")
  @join__type(graph: REVIEWS, key: "sku { code }") @join__type(graph: REVIEWS, key: "upc", resolvable: false)
{
  upc: ID!
  sku: Sku @join__field(graph: STOCK) @join__field(graph: REVIEWS)
  name: String @join__field(graph: CATALOG)
  price(currency: String = "KRW"): Int @join__field(graph: CATALOG) @join__field(graph: STOCK, external: true)
  weight: Int @join__field(graph: CATALOG) @join__field(graph: STOCK, external: true)
  dimensions: Dimensions @join__field(graph: CATALOG) @join__field(graph: STOCK, external: true)
  inStock: Boolean @join__field(graph: STOCK)
  shipping: Int @join__field(graph: STOCK, requires: "price(currency: \\"USD\\") weight")
  parcel: String @join__field(graph: STOCK, requires: "dimensions { size unit { name } }")
  label: String @join__field(graph: CATALOG, requires: "parcel")
  related: [Product] @join__field(graph: STOCK)
  reviews: [Review!] @join__field(graph: REVIEWS)
  rating: Float @join__field(graph: REVIEWS)
  owner: User @join__field(graph: CATALOG)
}
type Sku @join__type(graph: STOCK) @join__type(graph: REVIEWS) { code: String! }
type Dimensions @join__type(graph: CATALOG) @join__type(graph: STOCK) {
  size: Int unit: Unit
}
type Unit @join__type(graph: CATALOG) @join__type(graph: STOCK) { name: String }

interface Media @join__type(graph: CATALOG, key: "id") @join__type(graph: REVIEWS, key: "id", isInterfaceObject: true) {
  id: ID!
  title: String @join__field(graph: CATALOG)
  stars: Int @join__field(graph: REVIEWS)
  critic: User @join__field(graph: REVIEWS)
}
type Book implements Media
  @join__implements(graph: CATALOG, interface: "Media") @join__type(graph: CATALOG, key: "id") @join__type(graph: STOCK, key: "id")
{
  id: ID!
  title: String @join__field(graph: CATALOG)
  pages: Int @join__field(graph: CATALOG)
  copies: Int @join__field(graph: STOCK)
  stars: Int @join__field
  critic: User @join__field
}
type Movie implements Media
  @join__implements(graph: CATALOG, interface: "Media") @join__type(graph: CATALOG, key: "id")
{
  id: ID!
  title: String
  minutes: Int
  stars: Int @join__field
  critic: User @join__field
}
interface Rated @join__type(graph: REVIEWS) { id: ID! }
union Hit
  @join__type(graph: CATALOG)
  @join__unionMember(graph: CATALOG, member: "Product") @join__unionMember(graph: CATALOG, member: "Book")
  @join__unionMember(graph: CATALOG, member: "Movie")
  = Product | Book | Movie

type Review implements Rated
  @join__implements(graph: REVIEWS, interface: "Rated")
  @join__type(graph: REVIEWS, key: "id")
{
  id: ID!
  body: String
  author: User
  product: Product
  media: Media
}
type User
  @join__type(graph: PEOPLE, key: "id") @join__type(graph: PEOPLE, key: "email")
  @join__type(graph: REVIEWS, key: "id") @join__type(graph: CATALOG, key: "email")
{
  id: ID! @join__field(graph: PEOPLE) @join__field(graph: REVIEWS)
  email: String! @join__field(graph: PEOPLE) @join__field(graph: CATALOG)
  name: String @join__field(graph: PEOPLE) @join__field(graph: REVIEWS, external: true)
  role: Role @join__field(graph: PEOPLE)
  friends: [User!] @join__field(graph: PEOPLE)
  reviews: [Review] @join__field(graph: REVIEWS)
  wishes: [Product] @join__field(graph: CATALOG)
}
enum Role @join__type(graph: PEOPLE) {
  READER @join__enumValue(graph: PEOPLE)
  EDITOR @join__enumValue(graph: PEOPLE)
}
"""


def _shipping(of: Any) -> int:
    price = of["price"]
    return int(price({}, {"currency": "USD"}) if callable(price) else price) * 2 + int(of["weight"])


def _price(won: int) -> Any:
    return lambda _, arguments: won // 1000 if arguments.get("currency") == "USD" else won


def _parcel(of: Any) -> str:
    return f"{of['dimensions']['size']} {of['dimensions']['unit']['name']}"


def _label(of: Any) -> str:
    parcel = of["parcel"]
    return f"to: {parcel.function(of) if isinstance(parcel, Computed) else parcel}"


def universe() -> Universe:
    """Three products, two books and a movie, three people who know each other, and what they wrote."""
    ada: dict[str, Any] = {"__typename": "User", "id": "u1", "email": "ada@x", "name": "Ada", "role": "EDITOR"}
    bob: dict[str, Any] = {"__typename": "User", "id": "u2", "email": "bob@x", "name": "Bob", "role": "READER"}
    cleo: dict[str, Any] = {"__typename": "User", "id": "u3", "email": "cleo@x", "name": None, "role": None}
    products = [
        {
            "__typename": "Product",
            "upc": f"p{n}",
            "sku": {"__typename": "Sku", "code": f"s{n}"},
            "name": f"Product {n}",
            "price": _price(1000 * n),
            "weight": n,
            "dimensions": {"__typename": "Dimensions", "size": n, "unit": {"__typename": "Unit", "name": "cm"}},
            "inStock": n % 2 == 1,
            "shipping": Computed(_shipping),
            "parcel": Computed(_parcel),
            "label": Computed(_label),
            "rating": n / 2,
            "owner": [ada, bob, None][n - 1],
        }
        for n in (1, 2, 3)
    ]
    books: list[dict[str, Any]] = [
        {"__typename": "Book", "id": f"b{n}", "title": f"Book {n}", "pages": 100 * n, "copies": n, "stars": n}
        for n in (1, 2)
    ]
    movie: dict[str, Any] = {"__typename": "Movie", "id": "m1", "title": "Movie", "minutes": 90, "stars": 5}
    media: list[dict[str, Any]] = [*books, movie]
    reviews: list[dict[str, Any]] = [
        {
            "__typename": "Review",
            "id": f"r{n}",
            "body": f"Review {n}",
            "author": author,
            "product": product,
            "media": of,
        }
        for n, (author, product, of) in enumerate(
            [
                (ada, products[0], books[0]),
                (bob, products[0], movie),
                (cleo, products[2], None),
                (None, None, books[1]),
            ],
            1,
        )
    ]
    for product in products:
        product["reviews"] = [review for review in reviews if review["product"] is product]
        product["related"] = [other for other in products if other is not product] + [None]
    for critic, item in zip((bob, None, ada), media, strict=True):
        item["critic"] = critic
    for user, friends, wishes in (
        (ada, [bob, cleo], products[:2]),
        (bob, [ada], [None, products[2]]),
        (cleo, [], None),
    ):
        user["friends"] = friends
        user["wishes"] = wishes
        user["reviews"] = [review for review in reviews if review["author"] is user]
    roots: dict[str, Any] = {
        "products": products,
        "product": lambda _, a: next((p for p in products if p["upc"] == a["upc"]), None),
        "topProduct": products[1],
        "media": [*media, None],
        "latest": movie,
        "search": [products[0], books[1], movie],
        "reviews": [*reviews, None],
        "ratings": reviews,
        "me": ada,
        "settings": {"__typename": "Settings", "currency": "KRW", "language": "ko", "version": 3},
        "rename": lambda _, a: {**products[0], "name": a["name"]},
        "review": lambda _, a: {**reviews[0], "body": a["body"]},
    }
    return Universe(roots, [ada, bob, cleo, *products, *media, *reviews])


def shop() -> Federation:
    return Federation(SHOP, universe())

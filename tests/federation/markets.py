"""A supergraph whose fields take values of the objects around them (`@context`, `@fromContext`), and objects for it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from router.composition import Subgraph, compose
from tests.federation.graph import Contextual, Federation, Universe

_LINK = """
extend schema @link(
  url: "https://specs.apollo.dev/federation/v2.8"
  import: ["@key", "@shareable", "@external", "@requires", "@context", "@fromContext"]
)
"""

_SALES = """
type Query @context(name: "country") {
  vat: Int
  places: [Place]
  shops: [Shop!]!
  stall: Stall
  mixed: [Seller!]
}
interface Place { id: ID! offers: [Offer] best: Offer }
union Seller = Shop | Stall
type Shop implements Place @key(fields: "id") @context(name: "market") {
  id: ID!
  currency: String @external
  offers: [Offer]
  best: Offer
  branch: Shop
}
type Stall implements Place @key(fields: "id") @context(name: "market") {
  id: ID!
  till: Till
  offers: [Offer]
  best: Offer
}
type Till { coins: String }
type Offer @key(fields: "id") {
  id: ID!
  name: String
  parts: [Part!]
  price(
    in: String @fromContext(field: "$market ... on Shop { currency } ... on Stall { till { coins } }")
    times: Int
  ): String
}
type Part @key(fields: "id") {
  id: ID!
  taxed(rate: Int @fromContext(field: "$country { vat }")): String
  next: Part
}
"""

_PRICING = """
type Shop @key(fields: "id") { id: ID! currency: String @shareable }
type Offer @key(fields: "id") { id: ID! weight: Int }
type Part @key(fields: "id") { id: ID! size: Int }
"""

_LABELS = """
type Shop @key(fields: "id") @context(name: "shop") { id: ID! name: String }
type Offer @key(fields: "id") @context(name: "offer") { id: ID! weight: Int @external }
type Part @key(fields: "id") {
  id: ID!
  size: Int @external
  label(of: Int @fromContext(field: "$offer { weight }")): String @requires(fields: "size")
}
"""


@cache
def markets_sdl() -> str:
    subgraphs = {"sales": _SALES, "pricing": _PRICING, "labels": _LABELS}
    return compose([Subgraph(name, "", _LINK + sdl) for name, sdl in subgraphs.items()]).supergraph_sdl


def _price(of: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    return f"{of['id']} in {arguments.get('in')} times {arguments.get('times')}"


def _taxed(of: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    return f"{of['id']} at {arguments.get('rate')}"


def _label(of: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    return f"{of['id']} of {arguments.get('of')}"


_MARKET = {"in": {"Shop": "currency", "Stall": "coins"}}


def markets() -> Federation:
    """Three shops (one without a currency, one that has another as its branch) and two stalls that sell the same offers."""
    parts: list[dict[str, Any]] = [
        {
            "__typename": "Part",
            "id": f"part{n}",
            "size": n,
            "taxed": Contextual(_taxed, {"rate": {"Query": "vat"}}),
            "label": Contextual(_label, {"of": {"Offer": "weight"}}),
        }
        for n in range(3)
    ]
    for part, after in zip(parts, (parts[1], parts[2], None), strict=True):
        part["next"] = after
    offers: list[dict[str, Any]] = [
        {
            "__typename": "Offer",
            "id": f"offer{n}",
            "name": f"Offer {n}",
            "parts": parts[: n + 1] if n else None,
            "weight": [10, None, 30][n],
            "price": Contextual(_price, _MARKET),
        }
        for n in range(3)
    ]
    shops: list[dict[str, Any]] = [
        {
            "__typename": "Shop",
            "id": f"shop{n}",
            "name": f"Shop {n}",
            "currency": ["KRW", "EUR", None][n],
            "offers": [offers[:2], [*offers, None], offers[2:]][n],
            "best": offers[n],
        }
        for n in range(3)
    ]
    for shop, branch in zip(shops, (shops[1], None, shops[0]), strict=True):
        shop["branch"] = branch
    stalls: list[dict[str, Any]] = [
        {
            "__typename": "Stall",
            "id": f"stall{n}",
            "till": {"__typename": "Till", "coins": "JPY"} if n == 0 else None,
            "coins": "JPY" if n == 0 else None,
            "offers": offers,
            "best": offers[n],
        }
        for n in range(2)
    ]
    roots: dict[str, Any] = {
        "vat": 7,
        "places": [shops[0], stalls[0], None, shops[2], stalls[1]],
        "shops": shops,
        "stall": stalls[0],
        "mixed": [stalls[1], *shops],
    }
    return Federation(markets_sdl(), Universe(roots, [*shops, *stalls, *offers, *parts]))

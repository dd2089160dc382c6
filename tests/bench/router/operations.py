"""What the benchmark asks."""

import itertools
from collections.abc import Iterator

NESTED = """
fragment User on User { id username name }
fragment Review on Review { id body }
fragment Product on Product { inStock name price shippingEstimate upc weight }
query Nested {
  users {
    ...User
    reviews {
      ...Review
      product {
        ...Product
        reviews {
          ...Review
          author { ...User reviews { ...Review product { ...Product } } }
        }
      }
    }
  }
  topProducts {
    ...Product
    reviews {
      ...Review
      author { ...User reviews { ...Review product { ...Product } } }
    }
  }
}
"""

ONE_FETCH = "query OneFetch { topProducts { upc name price weight } }"

_USER = ("id", "name", "username", "birthday")
_PRODUCT = ("upc", "name", "price", "weight", "inStock")
_REVIEW = ("id", "body")


def different(count: int) -> Iterator[str]:
    """Operations of which no two select the same: each chooses other fields at each of its five levels.

    All go through all four subgraphs, so that planning one is about as much work as planning another.

    Raises:
        ValueError: there are not so many.
    """
    users, products, reviews = _subsets(_USER), _subsets(_PRODUCT), _subsets(_REVIEW)
    available = len(users) * len(products) ** 2 * len(reviews)
    if count > available:
        raise ValueError(f"{count} operations were wanted, and there are {available}")
    # A step without a factor in common with the number of choices visits each choice once, and neighbours differ much.
    step = 7_919
    for number in range(count):
        choice = number * step % available
        choice, user = divmod(choice, len(users))
        choice, product = divmod(choice, len(products))
        review, outer = divmod(choice, len(products))
        yield (
            f"{{ users {{ {users[user]} reviews {{ {reviews[review]} product {{ shippingEstimate {products[product]} reviews "
            f"{{ id author {{ name {users[-1 - user]} }} }} }} }} }} "
            f"topProducts {{ shippingEstimate {products[outer]} reviews {{ body author {{ birthday }} }} }} }}"
        )


def _subsets(fields: tuple[str, ...]) -> list[str]:
    """Every choice of at least one field."""
    sizes = range(1, len(fields) + 1)
    return [" ".join(chosen) for size in sizes for chosen in itertools.combinations(fields, size)]

"""Products, carts, stock and orders."""

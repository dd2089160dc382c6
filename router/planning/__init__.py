"""Operation in, query plan out.

normalize -> query graph -> walk (cheapest way per field, best combination per object) -> fetch graph -> plan nodes.
"""

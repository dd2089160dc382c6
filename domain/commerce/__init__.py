"""Plans, the shop, and the payments for both."""

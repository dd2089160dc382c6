"""The faces of the commerce group: subscription, shop and payment."""

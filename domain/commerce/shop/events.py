"""What happened to orders."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from domain.events import HEALTH_DATA, DomainEvent


class OrderedItem(BaseModel):
    """A product in an order, at the price of that moment, in whole won."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    product_id: str
    product_name: str
    quantity: int
    unit_price_krw: int


class ShopEvent(DomainEvent):
    source: ClassVar[str] = "shop"

    order_id: str
    user_id: str

    @property
    def key(self) -> str:
        return self.order_id


class OrderCreated(ShopEvent):
    """Something was ordered and waits for its payment; its stock is reserved until `expires_at`.

    Args:
        subscription_id: of an order for a period of a plan; empty for goods.
        amount_krw: to pay, in whole won.
        items: health data, because the cartridges that a person buys tell what the person lives with.
    """

    topic: ClassVar[str] = "shop.order_created"

    subscription_id: str
    amount_krw: int
    payment_method: str
    items: Annotated[tuple[OrderedItem, ...], HEALTH_DATA]
    created_at: datetime
    expires_at: datetime


class OrderCancelled(ShopEvent):
    """An order was given up before shipping; its stock is free again.

    Args:
        payment_id: the payment that was captured for it and has to be paid back; empty when none was.
    """

    topic: ClassVar[str] = "shop.order_cancelled"

    subscription_id: str
    payment_id: str
    amount_krw: int
    reason: Literal["payment_failed", "timed_out", "by_customer", "refunded", "not_owed", "account_proven"]
    cancelled_at: datetime

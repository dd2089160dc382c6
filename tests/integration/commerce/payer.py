"""A process of payment-service that confirms one payment, so that a test can kill it in the middle.

`python -m tests.integration.commerce.payer <database settings as JSON> <database> <provider's URL> <its key> <payment id>
<payment key>` confirms for alice, and prints the state in the end, should it live so long.
"""

import asyncio
import json
import sys

from pydantic import SecretStr

from domain.catalog import Group
from domain.clock import SystemClock
from domain.commerce.payment.service import PaymentService
from subgraphs.commerce.payment.adapters.toss import TossPayments
from subgraphs.runtime.database import Database
from subgraphs.runtime.settings import DatabaseSettings, TossSettings
from tests.integration.commerce.conftest import ALICE
from tests.integration.commerce.paying import KnownDebts


async def main(settings: str, database: str, url: str, secret: str, payment_id: str, payment_key: str) -> None:
    """Confirm."""
    sessions = Database(DatabaseSettings.model_validate(json.loads(settings)), Group.COMMERCE, name=database)
    gateway = TossPayments(TossSettings(secret_key=SecretStr(secret), api_url=url, timeout_seconds=60))
    payments = PaymentService(SystemClock(), sessions=sessions, gateway=gateway, debts=KnownDebts(), patience_s=60)
    paid = await payments.confirm(ALICE, payment_id=payment_id, payment_key=payment_key)
    print(paid.status)  # noqa: T201 - for a person who runs it by hand


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

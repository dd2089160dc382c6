"""The first proof of an account's mail address, and what it ends.

An account that was registered with a password is unproven: whoever registered it may have used somebody else's address. The
first person who shows to read its mail owns it. Is that person shown to be the unproven holder as well, everything stays:

- a code that was mailed to the address is typed in while the holder is signed in (`email_proof`);
- a social identity that is linked to the account already and now brings the account's address, verified;

Otherwise everything that the unproven holder set ends, since any of it may be there to harm the owner:

- a completed reset mail: the mail shows who reads it, and its reader did not show the old password;
- the first sign-in by another social identity whose verified address is the account's.

Here that is the password (the reset has set a new one already), the linked providers, all sign-ins, pending resets, consents and the
profile with its health details and emergency contact. The other groups drop their part on `account.proven`, which is
committed together with it. The role stays: operators grant it to the address, not to its holder.

A token of the unproven holder is taken until every process has heard that its sign-in ended. What it writes in that time would
come after the moment until which the groups drop. So the holder is shut out first, in a transaction of its own, and the account
changes hands `REVOKED_EVERYWHERE` later.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.identity.auth.events import AccountProven
from domain.identity.auth.models import Account
from domain.identity.auth.ports import Profiles
from domain.identity.auth.repository import AccountRepository, ResetRepository, SignInRepository
from domain.identity.person import NewProfile
from domain.ids import UserId
from domain.messaging import Outbox

REVOKED_EVERYWHERE = timedelta(seconds=2)
"""How long after its end a sign-in is refused in every process."""

_log = structlog.get_logger(__name__)


def is_proven(account: Account) -> bool:
    return account.email_verified_at is not None


def note_proof(account: Account, *, at: datetime) -> None:
    """The holder has shown to read the account's mail; nothing is dropped."""
    if not is_proven(account):
        account.email_verified_at = at
        account.proof += 1


async def shut_out(session: AsyncSession, account: Account, *, at: datetime) -> bool:
    """End the ways in of the unproven holder of a locked account; whether they may have had an access token."""
    account.password_hash = None
    await AccountRepository(session).remove_social_identities(account.id)
    return await SignInRepository(session).revoke_all(account.id, at=at, why="address proven") > 0


async def take_over(
    session: AsyncSession, account: Account, profiles: Profiles, *, profile: NewProfile, by: str, at: datetime
) -> None:
    """Make a locked, unproven account that of the person who has proven its address; nothing when it is proven already.

    The caller sets, keeps or removes the password.

    Args:
        profile: what the profile is replaced by.
        by: how the address was proven, for the log.
    """
    if is_proven(account):
        return
    note_proof(account, at=at)
    accounts = AccountRepository(session)
    await accounts.remove_social_identities(account.id)
    await accounts.remove_consents(account.id)
    await SignInRepository(session).revoke_all(account.id, at=at, why="address proven")
    await ResetRepository(session).use_up_others(account.id, at)
    await profiles.replace(session, UserId(account.id), profile)
    await Outbox(session).add(AccountProven(user_id=account.id, proof=account.proof, proven_at=at))
    _log.warning("unproven_account_taken_over_by_proof", user_id=account.id, proof=account.proof, by=by)

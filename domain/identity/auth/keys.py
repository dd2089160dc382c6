"""The keys that sign access tokens, and their rotation.

A key is made as `next`: published, so that verifiers know it before they meet it, but not yet signing. It becomes
`active` when the active one has served its time; that one is `retired`, signs no more, and stays published until the
last token that it can have signed has expired. Every process keeps the keys for a minute, so a retired key may sign for that
minute longer; the time of publication counts it in. All changes happen under one advisory lock, and each process
attempts them; who comes second finds nothing due.

A changed JWT_SECRET cannot open the stored private keys any more: they retire at once, and new ones take over.

Source: RFC 7517 (JWK), RFC 7638 (thumbprint as key id), RFC 7518 section 3.4 (ES256).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import orjson
import structlog
from joserfc.jwk import ECKey
from sqlalchemy.exc import SQLAlchemyError

from domain.clock import Clock
from domain.identity.auth.models import KeyState, SigningKeyRow
from domain.identity.auth.repository import KeyRepository
from domain.sealing import SealBroken, Sealer, derive_key
from domain.sessions import Sessions

_log = structlog.get_logger(__name__)

ACTIVE_FOR = timedelta(days=30)
PUBLISHED_BEFORE_USE = timedelta(minutes=10)
"""More than the 5 minutes for which verifiers may keep a key set (the JWKS route's Cache-Control)."""
KEPT_IN_PROCESS = timedelta(seconds=60)
_RELOAD_AT_MOST_EVERY = timedelta(seconds=5)
_SLACK = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its id."""

    kid: str
    key: ECKey


@dataclass(frozen=True, slots=True)
class _Loaded:
    at: datetime
    signer: SigningKey
    public: dict[str, dict[str, str]]


class KeyRing:
    """The keys as this process knows them.

    Args:
        secret: JWT_SECRET; private keys are stored under a key derived from it.
        sessions: for short transactions of its own.
        access_ttl: how long a token lives.
    """

    def __init__(self, *, secret: str, clock: Clock, sessions: Sessions, access_ttl: timedelta) -> None:
        self._sealer = Sealer({1: derive_key(secret, purpose="signing keys")})
        self._clock = clock
        self._sessions = sessions
        self._published_after_use = access_ttl + KEPT_IN_PROCESS + _SLACK
        self._loaded: _Loaded | None = None
        self._lock = asyncio.Lock()

    async def signer(self) -> SigningKey:
        """The key to sign with now. May take a database connection of its own: call it before holding one."""
        return (await self._fresh(KEPT_IN_PROCESS)).signer

    async def keys(self) -> list[dict[str, Any]]:
        """The public keys (JWKs) of all tokens that may still be valid, and of those to come."""
        return [{**jwk} for jwk in (await self._fresh(KEPT_IN_PROCESS)).public.values()]

    async def public_key(self, kid: str) -> ECKey | None:
        """The public key with this id; looks again, at most every 5 s, for one that it does not know."""
        loaded = await self._fresh(KEPT_IN_PROCESS)
        if kid not in loaded.public:
            loaded = await self._fresh(_RELOAD_AT_MOST_EVERY)
        jwk = loaded.public.get(kid)
        return None if jwk is None else ECKey.import_key({**jwk})

    async def rotate(self, *, now_even_if_young: bool = False) -> None:
        """Make, change and forget keys as their age asks for; then know the result.

        Args:
            now_even_if_young: replace the active key at once, for example because it may have leaked.
        """
        async with self._sessions.transaction() as session:
            repository = KeyRepository(session)
            await repository.lock()
            now = self._clock.now()
            await repository.delete_retired(now)
            keys = {KeyState(row.state): row for row in await repository.all() if row.state != KeyState.RETIRED}
            active, following = keys.get(KeyState.ACTIVE), keys.get(KeyState.NEXT)
            for row in (active, following):
                if row is not None and not self._opens(row):
                    _log.warning("signing_key_not_ours", kid=row.kid, why="JWT_SECRET has changed")
                    await self._retire(repository, row, now)
            active = active if active is not None and active.state == KeyState.ACTIVE else None
            following = following if following is not None and following.state == KeyState.NEXT else None
            if active is not None and (now_even_if_young or self._is_due(active, following, now)):
                await self._retire(repository, active, now)
                active = None
            if active is None:
                active, following = following or self._new(repository, now), None
                active.state, active.activated_at = KeyState.ACTIVE, now
                await repository.flush()
                _log.info("signing_key_activated", kid=active.kid)
            if following is None:
                self._new(repository, now)
                await repository.flush()
            rows = await repository.all()
        self._loaded = self._load(active, rows, now)

    @staticmethod
    def _is_due(active: SigningKeyRow, following: SigningKeyRow | None, now: datetime) -> bool:
        served = active.activated_at is not None and now - active.activated_at >= ACTIVE_FOR
        return served and following is not None and now - following.created_at >= PUBLISHED_BEFORE_USE

    async def _retire(self, repository: KeyRepository, row: SigningKeyRow, now: datetime) -> None:
        row.state, row.published_until = KeyState.RETIRED, now + self._published_after_use
        await repository.flush()
        _log.info("signing_key_retired", kid=row.kid, published_until=row.published_until.isoformat())

    def _new(self, repository: KeyRepository, now: datetime) -> SigningKeyRow:
        key = ECKey.generate_key("P-256", auto_kid=False)
        kid = key.thumbprint()
        public = {**key.as_dict(private=False), "kid": kid, "alg": "ES256", "use": "sig"}
        row = SigningKeyRow(
            kid=kid,
            state=KeyState.NEXT,
            public_jwk=public,
            private_sealed=self._sealer.seal_json(key.as_dict(private=True), context=_context(kid)),
            created_at=now,
        )
        repository.add(row)
        return row

    def _opens(self, row: SigningKeyRow) -> bool:
        try:
            self._sealer.open(row.private_sealed, context=_context(row.kid))
        except SealBroken:
            return False
        return True

    def _load(self, active: SigningKeyRow, rows: Sequence[SigningKeyRow], now: datetime) -> _Loaded:
        private = cast(
            "dict[str, str]", orjson.loads(self._sealer.open(active.private_sealed, context=_context(active.kid)))
        )
        return _Loaded(
            at=now,
            signer=SigningKey(active.kid, ECKey.import_key({**private})),
            public={row.kid: row.public_jwk for row in rows},
        )

    async def _fresh(self, age: timedelta) -> _Loaded:
        """The keys as of at most `age` ago; older ones while the database does not answer."""
        if (loaded := self._young(age)) is not None:
            return loaded
        async with self._lock:
            if (loaded := self._young(age)) is not None:
                return loaded
            try:
                await self.rotate()
            except (SQLAlchemyError, OSError):
                if self._loaded is None:
                    raise
                _log.warning("signing_keys_not_reloaded", exc_info=True)
            assert self._loaded is not None  # noqa: S101 - `rotate` sets it
            return self._loaded

    def _young(self, age: timedelta) -> _Loaded | None:
        loaded = self._loaded
        return loaded if loaded is not None and self._clock.now() - loaded.at < age else None


def _context(kid: str) -> str:
    return f"signing_keys.private_sealed:{kid}"

"""The identity services on a database of the test's own, with a clock, a mailbox and a provider that tests control."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from argon2 import PasswordHasher
from fakeredis import FakeAsyncRedis

from domain.catalog import Group
from domain.errors import LimitExceeded
from domain.identity.auth.directory import AccountDirectory
from domain.identity.auth.keys import KeyRing
from domain.identity.auth.limits import FailedSignIns, Registrations, ResetRequests
from domain.identity.auth.passwords import Passwords
from domain.identity.auth.ports import SocialProof, SocialToken
from domain.identity.auth.reset_mail import ResetMails
from domain.identity.auth.service import AuthService, Registered, Registration
from domain.identity.auth.tokens import AccessTokens, Tokens
from domain.identity.user.service import UserService
from domain.mail import Mail
from domain.principal import ROLE_SCOPES, Principal, PrincipalKind, Role
from domain.sealing import Sealer
from subgraphs.runtime.database import Database
from tests.support.clock import FakeClock
from tests.support.postgres import DatabaseFor

EMAIL = "person@example.com"
PASSWORD = "Correct-horse7"
SECRET = "a secret of the tests"
ACCESS_TTL = timedelta(minutes=15)
REFRESH_TTL = timedelta(days=7)
REGISTRATIONS_PER_HOUR = 3


class CountingHasher(PasswordHasher):
    """Argon2id, cheap for tests, which counts the passwords that it checks."""

    def __init__(self, *, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=64, parallelism=1)
        self.checked: list[bytes | str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # the base answers Literal[True]
        self.checked.append(password)
        return super().verify(hash, password)


class ClockedCounter:
    """A sliding window by the test's clock."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.events: dict[str, list[datetime]] = {}

    async def check(self, key: str, *, limit: int, window_s: float) -> None:
        since = self._clock.now() - timedelta(seconds=window_s)
        recent = [at for at in self.events.get(key, []) if at > since]
        if len(recent) >= limit:
            raise LimitExceeded("too many", retry_after_s=(recent[0] - since).total_seconds())

    async def hit(self, key: str, *, limit: int, window_s: float) -> None:
        await self.check(key, limit=limit, window_s=window_s)
        self.events.setdefault(key, []).append(self._clock.now())


@dataclass
class Mailbox:
    """Takes mail, or fails as told: with the next of `failures`."""

    is_configured: bool = True
    mails: list[Mail] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def send(self, mail: Mail) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.mails.append(mail)


@dataclass
class SaidToBe:
    """A verifier that believes what the test says."""

    proof: SocialProof | None = None

    async def verify(self, token: SocialToken) -> SocialProof:
        assert self.proof is not None
        return self.proof


@dataclass
class Identity:
    """The services and all that they stand on."""

    database: Database
    clock: FakeClock
    hasher: CountingHasher
    passwords: Passwords
    counter: ClockedCounter
    keys: KeyRing
    access_tokens: AccessTokens
    users: UserService
    auth: AuthService
    social: SaidToBe
    mailbox: Mailbox
    mails: ResetMails

    async def register(
        self, email: str = EMAIL, password: str = PASSWORD, *, address: str = "", **more: object
    ) -> Registered:
        registration = Registration(email=email, password=password, **more)  # type: ignore[arg-type]
        async with self.database.transaction() as session:
            return await self.auth.register(session, registration, address=address)

    async def login(self, email: str = EMAIL, password: str = PASSWORD, *, address: str = "") -> Tokens:
        async with self.database.transaction() as session:
            return await self.auth.login(session, email=email, password=password, address=address)

    async def refresh(self, token: str) -> Tokens:
        async with self.database.transaction() as session:
            outcome = await self.auth.refresh(session, token)
        return outcome.require()

    async def validate(self, token: str) -> str:
        async with self.database.read() as session:
            return (await self.auth.validate(session, token)).user_id

    async def scalar(self, sql: str) -> object:
        async with self.database.raw() as connection:
            value: object = await connection.fetchval(sql)
            return value


def user_principal(user_id: str, role: Role = Role.USER) -> Principal:
    """A person with a good token."""
    scopes = frozenset(scope.value for scope in ROLE_SCOPES[role])
    return Principal(kind=PrincipalKind.USER, subject=user_id, role=role, scopes=scopes)


def key_ring(database: Database, clock: FakeClock, secret: str = SECRET) -> KeyRing:
    """The keys as another process knows them."""
    return KeyRing(secret=secret, clock=clock, sessions=database, access_ttl=ACCESS_TTL)


class Pause:
    """Takes no time; `during` is what happens in it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self.during is not None:
            await self.during()


@pytest.fixture
def pause() -> Pause:
    """How auth waits."""
    return Pause()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def identity(
    database_for: DatabaseFor, sealer: Sealer, clock: FakeClock, pause: Pause
) -> AsyncIterator[Identity]:
    database = await database_for(Group.IDENTITY)
    hasher = CountingHasher()
    passwords = Passwords(hasher)
    counter = ClockedCounter(clock)
    keys = key_ring(database, clock)
    access_tokens = AccessTokens(keys, clock=clock, issuer="manpasik-auth", ttl=ACCESS_TTL)
    users = UserService(clock=clock, sealer=sealer, accounts=AccountDirectory())
    social, mailbox = SaidToBe(), Mailbox()
    auth = AuthService(
        clock=clock,
        sessions=database,
        passwords=passwords,
        access_tokens=access_tokens,
        refresh_ttl=REFRESH_TTL,
        failed_sign_ins=FailedSignIns(counter),
        reset_requests=ResetRequests(counter),
        registrations=Registrations(counter, per_hour=REGISTRATIONS_PER_HOUR),
        social=social,
        profiles=users,
        pause=pause,
    )
    mails = ResetMails(
        clock=clock, sessions=database, profiles=users, mailer=mailbox, public_url="https://app.example/"
    )
    yield Identity(
        database, clock, hasher, passwords, counter, keys, access_tokens, users, auth, social, mailbox, mails
    )
    passwords.close()


@pytest.fixture
async def redis() -> AsyncIterator[FakeAsyncRedis]:
    client = FakeAsyncRedis()
    yield client
    await client.aclose()

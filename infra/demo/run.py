"""The demo of `manpasik up`: three people whose readers replay real traces, and what to try next."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from devices.client.platform import Platform, PlatformAddresses
from devices.simulator.fleet import Fleet, FleetAccess, FleetPlan, FleetProgress, device_id_of
from devices.simulator.traces import load_trace, packaged_subjects
from infra.demo.factory import DemoFactory
from infra.demo.graph import Account, Graph
from infra.local.errors import LocalStackError
from infra.local.process import LOOPBACK
from infra.up.plan import ADMIN_EMAIL, Plan, plan
from infra.up.secrets import load_or_create

QUERY = """{ me { displayName
       devices(first: 1) { edges { node { id verified status batteryPercent lastSeenAt } } }
       measurements(first: 3) { edges { node { value unit measuredAt
           session { verified cartridge { lotId type { nameEn } } device { firmwareVersion } } } } } } }"""
_READINGS_BEFORE_THE_FIRST_FIGURE = 15
_FIGURE_EVERY_READINGS = 300


@dataclass(frozen=True, slots=True)
class Person:
    email: str
    display_name: str
    language: str


PEOPLE = (
    Person("minjun@demo.manpasik.example", "김민준", "ko"),
    Person("seoyeon@demo.manpasik.example", "이서연", "ko"),
    Person("alex@demo.manpasik.example", "Alex Park", "en"),
)


class Demo:
    """Registers people and readers, replays one real reading a second for each, and prints what the platform made of them.

    Args:
        environ: of the platform, for what its factory tells the database.
        secrets: of the platform; the password of every demo account is one of them.
    """

    def __init__(self, plan: Plan, console: Console, *, environ: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self._plan = plan
        self._environ = environ
        self._password = secrets["DEMO_PASSWORD"]
        self._factory = DemoFactory(secrets["ENCRYPTION_MASTER_KEY"])
        self._console = console
        self._graph = Graph(f"http://{LOOPBACK}:{plan.router_port}/graphql")
        self._progress: dict[str, FleetProgress] = {}
        self._figured = 0
        self._all_measured = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. A demo that fails says so and leaves the platform running."""
        try:
            await self._replay()
        except Exception as error:  # noqa: BLE001 - the boundary of the demo
            self._console.print(f"[bold red]the demo stopped:[/] {_cause(error)}", highlight=False)
            await asyncio.Event().wait()

    async def _replay(self) -> None:
        accounts = [Account(self._graph, person.email, self._password) for person in PEOPLE]
        admin = Account(self._graph, ADMIN_EMAIL, self._password)
        await asyncio.gather(*(a.register(p.display_name, p.language) for a, p in zip(accounts, PEOPLE, strict=True)))
        await asyncio.gather(*(account.token() for account in (*accounts, admin)))
        addresses = PlatformAddresses(
            device=self._address("device"),
            measurement=self._address("measurement"),
            cartridge=self._address("cartridge"),
            calibration=self._address("calibration"),
        )
        self._console.print("three readers replay real glucose readings (Hall et al. 2018, CC BY 4.0)")
        prefixes = {account.email: f"demo-{account.email.partition('@')[0]}" for account in accounts}
        device_ids = [device_id_of(prefix, 0) for prefix in prefixes.values()]
        await self._factory.register(self._environ, device_ids)
        codes = {device_id: self._factory.claim_code(device_id) for device_id in device_ids}
        async with Platform(addresses) as platform, asyncio.TaskGroup() as group:
            for number, (account, subject) in enumerate(zip(accounts, packaged_subjects(), strict=False)):
                fleet = Fleet(
                    platform,
                    FleetAccess(owner=account.token, technician=admin.token),
                    [load_trace(subject)],
                    FleetPlan(
                        readers=1,
                        device_prefix=prefixes[account.email],
                        repeat=True,
                        lot=self._factory.lot,
                        claim_codes=codes,
                    ),
                    on_progress=self._note,
                )
                self._progress[subject] = fleet.progress
                group.create_task(fleet.run(), name=f"demo fleet {number}")
            group.create_task(self._welcome(accounts[0]))

    def _address(self, service: str) -> str:
        return f"{LOOPBACK}:{self._plan.grpc_ports[service]}"

    def _note(self, _: FleetProgress) -> None:
        if all(progress.readings for progress in self._progress.values()):
            self._all_measured.set()
        readings = sum(progress.readings for progress in self._progress.values())
        due = self._figured + (_FIGURE_EVERY_READINGS if self._figured else _READINGS_BEFORE_THE_FIRST_FIGURE)
        if readings >= due:
            self._figured = readings
            invalid = sum(progress.invalid_readings for progress in self._progress.values())
            error = sum(progress.relative_error_sum for progress in self._progress.values())
            frames = sum(progress.frames for progress in self._progress.values())
            self._console.print(
                f"{readings} readings in {frames} frames; the platform recovers them with a mean absolute relative "
                f"difference (MARD) of {100 * error / max(readings - invalid, 1):.2f} %"
                + (f"; {invalid} gave no value that can be trusted" if invalid else "")
            )

    async def _welcome(self, account: Account) -> None:
        await self._all_measured.wait()
        url = f"{self._plan.router_url}/graphql"
        self._console.print(
            f"\n[bold]ManPaSik runs.[/]\n"
            f"GraphQL    {url}  (open it in a browser for the explorer)\n"
            f"gRPC       {', '.join(f'{name} :{port}' for name, port in self._plan.grpc_ports.items())}\n"
            f"metrics    http://localhost:{self._plan.metrics_port}  mails: {self._plan.home / 'mail'}\n"
            f"demo login {account.email}  password {self._password}\n\n"
            f"A query to paste in another terminal (the token holds for 15 minutes):\n"
        )
        one_line = " ".join(QUERY.split())
        print(  # noqa: T201 - whole, to be pasted: the console would wrap it
            f"curl -s {url} -H 'content-type: application/json' \\\n"
            f"  -H 'authorization: Bearer {await account.token()}' \\\n"
            f'  -d \'{{"query": "{one_line}"}}\'\n',
            flush=True,
        )
        self._console.print("Ctrl-C stops everything; the data stays.")


async def demo_token(environ: Mapping[str, str]) -> str:
    """An access token of the first demo person.

    Raises:
        LocalStackError: there is no platform in `MANPASIK_HOME`.
        OSError: the router does not answer.
        GraphRefused: the demo has not made its people yet.
    """
    planned = plan(environ)
    secrets = planned.home / "secrets.json"
    if not secrets.exists():
        raise LocalStackError(f"there is no platform in {planned.home}; start one with: manpasik up")
    graph = Graph(f"http://{LOOPBACK}:{planned.router_port}/graphql")
    return await Account(graph, PEOPLE[0].email, load_or_create(secrets)["DEMO_PASSWORD"]).token()


def _cause(error: BaseException) -> BaseException:
    """The first error within groups of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

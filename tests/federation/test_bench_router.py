"""The benchmark runs, and counts right what it does; how fast that is on the machine of the tests nobody asks."""

import asyncio
import shlex
import sys

import pytest

from tests.bench.router.load import Question, Tally, ask
from tests.bench.router.operations import ONE_FETCH
from tests.bench.router.world import expected


async def test_the_benchmark_measures_the_router_and_finds_every_answer_right() -> None:
    tiny = ("--only", "router", "--seconds", "0.4", "--warm-up", "0.2", "--connections", "3", "--operations", "4")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.router", *tiny, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    rows = [line.split() for line in printed.decode().splitlines() if line.startswith("router ")]
    fetches, right, wrong, failed = zip(*(row[9:13] for row in rows), strict=True)
    assert fetches[:2] == ("6.00", "1.00")
    assert right[2] == "4"
    assert all(int(count) > 0 for count in right)
    assert set(wrong) == set(failed) == {"0"}


async def test_a_router_that_cannot_be_started_is_told_and_is_no_success() -> None:
    command = shlex.join([sys.executable, "-c", "print('I know no supergraph')"])
    options = ("--only", "--peer", f"broken={command}", "--scenario", "one-fetch")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.router", *options, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 1
    assert "broken          cannot be measured" in printed.decode()
    assert "I know no supergraph" in printed.decode()


_HEAD = b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n"
_RIGHT = b'{"data":{"topProducts":[{"upc":"1","name":"Table","price":899,"weight":100}]}}'
_OTHER = b'{"data": {"topProducts": [{"name": "Table", "upc": "1", "weight": 100, "price": 899}]}}'
_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("response", "counted"),
    [
        (_HEAD % (b"200 OK", len(_RIGHT)) + _RIGHT, (1, 0, 0)),
        (_HEAD % (b"200 OK", len(_OTHER)) + _OTHER, (1, 0, 0)),
        (_CHUNKED % (_RIGHT[:5], len(_RIGHT) - 5, _RIGHT[5:]), (1, 0, 0)),
        (_HEAD % (b"500 No", len(_RIGHT)) + _RIGHT, (0, 0, 1)),
        (_HEAD % (b"200 OK", len(_RIGHT)) + _RIGHT.replace(b"899", b"898"), (0, 1, 0)),
        (_HEAD % (b"200 OK", len(_RIGHT) + 14) + _RIGHT[:-1] + b',"errors":[{}]}', (0, 1, 0)),
        (_HEAD % (b"200 OK", 9) + b"not JSON!", (0, 1, 0)),
        (b"", (0, 0, 1)),
    ],
)
async def test_every_answer_is_checked_however_it_comes(response: bytes, counted: tuple[int, int, int]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        for start in range(0, len(response), 40):
            writer.write(response[start : start + 40])
            await writer.drain()
            await asyncio.sleep(0)
        if not response:
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tally = Tally()
    question = Question(
        f"http://127.0.0.1:{port}/graphql", ONE_FETCH, {"topProducts": expected(ONE_FETCH)["topProducts"][:1]}
    )
    try:
        await ask("127.0.0.1", port, iter([question]), connections=1, tally=tally)
    finally:
        server.close()
    assert (tally.right, tally.wrong, tally.failed) == counted

"""Takes over a supergraph when its file changes, and goes on with the old one when the new one cannot be served."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from router.errors import InvalidSupergraph, RouterError
from router.serving.service import RouterService

logger = logging.getLogger("router")

_Stamp = tuple[int, int, int] | None


def watcher(path: Path, interval_s: float) -> Callable[[RouterService], Coroutine[Any, Any, None]]:
    """What looks at the file as long as it runs. No content of the file ends it: what cannot be served is logged, counted
    (`router_reloads`, result "refused"), and looked at again when the file changes, or at once where it could not be read. To be made before the supergraph is read for the first time, so that no change is missed.
    """

    first = _stamp(path)

    async def watch(service: RouterService) -> None:
        seen = first
        while True:
            await asyncio.sleep(interval_s)
            now = _stamp(path)
            if now is None or now == seen:
                continue
            try:
                sdl = await asyncio.to_thread(_read, path)
            except OSError as error:
                service.refuse_supergraph()
                logger.error("kept the old supergraph: %s cannot be read: %s", path, error.strerror)
                continue
            except InvalidSupergraph as error:
                seen = now
                service.refuse_supergraph()
                logger.error("kept the old supergraph: %s", error)
                continue
            seen = now
            try:
                await service.reload(sdl)
                logger.warning("took over the changed supergraph %s", path)
            except RouterError as error:
                logger.error("kept the old supergraph: %s: %s", path, error)
            except Exception:
                logger.exception("kept the old supergraph: %s cannot be served", path)

    return watch


def _stamp(path: Path) -> _Stamp:
    try:
        stat = path.stat()
    except OSError:
        return None  # in the middle of being replaced
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSupergraph(f"{path}: not text in UTF-8.") from error

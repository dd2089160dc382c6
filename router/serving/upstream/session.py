"""The HTTP client library's session, for what the router's own client does not do: event streams and files."""

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


class StreamSession:
    """One session, apart from the pools of requests: streams last, and must not take their places.

    The library takes a quarter of a start to import, so it waits for the first who needs it.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """tls: for https URLs; None: the library's own."""
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> "aiohttp.ClientSession":
        """To be called inside the event loop."""
        if self._session is None:
            import aiohttp  # noqa: PLC0415  see above

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

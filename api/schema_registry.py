"""The schema registry as /health sees it: whether it answers us. The jobs use it, the API does not."""

import ssl

import httpx2

from headwater.errors import SetupError
from headwater.settings import Registry

TIMEOUT_S = 2.0
# The shortest answer that needs our credentials and looks for nothing.
_ASKED = "schemas/types"


class SchemaRegistry:
    """One of several addresses is enough, as for the jobs. Raises SetupError for a ca_file that is none."""

    def __init__(self, registry: Registry) -> None:
        secret = registry.password.get_secret_value() if registry.password else ""
        self._addresses = [f"{one.strip().rstrip('/')}/{_ASKED}" for one in registry.url.split(",")]
        self._client = httpx2.AsyncClient(
            auth=(registry.username, secret) if registry.username else None,
            verify=_context(registry),
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    async def reachable(self) -> bool:
        """Whether it answers, and takes our credentials, now."""
        for address in self._addresses:
            try:
                answer = await self._client.get(address)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
                continue
            if answer.is_success:
                return True
        return False

    async def close(self) -> None:
        await self._client.aclose()


def _context(registry: Registry) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(registry.ca_file) if registry.ca_file else None)
    except (OSError, ssl.SSLError) as fault:
        raise SetupError(f"registry.ca_file cannot be used ({type(fault).__name__})") from None

"""The fields of a request's head, found by name at once: Starlette's reads all of them to find one."""

from typing import Any

from starlette.datastructures import Headers


class Fields(Headers):
    """As Starlette's. Names of `raw` are in lower case, as ASGI has them."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._named: dict[str, list[str]] = {}
        for name, value in raw:
            self._named.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def getlist(self, key: str) -> list[str]:
        return self._named.get(key.lower(), [])

    def get(self, key: str, default: Any = None) -> Any:
        """The first of that name."""
        found = self._named.get(key.lower())
        return found[0] if found else default

    def __getitem__(self, key: str) -> str:
        return self._named[key.lower()][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._named

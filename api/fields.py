"""The fields of a request's head, found by name at once: Starlette's reads all of them to find one."""

from typing import Any

from starlette.datastructures import Headers


class Fields(Headers):
    """As Starlette's, and read as there when a name is doubled. Names of `raw` are in lower case."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        named = dict(raw)
        self._named = named if len(named) == len(raw) else None

    def getlist(self, key: str) -> list[str]:
        if self._named is None:
            return super().getlist(key)
        found = self._named.get(key.lower().encode("latin-1"))
        return [] if found is None else [found.decode("latin-1")]

    def get(self, key: str, default: Any = None) -> Any:
        """The first of that name."""
        found = self.getlist(key)
        return found[0] if found else default

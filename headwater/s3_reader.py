"""An S3 object as a file that can be read from anywhere, without a copy of it.

One request runs on until somebody seeks; one that breaks off is taken up where it was.
"""

import io
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from headwater.errors import TransientError

ATTEMPTS = 4


class ObjectReader(io.RawIOBase):
    """Raw reads of one version of an object; wrap it in a BufferedReader."""

    def __init__(self, client: Any, place: dict[str, str], size: int, etag: str) -> None:
        self._client = client
        self._object = place | {"IfMatch": etag}
        self._size = size
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the start")
        if base + offset != self._at:
            self._drop()
            self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Raises TransientError when the object cannot be read any further."""
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        data = self._some(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _some(self, wanted: int) -> bytes:
        code = "an early end"
        for _ in range(ATTEMPTS):
            try:
                if self._body is None:
                    self._body = self._client.get_object(**self._object, Range=f"bytes={self._at}-")["Body"]
                if data := self._body.read(wanted):
                    return bytes(data)
            except (ClientError, BotoCoreError) as fault:
                code = type(fault).__name__
            self._drop()
        raise TransientError(f"S3 breaks off an object with {code}")

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

"""Which keys of a table reconcile compares."""

from dataclasses import dataclass

_DIGITS = 8
_ALL = 16**_DIGITS
# More keys than this are not looked for one by one: all are read, and what is not chosen is passed over.
MANY = 100_000


@dataclass(frozen=True)
class Chosen:
    """All keys; or those whose digest, in hexadecimal, comes before the text `below`; or just `keys`."""

    below: str | None = None
    keys: frozenset[bytes] | None = None

    @property
    def few(self) -> frozenset[bytes] | None:
        """The keys, if they are few enough to be asked for by name."""
        return self.keys if self.keys is not None and len(self.keys) <= MANY else None

    def has(self, key: bytes) -> bool:
        """Whether the key with this digest is compared."""
        if self.keys is not None:
            return key in self.keys
        return self.below is None or key.hex() < self.below


ALL = Chosen()


def sample(wanted: int, of: int) -> Chosen:
    """About `wanted` of so many keys, the same ones each time: digests are spread evenly."""
    return ALL if wanted >= of else Chosen(below=f"{wanted * _ALL // of:0{_DIGITS}x}")

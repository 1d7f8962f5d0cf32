"""Retries: outages only, within the patience, the last fault at the end."""

import pytest

from headwater import retry
from headwater.errors import SetupError, TransientError
from headwater.retry import retrying


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.005)


def failing(*faults: Exception) -> tuple[list[int], "Action"]:
    calls: list[int] = []
    return calls, Action(calls, list(faults))


class Action:
    """Fails with each fault in turn, then succeeds."""

    def __init__(self, calls: list[int], faults: list[Exception]) -> None:
        self.calls, self.faults = calls, faults

    def __call__(self) -> str:
        self.calls.append(1)
        if self.faults:
            raise self.faults.pop(0)
        return "done"


def test_an_outage_is_tried_again_until_it_ends() -> None:
    calls, action = failing(TransientError("a"), TransientError("b"))
    assert retrying(action, "x", patience_s=5) == "done"
    assert len(calls) == 3


def test_what_a_person_must_mend_is_not_tried_again() -> None:
    calls, action = failing(SetupError("mend it"))
    with pytest.raises(SetupError, match="mend it"):
        retrying(action, "x", patience_s=5)
    assert len(calls) == 1


def test_a_fault_that_is_not_ours_is_not_tried_again() -> None:
    calls, action = failing(KeyError("x"))
    with pytest.raises(KeyError):
        retrying(action, "x", patience_s=5)
    assert len(calls) == 1


def test_out_of_patience_the_last_fault_is_raised() -> None:
    _, action = failing(*[TransientError(str(number)) for number in range(10_000)])
    with pytest.raises(TransientError, match=r"^\d+$"):
        retrying(action, "x", patience_s=0.05)

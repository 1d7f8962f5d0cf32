"""The longest files come first, so that two workers end at about the same time."""

import pytest

_FIRST = ("test_jobs_kill.py", "test_outages.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The others stay in the order of their names."""
    items.sort(key=lambda item: item.path.name not in _FIRST)

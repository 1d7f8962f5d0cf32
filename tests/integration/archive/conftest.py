"""A lake and an archive for each test."""

from pathlib import Path

import pytest

from tests.integration.archive.harness import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)

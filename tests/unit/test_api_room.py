"""How much of the bodies of a caller, and of all, is held at once; and how many files the API may open."""

import resource

import pytest

from api.__main__ import allow_many_connections
from api.problems import Problem
from api.room import Room


def test_a_caller_has_its_share_and_all_have_the_whole() -> None:
    room = Room(most=100, most_each=60)
    with room.taken("a", 60):
        refusal = _refused(room, "a", 1)
        assert (refusal.status, refusal.code) == (503, "busy")
        assert (refusal.headers or {})["Retry-After"] == "1"
        with room.taken("b", 40):
            _refused(room, "c", 1)
    with room.taken("c", 60), room.taken("d", 40):
        pass


def test_room_is_given_back_after_a_fault() -> None:
    room = Room(most=10, most_each=10)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), room.taken("a", 10):
            raise ValueError("broken")


def _refused(room: Room, credential: str, size: int) -> Problem:
    with pytest.raises(Problem) as caught, room.taken(credential, size):
        pass
    return caught.value


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

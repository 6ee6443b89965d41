"""A server has the open files that its connections need."""

import resource

import pytest

from m2clip.app.listening import allow_open_files
from m2clip.errors import ConfigError


def test_open_files_are_allowed_as_far_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    allow_open_files(256)
    assert limits[-1] == (512, 4096)
    allow_open_files(100)
    assert limits[-1] == (512, 4096)
    with pytest.raises(
        ConfigError, match="5,000 connections need 5,256 open files, and this system allows a process 4,096"
    ):
        allow_open_files(5000)
    limits.append((256, resource.RLIM_INFINITY))
    allow_open_files(5000)
    assert limits[-1] == (5256, resource.RLIM_INFINITY)
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    allow_open_files(5000)
    assert limits[-1] == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

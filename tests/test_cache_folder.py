"""The cache folder: the user's own choice first, then the platform's, and no guess where there is no home."""

from pathlib import Path

import pytest

from m2clip.cache_folder import cache_folder


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("M2CLIP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_it_lies_in_the_home_folder(tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / ".cache" / "m2clip"
    assert not cache_folder().exists()  # to ask for it makes nothing


def test_settings_choose_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/user")
    assert cache_folder() == Path("/var/cache/user/m2clip")
    monkeypatch.setenv("M2CLIP_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


def test_settings_that_say_nothing_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("M2CLIP_CACHE", "")
    assert cache_folder() == tmp_path / ".cache" / "m2clip"


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(OSError, match="no home folder"):
        cache_folder()

"""What may be opened as a live source, and what messages show of an address."""

from pathlib import Path

import pytest

from m2clip.data.live import live_address
from m2clip.errors import VideoError
from tests.live_server import transport_stream


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("rtsp://user:secret@10.0.0.1:554/main", "rtsp://10.0.0.1:554/main"),
        ("RTSPS://user:secret@camera/main?token=secret", "rtsps://camera/main?..."),
        ("http://user:secret@camera/x.m3u8?key=secret", "http://camera/x.m3u8?..."),
        ("rtsp://camera/user=admin&password=secret&channel=1", "rtsp://camera/user=admin&password=...&channel=1"),
        ("rtsp://camera/user=admin_password=secret_channel=1", "rtsp://camera/user=admin_password=..."),
    ],
)
def test_nothing_secret_is_shown(given: str, shown: str) -> None:
    address = live_address(given)
    assert address.shown == shown
    assert address.url == given
    assert not address.ends


def test_the_disk_is_closed_to_addresses_and_the_net_to_files(tmp_path: Path) -> None:
    for address in ("rtsp://camera/", "http://camera/"):
        assert "file" not in live_address(address).options["protocol_whitelist"].split(",")
    path = tmp_path / "http:x.ts"
    path.write_bytes(transport_stream(1))
    address = live_address(str(path))
    assert address.options["protocol_whitelist"] == "file"
    assert address.url.startswith("file:")
    assert address.ends


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("udp://239.0.0.1:1234", "is no live source"),
        ("concat://a|b", "is no live source"),
        ("987", "there is no such camera"),
        ("/dev/video987", "there is no such camera"),
        ("no such file.ts", "there is no such file"),
        (".", "it is a folder"),
    ],
)
def test_what_cannot_be_one_is_told_in_a_sentence(given: str, said: str) -> None:
    with pytest.raises(VideoError, match=said):
        live_address(given)

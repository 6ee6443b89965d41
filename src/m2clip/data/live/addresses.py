"""What a live source may be, and what FFmpeg is allowed to open for it."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from m2clip.data.decode.opening import CONTAINERS, MOST_PIXELS
from m2clip.data.places import absence
from m2clip.data.web import is_web_address, shown_address
from m2clip.errors import VideoError

# Nothing that an answer or a playlist names leads to the disk, to other protocols or to a decoder of playlists but HLS.
_WEB_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto"
_RTSP_PROTOCOLS = "tcp,tls"
_SECRETS = re.compile(r"(?i)(pass(?:word|wd)?|pwd|token|secret|key)=[^&;/?]*")
_EVERYWHERE = {
    "max_pixels": str(MOST_PIXELS),
    # A rate is measured on twenty pictures otherwise, which would be old before the first of them is given out.
    "fpsprobesize": "0",
    "analyzeduration": "3000000",
}


@dataclass(frozen=True)
class LiveAddress:
    """Something that can be opened as a live source."""

    url: str
    """As FFmpeg takes it."""
    shown: str
    """For messages: without user, password, query, and what is called a password in the path."""
    format: str | None = None
    """FFmpeg's name of the format where it must be told."""
    options: dict[str, str] = field(default_factory=dict)
    """FFmpeg's options."""
    ends: bool = False
    """Whether its end is the end, as of a file, and no break."""


def live_address(text: str) -> LiveAddress:
    """A camera ("0", "/dev/video0"), rtsp:// or rtsps://, http:// or https://, or a video file, which is played at its own pace.

    Raises VideoError, one sentence, for anything else.
    """
    if re.fullmatch("[0-9]{1,3}", text):
        text = f"/dev/video{text}"
    lower = text[:8].lower()
    if lower.startswith(("rtsp://", "rtsps://")):
        # Over UDP, what is lost on the way is missing in the pictures.
        options = {**_EVERYWHERE, "protocol_whitelist": _RTSP_PROTOCOLS, "rtsp_transport": "tcp"}
        return LiveAddress(text, _shown(text), options=options)
    if is_web_address(text):
        options = {
            **_EVERYWHERE,
            "protocol_whitelist": _WEB_PROTOCOLS,
            "format_whitelist": f"{CONTAINERS},hls,mpjpeg",
            "user_agent": "m2clip",
        }
        return LiveAddress(text, _shown(text), options=options)
    if re.match("[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise VideoError(
            f"{_shown(text)} is no live source: give a camera (0 or /dev/video0), or an address that begins with rtsp://, "
            "rtsps://, http:// or https://"
        )
    return _local(Path(text))


def _local(path: Path) -> LiveAddress:
    name = str(path)
    if not path.exists():
        what = "there is no such camera; list them with `ls /dev/video*`" if name.startswith("/dev/") else absence(path)
        raise VideoError(f"cannot read {name}: {what}")
    mode = path.stat().st_mode
    if stat.S_ISCHR(mode):
        return LiveAddress(name, name, format="v4l2", options=dict(_EVERYWHERE))
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device that is no camera"
        raise VideoError(f"cannot read {name}: it is {what}; give a camera, an address or a video file")
    options = {**_EVERYWHERE, "protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    return LiveAddress(f"file:{os.fspath(path)}", name, options=options, ends=True)


def _shown(url: str) -> str:
    return _SECRETS.sub(r"\1=...", shown_address(url))

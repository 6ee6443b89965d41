"""A server in a process of its own: asking it, its memory, its end."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving_load.uploads import BORDER, MOST_MB, Upload


class Server:
    """The server under load."""

    def __init__(self, checkpoint: str, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "m2clip", "serve", checkpoint, "--no-page", "--port", "0", "--max-mb", str(MOST_MB)],
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        assert self.process.stdout is not None
        found = re.search(r":([0-9]+) ", self.process.stdout.readline())
        assert found is not None, self.log.read_text()
        self.port, self.start_seconds = int(found[1]), time.perf_counter() - started

    def ask(self, upload: Upload) -> tuple[str, str]:
        """The status ("left" for a client that leaves, or a fault's name) and the words of an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        body = upload.body()
        try:
            connection.putrequest("POST", f"/v1/{upload.route}")
            connection.putheader("Content-Type", f"multipart/form-data; boundary={BORDER}")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            if upload.leaves:
                connection.send(body[: len(body) // 2])
                return "left", ""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all is sent
                connection.send(body)
            answer = connection.getresponse()
            content = answer.read()
            return str(answer.status), "" if answer.status == 200 else content.decode()
        except OSError as error:
            return type(error).__name__, str(error)
        finally:
            connection.close()

    def processes(self) -> Iterator[int]:
        """The server and all below it."""
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())
            except OSError:
                continue

    def memory(self) -> dict[str, float]:
        """Megabytes that the server shares with nobody, and of all its processes; how many there are, with how many threads."""
        found = {"server_own_mb": 0.0, "all_mb": 0.0, "processes": 0, "threads": 0}
        for pid in self.processes():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
                threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
            except OSError:
                continue
            kilobytes = {words[0]: int(words[1]) for words in map(str.split, lines)}
            found["all_mb"] += kilobytes.get("Pss:", 0) / 1024
            found["server_own_mb"] += kilobytes.get("Private_Dirty:", 0) / 1024 * (pid == self.process.pid)
            found["processes"] += 1
            found["threads"] += threads
        return {name: round(value, 1) for name, value in found.items()}

    def counts(self) -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {name: float(value) for name, value in re.findall(r"^(m2clip_\S+) (\S+)$", text, re.MULTILINE)}

    def stop(self) -> dict[str, Any]:
        children = [pid for pid in self.processes() if pid != self.process.pid]
        started = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        took = time.perf_counter() - started
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.perf_counter() - started < 30:
            time.sleep(0.1)  # what it had started ends when it sees that the server is gone
        return {
            "exit_code": code,
            "stop_seconds": round(took, 2),
            "processes_left": sum(Path(f"/proc/{pid}").exists() for pid in children),
            "files_left": len(list(self.folder.glob("m2clip-*"))),
            "faults_in_the_log": self.log.read_text().count('"event": "failed"'),
        }

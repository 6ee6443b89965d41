"""What the server counts, for Prometheus; a registry of its own, so that two servers in one process do not mix."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, generate_latest

from m2clip.app.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CLIPS = (1, 2, 4, 8, 16, 32)
_REJECTIONS = {401: "token", 408: "slow_upload", 413: "too_large", 429: "busy", 504: "too_slow"}


class Metrics:
    """The counters of one server. Labels hold routes and statuses alone: nothing that a client could make up."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        PlatformCollector(registry=self._registry)
        self._requests = Counter("m2clip_requests", "Requests answered.", ["route", "status"], registry=self._registry)
        self._seconds = Histogram(
            "m2clip_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rejected = Counter("m2clip_rejected", "Requests turned away.", ["reason"], registry=self._registry)
        self.in_flight = Gauge("m2clip_in_flight", "Requests that are being answered.", registry=self._registry)
        batches = Histogram(
            "m2clip_batch_clips", "Clips that went through a model together.", buckets=_CLIPS, registry=self._registry
        )
        service.thread.batch_sizes = batches.observe
        waiting = Gauge("m2clip_waiting", "Jobs that have not begun.", ["queue"], registry=self._registry)
        waiting.labels("decode").set_function(lambda: service.pool.waiting)
        waiting.labels("model").set_function(lambda: service.thread.waiting)
        self._gauge("m2clip_ready", "1: requests can be answered.", lambda: service.ready)
        self._gauge("m2clip_decoders_ready", "Processes that decode.", lambda: service.pool.ready)
        self._gauge(
            "m2clip_decoders_lost",
            "Processes that crashed, hung or were given up since the start.",
            lambda: service.pool.failures,
        )
        memory = Gauge("m2clip_resident_bytes", "Memory in use.", ["process"], registry=self._registry)
        memory.labels("server").set_function(lambda: resident_bytes([os.getpid()]))
        memory.labels("decoders").set_function(lambda: resident_bytes(service.pool.pids()))

    def _gauge(self, name: str, words: str, value: Callable[[], float]) -> None:
        Gauge(name, words, registry=self._registry).set_function(value)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if status in _REJECTIONS:
            self._rejected.labels(_REJECTIONS[status]).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)


def resident_bytes(processes: Iterable[int]) -> int:
    """Memory of these processes, pages that they share counted in each; 0 where the system does not tell."""
    total = 0
    for process in processes:
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            continue
    return total

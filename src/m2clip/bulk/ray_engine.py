"""Bulk work on Ray Data: blocks of numbers go to actors that keep the model, and the driver, which alone writes, gets their rows."""

import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from m2clip.bulk.batches import Asked, BatchResult, Reading
from m2clip.bulk.ray_actor import NAMESPACE, BatchActor, Coordinator
from m2clip.bulk.ray_messages import asked_table, unpacked
from m2clip.bulk.work import Work
from m2clip.errors import ConfigError, M2CLIPError, first_line

VIDEOS_A_BLOCK = 64
"""At most, of what one task does and the death of an actor costs."""
_LONG_VIDEOS_A_BLOCK = 8  # in stretches
_BLOCKS_AN_ACTOR = 4  # at least, where there are so many, so that actors end at about the same time
_TASKS_AN_ACTOR = 2  # one that it does and one that waits
_SPARE_CPUS = 1
_STARTS = 3
_LISTEN_SECONDS = 10.0
_STORE_BYTES = 256 * 2**20
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing calls home
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # its logs, not ours, tell of each actor's arguments
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",  # a busy machine is no reason to give up
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_niceness": "0",  # by default 15: beside anything else that runs, actors would take minutes to start
}
_LONGEST_FOLDER = 40  # Ray puts sockets below it, and the name of a socket has room for 107 characters


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster, or a Ray of this machine's own that ends with the run.

    `reading.workers` is the number of actors. `address` of the cluster ("auto": that of this machine); None: one is started here. With the
    `device` "cuda" each actor takes a GPU. The machines of a cluster need m2clip, and the videos under the same paths.
    """

    reading: Reading
    address: str | None = None
    device: str = "cpu"
    compiled: bool = False

    @property
    def _gpus(self) -> int:
        """Of each actor."""
        return int(self.device == "cuda")

    def results(self, work: Work, asked: Sequence[Asked], batches: Sequence[range]) -> Iterator[BatchResult]:
        """See `run.Engine`: what comes of the batches, as they are done. ConfigError where there is no such cluster."""
        table = asked_table(asked)
        starts = np.array([*(batch.start for batch in batches), len(asked)], np.int64)
        size = batches_a_block(len(batches), self.reading, in_stretches=work.every_seconds is not None)
        with started(self.address, actors=self.reading.workers, bytes_held=_bytes_held(work, table)) as ray:
            for kind in ("CPU", "GPU") if self._gpus else ("CPU",):
                need(ray, self.address, kind, actors=self.reading.workers)
            name = f"bulk-{uuid.uuid4()}"
            shared = [ray.put(one) for one in (work, table, starts)]
            keeper = ray.remote(Coordinator).options(name=name, namespace=NAMESPACE, num_cpus=0)
            coordinator = keeper.remote(shared, actors=self.reading.workers)
            try:
                for content, error in self._packed(ray, name, -(-len(batches) // size), size):
                    if error is not None:
                        raise M2CLIPError(error)
                    yield unpacked(content, asked, work.form.schema)
            except ray.exceptions.RayTaskError:  # a fault of ours, whose traceback tells where
                raise
            except ray.exceptions.RayError as error:
                raise M2CLIPError(
                    f"Ray broke off ({first_line(error)[:200]}): run the command again, it goes on where it was"
                ) from None
            finally:
                with suppress(ray.exceptions.RayError):
                    ray.kill(coordinator)

    def _packed(self, ray: Any, coordinator: str, blocks: int, size: int) -> Iterator[tuple[bytes, str | None]]:
        import ray.data as data

        context = data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # They lie there already: a range would be read by tasks, for which actors on all CPUs leave no room.
        numbers = data.from_items([{"block": block} for block in range(blocks)], override_num_blocks=blocks)
        found = numbers.map_batches(
            BatchActor,
            fn_constructor_args=(coordinator, replace(self.reading, workers=0), size, self.device, self.compiled),
            compute=data.ActorPoolStrategy(
                size=min(self.reading.workers, blocks), max_tasks_in_flight_per_actor=_TASKS_AN_ACTOR
            ),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            num_gpus=self._gpus,
        )
        batch: Any
        for batch in found.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from zip(batch.column("result").to_pylist(), batch.column("error").to_pylist(), strict=True)


def batches_a_block(batches: int, reading: Reading, *, in_stretches: bool = False) -> int:
    """How many batches one task does: as many as VIDEOS_A_BLOCK allows, fewer where each actor would get too few tasks."""
    most = _LONG_VIDEOS_A_BLOCK if in_stretches else VIDEOS_A_BLOCK
    return max(1, min(most // reading.batch_size, batches // (_BLOCKS_AN_ACTOR * reading.workers)))


def _bytes_held(work: Work, table: pa.Table) -> int:
    model = sum(tensor.numel() * tensor.element_size() for tensor in work.recognizer.model.state_dict().values())
    return model + table.nbytes


def import_ray() -> Any:
    """Ray, with settings that it reads when it is imported or started; ImportError where it is not installed."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    return import_module("ray")


@contextmanager
def started(address: str | None, *, actors: int, bytes_held: int) -> Iterator[Any]:
    """Ray, connected; one that is connected already is used and left alone."""
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    plain: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": NAMESPACE}
    if address is not None:
        try:
            _need_listener(address)
            ray.init(address, **plain)
        except (OSError, ValueError, RuntimeError) as error:  # of which ConnectionError is one
            raise ConfigError(
                f"no Ray answers at {address} ({first_line(error)[:200]}): start one with ray start --head, or leave the address out"
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()
        return
    short = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(
        prefix="m2ray-", dir=short if len(short) <= _LONGEST_FOLDER else "/tmp", ignore_cleanup_errors=True
    ) as folder:
        _start(
            ray,
            num_cpus=actors + _SPARE_CPUS,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES + 2 * bytes_held,
            _temp_dir=folder,
            **plain,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


def _need_listener(address: str) -> None:
    """Raise OSError where nobody listens at host:port or ray://host:port, for which Ray itself would wait minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTEN_SECONDS).close()


def _start(ray: Any, **options: Any) -> None:
    """Start Ray here. It gives its own processes half a minute to answer, which a busy machine may not keep to the first time."""
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray has no kind of its own for this
            ray.shutdown()
            if attempt == _STARTS:
                raise ConfigError(
                    f"Ray does not start on this machine ({first_line(error)[:200]}): free memory or end other work, or leave out "
                    "--engine ray"
                ) from None


def need(ray: Any, address: str | None, kind: str, *, actors: int) -> None:
    """ConfigError where not every actor would get its "CPU" or "GPU", for which Ray would wait without end."""
    there = int(ray.cluster_resources().get(kind, 0))
    if there < actors:
        place = "this machine" if address is None else f"the Ray at {address}"
        remedy = "ask for fewer workers" if there else "leave out --device cuda"
        raise ConfigError(f"{place} has {there} {kind}s, and {actors} actors need one each: {remedy}")

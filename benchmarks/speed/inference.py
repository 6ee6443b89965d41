"""Video inference against the frozen CLIP tower, against the plain form, and against the machine's matrix product."""

import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import plain
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2clip.errors import ConfigError
from m2clip.model.compiled import compile_images
from m2clip.model.m2clip import M2CLIP
from m2clip.model.precision import lower
from speed.timing import Case, alternate
from speed.workload import (
    PRECISIONS,
    Precision,
    Workload,
    build_model,
    clip_tower,
    clips,
    inference_case,
    our_video_case,
)

PRODUCTS = 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measure(workload: Workload, *, precisions: Sequence[Precision] = PRECISIONS) -> dict[str, Any]:
    """`encode_video` for one video and for a batch, in each precision; frames per video as in training."""
    tower = clip_tower(workload)
    counted = arithmetic(workload)
    seconds, ratios, values = {}, {}, {"gflop": counted}
    for precision in precisions:
        model, plainly = build_model(workload), build_model(workload)
        compiled, waited = compiled_model(workload, precision)
        if waited and precision == "bf16":
            values["compile_seconds"] = waited
        ours = ("ours",) if compiled is None else ("ours", "compiled")
        for batch in (1, workload.batch):
            videos = clips(workload, batch)
            name = f"{precision}, batch {batch}"
            cases: dict[str, Case] = {
                "ours": our_video_case(model, videos, precision=precision),
                "tower": inference_case(tower, videos.flatten(0, 1), precision=precision),
                "product": mlp_product(workload, batch, precision),
            }
            if compiled is not None:
                cases["compiled"] = inference_case(compiled.encode_video, videos, precision="fp32")
            if batch == 1:
                cases["plain"] = inference_case(plain.encode_video, plainly, videos, precision=precision)
            found = alternate(cases, rounds=workload.rounds)
            seconds |= {f"{case}, {name}": value for case, value in found.document().items()}
            pairs = (("ours", "tower"), ("compiled", "tower"), ("ours", "plain"))
            ratios |= {f"{a} / {b}, {name}": found.ratio(a, b) for a, b in pairs if a in cases and b in cases}
            for case in ("ours", "tower"):
                values[f"{case}: page faults, {name}"] = page_faults(cases[case]) / batch
            # Rate of ours over the rate of the product: (their arithmetic / their seconds) each, median of the rounds.
            work = batch * counted["ours"] / product_gflop(workload, batch)
            for case in ours:
                values[f"{case}: share of torch.mm, {name}"] = work / found.ratio(case, "product")
        for case in ours:
            one, many = (seconds[f"{case}, {precision}, batch {batch}"]["median"] for batch in (1, workload.batch))
            values[f"{case}: a video of {workload.batch} / alone, {precision}"] = many / workload.batch / one
    rates = {
        f"torch.mm {rows}x{inner}x{outer}, {precision}": product_rate(rows, inner, outer, precision, workload.rounds)
        for batch in (1, workload.batch)
        for rows, inner, outer in layer_shapes(workload, batch)
        for precision in precisions
    }
    return {"seconds": seconds, "ratios": ratios, "values": values | {"gflop_per_second": rates}}


def compiled_model(workload: Workload, precision: Precision) -> tuple[M2CLIP | None, list[float]]:
    """A model with its image tower compiled, and seconds: of compiling, and of a second start that finds the result.

    None and no seconds on a machine that cannot compile.
    """
    waited = []
    for _ in range(2):
        model = build_model(workload)
        if precision == "bf16":
            lower(model)
        started = time.perf_counter()
        try:
            compile_images(model, frames=workload.frames)
        except ConfigError as error:
            print(error, file=sys.stderr)
            return None, []
        waited.append(time.perf_counter() - started)
    return model, waited


def page_faults(case: Case) -> int:
    """How often a call touches memory that the system has just given: pages are given anew where freed memory went back to it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    case()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def arithmetic(workload: Workload) -> dict[str, float]:
    """GFLOP of one video (a multiply-add is two): what our model does, what the plain form does. Counted on shapes alone.

    `ours` leaves out what the plain form computes and nobody reads, so shares of the machine's rate are not flattered by it.
    """
    with torch.device("meta"):
        model = build_model(workload, classes=2)
        videos = torch.empty(1, workload.frames, 3, workload.backbone.image_size, workload.backbone.image_size)
    found = {}
    for name, function in (("ours", model.encode_video), ("plain", lambda x: plain.encode_video(model, x))):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            function(videos)
        found[name] = counter.get_total_flops() / 1e9
    return found


def layer_shapes(workload: Workload, batch: int) -> list[tuple[int, int, int]]:
    """The matrix products of a block for all tokens of a batch: (rows, inner, outer) of MLP, projections and adapters."""
    sizes, width = workload.backbone, workload.backbone.vision_width
    rows = batch * workload.frames * (1 + (sizes.image_size // sizes.patch_size) ** 2)
    return [(rows, width, 4 * width), (rows, 4 * width, width), (rows, width, 3 * width), (rows, width, width)]


def product_gflop(workload: Workload, batch: int) -> float:
    """GFLOP of `mlp_product`."""
    rows, inner, outer = layer_shapes(workload, batch)[0]
    return PRODUCTS * 2 * rows * inner * outer / 1e9


def mlp_product(workload: Workload, batch: int, precision: Precision) -> Case:
    """`torch.mm` at the shape of the MLP's first layer, PRODUCTS times: one alone is over too soon to stand beside a whole model."""
    rows, inner, outer = layer_shapes(workload, batch)[0]
    product = _product(rows, inner, outer, precision)

    def run() -> None:
        for _ in range(PRODUCTS):
            product()

    return run


def _product(rows: int, inner: int, outer: int, precision: Precision) -> Case:
    a, b = torch.randn(rows, inner).to(DTYPES[precision]), torch.randn(inner, outer).to(DTYPES[precision])
    return lambda: torch.mm(a, b)


def product_rate(rows: int, inner: int, outer: int, precision: Precision, rounds: int) -> float:
    """GFLOP a second of `torch.mm`."""
    found = alternate({"product": _product(rows, inner, outer, precision)}, rounds=2 * rounds + 1)
    return 2 * rows * inner * outer / 1e9 / found.median("product")

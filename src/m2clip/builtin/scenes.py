"""One renderer for still scenes and video frames: coloured shapes on textured backgrounds, vectorised and seeded.

Every shape is a signed distance field, computed once from its outline and looked up bilinearly, so that size, place and
rotation are free, edges are antialiased, and a thousand frames cost one lookup per object. Coordinates are fractions of
the image side, x to the right and y down; angles are radians, clockwise on the screen. All randomness comes from the
`torch.Generator` that is passed in.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "arrow",
    "cross",
    "ring",
    "diamond",
    "crescent",
    "bolt",
    "drop",
)
"""The shapes that captions and class names know."""

DISTRACTORS = ("bar", "blob")
"""Shapes without a name in any caption; their ids follow those of SHAPES."""

ONE_WAY_UP = ("heart", "arrow", "crescent", "drop")
"""Shapes that look like themselves only after a full turn: a spin shows on them whatever its speed."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.0, 0.9, 0.85),
    "orange": (0.075, 0.95, 0.97),
    "yellow": (0.155, 0.9, 0.95),
    "green": (0.36, 0.85, 0.62),
    "cyan": (0.5, 0.85, 0.9),
    "blue": (0.63, 0.88, 0.9),
    "purple": (0.76, 0.75, 0.65),
    "pink": (0.92, 0.45, 0.98),
    "white": (0.0, 0.02, 0.98),
}
"""Colour names, each with its hue, saturation and value in 0..1."""

_FIELD_REACH = 2.0  # the distance fields cover [-reach, reach] in units of the shape's radius
_FIELD_CELLS = 129


@dataclass(frozen=True)
class Objects:
    """O object slots in each of N scenes; later slots are painted over earlier ones, opacity 0 leaves a slot empty.

    shape int64 [N, O]; colour float [N, O, 3] in 0..1; centre [N, O, 2] (x, y) and radius [N, O] as fractions of the image
    side; angle [N, O] in radians; opacity [N, O] in 0..1.
    """

    shape: Tensor
    colour: Tensor
    centre: Tensor
    radius: Tensor
    angle: Tensor
    opacity: Tensor

    def __post_init__(self) -> None:
        slots = tuple(self.shape.shape)
        for name, tail in (("colour", (3,)), ("centre", (2,)), ("radius", ()), ("angle", ()), ("opacity", ())):
            shape = tuple(getattr(self, name).shape)
            if shape != slots + tail:
                raise ValueError(f"{name} has shape {shape}; shape ids {slots} need {slots + tail}")


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Float32 values of `shape`, uniform in [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def jittered_colours(ids: Tensor, generator: torch.Generator) -> Tensor:
    """Colour ids (places in COLOURS) of any shape [...] -> RGB [..., 3] in 0..1, each a little off its colour's centre."""
    centre = torch.tensor(list(COLOURS.values()))[ids]
    spread = torch.tensor([0.018, 0.1, 0.06])
    hsv = centre + spread * uniform(generator, -1.0, 1.0, *centre.shape)
    # White stays white: its saturation is the one that must not drift.
    white = (ids == list(COLOURS).index("white"))[..., None]
    hsv = torch.where(white, centre + torch.tensor([0.5, 0.02, 0.02]) * (hsv - centre) / spread, hsv)
    hue, saturation, value = hsv[..., 0] % 1.0, hsv[..., 1].clamp(0, 1), hsv[..., 2].clamp(0, 1)
    return _hsv_to_rgb(hue, saturation, value)


def _hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    # f(n) = v - v s max(0, min(k, 4 - k, 1)) with k = (n + 6 h) mod 6, for n = 5, 3, 1.
    k = (torch.tensor([5.0, 3.0, 1.0]) + 6.0 * hue[..., None]) % 6.0
    return value[..., None] * (1.0 - saturation[..., None] * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))


def muted_rgb(generator: torch.Generator, *shape: int) -> Tensor:
    """RGB [*shape, 3] of greyish colours, never bright: what backgrounds are made of."""
    hue = uniform(generator, 0.0, 1.0, *shape)
    return _hsv_to_rgb(hue, uniform(generator, 0.0, 0.3, *shape), uniform(generator, 0.08, 0.6, *shape))


def backgrounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """`count` textured backgrounds, float32 [count, 3, size, size] in 0..1: flat, gradients, stripes, checks, clouds; all grainy."""
    first, second = muted_rgb(generator, count), muted_rgb(generator, count)
    kind = torch.randint(0, 5, (count,), generator=generator)
    turn = uniform(generator, 0.0, 2 * math.pi, count, 1, 1)
    phase = uniform(generator, 0.0, 2 * math.pi, count, 1, 1)
    waves = 2 * math.pi * uniform(generator, 2.0, 7.0, count, 1, 1)
    clouds = torch.rand((count, 1, 6, 6), generator=generator)
    grain = torch.randn((count, 1, size, size), generator=generator) * uniform(generator, 0.0, 0.035, count, 1, 1, 1)
    line = (torch.arange(size) + 0.5) / size - 0.5
    along = line * turn.cos() + line[:, None] * turn.sin()
    across = line[:, None] * turn.cos() - line * turn.sin()
    stripes, rows = (waves * along + phase).sin(), (waves * across).sin()
    pattern = torch.stack(
        [
            torch.zeros(count, size, size),
            (along * 0.9 + 0.5).clamp(0, 1),
            (3.0 * stripes).clamp(-1, 1) * 0.5 + 0.5,
            (6.0 * stripes * rows).clamp(-1, 1) * 0.5 + 0.5,
            F.interpolate(clouds, (size, size), mode="bilinear", align_corners=False)[:, 0],
        ]
    )[kind, torch.arange(count)]
    blend = first[:, :, None, None] + (second - first)[:, :, None, None] * pattern[:, None]
    return (blend + grain).clamp_(0.0, 1.0)


def coverage(objects: Objects, slot: int, size: int) -> Tensor:
    """How much of each pixel the objects in `slot` cover, float32 [N, size, size] in 0..1 (opacity not included)."""
    fields = _distance_fields()[objects.shape[:, slot]][:, None]
    radius = objects.radius[:, slot, None, None]
    line = (torch.arange(size) + 0.5) / size
    dx = (line - objects.centre[:, slot, 0, None, None]) / radius
    dy = (line[:, None] - objects.centre[:, slot, 1, None, None]) / radius
    cos, sin = objects.angle[:, slot, None, None].cos(), objects.angle[:, slot, None, None].sin()
    # The pixel in the shape's own frame: turned back by its angle.
    grid = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin], dim=-1) / _FIELD_REACH
    distance = F.grid_sample(fields, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0]
    return (0.5 - distance * radius * size).clamp_(0.0, 1.0)


def render(objects: Objects, background: Tensor) -> Tensor:
    """Objects painted on `background` [N or 1, 3, S, S] -> images float32 [N, 3, S, S] in 0..1."""
    images = background.expand(len(objects.shape), -1, -1, -1).clone()
    for slot in range(objects.shape.shape[1]):
        shown = (objects.opacity[:, slot] > 0).nonzero()[:, 0]
        if len(shown) == 0:
            continue
        part = Objects(*(getattr(objects, name)[shown] for name in Objects.__dataclass_fields__))
        cover = coverage(part, slot, background.shape[-1]) * part.opacity[:, slot, None, None]
        below = images[shown]
        images[shown] = below + cover[:, None] * (part.colour[:, slot, :, None, None] - below)
    return images


def shape_id(name: str) -> int:
    """The id of a shape or distractor by its name."""
    return (SHAPES + DISTRACTORS).index(name)


@cache
def _distance_fields() -> Tensor:
    """Signed distances [shapes, cells, cells], in units of the shape's radius, negative inside."""
    line = torch.linspace(-_FIELD_REACH, _FIELD_REACH, _FIELD_CELLS)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    fields = []
    for name in SHAPES + DISTRACTORS:
        if name == "ring":
            fields.append((points.norm(dim=-1) - 0.76).abs() - 0.21)
        elif name == "circle":
            fields.append(points.norm(dim=-1) - 0.9)
        else:
            fields.append(_polygon_distance(points, torch.tensor(_outline(name))))
    return torch.stack(fields)


def _polygon_distance(points: Tensor, corners: Tensor) -> Tensor:
    """Signed distance of points [..., 2] to the closed polygon through corners [M, 2], negative inside."""
    nearest = torch.full(points.shape[:-1], math.inf)
    inside = torch.zeros(points.shape[:-1], dtype=torch.bool)
    for a, b in zip(corners, corners.roll(-1, 0), strict=True):
        edge, offset = b - a, points - a
        share = ((offset * edge).sum(-1) / (edge * edge).sum()).clamp(0, 1)
        nearest = torch.minimum(nearest, (offset - share[..., None] * edge).norm(dim=-1))
        # A ray to the right crosses this edge: each crossing flips inside and outside.
        crosses = (a[1] > points[..., 1]) != (b[1] > points[..., 1])
        x = a[0] + (points[..., 1] - a[1]) * edge[0] / (edge[1] if edge[1] != 0 else torch.tensor(1.0))
        inside ^= crosses & (points[..., 0] < x)
    return torch.where(inside, -nearest, nearest)


def _outline(name: str) -> list[tuple[float, float]]:
    """The corners of a shape of radius 1, y down, upright (an arrow points to the right)."""
    turn = 2 * math.pi
    if name == "square":
        return [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]
    if name == "triangle":
        return [(0.0, -1.05), (0.98, 0.7), (-0.98, 0.7)]
    if name == "star":
        return [_polar((0.44, 1.1)[k % 2 == 0], turn * k / 10 - turn / 4) for k in range(10)]
    if name == "heart":
        return [_heart(turn * k / 64) for k in range(64)]
    if name == "arrow":
        return [(1.1, 0), (0.15, -0.85), (0.15, -0.33), (-1.05, -0.33), (-1.05, 0.33), (0.15, 0.33), (0.15, 0.85)]
    if name == "cross":
        # A quarter of the outline, turned four times.
        quarter, turns = [(0.3, -0.3), (1.0, -0.3), (1.0, 0.3)], [(1, 0), (0, 1), (-1, 0), (0, -1)]
        return [(x * c - y * s, x * s + y * c) for c, s in turns for x, y in quarter]
    if name == "diamond":
        return [(0.0, -1.1), (0.62, 0.0), (0.0, 1.1), (-0.62, 0.0)]
    if name == "crescent":
        outer = [_polar(1.0, turn * (0.13 + 0.74 * k / 47)) for k in range(48)]
        # The inner arc runs back between the same tips around a centre moved to the right.
        (tip_x, tip_y), centre = outer[0], 0.55
        reach, half = math.hypot(tip_x - centre, tip_y), math.atan2(tip_y, tip_x - centre)
        inner = [(centre + x, y) for x, y in (_polar(reach, -half - (turn - 2 * half) * k / 47) for k in range(1, 47))]
        return [(x + 0.25, y) for x, y in outer + inner]
    if name == "bolt":
        return [(0.3, -1.1), (-0.62, 0.18), (-0.08, 0.18), (-0.3, 1.1), (0.62, -0.18), (0.08, -0.18)]
    if name == "drop":
        round_part = [_polar(0.66, turn * (-0.09 + 0.68 * k / 40)) for k in range(41)]
        return [(x, y + 0.36) for x, y in round_part] + [(0.0, -1.15)]
    if name == "bar":
        return [(-1.0, -0.3), (1.0, -0.3), (1.0, 0.3), (-1.0, 0.3)]
    return [(math.cos(turn * k / 32), 0.62 * math.sin(turn * k / 32)) for k in range(32)]  # blob


def _polar(radius: float, angle: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)


def _heart(t: float) -> tuple[float, float]:
    x = 16 * math.sin(t) ** 3
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return x / 16.5, -(y + 2) / 16.5

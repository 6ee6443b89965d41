"""Random still scenes with captions: what the tiny CLIP learns from. Objects, colours, sizes, places and counts; no motion.

Each scene carries its facts, each caption its claims, in the same columns; a caption is true of a scene where no claim
contradicts a fact. So "a red star" is a positive for every scene of one red star, whatever its size and place, and
training never pushes a true caption away from its picture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from m2clip.builtin.scenes import (
    COLOURS,
    DISTRACTORS,
    SHAPES,
    Objects,
    backgrounds,
    coverage,
    jittered_colours,
    render,
    uniform,
)

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a video of {}", "a video of {}")
"""Frames around a caption; the video one stands twice, for the package's own prompts are of that form."""

SINGLE, PAIR, COUNT = 0, 1, 2
FACTS = ("kind", "colour", "shape", "size", "horizontal", "vertical", "count", "pair", "beside", "above")
"""Columns of facts and claims; in claims, -1 says nothing about a column."""

_SLOTS = 6  # two distractors, then up to four objects
_NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Scenes:
    """N scenes: images float32 [N, 3, S, S] in 0..1, their objects, facts and claims int64 [N, len(FACTS)], N captions."""

    images: Tensor
    objects: Objects
    facts: Tensor
    claims: Tensor
    captions: tuple[str, ...]

    def truths(self) -> Tensor:
        """Which caption (column) is true of which scene (row), bool [N, N]."""
        return ((self.claims < 0) | (self.claims == self.facts[:, None])).all(dim=-1)

    def unsure(self) -> Tensor:
        """Single-object captions over scenes of two objects, bool [N, N]: they may be half true, so nothing is learnt there."""
        return (self.facts[:, None, 0] == PAIR) & (self.claims[None, :, 0] == SINGLE)


def object_names() -> tuple[str, ...]:
    """All "a <colour> <shape>" in the order colour * len(SHAPES) + shape."""
    return tuple(f"{_article(colour)} {colour} {shape}" for colour in COLOURS for shape in SHAPES)


def sample_scenes(
    kinds: Tensor, *, size: int, generator: torch.Generator, hardness: float = 1.0, distractors: float = 0.5
) -> Scenes:
    """One scene for each entry of `kinds` (SINGLE, PAIR, COUNT; int64 [N]), `size` pixels wide.

    `hardness` in 0..1 goes from big, opaque, upright objects to the full range; `distractors` is the chance that each of
    two distractor slots is used.
    """
    n = len(kinds)
    pick = lambda high: torch.randint(0, high, (n,), generator=generator)  # noqa: E731
    colour, shape = pick(len(COLOURS)), pick(len(SHAPES))
    other = (colour * len(SHAPES) + shape + 1 + pick(len(COLOURS) * len(SHAPES) - 1)) % (len(COLOURS) * len(SHAPES))
    count = 2 + pick(3)
    single, pair, several = kinds == SINGLE, kinds == PAIR, kinds == COUNT

    radius = uniform(generator, 0.24 - 0.15 * hardness, 0.32, n)
    radius = torch.where(single, radius, uniform(generator, 0.15 - 0.05 * hardness, 0.18, n))
    margin = radius[:, None] * 0.9
    centre = margin + (1 - 2 * margin) * uniform(generator, 0.0, 1.0, n, 2)

    shapes = torch.zeros(n, _SLOTS, dtype=torch.int64)
    colours = torch.zeros(n, _SLOTS, dtype=torch.int64)
    centres = torch.zeros(n, _SLOTS, 2)
    radii = radius[:, None].repeat(1, _SLOTS)
    opacity = torch.zeros(n, _SLOTS)
    # Most objects stand nearly upright, some in any direction.
    tilt = uniform(generator, -0.4, 0.4, n, _SLOTS)
    turned = torch.rand((n, _SLOTS), generator=generator) < 0.6 * hardness
    angle = torch.where(turned, uniform(generator, -torch.pi, torch.pi, n, _SLOTS), tilt)

    shapes[:, :2] = len(SHAPES) + torch.randint(0, len(DISTRACTORS), (n, 2), generator=generator)
    colours[:, :2] = torch.randint(0, len(COLOURS), (n, 2), generator=generator)
    centres[:, :2] = uniform(generator, 0.03, 0.97, n, 2, 2)
    radii[:, :2] = uniform(generator, 0.03, 0.075, n, 2)
    angle[:, :2] = uniform(generator, -torch.pi, torch.pi, n, 2)
    opacity[:, :2] = (torch.rand((n, 2), generator=generator) < distractors).float()

    shapes[:, 2:], colours[:, 2:] = shape[:, None], colour[:, None]
    centres[:, 2] = centre
    faint = uniform(generator, 1.0 - 0.75 * hardness, 1.0, n)
    opacity[:, 2] = torch.where(torch.rand(n, generator=generator) < 0.25, faint, torch.ones(n))

    # Two objects stand on either side of the middle, in any direction.
    way = uniform(generator, -torch.pi, torch.pi, n)
    middle = uniform(generator, 0.43, 0.57, n, 2)
    apart = torch.stack([way.cos(), way.sin()], dim=-1) * uniform(generator, 0.2, 0.3, n, 1)
    centres[pair, 2], centres[pair, 3] = (middle - apart)[pair], (middle + apart)[pair]
    shapes[pair, 3], colours[pair, 3] = other[pair] % len(SHAPES), other[pair] // len(SHAPES)
    opacity[pair, 2:4] = 1.0

    # Several equal objects stand in shuffled quarters of the image.
    quarters = torch.rand((n, 4), generator=generator).argsort(dim=1)
    corner = torch.stack([quarters % 2, quarters // 2], dim=-1)
    spots = 0.26 + 0.48 * corner + uniform(generator, -0.07, 0.07, n, 4, 2)
    centres[several, 2:] = spots[several]
    opacity[several, 2:] = (torch.arange(4) < count[:, None])[several].float()

    objects = Objects(shapes, jittered_colours(colours, generator), centres, radii, angle, opacity)
    images = render(objects, backgrounds(n, size, generator))

    first, second = colour * len(SHAPES) + shape, other
    swap = first > second
    delta = torch.where(swap[:, None], centres[:, 3] - centres[:, 2], centres[:, 2] - centres[:, 3])
    facts = torch.stack(
        [
            kinds,
            torch.where(pair, -1, colour),
            torch.where(pair, -1, shape),
            torch.where(single, _thirds(radius, 0.145, 0.2), -1),
            torch.where(single, _thirds(centre[:, 0], 0.42, 0.58), -1),
            torch.where(single, _thirds(centre[:, 1], 0.42, 0.58), -1),
            torch.where(single, 1, torch.where(several, count, 2)),
            torch.where(pair, torch.minimum(first, second) * len(object_names()) + torch.maximum(first, second), -1),
            torch.where(pair, _thirds(delta[:, 0], -0.12, 0.12), -1),
            torch.where(pair, _thirds(delta[:, 1], -0.12, 0.12), -1),
        ],
        dim=1,
    )
    claims, captions = _describe(facts, first, second, generator)
    return Scenes(images, objects, facts, claims, captions)


def patch_labels(objects: Objects, grid: int) -> tuple[Tensor, Tensor]:
    """Shape id and hue of the named object in each cell of a grid over the image: int64 [N, grid * grid], float [N, grid * grid, 3].

    Cells without an object have the id len(SHAPES); their colour means nothing.
    """
    n = len(objects.shape)
    best = torch.full((n, grid, grid), 0.15)  # less of a cell than this is background
    shape = torch.full((n, grid, grid), len(SHAPES))
    colour = torch.zeros(n, grid, grid, 3)
    for slot in range(2, objects.shape.shape[1]):
        cover = coverage(objects, slot, 2 * grid).reshape(n, grid, 2, grid, 2).mean(dim=(2, 4))
        more = (cover > best) & (objects.opacity[:, slot, None, None] > 0)
        best = torch.where(more, cover, best)
        shape = torch.where(more, objects.shape[:, slot, None, None], shape)
        colour = torch.where(more[..., None], objects.colour[:, slot, None, None], colour)
    return shape.flatten(1), colour.flatten(1, 2)


def _thirds(value: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, 2 between: captions only ever speak of the first two."""
    return torch.where(value < low, 0, torch.where(value > high, 1, 2))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _describe(
    facts: Tensor, first: Tensor, second: Tensor, generator: torch.Generator
) -> tuple[Tensor, tuple[str, ...]]:
    """Claims int64 [N, len(FACTS)] and captions for the facts; `first` and `second` are object ids in painting order."""
    claims, captions = [], []
    dice = torch.rand((len(facts), 4), generator=generator).tolist()
    for fact, a, b, roll in zip(facts.tolist(), first.tolist(), second.tolist(), dice, strict=True):
        said, text = _DESCRIBERS[fact[0]](dict(zip(FACTS, fact, strict=True)), a, b, roll)
        claims.append([said.get(column, -1) for column in FACTS])
        captions.append(TEMPLATES[int(roll[3] * len(TEMPLATES))].format(text))
    return torch.tensor(claims), tuple(captions)


def _words(thing: int) -> str:
    return f"{list(COLOURS)[thing // len(SHAPES)]} {SHAPES[thing % len(SHAPES)]}"


def _describe_single(fact: dict[str, int], thing: int, _: int, roll: list[float]) -> tuple[dict[str, int], str]:
    said = {"kind": SINGLE, "colour": fact["colour"], "shape": fact["shape"]}
    text = _words(thing)
    if fact["size"] < 2 and roll[0] < 0.4:
        said["size"] = fact["size"]
        text = f"{('small', 'big')[fact['size']]} {text}"
    text = f"{_article(text)} {text}"
    across, down = fact["horizontal"], fact["vertical"]
    if roll[1] < 0.45 and min(across, down) < 2:
        spoken = []
        if down < 2 and (across == 2 or roll[2] < 0.66):
            said["vertical"] = down
            spoken.append(("top", "bottom")[down])
        if across < 2 and (not spoken or roll[2] < 0.33):
            said["horizontal"] = across
            spoken.append(("left", "right")[across])
        text += f" {'at' if spoken[0] in ('top', 'bottom') else 'on'} the {' '.join(spoken)}"
    return said, text


def _describe_pair(fact: dict[str, int], first: int, second: int, roll: list[float]) -> tuple[dict[str, int], str]:
    said = {"kind": PAIR, "pair": fact["pair"]}
    # Facts are told of the lower id; the caption may begin with either.
    a, b = min(first, second), max(first, second)
    turned = roll[0] < 0.5
    link = "and"
    for column, words in (("beside", ("left of", "right of")), ("above", ("above", "below"))):
        if fact[column] < 2 and (roll[1] < 0.35 if column == "beside" else roll[1] > 0.65):
            said[column] = fact[column]
            link = words[fact[column] ^ turned]
    if turned:
        a, b = b, a
    one, two = _words(a), _words(b)
    return said, f"{_article(one)} {one} {link} {_article(two)} {two}"


def _describe_count(fact: dict[str, int], thing: int, _: int, roll: list[float]) -> tuple[dict[str, int], str]:
    said = {"kind": COUNT, "colour": fact["colour"], "shape": fact["shape"], "count": fact["count"]}
    plural = "es" if _words(thing).endswith(("s", "x")) else "s"
    return said, f"{_NUMBERS[fact['count']]} {_words(thing)}{plural}"


_DESCRIBERS = (_describe_single, _describe_pair, _describe_count)

import re

import pytest
import torch

from m2clip.builtin.captions import COUNT, FACTS, PAIR, SINGLE, object_names, patch_labels, sample_scenes
from m2clip.builtin.scenes import COLOURS, SHAPES, jittered_colours
from m2clip.builtin.shapes import MOTIONS


@pytest.fixture(scope="module")
def scenes():
    kinds = torch.tensor([SINGLE] * 200 + [PAIR] * 200 + [COUNT] * 200)
    return sample_scenes(kinds, size=64, generator=torch.Generator().manual_seed(0))


def named(scenes, i):
    """Colour, shape, x, y and radius of each named object that is shown."""
    for slot in range(2, scenes.objects.shape.shape[1]):
        if scenes.objects.opacity[i, slot] > 0:
            colour = scenes.objects.colour[i, slot]
            shape = SHAPES[int(scenes.objects.shape[i, slot])]
            x, y = scenes.objects.centre[i, slot].tolist()
            yield colour, shape, x, y, float(scenes.objects.radius[i, slot])


def centres() -> torch.Tensor:
    ids = torch.arange(len(COLOURS)).repeat_interleave(50)
    samples = jittered_colours(ids, torch.Generator().manual_seed(1))
    return torch.stack([samples[ids == k].mean(0) for k in range(len(COLOURS))])


CENTRES = centres()


def looks(colour: str, rgb: torch.Tensor) -> bool:
    return list(COLOURS)[int((CENTRES - rgb).norm(dim=-1).argmin())] == colour


def test_single_captions_name_what_is_shown_and_where(scenes):
    for i in range(200):
        caption = scenes.captions[i]
        colour, shape = next((c, s) for c in COLOURS for s in SHAPES if f"{c} {s}" in caption)
        ((rgb, shown, x, y, radius),) = named(scenes, i)
        assert shown == shape
        assert looks(colour, rgb)
        for word, holds in (
            ("left", x < 0.42),
            ("right", x > 0.58),
            ("top", y < 0.42),
            ("bottom", y > 0.58),
            ("small", radius < 0.145),
            ("big", radius > 0.2),
        ):
            assert word not in caption.split() or holds, caption
    assert sum("on the left" in caption for caption in scenes.captions) > 3
    assert sum("at the bottom right" in caption for caption in scenes.captions) > 1


def test_pair_captions_tell_the_relation_in_their_own_order(scenes):
    relations = 0
    for i in range(200, 400):
        match = re.search(r"an? (\w+) (\w+) (and|left of|right of|above|below) an? (\w+) (\w+)$", scenes.captions[i])
        colour_a, shape_a, link, colour_b, shape_b = match.groups()
        shown = list(named(scenes, i))
        assert len(shown) == 2
        if not (looks(colour_a, shown[0][0]) and shown[0][1] == shape_a and looks(colour_b, shown[1][0])):
            shown.reverse()
        (rgb_a, name_a, xa, ya, _), (rgb_b, name_b, xb, yb, _) = shown
        assert (name_a, name_b) == (shape_a, shape_b)
        assert looks(colour_a, rgb_a)
        assert looks(colour_b, rgb_b)
        assert {"and": True, "left of": xa < xb, "right of": xa > xb, "above": ya < yb, "below": ya > yb}[link]
        relations += link != "and"
    assert relations > 40


def test_count_captions_count(scenes):
    for i in range(400, 600):
        number = next(k for k, word in ((2, "two"), (3, "three"), (4, "four")) if f"{word} " in scenes.captions[i])
        shown = list(named(scenes, i))
        assert len(shown) == number
        assert len({shape for _, shape, _, _, _ in shown}) == 1


def test_no_caption_speaks_of_motion(scenes):
    said = {word for caption in scenes.captions for word in caption.split()}
    moving = {word for motion in MOTIONS for word in motion.split()}
    assert said & moving <= {"left", "right", "and"}


def test_own_captions_are_true_and_wild_claims_match_more(scenes):
    truths = scenes.truths()
    assert truths.diagonal().all()
    # "a red star" is true of every scene of one red star: of those with the same colour and shape.
    columns = [FACTS.index("colour"), FACTS.index("shape")]
    bare = [i for i in range(200) if (scenes.claims[i, 3:] == -1).all()]
    same = (scenes.facts[:, None, columns] == scenes.facts[None, :, columns]).all(-1) & (scenes.facts[:, 0] == SINGLE)[
        :, None
    ]
    assert torch.equal(truths[:200, bare], same[:200, bare])
    assert not truths[200:400, :200].any()
    assert scenes.unsure()[200:400, :200].all()


def test_scenes_are_seeded():
    kinds = torch.tensor([SINGLE, PAIR, COUNT])
    one, two, other = (
        sample_scenes(kinds, size=32, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert one.captions == two.captions
    assert torch.equal(one.images, two.images)
    assert not torch.equal(one.images, other.images)


def test_patch_labels_mark_the_objects_cells(scenes):
    shape, colour = patch_labels(scenes.objects, 8)
    assert shape.shape == (600, 64)
    for i in range(0, 200, 20):
        ((rgb, name, x, y, radius),) = named(scenes, i)
        filled = (shape[i] < len(SHAPES)).nonzero()[:, 0]
        assert len(filled)
        assert (shape[i, filled] == SHAPES.index(name)).all()
        assert torch.allclose(colour[i, filled], rgb.expand(len(filled), 3))
        where = torch.stack([filled % 8, filled // 8], 1).float() / 8 + 1 / 16
        assert ((where - torch.tensor([x, y])).norm(dim=1) < 1.25 * radius + 0.1).all()


def test_object_names_are_all_pairs():
    names = object_names()
    assert len(set(names)) == len(names) == len(COLOURS) * len(SHAPES)
    assert names[len(SHAPES)] == "an orange circle"

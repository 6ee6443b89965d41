"""The page's own colours hold their contrast (WCAG 2.2: 4.5:1 for text, 3:1 for controls) in light and dark."""

import re
from itertools import product

import pytest

from m2clip.app.page.picker import asset


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)


GROUND = {":root": "#f5f6f4", ".dark": "#131618"}


@pytest.mark.parametrize("scheme", GROUND)
def test_text_and_controls_can_be_told_from_what_is_behind_them(scheme: str) -> None:
    block = re.search(rf"^{re.escape(scheme)} \{{(.*?)\}}", asset("page.css"), re.DOTALL | re.MULTILINE)
    assert block is not None
    colours = dict(re.findall(r"--m2-([a-z-]+): (#[0-9a-f]{6})", block[1]))
    texts = [
        *product(("ink", "soft"), ("card", "tint")),
        ("ink", "track"),
        ("bad", "bad-ground"),
        ("ink", "bad-ground"),
    ]
    for text, ground in texts:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["soft"], GROUND[scheme]) >= 4.5
    for control, ground in product(("edge", "accent", "focus"), ("card",)):
        assert contrast(colours[control], colours[ground]) >= 3, (control, ground)
    assert contrast(colours["accent"], colours["track"]) >= 3

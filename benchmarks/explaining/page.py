"""The tables of docs/explanations.md from docs/results/explanations.json."""

from pathlib import Path
from typing import Any

from speed.markdown import put_between

PAGE = Path(__file__).resolve().parents[2] / "docs/explanations.md"
BEGIN, END = "<!-- begin measured maps -->", "<!-- end measured maps -->"


def tables(document: dict[str, Any]) -> str:
    """What was measured, as the page has it."""
    base, novel, removal = document["base"], document["novel"], document["removal"]
    rows = [
        "| method | mass on the object, base | novel | pointing, base | novel | deletion | insertion |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, words in document["methods"].items():
        areas = removal["areas"][name]
        if name == "occlusion":
            some = removal["occlusion"]
            places = [f"{_mass(some)} ¹", "", f"{some['pointing']:.2f} ¹", ""]
        else:
            maps = base["maps"][name], novel["maps"][name]
            places = [*map(_mass, maps), *(f"{one['pointing']:.2f}" for one in maps)]
        cells = [*places, f"{areas['deletion']:.2f}", f"{areas['insertion']:.2f}"]
        cells = [f"**{cell}**" for cell in cells] if name == "relevance" else cells
        rows.append(f"| {words} | " + " | ".join(cells) + " |")
    logit = [document[part]["maps"]["relevance, plain logit"] for part in ("base", "novel")]
    areas = removal["areas"]["relevance, plain logit"]
    rows.append(
        f"| the first, of the plain similarity logit instead of the log-odds | {_mass(logit[0])} | {_mass(logit[1])} | "
        f"{logit[0]['pointing']:.2f} | {logit[1]['pointing']:.2f} | {areas['deletion']:.2f} | {areas['insertion']:.2f} |"
    )
    return "\n".join([*rows, "", *_sentences(document)])


def _sentences(document: dict[str, Any]) -> list[str]:
    base, novel, removal = document["base"], document["novel"], document["removal"]
    best = [part["maps"]["best possible"]["mass"] for part in (base, novel)]
    chance = [part["maps"]["relevance"]["chance"] for part in (base, novel)]
    change = [_mass(part["maps"]["difference"]) for part in (base, novel)]
    two, sanity, took, machine = (document[name] for name in ("two_objects", "sanity", "seconds", "machine"))
    shuffled = ", ".join(f"{value:.2f}" for value in sanity["shuffled_last_blocks"].values())
    labels = "; ".join(f"{name} {value:.2f}" for name, value in sanity["other_labels"].items())
    return [
        f"¹ On the {removal['videos']} videos of deletion and insertion, base and novel together.",
        "",
        f"- {base['videos']} base and {novel['videos']} novel test videos; the object covers {chance[0]:.3f} and {chance[1]:.3f} of the "
        f"pixels, which is what chance would hit. A map that knew the object could put {best[0]:.2f} and {best[1]:.2f} of its mass there, "
        "for a patch is 8 x 8 of 64 x 64 pixels.",
        "- Weights: with the tensors of the last 1, 2, 3 and all 4 blocks shuffled, the rank correlation with the model's own map is "
        f"{shuffled} ({sanity['videos']} videos).",
        f"- Labels: the rank correlation with the map of another label is: {labels}.",
        f"- Two novel objects in one video ({two['videos']} videos, each asked for both): {two['asked']:.2f} of the mass lies on the "
        f"object that is asked for and {two['other']:.2f} on the other one, where chance is {two['chance']:.3f}; the one asked for has "
        f"more in {two['asked_more_often']:.0%} of the cases.",
        "- Frames: a frame's share and how far the log-odds fall where the frame is hidden have a rank correlation of "
        f"{removal['frames_rank_correlation']:.2f}.",
        f"- Difference branch: {change[0]} on base and {change[1]} on novel videos of what it answers lies where the object is or was a "
        "frame before.",
        f"- An explanation takes {took['explain_ms']:.0f} ms, {took['ratio_to_score']:.1f} times as long as a score.",
        "",
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores, PyTorch {machine['torch']}; {document['note']}.",
        f"Regenerate: `m2clip demo --out demo`, then `{document['command']}`.",
    ]


def _mass(found: dict[str, float]) -> str:
    return f"{found['mass']:.2f} ({found['ratio']:.1f} x chance)"


def write_page(document: dict[str, Any]) -> None:
    """Put the tables between their marks."""
    PAGE.write_text(put_between(PAGE.read_text("utf-8"), BEGIN, END, tables(document)), "utf-8")

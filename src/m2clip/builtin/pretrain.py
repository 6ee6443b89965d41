"""The script that trained the tiny CLIP: `python -m m2clip.builtin.pretrain --out DIR`, under an hour on two cores.

It learns from generated scenes and their captions (`captions.py`), by four losses: every scene of one object against the
texts of all colours and shapes; scenes against captions, all true ones as positives (CLIP's own loss); what lies under each
image patch; and, from the end token's state, the last words of the text. The last one and random words behind the captions
keep words that mean nothing yet readable: they are what an adapter later learns to act on.

`--evaluate` prints the zero-shot accuracies of the shipped weights, the figures of MODEL_CARD.md.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from m2clip.builtin.captions import COUNT, PAIR, SINGLE, TEMPLATES, object_names, patch_labels, sample_scenes
from m2clip.builtin.scenes import SHAPES
from m2clip.builtin.trainee import SIZES, Trainee, Vocabulary, one_thread
from m2clip.builtin.weights import WEIGHTS, load_tiny_clip, save_tiny_clip
from m2clip.config import BACKBONES
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.clip import CLIP

EVALUATION_SCENES = 4000
"""Held-out scenes of each sort that --evaluate draws."""

_BATCH = (96, 20, 12)  # scenes of one object, of two, of several: for each process
CAPTION_LENGTH = 20
"""Tokens that captions are cut to, start and end token included."""

_MATRIX_LENGTH = 14


def normalised(images: Tensor) -> Tensor:
    """Images in 0..1 -> what the towers take: CLIP's mean and deviation per channel."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (BACKBONES["builtin"].mean, BACKBONES["builtin"].std))
    return (images - mean) / std


def true_pairs(scores: Tensor, truths: Tensor, unsure: Tensor) -> Tensor:
    """Symmetric contrastive loss of scaled scores [N, N]; all true pairs share the target equally, unsure ones take no part."""
    scores = scores.masked_fill(unsure & ~truths, -1e4)
    target = truths.float()
    rows = -(target / target.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean()
    columns = -(target / target.sum(0, keepdim=True) * scores.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


@one_thread()
def train(
    rank: int, out: Path, *, workers: int, steps: int, lr: float, seed: int, log_every: int, evaluate_every: int
) -> None:
    """Trains for `steps`; rank 0 leaves `tiny_clip.safetensors` (the best so far) and `pretrain_log.jsonl` in `out`.

    Each of `workers` processes runs on one thread with scenes of its own, and the gradients are averaged: where other jobs
    share the machine, threads that wait for each other at every operator lose far more than processes that meet once a step.
    """
    torch.manual_seed(seed)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{(out / 'meeting').resolve()}", rank=rank, world_size=workers
        )
    generator = torch.Generator().manual_seed(seed * 1000 + rank + 1)
    vocabulary = Vocabulary()
    model = Trainee(vocabulary)
    see = torch.compile(model.see, dynamic=False)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    kinds = torch.tensor([SINGLE] * _BATCH[0] + [PAIR] * _BATCH[1] + [COUNT] * _BATCH[2])
    names, grid = object_names(), SIZES["image_size"] // SIZES["patch_size"]
    log = (out / "pretrain_log.jsonl").open("w") if rank == 0 else None
    best, began, since = -1.0, time.monotonic(), time.monotonic()
    sums: dict[str, float] = {}
    for step in range(1, steps + 1):
        scenes = sample_scenes(
            kinds, size=SIZES["image_size"], generator=generator, hardness=min(1.0, 2.5 * step / steps)
        )
        images = scenes.images
        # Half of the images are a little soft, as frames of a video are.
        soft = torch.rand((len(kinds), 1, 1, 1), generator=generator) * 2.0 - 1.0
        images = images + soft.clamp(min=0.0) * (F.avg_pool2d(images, 3, 1, 1, count_include_pad=False) - images)
        template = TEMPLATES[int(torch.randint(0, len(TEMPLATES), (1,), generator=generator))]
        matrix, matrix_ends = vocabulary(
            tuple(template.format(name) for name in names), length=_MATRIX_LENGTH, generator=generator
        )
        tokens, ends = vocabulary(scenes.captions, length=CAPTION_LENGTH, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            seen, patches = see(normalised(images))
            objects, object_words = model.read(matrix, matrix_ends)
            texts, text_words = model.read(tokens, ends)
        scale = model.clip.logit_scale.exp()
        single = slice(0, _BATCH[0])
        thing = scenes.facts[single, 1] * len(SHAPES) + scenes.facts[single, 2]
        shape, colour = patch_labels(scenes.objects, grid)
        filled = shape < len(SHAPES)
        weight = torch.ones(len(SHAPES) + 1)
        weight[-1] = 0.2
        losses = {
            "objects": F.cross_entropy(scale * seen[single] @ objects.T, thing),
            "captions": true_pairs(scale * seen @ texts.T, scenes.truths(), scenes.unsure()),
            "patches": F.cross_entropy(patches[..., :-3].flatten(0, 1), shape.flatten(), weight)
            + 3.0 * (patches[..., -3:][filled] - colour[filled]).abs().mean(),
            "words": (last_words(object_words, matrix, matrix_ends) + last_words(text_words, tokens, ends)) / 2,
        }
        total = losses["objects"] + losses["captions"] + losses["patches"] + 0.1 * losses["words"]
        for group in optimizer.param_groups:
            group["lr"] = lr * min(step / 150, 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if workers > 1:
            _average([p.grad for p in model.parameters() if p.grad is not None], workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.clip.logit_scale.clamp_(max=math.log(100.0))
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if log and step % log_every == 0:
            record = {"step": step, "minutes": round((time.monotonic() - began) / 60, 2)}
            record |= {name: round(value / log_every, 4) for name, value in sums.items()}
            record |= {
                "scale": round(scale.item(), 2),
                "images_per_second": round(workers * log_every * len(kinds) / (time.monotonic() - since)),
            }
            sums, since = {}, time.monotonic()
            if step % evaluate_every == 0 or step == steps:
                state = model.state()
                accuracies = evaluate(state, scenes=600, seed=2)
                record |= accuracies
                if accuracies["distractors"] >= best:
                    best = accuracies["distractors"]
                    note = {"step": str(step), "seed": str(seed), "script": "m2clip.builtin.pretrain"}
                    save_tiny_clip(
                        out / WEIGHTS.name, sizes=SIZES, state=state, trained_ids=vocabulary.trained, note=note
                    )
            line = json.dumps(record)
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()
    if log:
        log.close()


def _average(gradients: list[Tensor], workers: int) -> None:
    """Replaces the gradients by their mean over the processes, in one exchange."""
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, (flat / workers).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def last_words(logits: Tensor, tokens: Tensor, ends: Tensor) -> Tensor:
    """Cross-entropy of logits [K, words, rows] with the last words of each text, the last one first; no words, no loss."""
    places = ends[:, None] - 1 - torch.arange(logits.shape[1])
    target = tokens.gather(1, places.clamp(min=0)).masked_fill(places < 1, -100)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)


@torch.inference_mode()
def evaluate(state: dict[str, Tensor], *, scenes: int, seed: int) -> dict[str, float]:
    """Zero-shot top-1 (fractions) over all colour x shape pairs on `scenes` unseen scenes of each sort.

    `plain`: one object on a textured background; `distractors`: with two unnamed shapes beside it; `unknown_ending`: the
    same scenes, but every text goes on with "moving left to right", which no caption ever said; `colour`, `shape`: half the
    answer is enough.
    """
    clip = CLIP(**SIZES).eval()
    clip.load_state_dict(state)
    tokenizer = get_tokenizer()

    def choose(images: Tensor, ending: str) -> Tensor:
        texts = clip.encode_text(
            tokenizer([f"A video of {name}{ending}" for name in object_names()], pad_to_longest=True)
        )
        seen = torch.cat([clip.encode_image(normalised(part)) for part in images.split(100)])
        return (F.normalize(seen, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(dim=1)

    generator = torch.Generator().manual_seed(seed)
    kinds = torch.full((scenes,), SINGLE)
    result = {}
    for name, crowd in (("plain", 0.0), ("distractors", 1.0)):
        sample = sample_scenes(kinds, size=SIZES["image_size"], generator=generator, distractors=crowd)
        truth = sample.facts[:, 1] * len(SHAPES) + sample.facts[:, 2]
        answer = choose(sample.images, "")
        result[name] = (answer == truth).float().mean().item()
    answers: dict[str, Callable[[], Tensor]] = {
        "unknown_ending": lambda: choose(sample.images, " moving left to right") == truth,
        "colour": lambda: answer // len(SHAPES) == truth // len(SHAPES),
        "shape": lambda: answer % len(SHAPES) == truth % len(SHAPES),
    }
    result |= {name: right().float().mean().item() for name, right in answers.items()}
    return {name: round(value, 4) for name, value in result.items()}


def _work(rank: int, out: Path, options: dict[str, Any]) -> None:
    train(rank, out, **options)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m m2clip.builtin.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for weights and log")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=40)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument(
        "--evaluate", action="store_true", help="print the shipped weights' zero-shot accuracies and stop"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="with --evaluate: the weights to read")
    arguments = parser.parse_args()
    if arguments.evaluate:
        print(json.dumps(evaluate(load_tiny_clip(arguments.weights)[1], scenes=EVALUATION_SCENES, seed=3)))
        return
    if arguments.out is None:
        parser.error("--out is needed to train")
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = {
        name: getattr(arguments, name) for name in ("workers", "steps", "lr", "seed", "log_every", "evaluate_every")
    }
    (arguments.out / "meeting").unlink(missing_ok=True)
    if arguments.workers == 1:
        _work(0, arguments.out, options)
    else:
        torch.multiprocessing.spawn(_work, (arguments.out, options), nprocs=arguments.workers)
        (arguments.out / "meeting").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""The tiny CLIP's second stage: `python -m m2clip.builtin.refine --out DIR`, minutes on one core, after `pretrain`.

It teaches the text tower alone to carry words that mean nothing to it. A caption with any random ending must keep the
embedding that the first stage gave the bare caption, and yet its end token must tell which words the ending was. The words
are drawn from the whole vocabulary at every step, so that carrying them becomes a rule and not a list. Without this stage a
text adapter finds "clockwise" and "counterclockwise" all but erased at the end token, and tangled with the object before.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch

from m2clip.builtin.captions import COUNT, PAIR, SINGLE, sample_scenes
from m2clip.builtin.pretrain import CAPTION_LENGTH, evaluate, last_words
from m2clip.builtin.shapes import MOTIONS
from m2clip.builtin.trainee import SIZES, Trainee, Vocabulary, one_thread
from m2clip.builtin.weights import WEIGHTS, initial_table, load_tiny_clip, save_tiny_clip
from m2clip.data.text.tokenizer import get_tokenizer

_BATCH = (150, 60, 46)  # captions of scenes of one object, of two, of several


def load_trainee(path: Path, vocabulary: Vocabulary) -> Trainee:
    """A trainee with the weights of a file of the first stage; its heads are fresh."""
    _, state = load_tiny_clip(path)
    model = Trainee(vocabulary)
    table = state.pop("text.token_embedding.weight")
    model.clip.load_state_dict({**state, "text.token_embedding.weight": table[:1]})
    with torch.no_grad():
        model.rows.copy_(table[vocabulary.trained])
    return model


@one_thread()
def refine(out: Path, *, steps: int, lr: float, seed: int, log_every: int) -> None:
    """Trains the text tower of `out`/tiny_clip.safetensors for `steps` and writes it back; the log is `refine_log.jsonl`."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary()
    path = out / WEIGHTS.name
    teacher, model = (load_trainee(path, vocabulary) for _ in range(2))
    table = initial_table(SIZES["vocab_size"], SIZES["text_width"])
    tokenizer = get_tokenizer()
    kept = {*vocabulary.trained.tolist(), *(i for motion in MOTIONS for i in tokenizer.encode(motion))}
    words = torch.tensor([i for i in range(SIZES["vocab_size"]) if i not in kept])
    kinds = torch.tensor([SINGLE] * _BATCH[0] + [PAIR] * _BATCH[1] + [COUNT] * _BATCH[2])
    learning = [*model.clip.text.parameters(), model.rows, *model.word_heads.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    began, sums = time.monotonic(), {"same": 0.0, "words": 0.0}
    with (out / "refine_log.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            captions = sample_scenes(kinds, size=8, generator=generator).captions
            bare, bare_ends = vocabulary(captions, length=CAPTION_LENGTH, generator=generator, endings=0.0)
            tokens, ends = vocabulary(captions, length=CAPTION_LENGTH, generator=generator, endings=0.85)
            with torch.no_grad():
                # Other words at every step: what is learnt is to carry a word, not these words.
                chosen = torch.randint(len(words), (len(model.fillers),), generator=generator)
                model.fillers.copy_(table[words[chosen]])
            with torch.autocast("cpu", torch.bfloat16):
                with torch.no_grad():
                    target, _ = teacher.read(bare, bare_ends)
                texts, told = model.read(tokens, ends)
            same = (1.0 - (texts * target).sum(dim=-1)).mean()
            remembered = last_words(told, tokens, ends)
            for group in optimizer.param_groups:
                group["lr"] = lr * min(step / 100, 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
            optimizer.zero_grad(set_to_none=True)
            (20.0 * same + remembered).backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            sums["same"] += same.item()
            sums["words"] += remembered.item()
            if step % log_every == 0 or step == steps:
                record = {"step": step, "minutes": round((time.monotonic() - began) / 60, 2)}
                record |= {name: round(value / log_every, 4) for name, value in sums.items()}
                sums = dict.fromkeys(sums, 0.0)
                if step == steps:
                    record |= evaluate(model.state(), scenes=600, seed=2)
                line = json.dumps(record)
                print(line, flush=True)
                log.write(line + "\n")
                log.flush()
    note = {"refined": str(steps), "seed": str(seed), "script": "m2clip.builtin.pretrain, m2clip.builtin.refine"}
    save_tiny_clip(path, sizes=SIZES, state=model.state(), trained_ids=vocabulary.trained, note=note)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m m2clip.builtin.refine", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder with the first stage's weights, which are replaced"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=50)
    arguments = parser.parse_args()
    refine(arguments.out, steps=arguments.steps, lr=arguments.lr, seed=arguments.seed, log_every=arguments.log_every)


if __name__ == "__main__":
    main()

"""Class texts: cut to the longest against the full context, and kept against encoded again."""

from typing import Any

import plain
import torch

from m2clip.data.tokenizer import get_tokenizer
from m2clip.scoring import class_embeddings
from speed.timing import alternate
from speed.workload import Workload, autocast, build_model


def measure(workload: Workload) -> dict[str, Any]:
    """The texts of all classes, in bfloat16."""
    model = build_model(workload)
    texts = [own[0] for own in model.info.texts]
    length = model.info.sizes.context_length
    full, cut = (get_tokenizer()(texts, context_length=length, pad_to_longest=longest) for longest in (False, True))

    @torch.inference_mode()
    def ours() -> None:
        with autocast("bf16"):
            class_embeddings(model, model.info.texts)

    @torch.inference_mode()
    def all_tokens() -> None:
        with autocast("bf16"):
            plain.encode_text(model, full)

    found = alternate({"ours": ours, "plain, full context": all_tokens}, rounds=workload.rounds, warmup=0)
    return {
        "seconds": found.document(),
        "ratios": {"ours / plain, full context": found.ratio("ours", "plain, full context")},
        "values": {"classes": len(texts), "tokens": {"full context": full.shape[1], "longest text": cut.shape[1]}},
    }

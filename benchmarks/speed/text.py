"""Class texts: cut to the longest against the full context, kept on disk against encoded again, and what is left of them in a step."""

from typing import Any

import plain
import torch

from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.kept_texts import kept_class_embeddings
from m2clip.scoring import class_embeddings
from speed.timing import alternate
from speed.workload import Workload, build_model


def measure(workload: Workload) -> dict[str, Any]:
    """The texts of all classes in float32, as recognition and evaluation encode them."""
    model = build_model(workload)
    texts = [own[0] for own in model.info.texts]
    length = model.info.sizes.context_length
    full, cut = (get_tokenizer()(texts, context_length=length, pad_to_longest=longest) for longest in (False, True))
    with torch.inference_mode():
        prepared = model.prepare_texts(cut)
    cases = {
        "anew": lambda: class_embeddings(model, model.info.texts),
        "kept": lambda: kept_class_embeddings(model, model.info.texts),  # the warm-up keeps them
        "forward in a step": lambda: model.finish_texts(prepared),
    }
    plainly = {"anew": cases["anew"], "plain form": lambda: plain.encode_text(model, full)}
    with torch.inference_mode():
        found = alternate(cases, rounds=workload.rounds)
        slow = alternate(plainly, rounds=1, warmup=0)
    return {
        "seconds": found.document() | {"plain form": slow.document()["plain form"]},
        "ratios": {
            "anew / plain form": slow.ratio("anew", "plain form"),
            "kept / anew": found.ratio("kept", "anew"),
            "forward in a step / anew": found.ratio("forward in a step", "anew"),
        },
        "values": {"classes": len(texts), "tokens": {"full context": full.shape[1], "longest text": cut.shape[1]}},
    }

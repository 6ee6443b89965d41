"""Learned prompts against texts put together word by word."""

import pytest
import torch

from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.errors import ConfigError
from m2clip.model.rivals.text_prompts import TextPrompts
from m2clip.model.video_clip import VideoCLIP
from m2clip.scoring import class_embeddings
from tests.model.rivals.plain_clip import NAMES, TOKENS, clips, model_of, read_text


def prompted(**options: object) -> TextPrompts:
    model = model_of("text-prompts", **{"prompt_tokens": 5, **options})
    assert isinstance(model, TextPrompts)
    return model


def test_the_vectors_stand_between_the_start_and_the_text() -> None:
    model = prompted()
    text, vectors = model.clip.text, model.prompt.vectors
    with torch.no_grad():
        got = model.encode_text(TOKENS)
        for row, embedding in zip(TOKENS, got.embedding, strict=True):
            words = [text.token_embedding.weight[token] for token in row]
            line = [words[0], *vectors, *words[1:]]
            embedded = torch.stack([word + text.positional_embedding[i] for i, word in enumerate(line)])
            end = 5 + row.tolist().index(49407)
            torch.testing.assert_close(embedding, read_text(model.clip, embedded, end), atol=1e-5, rtol=1e-4)
        assert got.hidden.shape == (2, 5 + 5, 32)


def test_learned_words_that_are_words_give_the_text_with_these_words() -> None:
    model = prompted(prompt_tokens=3)
    frozen = VideoCLIP(model.clip, info=model.info).eval()
    whole = torch.tensor([[49406, 320, 1455, 539, 4389, 49407]])
    with torch.no_grad():
        model.prompt.vectors.copy_(model.clip.text.token_embedding.weight[[320, 1455, 539]])
        short = model.encode_text(torch.tensor([[49406, 4389, 49407]])).embedding
        torch.testing.assert_close(short, frozen.encode_text(whole).embedding, atol=1e-6, rtol=1e-5)


def test_padding_behind_the_longest_text_changes_nothing() -> None:
    model = prompted()
    with torch.no_grad():
        short, long = (
            model.encode_text(get_tokenizer()(list(NAMES), context_length=model.text_length, pad_to_longest=pad))
            for pad in (True, False)
        )
    torch.testing.assert_close(short.embedding, long.embedding, atol=1e-6, rtol=1e-5)


def test_the_learned_tokens_take_their_share_of_the_context() -> None:
    model = prompted(prompt_tokens=16)
    assert model.text_length == 24 - 16
    model.encode_text(torch.tensor([[49406, *[12] * 6, 49407]]))  # eight tokens fit
    with pytest.raises(ValueError, match="L <= 8"):
        model.encode_text(torch.tensor([[49406, *[12] * 7, 49407]]))
    with pytest.raises(ConfigError, match="leaves no room"):
        prompted(prompt_tokens=22)


def test_a_long_class_text_is_cut_to_the_room_that_is_left() -> None:
    model = prompted(prompt_tokens=16)
    words = "one two three four five six"  # with start and end eight tokens
    with pytest.warns(UserWarning, match="was cut to 8"):
        cut = class_embeddings(model, [(f"{words} seven eight",)])
    torch.testing.assert_close(cut, class_embeddings(model, [(words,)]))


def test_vectors_start_small_and_random_so_a_fresh_model_is_not_clip() -> None:
    model = prompted(prompt_tokens=16, learned=False)
    assert model.prompt.vectors.std().item() == pytest.approx(0.02, rel=0.1)
    frozen = VideoCLIP(model.clip, info=model.info).eval()
    with torch.inference_mode():
        assert torch.equal(model.encode_video(clips()).embedding, frozen.encode_video(clips()).embedding)
        assert not torch.allclose(model.encode_text(TOKENS).embedding, frozen.encode_text(TOKENS).embedding, atol=1e-3)


def test_there_is_nothing_to_weaken() -> None:
    with pytest.raises(ConfigError, match="the method text-prompts has no adapters to weaken"):
        prompted().set_strength(0.5)

import pytest
import torch
import torch.nn.functional as F

from m2clip.builtin.captions import COUNT, PAIR, SINGLE, object_names, sample_scenes
from m2clip.builtin.shapes import MOTIONS
from m2clip.builtin.trainee import LAST_WORDS, SIZES, Trainee, Vocabulary, one_thread
from m2clip.builtin.weights import initial_table
from m2clip.data.text.tokenizer import get_tokenizer
from m2clip.model.clip import CLIP


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary()


@pytest.fixture(scope="module")
def trainee(vocabulary) -> Trainee:
    torch.manual_seed(0)
    model = Trainee(vocabulary)
    with torch.no_grad():
        model.rows += 0.02 * torch.randn_like(model.rows)
    return model


def plain(vocabulary: Vocabulary, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of texts without filler words."""
    tokens = get_tokenizer()(texts, pad_to_longest=True)
    rows = torch.tensor([[vocabulary.rows.get(int(i), 0) for i in row] for row in tokens])
    return rows, tokens.argmax(dim=1)


def test_what_it_learns_is_what_the_plain_clip_computes(vocabulary, trainee):
    clip = CLIP(**SIZES)
    clip.load_state_dict(trainee.state())
    texts = ["a video of a red star", "three blue circles", "a small pink drop on the left"]
    with torch.inference_mode():
        read, words = trainee.read(*plain(vocabulary, texts))
        expected = F.normalize(clip.encode_text(get_tokenizer()(texts)), dim=-1)
        assert torch.allclose(read, expected, atol=1e-5)
        assert words.shape == (3, LAST_WORDS, len(vocabulary.rows))
        images = torch.randn(2, 3, 64, 64)
        seen, patches = trainee.see(images)
        assert torch.allclose(seen, F.normalize(clip.encode_image(images), dim=-1), atol=1e-5)
        assert patches.shape[:2] == (2, 64)


def test_only_caption_rows_leave_the_initial_table(vocabulary, trainee):
    table = trainee.state()["text.token_embedding.weight"]
    changed = (table != initial_table(49408, 128)).any(dim=1).nonzero()[:, 0]
    assert torch.equal(changed, vocabulary.trained)
    moving = {i for motion in MOTIONS for i in get_tokenizer().encode(motion)}
    assert not moving & set(vocabulary.fillers.tolist())


def test_vocabulary_speaks_every_caption_and_adds_filler_words(vocabulary):
    generator = torch.Generator().manual_seed(0)
    kinds = torch.tensor([SINGLE, PAIR, COUNT]).repeat(100)
    captions = (*sample_scenes(kinds, size=16, generator=generator).captions, *object_names())
    rows, ends = vocabulary(captions, length=20, generator=generator)
    bare, bare_ends = plain(vocabulary, list(captions))
    fillers = 0
    for row, end, expected, expected_end in zip(rows, ends.tolist(), bare, bare_ends.tolist(), strict=True):
        assert row[end] == vocabulary.end
        kept = min(expected_end, end)
        assert torch.equal(row[:kept], expected[:kept])
        assert (row[expected_end:end] >= len(vocabulary.trained)).all()
        fillers += end > expected_end
    assert 0.2 * len(captions) < fillers < 0.5 * len(captions)


def test_the_process_is_left_as_it_was() -> None:
    """Denormal numbers and the number of threads belong to everybody in the process."""
    tiny, threads = torch.tensor([1e-40]), torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
    assert (tiny * 0.5).item() > 0

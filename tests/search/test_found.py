"""What a search names."""

import pytest

from m2clip.search import Found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/ann/private/waving/film.mp4", "waving/film.mp4"),
        ("/data/shard-00.tar/a/film.mp4", "a/film.mp4"),
        ("https://ann:secret@example.org/waving/film.mp4?signature=secret", "waving/film.mp4?..."),
        ("film.mp4", "film.mp4"),
        ("C:\\Users\\ann\\waving\\film.mp4", "waving/film.mp4"),
    ],
)
def test_a_name_tells_neither_where_a_video_lies_nor_what_opens_it(path: str, name: str) -> None:
    assert Found(path, 0.5).name == name

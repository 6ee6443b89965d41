"""Pictures that are in memory already -> frames; what they are must be certain, or one sentence says how to pass them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from m2clip.data.decode.portions import Each, in_portions
from m2clip.data.image_folder import IMAGES_FPS, rgb
from m2clip.errors import VideoError


class ArrayFrames:
    """The same face as FileFrames for pictures uint8 [H, W, 3] in memory, all of one size."""

    rotation_degrees = 0
    codec = "raw"
    lost_frames = 0

    def __init__(self, pictures: Sequence[np.ndarray] | np.ndarray) -> None:
        self._pictures = pictures
        self.frame_count = len(pictures)
        height, width, _ = pictures[0].shape
        self.size = width, height

    def times(self) -> tuple[np.ndarray, float, float]:
        """As of FileFrames, at IMAGES_FPS."""
        return np.arange(self.frame_count) / IMAGES_FPS, IMAGES_FPS, self.frame_count / IMAGES_FPS

    def read(self, ranks: np.ndarray, each: Each | None = None) -> np.ndarray:
        """As of FileFrames: a copy of the frames of these ranks, or what `each` makes of them."""
        wanted, places = np.unique(ranks, return_inverse=True)
        return in_portions((self._pictures[rank] for rank in wanted), len(wanted), each)[places]

    def close(self) -> None:
        """Nothing to give back: the pictures are the caller's."""


def pictures_of(source: Any, *, accepted: str) -> Sequence[np.ndarray] | np.ndarray:
    """Pictures uint8 [H, W, 3] of an array, a tensor or a list of them or of PIL images; nothing is copied that need not be.

    `accepted` says what a video can be, for the message about what can not.
    """
    if isinstance(source, list | tuple):
        return _pictures_of_list(source, accepted=accepted)
    if isinstance(source, Image.Image):
        animated = getattr(source, "is_animated", False)
        remedy = "pass the path of its file" if animated else "pass [image] for a video of one frame"
        raise VideoError(f"a single image is no video: {remedy}")
    if _is_tensor(source):
        return _as_frames(_array_of(source), tensor=True)
    if hasattr(source, "__array__"):  # NumPy's, JAX's and the like
        try:
            array = np.asarray(source)  # a memory map as such is slow to index
        except Exception as error:  # another library's: without data, on another device
            raise VideoError(
                f"a video cannot be made from {type(source).__name__}: {error}; pass {accepted}"
            ) from error
        return _as_frames(array, tensor=False)
    raise VideoError(f"a video cannot be made from {type(source).__name__}; pass {accepted}")


def _pictures_of_list(source: Sequence[Any], *, accepted: str) -> Sequence[np.ndarray] | np.ndarray:
    kinds = sorted({type(one).__name__ for one in source})
    if all(isinstance(one, Image.Image) for one in source):
        try:
            pictures: Sequence[np.ndarray] = [rgb(image) for image in source]
        except (OSError, ValueError) as error:  # images are read when they are needed
            raise VideoError(f"an image of the list cannot be read: {error}") from error
    elif all(_is_tensor(one) for one in source):
        pictures = [_array_of(one) for one in source]
    elif all(isinstance(one, np.ndarray) for one in source):
        pictures = source
    elif all(isinstance(one, str) or hasattr(one, "__fspath__") for one in source):
        raise VideoError("a list of paths is no video: pass one path, or put the images of one video into a folder")
    else:
        raise VideoError(f"a video cannot be made from a list of {' and '.join(kinds)}; pass {accepted}")
    if not pictures:
        raise VideoError("an empty list is no video: it holds no frame")
    if len({(one.shape, one.dtype) for one in pictures}) > 1:
        raise VideoError("the images of the list have different sizes or types; bring them to one")
    first = pictures[0]
    if first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3 and first.size and not _is_tensor(source[0]):
        return pictures
    return _as_frames(np.stack(pictures), tensor=_is_tensor(source[0]))


def _is_tensor(source: Any) -> bool:
    return hasattr(source, "detach") and hasattr(source, "permute")  # without importing torch here


def _array_of(tensor: Any) -> np.ndarray:
    try:
        return tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # of a type that NumPy lacks, sparse, without data
        is_bytes = str(tensor.dtype) == "torch.uint8"
        reason = (
            "it is sparse, nested or without data; pass a dense one" if is_bytes else "pixels must be uint8, 0 to 255"
        )
        raise VideoError(f"a tensor of type {tensor.dtype} is no video: {reason}") from error


def _as_frames(array: np.ndarray, *, tensor: bool) -> np.ndarray:
    """uint8 [T, H, W, 3], where the array is certainly that; a tensor may have its channels second."""
    shape = array.shape
    fits = array.dtype == np.uint8 and array.ndim == 4 and 0 not in shape
    if fits and shape[3] == 3 and not (tensor and shape[1] == 3):
        return array
    if fits and tensor and shape[1] == 3 and shape[3] != 3:
        return array.transpose(0, 2, 3, 1)
    kind = f"a tensor of type {array.dtype}" if tensor else f"an array of type {array.dtype}"
    raise VideoError(f"{kind} and shape {list(shape)} is no video: {_remedy(array, tensor=tensor)}")


def _remedy(array: np.ndarray, *, tensor: bool) -> str:
    """What to do with an array that is no video; it is called `x` where words would be long."""
    shape, move = array.shape, "permute" if tensor else "transpose"
    if array.dtype == object:
        return "its frames must be one array of uint8; bring them to one size and pass np.stack(frames)"
    if 0 in shape:
        return "it holds no pixel"
    if array.ndim == 1:
        return f"pass frames [T, H, W, 3], or the bytes of a video file as bytes({'x.numpy()' if tensor else 'x'})"
    if array.dtype != np.uint8:
        wanted, cast = "pixels must be of type uint8, 0 to 255", "x.byte()" if tensor else "x.astype(np.uint8)"
        how = {
            "f": f"; (x * 255).round() first if they run from 0 to 1, then {cast}",
            "i": f"; scaled first if they run beyond, then {cast}",
            "u": f"; scaled first if they run beyond, then {cast}",
            "b": f"; pass {cast} * 255",
        }
        return wanted + how.get(array.dtype.kind, "")
    if array.ndim == 3 and (shape[2] == 3 or shape[0] == 3):
        one = "x[None]" if shape[2] == 3 or tensor else "x.transpose(1, 2, 0)[None]"
        return f"it looks like a single image; pass {one} for a video of one frame"
    if array.ndim == 3:
        return f"grey frames need three channels; pass {'x[:, None].expand(-1, 3, -1, -1)' if tensor else 'np.stack([x] * 3, -1)'}"
    if array.ndim != 4:
        return "pass the frames of one video, [T, H, W, 3]"
    if tensor and shape[1] == shape[3] == 3:
        return (
            "its channels may stand second or last; pass an array [T, H, W, 3], such as x.permute(0, 2, 3, 1).numpy()"
        )
    if shape[1] == 3:
        return f"its channels stand second; pass x.{move}(0, 2, 3, 1)"
    if shape[0] == 3:
        return f"its channels stand first; pass x.{move}(1, 2, 3, 0)"
    if shape[3] == 4 or (tensor and shape[1] == 4):
        return f"it has four channels; leave alpha out, as in {'x[..., :3]' if shape[3] == 4 else 'x[:, :3]'}"
    if shape[3] == 1:
        return f"grey frames need three channels; pass {'x.expand(-1, -1, -1, 3)' if tensor else 'np.repeat(x, 3, -1)'}"
    if tensor and shape[1] == 1:
        return "grey frames need three channels; pass x.expand(-1, 3, -1, -1)"
    return f"frames have three channels, {'[T, 3, H, W]' if tensor else '[T, H, W, 3]'}"

"""Images that cannot be read: fatal, or left out and counted."""

import math
import threading

import numpy as np
from jaxtyping import Bool, Int64

from ssah_jax.data.source import AnyImages, DataError, ImageSequence


class SkippedImages:
    """What could not be read, and why; ends the run when there is too much of it.

    Whether an image can be read does not depend on when it is tried, so a restarted
    run skips the same ones. Safe in several threads.
    """

    def __init__(self, *, num_images: int, max_share: float) -> None:
        """Starts with none.

        Args:
            num_images: of the data set, N.
            max_share: of them that may be skipped, in [0, 1].
        """
        self._num_images = num_images
        self._max_share = max_share
        self._limit = math.floor(num_images * max_share)
        self._lock = threading.Lock()
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        """How many images were skipped."""
        return len(self._reasons)

    @property
    def reasons(self) -> list[str]:
        """One line an image, in order of index: its name and what is wrong with it."""
        return list(self.by_index.values())

    @property
    def by_index(self) -> dict[int, str]:
        """The same lines by the images' indices, in their order."""
        with self._lock:
            return dict(sorted(self._reasons.items()))

    def add(self, index: int, reason: str) -> None:
        """Records that image `index` is left out.

        Raises:
            DataError: that is one too many.
        """
        with self._lock:
            self._reasons[index] = reason
            if len(self._reasons) > self._limit:
                raise DataError(
                    f"data.max_skipped: found {len(self._reasons)} of "
                    f"{self._num_images} images unreadable (the last: {reason}), "
                    f"accepted is a share of at most {self._max_share}"
                )


class Reader:
    """Reads images together, and says which of them could be read."""

    def __init__(
        self, images: ImageSequence, *, skipped: SkippedImages | None = None
    ) -> None:
        """Sets the reader up.

        Args:
            images: where the images are.
            skipped: takes what cannot be read; None makes that an error.
        """
        self.images = images
        self._skipped = skipped

    @property
    def in_memory(self) -> bool:
        """Whether reading is copying."""
        return isinstance(self.images, np.ndarray)

    def __call__(
        self, indices: Int64[np.ndarray, "B"]
    ) -> tuple[AnyImages, Bool[np.ndarray, "B"]]:
        """Reads images `indices` `[B]`.

        Returns:
            uint8 `[B, H, W, ch]` (of features, float), black where the image could not
            be read, and a mask `[B]` that is False there.

        Raises:
            DataError: an image cannot be read and nothing takes it, or too many were.
        """
        readable = np.ones(len(indices), bool)
        if isinstance(self.images, np.ndarray):
            return self.images[indices], readable
        dtype = getattr(self.images, "dtype", np.uint8)
        batch = np.zeros((len(indices), *self.images.shape[1:]), dtype)
        for row, index in enumerate(indices.tolist()):
            try:
                batch[row] = self.images[index]
            except DataError as error:
                if self._skipped is None:
                    raise
                self._skipped.add(index, str(error))
                readable[row] = False
        return batch, readable

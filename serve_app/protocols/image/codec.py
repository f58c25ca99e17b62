"""An image as a request's body, and labels as its answer: a codec."""

from __future__ import annotations

import numpy as np

from deployments.errors import InvalidInput
from deployments.servable import Servable
from deployments.tensors import STRING, Arrays, Signature, TensorSpec
from serve_app.protocols.codec import Headers, Response, Untimed
from serve_app.protocols.image.preprocess import Preprocess

CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")
"""What a request's Content-Type may say; the bytes themselves decide."""
ANY = b"image/"
"""How the Content-Type of every picture begins, of those that are refused too."""
_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def looks_like_picture(content: bytes) -> bool:
    """Return whether bytes begin as those of a picture: clients may not know a file's type."""
    return content.startswith(_STARTS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _files_input(signature: Signature) -> TensorSpec | None:
    """Return the sole input of a model that takes a string a row; None where there is another."""
    spec = signature.inputs[0]
    if len(signature.inputs) > 1 or spec.dtype != STRING or spec.is_json or spec.row_shape not in ((), (1,)):
        return None
    return spec


class Images:
    """A picture in, the top labels out."""

    takes_images = False

    def __init__(self, servable: Servable, preprocess: Preprocess | None) -> None:
        # Pillow is imported where a model may meet an image; the gateway has no need of it.
        from serve_app.protocols.image import answer, decode

        self._decode, self._answer, self.is_quick = decode.decode, answer.answer, decode.is_quick
        self._about = answer.Labelled(servable.name, servable.signature, servable.labels)
        self._refusal: str | None = None
        # A function or a model that opens pictures itself gets the file.
        self._takes_files = _files_input(servable.signature) if preprocess is None else None
        try:
            if self._takes_files is None:
                self._target = decode.image_input(servable.signature, preprocess)
        except InvalidInput as error:
            if preprocess is not None:
                raise
            self._refusal = str(error)

    def decode(self, body: bytes, headers: Headers) -> Untimed:  # noqa: ARG002 - the image says what it is
        """Return the image as the model's sole input; `InvalidInput` where the model takes none."""
        if self._refusal is not None:
            raise InvalidInput(self._refusal)
        if (spec := self._takes_files) is not None:
            return Untimed({spec.name: np.array([body], dtype=object).reshape([1] * len(spec.shape))})
        return Untimed({self._target.spec.name: self._decode(body, self._target)})

    def encode(self, outputs: Arrays, request: Untimed) -> Response:  # noqa: ARG002 - nothing to remember
        """Return the top labels, or the plain outputs."""
        return Response(self._answer(self._about, outputs))

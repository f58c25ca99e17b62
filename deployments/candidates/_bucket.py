"""What one compiled shape is: a batch size, and the lengths of open axes."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.tensors import Shape, Signature


@dataclass(frozen=True, slots=True)
class Bucket:
    """One allowed batch size and, for dynamic inner axes, one allowed length.

    `length` None leaves dynamic inner axes open (or there are none).
    """

    batch_size: int
    length: int | None = None

    @property
    def key(self) -> str:
        """As it stands in the published plan: the batch size, and `BATCHxLENGTH` where there are lengths."""
        return str(self.batch_size) if self.length is None else f"{self.batch_size}x{self.length}"

    def shapes(self, signature: Signature) -> tuple[Shape, ...]:
        """Return every input's shape in this bucket, `None` only for axes that are left open."""
        return tuple(self._shape(spec.shape) for spec in signature.inputs)

    def _shape(self, shape: Shape) -> Shape:
        return (self.batch_size, *(self.length if axis is None else axis for axis in shape[1:]))

    def is_fixed(self, signature: Signature) -> bool:
        """Return whether every axis of every input is known."""
        return signature.is_static or self.length is not None


def open_shapes(signature: Signature) -> tuple[Shape, ...]:
    """Return every input's shape as the model declares it: an open batch axis, and open dynamic axes."""
    return tuple(spec.shape for spec in signature.inputs)

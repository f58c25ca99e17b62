"""The messages of `inference.GRPCInferenceService`, in a descriptor pool of their own.

Protobuf's default pool takes one definition of a name: with these in it, `import tritonclient.grpc` or `import kserve`
in the same process would fail, for both register `inference.ModelInferRequest` too.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from serve_app.grpc.inference_pb2 import FILE_SET

SERVICE = "inference.GRPCInferenceService"

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(FILE_SET).file:
    POOL.Add(_file)

SERVICE_DESCRIPTOR = POOL.FindServiceByName(SERVICE)


def message(name: str) -> Any:
    """Return the class of the message `inference.NAME`."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"inference.{name}"))


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelStreamInferResponse = message("ModelStreamInferResponse")


class Encoded(bytes):
    """A message that is already bytes, in the form that Serve takes messages in."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the bytes."""
        return bytes(self)

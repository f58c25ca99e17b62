"""Domain errors, raised by everything below HTTP.

They carry facts (which field, what was expected, how long to wait) and no status code: `serve_app.http.errors`
holds the one table that maps each class to a protocol's status.
"""

from __future__ import annotations

from typing import ClassVar


class SoloError(Exception):
    """Base of every error that keras-solo raises on purpose; its text is meant for the user."""

    cause: ClassVar[str] = "invalid"
    """The word under which statistics and metrics count it."""


class ConfigError(SoloError):
    """The serve config or a command's arguments are wrong; the text names the key and what was expected."""


class LoadError(SoloError):
    """The model could not be loaded, verified or placed; the text says what to do about it."""


class InvalidInput(SoloError):
    """A request's data does not fit the model or its protocol; the text names the field and the expectation."""


class UnknownSequence(InvalidInput):
    """A request goes on with a sequence that is not under way here."""


class UnknownModel(SoloError):
    """No such model or model version is deployed here."""


class NotReady(SoloError):
    """The model is known but cannot answer yet, or no longer."""

    cause = "overloaded"


class ReplicaGone(NotReady):
    """The way to a replica broke, or it died, with the request under way: that says nothing about the request."""


class Overloaded(SoloError):
    """The queue is full; `retry_after_s` is when a place should be free by the measured drain rate."""

    cause = "overloaded"

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str, float]]:
        """Travel between processes whole: an exception is pickled as its class and `args` alone."""
        return type(self), (str(self), self.retry_after_s)


class DeadlineExceeded(SoloError):
    """The request's deadline passed while it waited, or could not be met by the plan's measured times."""

    cause = "deadline"


class PredictionFailed(SoloError):
    """The model itself failed on this input; nothing of the request reached an answer."""

    cause = "failed"


class OutOfMemory(PredictionFailed):
    """The device or the host had no room for this prediction; a smaller or later one may fit."""


class ModelsAreDeclared(SoloError):
    """Somebody asked to load or unload a model of a server that does not take its models from clients."""

    def __init__(self, name: str, verb: str, is_followed: bool = False) -> None:
        how = (
            "this server follows its folder (model_control: poll); change the folder"
            if is_followed
            else "models are declared in the serve config; change it there and apply it with `solo deploy`, or serve a "
            "folder with model_control: explicit"
        )
        super().__init__(f"cannot {verb} model '{name}': {how}")


class Busy(SoloError):
    """A model is on its way to another state already."""


def cause_of(error: BaseException) -> str:
    """Return the word under which statistics and metrics count `error`; a caller that left is `cancelled`."""
    if isinstance(error, SoloError):
        return error.cause
    return "failed" if isinstance(error, Exception) else "cancelled"

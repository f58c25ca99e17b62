"""The arguments of `model_app` and `gateway_app`, as they stand under `args:` in a serve config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from deployments import formats
from deployments.errors import ConfigError
from serve_app.config.functions import Function, Tensor
from serve_app.config.naming import Variable, Version
from serve_app.config.tokens import SERVER_WIDE, TokenSource
from serve_app.protocols.image.preprocess import Preprocess

SAMPLES = (".npz", ".npy", ".json", ".parquet")
"""How files of sample rows end (`deployments/planning/given.py` reads them)."""
Positive = Annotated[int, Field(ge=1)]
ArgsT = TypeVar("ArgsT", bound="Args")


class Args(BaseModel):
    """Frozen arguments that refuse unknown keys and say in one line what is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def parse(cls: type[ArgsT], raw: object, where: str = "args") -> ArgsT:
        """Return validated arguments; raise `ConfigError` naming each wrong key and what was expected there."""
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where}: expected a mapping of keys to values, got {type(raw).__name__}")
        try:
            return cls.model_validate(dict(raw))
        except ValidationError as error:
            lines = [_line(cls, where, dict(detail)) for detail in error.errors()]
            raise ConfigError("; ".join(lines)) from None


def _line(cls: type[BaseModel], where: str, detail: Mapping[str, Any]) -> str:
    """Return one pydantic error detail as `where.key: what was expected, got what`."""
    key = ".".join([where, *map(str, detail["loc"])])
    if detail["type"] == "extra_forbidden":
        if "token" in str(detail["loc"][-1]).lower():
            return f"{key}: no token stands in a config, which Serve shows; name it by token_env or token_file"
        keys = _keys(_class_at(cls, detail["loc"][:-1]))
        near = difflib.get_close_matches(str(detail["loc"][-1]), keys, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(keys)}"
        return f"{key}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{key}: missing; this key is required"
    message = str(detail["msg"]).removeprefix("Value error, ")
    # A token that somebody put there instead of its name must not be printed.
    is_secret = "token" in str(detail["loc"][:1])
    is_whole = isinstance(detail["input"], Mapping) and len(detail["loc"]) == 0
    got = "" if is_whole or is_secret else f", got {detail['input']!r}"
    return f"{key}: {message[0].lower()}{message[1:]}{got}"


def _class_at(cls: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    """Return whose keys stand at `path`: fields by name, items by number."""
    for name in path:
        if (field := cls.model_fields.get(str(name))) is not None:
            cls = next(_classes(field.annotation), cls)
    return cls


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _classes(part)


def _keys(cls: type[BaseModel]) -> list[str]:
    """Return a class's keys as they are written, its own before those that every surface has."""
    ordered = sorted(cls.model_fields, key=lambda name: name in SurfaceArgs.model_fields)
    return [cls.model_fields[name].alias or name for name in ordered]


class SurfaceArgs(Args):
    """Who may come in: the same keys for a model and for the gateway."""

    token_env: Variable | None = SERVER_WIDE
    token_file: str | None = None
    cors_origins: tuple[str, ...] = ()
    shared_memory: bool = False

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@*]+", origin):
                raise ValueError("expected origins such as https://app.example.com, without a path, or '*'")
        return origins

    @property
    def tokens(self) -> TokenSource:
        """Where this surface's tokens are; a file that is named takes the place of the server-wide variable."""
        is_named = "token_env" in self.model_fields_set
        file = None if self.token_file is None else str(Path(self.token_file).expanduser().resolve())
        env = self.token_env if is_named or file is None else None
        return TokenSource(env, file, is_required=is_named)

    def check_tokens(self, where: str) -> None:
        """Raise `ConfigError` where the tokens cannot be read here."""
        try:
            self.tokens.read()
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None


class SequencesArgs(BaseModel):
    """How a recurrent model's states are kept between the requests of one sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    states: Annotated[dict[str, str], Field(min_length=1)]
    max_idle_s: Annotated[float, Field(gt=0)] = 60.0
    max_sequences: Positive = 1024


class ModelArgs(SurfaceArgs):
    """What one model is and how it is served. docs/configuration.md explains every key."""

    name: str
    source: str
    version: Version = "1"
    source_args: dict[str, Any] = {}
    source_sha256: Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")] | None = None
    source_options: dict[str, Any] = {}
    source_cache: str = "~/.cache/keras-solo/sources"
    source_revision: str | None = None
    custom_objects: str | None = None
    safe_mode: bool = True
    signature_name: str = "serving_default"
    device: Literal["auto", "gpu", "cpu"] = "auto"
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    gpu_memory_mb: Positive | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"] = "float32"
    tf32: bool = False
    tolerance: Annotated[float, Field(gt=0)] | None = None
    allowed_batch_sizes: tuple[Positive, ...] = ()
    max_batch_size: Positive = 32
    allowed_lengths: tuple[Positive, ...] = ()
    padding_value: float = 0.0
    coalesce: Literal["off", "window", "continuous"] = "continuous"
    batch_wait_timeout_s: Annotated[float, Field(ge=0)] = 0.01
    max_queue_delay_ms: Annotated[float, Field(ge=0)] = 0.0
    max_queue_rows: Positive | None = None
    candidates: tuple[str, ...] = ()
    plan_budget_s: Annotated[float, Field(ge=0)] = 30.0
    samples: str | None = None
    plan_cache: str | None = "~/.cache/keras-solo"
    inline_bound_ms: Annotated[float, Field(ge=0)] = 1.0
    labels: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    before: Function | None = None
    after: Function | None = None
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    sequences: SequencesArgs | None = None
    cache_mb: Annotated[float, Field(ge=0)] = 0.0
    before_processes: Annotated[int, Field(ge=0, le=64)] = 0
    preprocessor: bool = True
    nonfinite: Literal["pass", "refuse"] = "pass"
    hang_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    max_body_mb: Annotated[float, Field(gt=0)] = 64.0
    server_timing: bool = True
    metrics: bool = True

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, raw: Any) -> Any:
        """Choose from a folder of numbered versions (`mnist/1`, `mnist/2`): the highest, or `version`."""
        source = raw.get("source") if isinstance(raw, dict) else None
        if not isinstance(source, str) or not source or formats.is_model(path := Path(source).expanduser()):
            return raw
        if not (versions := formats.versions(path)):
            return raw
        wanted = str(raw.get("version", max(versions)))
        if not wanted.isdigit() or int(wanted) not in versions:
            raise ValueError(
                f"version: expected one of those in {source}, {', '.join(map(str, versions))}, got {wanted}"
            )
        return {**raw, "source": str(versions[int(wanted)]), "version": wanted}

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name) or name in {".", ".."}:
            raise ValueError("expected 1 to 128 letters, digits, '_', '-' or '.'")
        return name

    @field_validator("allowed_batch_sizes", "allowed_lengths")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError("expected ascending sizes, none twice")
        return sizes

    @field_validator("labels", mode="before")
    @classmethod
    def _labels(cls, labels: object) -> object:
        """Take a list of names, or the path of a text file with one name a line."""
        if not isinstance(labels, str):
            return [str(label) for label in labels] if isinstance(labels, list) else labels
        path = Path(labels)
        if not path.is_file():
            raise ValueError("expected a list of names, or the path of a text file with one name a line")
        return path.read_text(encoding="utf-8").splitlines()

    @field_validator("samples")
    @classmethod
    def _samples(cls, samples: str | None) -> str | None:
        if samples is not None:
            path = Path(samples).expanduser()
            if not path.name.endswith(SAMPLES) or not path.is_file():
                raise ValueError(f"expected a file of sample rows, {', '.join(SAMPLES)}")
        return samples

    @model_validator(mode="after")
    def _sizes(self) -> ModelArgs:
        """Refuse allowed batch sizes that contradict an explicit largest one (Triton's and TF Serving's rule)."""
        given = "max_batch_size" in self.model_fields_set
        if self.allowed_batch_sizes and given and self.allowed_batch_sizes[-1] != self.max_batch_size:
            raise ValueError(
                f"allowed_batch_sizes: expected its last to equal max_batch_size ({self.max_batch_size}), "
                f"got {self.allowed_batch_sizes[-1]}"
            )
        return self

    @model_validator(mode="after")
    def _functions(self) -> ModelArgs:
        """Refuse what is said of functions that are not there, and a name that stands twice."""
        for key, function in (("inputs", "before"), ("outputs", "after"), ("before_processes", "before")):
            if getattr(self, key) and getattr(self, function) is None:
                raise ValueError(f"{key}: expected '{function}' beside it, whose rows it is about")
        if self.sequences is not None:
            for key in ("cache_mb", "allowed_lengths"):
                if getattr(self, key):
                    raise ValueError(f"{key}: expected none beside sequences, whose states it would not know")
        for key in ("inputs", "outputs"):
            names = [tensor.name for tensor in getattr(self, key)]
            if len(set(names)) != len(names):
                raise ValueError(f"{key}: expected names, none twice, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _memory(self) -> ModelArgs:
        """Refuse a cap on the memory of a GPU that is not to be used."""
        if self.device == "cpu" and self.gpu_memory_mb is not None:
            raise ValueError("gpu_memory_mb: expected none with device cpu")
        return self

    @property
    def label(self) -> str:
        """The name, with the version where that is not the first: unlike the name, one of a kind in a config."""
        return self.name if self.version == "1" else f"{self.name} version {self.version}"

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The allowed batch sizes, ascending: those given, or the powers of two up to `max_batch_size`."""
        if self.allowed_batch_sizes:
            return self.allowed_batch_sizes
        powers = [1 << i for i in range(self.max_batch_size.bit_length()) if 1 << i < self.max_batch_size]
        return (*powers, self.max_batch_size)


KNOBS = frozenset({"coalesce", "batch_wait_timeout_s", "max_queue_delay_ms", "max_queue_rows"})
"""The keys that `serve deploy` changes in running replicas, through Serve's `user_config`."""

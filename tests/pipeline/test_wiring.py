"""Pipelines as they are declared: order, circles, names and types, all before the first request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deployments.errors import ConfigError, LoadError
from deployments.tensors import STRING, Signature, TensorSpec
from serve_app.config import placement, serve_yaml
from serve_app.config.pipeline_args import PipelineArgs
from serve_app.pipeline.graph import Source, in_order
from serve_app.pipeline.wiring import Wiring, wire


def spec(name: str, dtype: Any, *inner: int | None) -> TensorSpec:
    return TensorSpec(name, STRING if dtype is bytes else np.dtype(dtype), (None, *inner))


MODELS = {
    "scale": Signature((spec("x", "float32", 4),), (spec("y", "float32", 4),)),
    "sum": Signature((spec("a", "float32", 4), spec("b", "float32", 4)), (spec("total", "float32", 4),)),
    "classify": Signature((spec("x", "float32", 4),), (spec("scores", "float32", 3),)),
    "detect": Signature((spec("image", "uint8", 8, 8),), (spec("boxes", "int32", None, 4), spec("found", "bool", 1))),
    "words": Signature((spec("text", bytes),), (spec("n", "int64"),)),
}


def pipeline(*steps: dict[str, Any], **args: Any) -> PipelineArgs:
    return PipelineArgs.parse({"name": "p", "steps": list(steps), **args})


def wired(*steps: dict[str, Any], **args: Any) -> Wiring:
    parsed = pipeline(*steps, **args)
    return wire(parsed, {step.name: MODELS[step.model] for step in parsed.steps if step.model})


def test_a_chain_needs_no_wires() -> None:
    wiring = wired({"model": "scale"}, {"model": "classify"})
    assert [each.name for each in wiring.signature.inputs] == ["x"]
    assert wiring.signature.outputs == MODELS["classify"].outputs
    assert dict(wiring.steps[1].sources) == {"x": Source("scale", "y")}


def test_wires_name_inputs_and_outputs() -> None:
    wiring = wired(
        {"model": "sum", "inputs": {"a": "first.y", "b": "second"}},
        {"name": "first", "model": "scale", "inputs": {"x": "left"}},
        {"name": "second", "model": "scale", "inputs": {"x": "right"}},
        outputs={"answer": "sum.total", "half": "first.y"},
    )
    assert [step.step.name for step in wiring.steps] == ["first", "second", "sum"]
    assert [(each.name, each.shape) for each in wiring.signature.inputs] == [("left", (None, 4)), ("right", (None, 4))]
    assert [each.name for each in wiring.signature.outputs] == ["answer", "half"]


def test_items_are_an_axis_of_their_own() -> None:
    wiring = wired(
        {"model": "detect"},
        {
            "name": "crops",
            "function": "tests.support.pipelines:crops",
            "inputs": {"image": "image", "boxes": "detect.boxes"},
            "outputs": [{"name": "crops", "datatype": "FP32", "shape": [-1, -1, 4]}],
        },
        {"model": "classify", "inputs": {"x": "crops"}, "for_each": "x"},
        outputs={"scores": "classify.scores", "boxes": "detect.boxes"},
    )
    assert [each.shape for each in wiring.signature.outputs] == [(None, None, 3), (None, None, 4)]


@pytest.mark.parametrize(
    ("steps", "args", "text"),
    [
        ([{"model": "scale", "inputs": {"x": "b.y"}}, {"name": "b", "model": "scale", "inputs": {"x": "scale"}}], {},
         "steps: 'scale', 'b' wait for one another"),
        ([{"model": "scale", "inputs": {"x": "scale.y"}}], {}, "steps: 'scale' wait for one another"),
        ([{"model": "detect"}, {"model": "classify"}], {}, "has no output 'x', but 'boxes', 'found'"),
        ([{"model": "detect"}, {"model": "classify", "inputs": {"x": "detect.boxes"}}], {},
         "step 'classify': 'x': expected float32 [-1, 4], but 'detect.boxes' is int32 [-1, -1, 4]"),
        ([{"model": "words"}, {"model": "classify", "inputs": {"x": "words"}}], {}, "but 'words' is int64 [-1]"),
        ([{"model": "scale"}, {"model": "words", "inputs": {"text": "scale"}}], {}, "expected string [-1]"),
        ([{"model": "scale", "inputs": {"z": "x"}}], {}, "input 'x' has no source; got 'z'"),
        ([{"model": "scale", "inputs": {"x": "x", "z": "x"}}], {}, "has no input 'z'; expected 'x'"),
        ([{"model": "detect"}, {"model": "scale", "inputs": {"x": "detect"}}], {}, "'boxes', 'found': say which"),
        ([{"model": "scale"}, {"model": "classify", "inputs": {"x": "scale.z"}}], {}, "has no output 'z'"),
        ([{"model": "scale"}], {"outputs": {"y": "scale.z"}}, "outputs: 'y': step 'scale' has no output 'z'"),
        ([{"model": "detect"}, {"model": "scale", "inputs": {"x": "x"}, "if": "detect.boxes"}], {},
         "expected one truth or number a row"),
        ([{"model": "scale", "inputs": {"x": "x"}, "if": "urgent"}], {}, "not listed in inputs"),
        ([{"model": "scale"}], {"inputs": [{"name": "unused", "datatype": "FP32", "shape": [-1]}]}, "no step uses"),
        ([{"model": "scale", "inputs": {"x": "text"}}, {"model": "words", "inputs": {"text": "text"}}], {},
         "step 'words': 'text': expected string [-1], but 'text' is float32 [-1, 4]"),
        ([{"function": "tests.support.pipelines:halve", "inputs": {"x": "x"}}], {}, "no step says; list it in inputs"),
        ([{"model": "scale"}, {"function": "tests.support.pipelines:halve"}], {}, "list it in the step's outputs"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_by_name(steps: list[dict[str, Any]], args: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        wired(*steps, **args)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([], "steps"),
        ([{"model": "a", "function": "m:f"}], "either 'model' or 'function'"),
        ([{"name": "a"}], "either 'model' or 'function'"),
        ([{"model": "a"}, {"model": "a"}], "two are called 'a'"),
        ([{"model": "a", "args": {"k": 1}}], "args: expected for a function alone"),
        ([{"model": "a", "inputs": {"x": "y"}, "for_each": "z"}], "expected names of this step's inputs"),
        ([{"model": "a", "unknown": 1}], "unknown key"),
        ([{"function": "no address"}], "function"),
    ],
)
def test_what_a_step_cannot_be(steps: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        pipeline(*steps)
    assert text in str(raised.value)


def test_a_function_that_is_not_there() -> None:
    with pytest.raises(LoadError, match=r"step 'nowhere': function 'tests.support.pipelines:nowhere'"):
        wired({"function": "tests.support.pipelines:nowhere"})


def test_an_order_is_found_whatever_the_lines_order() -> None:
    args = pipeline(
        {"name": "b", "model": "m", "inputs": {"x": "a"}}, {"name": "a", "model": "m", "inputs": {"x": "x"}}
    )
    assert [step.name for step in in_order(args)] == ["a", "b"]


def test_a_config_knows_the_models_of_its_steps() -> None:
    digits = {
        "name": "digits",
        "import_path": "serve_app:model_app",
        "route_prefix": "/v2/models/digits",
        "args": {"name": "digits", "source": "models/digits.keras"},
    }
    both = {
        "name": "both",
        "import_path": "serve_app:pipeline_app",
        "route_prefix": "/v2/models/both",
        "args": {"name": "both", "steps": [{"model": "digits"}, {"model": "other"}]},
    }
    with pytest.raises(ConfigError, match="step 'other': unknown model 'other'; declared: both, digits"):
        serve_yaml.check({"applications": [both, digits]})
    both["args"]["steps"] = [{"model": "both"}]
    with pytest.raises(ConfigError, match="another model than the pipeline itself"):
        serve_yaml.check({"applications": [both, digits]})
    both["args"]["steps"] = [{"model": "digits"}]
    config = serve_yaml.check({"applications": [both, digits]})
    assert config.answering == ["digits", "both"]
    assert config.pipeline_paths == ["/v2/models/both"]
    both["args"]["name"] = "digits"
    both["route_prefix"] = "/v2/models/digits"
    with pytest.raises(ConfigError, match="declared twice"):
        serve_yaml.check({"applications": [digits, both]})


OWN = {"name": "scale", "source": "tests.support.architectures:mlp"}


@pytest.mark.parametrize(
    ("models", "steps", "complaint"),
    [
        ([OWN, OWN], [{"model": "scale"}], r"models.1.name: expected another than 'scale'"),
        ([OWN], [{"model": "other"}], r"models.0.name: expected a step that uses 'scale'"),
        ([OWN], [{"model": "scale", "version": 2}], r"expected no version of 'scale', which is the pipeline's own"),
        ([{**OWN, "token_env": "T"}], [{"model": "scale"}], r"models.0.token_env: expected none here"),
        ([{**OWN, "labels": ["a"]}], [{"model": "scale"}], r"models.0.labels: expected none here"),
        ([{**OWN, "sequences": {"states": {"h": "g"}}}], [{"model": "scale"}], r"models.0.sequences: expected none"),
        (
            [OWN, {**OWN, "name": "sum", "device": "cpu"}],
            [{"model": "scale"}, {"model": "sum"}],
            r"models.1.device: expected the same for all models",
        ),
        ([{"name": "scale"}], [{"model": "scale"}], r"models.0.source: missing"),
        ([], [{"model": "scale", "imputs": {}}], r"steps.0.imputs: unknown key; did you mean 'inputs'"),
        ([{**OWN, "sorce": 1}], [{"model": "scale"}], r"models.0.sorce: unknown key; did you mean 'source'"),
    ],
)
def test_what_is_wrong_with_own_models_is_named(models: list[Any], steps: list[Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        pipeline(*steps, models=models)


def test_own_models_are_looked_at_and_reserve_what_they_need() -> None:
    args = {"name": "both", "steps": [{"model": "a"}, {"model": "b"}]}
    args["models"] = [
        {"name": name, "source": "models/digits.keras", "num_cpus": cpus} for name, cpus in (("a", 1), ("b", 2))
    ]
    both = {"name": "both", "import_path": "serve_app:pipeline_app", "route_prefix": "/v2/models/both", "args": args}
    config = serve_yaml.check({"applications": [both]})
    assert config.answering == ["both"]
    (demand,) = placement.demands(config.reserving, 1)
    assert demand.each == {"CPU": 2.0, "GPU": 1.0}
    assert placement.demands(config.reserving, 0)[0].each == {"CPU": 2.0}
    options = {"num_cpus": 1, "num_gpus": 0.5}
    both["deployments"] = [{"name": "Pipeline", "ray_actor_options": options}]
    assert placement.demands(serve_yaml.check({"applications": [both]}).reserving, 1)[0].each == {"CPU": 1, "GPU": 0.5}
    both["deployments"] = [{"name": "Pipeline", "ray_actor_options": {"num_gpus": 2}}]
    with pytest.raises(ConfigError, match=r"Pipeline.ray_actor_options.num_gpus: a replica uses one GPU"):
        serve_yaml.check({"applications": [both]})
    del both["deployments"]
    args["models"][1]["source"] = "models/nothing.keras"
    with pytest.raises(ConfigError, match=r"args.models\[1\].source: 'models/nothing.keras'"):
        serve_yaml.check({"applications": [both]})
    args.update(models=[], steps=[{"function": "tests.support.pipelines:halve"}])
    assert serve_yaml.check({"applications": [both]}).reserving == []

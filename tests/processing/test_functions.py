"""What functions take and return: found from annotations, declarations and names, and refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from deployments.errors import InvalidInput, LoadError, PredictionFailed
from deployments.processing.results import WrongResult
from deployments.tensors import STRING, TensorSpec
from tests.support.around import MODEL, OPEN, function, functions


def strings(*texts: str) -> np.ndarray:
    return np.array([text.encode() for text in texts], dtype=object)


WORDS = TensorSpec("words", STRING, (None,))
WEIGHT = TensorSpec("weight", np.dtype(np.float32), (None,))


@pytest.mark.parametrize(
    ("before", "name", "dtype", "shape", "is_json"),
    [
        (function("features"), "text", STRING, (None,), False),
        (function("features_of_one"), "text", STRING, (None,), False),
        (function("of_record"), "record", STRING, (None,), True),
        (function("of_file"), "file", STRING, (None,), False),
        (function("scaled"), "x", np.float32, (None, 4), False),
        (function("annotated"), "x", np.int32, (None, 2), False),
        (function("features", TensorSpec("review", STRING, (None,))), "review", STRING, (None,), False),
        (function("Vocabulary", words=["a"]), "text", STRING, (None,), False),
    ],
)
def test_clients_see_what_before_takes(before: Any, name: str, dtype: Any, shape: Any, is_json: bool) -> None:
    (spec,) = functions(before).signature.inputs
    assert (spec.name, spec.dtype, spec.shape, spec.is_json) == (name, np.dtype(dtype), shape, is_json)


@pytest.mark.parametrize(
    ("before", "sent", "expected"),
    [
        (function("features"), [strings("abba", "cd")], [[2, 2, 0, 0], [0, 0, 1, 1]]),
        (function("features_of_one"), [strings("abba", "cd")], [[2, 2, 0, 0], [0, 0, 1, 1]]),
        (function("of_record"), [strings('{"a":1,"b":2,"c":3,"d":4}')], [[1, 2, 3, 4]]),
        (function("of_file"), [strings("Az")], [[2, 65, 122, 0]]),
        (function("scaled", factor=2), [np.ones((1, 4), np.float32)], [[2, 2, 2, 2]]),
        (function("annotated"), [np.array([[1, 2]], np.int32)], [[1, 2, 1, 2]]),
        (function("declared", WORDS, WEIGHT), [strings("abc"), np.float32([5])], [[3, 5, 5, 5]]),
        (function("Vocabulary", words=["a", "b"]), [strings("b", "c")], [[1] * 4, [-1] * 4]),
    ],
)
def test_before_makes_the_models_inputs(before: Any, sent: list[Any], expected: Any) -> None:
    made = functions(before)
    assert made.before is not None
    (x,) = made.before.run(tuple(sent), len(sent[0]))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.array(expected, np.float32))


def test_after_may_be_a_list_a_row_or_json_or_found_by_a_try() -> None:
    scores = np.array([[0, 1, 0], [3, 0, 0]], np.float32)
    listed, rowed = functions(after=function("label")).after, functions(after=function("label_of_one")).after
    assert listed is not None
    assert rowed is not None
    assert listed.run((scores,), 2)[0].tolist() == rowed.run((scores,), 2)[0].tolist() == [b"class 1", b"class 0"]
    both = functions(function("features"), function("report"))
    assert both.after is not None
    assert both.signature.outputs[0].is_json
    (reports,) = both.after.run((scores, strings("one", "two")), 2)
    assert [json.loads(each) for each in reports] == [{"text": "one", "sum": 1.0}, {"text": "two", "sum": 3.0}]
    found = functions(after=function("undeclared")).signature.outputs
    assert [(spec.name, spec.dtype.name, spec.shape) for spec in found] == [
        ("best", "int64", (None,)),
        ("most", "float32", (None, 1)),
    ]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (function("nowhere"), None, "has no 'nowhere'"),
        (function("not_callable"), None, "is not callable"),
        (function("coroutine"), None, "expected a plain function"),
        (function("misnamed"), None, "returned 'y', expected 'x'"),
        (function("misshapen"), None, "of shape [2, 3], expected [2, 4]"),
        (function("endless"), None, "did not return within 1 s"),
        (function("declared"), None, "what its parameter 'words' takes is not known"),
        (function("features", WEIGHT, WORDS), None, "what its parameter 'text' takes is not known"),
        (function("scaled", unknown=1), None, "unexpected keyword"),
        (function("Vocabulary"), None, "missing 1 required positional argument: 'words'"),
        (None, function("declared"), "the model's outputs are 'scores'"),
        (None, function("too_few"), "of shape [1, 3], expected [2, 3]"),
        (None, function("label", TensorSpec("label", np.dtype(np.int32), (None,))), "no 'label'"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_request(before: Any, after: Any, text: str) -> None:
    with pytest.raises(LoadError) as raised:
        functions(before, after, limit_s=1.0)
    assert text in str(raised.value)


def test_errors_are_the_clients_or_the_functions() -> None:
    before = functions(function("features")).before
    assert before is not None
    with pytest.raises(InvalidInput, match=r"^this text is forbidden$"):
        before.run((strings("forbidden"),), 1)
    with pytest.raises(PredictionFailed, match=r"before 'tests.support.functions:features' failed: KeyError: 'a bug'"):
        before.run((strings("broken"),), 1)
    with pytest.raises(InvalidInput, match="input 'text': row 1 is no UTF-8"):
        before.run((np.array([b"fine", b"\xff"], dtype=object),), 2)
    record = functions(function("of_record")).before
    assert record is not None
    with pytest.raises(InvalidInput, match="input 'record': row 0 is no JSON"):
        record.run((strings("{"),), 1)


def test_samples_are_what_clients_send() -> None:
    made = functions(function("of_record"), function("undeclared"), samples=(strings('{"a":1,"b":2,"c":3,"d":4}'),))
    assert [spec.name for spec in made.signature.outputs] == ["best", "most"]
    with pytest.raises(LoadError, match="refuses the samples: this text is forbidden"):
        functions(function("features"), samples=(strings("forbidden"),))


def test_rows_of_different_lengths_come_apart() -> None:
    before = functions(function("tokens"), model=OPEN).before
    assert before is not None
    (even,) = before.run((strings("ab", "cd"),), 2)
    assert even.shape == (2, 2)
    assert even.dtype == np.float32
    (ragged,) = before.run((strings("a", "bcd"),), 2)
    assert ragged.dtype == object
    assert [row.tolist() for row in ragged] == [[97.0], [98.0, 99.0, 100.0]]
    fixed = functions(function("tokens"), samples=(strings("abcd"),)).before
    assert fixed is not None
    with pytest.raises(WrongResult, match="expected an array or a list of equal rows"):
        fixed.run((strings("a", "bcd"),), 2)


def test_the_models_own_inputs_stay_where_there_is_no_before() -> None:
    assert functions(after=function("label")).signature.inputs == tuple(spec.opened() for spec in MODEL.inputs)

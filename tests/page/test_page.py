"""The page in a real Chromium, before a real gateway and real models: what a person would do and see."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chromium import Tab, chromium
from tests.support.looks import is_light, unnamed, weak_texts
from tests.support.page_server import ROOT, PageServer, page_server

Points = list[tuple[float, float]]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """Return points of an ellipse's arc; angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


STROKES: dict[str, list[Points]] = {
    "0": [arc(0.5, 0.5, 0.22, 0.34, -90, 270)],
    "1": [[(0.5, 0.15 + 0.07 * i) for i in range(11)]],
    "3": [arc(0.45, 0.32, 0.2, 0.16, -140, 90) + arc(0.45, 0.65, 0.22, 0.18, -90, 140)],
    "7": [[(0.25 + 0.05 * i, 0.2) for i in range(11)] + [(0.75 - 0.03 * i, 0.2 + 0.065 * i) for i in range(11)]],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with page_server(tmp_path_factory.mktemp("page") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def tab(server: PageServer, browser: Tab) -> Tab:
    """Return the tab with the digits model's page open, anew for every test."""
    browser.resize(1240, 900)
    browser.prefer("light")
    show(browser, server, "digits")
    browser.problems.clear()
    return browser


def show(tab: Tab, server: PageServer, name: str) -> None:
    tab.open("about:blank")
    tab.open(f"{server.url}/#{name}")
    tab.wait(f"document.querySelector('article[aria-label=\"Model {name}\"] .tabs')")


def draw(tab: Tab, digit: str) -> None:
    box = tab.box(".pad")
    for stroke in STROKES[digit]:
        tab.drag([(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke])


def choose_tab(tab: Tab, name: str) -> None:
    tab.run(f"[...document.querySelectorAll('[role=tab]')].find(one => one.textContent === {json.dumps(name)}).click()")


def verdict(tab: Tab, kind: str) -> str:
    return str(tab.wait(f"document.querySelector('.try-{kind} .verdict.known')?.textContent"))


@pytest.mark.parametrize("digit", sorted(STROKES))
def test_a_drawn_digit_is_read(tab: Tab, digit: str) -> None:
    draw(tab, digit)
    tab.wait(f"document.querySelector('.try-draw .verdict.known')?.textContent.startsWith('{digit} ')")
    labels = tab.run("[...document.querySelectorAll('.try-draw .scores .label')].map(one => one.textContent)")
    assert labels == list("0123456789")
    assert tab.text(".try-draw .scores .best .label") == digit
    assert tab.problems == []


def test_the_receipt_adds_up_to_the_total(tab: Tab) -> None:
    draw(tab, "7")
    verdict(tab, "draw")
    total, stages = tab.run(
        """(() => {
            const numbers = [...document.querySelectorAll('.try-draw .stages .number')];
            return [parseFloat(document.querySelector('.try-draw .receipt-head').textContent),
                    numbers.map(one => parseFloat(one.textContent))];
        })()"""
    )
    assert len(stages) == 5
    assert total > 0
    # Each is shown with three digits.
    assert sum(stages) == pytest.approx(total, rel=0.05, abs=0.005)
    widths = tab.run("[...document.querySelectorAll('.try-draw .stack span')].map(one => one.offsetWidth)")
    whole = tab.box(".try-draw .stack")["width"]
    assert sum(widths) == pytest.approx(whole, abs=15)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (
            {"decode": 1, "queue": 0, "batch": 1, "compute": 2, "encode": 1, "before": 3, "after": 4, "total": 12},
            ["decode", "before", "queue", "batch", "compute", "after", "encode"],
        ),
        (
            {"decode": 1, "queue": 0, "batch": 1, "encode": 1, "step-find": 5, "step-read": 4, "total": 12},
            ["decode", "queue", "batch", "find", "read", "encode"],
        ),
    ],
)
def test_functions_and_steps_have_their_parts(tab: Tab, parts: dict[str, float], shown: list[str]) -> None:
    stages = [{"name": name, "durationMs": number, "note": None} for name, number in parts.items()]
    labels, numbers, grown = tab.run(
        """import('/page/receipt.js').then(({ receipt }) => {
            const { node, show } = receipt();
            show({ receipt: [{ name: 'decode', durationMs: 1 }], roundTripMs: 20 });
            show({ receipt: STAGES, roundTripMs: 20 });
            return [[...node.querySelectorAll('dt')].map(one => one.textContent),
                    [...node.querySelectorAll('.number')].map(one => parseFloat(one.textContent)),
                    [...node.querySelectorAll('.stack span')].map(one => one.style.flexGrow / 1e6)];
        })""".replace("STAGES", json.dumps(stages))
    )
    assert labels == shown
    assert sum(numbers) == sum(grown) == parts["total"]


def test_clear_empties_the_board(tab: Tab) -> None:
    draw(tab, "7")
    verdict(tab, "draw")
    tab.click(".tools button")
    tab.wait("document.querySelector('.try-draw .verdict').textContent === 'Draw a digit.'")
    assert tab.run("document.querySelectorAll('.try-draw .scores .best').length") == 0


def test_a_digit_can_be_drawn_with_the_keyboard(tab: Tab) -> None:
    tab.run("document.querySelector('.pad').focus()")
    tab.key(" ")
    tab.key("ArrowDown", 15)
    tab.wait("document.querySelector('.try-draw .verdict.known')?.textContent.startsWith('1 ')")
    tab.key("Escape")
    tab.wait("document.querySelector('.try-draw .verdict').textContent === 'Draw a digit.'")


def test_the_drawing_is_normalised_as_the_training_data_was(tab: Tab) -> None:
    # A small digit in a corner and the same one large in the middle become nearly the same picture.
    script = """(async () => {
        const { render } = await import("./page/ink.js");
        const large = [[[0.25, 0.2], [0.75, 0.2], [0.45, 0.85]].map(([x, y]) => ({x, y}))];
        const small = large.map(stroke => stroke.map(({x, y}) => ({x: 0.6 + x / 3, y: 0.02 + y / 3})));
        return [large, small, []].map(strokes => Array.from(render(strokes, 28)));
    })()"""
    large, small, nothing = tab.run(script)
    assert max(abs(a - b) for a, b in zip(large, small, strict=True)) < 0.05
    assert set(nothing) == {0}
    inked = [(i % 28, i // 28, grey) for i, grey in enumerate(large) if grey > 0.02]
    rows = [y for _, y, _ in inked]
    assert 19 <= max(rows) - min(rows) + 1 <= 21
    mass = sum(grey for *_, grey in inked)
    assert sum((x + 0.5) * grey for x, _, grey in inked) / mass == pytest.approx(14, abs=0.5)
    assert sum((y + 0.5) * grey for _, y, grey in inked) / mass == pytest.approx(14, abs=0.5)


def test_a_dropped_png_is_read(tab: Tab) -> None:
    choose_tab(tab, "Picture")
    tab.drop_file(".drop", ROOT / "examples" / "digits" / "four.png")
    assert verdict(tab, "picture").startswith("4 ")
    assert "ms in the server" in tab.text(".try-picture .receipt-head")


def test_a_chosen_png_is_read(tab: Tab) -> None:
    choose_tab(tab, "Picture")
    tab.choose_file(".drop input", ROOT / "examples" / "digits" / "two.png")
    assert verdict(tab, "picture").startswith("2 ")


def test_a_file_that_is_no_picture_is_refused(tab: Tab, tmp_path: Path) -> None:
    choose_tab(tab, "Picture")
    (tmp_path / "note.txt").write_text("hello")
    tab.choose_file(".drop input", tmp_path / "note.txt")
    tab.wait("document.querySelector('.try-picture .trouble').textContent.includes('no PNG, JPEG')")
    (tmp_path / "broken.png").write_bytes((ROOT / "examples" / "digits" / "two.png").read_bytes()[:90])
    tab.choose_file(".drop input", tmp_path / "broken.png")
    tab.wait("document.querySelector('.try-picture .trouble').textContent.includes('400')")
    assert "damaged" in tab.text(".try-picture .trouble")


def test_the_plan_is_drawn_as_it_is(tab: Tab, server: PageServer) -> None:
    plan = server.get_json("/v2/models/digits/plan")
    for size, name in plan["chosen"].items():
        tab.run(f"[...document.querySelectorAll('.sizes button')].find(one => one.textContent === '{size}').click()")
        assert tab.text(".plan-table .chosen th code") == name
        drawn = tab.run(
            """[...document.querySelectorAll('.plan-table tbody tr')].map(row =>
                [row.querySelector('code').textContent, row.querySelector('.p50')?.offsetWidth ?? null])"""
        )
        widths = dict(drawn)
        timed = [row for row in plan["candidates"][size] if row["p50_ms"]]
        assert {row["name"] for row in plan["candidates"][size]} <= set(widths)
        assert all(widths[row["name"]] > 0 for row in timed)
        # The axis is logarithmic: equal ratios of time are equal differences of width.
        ordered = sorted(timed, key=lambda row: row["p50_ms"])
        if len(ordered) > 2:
            (a, b, c) = (ordered[0], ordered[1], ordered[-1])
            share = math.log(b["p50_ms"] / a["p50_ms"]) / math.log(c["p50_ms"] / a["p50_ms"])
            spread = widths[c["name"]] - widths[a["name"]]
            assert widths[b["name"]] - widths[a["name"]] == pytest.approx(share * spread, abs=2)
    # JavaScript rounds a half up, Python to even.
    assert f"{int(plan['factor_over_predict'] + 0.5):,} times as fast as model.predict" in tab.text(".plan-says")


def test_the_plan_says_which_device_answers(tab: Tab, server: PageServer) -> None:
    plan = server.get_json("/v2/models/digits/plan")
    sizes = list(plan["chosen"])
    plan |= {"devices": dict.fromkeys(sizes, "cpu"), "advice": "the GPU is not faster"}
    plan["fastest_ms"] = {size: {"cpu": 0.5, "gpu": 2.0} for size in sizes}
    said = tab.run(f"import('./page/plan.js').then(it => it.planChart({json.dumps(plan)}).textContent)")
    for size in sizes:
        assert f"Batch size {size}: the CPU answers (CPU 0.5" in said
    assert "GPU 2.0" in said
    assert said.endswith("The GPU is not faster.")


def test_live_figures_follow_the_counters(tab: Tab, server: PageServer) -> None:
    before = server.get_json("/v2/models/digits/stats")["model_stats"][0]["inference_count"]
    tab.wait("document.querySelector('.figure dd').textContent !== '\u2013'")
    draw(tab, "3")
    tab.wait("parseFloat(document.querySelector('.figure dd').textContent) > 0")
    assert server.get_json("/v2/models/digits/stats")["model_stats"][0]["inference_count"] > before
    tab.wait("document.querySelector('.models .current [data-title=Now]').textContent.includes('req/s')")


def test_rates_of_several_replicas_are_added_and_a_restart_counts_from_zero(tab: Tab) -> None:
    script = """(async () => {
        const { Meter } = await import("./page/live.js");
        const meter = new Meter();
        const stats = (replica, n) => ({replica, inference_count: 2 * n, execution_count: n,
            inference_stats: {success: {count: n, ns: n * 3e6}, fail: {count: 0, ns: 0}}});
        const steps = [["a", 100, 0], ["b", 900, 500], ["a", 110, 1000], ["b", 930, 1500],
                       ["a", 4, 2000], ["a", 9, 3000]];
        return steps.map(([replica, n, at]) => meter.take(stats(replica, n), at)).map(rate => rate && [
            rate.perSecond, rate.meanMs, rate.rowsPerRun]);
    })()"""
    first, second, third, fourth, restarted, after = tab.run(script)
    assert (first, second) == (None, None)
    assert third == [10, 3, 2]
    assert fourth == [40, 3, 2]
    assert restarted == [30, 3, 2]
    assert after == [35, 3, 2]


def test_a_form_with_an_example_for_other_models(tab: Tab, server: PageServer) -> None:
    show(tab, server, "simple")
    values = tab.run("[...document.querySelectorAll('.field textarea')].map(one => JSON.parse(one.value))")
    assert [(len(v), len(v[0])) for v in values] == [(1, 16), (1, 16)]
    tab.click(".try-values .primary")
    tab.wait("document.querySelectorAll('.output').length === 2")
    shown = tab.run(
        "[...document.querySelectorAll('.output .values')].map(one => [...one.children].map(s => +s.textContent))"
    )
    assert shown[0] == [a + b for a, b in zip(values[0][0], values[1][0], strict=True)]
    assert shown[1] == [a - b for a, b in zip(values[0][0], values[1][0], strict=True)]


def test_a_form_says_what_does_not_fit(tab: Tab, server: PageServer) -> None:
    show(tab, server, "simple")
    for typed, says in {"[[1, 2": "not JSON yet", "[[1, 2]]": "expected shape [any, 16], got [1, 2]"}.items():
        tab.run(
            f"""(() => {{ const one = document.querySelector('.field textarea'); one.value = {json.dumps(typed)};
                one.dispatchEvent(new Event('input')); }})()"""
        )
        assert tab.text(".field .trouble") == says
        assert tab.run("document.querySelector('.field textarea').getAttribute('aria-invalid')") == "true"


@pytest.mark.parametrize(("name", "shown"), [("half", "0.2998"), ("simple_string", "")])
def test_datatypes_without_plain_json_work_too(tab: Tab, server: PageServer, name: str, shown: str) -> None:
    show(tab, server, name)
    if name == "simple_string":
        fields = json.dumps([[str(i) for i in range(16)]])
        tab.run(f"document.querySelectorAll('.field textarea').forEach(one => one.value = {json.dumps(fields)})")
        shown = "30"
    tab.click(".try-values .primary")
    tab.wait("document.querySelector('.output .values')")
    assert shown in tab.text(".output .values")


def test_the_lines_to_copy_work(tab: Tab, server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes((ROOT / "examples" / "digits" / "nine.png").read_bytes())
    curl, python, ray_task = lines_to_copy(tab)
    assert json.loads(shell(curl, tmp_path))["label"] == "9"
    assert "'label': '9'" in run_python(python, tmp_path)
    compile(ray_task, "ray task", "exec")
    show(tab, server, "simple")
    curl, python, ray_task = lines_to_copy(tab)
    outputs = json.loads(shell(curl, tmp_path))["outputs"]
    assert [output["name"] for output in outputs] == ["OUTPUT0", "OUTPUT1"]
    assert "OUTPUT1" in run_python(python, tmp_path)
    compile(ray_task, "ray task", "exec")


def lines_to_copy(tab: Tab) -> tuple[str, str, str]:
    for name in ("Ray task", "Python", "curl"):
        choose_tab(tab, name)
    texts = tab.run("[...document.querySelectorAll('.panel-call-it pre')].map(one => one.textContent)")
    return tuple(texts)  # type: ignore[return-value]


def shell(command: str, folder: Path) -> str:
    return subprocess.run(
        ["bash", "-c", f"{command} -sS"], cwd=folder, capture_output=True, check=True, text=True
    ).stdout


def run_python(code: str, folder: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_sticks_out_of_a_phone(tab: Tab, width: int) -> None:
    tab.resize(width, 800, is_phone=True)
    for name in ("Picture", "Values", "Draw"):
        choose_tab(tab, name)
        assert tab.run("document.documentElement.scrollWidth") <= width
    draw(tab, "7")
    assert verdict(tab, "draw").startswith("7 ")


def test_everything_operable_has_a_name(tab: Tab) -> None:
    for name in ("Picture", "Values", "Draw"):
        choose_tab(tab, name)
        met, without = unnamed(tab)
        assert met > 15
        assert without == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(tab: Tab, scheme: str) -> None:
    tab.prefer(scheme)
    draw(tab, "7")
    verdict(tab, "draw")
    texts, weak = weak_texts(tab)
    assert texts > 40
    assert weak == []
    assert is_light(tab) == (scheme == "light")


def test_tabs_follow_the_arrow_keys(tab: Tab) -> None:
    tab.run("document.querySelector('[role=tab][aria-selected=true]').focus()")
    tab.key("ArrowRight")
    assert tab.run("document.activeElement.textContent") == "Picture"
    assert tab.run("document.querySelector('.try-picture').offsetWidth") > 0
    tab.key("ArrowLeft")
    assert tab.run("document.activeElement.textContent") == "Draw"


def test_nothing_is_blocked_or_thrown(tab: Tab, server: PageServer) -> None:
    show(tab, server, "digits")
    draw(tab, "0")
    verdict(tab, "draw")
    # The models made of numpy functions have no plan, and a browser reports the 404.
    assert [problem for problem in tab.problems if not re.search(r"404.*/plan", problem)] == []

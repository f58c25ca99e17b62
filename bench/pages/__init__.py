"""README and docs take their figures from `bench/results`: each stands in a block that this package writes.

    python -m bench.pages            # writes every block anew
    python -m bench.pages --check    # says which differ, as a test does

A block begins with `<!-- figures: NAME -->`, where NAME is a function of `BLOCKS`, and ends with `<!-- end -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.pages import gpu, latency, load, reliability, scaling
from bench.pages.results import RESULTS, ROOT, Results

PAGES = (Path("README.md"), *sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")))

BLOCKS: Mapping[str, Callable[[Results], str]] = {
    "summary": latency.summary,
    "side-by-side": latency.side_by_side,
    "layers": latency.layers,
    "request-path": latency.request_path,
    "startup": latency.startup,
    "grpc": latency.grpc,
    "tensorflow-serving": latency.tensorflow_serving,
    "metrics": latency.metrics,
    "client": latency.client,
    "shared-memory": latency.shared_memory,
    "pipelines": latency.pipelines,
    "response-cache": latency.response_cache,
    "images": latency.images,
    "gpu": gpu.ratios,
    "coalescing": load.coalescing,
    "overload": load.overload,
    "soak": load.soak,
    "faults": reliability.faults,
    "hostile": reliability.hostile,
    "forecasts": scaling.forecasts,
    "node": scaling.node,
    "folder": scaling.folder,
    "autoscaling": scaling.autoscaling,
    "nodes": scaling.nodes,
}

_BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def rewritten(text: str, results: Results) -> str:
    """Return a page's `text` with every block's figures as they are; raises `KeyError` for a block of no known name."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]](results).strip()}\n{found[4]}", text)


def outdated(root: Path = ROOT, results: Path = RESULTS) -> dict[Path, str]:
    """Return the pages whose figures are not those of the results, and what they should say."""
    told = Results(results)
    texts = {page: (root / page).read_text(encoding="utf-8") for page in PAGES}
    right = {page: rewritten(text, told) for page, text in texts.items()}
    return {page: text for page, text in right.items() if text != texts[page]}


def write() -> list[Path]:
    """Write every block anew; return the pages that changed."""
    changed = outdated()
    for page, text in changed.items():
        (ROOT / page).write_text(text, encoding="utf-8")
    return list(changed)

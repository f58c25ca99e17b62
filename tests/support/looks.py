"""Whether people can read and operate what a tab shows: contrast, names, and nothing that sticks out."""

from __future__ import annotations

from tests.support.chromium import Tab

TEXTS = """(() => {
    const rgb = (css) => css.match(/[\\d.]+/g).map(Number);
    const ground = (node) => { for (; node; node = node.parentElement) {
        const c = rgb(getComputedStyle(node).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } };
    const texts = document.querySelectorAll(
        'main p, main th, main td, main dt, main dd, main button, main code, .bar a');
    return [...texts].filter(n => n.offsetWidth && n.textContent.trim())
        .map(n => [n.textContent.slice(0, 30), rgb(getComputedStyle(n).color), ground(n)]);
})()"""
ROLES = {"button", "link", "tab", "textbox", "img", "image", "table", "application"}
READABLE = 4.5
"""WCAG 2.2, AA, for text of the usual size."""


def weak_texts(tab: Tab) -> tuple[int, list[tuple[str, float]]]:
    """Return how many texts are shown, and those whose contrast is too little, with it."""
    texts = tab.run(TEXTS)
    found = [(text, contrast(ink, ground)) for text, ink, ground in texts]
    return len(texts), [(text, ratio) for text, ratio in found if ratio < READABLE]


def is_light(tab: Tab) -> bool:
    """Return whether the page's ground is light."""
    return luminance(tab.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")) > 0.5


def luminance(rgb: list[float]) -> float:
    """WCAG 2.2's relative luminance."""
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in rgb[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: list[float], ground: list[float]) -> float:
    """WCAG 2.2's contrast ratio."""
    bright, dim = sorted([luminance(ink), luminance(ground)], reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def unnamed(tab: Tab) -> tuple[int, list[str]]:
    """Return how many things a screen reader meets that can be operated, and the roles of those without a name."""
    nodes = [node for node in tab.send("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    met = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if node.get("role", {}).get("value") in ROLES
    ]
    return len(met), [role for role, label in met if not label.strip() and role != "image"]

"""Show JSON as a tree that opens and closes without a script."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from itertools import islice
from typing import Any

MAX_NODES = 2_000
MAX_DEPTH = 20
MAX_TEXT = 1_000


def json_tree(value: Any) -> str:
    """Return nested `<details>`, the first one open; at most `MAX_NODES` values are written."""
    tree = _Tree()
    html = tree.node("", value, 0)
    if tree.left_out:
        html += '<p class="note">… the rest was left out …</p>'
    return html


class _Tree:
    def __init__(self) -> None:
        self.left_out = False
        self._nodes = 0

    def node(self, label: str, value: Any, depth: int) -> str:
        self._nodes += 1
        if not isinstance(value, dict | list) or not value:
            return f"<div>{label}<code>{self._scalar(value)}</code></div>"
        kind = f"{{{len(value)}}}" if isinstance(value, dict) else f"[{len(value)}]"
        opened = " open" if depth == 0 else ""
        children = self._children(value, depth)
        return f"<details{opened}><summary>{label}<code>{kind}</code></summary>{children}</details>"

    def _children(self, value: dict[str, Any] | list[Any], depth: int) -> str:
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        out: list[str] = []
        for key, item in islice(items, MAX_NODES + 1):
            if self._nodes >= MAX_NODES or depth >= MAX_DEPTH:
                self.left_out = True
                break
            out.append(self.node(f"<b>{self._cut(str(key))}</b>: ", item, depth + 1))
        return f"<ul>{''.join(f'<li>{child}</li>' for child in out)}</ul>"

    def _scalar(self, value: Any) -> str:
        return self._cut(json.dumps(value[:MAX_TEXT] if isinstance(value, str) else value, ensure_ascii=False))

    def _cut(self, text: str) -> str:
        return escape(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…", quote=False)

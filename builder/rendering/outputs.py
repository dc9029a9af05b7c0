"""Draw the stored outputs of a code cell: streams, results, displays and errors, and the widget state of a notebook."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Any

from builder.rendering.drawing import draw_bundle
from builder.rendering.mimebundle import Bundle, Drawn, OutputContext, is_long, script_json, text_html

__all__ = ["OutputContext", "render_effects", "render_outputs", "widget_models", "widget_state_html"]

_STYLING = re.compile(r"\x1b\[[0-9;:]*m")
_EFFECT = re.compile(r"<(?:script|link|style(?!\s+scoped))", re.IGNORECASE)
"""What works beyond its own output; pandas puts a scoped style, which is for its table alone, into each table."""
_STATE = "application/vnd.jupyter.widget-state+json"


def render_outputs(cell: Mapping[str, Any], index: int, context: OutputContext, *, tracebacks: bool = True) -> str:
    """Return the HTML of the outputs of a cell, in their order, for inside `.outputs`.

    `cell` is a repaired one (`read_notebook`); without `tracebacks` an error shows its name and value alone, because
    a traceback holds source code.
    """
    scrolled = cell["metadata"].get("scrolled")
    out: list[str] = []
    for number, output in _merged(cell.get("outputs", [])):
        kind, prompt, drawn = _drawn(output, cell, index, number, context, tracebacks)
        scroll = scrolled if isinstance(scrolled, bool) else drawn.long
        if drawn.html:
            out.append(f'<div class="output {kind}{" scroll" * scroll}">{prompt}{drawn.html}</div>')
    return "".join(out)


def render_effects(cell: Mapping[str, Any], index: int, context: OutputContext) -> str:
    """Return only those outputs that act on the page around them, for cells that a dashboard hides: scripts, styles."""
    outputs = [output for output in cell.get("outputs", []) if _has_effect(output.get("data", {}))]
    return render_outputs({**cell, "outputs": outputs}, index, context) if outputs else ""


def without_source(outputs: list[dict[str, Any]], secret: Collection[str]) -> list[dict[str, Any]]:
    """Return the outputs without tracebacks and warnings that quote one of the lines of code in `secret`."""
    return [_unquoted(output, secret) for output in outputs] if secret else outputs


def _unquoted(output: dict[str, Any], secret: Collection[str]) -> dict[str, Any]:
    if output.get("output_type") == "error":
        text = _STYLING.sub("", "\n".join(output["traceback"]))
        return {**output, "traceback": []} if any(line in text for line in secret) else output
    if output.get("output_type") == "stream" and output.get("name") == "stderr":
        # Python's warnings end with the line they are about, indented by two blanks
        lines = output["text"].splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("  ") and line.strip() in secret)]
        return {**output, "text": "".join(kept)} if len(kept) < len(lines) else output
    return output


def widget_models(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids of the widgets whose state the notebook's metadata hold."""
    state = _widget_state(metadata)
    return frozenset(state["state"]) if state else frozenset()


def widget_state_html(metadata: Mapping[str, Any], secret: Collection[str] = ()) -> str:
    """Return the widget state for the page runtime; nothing for none, or for the form before ipywidgets 6.

    Where there is `secret` code, errors that output widgets caught show no traceback.
    """
    state = _widget_state(metadata)
    if state and secret:
        state = {**state, "state": {name: _without_tracebacks(model) for name, model in state["state"].items()}}
    return (script_json(_STATE, state) or "") if state else ""


def _without_tracebacks(model: Any) -> Any:
    values = model.get("state") if isinstance(model, dict) else None
    outputs = values.get("outputs") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(outputs, list | tuple):
        return model
    outputs = [
        {**output, "traceback": []} if isinstance(output, dict) and "traceback" in output else output
        for output in outputs
    ]
    return {**model, "state": {**values, "outputs": outputs}}


def _widget_state(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    widgets = metadata.get("widgets")
    state = widgets.get(_STATE) if isinstance(widgets, dict) else None
    return state if isinstance(state, dict) and isinstance(state.get("state"), dict) and state["state"] else None


def _merged(outputs: list[dict[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Join streams of the same name that follow each other: a progress bar writes over what it wrote before."""
    at = 0
    while at < len(outputs):
        output, end = outputs[at], at + 1
        if output["output_type"] == "stream":
            while end < len(outputs) and outputs[end].get("name", "") == output["name"]:
                end += 1
            if end > at + 1:
                output = {**output, "text": "".join([part["text"] for part in outputs[at:end]])}
        yield at + 1, output
        at = end


def _drawn(
    output: Mapping[str, Any], cell: Mapping[str, Any], index: int, number: int, context: OutputContext, full: bool
) -> tuple[str, str, Drawn]:
    """Return the classes, the prompt and the content of an output."""
    blank = '<div class="prompt"></div>'
    metadata = output.get("metadata", {})
    bundle = Bundle(output.get("data", {}), metadata, context, index, number, _caption(cell["metadata"]))
    if output["output_type"] == "stream":
        text = output["text"]
        html = f'<pre tabindex="0">{text_html(text, bundle.warn)}</pre>' if text else ""
        return f"stream {output['name']}", blank, Drawn(html, is_long(text))
    if output["output_type"] == "error":
        return "error", blank, _error(output, bundle, full)
    if output["output_type"] == "display_data":
        return "display", blank, draw_bundle(bundle)
    count = output.get("execution_count")
    prompt = f'<div class="prompt" aria-hidden="true">[{count}]:</div>' if count is not None else blank
    return "result", prompt, draw_bundle(bundle)


def _error(output: Mapping[str, Any], bundle: Bundle, tracebacks: bool) -> Drawn:
    text = "\n".join(output["traceback"]) if tracebacks else ""
    if text:
        return Drawn(f'<pre tabindex="0">{text_html(text, bundle.warn)}</pre>', is_long(text))
    name, value = output["ename"], output["evalue"]
    colon = ": " if value else ""
    html = f'<span class="ename">{escape(name, quote=False)}</span>{colon}{text_html(value, bundle.warn)}'
    return Drawn(f'<pre tabindex="0">{html}</pre>', is_long(value))


def _caption(metadata: Mapping[str, Any]) -> str:
    caption = metadata.get("caption")
    return caption if isinstance(caption, str) else ""


def _has_effect(data: Mapping[str, Any]) -> bool:
    html = data.get("text/html")
    return "application/javascript" in data or (isinstance(html, str) and _EFFECT.search(html) is not None)

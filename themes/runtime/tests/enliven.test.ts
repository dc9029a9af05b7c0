// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";

/** Stands for the live modules; the test hears through it what the page asked of them. */
const MODULE = "data:text/javascript,export const enliven = (...all) => globalThis.enlivened(...all), drawStored = () => globalThis.drawn()";
const NOTEBOOK = '<div class="nb" data-cells="0"><section class="cell code" data-cell="0"></section></div>';

const enlivened = vi.fn();
const drawn = vi.fn();
const fetched = vi.fn();
let crossed: (entries: { isIntersecting: boolean }[]) => void;
let observed: number;

beforeEach(() => {
  vi.stubGlobal("__LIVE_JS__", MODULE);
  vi.stubGlobal("enlivened", enlivened);
  vi.stubGlobal("drawn", drawn);
  vi.stubGlobal("fetch", fetched.mockImplementation(async () => new Response(null, { headers: { "Nbfolio-Kernels": "available" } })));
  observed = 0;
  vi.stubGlobal("IntersectionObserver", class {
    constructor(callback: typeof crossed) { crossed = callback; }
    observe(): void { observed += 1; }
    disconnect(): void {}
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  for (const mock of [enlivened, drawn, fetched]) mock.mockReset();
});

/** Opens a page, as far as the script is concerned, and gives it time to ask and to load. */
async function open(live: string | undefined, body: string, script = "http://localhost:3000/portal/assets/page.X.js"): Promise<void> {
  document.body.innerHTML = body;
  if (live === undefined) delete document.body.dataset["live"];
  else document.body.dataset["live"] = live;
  vi.spyOn(document, "currentScript", "get").mockReturnValue(script ? Object.assign(document.createElement("script"), { src: script }) : null);
  vi.resetModules();
  (await import("../src/enliven")).wireLive();
  await new Promise((resolve) => setTimeout(resolve, 20));
}

test.each([["button", false], ["auto", true]])("where kernels are, a page that says %s becomes live", async (live, auto) => {
  await open(live, NOTEBOOK);
  expect(fetched).toHaveBeenCalledExactlyOnceWith(location.href, expect.objectContaining({ method: "HEAD" }));
  await vi.waitFor(() => expect(enlivened).toHaveBeenCalledOnce());
  const [root, starts] = enlivened.mock.calls[0]!;
  expect([root.href, starts]).toEqual(["http://localhost:3000/portal/", auto]);
});

test.each([
  ["says that it is not live", "off", NOTEBOOK],
  ["says nothing", undefined, NOTEBOOK],
  ["has no code", "auto", '<div class="nb"><section class="cell markdown"></section></div>'],
  ["is a listing", undefined, "<h1>Folder</h1>"],
])("a page that %s asks for nothing", async (_, live, body) => {
  await open(live, body);
  expect([fetched, enlivened].map((mock) => mock.mock.calls.length)).toEqual([0, 0]);
});

test("on a static host, and where nobody answers, the page stays as it is", async () => {
  fetched.mockImplementation(async () => new Response(null));
  await open("auto", NOTEBOOK);
  fetched.mockImplementation(async () => { throw new TypeError("Failed to fetch"); });
  await open("auto", NOTEBOOK);
  expect(fetched).toHaveBeenCalledTimes(2);
  expect(enlivened).not.toHaveBeenCalled();
});

test("a page from the disk asks for nothing and loads nothing", async () => {
  vi.stubGlobal("location", new URL("file:///home/ada/site/dashboards/a/index.html"));
  await open("auto", NOTEBOOK + '<div class="data chart"></div>', "file:///home/ada/site/assets/page.X.js");
  expect([fetched.mock.calls.length, observed]).toEqual([0, 0]);
});

test("stored widgets and charts are drawn when the reader comes near one of them, kernels or not", async () => {
  await open("off", '<div class="data chart"></div><div class="data widget"></div><div class="data"></div>');
  expect(observed).toBe(2);
  crossed([{ isIntersecting: false }]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(drawn).not.toHaveBeenCalled();
  crossed([{ isIntersecting: false }, { isIntersecting: true }]);
  await vi.waitFor(() => expect(drawn).toHaveBeenCalledOnce());
});

test("modules that cannot be loaded leave the page as it is", async () => {
  vi.stubGlobal("__LIVE_JS__", "data:text/javascript,throw new Error('refused by a policy')");
  await open("auto", NOTEBOOK);
  expect(enlivened).not.toHaveBeenCalled();
});

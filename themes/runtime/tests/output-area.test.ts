// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { keepChart } from "../src/output/charts";
import type { OutputMessage } from "../src/output/types";

/** A chart library that draws when it is told to. */
const drawings: { value: any; finish: () => void; fail: (reason: string) => void }[] = [];
const disposed: string[] = [];
let update: ((value: unknown) => Promise<void>) | undefined;

vi.mock("../src/output/plotly", () => ({
  plotly: async (element: HTMLElement, bundle: any, mime: string, _: unknown, attach: () => void) => {
    attach();
    const value = bundle.data[mime];
    await new Promise<void>((finish, fail) => drawings.push({ value, finish, fail: (reason) => fail(new Error(reason)) }));
    element.textContent = value;
    keepChart(element, { dispose: () => void disposed.push(value), ...(update ? { update } : {}) });
  },
}));

const { OutputArea } = await import("../src/output/area");
const PLOTLY = "application/vnd.plotly.v1+json";

let element: HTMLElement;

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => {} }));
  vi.stubGlobal("requestAnimationFrame", (callback: FrameRequestCallback) => setTimeout(() => callback(0)));
  document.body.innerHTML = '<div class="outputs"></div>';
  element = document.querySelector(".outputs")!;
  drawings.length = disposed.length = 0;
  update = undefined;
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function area(into = element): InstanceType<typeof OutputArea> {
  return new OutputArea(into, { widgets: null });
}

const stream = (text: string, name = "stdout"): OutputMessage => ({ type: "stream", content: { name, text } });
const display = (data: Record<string, unknown>, id?: string): OutputMessage =>
  ({ type: "display_data", content: { data, metadata: {}, transient: id ? { display_id: id } : {} } });
const updated = (data: Record<string, unknown>, id: string): OutputMessage =>
  ({ ...display(data, id), type: "update_display_data" });
const clear = (wait: boolean): OutputMessage => ({ type: "clear_output", content: { wait } });
const settled = (): Promise<void> => new Promise((done) => setTimeout(done, 5));
const texts = (): string[] => [...element.querySelectorAll(".output")].map((node) => node.textContent);

test("streams of one name that follow each other are one", async () => {
  const outputs = area();
  for (const message of [stream("a"), stream("b\n"), stream("oops", "stderr"), stream("c")]) outputs.receive(message);
  await settled();
  expect(element.innerHTML.replaceAll(/<span>(.*?)<\/span>/gs, "$1")).toBe(
    '<div class="output stream stdout"><div class="prompt"></div><pre tabindex="0">ab\n</pre></div>' +
      '<div class="output stream stderr"><div class="prompt"></div><pre tabindex="0">oops</pre></div>' +
      '<div class="output stream stdout"><div class="prompt"></div><pre tabindex="0">c</pre></div>',
  );
});

test("a result has its number and a display has none", async () => {
  const outputs = area();
  outputs.receive({ type: "execute_result", content: { data: { "text/plain": "<3>" }, metadata: {}, execution_count: 7 } });
  outputs.receive(display({ "text/plain": "<3>" }));
  await settled();
  const data = '<div class="data" data-mime="text/plain"><pre tabindex="0">&lt;3&gt;</pre></div></div>';
  expect(element.innerHTML).toBe(
    `<div class="output result"><div class="prompt" aria-hidden="true">[7]:</div>${data}` +
      `<div class="output display"><div class="prompt"></div>${data}`,
  );
});

test("an error is brief, with its traceback folded below", () => {
  area().receive({ type: "error", content: { ename: "NameError", evalue: "no <x>", traceback: ["\x1b[31mline\x1b[0m", "<b>"] } });
  expect(element.innerHTML).toBe(
    '<div class="output error"><div class="prompt"></div><pre tabindex="0"><span class="ename">NameError</span>: no &lt;x&gt;</pre>' +
      '<details class="fold"><summary>Traceback</summary><pre tabindex="0"><span class="ansi-red-fg">line</span>\n&lt;b&gt;</pre></details></div>',
  );
});

test("an error without traceback is one line", () => {
  area().receive({ type: "error", content: { ename: "Stop", evalue: "", traceback: [] } });
  expect(element.innerHTML).toContain('<pre tabindex="0"><span class="ename">Stop</span></pre></div>');
});

test("stored outputs stay until the first new one, and the summary of a fold stays for good", async () => {
  element.innerHTML = '<summary>Show output</summary><div class="output display">stored</div>';
  const outputs = area();
  outputs.clear(true);
  expect(outputs.isEmpty).toBe(true);
  expect(texts()).toEqual(["stored"]);
  outputs.receive(stream("new"));
  expect(texts()).toEqual(["new"]);
  expect(element.firstElementChild!.outerHTML).toBe("<summary>Show output</summary>");
  expect(outputs.isEmpty).toBe(false);
});

test("clear without wait takes all away at once", () => {
  const outputs = area();
  outputs.receive(stream("a"));
  outputs.receive(clear(false));
  expect(texts()).toEqual([]);
  expect(outputs.isEmpty).toBe(true);
});

test("what waited for an output that does not come goes when the run is over", () => {
  const outputs = area();
  outputs.receive(stream("a"));
  outputs.receive(clear(true));
  expect(texts()).toEqual(["a"]);
  outputs.finish();
  expect(texts()).toEqual([]);
});

test("a clearing that waits is forgotten when the next output is there", () => {
  const outputs = area();
  outputs.receive(clear(true));
  outputs.receive(stream("a"));
  outputs.finish();
  expect(texts()).toEqual(["a"]);
});

test("an old chart is seen until the new one is drawn, which is out of sight until then", async () => {
  const outputs = area();
  outputs.receive(display({ [PLOTLY]: "old" }));
  await settled();
  drawings[0]!.finish();
  await settled();
  outputs.receive(clear(true));
  outputs.receive(display({ [PLOTLY]: "new" }));
  outputs.receive(stream("after"));
  await settled();
  const [old, next, after] = element.querySelectorAll(".output");
  expect(old!.textContent).toBe("old");
  expect(next!.classList).toContain("drawing");
  expect(after!.classList).toContain("drawing");
  expect(element.style.minHeight).not.toBe("");
  drawings[1]!.finish();
  await settled();
  expect(texts()).toEqual(["new", "after"]);
  expect(element.querySelector(".drawing")).toBeNull();
  expect(element.style.minHeight).toBe("");
  expect(disposed).toEqual(["old"]);
});

test("a chart that is never finished does not keep the old outputs for ever", async () => {
  vi.useFakeTimers();
  const outputs = area();
  outputs.receive(stream("old"));
  outputs.receive(clear(true));
  outputs.receive(display({ [PLOTLY]: "never" }));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(texts()).toEqual([""]);
  expect(element.querySelector(".drawing")).toBeNull();
});

test("new data for a display id reach every area of the page", async () => {
  document.body.append(document.createElement("div"));
  const [here, there] = [area(), area(document.body.lastElementChild as HTMLElement)];
  here.receive(display({ "text/plain": "0" }, "a"));
  there.receive(display({ "text/plain": "0" }, "a"));
  there.receive(display({ "text/plain": "other" }, "b"));
  await settled();
  there.receive(updated({ "text/plain": "1" }, "a"));
  await settled();
  expect(document.body.textContent).toBe("11other");
});

test("data for an output that was cleared away are no matter", async () => {
  const outputs = area();
  outputs.receive(display({ "text/plain": "0" }, "gone"));
  outputs.clear();
  outputs.receive(updated({ "text/plain": "1" }, "gone"));
  await settled();
  expect(texts()).toEqual([]);
});

test("of updates that come faster than they are drawn the last one wins, and none is drawn that nobody would see", async () => {
  const outputs = area();
  outputs.receive(display({ [PLOTLY]: "0" }, "x"));
  await settled();
  for (const value of ["1", "2", "3"]) outputs.receive(updated({ [PLOTLY]: value }, "x"));
  drawings[0]!.finish();
  await settled();
  expect(texts()).toEqual(["0"]);
  drawings[1]!.finish();
  await settled();
  expect(texts()).toEqual(["3"]);
  expect(drawings.map(({ value }) => value)).toEqual(["0", "3"]);
});

test("a chart that can takes new values itself", async () => {
  const values: unknown[] = [];
  update = async (value) => void values.push(value);
  const outputs = area();
  outputs.receive(display({ [PLOTLY]: "0" }, "y"));
  await settled();
  drawings[0]!.finish();
  await settled();
  outputs.receive(updated({ [PLOTLY]: "1" }, "y"));
  await settled();
  expect(values).toEqual(["1"]);
  expect(drawings).toHaveLength(1);
});

test("a chart that is cleared away while it is drawn leaves nothing behind", async () => {
  const outputs = area();
  outputs.receive(display({ [PLOTLY]: "0" }));
  await settled();
  outputs.clear();
  drawings[0]!.finish();
  await settled();
  expect(texts()).toEqual([]);
  expect(disposed).toEqual(["0"]);
});

test("of a thousand and more outputs the first and the last stay", async () => {
  const outputs = area();
  for (let count = 0; count < 1_200; count++) outputs.receive(display({ "text/plain": String(count) }));
  await settled();
  const shown = texts();
  expect(shown).toHaveLength(1_000);
  expect([shown[0], shown[499], shown[500], shown[999]]).toEqual(["0", "499", "700", "1199"]);
  expect(element.querySelector(".note")!.textContent).toBe("… 200 outputs left out …");
  outputs.clear();
  expect(element.childElementCount).toBe(0);
});

test("the first output is announced, after each clearing again", () => {
  const outputs = area();
  let first = 0;
  outputs.onFirst = () => first++;
  for (const message of [stream("a"), stream("b", "stderr"), clear(true), stream("c")]) outputs.receive(message);
  expect(first).toBe(2);
});

test.each([
  { type: "display_data", content: {} },
  { type: "display_data", content: { data: null, metadata: 3, transient: null } },
  { type: "execute_result", content: { data: { "text/plain": 3, "text/html": null } } },
  { type: "stream", content: {} },
  { type: "error", content: { traceback: "x", ename: 3 } },
  { type: "update_display_data", content: { data: {} } },
] as OutputMessage[])("a message that is not as it should be does no harm: %j", async (message) => {
  const outputs = area();
  vi.spyOn(console, "warn").mockImplementation(() => {});
  expect(() => outputs.receive(message)).not.toThrow();
  await settled();
});

test.each([[100, false], [101, true]])("a table of %i rows scrolls in a box: %s", async (rows, scrolls) => {
  area().receive(display({ "text/html": `<table>${"<tr><td>1</td></tr>".repeat(rows)}</table>` }));
  await settled();
  expect(element.firstElementChild!.classList.contains("scroll")).toBe(scrolls);
});

// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Content, Message } from "../src/live/protocol";
import type { WidgetManager } from "../src/widgets/manager";

type Sent = { type: string; content: Content; callbacks: Content };
let sent: Sent[];
let hooks: Map<string, (message: Message) => boolean>;
let drawn: string[];
let manager: WidgetManager;

/** What lumino asks of a browser and jsdom lacks. */
vi.stubGlobal("DragEvent", class extends Event {});
vi.stubGlobal("ResizeObserver", class { observe(): void {} unobserve(): void {} });
vi.stubGlobal("global", globalThis);

beforeEach(async () => {
  sent = [];
  hooks = new Map();
  drawn = [];
  vi.spyOn(console, "error").mockImplementation(() => {});
  const { WidgetManager } = await import("../src/widgets/manager");
  const kernel = {
    sendComm(type: string, content: Content, _buffers?: ArrayBuffer[], _metadata?: object, callbacks: Content = {}): string {
      sent.push({ type, content, callbacks });
      return `sent-${sent.length}`;
    },
    hook(id: string, take: (message: Message) => boolean): () => void {
      hooks.set(id, take);
      return () => void hooks.delete(id);
    },
  };
  const area = (place: string) => ({
    receive: ({ type, content }: Content) => void drawn.push(`${place} ${type} ${content.text ?? ""}`),
    clear: (wait?: boolean) => void drawn.push(`${place} clear ${wait ? "later" : "now"}`),
  });
  manager = new WidgetManager({ kernel, area: () => area("output"), cellOf: () => area("cell") });
});

afterEach(() => {
  document.body.replaceChildren();
  vi.restoreAllMocks();
});

function message(type: string, content: object, metadata = {}): Message {
  return { channel: "iopub", header: { msg_type: type, msg_id: "1" } as Message["header"], parent_header: {}, metadata, content, buffers: [] };
}

function open(id: string, name: string, state: object = {}, module = "@jupyter-widgets/controls"): Promise<void> {
  const [kind, view] = [`${name}Model`, `${name}View`];
  const named = { _model_name: kind, _model_module: module, _model_module_version: "2.0.0", _view_name: view, _view_module: module, _view_module_version: "2.0.0" };
  const data = { state: { ...named, ...state }, buffer_paths: [] };
  return manager.comm(message("comm_open", { comm_id: id, target_name: "jupyter.widget", data }, { version: "2.1.0" }));
}

function update(id: string, state: object): Promise<void> {
  return manager.comm(message("comm_msg", { comm_id: id, data: { method: "update", state, buffer_paths: [] } }));
}

async function show(id: string): Promise<HTMLElement> {
  const element = document.body.appendChild(document.createElement("div"));
  await manager.show(id, element);
  return element;
}

/** Mutation observers and lumino's messages run after what the test has done. */
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

test("a widget is drawn, follows its kernel, and says there what the reader does", async () => {
  await open("t1", "Text", { value: "before" });
  const element = await show("t1");
  const input = element.querySelector("input")!;
  expect(input.value).toBe("before");
  await update("t1", { value: "after" });
  expect(input.value).toBe("after");
  input.value = "mine";
  input.dispatchEvent(new InputEvent("input", { bubbles: true }));
  expect(sent).toMatchObject([{ type: "comm_msg", content: { comm_id: "t1", data: { method: "update", state: { value: "mine" } } } }]);
});

test("the handles of sliders have names, for those who hear the page", async () => {
  const names = (element: HTMLElement) => [...element.querySelectorAll(".noUi-handle")].map((handle) => handle.getAttribute("aria-label"));
  await open("s1", "IntSlider", { description: "Years", value: 5 });
  const slider = await show("s1");
  expect(names(slider)).toEqual(["Years"]);
  await update("s1", { description: "Months" });
  await settled();
  expect(names(slider)).toEqual(["Months"]);
  await open("s2", "IntRangeSlider", { description: "Ages", value: [1, 2] });
  expect(names(await show("s2"))).toEqual(["Ages: from", "Ages: to"]);
});

test("what comes while a change is under way is sent when the kernel is idle, in one message", async () => {
  await open("t1", "Text", { value: "" });
  const model = await manager.get_model("t1");
  for (const value of ["a", "b", "c"]) {
    model.set("value", value);
    model.save_changes();
  }
  expect(sent).toHaveLength(1);
  sent[0]!.callbacks.iopub(message("status", { execution_state: "idle" }));
  expect(sent.map(({ content }) => content.data.state.value)).toEqual(["a", "c"]);
});

test("a widget whose module is missing becomes a note that names it, beside those that are fine", async () => {
  await open("bad", "Map", {}, "../evil");
  await open("good", "Label", { value: "still here" });
  await open("box", "VBox", { children: ["IPY_MODEL_bad", "IPY_MODEL_good"], box_style: "" });
  const element = await show("box");
  await settled();
  expect(element.querySelector(".note")!.textContent).toMatch(/module with an impossible name/);
  expect(element.textContent).toContain("still here");
});

test("a view that fails is a note, and its model goes on", async () => {
  await open("x", "Text", { value: "fine", _view_name: "NoSuchView" });
  expect((await show("x")).textContent).toMatch(/needs NoSuchView of @jupyter-widgets\/controls/);
  await update("x", { value: "changed" });
  expect((await manager.get_model("x")).get("value")).toBe("changed");
});

test("a widget that does not exist is refused with a sentence", async () => {
  vi.useFakeTimers();
  const refused = expect(manager.show("nobody", document.createElement("div"))).rejects.toThrow("no longer there");
  await vi.advanceTimersByTimeAsync(3000);
  await refused;
  vi.useRealTimers();
});

test("an output that is replaced takes its views along, and one not yet on the page gets them when it is", async () => {
  await open("t1", "Text", { value: "x" });
  const model = await manager.get_model("t1");
  const early = document.createElement("div");
  await manager.show("t1", early);
  expect(early.childElementCount).toBe(0);
  document.body.append(early);
  await settled();
  expect(early.querySelector("input")).not.toBeNull();
  expect(Object.keys(model.views!)).toHaveLength(1);
  early.remove();
  await settled();
  expect(Object.keys(model.views!)).toHaveLength(0);
});

test("a callback's prints go to the cell of the view that caused it", async () => {
  await open("b", "Button", { description: "Go", tooltip: "", icon: "", style: null });
  const element = await show("b");
  element.querySelector("button")!.click();
  sent[0]!.callbacks.iopub(message("stream", { name: "stdout", text: "pressed" }));
  expect(drawn).toEqual(["cell stream pressed"]);
});

test("an Output widget takes the outputs of its message, also before it is shown, until it lets go", async () => {
  await open("o", "Output", { msg_id: "", outputs: [] }, "@jupyter-widgets/output");
  await update("o", { msg_id: "m1" });
  expect(hooks.get("m1")!(message("stream", { name: "stdout", text: "early" }))).toBe(true);
  expect(hooks.get("m1")!(message("status", { execution_state: "busy" }))).toBe(false);
  await show("o");
  hooks.get("m1")!(message("clear_output", { wait: true }));
  hooks.get("m1")!(message("stream", { name: "stdout", text: "late" }));
  expect(drawn).toEqual(["output clear later", "output stream early", "output clear_output ", "output stream late"]);
  await update("o", { msg_id: "" });
  expect(hooks.size).toBe(0);
});

test("an Output widget of a cell that was run ahead takes the outputs of the request they are played back for", async () => {
  await open("o", "Output", { msg_id: "", outputs: [] }, "@jupyter-widgets/output");
  const told = message("comm_msg", { comm_id: "o", data: { method: "update", state: { msg_id: "of-the-rehearsal" }, buffer_paths: [] } });
  await manager.comm({ ...told, parent_header: { msg_id: "of-this-page" } });
  expect([...hooks.keys()]).toEqual(["of-this-page"]);
});

test("after the kernel has lost its memory widgets stay, say so, and send nothing", async () => {
  await open("t1", "Text", { value: "x" });
  const element = await show("t1");
  manager.disconnect();
  await settled();
  expect(element.dataset["connected"]).toBe("no");
  const input = element.querySelector("input")!;
  input.value = "lost";
  input.dispatchEvent(new InputEvent("input", { bubbles: true }));
  (await manager.get_model("t1")).send({}, {});
  expect(sent).toEqual([]);
});

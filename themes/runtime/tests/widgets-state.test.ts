import { expect, test } from "vitest";
import { Outputs } from "../src/widgets/outputs";
import { currentState } from "../src/widgets/stored";

const text = (name: string, value: string) => ({ name, text: value });

test("streams of one name are one output, others begin anew", () => {
  const outputs = new Outputs([]);
  outputs.take("stream", text("stdout", "a"));
  outputs.take("stream", text("stdout", "b"));
  outputs.take("stream", text("stderr", "c"));
  expect(outputs.list()).toEqual([
    { output_type: "stream", name: "stdout", text: "ab" },
    { output_type: "stream", name: "stderr", text: "c" },
  ]);
});

test("what is cleared goes at once, or when the next output comes", () => {
  const outputs = new Outputs([{ output_type: "stream", ...text("stdout", "old") }]);
  expect(outputs.take("clear_output", { wait: true })).toBe(true);
  expect(outputs.list()).toHaveLength(1);
  outputs.take("display_data", { data: { "text/plain": "new" }, metadata: {}, transient: { display_id: "1" } });
  expect(outputs.list()).toEqual([{ output_type: "display_data", data: { "text/plain": "new" }, metadata: {} }]);
  outputs.take("clear_output", { wait: false });
  expect(outputs.list()).toEqual([]);
});

test("only outputs are taken, and only outputs are believed to be stored", () => {
  const outputs = new Outputs([null, 1, { output_type: "status" }, { output_type: "error", ename: "E" }]);
  expect(outputs.list()).toEqual([{ output_type: "error", ename: "E" }]);
  expect(["status", "update_display_data", "comm_msg"].map((type) => outputs.take(type, {}))).toEqual([false, false, false]);
  expect(new Outputs("none").list()).toEqual([]);
});

test("a list that was handed out does not change any more", () => {
  const outputs = new Outputs([]);
  outputs.take("stream", text("stdout", "a"));
  const before = outputs.list();
  outputs.take("stream", text("stdout", "b"));
  expect(before[0]!["text"]).toBe("a");
});

test("outputs without end are bounded in number and length", () => {
  const outputs = new Outputs([]);
  for (let count = 0; count < 5000; count++) outputs.take("stream", text(count % 2 ? "stdout" : "stderr", "x"));
  expect(outputs.list().length).toBeLessThanOrEqual(2000);
  for (let count = 0; count < 30; count++) outputs.take("stream", text("stdout", "y".repeat(100_000)));
  expect(String(outputs.list().at(-1)!["text"]).length).toBeLessThanOrEqual(1_000_000);
});

const model = (module: string, version: string, name: string, state: object) => ({
  model_module: module, model_module_version: version, model_name: name, state,
});
const control = (name: string, state: object, version = "1.5.0") => model("@jupyter-widgets/controls", version, name, state);
const upgraded = (one: object): Record<string, unknown> => currentState({ version_major: 2, state: { one } }).state.one.state;

test("controls of ipywidgets 7 get the names that version 8 knows", () => {
  expect(upgraded(control("IntSliderModel", { description: "<b>n</b>", description_tooltip: "how many" }))).toMatchObject({
    description_allow_html: true, tooltip: "how many",
  });
  expect(upgraded(control("AccordionModel", { children: ["a", "b", "c"], _titles: { "0": "First", "2": "Third" } }))).toMatchObject({
    titles: ["First", "", "Third"],
  });
  expect(upgraded(control("TabModel", {}))).toEqual({ selected_index: 0 });
  expect(upgraded(control("TabModel", { selected_index: null }))).toEqual({ selected_index: null });
  expect(upgraded(control("PlayModel", { _playing: true, _repeat: true }))).toMatchObject({ playing: true, repeat: true });
  expect(upgraded(control("FileUploadModel", { value: {}, data: [] }))).toMatchObject({ value: [] });
});

test("a border and an overflow of ipywidgets 7 apply to all sides", () => {
  const state = upgraded(model("@jupyter-widgets/base", "1.2.0", "LayoutModel", { border: "1px solid", overflow_x: "auto" }));
  expect(state).toMatchObject({ border_top: "1px solid", border_left: "1px solid", overflow: "auto" });
});

test("state of ipywidgets 8 and of other modules stays as it is", () => {
  const eight = control("TabModel", { titles: ["a"], description: "x" }, "2.0.0");
  const other = model("jupyter-matplotlib", "1.5.0", "MPLCanvasModel", { description: "x" });
  expect(upgraded(eight)).toEqual(eight.state);
  expect(upgraded(other)).toEqual(other.state);
});

test("a model that is none is left out, state that is none is refused with a sentence", () => {
  expect(currentState({ version_major: 2, state: { a: null, b: { model_name: 1 }, c: { state: {} } } }).state).toEqual({});
  for (const wrong of [null, "x", {}, { version_major: 1, state: {} }, { version_major: 2, state: null }]) {
    expect(() => currentState(wrong)).toThrow("in a form that this site does not know");
  }
});

// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Api } from "../src/live/api";
import { ApiError } from "../src/live/api";
import { place } from "../src/live/bar";
import { Cell } from "../src/live/cell";
import type { Kernel } from "../src/live/kernel";
import { LivePage } from "../src/live/page";
import type { Message } from "../src/live/protocol";
import { type FakeApi, FakeSocket, fakeApi, lastSocket, settled, sockets } from "./fakes";

const PAGE = `
  <main><h1>Title</h1><div class="nb nb-notebook" data-cells="1 3 4">
  <section class="cell markdown" data-cell="0"></section>
  <section class="cell code" data-cell="1"><div class="input"></div><div class="outputs"><div class="output">stored 1</div></div></section>
  <section class="cell code" data-cell="3" hidden></section>
  <section class="cell code" data-cell="4"><details class="outputs fold"><summary>Show output</summary><div class="output">stored 4</div></details></section>
  </div></main>`;

let api: FakeApi;
let cells: Cell[];
let page: LivePage;
let attached: Kernel[];

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  vi.stubGlobal("IntersectionObserver", class { observe(): void {} });
  sockets.length = 0;
  attached = [];
  document.body.innerHTML = PAGE;
  cells = [...document.querySelectorAll<HTMLElement>(".cell.code")].map((section) => new Cell(section, { widgets: null }));
  api = fakeApi();
  page = new LivePage(api as unknown as Api, { path: "/p/", query: "", version: "v" }, cells, (kernel) => void attached.push(kernel));
  place(page.bar.element, document.querySelector("main")!);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function started(): Promise<FakeSocket> {
  await page.start();
  return opened();
}

async function opened(): Promise<FakeSocket> {
  lastSocket().open();
  await settled();
  return lastSocket();
}

function words(): string {
  return document.querySelector(".live-words")!.textContent;
}

function buttons(): string[] {
  return [...document.querySelectorAll(".live-buttons button")].map((button) => button.textContent);
}

async function press(label: string): Promise<void> {
  [...document.querySelectorAll<HTMLButtonElement>(".live-buttons button")].find((button) => button.textContent === label)!.click();
  await settled();
}

function outputs(): string[] {
  return cells.map(({ element }) => (element.querySelector(".outputs")?.textContent ?? "").replace(/\s+/g, " ").trim());
}

function states(): string[] {
  return cells.map(({ state }) => state);
}

/** Lets the kernel finish the execution that was asked for last. */
async function finish(socket: FakeSocket, reply?: object): Promise<Message> {
  const request = socket.sent.at(-1)!;
  socket.run(request, reply);
  await settled();
  return request;
}

const FAILED = { status: "error", ename: "NameError", evalue: "name 'x' is not defined", traceback: [] };

// Starting

test("before anything runs the page is as it was stored, with one button", () => {
  expect([words(), buttons()]).toEqual(["Stored results", ["Run live"]]);
  expect(document.querySelector("h1 + .live-bar")).not.toBeNull();
  expect(document.querySelector(".cell-run")).toBeNull();
});

test("the cells run one after the other in the order of the notebook, hidden ones too", async () => {
  await page.start();
  expect(words()).toBe("Starting a kernel");
  const socket = await opened();
  const asked = [];
  for (const at of [1, 2, 3]) {
    expect(words()).toBe(`Running cell ${at} of 3`);
    asked.push((await finish(socket)).content.code);
    expect(socket.sent).toHaveLength(Math.min(at + 1, 3));
  }
  expect(asked).toEqual(["1", "3", "4"]);
  expect([words(), buttons()]).toEqual(["Live", ["Run all", "Restart", "Stop"]]);
  expect(states()).toEqual(["done", "done", "done"]);
  expect(attached).toHaveLength(1);
});

test("while a page waits in line it says where, asks again in time, and can give up", async () => {
  api.start.mockRejectedValueOnce(new ApiError(503, "full", 7, 3)).mockRejectedValueOnce(new ApiError(503, "No kernels just now.", 9));
  void page.start();
  await settled();
  expect([words(), buttons()]).toEqual(["All kernels are busy; place 3 in line", ["Cancel"]]);
  await vi.advanceTimersByTimeAsync(6_999);
  expect(api.start).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(1);
  expect(words()).toBe("No kernels just now.");
  await press("Cancel");
  await vi.advanceTimersByTimeAsync(60_000);
  expect(api.start).toHaveBeenCalledTimes(2);
  expect(words()).toBe("Stored results");
});

test("a page that nobody looks at holds no place in line", async () => {
  api.start.mockRejectedValueOnce(new ApiError(503, "full", 5, 1));
  const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
  void page.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(api.start).toHaveBeenCalledOnce();
  hidden.mockReturnValue(false);
  document.dispatchEvent(new Event("visibilitychange"));
  await settled();
  expect(api.start).toHaveBeenCalledTimes(2);
});

test("a kernel that comes after the reader gave up is ended", async () => {
  let answer = (_id: string): void => {};
  api.start.mockReturnValue(new Promise((resolve) => (answer = resolve)));
  void page.start();
  await press("Cancel");
  answer("late");
  await settled();
  expect(api.end).toHaveBeenCalledWith("late");
  expect(sockets).toHaveLength(0);
});

test.each([
  [new ApiError(409, "This page was updated."), "This page was updated.", "Reload"],
  [new ApiError(401, "Log in first."), "Log in first.", "Reload"],
  [new ApiError(0, "The server cannot be reached."), "The server cannot be reached.", "Try again"],
])("a refusal says why and what can be done (%s)", async (error, said, label) => {
  api.start.mockRejectedValue(error);
  await page.start();
  expect([words(), buttons()]).toEqual([said, [label]]);
});

// Outputs

test("the stored output stays until there is a new one, or the cell is done without any", async () => {
  const socket = await started();
  const [request] = socket.sent as [Message];
  socket.say("status", { execution_state: "busy" }, request);
  await settled();
  expect([outputs()[0], states()[0]]).toEqual(["stored 1", "running"]);
  await finish(socket);
  expect(outputs()[0]).toBe("out 1");
  await finish(socket);
  const last = socket.sent.at(-1)!;
  socket.say("execute_reply", { status: "ok" }, last, "shell");
  socket.say("status", { execution_state: "idle" }, last);
  await settled();
  expect(outputs()[2]).toBe("Show output");
});

test("the first error ends the run: later cells keep what they show and say that they were not run", async () => {
  const socket = await started();
  await finish(socket, FAILED);
  expect(socket.sent).toHaveLength(1);
  expect(states()).toEqual(["error", "skipped", "skipped"]);
  expect(outputs()[0]).toContain("NameError");
  expect(outputs()[2]).toBe("Show output" + "stored 4");
  expect(cells[2]!.element.querySelector(".cell-note")!.textContent).toBe("Not run.");
  expect([words(), buttons()]).toEqual(["Cell 1 failed; the cells after it were not run", ["Run all", "Restart", "Stop"]]);
});

test("what failed in a cell that nobody sees is told in the bar", async () => {
  const socket = await started();
  await finish(socket);
  await finish(socket, FAILED);
  expect(words()).toBe("A hidden cell failed: NameError: name 'x' is not defined; the cells after it were not run");
});

test("one cell can be run again, alone and after an error elsewhere", async () => {
  const socket = await started();
  await finish(socket, FAILED);
  const run = cells[2]!.element.querySelector<HTMLButtonElement>(".cell-run")!;
  expect([run.title, run.getAttribute("aria-label")]).toEqual(["Run this cell", "Run this cell"]);
  run.click();
  run.click();
  expect(words()).toBe("Running cell 3 of 3");
  expect((await finish(socket)).content.code).toBe("4");
  expect(states()).toEqual(["error", "skipped", "done"]);
  expect(outputs()[2]).toBe("Show outputout 4");
});

test("a cell that is to run already does not run twice", async () => {
  const socket = await started();
  const run = cells[2]!.element.querySelector<HTMLButtonElement>(".cell-run")!;
  run.click();
  run.click();
  for (const _ of cells) await finish(socket);
  expect(socket.sent.map(({ content }) => content.code)).toEqual(["1", "3", "4"]);
  expect(words()).toBe("Live");
});

test("an interrupt stops what runs and forgets what waits", async () => {
  const socket = await started();
  expect(buttons()).toEqual(["Interrupt", "Restart", "Stop"]);
  await press("Interrupt");
  expect(api.interrupt).toHaveBeenCalledOnce();
  await finish(socket, { ...FAILED, ename: "KeyboardInterrupt" });
  expect(states()).toEqual(["error", "skipped", "skipped"]);
  expect(words()).toBe("Interrupted");
  expect(socket.sent).toHaveLength(1);
});

// Coming and going

test("a lost connection says when it is tried again and counts", async () => {
  const socket = await started();
  socket.lose();
  expect([words(), buttons()]).toEqual(["Connection lost; trying again in 1 s", ["Try now", "Stop"]]);
  api.exists.mockRejectedValueOnce(new Error("down"));
  await vi.advanceTimersByTimeAsync(1000);
  expect(words()).toBe("Connection lost; trying again in 2 s");
  await vi.advanceTimersByTimeAsync(1000);
  expect(words()).toBe("Connection lost; trying again in 1 s");
  await press("Try now");
  await opened();
  expect(states()[0]).toBe("lost");
  expect(cells[0]!.element.textContent).toContain("It is not known how this run ended.");
  expect(words()).toBe("Cell 1 was cut off; the cells after it were not run");
  expect(vi.getTimerCount()).toBeLessThan(3);
});

test("a kernel that ended says so; Restart starts another one and runs all cells on the page as it was stored", async () => {
  const socket = await started();
  await finish(socket);
  socket.lose(4404);
  await settled();
  expect([words(), buttons()]).toEqual(["The kernel has ended", ["Restart", "Stop"]]);
  expect(outputs()[0]).toBe("out 1");
  await press("Restart");
  expect(outputs()[0]).toBe("stored 1");
  expect(api.start).toHaveBeenCalledTimes(2);
  const again = await opened();
  for (const at of [1, 2, 3]) {
    expect(states()[at - 1]).toBe("running");
    await finish(again);
  }
  expect([words(), outputs()[0]]).toEqual(["Live", "out 1"]);
});

test("a reader who is logged out reads that and can reload, for the kernel is out of reach", async () => {
  const socket = await started();
  await finish(socket);
  socket.lose(4401);
  await settled();
  expect([words(), buttons()]).toEqual(["You are logged out", ["Reload"]]);
  expect(outputs()[0]).toBe("out 1");
  await vi.advanceTimersByTimeAsync(60_000);
  expect([sockets.length, api.exists.mock.calls.length]).toEqual([1, 0]);
});

test("Restart of a kernel that lives makes that one new", async () => {
  const socket = await started();
  await finish(socket);
  await press("Restart");
  expect(api.restart).toHaveBeenCalledOnce();
  expect([words(), outputs()[0], states()[0]]).toEqual(["Restarting the kernel", "stored 1", "running"]);
  const again = await opened();
  expect(words()).toBe("Running cell 1 of 3");
  for (const _ of cells) await finish(again);
  expect(words()).toBe("Live");
  expect([api.start, attached].map((made) => ("mock" in made ? made.mock.calls.length : made.length))).toEqual([1, 1]);
});

test("when the restart fails another kernel is started", async () => {
  const socket = await started();
  await finish(socket);
  api.restart.mockRejectedValue(new ApiError(502, "gone"));
  await press("Restart");
  expect(api.start).toHaveBeenCalledTimes(2);
  const again = await opened();
  for (const _ of cells) await finish(again);
  expect([words(), attached.length]).toEqual(["Live", 2]);
});

test("Stop ends the kernel and shows the page as it was, buttons gone", async () => {
  const before = document.querySelector(".nb")!.innerHTML;
  const socket = await started();
  await finish(socket);
  await press("Stop");
  expect(api.end).toHaveBeenCalledWith("k1");
  expect(words()).toBe("Stored results");
  await vi.runAllTimersAsync(); // the height of outputs is kept for a moment
  expect(document.querySelector(".nb")!.innerHTML.replaceAll(' style=""', "")).toBe(before);
  socket.say("stream", { name: "stdout", text: "late" }, socket.sent[0]);
  await settled();
  expect(outputs()[0]).toBe("stored 1");
});

test("leaving the page ends its kernel", async () => {
  await started();
  page.leave();
  expect(api.end).toHaveBeenCalledWith("k1");
});

// Input

test("a cell asks in a form of its own, and what was answered is printed", async () => {
  const socket = await started();
  socket.say("input_request", { prompt: "Name? ", password: false }, socket.sent[0], "stdin");
  await settled();
  expect(words()).toBe("A cell asks for your input");
  const form = cells[0]!.element.querySelector("form")!;
  expect(form.querySelector("label")!.textContent).toBe("Name? ");
  const field = form.querySelector("input")!;
  expect([field.type, document.activeElement]).toEqual(["text", field]);
  field.value = "Ada";
  form.requestSubmit();
  await settled();
  expect(socket.sent.at(-1)!.content).toEqual({ status: "ok", value: "Ada" });
  expect(cells[0]!.element.querySelector("form")).toBeNull();
  expect(outputs()[0]).toBe("Name? Ada");
});

test("a password is not shown, and a question ends with its run", async () => {
  const socket = await started();
  const [request] = socket.sent as [Message];
  const ask = async () => { socket.say("input_request", { prompt: "", password: true }, request, "stdin"); await settled(); };
  await ask();
  const field = cells[0]!.element.querySelector("input")!;
  field.value = "secret";
  expect(field.type).toBe("password");
  field.form!.requestSubmit();
  await settled();
  expect(cells[0]!.element.textContent).not.toContain("secret");
  await ask();
  socket.run(request, FAILED);
  await settled();
  expect(cells[0]!.element.querySelector("form")).toBeNull();
});

test("a cell that nobody sees asks for nothing", async () => {
  const socket = await started();
  await finish(socket);
  expect(socket.sent.map(({ content }) => content.allow_stdin)).toEqual([true, false]);
});

// The bar

test("what happens is announced once it has come to rest, counting is not", async () => {
  const status = document.querySelector('[role="status"]')!;
  const socket = await started();
  expect(status.textContent).toBe("");
  await vi.advanceTimersByTimeAsync(700);
  expect(status.textContent).toBe("Running");
  for (const _ of cells) await finish(socket);
  await vi.advanceTimersByTimeAsync(700);
  expect(status.textContent).toBe("Live");
  socket.lose();
  await vi.advanceTimersByTimeAsync(900);
  expect(status.textContent).toBe("Connection lost");
});

test("the focus stays on a button that stays, and in the bar when its button goes", async () => {
  const button = document.querySelector<HTMLButtonElement>(".live-start")!;
  button.focus();
  button.click();
  await settled();
  expect(document.activeElement).toBe(page.bar.element);
  const socket = await opened();
  const restart = document.querySelector<HTMLButtonElement>(".live-restart")!;
  restart.focus();
  for (const _ of cells) await finish(socket);
  expect(document.activeElement).toBe(restart);
});

test.each([
  ['<h1>T</h1><div class="nb"></div>', "MAIN", "H1"],
  ['<div class="nb nb-notebook"><section class="cell markdown"><h1>T</h1><p>words</p></section></div>', "SECTION", "H1"],
  ['<div class="nb nb-grid"><section class="cell markdown"><h1>T</h1></section></div>', "MAIN", undefined],
  ['<div class="nb nb-notebook"><section class="cell markdown"><p>words</p><h1>T</h1></section></div>', "MAIN", undefined],
])("the bar is where the page begins (%s)", (html, parent, before) => {
  document.body.innerHTML = `<main>${html}</main>`;
  const bar = document.createElement("div");
  place(bar, document.querySelector("main")!);
  expect([bar.parentElement!.tagName, bar.previousElementSibling?.tagName]).toEqual([parent, before]);
});

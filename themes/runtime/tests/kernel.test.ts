import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "../src/live/api";
import type { ExecuteReply, Kernel } from "../src/live/kernel";
import type { Message } from "../src/live/protocol";
import { type FakeApi, FakeSocket, fakeApi, lastSocket, newKernel, settled, sockets } from "./fakes";

let api: FakeApi;
let kernel: Kernel;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  sockets.length = 0;
  api = fakeApi();
  kernel = newKernel(api);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

async function opened(): Promise<FakeSocket> {
  lastSocket().open();
  await settled();
  return lastSocket();
}

/** Runs a cell and keeps what is heard of it. */
function executing(cell: number) {
  const heard: string[] = [];
  const run = { heard, reply: undefined as ExecuteReply | undefined };
  void kernel.execute(cell, { iopub: ({ header }) => void heard.push(header.msg_type) }).then((reply) => (run.reply = reply));
  return run;
}

// Executions

test("a kernel is ready when it has answered on the framing of this runtime", async () => {
  expect(kernel.status).toBe("connecting");
  expect(lastSocket().protocols).toEqual(["v1.kernel.websocket.jupyter.org"]);
  expect(lastSocket().binaryType).toBe("arraybuffer");
  await opened();
  expect(kernel.status).toBe("idle");
});

test("a cell is run by its number, and no code is sent", async () => {
  const socket = await opened();
  executing(7);
  expect(socket.sent.map(({ channel, header, content }) => [channel, header.msg_type, content.code])).toEqual([["shell", "execute_request", "7"]]);
  expect(socket.sent[0]!.content).toMatchObject({ user_expressions: {}, store_history: true, allow_stdin: false });
});

test("what was asked for before there is a connection is sent when there is one", async () => {
  const run = executing(0);
  const socket = await opened();
  socket.run(socket.sent[0]!);
  await settled();
  expect(run.reply).toEqual({ status: "ok" });
});

test.each([["reply first", false], ["idle first", true]])("an execution is over when the kernel has replied and is idle (%s)", async (_, idleFirst) => {
  const socket = await opened();
  const run = executing(0);
  const [request] = socket.sent;
  const idle = () => socket.say("status", { execution_state: "idle" }, request);
  const reply = () => socket.say("execute_reply", { status: "error", ename: "E" }, request, "shell");
  (idleFirst ? idle : reply)();
  await settled();
  expect(run.reply).toBeUndefined();
  (idleFirst ? reply : idle)();
  await settled();
  expect(run.reply).toMatchObject({ status: "error", ename: "E" });
});

test("each execution hears its own messages, also after its end, until its cell runs again", async () => {
  const socket = await opened();
  const [first, second] = [executing(0), executing(1)];
  const [one, two] = socket.sent as [Message, Message];
  socket.run(one);
  socket.run(two);
  socket.say("stream", { name: "stdout", text: "a thread" }, one);
  await settled();
  expect(first.heard).toEqual(["status", "stream", "status", "stream"]);
  expect(second.heard).toEqual(["status", "stream", "status"]);
  executing(0);
  socket.say("stream", { name: "stdout", text: "the same thread" }, one);
  await settled();
  expect(first.heard).toHaveLength(4);
});

test("a listener that fails harms neither its execution nor the next message", async () => {
  vi.spyOn(console, "warn").mockReturnValue();
  const socket = await opened();
  const over = kernel.execute(0, { iopub: () => { throw new Error("drawing failed"); } });
  socket.run(socket.sent[0]!);
  socket.onmessage({ data: "nonsense" });
  await settled();
  expect(await over).toEqual({ status: "ok" });
  expect(kernel.status).toBe("idle");
});

test("the kernel's status is the page's", async () => {
  const seen: string[] = [];
  kernel.addEventListener("status", () => seen.push(kernel.status));
  const socket = await opened();
  executing(0);
  socket.run(socket.sent[0]!);
  await settled();
  expect(seen.slice(0, 1)).toEqual(["idle"]);
  expect(seen.slice(-2)).toEqual(["busy", "idle"]);
});

test("input is asked of the reader and answered to the request that asked", async () => {
  const socket = await opened();
  const asked: unknown[] = [];
  void kernel.execute(0, { iopub: () => {}, stdin: async (...question) => { asked.push(question); return "yes"; } });
  expect(socket.sent[0]!.content.allow_stdin).toBe(true);
  socket.say("input_request", { prompt: "Sure? ", password: true }, socket.sent[0], "stdin");
  await settled();
  expect(asked).toEqual([["Sure? ", true]]);
  const answer = socket.sent[1]!;
  expect([answer.channel, answer.header.msg_type, answer.content]).toEqual(["stdin", "input_reply", { status: "ok", value: "yes" }]);
  expect(answer.parent_header.msg_type).toBe("input_request");
});

// Comms and hooks

test("comm messages are handled strictly one after the other, however long each takes", async () => {
  const socket = await opened();
  const log: string[] = [];
  let release = (): void => {};
  kernel.onComm(async ({ header }) => {
    log.push(`begin ${header.msg_type}`);
    if (header.msg_type === "comm_open") await new Promise<void>((resolve) => (release = resolve));
    log.push(`end ${header.msg_type}`);
  });
  const run = executing(0);
  socket.say("comm_open", { comm_id: "c" }, socket.sent[0]);
  socket.say("comm_msg", { comm_id: "c" }, socket.sent[0]);
  socket.run(socket.sent[0]!);
  await settled();
  expect(log).toEqual(["begin comm_open"]);
  expect(run.heard).toEqual([]);
  release();
  await settled();
  expect(log).toEqual(["begin comm_open", "end comm_open", "begin comm_msg", "end comm_msg"]);
  expect(run.heard).toEqual(["status", "stream", "status"]);
});

test("a comm message carries its buffers, and is heard of until the kernel is idle", async () => {
  const socket = await opened();
  const heard: string[] = [];
  const id = kernel.sendComm("comm_msg", { comm_id: "c", data: {} }, [new Uint8Array([1, 2]).buffer], { m: 1 }, { iopub: ({ header }) => heard.push(header.msg_type) });
  const [sent] = socket.sent as [Message];
  expect([sent.header.msg_id, sent.metadata, sent.buffers[0]!.byteLength]).toEqual([id, { m: 1 }, 2]);
  for (const type of ["stream", "status", "stream"]) socket.say(type, { execution_state: "idle" }, sent);
  await settled();
  expect(heard).toEqual(["stream", "status"]);
});

test("a hook takes outputs from the cell, the newest first, until it is let go", async () => {
  const socket = await opened();
  const run = executing(0);
  const [request] = socket.sent as [Message];
  const log: string[] = [];
  const letGo = kernel.hook(request.header.msg_id, ({ content }) => { log.push(`old ${content.text}`); return true; });
  const letGoToo = kernel.hook(request.header.msg_id, ({ content }) => { log.push(`new ${content.text}`); return content.text === "1"; });
  const print = async (text: string) => { socket.say("stream", { name: "stdout", text }, request); await settled(); };
  await print("1");
  await print("2");
  letGoToo();
  await print("3");
  letGo();
  await print("4");
  expect(log).toEqual(["new 1", "new 2", "old 2", "old 3"]);
  expect(run.heard).toEqual(["stream"]);
});

test("the kernel tells which comms it holds", async () => {
  const socket = await opened();
  const info = kernel.commInfo("jupyter.widget");
  socket.say("comm_info_reply", { status: "ok", comms: { c: {} } }, socket.sent[0], "shell");
  expect(await info).toEqual({ c: {} });
});

// Lost and found

test("a lost connection is opened again, for the same session, and nothing is run twice", async () => {
  const socket = await opened();
  const run = executing(0);
  const [request] = socket.sent as [Message];
  socket.lose(1012);
  expect(kernel.status).toBe("reconnecting");
  expect(kernel.retryAt).toBe(Date.now() + 1000);
  await vi.advanceTimersByTimeAsync(1000);
  const again = lastSocket();
  expect(again).not.toBe(socket);
  expect(again.url).toBe(socket.url);
  again.answering = false;
  await opened();
  expect(kernel.status).toBe("busy");
  again.run(request); // what the gateway kept
  again.sign();
  await settled();
  expect(again.sent).toEqual([]);
  expect(run.reply).toEqual({ status: "ok" });
  expect(kernel.status).toBe("idle");
});

test("what got lost with the connection is over as soon as the kernel answers a later question", async () => {
  const socket = await opened();
  const run = executing(0);
  const heard: string[] = [];
  kernel.sendComm("comm_msg", { comm_id: "c" }, [], {}, { iopub: ({ content }) => heard.push(content.execution_state) });
  socket.lose();
  await vi.advanceTimersByTimeAsync(1000);
  const meanwhile = executing(1);
  const again = await opened();
  expect(run.reply).toEqual({ status: "lost" });
  expect(heard).toEqual(["idle"]);
  expect(again.sent.map(({ content }) => content.code)).toEqual(["1"]);
  again.run(again.sent[0]!);
  await settled();
  expect(meanwhile.reply).toEqual({ status: "ok" });
});

test("what a thread of an earlier cell prints is heard after the connection was lost and found", async () => {
  const socket = await opened();
  const run = executing(0);
  const [request] = socket.sent as [Message];
  socket.run(request);
  await settled();
  socket.lose();
  await vi.advanceTimersByTimeAsync(1000);
  const again = await opened();
  again.say("stream", { name: "stdout", text: "late" }, request);
  await settled();
  expect(run.heard.filter((type) => type === "stream")).toHaveLength(2);
});

test("the pauses grow, up to a quarter of a minute, and at last it waits to be told", async () => {
  api.exists.mockRejectedValue(new Error("no network"));
  (await opened()).lose();
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 6; attempt += 1) {
    pauses.push((kernel.retryAt - Date.now()) / 1000);
    await vi.advanceTimersByTimeAsync(kernel.retryAt - Date.now());
  }
  expect(pauses).toEqual([1, 2, 4, 8, 15, 15]);
  for (let attempt = 0; attempt < 100 && Number.isFinite(kernel.retryAt); attempt += 1) await vi.advanceTimersByTimeAsync(15_000);
  expect([kernel.status, kernel.retryAt]).toEqual(["reconnecting", Infinity]);
  expect(vi.getTimerCount()).toBe(0);
  api.exists.mockResolvedValue(true);
  kernel.retry();
  await settled();
  await opened();
  expect(kernel.status).toBe("idle");
});

test("a kernel that answers makes the pauses short again, one that only lets itself be called does not", async () => {
  (await opened()).lose();
  await vi.advanceTimersByTimeAsync(1000);
  lastSocket().answering = false;
  (await opened()).lose();
  expect(kernel.retryAt - Date.now()).toBe(2000);
  await vi.advanceTimersByTimeAsync(2000);
  (await opened()).lose();
  expect(kernel.retryAt - Date.now()).toBe(1000);
});

test("the reader may have it tried at once, but not twice at the same time", async () => {
  (await opened()).lose();
  kernel.retry();
  kernel.retry();
  expect(kernel.retryAt).toBe(0);
  await settled();
  expect(api.exists).toHaveBeenCalledOnce();
  expect(sockets).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sockets).toHaveLength(2);
});

test("a handshake that is never answered is given up", async () => {
  const close = vi.spyOn(lastSocket(), "close");
  await vi.advanceTimersByTimeAsync(90_000);
  expect(close).toHaveBeenCalledOnce();
});

// The end

test.each([
  ["its socket is closed for good", async (socket: FakeSocket) => socket.lose(4404)],
  ["it is not there when the connection is opened again", async (socket: FakeSocket) => {
    api.exists.mockResolvedValue(false);
    socket.lose();
    await vi.advanceTimersByTimeAsync(1000);
  }],
  ["the login of the reader has ended", async (socket: FakeSocket) => socket.lose(4401)],
  ["the login has ended while the connection was lost", async (socket: FakeSocket) => {
    api.exists.mockRejectedValue(new ApiError(401, "Log in to read this site."));
    socket.lose();
    await vi.advanceTimersByTimeAsync(1000);
  }],
  ["it says so", async (socket: FakeSocket) => socket.say("status", { execution_state: "dead" })],
  ["it has crashed", async (socket: FakeSocket) => socket.say("status", { execution_state: "restarting" })],
  ["the reader ends it", async () => kernel.close()],
])("a kernel is dead when %s: all who wait are let go, and nothing is tried again", async (how, die) => {
  const socket = await opened();
  const reset = vi.fn();
  kernel.addEventListener("reset", reset);
  const run = executing(0);
  await die(socket);
  await settled();
  expect(kernel.status).toBe("dead");
  const reason = how.startsWith("the login") ? "You are logged out" : how === "it has crashed" ? "The kernel has stopped unexpectedly" : "The kernel has ended";
  expect(kernel.reason).toBe(reason);
  expect(run.reply).toEqual({ status: "lost" });
  expect(reset).toHaveBeenCalledOnce();
  const later = executing(1);
  await settled();
  expect(later.reply).toEqual({ status: "lost" });
  const count = sockets.length;
  kernel.retry();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sockets).toHaveLength(count);
  expect(api.end).toHaveBeenCalledTimes(how.startsWith("it has") || how.startsWith("the reader") ? 1 : 0);
});

test("a restart forgets what was running, connects anew and then runs what is asked for", async () => {
  const socket = await opened();
  const reset = vi.fn();
  kernel.addEventListener("reset", reset);
  const run = executing(0);
  let answer = (): void => {};
  api.restart.mockReturnValue(new Promise((resolve) => (answer = resolve)));
  const restarted = kernel.restart();
  expect(kernel.status).toBe("restarting");
  expect(reset).toHaveBeenCalledOnce();
  const after = executing(0);
  await settled();
  expect(run.reply).toEqual({ status: "lost" });
  answer();
  await restarted;
  const again = await opened();
  expect(again).not.toBe(socket);
  socket.lose(1006); // the old one, late
  expect(kernel.status).toBe("idle");
  again.run(again.sent[0]!);
  await settled();
  expect(after.reply).toEqual({ status: "ok" });
});

test("a restart that fails ends the kernel", async () => {
  await opened();
  api.restart.mockRejectedValue(new Error("502"));
  await expect(kernel.restart()).rejects.toThrow("502");
  expect(kernel.status).toBe("dead");
  expect(api.end).toHaveBeenCalledOnce();
});

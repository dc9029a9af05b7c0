import { expect, test } from "vitest";
import type { Content, Message } from "../src/live/protocol";
import { MOST_BYTES, WidgetComm } from "../src/widgets/comm";

interface Sent {
  type: string;
  content: Content;
  buffers: ArrayBuffer[];
  hear(type: string, content?: object): void;
}

function message(type: string, content: object): Message {
  return { channel: "iopub", header: { msg_type: type, msg_id: "1" } as Message["header"], parent_header: {}, metadata: {}, content, buffers: [] };
}

function open() {
  const sent: Sent[] = [];
  const refused: (string | undefined)[] = [];
  const kernel = {
    sendComm(type: string, content: Content, buffers: ArrayBuffer[] = [], _metadata = {}, callbacks: Content = {}): string {
      sent.push({ type, content, buffers, hear: (kind, told = {}) => callbacks.iopub(message(kind, told)) });
      return `id-${sent.length}`;
    },
    hook: () => () => {},
  };
  return { sent, refused, comm: new WidgetComm(kernel, "jupyter.widget", "c1", (reason) => refused.push(reason)) };
}

test("what is sent carries its comm, and its id is returned", () => {
  const { comm, sent } = open();
  expect(comm.open({ state: {} }, {}, { version: "2" })).toBe("id-1");
  expect(comm.send({ method: "update" })).toBe("id-2");
  comm.close();
  expect(sent.map(({ type, content }) => [type, content])).toEqual([
    ["comm_open", { comm_id: "c1", target_name: "jupyter.widget", data: { state: {} } }],
    ["comm_msg", { comm_id: "c1", data: { method: "update" } }],
    ["comm_close", { comm_id: "c1", data: {} }],
  ]);
});

test("a view into a larger buffer is sent as its own bytes alone", () => {
  const { comm, sent } = open();
  comm.send({}, {}, {}, [new Uint8Array([1, 2, 3, 4]).subarray(1, 3)]);
  expect(new Uint8Array(sent[0]!.buffers[0]!)).toEqual(new Uint8Array([2, 3]));
});

test("callbacks hear what a message brings about: status, clearing and outputs, not the rest", () => {
  const { comm, sent } = open();
  const heard: string[] = [];
  const note = (kind: string) => (told: Content) => void heard.push(`${kind} ${told.header.msg_type}`);
  comm.send({}, { iopub: { status: note("status"), clear_output: note("clear"), output: note("output") } });
  for (const type of ["status", "clear_output", "stream", "error", "display_data", "update_display_data", "comm_msg", "execute_input"]) {
    sent[0]!.hear(type);
  }
  expect(heard).toEqual([
    "status status", "clear clear_output", "output stream", "output error", "output display_data", "output update_display_data",
  ]);
});

test("what is larger than the server takes is not sent, its sender told why and let go", async () => {
  const { comm, sent, refused } = open();
  const states: string[] = [];
  const status = (told: Content): unknown => states.push(told.content.execution_state);
  expect(comm.send({}, { iopub: { status } }, {}, [new ArrayBuffer(MOST_BYTES)])).toBe("");
  expect(comm.send({ text: "ä".repeat(MOST_BYTES / 2) }, { iopub: { status } })).toBe("");
  await Promise.resolve();
  expect(sent).toEqual([]);
  expect(states).toEqual(["idle", "idle"]);
  expect(refused[0]).toBe("Not sent: 8 MB is too much, a page may send just under 8 MB at once.");
  comm.send({}, {}, {}, Array.from({ length: 60 }, () => new ArrayBuffer(1)));
  expect(refused.at(-1)).toBe("Not sent: a page may send 50 files at once, not 60.");
  comm.send({});
  expect(refused.at(-1)).toBeUndefined();
});

test("after its kernel is gone, or either side has closed it, a comm sends nothing", async () => {
  for (const end of [(comm: WidgetComm) => comm.cut(), (comm: WidgetComm) => comm.receive(message("comm_close", {}))]) {
    const { comm, sent } = open();
    await end(comm);
    expect(comm.send({})).toBe("");
    expect(sent).toEqual([]);
  }
});

test("messages go to the model, which may take its time", async () => {
  const { comm } = open();
  const got: string[] = [];
  comm.on_msg(async (told) => {
    await Promise.resolve();
    got.push(told.content.n);
  });
  comm.on_close(() => got.push("closed"));
  await comm.receive(message("comm_msg", { n: "first" }));
  await comm.receive(message("comm_close", {}));
  expect(got).toEqual(["first", "closed"]);
});

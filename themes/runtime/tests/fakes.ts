/** A WebSocket and a REST interface as a kernel's server has them, driven by the test. */
import { vi } from "vitest";
import type { Api } from "../src/live/api";
import { Kernel } from "../src/live/kernel";
import { type Content, type Message, newHeader, pack, unpack } from "../src/live/protocol";

/** Every socket that was opened, oldest first. */
export const sockets: FakeSocket[] = [];

export class FakeSocket {
  static readonly OPEN = 1;
  readyState = 0;
  binaryType = "";
  /** What the client sent, without its questions for a sign of life, which `answering` sockets answer. */
  readonly sent: Message[] = [];
  answering = true;
  onopen = (): void => {};
  onmessage = (_event: { data: unknown }): void => {};
  onclose = (_event: { code: number }): void => {};

  constructor(readonly url: string, readonly protocols: string[]) {
    sockets.push(this);
  }

  send(frame: ArrayBuffer): void {
    const message = unpack(frame);
    if (message.header.msg_type !== "kernel_info_request") return void this.sent.push(message);
    if (this.answering) this.sign(message);
    else this.asked = message;
  }

  /** The question for a sign of life that waits for its answer. */
  asked: Message | undefined;

  sign(message = this.asked!): void {
    this.say("kernel_info_reply", { status: "ok" }, message, "shell");
    this.say("status", { execution_state: "idle" }, message);
  }

  close(): void {
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen();
  }

  lose(code = 1006): void {
    this.readyState = 3;
    this.onclose({ code });
  }

  /** A message of the kernel. */
  say(type: string, content: Content, parent?: { header: Message["header"] }, channel: Message["channel"] = "iopub", buffers: ArrayBuffer[] = []): void {
    this.onmessage({ data: pack({ channel, header: newHeader(type, "k"), parent_header: parent?.header ?? {}, metadata: {}, content, buffers }) });
  }

  /** What a kernel says around an execution that prints its number. */
  run(request: Message, reply: Content = { status: "ok" }): void {
    this.say("status", { execution_state: "busy" }, request);
    if (reply.status === "error") this.say("error", reply, request);
    else this.say("stream", { name: "stdout", text: `out ${request.content.code}` }, request);
    this.say("execute_reply", reply, request, "shell");
    this.say("status", { execution_state: "idle" }, request);
  }
}

export function fakeApi() {
  return {
    session: "s".repeat(32),
    socketUrl: (id: string) => `ws://x/api/kernels/${id}/channels`,
    start: vi.fn(async () => "k1"),
    exists: vi.fn(async () => true),
    interrupt: vi.fn(async () => {}),
    restart: vi.fn(async () => {}),
    end: vi.fn(async () => {}),
  };
}

export type FakeApi = ReturnType<typeof fakeApi>;

export function newKernel(api: FakeApi): Kernel {
  return new Kernel(api as unknown as Api, "k1");
}

export function lastSocket(): FakeSocket {
  return sockets.at(-1)!;
}

/** Lets all that is ready to run do so, under fake timers too. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}

/** One kernel: executions, comms, hooks, status. Knows nothing of pages, cells or widgets. */
import type { Api } from "./api";
import { Connection } from "./connection";
import { type Content, type Message, newHeader, pack, unpack } from "./protocol";

/** `reconnecting`: the connection is lost, the kernel may live; `dead`: this kernel will never answer again. */
export type Status = "connecting" | "idle" | "busy" | "reconnecting" | "restarting" | "dead";

/** How an execution ended: what the kernel replied, or `lost` when kernel or connection went away before it did. */
export interface ExecuteReply {
  status: "ok" | "error" | "aborted" | "lost";
  ename?: string;
  evalue?: string;
}

/** What an execution reports while it runs, and afterwards: threads of a cell print long after it is done. */
export interface ExecuteHandler {
  iopub(message: Message): void;
  /** Asks the reader for the text that the kernel waits for. */
  stdin?(prompt: string, password: boolean): Promise<string>;
}

/** Gets all that the kernel publishes because of one comm message, up to and with its status `idle`. */
export interface CommCallbacks {
  iopub?(message: Message): void;
}

export type CommType = "comm_open" | "comm_msg" | "comm_close";
type Hook = (message: Message) => boolean;

/** Who waits for what a message brings about, and until when. An execution's is heard until its cell runs again. */
interface Waiting {
  until: "idle" | "reply" | number;
  iopub?(message: Message): void;
  reply?(content: Content): void;
  stdin?: ExecuteHandler["stdin"];
  /** The execution is over; what its threads still print is heard. */
  settled?: boolean;
}

interface Outgoing {
  channel?: "shell" | "stdin";
  type: string;
  content: Content;
  waiting?: Waiting;
  metadata?: Record<string, unknown>;
  buffers?: ArrayBuffer[];
  parent?: Message["parent_header"];
}

const MOST_UNSENT = 500;
const LOST: ExecuteReply = { status: "lost" };
const CRASHED = "The kernel has stopped unexpectedly";
const GONE = "The kernel has ended";
export const LOGGED_OUT = "You are logged out";

/**
 * A kernel that was started. Events: `status` when `status` or `retryAt` changed; `reset` when the kernel lost its memory
 * (it is restarted or dead): no comm of before is alive.
 */
export class Kernel extends EventTarget {
  private current: Status = "connecting";
  private unsent: { id: string; frame: ArrayBuffer }[] = [];
  private readonly waiting = new Map<string, Waiting>();
  private readonly hooks = new Map<string, Hook[]>();
  private readonly connection: Connection;
  private target: (message: Message) => void | Promise<void> = () => {};
  private order: Promise<void> = Promise.resolve();

  /** Once it is dead: why, in words. */
  reason = GONE;

  constructor(private readonly api: Api, readonly id: string) {
    super();
    this.connection = new Connection(api.socketUrl(id), () => api.exists(id), {
      opened: () => void this.meet(),
      received: (frame) => this.queue(frame),
      lost: () => this.become("reconnecting"),
      over: (loggedOut) => this.die(loggedOut ? LOGGED_OUT : GONE),
    });
    this.connection.open();
  }

  get status(): Status {
    return this.current;
  }

  /** When it will try to reconnect, in milliseconds since 1970; 0 while it does, infinity when it waits to be told to. */
  get retryAt(): number {
    return this.connection.retryAt;
  }

  /** Runs a cell by its number; resolves when the kernel has replied and is idle again, or it is lost. Never rejects. */
  execute(cell: number, handler: ExecuteHandler): Promise<ExecuteReply> {
    for (const [id, { until }] of this.waiting) if (until === cell) this.waiting.delete(id);
    const content = {
      code: String(cell), silent: false, store_history: true, user_expressions: {}, allow_stdin: !!handler.stdin, stop_on_error: true,
    };
    return new Promise((resolve) => {
      let reply: ExecuteReply | undefined;
      let idle = false;
      const settle = (): void => {
        if (!reply || !idle) return;
        waiting.settled = true;
        resolve(reply);
      };
      const waiting: Waiting = {
        until: cell,
        stdin: handler.stdin,
        iopub: (message) => {
          idle ||= message.header.msg_type === "status" && message.content.execution_state === "idle";
          try {
            handler.iopub(message);
          } finally {
            settle();
          }
        },
        reply: (told: ExecuteReply) => {
          reply ??= told;
          idle ||= told === LOST;
          settle();
        },
      };
      this.send({ type: "execute_request", content, waiting });
    });
  }

  /** Sends a comm message and returns its id; `callbacks` are let go by a status `idle`, also when the message got lost. */
  sendComm(
    type: CommType, content: Content, buffers: ArrayBuffer[] = [], metadata: Record<string, unknown> = {}, callbacks: CommCallbacks = {},
  ): string {
    const waiting: Waiting = { until: "idle", iopub: (message) => callbacks.iopub?.(message) };
    return this.send({ type, content, waiting, metadata, buffers });
  }

  /** The comms of one target that the kernel holds, by id; {} when it cannot be asked. */
  async commInfo(targetName: string): Promise<Record<string, Content>> {
    return (await this.request("comm_info_request", { target_name: targetName })).comms ?? {};
  }

  /** What handles comm_open, comm_msg and comm_close of the kernel: strictly one after the other, each is awaited. */
  onComm(target: (message: Message) => void | Promise<void>): void {
    this.target = target;
  }

  /** Offers the outputs of one parent message to `take`, which tells whether it took one; the newest hook comes first. */
  hook(parentId: string, take: Hook): () => void {
    this.hooks.set(parentId, [take, ...(this.hooks.get(parentId) ?? [])]);
    return () => {
      const rest = (this.hooks.get(parentId) ?? []).filter((hook) => hook !== take);
      if (rest.length) this.hooks.set(parentId, rest);
      else this.hooks.delete(parentId);
    };
  }

  async interrupt(): Promise<void> {
    await this.api.interrupt(this.id);
  }

  /** Restarts the kernel; what was running is lost. Rejects when that fails, and then the kernel is dead. */
  async restart(): Promise<void> {
    this.become("restarting");
    this.forget();
    this.connection.drop();
    try {
      await this.api.restart(this.id);
    } catch (error) {
      await this.close();
      throw error;
    }
    // A new connection: the kernel may have new ports, and its gateway sees to it that nothing it says is missed.
    if (this.current === "restarting") this.connection.open();
  }

  /** Ends the kernel. */
  async close(): Promise<void> {
    this.die(GONE);
    await this.api.end(this.id);
  }

  /** Reconnects now rather than when it was planned. */
  retry(): void {
    if (this.current === "reconnecting") this.connection.retry();
  }

  private request(type: string, content: Content): Promise<Content> {
    return new Promise((resolve) => this.send({ type, content, waiting: { until: "reply", reply: resolve } }));
  }

  private send({ channel = "shell", type, content, waiting, metadata = {}, buffers = [], parent = {} }: Outgoing): string {
    const header = newHeader(type, this.api.session);
    const id = header.msg_id;
    if (waiting) this.waiting.set(id, waiting);
    const frame = pack({ channel, header, parent_header: parent, metadata, content, buffers });
    if (this.current === "dead") queueMicrotask(() => this.lose([id]));
    else if (!this.connection.send(frame) && this.unsent.push({ id, frame }) > MOST_UNSENT) this.lose([this.unsent.shift()!.id]);
    return id;
  }

  /** Handles one message after the other: a comm must be open before what is said on it is handled. */
  private queue(frame: ArrayBuffer): void {
    this.order = this.order.then(() => this.receive(unpack(frame))).catch((error: unknown) => console.warn("A message was left out.", error));
  }

  private receive(message: Message): void | Promise<void> {
    if (this.current === "dead") return;
    const parent = message.parent_header.msg_id ?? "";
    const waiting = this.waiting.get(parent);
    const type = message.header.msg_type;
    if (message.channel === "stdin") return void this.answer(message, waiting?.stdin);
    if (message.channel !== "iopub") {
      if (waiting?.until === "reply") this.waiting.delete(parent);
      return waiting?.reply?.(message.content);
    }
    if (type === "status") return this.told(message, parent, waiting);
    if (type === "comm_open" || type === "comm_msg" || type === "comm_close") return this.target(message);
    if (!(this.hooks.get(parent) ?? []).some((take) => take(message))) waiting?.iopub?.(message);
  }

  private told(message: Message, parent: string, waiting: Waiting | undefined): void {
    const state: unknown = message.content.execution_state;
    if (state === "idle" && waiting?.until === "idle") this.waiting.delete(parent);
    if (state === "dead") this.die(GONE);
    else if (state === "restarting" && this.current !== "restarting") this.crashed();
    else if ((this.current === "idle" || this.current === "busy") && (state === "idle" || state === "busy")) this.become(state);
    waiting?.iopub?.(message);
  }

  private async answer(request: Message, ask: ExecuteHandler["stdin"]): Promise<void> {
    if (request.header.msg_type !== "input_request" || !ask) return;
    const value = await ask(String(request.content.prompt ?? ""), request.content.password === true);
    this.send({ channel: "stdin", type: "input_reply", content: { status: "ok", value }, parent: request.header });
  }

  /**
   * Asks the kernel for a sign of life on a new connection. It answers one request after the other, and what was kept for this
   * session comes first: what was asked on an earlier connection and still has no answer then has been lost with it.
   */
  private async meet(): Promise<void> {
    const unsent = this.unsent.splice(0);
    const asked = [...this.waiting.keys()].filter((id) => !this.waiting.get(id)!.settled && !unsent.some((one) => one.id === id));
    if (this.current === "reconnecting" && asked.length) this.become("busy");
    const sign = this.request("kernel_info_request", {});
    for (const { frame } of unsent) this.connection.send(frame);
    if ((await sign) === LOST) return;
    this.connection.proved();
    this.lose(asked);
    if (this.current !== "busy" && this.current !== "idle") this.become("idle");
  }

  private crashed(): void {
    this.die(CRASHED);
    void this.api.end(this.id); // its gateway starts another in its place, which knows nothing
  }

  private die(reason: string): void {
    if (this.current === "dead") return;
    this.reason = reason;
    this.connection.close();
    this.become("dead");
    this.forget();
  }

  private forget(): void {
    this.unsent = [];
    this.lose([...this.waiting.keys()]);
    this.hooks.clear();
    this.dispatchEvent(new Event("reset"));
  }

  /** Lets go of those who wait for something that will not come. */
  private lose(ids: Iterable<string>): void {
    for (const id of ids) {
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      waiting?.reply?.(LOST);
      if (waiting?.until === "idle") waiting.iopub?.(idleStatus(id));
    }
  }

  private become(status: Status): void {
    this.current = status;
    this.dispatchEvent(new Event("status"));
  }
}

/** What a kernel says when it is done with a message. */
function idleStatus(id: string): Message {
  const content = { execution_state: "idle" };
  return { channel: "iopub", header: newHeader("status", ""), parent_header: { msg_id: id }, metadata: {}, content, buffers: [] };
}

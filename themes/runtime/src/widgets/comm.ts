/** One comm, as the models of @jupyter-widgets/base expect it, over a kernel of the page. */
import type { IClassicComm, ICallbacks } from "@jupyter-widgets/base";
import type { Content, Message } from "../live/protocol";
import type { KernelLike } from "./types";

/** The server closes the connection of a page that sends more than this in one message. */
export const MOST_BYTES = 8 * 2 ** 20;
/** Nor does it take more buffers, such as files, in one message. */
const MOST_BUFFERS = 50;
/** What header and framing may take of it. */
const ENVELOPE_BYTES = 8 * 2 ** 10;

const OUTPUTS = new Set(["display_data", "update_display_data", "execute_result", "stream", "error"]);

/** All that models look at in a status. */
const IDLE = { content: { execution_state: "idle" } };

type Buffers = ArrayBuffer[] | ArrayBufferView[] | undefined;
type Handler = (message: Message) => unknown;

export class WidgetComm implements IClassicComm {
  private message: Handler = () => {};
  private closed: Handler = () => {};
  private alive = true;

  /** `refused` is told why a message was not sent; undefined when one was sent. */
  constructor(
    private readonly kernel: KernelLike,
    readonly target_name: string,
    readonly comm_id: string,
    private readonly refused: (reason: string | undefined) => void,
  ) {}

  open(data: Content, callbacks?: ICallbacks, metadata?: Content, buffers?: Buffers): string {
    return this.post("comm_open", { target_name: this.target_name, data }, callbacks, metadata, buffers);
  }

  send(data: Content, callbacks?: ICallbacks, metadata?: Content, buffers?: Buffers): string {
    return this.post("comm_msg", { data }, callbacks, metadata, buffers);
  }

  close(data: Content = {}, callbacks?: ICallbacks, metadata?: Content, buffers?: Buffers): string {
    const id = this.post("comm_close", { data }, callbacks, metadata, buffers);
    this.alive = false;
    return id;
  }

  on_msg(callback: Handler): void {
    this.message = callback;
  }

  on_close(callback: Handler): void {
    this.closed = callback;
  }

  /** Hands a comm_msg or comm_close of the kernel to the model; resolves when the model has taken it in. */
  async receive(message: Message): Promise<void> {
    if (message.header.msg_type === "comm_close") {
      this.alive = false;
      this.closed(message);
    } else await this.message(message);
  }

  /** The kernel at the other end is gone: nothing is sent any more, also not to one that comes after it. */
  cut(): void {
    this.alive = false;
  }

  private post(
    type: "comm_open" | "comm_msg" | "comm_close", content: Content, callbacks?: ICallbacks, metadata: Content = {}, buffers?: Buffers,
  ): string {
    if (!this.alive) return "";
    const told = { comm_id: this.comm_id, ...content };
    const copies = (buffers ?? []).map(copyOf);
    const problem = problemOf(new Blob([JSON.stringify(told), ...copies]).size, copies.length);
    if (problem) {
      this.refused(problem);
      queueMicrotask(() => callbacks?.iopub?.["status"]?.(IDLE as Content));
      return "";
    }
    if (type === "comm_msg") this.refused(undefined);
    return this.kernel.sendComm(type, told, copies, metadata, { iopub: (message) => dispatch(message, callbacks?.iopub) });
  }
}

/** Why a message of `bytes` with so many buffers cannot be sent, as a sentence; undefined when it can. */
export function problemOf(bytes: number, buffers: number): string | undefined {
  if (buffers > MOST_BUFFERS) return `Not sent: a page may send ${MOST_BUFFERS} files at once, not ${buffers}.`;
  if (bytes <= MOST_BYTES - ENVELOPE_BYTES) return undefined;
  const megabytes = (count: number): string => (count / 2 ** 20).toFixed(1).replace(/\.0$/, "");
  return `Not sent: ${megabytes(bytes)} MB is too much, a page may send just under ${megabytes(MOST_BYTES)} MB at once.`;
}

function copyOf(buffer: ArrayBuffer | ArrayBufferView): ArrayBuffer {
  if (!ArrayBuffer.isView(buffer)) return buffer;
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength) as ArrayBuffer;
}

/** Models wait for the status `idle` before they send what was moved meanwhile. */
function dispatch(message: Message, callbacks: Content = {}): void {
  const type = message.header.msg_type;
  if (type === "status") callbacks.status?.(message);
  else if (type === "clear_output") callbacks.clear_output?.(message);
  else if (OUTPUTS.has(type)) callbacks.output?.(message);
}

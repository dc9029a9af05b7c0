/** The Jupyter message format and its framing `v1.kernel.websocket.jupyter.org`. No sockets, no DOM. */
export const SUBPROTOCOL = "v1.kernel.websocket.jupyter.org";

export type Channel = "shell" | "iopub" | "control" | "stdin";

/** What a message type holds is for its handler to check; no kernel is trusted to keep to the standard. */
export type Content = any;

export interface Header {
  msg_id: string;
  msg_type: string;
  session: string;
  username: string;
  date: string;
  version: string;
}

export interface Message {
  channel: Channel;
  header: Header;
  parent_header: Partial<Header>;
  metadata: Record<string, unknown>;
  content: Content;
  /** Each holds its own bytes and nothing else: widgets read a buffer whole. */
  buffers: ArrayBuffer[];
}

/** A frame that is not what the framing says. */
export class ProtocolError extends Error {}

/** 32 hexadecimal digits nobody can guess. Not `randomUUID`, which browsers withhold on plain http. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newHeader(type: string, session: string): Header {
  return { msg_id: newId(), msg_type: type, session, username: "", date: new Date().toISOString(), version: "5.3" };
}

const WORD = 8;
const JSON_PARTS = 4;
const MOST_PARTS = 10_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One frame: the number of offsets, the offsets (64 bits, little-endian), then channel, four JSON parts and the buffers. */
export function pack(message: Message): ArrayBuffer {
  const texts = [message.header, message.parent_header, message.metadata, message.content].map((part) => JSON.stringify(part));
  const parts = [...[message.channel, ...texts].map((text) => encoder.encode(text)), ...message.buffers.map((buffer) => new Uint8Array(buffer))];
  const offsets = [WORD * (parts.length + 2)];
  for (const part of parts) offsets.push(offsets.at(-1)! + part.byteLength);
  const frame = new Uint8Array(offsets.at(-1)!);
  const table = new DataView(frame.buffer);
  [offsets.length, ...offsets].forEach((word, index) => table.setBigUint64(WORD * index, BigInt(word), true));
  parts.forEach((part, index) => frame.set(part, offsets[index]));
  return frame.buffer;
}

/** The message in a frame; throws `ProtocolError` when it is none. */
export function unpack(frame: ArrayBuffer): Message {
  try {
    const offsets = readOffsets(frame);
    const text = (index: number): string => decoder.decode(frame.slice(offsets[index], offsets[index + 1]));
    const [header, parent, metadata, content] = Array.from({ length: JSON_PARTS }, (_, index) => JSON.parse(text(index + 1)));
    if (typeof header?.msg_id !== "string" || typeof header.msg_type !== "string") throw new ProtocolError("no header");
    const buffers = offsets.slice(JSON_PARTS + 1, -1).map((start, index) => frame.slice(start, offsets[index + JSON_PARTS + 2]));
    return { channel: text(0) as Channel, header, parent_header: parent ?? {}, metadata: metadata ?? {}, content: content ?? {}, buffers };
  } catch (error) {
    throw error instanceof ProtocolError ? error : new ProtocolError(String(error));
  }
}

function readOffsets(frame: ArrayBuffer): number[] {
  const table = new DataView(frame);
  const word = (index: number): number => Number(table.getBigUint64(WORD * index, true));
  const count = word(0);
  if (count < JSON_PARTS + 2 || count > MOST_PARTS) throw new ProtocolError(`${count} offsets`);
  const offsets = Array.from({ length: count }, (_, index) => word(index + 1));
  const inOrder = offsets.every((offset, index) => offset >= (offsets[index - 1] ?? WORD * (count + 1)));
  if (!inOrder || offsets.at(-1)! > frame.byteLength) throw new ProtocolError("offsets outside of the frame");
  return offsets;
}

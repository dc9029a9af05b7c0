import { expect, test } from "vitest";
import { type Message, ProtocolError, newHeader, newId, pack, unpack } from "../src/live/protocol";

function message(parts: Partial<Message> = {}): Message {
  return { channel: "shell", header: newHeader("comm_msg", "s"), parent_header: {}, metadata: {}, content: { a: "ä\u2028😀" }, buffers: [], ...parts };
}

function bytes(...values: number[]): ArrayBuffer {
  return new Uint8Array(values).buffer;
}

test.each([
  ["no buffers", []],
  ["empty ones", [bytes(), bytes()]],
  ["several", [bytes(1, 2, 3), bytes(), bytes(255)]],
])("a message survives the framing (%s)", (_, buffers) => {
  const sent = message({ buffers, metadata: { m: 1 }, parent_header: newHeader("x", "s") });
  const got = unpack(pack(sent));
  expect({ ...got, buffers: [] }).toEqual({ ...sent, buffers: [] });
  expect(got.buffers.map((buffer) => [...new Uint8Array(buffer)])).toEqual(buffers.map((buffer) => [...new Uint8Array(buffer)]));
});

test("buffers hold their own bytes alone and do not change with the frame", () => {
  const frame = pack(message({ buffers: [bytes(7, 8)] }));
  const [buffer] = unpack(frame).buffers;
  new Uint8Array(frame).fill(0);
  expect(buffer).toBeInstanceOf(ArrayBuffer);
  expect([...new Uint8Array(buffer!)]).toEqual([7, 8]);
});

test("the frame is what the servers of the framing expect", () => {
  const frame = pack(message({ header: { ...newHeader("t", "s"), msg_id: "i" }, content: {}, buffers: [bytes(9)] }));
  const table = new DataView(frame);
  const words = Array.from({ length: 8 }, (_, index) => Number(table.getBigUint64(8 * index, true)));
  expect(words[0]).toBe(7);
  expect(words[1]).toBe(64);
  expect(words.at(-1)).toBe(frame.byteLength);
  const text = (index: number) => new TextDecoder().decode(frame.slice(words[index], words[index + 1]));
  expect(text(1)).toBe("shell");
  expect(JSON.parse(text(2))).toMatchObject({ msg_id: "i", msg_type: "t" });
  expect([text(3), text(4), text(5)]).toEqual(["{}", "{}", "{}"]);
});

function words(...values: (number | bigint)[]): ArrayBuffer {
  return new BigUint64Array(values.map(BigInt)).buffer;
}

test.each([
  ["nothing", bytes()],
  ["no offsets", words(0)],
  ["too few", words(3, 32, 32, 32)],
  ["far too many", words(2n ** 62n)],
  ["more offsets than there are bytes", words(9, 80)],
  ["offsets inside of the table", words(6, 8, 56, 56, 56, 56, 56)],
  ["offsets that go back", words(6, 56, 64, 60, 64, 64, 64, 0)],
  ["offsets behind the end", words(6, 56, 56, 56, 56, 56, 1000)],
  ["no JSON", words(6, 56, 57, 58, 59, 60, 61, 0)],
])("a frame with %s is refused", (_, frame) => {
  expect(() => unpack(frame)).toThrow(ProtocolError);
});

test("a text frame, and a message whose header is none, are refused", () => {
  expect(() => unpack("{}" as unknown as ArrayBuffer)).toThrow(ProtocolError);
  expect(() => unpack(pack(message({ header: { msg_id: 1 } as unknown as Message["header"] })))).toThrow(ProtocolError);
  expect(() => unpack(pack(message({ header: null as unknown as Message["header"] })))).toThrow(ProtocolError);
});

test("ids are 32 hexadecimal digits, no two the same", () => {
  const ids = Array.from({ length: 100 }, newId);
  expect(new Set(ids).size).toBe(100);
  expect(ids.every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true);
});

// @vitest-environment jsdom
import { afterEach, expect, test, vi } from "vitest";
import cases from "../../../tests/terminal-cases.json";
import { StreamView, textHtml } from "../src/output/stream";
import { Screen, terminalHtml } from "../src/output/terminal";

afterEach(() => vi.restoreAllMocks());

const plain = (html: string): string => {
  const holder = document.createElement("pre");
  holder.innerHTML = html;
  return holder.textContent;
};

/** Stretches of one style that follow each other are one for readers. */
function joined(html: string): string {
  const shorter = html.replace(/(<span[^>]*>)([^<]*)<\/span>\1/g, "$1$2");
  return shorter === html ? html : joined(shorter);
}

/** Runs what waits for the next frame. */
function frames(): () => void {
  const waiting: FrameRequestCallback[] = [];
  vi.spyOn(globalThis, "requestAnimationFrame").mockImplementation((callback) => waiting.push(callback));
  return () => waiting.splice(0).forEach((callback) => callback(0));
}

test.each(cases as [string, string][])("%j is shown as in static pages", (text, html) => {
  expect(joined(terminalHtml(text))).toBe(joined(html));
});

// What is cut off in the middle of a control sequence may go on.
const whole = (cases as [string, string][]).filter(([text]) => !/\x1b[\]PX^_][^\x07\x1b]*$/.test(text));

test.each(whole)("%j shows the same in whatever pieces it comes", (text, html) => {
  const screen = new Screen();
  for (const character of text) screen.write(character);
  expect(plain(screen.html())).toBe(plain(html));
});

test.each(["\x1b", "\x1b[", "\x1b]", "\x1b[m", "\bx", "x\r", "\n\x1b[A", "a\x1b[K\r", "\x1b[9Cx", "\x1b[31mx\x1b[A"])(
  "text full of %j takes linear memory", (unit) => {
    const text = "x".repeat(20_000) + "\r" + "\n".repeat(5_000) + unit.repeat(20_000);
    expect(terminalHtml(text).length).toBeLessThan(60 * text.length);
  },
);

test("a very long text is cut with a note, as in static pages", () => {
  const html = textHtml(`head${"x".repeat(1_001_000)}tail`);
  expect(html).toContain('\n<span class="note">… 1,008 characters left out …</span>\n');
  expect(html.startsWith("head")).toBe(true);
  expect(html.endsWith("tail")).toBe(true);
});

test("the first words of a stream show at once, what follows with the next frame", () => {
  const draw = frames();
  const view = new StreamView();
  view.write("a");
  expect(view.element.textContent).toBe("a");
  view.write("b\r");
  view.write("c");
  expect(view.element.textContent).toBe("a");
  draw();
  expect(view.element.textContent).toBe("cb");
});

test("a flood is drawn once per frame, and all of it is there", () => {
  const draw = frames();
  let drawings = 0;
  const view = new StreamView(() => drawings++);
  for (let line = 0; line < 10_000; line++) view.write(`line ${line}\n`);
  draw();
  expect(drawings).toBe(2);
  expect(view.element.textContent.split("\n")).toHaveLength(10_001);
  expect(view.element.textContent).toContain("line 0\nline 1\n");
  expect(view.element.textContent.endsWith("line 9998\nline 9999\n")).toBe(true);
  expect(view.element.lastElementChild!.textContent.length, "what is drawn again each time").toBeLessThan(10_000);
});

test("lines that left the window keep their colours, and those in it can still be written over", () => {
  const draw = frames();
  const view = new StreamView();
  view.write(`\x1b[31mred\x1b[0m\n${"line\n".repeat(1000)}outer\ninner\x1b[A\rOUTER`);
  draw();
  expect(view.element.querySelector(".ansi-red-fg")!.textContent).toBe("red");
  expect(view.element.textContent.endsWith("line\nOUTER\ninner")).toBe(true);
});

test("beyond a million characters the beginning and the end stay, and a note says how much is gone", () => {
  const draw = frames();
  const view = new StreamView();
  const line = "x".repeat(99) + "\n";
  view.write("first\n");
  for (let count = 0; count < 30; count++) view.write(line.repeat(1_000));
  view.write("last");
  draw();
  const text = view.element.textContent;
  expect(text.startsWith("first\n")).toBe(true);
  expect(text.endsWith("last")).toBe(true);
  const note = view.element.querySelector(".note")!;
  const omitted = Number(/^… ([\d,]+) characters left out …$/.exec(note.textContent)![1]!.replaceAll(",", ""));
  expect(text.length - note.textContent.length - 2 + omitted).toBe(3_000_010);
  expect(text.length).toBeLessThan(1_200_000);
  expect(text.length).toBeGreaterThan(990_000);
});

test("a single line without end stays one line, and bounded", () => {
  const draw = frames();
  const view = new StreamView();
  for (let count = 0; count < 3_000; count++) view.write(".".repeat(1_000));
  draw();
  const shown = [...view.element.childNodes].filter((node) => !(node as Element).classList?.contains("note"));
  expect(shown.map((node) => node.textContent).join("").replaceAll("\n", "").length).toBeLessThan(1_200_000);
  const short = new StreamView();
  for (let count = 0; count < 100; count++) short.write(".".repeat(1_000));
  draw();
  expect(short.element.textContent).toBe(".".repeat(100_000));
});

test("a progress bar may run for hours", () => {
  const draw = frames();
  const view = new StreamView();
  for (let count = 0; count < 20_000; count++) view.write(`\r${count} ${"#".repeat(100)}`);
  draw();
  expect(view.element.textContent).toBe(`19999 ${"#".repeat(100)}`);
  expect(view.long).toBe(false);
});

test.each([["x\n".repeat(100), false], ["x\n".repeat(101), true], ["x".repeat(20_000), false], ["x".repeat(20_010), true]])(
  "only long streams scroll in a box", (text, long) => {
    frames();
    const view = new StreamView();
    view.write(text);
    expect(view.long).toBe(long);
  },
);

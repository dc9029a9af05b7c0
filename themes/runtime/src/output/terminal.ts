/**
 * Text written for a terminal as HTML: colours, overwritten lines and progress bars, no control sequences.
 *
 * The counterpart of builder/rendering/terminal.py, with the same classes and limits; tests/terminal-cases.json is for both.
 */
import { escape } from "./types";

/** An index into the 16 colours of a terminal, or red, green and blue as `1,2,3`. */
type Colour = number | string | undefined;

interface Style {
  readonly fg?: Colour;
  readonly bg?: Colour;
  readonly bold?: boolean;
  readonly underline?: boolean;
  readonly inverse?: boolean;
}

// Groups: parameters and final character of a control sequence (CSI). Everything else that starts with ESC is dropped.
const ESCAPE = /\x1b(?:\[([0-?]*)[ -/]*([@-~]?)|[\]PX^_](?:[^\x07\x1b\n]*(?:\x07|\x1b\\))?|[ -/]*[0-Z\\`-~]?)/;
const TOKEN = new RegExp(`${ESCAPE.source}|([\\r\\b\\n])`);
const MOVES = /[\r\b]|\x1b\[[0-9;]*[A-DGK]/;
/** A control sequence that goes on in the next message. */
const CUT = /\x1b(?:\[[0-?]{0,300}[ -/]{0,9}|[\]PX^_][^\x07\x1b\n]{0,2000}\x1b?|[ -/]{0,9})?$/;
const MAX_PARAMETERS = 200;

const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
const PLAIN: Style = {};

/** What a terminal would show, as the inner HTML of a `<pre>`. */
export function terminalHtml(text: string): string {
  text = text.replaceAll("\r\n", "\n");
  if (MOVES.test(text)) {
    const screen = new Screen();
    screen.write(text, true);
    return screen.html();
  }
  const parts = text.split(ESCAPE);
  let style = PLAIN;
  let html = escape(parts[0]!);
  for (let at = 1; at < parts.length; at += 3) {
    if (parts[at + 1] === "m") style = styled(style, parts[at]!);
    html += span(parts[at + 2]!, tag(style));
  }
  return html;
}

function span(text: string, opening: string): string {
  return text && opening ? `${opening}${escape(text)}</span>` : escape(text);
}

/** The tag that opens a stretch of text in a style, "" for plain text. */
function tag(style: Style): string {
  if (style === PLAIN) return "";
  let { fg, bg } = style;
  if (style.bold && typeof fg === "number" && fg < 8) fg += 8;
  if (style.inverse) [fg, bg] = [bg, fg];
  const classes: string[] = [];
  const css: string[] = [];
  for (const [colour, suffix, property] of [[fg, "fg", "color"], [bg, "bg", "background-color"]] as const) {
    if (typeof colour === "number") classes.push(`ansi-${COLOURS[colour % 8]}${colour < 8 ? "" : "-intense"}-${suffix}`);
    else if (colour) css.push(`${property}: rgb(${colour})`);
    else if (style.inverse) classes.push(`ansi-default-inverse-${suffix}`);
  }
  if (style.bold) classes.push("ansi-bold");
  if (style.underline) classes.push("ansi-underline");
  const attributes = (classes.length ? ` class="${classes.join(" ")}"` : "") + (css.length ? ` style="${css.join("; ")}"` : "");
  return attributes && `<span${attributes}>`;
}

/** The style after a "select graphic rendition" sequence. */
function styled(style: Style, parameters: string): Style {
  if (parameters.length > MAX_PARAMETERS || /[^\d;]/.test(parameters)) return style;
  const codes = parameters.split(";").map(Number);
  while (codes.length) {
    const code = codes.shift()!;
    if (code === 38 || code === 48) {
      const colour = extended(codes);
      if (colour === undefined) break;
      style = { ...style, [code === 38 ? "fg" : "bg"]: colour };
    } else {
      style = simple(style, code);
    }
  }
  return style;
}

function simple(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1 || code === 5) return { ...style, bold: true };
  if (code === 21 || code === 22) return { ...style, bold: false };
  if (code === 4 || code === 24) return { ...style, underline: code === 4 };
  if (code === 7 || code === 27) return { ...style, inverse: code === 7 };
  if (code === 39) return { ...style, fg: undefined };
  if (code === 49) return { ...style, bg: undefined };
  for (const [first, base] of [[30, 0], [90, 8]] as const) {
    if (code >= first && code < first + 8) return { ...style, fg: base + code - first };
    if (code >= first + 10 && code < first + 18) return { ...style, bg: base + code - first - 10 };
  }
  return style;
}

/** Takes a 256 or 24-bit colour off `codes`; undefined when there is none. */
function extended(codes: number[]): Colour {
  const kind = codes.shift();
  if (kind === 2 && codes.length >= 3) {
    const rgb = codes.splice(0, 3);
    return Math.max(...rgb) < 256 ? rgb.join() : undefined;
  }
  const index = kind === 5 ? codes.shift() : undefined;
  if (index === undefined || index > 255) return undefined;
  if (index < 16) return index;
  const cube = index - 16;
  const level = (step: number): number => step && 55 + 40 * step;
  if (index < 232) return [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(level).join();
  const grey = (index - 232) * 10 + 8;
  return [grey, grey, grey].join();
}

/** A line on the screen: stretches while text is only appended, single characters once it is overwritten. */
class Row {
  length = 0;
  private parts: [text: string, tag: string][] = [];
  private split: [chars: string[], tags: string[]] | undefined;

  clear(): void {
    this.parts = [];
    this.split = undefined;
    this.length = 0;
  }

  /** Puts text at a column that is never behind the end of the line; gives the column after it. */
  write(column: number, text: string, opening: string): number {
    const chars = /[\ud800-\udfff]/.test(text) ? [...text] : undefined;
    const size = chars?.length ?? text.length;
    if (column === 0 && size >= this.length) this.clear();
    if (column === this.length && !this.split) {
      const last = this.parts.at(-1);
      if (last?.[1] === opening) last[0] += text;
      else this.parts.push([text, opening]);
    } else {
      const [row, tags] = this.cells();
      (chars ?? [...text]).forEach((char, at) => {
        row[column + at] = char;
        tags[column + at] = opening;
      });
    }
    this.length = Math.max(this.length, column + size);
    return column + size;
  }

  cut(column: number): void {
    if (column === 0) return this.clear();
    if (column >= this.length) return;
    for (const cells of this.cells()) cells.length = column;
    this.length = column;
  }

  private cells(): [string[], string[]] {
    if (!this.split) {
      const [chars, tags] = (this.split = [[], []] as [string[], string[]]);
      for (const [text, opening] of this.parts) for (const char of text) tags[chars.push(char) - 1] = opening;
      this.parts = [];
    }
    return this.split;
  }

  html(): string {
    if (!this.split) return this.parts.map(([text, opening]) => span(text, opening)).join("");
    const [chars, tags] = this.split;
    let html = "";
    for (let start = 0, end = 1; end <= chars.length; end++) {
      if (end < chars.length && tags[end] === tags[start]) continue;
      html += span(chars.slice(start, end).join(""), tags[start]!);
      start = end;
    }
    return html;
  }
}

/**
 * The part of a terminal that progress bars use: a cursor on lines without end. Text may come in any pieces.
 *
 * The cursor never stands behind the end of its line: else a few bytes could ask for megabytes of blanks.
 */
export class Screen {
  private row = new Row();
  private rows = [this.row];
  private line = 0;
  private column = 0;
  private style = PLAIN;
  private opening = "";
  private cut = "";

  /** `last`: nothing comes after it, so no control sequence goes on. */
  write(text: string, last = false): void {
    text = this.cut + text;
    this.cut = (!last && CUT.exec(text)?.[0]) || "";
    const parts = text.slice(0, text.length - this.cut.length).split(TOKEN);
    this.put(parts[0]!);
    for (let at = 1; at < parts.length; at += 4) {
      const [parameters, final, control] = [parts[at], parts[at + 1], parts[at + 2]];
      if (control) this.control(control);
      else if (final === "m") this.opening = tag((this.style = styled(this.style, parameters!)));
      else if (final) this.move(final, parameters!);
      this.put(parts[at + 3]!);
    }
  }

  html(): string {
    return this.rows.map((row) => row.html()).join("\n");
  }

  /** How many characters it holds, with those that end lines. */
  get size(): number {
    return this.rows.reduce((sum, row) => sum + row.length + 1, -1);
  }

  /** How many lines it holds. */
  get height(): number {
    return this.rows.length;
  }

  /** Whether the cursor stands at the very end: then what was written can be taken off as it is. */
  get atEnd(): boolean {
    return this.line === this.rows.length - 1 && this.column === this.row.length;
  }

  /** Takes off the first lines, to which nothing can go back any more; gives their HTML and how many characters they have. */
  take(count: number): { html: string; size: number } {
    const taken = this.rows.splice(0, Math.min(count, this.line));
    this.line -= taken.length;
    return { html: taken.map((row) => row.html() + "\n").join(""), size: taken.reduce((sum, row) => sum + row.length + 1, 0) };
  }

  /** Takes off everything while the cursor is at the end; what comes next goes on in the same line. */
  takeAll(): { html: string; size: number } {
    const taken = { html: this.html(), size: this.size };
    this.row = new Row();
    this.rows = [this.row];
    this.line = this.column = 0;
    return taken;
  }

  private put(text: string): void {
    if (text) this.column = this.row.write(this.column, text, this.opening);
  }

  private control(control: string): void {
    if (control === "\b") {
      this.column = Math.max(this.column - 1, 0);
      return;
    }
    this.column = 0;
    if (control === "\r") return;
    if (this.line + 1 === this.rows.length) this.rows.push(new Row());
    this.go(this.line + 1);
  }

  private go(line: number): void {
    this.line = Math.min(Math.max(line, 0), this.rows.length - 1);
    this.row = this.rows[this.line]!;
    this.column = Math.min(this.column, this.row.length);
  }

  private move(final: string, parameters: string): void {
    const count = /^\d{1,8}$/.test(parameters) ? Number(parameters) : 0;
    const steps = Math.max(count, 1);
    if (final === "A") this.go(this.line - steps);
    else if (final === "B") this.go(this.line + steps);
    else if (final === "C") this.column = Math.min(this.column + steps, this.row.length);
    else if (final === "D") this.column = Math.max(this.column - steps, 0);
    else if (final === "G") this.column = Math.min(steps - 1, this.row.length);
    else if (final === "K" && count === 0) this.row.cut(this.column);
    else if (final === "K" && count === 2) {
      this.row.clear();
      this.column = 0;
    }
  }
}

/** A stream of text on the page: drawn once per frame however many messages come, and bounded however long it gets. */
import { Screen, terminalHtml } from "./terminal";
import { make, preformatted } from "./types";

/** Characters of one text that are shown; of a longer one the beginning and the end. */
const MAX_TEXT = 1_000_000;
const TAIL = 100_000;
/** A text with more than this scrolls in a box of its own. */
export const LONG_LINES = 100;
export const LONG_TEXT = 20_000;

/** Lines that the cursor can go back to, like those of a terminal's window, and characters that are drawn again with them. */
const WINDOW = 200;
const REDRAWN = 50_000;
/** How much of a message is worked off before what has become final leaves the screen. */
const PIECE = 50_000;

const leftOut = (count: number): string => `… ${count.toLocaleString("en")} characters left out …`;

/** A text that is all there, without its middle when it is very long. */
export function textHtml(text: string): string {
  if (text.length <= MAX_TEXT) return terminalHtml(text);
  const note = `<span class="note">${leftOut(text.length - MAX_TEXT)}</span>`;
  return `${terminalHtml(text.slice(0, MAX_TEXT - TAIL))}\n${note}\n${terminalHtml(text.slice(-TAIL))}`;
}

/** A `<pre>` that grows: what can still change is drawn anew, the lines above it stay as they are. */
export class StreamView {
  readonly element = preformatted();
  private readonly screen = new Screen();
  private readonly changing = make("span");
  private kept = 0;
  private lines = 0;
  /** The end of a text that is too long, in pieces, oldest first. */
  private readonly tail: { node: HTMLElement; size: number }[] = [];
  private tailSize = 0;
  private omitted = 0;
  private readonly note = make("span", "note");
  private scheduled = false;

  /** `changed` is called after each drawing. */
  constructor(private readonly changed: () => void = () => {}) {
    this.element.append(this.changing);
  }

  /** Whether it should scroll in a box. */
  get long(): boolean {
    return this.lines + this.screen.height > LONG_LINES + 1 || this.kept + this.screen.size > LONG_TEXT;
  }

  write(text: string): void {
    for (let at = 0; at < text.length; at += PIECE) {
      this.screen.write(text.slice(at, at + PIECE));
      this.settle();
    }
    if (this.scheduled) return;
    if (!this.changing.firstChild) return this.draw();
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  private draw(): void {
    const { element } = this;
    const scrolled = element.scrollHeight - element.scrollTop - element.clientHeight > 4;
    this.changing.innerHTML = this.screen.html();
    this.changed();
    if (!scrolled) element.scrollTop = element.scrollHeight;
  }

  /** Moves out of the screen what has scrolled out of its window, and what would be too much to draw again. */
  private settle(): void {
    const { screen } = this;
    const rows = screen.height;
    if (rows > 2 * WINDOW) this.keep(screen.take(rows - WINDOW), rows - WINDOW);
    if (screen.size <= REDRAWN) return;
    const before = screen.height;
    if (screen.atEnd) this.keep(screen.takeAll(), before - 1);
    else this.keep(screen.take(before), before - screen.height);
  }

  private keep({ html, size }: { html: string; size: number }, lines: number): void {
    this.lines += lines;
    this.kept += size;
    if (!this.tail.length && this.kept <= MAX_TEXT - TAIL) {
      this.changing.insertAdjacentHTML("beforebegin", html);
      return;
    }
    const node = make("span");
    node.innerHTML = html;
    this.changing.before(node);
    this.tail.push({ node, size });
    this.tailSize += size;
    while (this.tailSize - this.tail[0]!.size > TAIL) this.omit();
  }

  private omit(): void {
    const { node, size } = this.tail.shift()!;
    if (!this.omitted) node.before("\n", this.note, "\n");
    node.remove();
    this.tailSize -= size;
    this.omitted += size;
    this.note.textContent = leftOut(this.omitted);
  }
}

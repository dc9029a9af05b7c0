/** The outputs of one cell or Output widget: append, clear now or with the next one, update by display id. */
import { release } from "./charts";
import { bundleOf, Display, updateDisplays } from "./display";
import { StreamView, textHtml } from "./stream";
import { asText, escape, make, preformatted, type DrawContext, type OutputMessage } from "./types";

/** Outputs of one area; of more the first and the last half. */
const MAX_OUTPUTS = 1_000;
/** How long old outputs stay at most while the first new one is being drawn, and height is kept for what may come. */
const STALE_MS = 3_000;
const HELD_MS = 400;

/** One output on the page, with what is needed to add to it or to change it. */
interface Output {
  node: HTMLElement;
  stream?: { name: string; view: StreamView };
  display?: Display;
}

/** The outputs inside one element. Those it holds already are old ones, which `clear` takes away like all others. */
export class OutputArea {
  /** Called when the first output after construction or a clearing is there. */
  onFirst: (() => void) | undefined;
  private outputs: Output[] = [];
  private pending = false;
  /** Old outputs that stay until the first new one is drawn. */
  private stale: HTMLElement[] = [];
  private swap: ReturnType<typeof setTimeout> | undefined;
  private held: ReturnType<typeof setTimeout> | undefined;
  private omitted = 0;
  private readonly note = make("p", "note");

  constructor(
    readonly element: HTMLElement,
    private readonly context: DrawContext,
  ) {}

  /** Whether nothing has come since construction or the last clearing; old outputs may still be shown. */
  get isEmpty(): boolean {
    return this.outputs.length === 0 || this.pending;
  }

  receive({ type, content }: OutputMessage): void {
    if (type === "clear_output") this.clear(Boolean(content.wait));
    else if (type === "update_display_data") updateDisplays(content);
    else this.append(type, content);
  }

  /** Takes all outputs away, or with `wait` keeps them until the next one is there. */
  clear(wait = false): void {
    this.pending = wait;
    if (wait) return;
    this.hold();
    this.forget();
    this.removeStale();
    for (const node of this.nodes()) discard(node);
  }

  /** A run is over: what waited for a next output that did not come goes now. */
  finish(): void {
    if (this.pending) this.clear();
  }

  private append(type: string, content: any): void {
    if (this.pending) this.begin();
    const last = this.outputs.at(-1)?.stream;
    if (type === "stream" && last && last.name === content.name) {
      last.view.write(asText(content.text));
      return;
    }
    const node = make("div", "output");
    const output: Output = { node };
    this.outputs.push(output);
    if (this.stale.length) node.classList.add("drawing");
    this.element.append(node);
    const drawn = this.fill(output, type, content);
    const first = this.outputs.length === 1;
    if (first) this.onFirst?.();
    if (drawn) void drawn.then(() => this.settle(output));
    else this.settle(output);
    if (this.outputs.length > MAX_OUTPUTS) this.omit();
  }

  private fill(output: Output, type: string, content: any): Promise<void> | undefined {
    const { node } = output;
    const prompt = make("div", "prompt");
    node.append(prompt);
    if (type === "stream") {
      node.className += ` stream ${content.name === "stderr" ? "stderr" : "stdout"}`;
      const view = new StreamView(() => node.classList.toggle("scroll", view.long));
      output.stream = { name: content.name, view };
      node.append(view.element);
      view.write(asText(content.text));
      return undefined;
    }
    if (type === "error") {
      node.className += " error";
      node.append(...errorOf(content));
      return undefined;
    }
    node.className += type === "execute_result" ? " result" : " display";
    if (type === "execute_result" && content.execution_count != null) {
      prompt.textContent = `[${content.execution_count}]:`;
      prompt.setAttribute("aria-hidden", "true");
    }
    const id: unknown = content.transient?.display_id;
    output.display = new Display(node, this.context, typeof id === "string" ? id : undefined);
    return output.display.show(bundleOf(content));
  }

  /** The old outputs become stale: they go when the first new one is drawn. */
  private begin(): void {
    this.pending = false;
    this.hold();
    this.removeStale();
    this.stale = this.nodes();
    this.forget();
    clearTimeout(this.swap);
    if (this.stale.length) this.swap = setTimeout(() => this.removeStale(), STALE_MS);
  }

  private settle(output: Output): void {
    if (this.stale.length && output === this.outputs[0]) this.removeStale();
    if (!this.stale.length && this.held !== undefined) this.letGo();
  }

  private removeStale(): void {
    if (!this.stale.length) return;
    clearTimeout(this.swap);
    for (const node of this.stale) discard(node);
    this.stale = [];
    for (const { node } of this.outputs) node.classList.remove("drawing");
  }

  /** No output is added to or changed any more. */
  private forget(): void {
    for (const { display } of this.outputs) display?.remove();
    this.outputs = [];
    this.omitted = 0;
  }

  private nodes(): HTMLElement[] {
    return [...this.element.children].filter((node) => node.matches(".output, .note")) as HTMLElement[];
  }

  private omit(): void {
    const [output] = this.outputs.splice(MAX_OUTPUTS / 2, 1);
    output!.display?.remove();
    if (!this.omitted++) output!.node.before(this.note);
    this.note.textContent = `… ${this.omitted.toLocaleString("en")} outputs left out …`;
    discard(output!.node);
  }

  /** Keeps the height while outputs go and come, so that the page does not jump. */
  private hold(): void {
    this.element.style.minHeight = `${this.element.offsetHeight}px`;
    clearTimeout(this.held);
    this.held = setTimeout(() => this.letGo(), this.pending ? STALE_MS : HELD_MS);
  }

  private letGo(): void {
    clearTimeout(this.held);
    this.held = undefined;
    this.element.style.minHeight = "";
  }
}

/** What went wrong in a line, and how it came to that for those who want to know. */
function errorOf(content: any): HTMLElement[] {
  const [name, value] = [asText(content.ename), asText(content.evalue)];
  const brief = `<span class="ename">${escape(name)}</span>${value ? ": " : ""}${textHtml(value)}`;
  const traceback = Array.isArray(content.traceback) ? content.traceback.map(asText).join("\n") : "";
  if (!traceback) return [preformatted(brief)];
  const details = make("details", "fold");
  details.append(make("summary", "", "Traceback"), preformatted(textHtml(traceback)));
  return [preformatted(brief), details];
}

function discard(node: HTMLElement): void {
  release(node);
  node.remove();
}

/** A code cell of the page as its reader sees it: stored outputs, live outputs, what it is doing, its button. */
import { OutputArea } from "../output/area";
import type { DrawContext, OutputMessage } from "../output/types";
import { make } from "../output/types";
import { drawStored, originalOf } from "../stored";
import type { ExecuteReply } from "./kernel";
import type { Message } from "./protocol";

/** `stored`: never run here; `skipped`: it was to run, but something before it failed; `lost`: nobody knows how it ended. */
export type CellState = "stored" | "pending" | "running" | "done" | "error" | "skipped" | "lost";

const STATE_WORDS: Record<CellState, string> = {
  stored: "", pending: "Waiting to run", running: "Running", done: "Done", error: "Failed", skipped: "", lost: "",
};
const STATES: Record<ExecuteReply["status"], CellState> = { ok: "done", error: "error", aborted: "skipped", lost: "lost" };
const NOTES: Partial<Record<CellState, string>> = {
  skipped: "Not run.",
  lost: "It is not known how this run ended. Run the cell again.",
};
const ABOUT_OUTPUTS = new Set(["stream", "display_data", "execute_result", "error", "clear_output", "update_display_data"]);

export class Cell {
  /** 0-based index in the notebook: what the kernel's server knows the cell by. */
  readonly index: number;
  private readonly holder: HTMLElement;
  private readonly words = make("span", "unseen");
  private readonly note = make("p", "cell-note");
  private readonly button = make("button", "cell-run");
  private stored: ChildNode[] | null = null;
  private drawn: OutputArea | null = null;
  private form: HTMLFormElement | null = null;

  /** `element` is the section of a code cell; `context` is what its outputs may use. */
  constructor(readonly element: HTMLElement, private readonly context: DrawContext) {
    this.index = Number(element.dataset["cell"]);
    this.holder = element.querySelector<HTMLElement>(":scope > .outputs") ?? this.unseenOutputs();
    this.button.type = "button";
    this.button.title = "Run this cell";
    this.button.setAttribute("aria-label", this.button.title);
  }

  /** Whether readers can see the cell; dashboards run some that they cannot. */
  get isVisible(): boolean {
    return !this.element.hidden;
  }

  get state(): CellState {
    return (this.element.dataset["state"] ?? "stored") as CellState;
  }

  set state(state: CellState) {
    if (state === "stored") delete this.element.dataset["state"];
    else this.element.dataset["state"] = state;
    this.words.textContent = STATE_WORDS[state];
    this.note.textContent = NOTES[state] ?? "";
    this.note.hidden = !this.note.textContent;
  }

  /** Its outputs; the stored ones are in it until something new takes their place. */
  get area(): OutputArea {
    return (this.drawn ??= new OutputArea(this.holder, this.context));
  }

  /** Gives the cell its button. */
  connect(run: () => void): void {
    if (!this.isVisible) return;
    this.button.onclick = run;
    this.element.prepend(this.button, this.words);
    this.element.append(this.note);
    this.state = this.state;
  }

  /** The cell as it was stored, without button. */
  disconnect(): void {
    this.reset();
    this.button.remove();
    this.words.remove();
    this.note.remove();
  }

  /** Shows the stored outputs again. */
  reset(): void {
    this.dropForm();
    this.state = "stored";
    if (!this.stored) return;
    this.area.clear();
    this.drawn = null;
    this.holder.replaceChildren(...(originalOf(this.holder) ?? this.stored));
    this.stored = null;
    drawStored(this.holder);
  }

  /** What is on the page stays until there is something new. */
  begin(): void {
    this.state = "running";
    this.stored ??= [...this.holder.childNodes];
    this.area.clear(true);
  }

  /** One message that the kernel published because of this cell. */
  receive({ header, content }: Message): void {
    const type = header.msg_type;
    if (ABOUT_OUTPUTS.has(type)) this.area.receive({ type, content } as OutputMessage);
  }

  /** The run is over. Old outputs go now if nothing came in their place; but when the cell did not get that far, they stay. */
  finish({ status }: ExecuteReply): void {
    this.dropForm();
    if (status === "ok" || status === "error") this.area.finish();
    this.state = STATES[status];
  }

  /** Asks the reader for a line of text; resolves when it is given, never when the run ends before. */
  ask(prompt: string, password: boolean): Promise<string> {
    this.dropForm();
    const form = (this.form = make("form", "cell-input"));
    const label = make("label", "", prompt || "Input");
    const field = make("input");
    field.type = password ? "password" : "text";
    field.autocomplete = "off";
    label.append(field);
    const send = make("button", "", "Send");
    form.append(label, send);
    this.holder.after(form);
    if (this.isVisible) field.focus();
    return new Promise((resolve) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        this.dropForm();
        const shown = password ? "·".repeat(8) : field.value;
        this.area.receive({ type: "stream", content: { name: "stdout", text: `${prompt}${shown}\n` } });
        resolve(field.value);
      };
    });
  }

  /** Where outputs go that nobody is to see: they may still act on the page, as styles and scripts do. */
  private unseenOutputs(): HTMLElement {
    const holder = make("div", "outputs");
    holder.hidden = true;
    this.element.append(holder);
    return holder;
  }

  private dropForm(): void {
    this.form?.remove();
    this.form = null;
  }
}

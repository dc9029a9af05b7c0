/** A list of outputs as notebooks keep it, made from the messages that brought them. */
import type { Content } from "../live/protocol";

type Output = { output_type: string } & Record<string, any>;

const KINDS = new Set(["stream", "display_data", "execute_result", "error"]);
const MOST_OUTPUTS = 2000;
/** Of one stream; of more the end. */
const MOST_TEXT = 1_000_000;

export class Outputs {
  private readonly outputs: Output[];
  private clearing = false;

  /** `stored` comes from a kernel or a notebook: what is no output is left out. */
  constructor(stored: unknown) {
    const all: unknown[] = Array.isArray(stored) ? stored : [];
    this.outputs = all.filter((one): one is Output => KINDS.has((one as Output | null)?.output_type ?? "")).map((one) => ({ ...one }));
  }

  list(): Output[] {
    return this.outputs.map((output) => ({ ...output }));
  }

  /** Takes a message in; false when it is none that belongs into the list. */
  take(type: string, content: Content): boolean {
    if (type === "clear_output") {
      this.clearing = content.wait === true;
      if (!this.clearing) this.outputs.length = 0;
    } else if (KINDS.has(type)) this.append(type, content);
    else return false;
    return true;
  }

  private append(type: string, content: Content): void {
    if (this.clearing) this.outputs.length = 0;
    this.clearing = false;
    const last = this.outputs.at(-1);
    if (type === "stream" && last?.output_type === "stream" && last["name"] === content.name) {
      last["text"] = (textOf(last["text"]) + textOf(content.text)).slice(-MOST_TEXT);
      return;
    }
    const { transient: _, ...kept } = content;
    this.outputs.push({ ...kept, output_type: type });
    if (this.outputs.length > MOST_OUTPUTS) this.outputs.shift();
  }
}

/** A value that notebooks store in one string or in many. */
function textOf(value: unknown): string {
  return Array.isArray(value) ? value.join("") : String(value ?? "");
}

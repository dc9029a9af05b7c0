/** A MIME bundle on the page that can change: by its display id, from any cell. */
import { chartOf, release } from "./charts";
import { draw, ranked } from "./mime";
import { LONG_LINES, LONG_TEXT } from "./stream";
import type { DrawContext, MimeBundle } from "./types";

/** All outputs of the page that have a display id. */
const displays = new Map<string, Set<Display>>();

/**
 * A MIME bundle on the page. While one value is drawn only the newest of those that come meanwhile is kept: so a slider
 * that moves faster than its chart is drawn still shows the chart move, and the last value always wins.
 */
export class Display {
  private shown: HTMLElement | undefined;
  private next: MimeBundle | undefined;
  private busy = false;
  private gone = false;

  constructor(
    private readonly node: HTMLElement,
    private readonly context: DrawContext,
    private readonly id: string | undefined,
  ) {
    if (id === undefined) return;
    const same = displays.get(id);
    if (same) same.add(this);
    else displays.set(id, new Set([this]));
  }

  async show(bundle: MimeBundle): Promise<void> {
    this.next = bundle;
    if (this.busy) return;
    this.busy = true;
    while (this.next && !this.gone) {
      const value: MimeBundle = this.next;
      this.next = undefined;
      if (!(await this.updated(value))) await this.replace(value);
    }
    this.busy = false;
  }

  remove(): void {
    this.gone = true;
    const same = this.id === undefined ? undefined : displays.get(this.id);
    if (same?.delete(this) && !same.size) displays.delete(this.id!);
  }

  /** Whether a chart could take the new value itself. */
  private async updated(bundle: MimeBundle): Promise<boolean> {
    const [best] = ranked(bundle);
    const update = this.shown && this.shown.dataset["mime"] === best?.[0] ? chartOf(this.shown)?.update : undefined;
    if (!update) return false;
    try {
      await update(bundle.data[best![0]]);
      return true;
    } catch {
      return false;
    }
  }

  /** Draws beside what is there, out of sight, and swaps: so nothing flickers. */
  private async replace(bundle: MimeBundle): Promise<void> {
    const before = this.shown;
    const element = await draw(bundle, this.context, (attached) => {
      if (before) attached.classList.add("drawing");
      this.node.append(attached);
    });
    if (this.gone) return release(element);
    if (before) {
      release(before);
      before.remove();
      element.classList.remove("drawing");
    }
    this.shown = element;
    this.node.classList.toggle("scroll", isLong(element));
  }
}

/** Shows new data wherever an output with this display id is on the page. */
export function updateDisplays(content: any): void {
  const id: unknown = content.transient?.display_id;
  for (const display of typeof id === "string" ? (displays.get(id) ?? []) : []) void display.show(bundleOf(content));
}

/** What a message says of an output. */
export function bundleOf(content: any): MimeBundle {
  const { data, metadata } = content;
  return { data: data && typeof data === "object" ? data : {}, metadata: metadata && typeof metadata === "object" ? metadata : {} };
}

/** Whether an output should scroll in a box, by the builder's measure. */
function isLong(element: HTMLElement): boolean {
  if (element.dataset["mime"] === "text/html") return element.querySelectorAll("tr").length > LONG_LINES;
  const pre = element.querySelector(":scope > pre")?.textContent ?? "";
  return pre.length > LONG_TEXT || pre.split("\n", LONG_LINES + 2).length > LONG_LINES + 1;
}

/** JSON as a tree that opens and closes. The counterpart of builder/rendering/jsontree.py, with the same limits. */
import { make, type Renderer } from "./types";

const MAX_NODES = 2_000;
const MAX_DEPTH = 20;
const MAX_TEXT = 1_000;

const cut = (text: string): string => (text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}…`);

class Tree {
  leftOut = false;
  private nodes = 0;

  node(label: string | null, value: unknown, depth: number): HTMLElement {
    this.nodes++;
    const entries = value && typeof value === "object" ? Object.entries(value) : [];
    const kind = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
    const line = make(entries.length ? "summary" : "div");
    if (label !== null) line.append(make("b", "", cut(label)), ": ");
    const text = typeof value === "string" ? value.slice(0, MAX_TEXT) : value;
    line.append(make("code", "", entries.length ? kind : cut(JSON.stringify(text) ?? "null")));
    if (!entries.length) return line;
    const details = make("details");
    details.open = depth === 0;
    details.append(line, this.children(entries, depth));
    return details;
  }

  private children(entries: [string, unknown][], depth: number): HTMLElement {
    const list = make("ul");
    for (const [key, item] of entries) {
      if (this.nodes >= MAX_NODES || depth >= MAX_DEPTH) {
        this.leftOut = true;
        break;
      }
      const entry = make("li");
      entry.append(this.node(key, item, depth + 1));
      list.append(entry);
    }
    return list;
  }
}

/** application/json */
export const json: Renderer = (element, bundle, mime) => {
  const tree = new Tree();
  element.append(tree.node(null, bundle.data[mime], 0));
  if (tree.leftOut) element.append(make("p", "note", "… the rest was left out …"));
};

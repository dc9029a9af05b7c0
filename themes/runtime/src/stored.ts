/** What the page draws from data that it holds: widgets and charts, each when the reader comes near. */
import { OutputArea } from "./output/area";
import { drawStored as drawStoredCharts } from "./output/stored";
import type { DrawContext } from "./output/types";
import { drawStored as drawStoredWidgets, type WidgetHost, widgetHost } from "./widgets/index";

const DATA = ":is(.chart, .widget) > script[type$=json]";

let host: WidgetHost | undefined;
const context: DrawContext = { widgets: (id, element) => storedHost().view(id, element) };
const originals = new WeakMap<Element, DocumentFragment>();

function storedHost(): WidgetHost {
  return (host ??= widgetHost({ kernel: null, area: (element) => new OutputArea(element, context) }));
}

/** Draws what is below `root`; what cannot be drawn keeps the picture or the words that stand for it. */
export function drawStored(root: ParentNode = document): void {
  for (const data of root.querySelectorAll(DATA)) {
    const outputs = data.closest(".outputs");
    if (outputs && !originals.has(outputs)) originals.set(outputs, copyOf(outputs));
  }
  drawStoredCharts(root);
  drawStoredWidgets(storedHost(), root);
}

/** What `outputs` held before charts and widgets took the place of their data; null when nothing did. */
export function originalOf(outputs: Element): Node[] | null {
  const original = originals.get(outputs);
  return original ? [...original.cloneNode(true).childNodes] : null;
}

function copyOf(outputs: Element): DocumentFragment {
  const copy = document.createDocumentFragment();
  copy.append(...[...outputs.childNodes].map((node) => node.cloneNode(true)));
  return copy;
}

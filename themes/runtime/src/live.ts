/** Entry of the modules that only pages with live cells, or with stored widgets and charts, load. */
import { Api } from "./live/api";
import { place } from "./live/bar";
import { Cell } from "./live/cell";
import type { Kernel } from "./live/kernel";
import { LivePage } from "./live/page";
import { OutputArea } from "./output/area";
import type { DrawContext } from "./output/types";
import { drawStored } from "./stored";
import { type WidgetHost, widgetHost } from "./widgets/index";

export { drawStored };

/** Makes the cells of this page live: the bar appears, and with `auto` a kernel starts at once. `root` is the site's address. */
export function enliven(root: URL, auto: boolean): void {
  let host: WidgetHost | undefined;
  const context: DrawContext = {
    widgets: (id, element) => host?.view(id, element) ?? Promise.reject(new Error("there is no kernel")),
  };
  const cells = sections().map((section) => new Cell(section, context));
  const cellOf = (element: Element): OutputArea | null => cells.find((cell) => cell.element.contains(element))?.area ?? null;
  const newHost = (kernel: Kernel): WidgetHost => widgetHost({ kernel, area: (element) => new OutputArea(element, context), cellOf });
  const attach = (kernel: Kernel): void => {
    host = newHost(kernel);
    kernel.onComm((message) => host?.comm(message));
    kernel.addEventListener("reset", () => {
      host?.disconnect();
      host = newHost(kernel);
    });
  };
  const address = { path: location.pathname, query: location.search, version: document.body.dataset["version"] ?? "" };
  const page = new LivePage(new Api(root), address, cells, attach);
  place(page.bar.element, document.querySelector("main")!);
  addEventListener("online", () => page.retry());
  addEventListener("pageshow", () => page.retry());
  addEventListener("pagehide", ({ persisted }) => {
    if (!persisted) page.leave(); // what the browser keeps for the way back finds its kernel again, for a while
  });
  if (auto) void page.start();
}

/** The sections of the code cells, in the order they run in; a theme may leave out those that show nothing. */
function sections(): HTMLElement[] {
  const body = document.querySelector<HTMLElement>(".nb[data-cells]")!;
  return body.dataset["cells"]!.split(" ").map((index) => {
    const found = body.querySelector<HTMLElement>(`:scope > .cell.code[data-cell="${index}"]`);
    const section = found ?? document.createElement("section");
    section.hidden ||= !found;
    section.dataset["cell"] = index;
    return section;
  });
}

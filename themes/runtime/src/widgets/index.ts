/** The widgets of a page. What draws them is large and loads with the first widget. */
import type { Message } from "../live/protocol";
import type { WidgetManager } from "./manager";
import { UnknownWidgetError, WidgetError, noteElement, sentenceOf } from "./notes";
import type { HostOptions } from "./types";

export type { HostOptions, KernelLike, OutputAreaLike } from "./types";

const TARGET = "jupyter.widget";
const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
const DRAWN = ".widget-place, .widget-note";
/** How far outside of the window a stored widget is drawn already. */
const NEAR = "600px";

/** The widgets of one kernel, or of the state that a page holds. */
export interface WidgetHost {
  /** Draws a widget into `element`, or a note that says why it cannot be drawn; rejects when there is no such widget. */
  view(modelId: string, element: HTMLElement): Promise<void>;
  /** Handles a comm_open, comm_msg or comm_close of the kernel; to be called with one after the other. Never rejects. */
  comm(message: Message): Promise<void>;
  /** The kernel has lost its memory: the widgets stay as they are and say that they are not connected. */
  disconnect(): void;
  /** Takes over widget state as notebooks keep it; rejects when it is none. */
  loadStored(state: unknown): Promise<void>;
  /** As `view`, but rejects, with a sentence for the reader, whenever the widget cannot be drawn. */
  draw(modelId: string, element: HTMLElement): Promise<void>;
}

/** The widgets of `options.kernel`: from now on its comm messages belong into `comm`. */
export function widgetHost(options: HostOptions): WidgetHost {
  let loading: Promise<WidgetManager> | undefined;
  let connected = true;
  const manager = (): Promise<WidgetManager> => (loading ??= open(options).catch((error: unknown) => {
    loading = undefined; // the next widget tries again
    console.error(error);
    throw new WidgetError("The part of this site that draws widgets could not be loaded.");
  }));
  const draw = async (modelId: string, element: HTMLElement): Promise<void> => (await manager()).show(modelId, element);
  return {
    draw,
    view: (modelId, element) => draw(modelId, element).catch((error: unknown) => {
      if (error instanceof UnknownWidgetError) throw error;
      element.replaceChildren(noteElement(sentenceOf(error)));
    }),
    loadStored: async (state) => (await manager()).loadStored(state),
    async comm(message) {
      const { comm_id: id, target_name: target } = message.content;
      if (!connected || (message.header.msg_type !== "comm_open" && !loading)) return;
      if (message.header.msg_type === "comm_open" && target !== TARGET) {
        options.kernel?.sendComm("comm_close", { comm_id: id, data: {} }); // as the protocol asks for targets nobody knows
        return;
      }
      await manager().then((it) => it.comm(message)).catch((error: unknown) => console.error(error));
    },
    disconnect() {
      connected = false;
      void loading?.then((it) => it.disconnect());
    },
  };
}

async function open(options: HostOptions): Promise<WidgetManager> {
  const { WidgetManager, styled } = await import("./manager");
  await styled();
  return new WidgetManager(options);
}

/** Draws the widgets whose state the page holds when the reader comes near; one that cannot be drawn keeps what stands for it. */
export function drawStored(host: WidgetHost, root: ParentNode = document): void {
  const scripts = root.querySelectorAll<HTMLElement>(`.widget > ${VIEW}`);
  let loaded: Promise<void> | undefined;
  const load = (): Promise<void> => (loaded ??= loadAll(host, root));
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        void load().then(() => drawOne(host, target as HTMLElement));
      }
    },
    { rootMargin: NEAR },
  );
  for (const { parentElement: place } of scripts) if (!place!.querySelector(DRAWN)) observer.observe(place!);
}

async function loadAll(host: WidgetHost, root: ParentNode): Promise<void> {
  for (const script of root.querySelectorAll(STATE)) {
    try {
      await host.loadStored(JSON.parse(script.textContent ?? ""));
    } catch (error) {
      console.error(error);
    }
  }
}

async function drawOne(host: WidgetHost, place: HTMLElement): Promise<void> {
  const script = place.querySelector(VIEW);
  if (!script) return; // replaced by a live output meanwhile
  const element = document.createElement("div");
  try {
    const { model_id: modelId } = JSON.parse(script.textContent ?? "") as { model_id: string };
    script.before(element);
    await host.draw(modelId, element);
    for (const other of [...place.children]) if (other !== element && other !== script) other.remove();
  } catch (error) {
    element.replaceWith(noteElement(sentenceOf(error)));
  }
}

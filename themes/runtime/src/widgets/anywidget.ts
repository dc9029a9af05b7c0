/** anywidget: what draws the widget is an ES module in the model's own state (`_esm`), as are its styles (`_css`). */
import { DOMWidgetModel, DOMWidgetView } from "@jupyter-widgets/base";
import type { Content } from "../live/protocol";
import { WidgetError, noteElement, sentenceOf } from "./notes";

/** Messages to a model wait at most this long for its `initialize`, so that it hears them. */
const INITIALIZE_MS = 2000;
const INVOKE_MS = 3000;

type Cleanup = (() => unknown) | void;

/** What the author's module exports. */
interface Definition {
  initialize?(given: object): unknown;
  render?(given: object): Cleanup | Promise<Cleanup>;
}

async function evaluate(source: unknown): Promise<Definition> {
  if (typeof source !== "string") throw new WidgetError("This widget comes without the code that draws it.");
  const remote = /^https?:\/\//.test(source);
  const url = remote ? source : URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  try {
    const module = await import(url);
    if (typeof module.render === "function") return { render: module.render };
    const { default: found } = module;
    return (typeof found === "function" ? await found() : found) ?? {};
  } finally {
    if (!remote) URL.revokeObjectURL(url);
  }
}

/** What the author's code sees of a model; its listeners go with `owner`. */
function proxyOf(model: DOMWidgetModel, owner: DOMWidgetModel | DOMWidgetView): object {
  const callbacks = (): Content => (owner instanceof DOMWidgetView ? owner.callbacks() : model.callbacks());
  return {
    get: (name: string) => model.get(name),
    set: (name: unknown, value: unknown) => model.set(name, value),
    save_changes: () => model.save_changes(callbacks()),
    send: (content: Content, given?: Content, buffers?: ArrayBuffer[]) => model.send(content, given ?? callbacks(), buffers),
    on: (name: string, callback: Content) => void model.on(name, callback, owner),
    off: (name?: string | null, callback?: Content) => void model.off(name ?? null, callback ?? null, owner),
    widget_manager: model.widget_manager,
  };
}

/** Calls a command of the Python class, marked there by @anywidget.experimental.command; resolves with answer and buffers. */
function invoke(model: DOMWidgetModel, name: string, message: unknown, options: { signal?: AbortSignal; buffers?: ArrayBuffer[] } = {}): Promise<unknown> {
  const id = Math.random().toString(36).slice(2);
  const signal = options.signal ?? AbortSignal.timeout(INVOKE_MS);
  return new Promise((resolve, reject) => {
    const stop = (): void => void model.off("msg:custom", heard);
    const heard = (answer: Content, buffers: unknown): void => {
      if (answer?.id !== id) return;
      stop();
      resolve([answer.response, buffers]);
    };
    const give = (): void => {
      stop();
      reject(signal.reason);
    };
    if (signal.aborted) return give();
    signal.addEventListener("abort", give, { once: true });
    model.on("msg:custom", heard);
    model.send({ id, kind: "anywidget-command", name, msg: message } as Content, {}, options.buffers ?? []);
  });
}

function experimentalOf(model: DOMWidgetModel): object {
  return { invoke: (name: string, message: unknown, options?: object) => invoke(model, name, message, options) };
}

/** Ends what `initialize` or `render` began, when `signal` says so. */
function endWith(signal: AbortSignal, cleanup: unknown): void {
  if (typeof cleanup !== "function") return;
  const end = (): void => void Promise.resolve().then(() => cleanup()).catch((error: unknown) => console.warn(error));
  if (signal.aborted) end();
  else signal.addEventListener("abort", end, { once: true });
}

export class AnyModel extends DOMWidgetModel {
  // Set in initialize(), which runs inside of super(): a field would be made anew after it.
  declare definition: Promise<Definition>;
  declare private heard: Promise<unknown>;

  override initialize(attributes: Content, options: Content): void {
    super.initialize(attributes, options);
    const ended = new AbortController();
    this.once("destroy", () => ended.abort());
    this.definition = this.start(ended.signal);
    const late = new Promise((resolve) => setTimeout(resolve, INITIALIZE_MS));
    this.heard = Promise.race([this.definition.catch(() => {}), late]); // the view tells what went wrong
  }

  override async _handle_comm_msg(message: Content): Promise<void> {
    await this.heard;
    return super._handle_comm_msg(message);
  }

  /** Upstream copies by way of JSON, which would make {} of binary data. */
  override serialize(state: Record<string, any>): Content {
    const serializers = (this.constructor as typeof DOMWidgetModel).serializers;
    for (const [name, value] of Object.entries(state)) {
      const plain = name === "layout" || name === "style" ? JSON.parse(JSON.stringify(value)) : structuredClone(value);
      state[name] = serializers[name]?.serialize ? serializers[name].serialize(value, this) : plain;
    }
    return state;
  }

  private async start(signal: AbortSignal): Promise<Definition> {
    const definition = await evaluate(this.get("_esm"));
    endWith(signal, await definition.initialize?.({ model: proxyOf(this, this), signal, experimental: experimentalOf(this) }));
    return definition;
  }
}

export class AnyView extends DOMWidgetView {
  declare private ended: AbortController;

  /** Does not wait for the author's code: that may itself wait for messages, which come after those that wait for this. */
  override render(): void {
    this.ended = new AbortController();
    this.style();
    this.listenTo(this.model, "change:_css", () => this.style());
    void this.draw().catch((error: unknown) => {
      const text = sentenceOf(error);
      // Without a kernel nothing answers; what has been drawn from stored state is worth more than words about that.
      if (this.model.comm_live || !this.el.hasChildNodes()) this.el.append(noteElement(text));
    });
  }

  override remove(): this {
    this.ended?.abort();
    this.model.off(null as Content, null as Content, this);
    return super.remove();
  }

  private async draw(): Promise<void> {
    const model = this.model as AnyModel;
    const { signal } = this.ended;
    const definition = await model.definition;
    const given = { model: proxyOf(model, this), el: this.el, signal, experimental: experimentalOf(model) };
    if (!signal.aborted) endWith(signal, await definition.render?.(given));
  }

  /** One style sheet for all widgets of a class. */
  private style(): void {
    const css: unknown = this.model.get("_css");
    if (typeof css !== "string" || !css) return;
    const id = `anywidget-${this.model.get("_anywidget_id") ?? this.model.model_id}`;
    const remote = /^https?:\/\//.test(css);
    const before = document.getElementById(id);
    const style = remote ? Object.assign(document.createElement("link"), { rel: "stylesheet", href: css }) : document.createElement("style");
    if (!remote) style.textContent = css;
    style.id = id;
    if (before) before.replaceWith(style);
    else document.head.append(style);
  }
}

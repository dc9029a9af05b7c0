/** The models and views of one kernel, or of stored state, drawn into the page. */
import { DOMWidgetModel, DOMWidgetView, type ICallbacks, type IClassicComm, type WidgetModel, type WidgetView } from "@jupyter-widgets/base";
import { ManagerBase } from "@jupyter-widgets/base-manager";
import type { Content, Message } from "../live/protocol";
import { WidgetComm } from "./comm";
import { typeset } from "./formulas";
import { loadModule } from "./modules";
import { UnknownWidgetError, WidgetError, noteElement, say, sentenceOf } from "./notes";
import { Places } from "./places";
import { currentState } from "./stored";
import type { HostOptions } from "./types";

/** Longer than this no message of a kernel waits for a widget that takes its time. */
const PATIENCE_MS = 10_000;

interface ModelOptions {
  model_id: string;
  model_name: string;
  model_module: string;
  model_module_version: string;
  comm?: IClassicComm;
}

export class WidgetManager extends ManagerBase {
  /** Where the views of @jupyter-widgets/controls look for what sets formulas. */
  readonly _rendermime = { latexTypesetter: { typeset } };

  private readonly comms = new Map<string, WidgetComm>();
  private readonly places = new Places();
  /** Why models that stand for others could not be made. */
  private readonly failures = new WeakMap<WidgetModel, unknown>();
  private readonly refused = new Set<string>();
  private shown = 0;

  constructor(readonly options: HostOptions) {
    super();
  }

  /** Draws a widget into `element`; rejects when there is no such widget. */
  async show(modelId: string, element: HTMLElement): Promise<void> {
    const model = await this.get_model(modelId).catch(() => {
      throw new UnknownWidgetError("This widget is no longer there. Run its cell again.");
    });
    const view = await this.create_view(model as DOMWidgetModel);
    if (!view.luminoWidget) throw new WidgetError("This widget is none that can be looked at.");
    element.classList.add("widget-place");
    element.dataset["connected"] = this.options.kernel ? "yes" : "stored";
    this.places.add(element, view.luminoWidget);
  }

  /** Handles one comm message of the kernel. */
  async comm(message: Message): Promise<void> {
    const id = String(message.content.comm_id);
    if (message.header.msg_type === "comm_open") await within(this.opened(id, message));
    else await within(this.comms.get(id)?.receive(message));
    if (message.header.msg_type === "comm_close") this.comms.delete(id);
  }

  /** Takes over widget state as notebooks keep it. */
  async loadStored(state: unknown): Promise<void> {
    await this.set_state(currentState(state));
  }

  override disconnect(): void {
    for (const comm of this.comms.values()) comm.cut();
    this.places.elements().forEach((element) => (element.dataset["connected"] = "no"));
    super.disconnect();
  }

  /** A view, or a note in its place; later changes of the model never depend on whether it could be drawn. */
  override create_view(model: WidgetModel, options: Content = {}): Promise<any> {
    const made = model.state_change.then(() => this.makeView(model, options));
    model.state_change = made;
    if (model.views) {
      const id = `view-${++this.shown}`;
      model.views[id] = made;
      void made.then((view) => view.once("remove", () => delete model.views?.[id]));
    }
    return made;
  }

  /** What a callback prints outside of an Output widget goes to the cell of the view that caused it. */
  override callbacks(view?: WidgetView): ICallbacks {
    const cell = view && this.options.cellOf?.(view.el);
    if (!cell) return {};
    const receive = (message: Content): void => cell.receive({ type: message.header.msg_type, content: message.content });
    return { iopub: { output: receive, clear_output: receive } };
  }

  /** As in ManagerBase, but a model that cannot be made is replaced by an empty one, and its views say why. */
  override async _make_model(options: ModelOptions, state: Content = {}): Promise<WidgetModel> {
    const made = { widget_manager: this, model_id: options.model_id, comm: options.comm };
    let model: WidgetModel;
    try {
      const Model = await this.loadClass(options.model_name, options.model_module, options.model_module_version) as typeof WidgetModel;
      model = new Model(await Model._deserialize_state(state, this), made);
    } catch (error) {
      model = new DOMWidgetModel({}, made);
      this.failures.set(model, error);
    }
    model.name = options.model_name;
    model.module = options.model_module;
    return model;
  }

  protected override async loadClass(name: string, module: string, version: string): Promise<any> {
    const found = (await loadModule(module, version))[name];
    if (typeof found !== "function") throw new WidgetError(`This widget needs ${name} of ${module} ${version}, which this site does not have.`);
    return found;
  }

  protected override async _create_comm(target: string, id?: string, data?: Content, metadata?: Content, buffers?: ArrayBuffer[]): Promise<WidgetComm> {
    const { kernel } = this.options;
    if (!kernel || !id) throw new WidgetError("There is no kernel.");
    const comm = new WidgetComm(kernel, target, id, (reason) => this.tell(id, reason));
    this.comms.set(id, comm);
    if (data || metadata) comm.open(data, {}, metadata, buffers);
    return comm;
  }

  protected override async _get_comm_info(): Promise<{}> {
    return {};
  }

  private async opened(id: string, message: Message): Promise<void> {
    const comm = await this._create_comm(this.comm_target_name, id);
    await this.handle_comm_open(comm, message as Content);
  }

  private async makeView(model: WidgetModel, options: Content): Promise<WidgetView> {
    let view: WidgetView | undefined;
    try {
      if (this.failures.has(model)) throw this.failures.get(model);
      const { _view_name: name, _view_module: module, _view_module_version: version } = model.attributes;
      const View = await this.loadClass(name, module, version);
      view = new View({ model, options: this.setViewOptions(options) }) as WidgetView;
      view.listenTo(model, "destroy", view.remove);
      await view.render();
      nameHandles(view);
      return view;
    } catch (error) {
      view?.remove();
      const note = new NoteView({ model, options: { ...options, text: sentenceOf(error) } });
      note.listenTo(model, "destroy", note.remove);
      note.render();
      return note;
    }
  }

  /** Below each view of a model: why something was not sent. */
  private tell(id: string, reason: string | undefined): void {
    if (reason === undefined && !this.refused.delete(id)) return;
    if (reason !== undefined) this.refused.add(id);
    void this.get_model(id).then(async (model) => {
      for (const view of Object.values(model.views ?? {})) say((await view).el, reason);
    });
  }
}

/** The handle of a slider is what the keyboard moves, and upstream gives it no name. */
function nameHandles(view: WidgetView): void {
  const handles = view.el.querySelectorAll<HTMLElement>(".noUi-handle");
  if (!handles.length) return;
  const name = (): void => {
    const text = String(view.model.get("description") || view.model.get("tooltip") || "Value");
    handles.forEach((handle, place) => handle.setAttribute("aria-label", handles.length === 1 ? text : `${text}: ${place ? "to" : "from"}`));
  };
  view.listenTo(view.model, "change:description", name);
  name();
}

class NoteView extends DOMWidgetView {
  override render(): void {
    this.el.append(noteElement(this.options.text));
  }
}

/** Settles with `work`, or without it when that takes too long: a widget that hangs must not stop the page. */
async function within(work: Promise<unknown> | undefined): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

let style: Promise<void> | undefined;

/** Resolves when the style sheet of the widgets is there, or is known not to come. */
export function styled(): Promise<void> {
  return (style ??= new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL(__WIDGETS_CSS__, import.meta.url).href;
    link.onload = link.onerror = () => resolve();
    document.head.prepend(link); // before the styles of site and author, which may say otherwise
  }));
}

/** The Output widget: takes the outputs of one parent message, and draws them like those of a cell. */
import { OutputModel as UpstreamModel, OutputView as UpstreamView } from "@jupyter-widgets/output";
import type { Content, Message } from "../live/protocol";
import type { WidgetManager } from "./manager";
import { Outputs } from "./outputs";
import type { OutputAreaLike } from "./types";

/** More than this is not sent back to the kernel, which does not need to know: pictures at each move of a slider. */
const MOST_SENT_BACK = 2 ** 18;
const SEND_BACK_MS = 250;

export class OutputModel extends UpstreamModel {
  // Set in initialize(), which runs inside of super(): fields would be made anew after it.
  declare private unhook: () => void;
  declare private kept: Outputs;
  declare private timer: ReturnType<typeof setTimeout> | undefined;

  override initialize(attributes: Content, options: Content): void {
    super.initialize(attributes, options);
    this.unhook = () => {};
    // Outputs arrive before there is a view, and also when there are several: so the model keeps them.
    this.kept = new Outputs(this.get("outputs"));
    this.listenTo(this, "change:msg_id", this.follow);
    this.listenTo(this, "change:outputs", (_model: unknown, outputs: unknown, { taken }: Content) => {
      if (!taken) this.kept = new Outputs(outputs);
    });
    this.once("destroy", () => this.unhook());
    this.follow();
  }

  /** What it has captured; the attribute `outputs` comes after it. */
  get current(): ReturnType<Outputs["list"]> {
    return this.kept.list();
  }

  override _handle_comm_msg(message: Content): Promise<void> {
    const { state } = message.content.data;
    // The widget names the request that runs now. It is the one this message belongs to, also when the server plays back what
    // a cell said that was run ahead: then the name is of a request that this page never made.
    if (state?.msg_id && message.parent_header?.msg_id) state.msg_id = message.parent_header.msg_id;
    return super._handle_comm_msg(message);
  }

  private follow(): void {
    this.unhook();
    this.unhook = () => {};
    const id: unknown = this.get("msg_id");
    const { kernel } = (this.widget_manager as unknown as WidgetManager).options;
    if (kernel && typeof id === "string" && id) this.unhook = kernel.hook(id, (message) => this.take(message));
  }

  private take(message: Message): boolean {
    if (!this.kept.take(message.header.msg_type, message.content)) return false;
    this.trigger("taken", { type: message.header.msg_type, content: message.content });
    this.timer ??= setTimeout(() => this.sendBack(), SEND_BACK_MS);
    return true;
  }

  /** Python's `outputs` would else be overwritten with nothing when it appends to them itself. */
  private sendBack(): void {
    this.timer = undefined;
    const outputs = this.current;
    this.set("outputs", outputs, { taken: true });
    if (JSON.stringify(outputs).length <= MOST_SENT_BACK) this.save_changes();
  }
}

export class OutputView extends UpstreamView {
  declare private area: OutputAreaLike;

  override render(): void {
    super.render();
    this.el.classList.add("jupyter-widgets", "widget-output");
    this.area = (this.model.widget_manager as unknown as WidgetManager).options.area(this.el);
    this.redraw();
    this.listenTo(this.model, "taken", (message: Content) => this.area.receive(message));
    this.listenTo(this.model, "change:outputs", (_model: unknown, _outputs: unknown, { taken }: Content) => {
      if (!taken) this.redraw();
    });
  }

  private redraw(): void {
    const outputs = (this.model as OutputModel).current;
    this.area.clear(outputs.length > 0); // what there is stays until its successor is drawn
    for (const { output_type: type, ...content } of outputs) this.area.receive({ type, content });
  }
}

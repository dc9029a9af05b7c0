/** Where views are on the page: they are attached when their element gets into it, and end when it leaves it. */
import { MessageLoop } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";

interface Place {
  widget: Widget;
  width: number;
}

export class Places {
  private readonly places = new Map<HTMLElement, Place>();
  private readonly moves = new MutationObserver(() => this.look());
  private readonly sizes = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => this.resized(target as HTMLElement, contentRect.width)));

  /** Puts `widget` into `element`, at once or as soon as that is on the page, instead of what it holds. */
  add(element: HTMLElement, widget: Widget): void {
    this.end(element);
    if (!this.places.size) this.moves.observe(document, { childList: true, subtree: true });
    this.places.set(element, { widget, width: 0 });
    widget.disposed.connect(() => this.places.get(element)?.widget === widget && this.forget(element));
    this.look();
  }

  elements(): HTMLElement[] {
    return [...this.places.keys()];
  }

  private look(): void {
    for (const [element, { widget }] of [...this.places]) {
      if (element.isConnected && !widget.isAttached) this.enter(element, widget);
      else if (!element.isConnected && widget.isAttached) this.end(element);
    }
  }

  private enter(element: HTMLElement, widget: Widget): void {
    element.replaceChildren();
    Widget.attach(widget, element);
    this.sizes.observe(element);
  }

  /** An output that was replaced must not leave its views behind: they would go on listening to their models. */
  private end(element: HTMLElement): void {
    const place = this.places.get(element);
    if (!place) return;
    this.forget(element);
    const { widget } = place;
    if (widget.isAttached && !widget.node.isConnected) {
      // Widget.detach refuses what the page has removed already.
      MessageLoop.sendMessage(widget, Widget.Msg.BeforeDetach);
      MessageLoop.sendMessage(widget, Widget.Msg.AfterDetach);
    }
    widget.dispose();
  }

  private forget(element: HTMLElement): void {
    this.places.delete(element);
    this.sizes.unobserve(element);
    if (!this.places.size) this.moves.disconnect();
  }

  /** Only the width: a view sets its own height, and would be asked again and again. */
  private resized(element: HTMLElement, width: number): void {
    const place = this.places.get(element);
    if (!place || place.width === width) return;
    place.width = width;
    MessageLoop.postMessage(place.widget, Widget.ResizeMessage.UnknownSize);
  }
}
